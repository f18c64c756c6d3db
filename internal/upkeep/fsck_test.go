package upkeep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/oci"
)

func fsck(t *testing.T, h *house, o FsckOptions) Checked {
	t.Helper()
	c, err := Fsck(bg, h.Cat, h.Store, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestFsck damages a registry in every way that a check knows: it is found, mended as far
// as it can be, and the rest is whole again after the image has been pushed again.
func TestFsck(t *testing.T) {
	layer := sum("one layer")
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, h *house, image, index oci.Digest)
		kind   string
		found  int
		left   int // after the repair
		images bool
	}{
		{"nothing", func(*testing.T, *house, oci.Digest, oci.Digest) {}, "", 0, 0, false},
		{"a changed blob", func(t *testing.T, h *house, _, _ oci.Digest) { spoil(t, h.file(layer)) }, KindBlob, 1, 1, true},
		{"a missing blob", func(t *testing.T, h *house, _, _ oci.Digest) { remove(t, h.file(layer)) }, KindBlob, 1, 1, true},
		{"a blob cut short", func(t *testing.T, h *house, _, _ oci.Digest) {
			if err := os.Truncate(h.file(layer), 3); err != nil {
				t.Fatal(err)
			}
		}, KindBlob, 1, 1, true},
		{"a whole blob that is marked", func(t *testing.T, h *house, _, _ oci.Digest) {
			if err := h.Cat.MarkDamaged(bg, layer, time.Now()); err != nil {
				t.Fatal(err)
			}
		}, KindBlob, 1, 0, true},
		{"a whole blob that was set aside", func(t *testing.T, h *house, _, _ oci.Digest) {
			if err := errors.Join(h.Cat.MarkDamaged(bg, layer, time.Now()), h.Store.SetAside(bg, layer)); err != nil {
				t.Fatal(err)
			}
		}, KindBlob, 1, 0, true},
		{"a missing manifest", func(t *testing.T, h *house, image, _ oci.Digest) { remove(t, h.file(image)) }, KindManifest, 1, 0, false},
		{"a changed manifest", func(t *testing.T, h *house, image, _ oci.Digest) { spoil(t, h.file(image)) }, KindManifest, 1, 0, false},
		{"a manifest changed in the catalog", func(t *testing.T, h *house, image, _ oci.Digest) {
			h.sql(t, `update manifests set raw = x'7b7d' where digest = '`+image.String()+`'`)
		}, KindManifest, 1, 0, true},
		{"a manifest changed in both", func(t *testing.T, h *house, image, _ oci.Digest) {
			h.sql(t, `update manifests set raw = x'7b7d' where digest = '`+image.String()+`'`)
			spoil(t, h.file(image))
		}, KindManifest, 1, 1, true},
		{"needs that are not written down", func(t *testing.T, h *house, _, _ oci.Digest) { h.sql(t, `delete from needs`) }, KindReference, 2, 0, false},
		{"a blob that is not listed", func(t *testing.T, h *house, _, _ oci.Digest) {
			h.sql(t, `delete from needs; delete from links; delete from blobs where digest = '`+layer.String()+`'`)
		}, "", 4, 0, false},
		{"children that are not written down", func(t *testing.T, h *house, _, _ oci.Digest) { h.sql(t, `delete from children`) }, KindReference, 1, 0, false},
		{"no verdict", func(t *testing.T, h *house, image, _ oci.Digest) {
			h.sql(t, `delete from verdicts where manifest_id = (select id from manifests where digest = '`+image.String()+`')`)
		}, KindReference, 1, 0, false},
		{"usage", func(t *testing.T, h *house, _, _ oci.Digest) {
			h.sql(t, `insert into usage (repository_id, bytes, tags) values (1, 1, 1) on conflict do update set bytes = bytes + 5`)
		}, KindUsage, 1, 0, false},
		{"a row that refers to nothing", func(t *testing.T, h *house, _, _ oci.Digest) {
			h.sql(t, `pragma foreign_keys = off; insert into tags (repository_id, name, manifest_id, moved_at, moved_by) values (77, 'x', 78, 0, '')`)
		}, KindDatabase, 1, 1, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := build(t, t.TempDir())
			image := h.image(t, "team/app", "v1", "one")
			index := h.index(t, "team/app", "v2", image)
			writeJournal(t, journalOf(t, h))
			fsck(t, h, FsckOptions{Repair: true})
			tc.damage(t, h, image, index)

			got := fsck(t, h, FsckOptions{})
			if len(got.Problems) != tc.found || got.Left != tc.found {
				t.Fatalf("found %+v, want %d problems", got, tc.found)
			}
			for _, p := range got.Problems {
				if tc.kind != "" && p.Kind != tc.kind || p.Repaired || (len(p.Images) > 0) != tc.images {
					t.Errorf("found %+v", p)
				}
			}
			if got := fsck(t, h, FsckOptions{Repair: true}); (len(got.Problems) == 0) != (tc.found == 0) || got.Left != tc.left {
				t.Fatalf("repaired %+v, want %d left", got, tc.left)
			}
			if got := fsck(t, h, FsckOptions{}); got.Left != tc.left || len(got.Problems) != tc.left {
				t.Fatalf("after the repair: %+v, want %d left", got, tc.left)
			}
			if tc.kind == KindDatabase || strings.Contains(tc.name, "in both") {
				return // nothing mends that
			}
			h.image(t, "team/app", "v1", "one")
			h.whole(t, "team/app:v1", "team/app:v2")
			if got := fsck(t, h, FsckOptions{}); len(got.Problems) > 0 {
				t.Fatalf("after another push: %+v", got)
			}
		})
	}
}

// TestFsckSetsAside: a damaged blob counts as absent at once, and what is left of it is kept.
func TestFsckSetsAside(t *testing.T) {
	h := build(t, t.TempDir())
	h.image(t, "team/app", "v1", "one")
	d := sum("one layer")
	spoil(t, h.file(d))
	fsck(t, h, FsckOptions{Repair: true})
	if _, err := h.reg.StatBlob(bg, pusher, repo("team/app"), d); err == nil {
		t.Error("a damaged blob is said to be there")
	}
	r, err := h.Store.OpenAside(bg, d)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if _, err := h.Store.Stat(bg, d); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Stat of a damaged blob = %v", err)
	}
}

// TestFsckResumes breaks checks off after each step: the next one goes on from there, and
// all together they look at everything once.
func TestFsckResumes(t *testing.T) {
	h := build(t, t.TempDir())
	for _, seed := range []string{"a", "b", "c"} {
		h.image(t, "team/app", seed, seed)
	}
	fsck(t, h, FsckOptions{Repair: true})
	remove(t, h.file(sum("b layer")))
	var last Checked
	for runs := 1; ; runs++ {
		ctx, cancel := context.WithCancel(bg)
		c, err := Fsck(ctx, h.Cat, h.Store, FsckOptions{Progress: func(now Checked) {
			if now.Blobs+now.Manifests == last.Blobs+last.Manifests+1 {
				cancel()
			}
		}})
		cancel()
		if c.Resumed != (runs > 1) {
			t.Fatalf("run %d: %+v", runs, c)
		}
		last = c
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) || runs > 50 {
			t.Fatalf("run %d: %v", runs, err)
		}
	}
	if last.Manifests != 3 || last.Blobs != 6 || len(last.Problems) != 1 {
		t.Errorf("all together: %+v", last)
	}
	if c := fsck(t, h, FsckOptions{}); c.Resumed || c.Manifests != 3 || c.Blobs != 6 {
		t.Errorf("the next check: %+v", c)
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

// TestFsckAndJournal: the bytes of a manifest that the journal does not know yet come with it;
// once it knows them they must be there.
func TestFsckAndJournal(t *testing.T) {
	h := build(t, t.TempDir())
	d := h.image(t, "team/app", "v1", "one")
	if c := fsck(t, h, FsckOptions{}); len(c.Problems) > 0 {
		t.Errorf("before the journal: %+v", c.Problems)
	}
	writeJournal(t, journalOf(t, h))
	if c := fsck(t, h, FsckOptions{}); len(c.Problems) > 0 {
		t.Errorf("with the journal: %+v", c.Problems)
	}
	remove(t, h.file(d))
	if c := fsck(t, h, FsckOptions{}); len(c.Problems) != 1 || c.Problems[0].Digest != d.String() {
		t.Errorf("after the bytes were lost: %+v", c.Problems)
	}
}

// TestFsckRate: at so many bytes a second not all can be read before the end that is set. That
// is no damage of what was left.
func TestFsckRate(t *testing.T) {
	long := strings.Repeat("long ", 100<<10)
	for name, push := range map[string]func(h *house){
		"blob": func(h *house) { h.image(t, "team/app", "v1", long) },
		"manifest": func(h *house) {
			h.put(t, "team/app", "v1", oci.MediaTypeImageIndex, fmt.Sprintf(`{"schemaVersion":2,"manifests":[],"annotations":{"a":%q}}`, long))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := build(t, t.TempDir())
			push(h)
			writeJournal(t, journalOf(t, h))
			ctx, cancel := context.WithTimeout(bg, time.Minute)
			defer cancel()
			got, err := Fsck(ctx, h.Cat, h.Store, FsckOptions{Rate: 1, Repair: true})
			if !errors.Is(err, errHeldUp) || len(got.Problems) > 0 {
				t.Errorf("%+v, %v", got, err)
			}
			if got := fsck(t, h, FsckOptions{Repair: true}); len(got.Problems) > 0 || !got.Resumed {
				t.Errorf("afterwards: %+v", got)
			}
		})
	}
}

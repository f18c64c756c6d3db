package upkeep

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// journalOf opens the journal of a registry.
func journalOf(t *testing.T, h *house) *Journal {
	t.Helper()
	j, err := NewJournal(h.Cat, h.Store, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func writeJournal(t *testing.T, j *Journal) {
	t.Helper()
	if err := j.Write(bg); err != nil {
		t.Fatal(err)
	}
}

// standing is all that a catalog's repositories hold, in words.
func standing(t *testing.T, cat *catalog.Catalog) []string {
	t.Helper()
	var out []string
	_, err := cat.All(bg, func(m catalog.Entry) error {
		out = append(out, fmt.Sprint(m.Repo, " ", m.Kind, " ", m.Tag, " ", m.Digest, " ", m.Type, " ", m.At.UnixMicro(), " ", m.By))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// rebuild loses the catalog and makes it again.
func rebuild(t *testing.T, h *house) (*house, Rebuilt) {
	t.Helper()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := removeCatalog(filepath.Join(h.Dir, CatalogFile)); err != nil {
		t.Fatal(err)
	}
	got, err := Rebuild(bg, h.Dir, RebuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return build(t, h.Dir), got
}

// TestRebuild loses the catalog at several points of a journal's life: each time it is
// made again as it was, and goes on from there.
func TestRebuild(t *testing.T) {
	h := build(t, t.TempDir())
	j := journalOf(t, h)
	a := h.image(t, "team/app", "v1", "a")
	h.index(t, "team/app", "all", a)
	writeJournal(t, j)
	h.image(t, "team/app", "v1", "b") // the tag moves
	h.image(t, "other", "x", "c")
	h.put(t, "other", "signed", oci.MediaTypeImageManifest, fmt.Sprintf(
		`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.empty.v1+json",%s},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":1}}`,
		h.blob(t, "other", "{}"), oci.MediaTypeImageManifest, a))
	writeJournal(t, j)
	for i := range 3 {
		want := standing(t, h.Cat)
		images := []string{"team/app:v1", "team/app:all", "other:x", "other:signed", "team/app@" + a.String()}
		var got Rebuilt
		h, got = rebuild(t, h)
		same(t, standing(t, h.Cat), want)
		if len(got.Problems) > 0 || got.Repositories != 2 || got.Tags != 4+i {
			t.Fatalf("rebuilt %+v", got)
		}
		h.whole(t, images...)
		if c := fsck(t, h, FsckOptions{}); len(c.Problems) > 0 {
			t.Fatalf("after a rebuild: %+v", c.Problems)
		}
		if refs, _, err := h.Cat.Referrers(bg, repo("other"), a, catalog.ReferrerPage{Limit: 10}); err != nil || len(refs) != 1 {
			t.Fatalf("referrers: %v, %v", refs, err)
		}
		h.image(t, "other", fmt.Sprint("more", i), fmt.Sprint("more", i))
		writeJournal(t, journalOf(t, h))
	}
}

// TestRebuildOfLosses: what is lost is named, and the rest is made.
func TestRebuildOfLosses(t *testing.T) {
	h := build(t, t.TempDir())
	kept := h.image(t, "team/app", "kept", "kept")
	gone, changed := h.image(t, "team/app", "gone", "gone"), h.image(t, "team/app", "changed", "changed")
	h.image(t, "team/app", "holes", "holes")
	writeJournal(t, journalOf(t, h))
	remove(t, h.file(gone))
	spoil(t, h.file(changed))
	layer := sum("holes layer")
	remove(t, h.file(layer))
	h, got := rebuild(t, h)
	if got.Manifests != 2 || len(got.Problems) != 3 {
		t.Fatalf("rebuilt %+v", got)
	}
	for _, want := range []string{gone.String(), changed.String(), layer.String()} {
		if !slices.ContainsFunc(got.Problems, func(p Problem) bool { return p.Digest == want && len(p.Images) > 0 }) {
			t.Errorf("%s is not named: %+v", want, got.Problems)
		}
	}
	h.whole(t, "team/app@"+kept.String())
	if _, err := h.reg.StatBlob(bg, pusher, repo("team/app"), layer); err == nil {
		t.Error("a layer whose bytes are lost is said to be there")
	}
	h.image(t, "team/app", "holes", "holes")
	h.whole(t, "team/app:holes")
}

// TestRebuildRefuses: a catalog that is there stays, but by force, which keeps it aside.
func TestRebuildRefuses(t *testing.T) {
	h := build(t, t.TempDir())
	h.image(t, "team/app", "v1", "a")
	writeJournal(t, journalOf(t, h))
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Rebuild(bg, h.Dir, RebuildOptions{}); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("rebuilt over a catalog: %v", err)
	}
	unlock, err := Lock(h.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Rebuild(bg, h.Dir, RebuildOptions{Force: true}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("rebuilt beside a registry: %v", err)
	}
	unlock()
	got, err := Rebuild(bg, h.Dir, RebuildOptions{Force: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(got.MovedAside); err != nil {
		t.Error(err)
	}
	if _, err := Rebuild(bg, t.TempDir(), RebuildOptions{}); err == nil {
		t.Error("rebuilt from nothing")
	}
}

// move is one of a made-up history.
func move(id int64, kind, tag, content string) catalog.Entry {
	return catalog.Entry{ID: id, Repo: "r", Kind: kind, Tag: tag, Digest: sum(content).String(), Type: oci.MediaTypeImageManifest, At: time.UnixMicro(id)}
}

// TestReplay holds the meaning of each kind of move.
func TestReplay(t *testing.T) {
	for _, tc := range []struct {
		name  string
		moves []catalog.Entry
		want  string // contents with their tags
	}{
		{"a push", []catalog.Entry{move(1, "push", "", "a")}, "a"},
		{"tags", []catalog.Entry{move(1, "push", "", "a"), move(2, "tag", "x", "a"), move(3, "tag", "w", "a")}, "a w x"},
		{"a tag moves", []catalog.Entry{move(1, "push", "", "a"), move(2, "tag", "x", "a"), move(3, "push", "", "b"), move(4, "tag", "x", "b")}, "a, b x"},
		{"a tag goes", []catalog.Entry{move(1, "push", "", "a"), move(2, "tag", "x", "a"), move(3, "untag", "x", "a")}, "a"},
		{"a manifest goes, and its tags", []catalog.Entry{move(1, "push", "", "a"), move(2, "tag", "x", "a"), move(3, "delete", "", "a")}, ""},
		{"it comes back", []catalog.Entry{move(1, "push", "", "a"), move(2, "tag", "x", "a"), move(3, "delete", "", "a"), move(4, "restore", "", "a"), move(5, "tag", "x", "a")}, "a x"},
		{"a purge", []catalog.Entry{move(1, "push", "", "a"), move(2, "delete", "", "a"), move(3, "purge", "", "a")}, ""},
		{"twice and out of order", []catalog.Entry{move(3, "untag", "x", "a"), move(1, "push", "", "a"), move(2, "tag", "x", "a"), move(2, "tag", "x", "a")}, "a"},
	} {
		var got []string
		for _, h := range replay(journaled{moves: inOrder(tc.moves)}) {
			words := []string{map[string]string{sum("a").String(): "a", sum("b").String(): "b"}[h.digest]}
			for _, tag := range h.tags {
				words = append(words, tag.Name)
			}
			got = append(got, strings.Join(words, " "))
		}
		if s := strings.Join(got, ", "); s != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, s, tc.want)
		}
	}
}

// TestJournalIsBounded: records are put together, a snapshot takes their place, and what
// is read back is the same all along.
func TestJournalIsBounded(t *testing.T) {
	h := build(t, t.TempDir())
	j := journalOf(t, h)
	h.image(t, "r", "v1", "a")
	writeJournal(t, j)
	check := func(when string, atMost int) {
		t.Helper()
		names, err := h.Store.Names(bg)
		if err != nil || len(names) > atMost {
			t.Errorf("%s: %d records, %v", when, len(names), err)
		}
		all, err := readJournal(bg, h.Store)
		if err != nil || len(all.lost) > 0 {
			t.Fatalf("%s: %+v, %v", when, all, err)
		}
		got := replay(all)
		if len(got) != 1 || len(got[0].tags) != 1 || got[0].tags[0].Name != "v1" {
			t.Fatalf("%s: %+v", when, got)
		}
	}
	check("first", 4)
	d := h.image(t, "r", "v1", "a")
	for i := range mergeAt + 10 {
		h.sql(t, fmt.Sprintf(`insert into history (repository_id, kind, tag, digest, at, caused_by) values (1, 'tag', 't', '%[1]s', %[2]d, ''), (1, 'untag', 't', '%[1]s', %[2]d, '')`, d, i))
		writeJournal(t, j)
	}
	check("many", mergeAt)
	if err := j.Snapshot(bg); err != nil {
		t.Fatal(err)
	}
	check("a snapshot", 2)
	// Another catalog's journal in the same store, as after a restore of a backup.
	h.sql(t, `delete from history where id > 3`)
	j = journalOf(t, h)
	writeJournal(t, j)
	check("after a restore", 2)
}

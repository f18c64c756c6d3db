package catalog_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

const window = 7 * 24 * time.Hour

// discarding is byAnn with a trash.
func discarding() catalog.Act { return catalog.Act{By: "ann", Now: now, Restore: window} }

// trash is what lies in a repository's trash, page by page.
func trash(t testing.TB, c *catalog.Catalog, prefix string) []catalog.Trashed {
	t.Helper()
	var out []catalog.Trashed
	for after := ""; ; {
		page, next, err := c.Trash(t.Context(), prefix, after, 2)
		ok(t, err)
		out = append(out, page...)
		if next == "" {
			return out
		}
		after = next
	}
}

// TestTrash: what is deleted is nowhere to be had but in the trash, and comes back as it was.
func TestTrash(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "a")
		m := pushImage(t, c, r, "one", "v1", "v2", "v3")
		index := indexOf(t, m)
		put(t, c, r, index, "all")
		for _, d := range []oci.Digest{m.Digest, index.Digest} {
			judge(t, c, d, policy.Allow, catalog.Counts{})
		}
		before := must(c.Manifest(ctx, r, oci.Reference{Digest: m.Digest}))(t)
		due(t, c, now)
		ok(t, c.DeleteManifest(ctx, r, m.Digest, discarding()))

		for _, ref := range []oci.Reference{{Digest: m.Digest}, {Tag: "v1"}} {
			_, err := c.Manifest(ctx, r, ref)
			wantErr(t, err, catalog.ErrNotFound)
			_, err = c.Served(ctx, r, ref)
			wantErr(t, err, catalog.ErrNotFound)
		}
		_, _, err := c.Verdict(ctx, m.Digest)
		wantErr(t, err, catalog.ErrNotFound)
		equal(t, must(c.Tags(ctx, r, "", 0))(t), []string{"all"})
		equal(t, due(t, c, now.Add(time.Second)), []oci.Digest{index.Digest}) // it lists what is not here
		_, err = c.PutManifest(ctx, catalog.NewManifest{Repo: r, Manifest: indexOf(t, m, m), Now: now})
		var missing *catalog.Missing
		if !errors.As(err, &missing) {
			t.Errorf("an index of what is in the trash: %v", err)
		}
		b := must(c.Blob(ctx, r, m.Config.Digest))(t)
		if b.Served || b.Referenced || !b.Trashed {
			t.Errorf("a blob that only the trash needs is %+v", b)
		}
		if n := pruneLinks(t, c, now.Add(window), false); n > 0 {
			t.Errorf("%d blobs that the trash needs were collected", n)
		}
		size := int64(0)
		for _, d := range m.Blobs() {
			size += d.Size
		}
		equal(t, trash(t, c, ""), []catalog.Trashed{{Repo: "a", Digest: m.Digest, MediaType: m.MediaType, Tags: []string{"v1", "v2", "v3"}, Size: size,
			PushedAt: before.PushedAt, PushedBy: "ann", DeletedAt: now, DeletedBy: "ann", Until: now.Add(window)}})
	})
}

// TestRestore: tags that were pointed elsewhere since stay where they are.
func TestRestore(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "a")
		m, other := pushImage(t, c, r, "one", "v1", "v2", "v3"), pushImage(t, c, r, "other")
		judge(t, c, m.Digest, policy.Quarantine, catalog.Counts{High: 1})
		was := must(c.Manifest(ctx, r, oci.Reference{Tag: "v1"}))(t)
		ok(t, c.DeleteManifest(ctx, r, m.Digest, discarding()))
		_, err := c.UndoTag(ctx, r, "v1", byAnn())
		wantErr(t, err, catalog.ErrManifestGone)
		put(t, c, r, other, "v2")
		due(t, c, now)

		equal(t, must(c.RestoreManifest(ctx, r, m.Digest, byAnn()))(t), catalog.Restored{Tags: []string{"v1", "v3"}, Left: []string{"v2"}})
		got := must(c.Manifest(ctx, r, oci.Reference{Tag: "v1"}))(t)
		if got.Verdict.Decision != policy.Quarantine || got.Counts.High != 1 || !got.PushedAt.Equal(was.PushedAt) || got.PushedBy != was.PushedBy {
			t.Errorf("restored as %+v, was %+v", got, was)
		}
		equal(t, named(t, c, r, "v2"), other.Digest.String())
		if list := due(t, c, now); !slices.Contains(list, m.Digest) {
			t.Errorf("what was restored is not due: %v", list)
		}
		if b := must(c.Blob(ctx, r, m.Config.Digest))(t); !b.Referenced || b.Trashed {
			t.Errorf("its config is %+v", b)
		}
		equal(t, trash(t, c, ""), nil)
		_, err = c.RestoreManifest(ctx, r, m.Digest, byAnn())
		wantErr(t, err, catalog.ErrNotFound)
		_, err = c.RestoreManifest(ctx, repo(t, "none"), m.Digest, byAnn())
		wantErr(t, err, catalog.ErrNoRepository)
		d := m.Digest.Short()
		equal(t, moves(t, c, r, ""), []string{"restore " + d, "delete " + d, "push " + other.Digest.Short(), "push " + d})
		equal(t, moves(t, c, r, "v1"), []string{"tag " + d, "untag " + d, "tag " + d})
	})
}

// TestTrashIsPurged: by a push of the same, by hand, with its blob and when its time is over.
func TestTrashIsPurged(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, a, b := t.Context(), repo(t, "a"), repo(t, "b")
		m := pushImage(t, c, a, "one", "v1")
		judge(t, c, m.Digest, policy.Allow, catalog.Counts{})
		gone := func() {
			t.Helper()
			equal(t, trash(t, c, ""), nil)
			_, _, err := c.ToJudge(ctx, m.Digest)
			wantErr(t, err, catalog.ErrNotFound)
		}
		discard := func(r oci.Repository) {
			t.Helper()
			ok(t, c.DeleteManifest(ctx, r, m.Digest, discarding()))
		}
		discard(a)
		put(t, c, a, m)
		equal(t, trash(t, c, ""), nil)
		if v, _, err := c.Verdict(ctx, m.Digest); err != nil || v.Decision != policy.Allow {
			t.Errorf("pushed again: %v, %v", v.Decision, err)
		}
		discard(a)
		wantErr(t, c.PurgeManifest(ctx, b, m.Digest, byAnn()), catalog.ErrNoRepository)
		ok(t, c.PurgeManifest(ctx, a, m.Digest, byAnn()))
		wantErr(t, c.PurgeManifest(ctx, a, m.Digest, byAnn()), catalog.ErrNotFound)
		gone()

		put(t, c, a, m)
		for _, d := range m.Blobs() {
			ok(t, c.LinkBlob(ctx, a, b, d.Digest, now))
		}
		put(t, c, b, m)
		discard(a)
		discard(b)
		equal(t, len(trash(t, c, "b")), 1)
		ok(t, c.UnlinkBlob(ctx, b, m.Config.Digest, byAnn()))
		equal(t, len(trash(t, c, "b")), 0)
		equal(t, moves(t, c, b, "")[0], "purge "+m.Digest.Short())
		_, _, err := c.ToJudge(ctx, m.Digest)
		ok(t, err) // it is in the trash of a
		for _, tc := range []struct {
			at   time.Time
			dry  bool
			want int
		}{{now.Add(window - time.Microsecond), false, 0}, {now.Add(window), true, 1}, {now.Add(window), false, 1}, {now.Add(window), false, 0}} {
			if p := must(c.PurgeTrash(ctx, tc.at, 0, tc.dry))(t); p.Removed != tc.want || p.More {
				t.Errorf("purge at %s, dry %v: %+v, want %d", tc.at, tc.dry, p, tc.want)
			}
		}
		gone()
		put(t, c, a, m)
		ok(t, c.DeleteManifest(ctx, a, m.Digest, byAnn()))
		gone()
	})
}

// TestTrashPages: the trash is listed by repository, in pages.
func TestTrashPages(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		for _, r := range []string{"a", "a/b", "b"} {
			for _, seed := range numbered("img", 3) {
				ok(t, c.DeleteManifest(t.Context(), repo(t, r), pushImage(t, c, repo(t, r), seed, seed).Digest, discarding()))
			}
		}
		for prefix, want := range map[string]int{"": 9, "a": 6, "a/": 3, "b": 3, "c": 0} {
			seen := map[string]bool{}
			list := trash(t, c, prefix)
			for _, d := range list {
				seen[d.Repo+d.Digest.String()] = true
				equal(t, len(d.Tags), 1)
			}
			if len(seen) != want || len(list) != want || !slices.IsSortedFunc(list, func(a, b catalog.Trashed) int { return strings.Compare(a.Repo, b.Repo) }) {
				t.Errorf("trash of %q: %d, %d distinct; want %d", prefix, len(list), len(seen), want)
			}
		}
	})
}

// TestPushAgainstPurge: a push of what is just being purged finds it there, or makes it anew.
func TestPushAgainstPurge(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		r := repo(t, "a")
		for _, seed := range numbered("img", 20) {
			m := pushImage(t, c, r, seed)
			ok(t, c.DeleteManifest(t.Context(), r, m.Digest, discarding()))
			errs := atOnce(func() error {
				_, err := c.PutManifest(t.Context(), catalog.NewManifest{Repo: r, Manifest: m, Tags: []string{"v1"}, Now: now})
				return err
			}, func() error {
				_, err := c.PurgeTrash(t.Context(), now.Add(window), 0, false)
				return err
			}, func() error {
				_, err := c.RestoreManifest(t.Context(), r, m.Digest, byAnn())
				if errors.Is(err, catalog.ErrNotFound) {
					err = nil
				}
				return err
			})
			ok(t, errors.Join(errs...))
			equal(t, named(t, c, r, "v1"), m.Digest.String())
			equal(t, trash(t, c, ""), nil)
		}
	})
}

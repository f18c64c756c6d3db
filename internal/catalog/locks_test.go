package catalog_test

import (
	"errors"
	"testing"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// TestLocks: each lock forbids what it is for and nothing else, names what is locked, and
// leaves no trace of what it forbade.
func TestLocks(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "team/app")
		one, two := pushImage(t, c, r, "one", "v1"), pushImage(t, c, r, "two", "v2")
		free := pushBlob(t, c, r, "free").Digest
		put(t, c, r, two, "v1")
		put(t, c, r, one, "v1") // so that it can be undone
		gone := pushImage(t, c, r, "gone")
		ok(t, c.DeleteManifest(ctx, r, gone.Digest, discarding()))
		push := func(m oci.Manifest, tags ...string) func() error {
			return func() error {
				_, err := c.PutManifest(ctx, catalog.NewManifest{Repo: r, Manifest: m, Tags: tags, By: "ann", Now: now})
				return err
			}
		}
		acts := map[string]func() error{
			"push":          push(imageOf(t, oci.Descriptor{Digest: digest("one config"), Size: 10}, nil, nil)),
			"push the same": push(one, "v1"),
			"move":          push(two, "v1"),
			"new tag":       push(one, "v3"),
			"undo":          func() error { _, err := c.UndoTag(ctx, r, "v1", byAnn()); return err },
			"upload":        func() error { return c.PutUpload(ctx, catalog.Upload{ID: "u", Repo: r, Started: now, Touched: now}) },
			"blob":          func() error { return c.FinishUpload(ctx, "", r, digest("more"), 4, now) },
			"mount":         func() error { return c.LinkBlob(ctx, r, r, free, now) },
			"delete tag":    func() error { return c.DeleteTag(ctx, r, "v1", byAnn()) },
			"delete":        func() error { return c.DeleteManifest(ctx, r, one.Digest, byAnn()) },
			"delete blob":   func() error { return c.UnlinkBlob(ctx, r, free, byAnn()) },
			"restore":       func() error { _, err := c.RestoreManifest(ctx, r, gone.Digest, byAnn()); return err },
			"purge":         func() error { return c.PurgeManifest(ctx, r, gone.Digest, byAnn()) },
		}
		for _, tc := range []struct {
			ref     oci.Reference
			lock    catalog.Locks
			forbids []string
		}{
			{oci.Reference{}, catalog.LockWrite, []string{"push", "push the same", "move", "new tag", "undo", "upload", "blob", "mount", "restore"}},
			{oci.Reference{}, catalog.LockDelete, []string{"delete tag", "delete", "delete blob", "purge"}},
			{oci.Reference{Tag: "v1"}, catalog.LockWrite, []string{"move", "undo"}},
			{oci.Reference{Tag: "v1"}, catalog.LockDelete, []string{"delete tag", "delete"}},
			{oci.Reference{Digest: one.Digest}, catalog.LockWrite, []string{"move", "undo", "new tag"}},
			{oci.Reference{Digest: two.Digest}, catalog.LockWrite, []string{"move", "undo"}},
			{oci.Reference{Digest: one.Digest}, catalog.LockDelete, []string{"delete"}},
			{oci.Reference{Digest: two.Digest}, catalog.LockDelete, nil},
		} {
			equal(t, must(c.SetLocks(ctx, r, tc.ref, tc.lock, 0, catalog.Act{}))(t), tc.lock)
			want := catalog.Locked{Repo: r, Ref: tc.ref, Lock: tc.lock}
			before := must(c.TagHistory(ctx, r, "v1", 0, 0))(t)
			for _, name := range tc.forbids {
				err := acts[name]()
				var got *catalog.Locked
				if !errors.As(err, &got) || *got != want {
					t.Errorf("%s with %s locked (%s): %v", name, want.What(), tc.lock.Names(), err)
				}
			}
			equal(t, must(c.TagHistory(ctx, r, "v1", 0, 0))(t), before)
			equal(t, must(c.SetLocks(ctx, r, tc.ref, 0, tc.lock, catalog.Act{}))(t), catalog.Locks(0))
		}
		// With all other locks each of them can be done.
		refs := []oci.Reference{{}, {Tag: "v1"}, {Digest: one.Digest}, {Digest: two.Digest}}
		for _, step := range []struct {
			name string
			lock catalog.Locks // that would forbid it
		}{{"push", catalog.LockWrite}, {"new tag", catalog.LockWrite}, {"move", catalog.LockWrite}, {"undo", catalog.LockWrite}, {"upload", catalog.LockWrite},
			{"blob", catalog.LockWrite}, {"mount", catalog.LockWrite}, {"restore", catalog.LockWrite}, {"delete blob", catalog.LockDelete}, {"delete tag", catalog.LockDelete}, {"delete", catalog.LockDelete}} {
			for _, ref := range refs {
				if _, err := c.SetLocks(ctx, r, ref, catalog.AllLocks&^step.lock, step.lock, catalog.Act{}); err != nil && ref.Tag == "" {
					t.Fatal(err)
				}
			}
			if err := acts[step.name](); err != nil {
				t.Errorf("%s without its lock: %v", step.name, err)
			}
		}
		_, err := c.SetLocks(ctx, r, oci.Reference{Tag: "none"}, catalog.LockRead, 0, catalog.Act{})
		wantErr(t, err, catalog.ErrNotFound)
		_, err = c.SetLocks(ctx, r, oci.Reference{Digest: digest("none")}, catalog.LockRead, 0, catalog.Act{})
		wantErr(t, err, catalog.ErrNotFound)
		_, err = c.SetLocks(ctx, repo(t, "none"), oci.Reference{}, catalog.LockRead, 0, catalog.Act{})
		wantErr(t, err, catalog.ErrNoRepository)
	})
}

// TestLocksOutlastTheTrash: what was locked of a manifest and its tags is so when it comes back.
func TestLocksOutlastTheTrash(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "a")
		m := pushImage(t, c, r, "one", "v1", "v2")
		must(c.SetLocks(ctx, r, oci.Reference{Tag: "v1"}, catalog.LockWrite, 0, catalog.Act{}))(t)
		must(c.SetLocks(ctx, r, oci.Reference{Digest: m.Digest}, catalog.LockRead, 0, catalog.Act{}))(t)
		ok(t, c.DeleteManifest(ctx, r, m.Digest, discarding()))
		must(c.RestoreManifest(ctx, r, m.Digest, byAnn()))(t)
		equal(t, must(c.Served(ctx, r, oci.Reference{Tag: "v1"}))(t).Closed, catalog.LockWrite|catalog.LockRead)
		equal(t, must(c.Served(ctx, r, oci.Reference{Tag: "v2"}))(t).Closed, catalog.LockRead)
	})
}

// TestReadLock: what is locked against reading says so, the widest lock first, and its blobs
// are served by no manifest.
func TestReadLock(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "a")
		m := pushImage(t, c, r, "one", "v1")
		judge(t, c, m.Digest, policy.Allow, catalog.Counts{})
		for _, ref := range []oci.Reference{{Tag: "v1"}, {Digest: m.Digest}, {}} {
			must(c.SetLocks(ctx, r, ref, catalog.LockRead, 0, catalog.Act{}))(t)
			equal(t, *must(c.ReadLock(ctx, r, oci.Reference{Tag: "v1"}))(t), catalog.Locked{Repo: r, Ref: ref, Lock: catalog.LockRead})
			equal(t, must(c.Served(ctx, r, oci.Reference{Tag: "v1"}))(t).Closed, catalog.LockRead)
			b := must(c.Blob(ctx, r, m.Config.Digest))(t)
			if want := ref.Tag != ""; b.Served != want || b.Open != want || (b.Locks == catalog.LockRead) != (ref == oci.Reference{}) {
				t.Errorf("with %v locked its config is %+v", ref, b)
			}
		}
		_, err := c.ReadLock(ctx, r, oci.Reference{Tag: "none"})
		wantErr(t, err, catalog.ErrNotFound)
	})
}

// TestListLock: what is locked against listing is in no list, and there if it is asked for.
func TestListLock(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, a, b := t.Context(), repo(t, "a"), repo(t, "b")
		one, two := pushImage(t, c, a, "one", "v1", "v2"), pushImage(t, c, a, "two", "v3")
		sig := imageOf(t, pushBlob(t, c, a, "sig"), nil, map[string]any{"subject": one.Descriptor})
		put(t, c, a, sig)
		pushImage(t, c, b, "one", "v1")
		hide := func(r oci.Repository, ref oci.Reference) {
			t.Helper()
			must(c.SetLocks(ctx, r, ref, catalog.LockList, 0, catalog.Act{}))(t)
		}
		tags := func(want ...string) {
			t.Helper()
			equal(t, must(c.Tags(ctx, a, "", 0))(t), want)
			equal(t, must(c.Tags(ctx, a, "", 1))(t), want[:1])
		}
		hide(a, oci.Reference{Tag: "v1"})
		tags("v2", "v3")
		hide(a, oci.Reference{Digest: one.Digest})
		tags("v3")
		hide(a, oci.Reference{Digest: sig.Digest})
		list, _, err := c.Referrers(ctx, a, one.Digest, catalog.ReferrerPage{})
		ok(t, err)
		equal(t, len(list), 0)
		hide(a, oci.Reference{})
		equal(t, must(c.Repositories(ctx, "", 1))(t), []string{"b"})
		equal(t, named(t, c, a, "v1"), one.Digest.String())
		equal(t, named(t, c, a, "v3"), two.Digest.String())
	})
}

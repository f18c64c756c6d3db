package catalog_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
)

// putAt pushes a manifest at some minutes past now.
func putAt(t testing.TB, c *catalog.Catalog, r oci.Repository, m oci.Manifest, minutes int, tags ...string) {
	t.Helper()
	_, err := c.PutManifest(t.Context(), catalog.NewManifest{Repo: r, Manifest: m, Tags: tags, By: "ann", Now: now.Add(time.Duration(minutes) * time.Minute)})
	ok(t, err)
}

// smallImage is an image of one config that is a blob of r.
func smallImage(t testing.TB, c *catalog.Catalog, r oci.Repository, seed string) oci.Manifest {
	t.Helper()
	return imageOf(t, pushBlob(t, c, r, seed), nil, nil)
}

// TestRepositoryAttributes: what is counted and when it changed is right after each thing that
// becomes of a repository.
func TestRepositoryAttributes(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "team/app")
		_, err := c.RepositoryAttributes(ctx, r)
		wantErr(t, err, catalog.ErrNoRepository)
		check := func(what string, manifests, tags int64, updated int) {
			t.Helper()
			a := must(c.RepositoryAttributes(ctx, r))(t)
			want := catalog.RepositoryAttributes{Created: now, Updated: now.Add(time.Duration(updated) * time.Minute), Manifests: manifests, Tags: tags}
			if a != want {
				t.Errorf("%s: %+v, want %+v", what, a, want)
			}
			if wrong, _, err := c.Usages(ctx, 0, 0, false); err != nil || len(wrong) > 0 {
				t.Errorf("%s: %+v, %v", what, wrong, err)
			}
		}
		one, two := smallImage(t, c, r, "one"), smallImage(t, c, r, "two")
		check("blobs alone", 0, 0, 0)
		putAt(t, c, r, one, 1)
		check("a manifest", 1, 0, 1)
		putAt(t, c, r, one, 2, "v1", "v2")
		check("tags", 1, 2, 2)
		putAt(t, c, r, two, 3)
		check("another", 2, 2, 3)
		ok(t, c.DeleteTag(ctx, r, "v2", catalog.Act{}))
		check("a tag less", 2, 1, 3)
		ok(t, c.DeleteManifest(ctx, r, one.Digest, discarding()))
		check("a manifest less", 1, 0, 3)
		must(c.RestoreManifest(ctx, r, one.Digest, catalog.Act{Now: now.Add(4 * time.Minute)}))(t)
		check("restored", 2, 1, 4)
		must(c.SetLocks(ctx, r, oci.Reference{}, catalog.LockList, 0, catalog.Act{}))(t)
		equal(t, must(c.RepositoryAttributes(ctx, r))(t).Locks, catalog.LockList)
	})
}

// TestNamedRepositories: each says whether it holds anything; what is locked against listing is left out.
func TestNamedRepositories(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		for _, name := range []string{"full", "hidden"} {
			pushImage(t, c, repo(t, name), "one")
		}
		pushBlob(t, c, repo(t, "blob"), "x")
		must(c.SetLocks(ctx, repo(t, "hidden"), oci.Reference{}, catalog.LockList, 0, catalog.Act{}))(t)
		equal(t, must(c.NamedRepositories(ctx, "", 0))(t), []catalog.NamedRepository{{Name: "blob", Empty: true}, {Name: "full"}})
		equal(t, must(c.NamedRepositories(ctx, "blob", 1))(t), []catalog.NamedRepository{{Name: "full"}})
	})
}

// TestTagList: in each order, page by page, all tags come once, though several were set at once.
func TestTagList(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "team/app")
		one, two := smallImage(t, c, r, "one"), smallImage(t, c, r, "two")
		putAt(t, c, r, one, 1, "e", "b")
		putAt(t, c, r, two, 1, "d")
		putAt(t, c, r, one, 2, "a")
		putAt(t, c, r, two, 3, "c", "hidden")
		must(c.SetLocks(ctx, r, oci.Reference{Tag: "hidden"}, catalog.LockList, 0, catalog.Act{}))(t)
		must(c.SetLocks(ctx, r, oci.Reference{Tag: "c"}, catalog.LockWrite, 0, catalog.Act{}))(t)
		for _, tc := range []struct {
			order  catalog.Order
			digest oci.Digest
			want   string
		}{
			{catalog.ByName, oci.Digest{}, "[a b c d e]"},
			{catalog.OldestFirst, oci.Digest{}, "[b d e a c]"},
			{catalog.NewestFirst, oci.Digest{}, "[c a e d b]"},
			{catalog.ByName, one.Digest, "[a b e]"},
			{catalog.OldestFirst, one.Digest, "[b e a]"},
			{catalog.NewestFirst, two.Digest, "[c d]"},
			{catalog.ByName, digest("none"), "[]"},
		} {
			for limit := 1; limit < 7; limit++ {
				names := []string{}
				p := catalog.TagPage{Repo: r, Digest: tc.digest, Order: tc.order, Limit: limit}
				for {
					page := must(c.TagList(ctx, p))(t)
					for _, tag := range page {
						names = append(names, tag.Name)
						p.After = tag.Mark()
					}
					if len(page) < limit {
						break
					}
				}
				if got := fmt.Sprint(names); got != tc.want {
					t.Errorf("order %d of %s by %d: %s, want %s", tc.order, tc.digest, limit, got, tc.want)
				}
			}
		}
		equal(t, must(c.TagAttributes(ctx, r, "c"))(t), catalog.TagAttributes{Name: "c", Digest: two.Digest, Set: now.Add(3 * time.Minute), Locks: catalog.LockWrite})
		equal(t, must(c.TagAttributes(ctx, r, "hidden"))(t).Locks, catalog.LockList)
		_, err := c.TagAttributes(ctx, r, "none")
		wantErr(t, err, catalog.ErrNotFound)
		_, err = c.TagList(ctx, catalog.TagPage{Repo: repo(t, "none")})
		wantErr(t, err, catalog.ErrNoRepository)
	})
}

// TestManifestList: in each order, page by page, all manifests come once, in pages of so many and
// of so many bytes.
func TestManifestList(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "team/app")
		var all []string
		for i := range 7 {
			m := smallImage(t, c, r, fmt.Sprint(i))
			putAt(t, c, r, m, i/3, fmt.Sprintf("v%d", i), fmt.Sprintf("latest-%d", i))
			all = append(all, m.Digest.String())
		}
		hidden := smallImage(t, c, r, "hidden")
		putAt(t, c, r, hidden, 1)
		must(c.SetLocks(ctx, r, oci.Reference{Digest: hidden.Digest}, catalog.LockList, 0, catalog.Act{}))(t)
		pages := func(p catalog.ManifestPage) (out []string) {
			t.Helper()
			for more := true; more; {
				var list []catalog.ManifestAttributes
				var err error
				list, more, err = c.ManifestList(ctx, p)
				ok(t, err)
				for _, m := range list {
					out = append(out, m.Digest.String())
					p.After = m.Mark()
				}
			}
			return out
		}
		backwards := slices.Clone(all)
		slices.Reverse(backwards)
		for _, tc := range []struct{ limit, bytes int }{{1, 1 << 20}, {2, 1 << 20}, {7, 1 << 20}, {8, 1 << 20}, {100, 1}, {100, 700}} {
			equal(t, pages(catalog.ManifestPage{Repo: r, Limit: tc.limit, Bytes: tc.bytes}), all)
			equal(t, pages(catalog.ManifestPage{Repo: r, Limit: tc.limit, Bytes: tc.bytes, Order: catalog.NewestFirst}), backwards)
		}
		first, _, err := c.ManifestList(ctx, catalog.ManifestPage{Repo: r, Limit: 1})
		ok(t, err)
		equal(t, first[0].Tags, []string{"latest-0", "v0"})
		equal(t, first[0].Pushed, now)
		equal(t, must(c.ManifestAttributes(ctx, r, hidden.Digest))(t).Locks, catalog.LockList)
		_, err = c.ManifestAttributes(ctx, r, digest("none"))
		wantErr(t, err, catalog.ErrNotFound)
		_, _, err = c.ManifestList(ctx, catalog.ManifestPage{Repo: repo(t, "none")})
		wantErr(t, err, catalog.ErrNoRepository)
		held := must(c.HeldManifests(ctx, r, 0, 3))(t)
		equal(t, len(held), 3)
		equal(t, len(must(c.HeldManifests(ctx, r, held[2].ID, 0))(t)), 5)
	})
}

// TestDeleteLock names what of a repository keeps it from being deleted.
func TestDeleteLock(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "a")
		wantErr(t, c.DeleteLock(ctx, r), catalog.ErrNoRepository)
		m := pushImage(t, c, r, "one", "v1")
		for _, ref := range []oci.Reference{{}, {Tag: "v1"}, {Digest: m.Digest}} {
			must(c.SetLocks(ctx, r, ref, catalog.AllLocks&^catalog.LockDelete, 0, catalog.Act{}))(t)
			ok(t, c.DeleteLock(ctx, r))
			must(c.SetLocks(ctx, r, ref, catalog.LockDelete, 0, catalog.Act{}))(t)
			var got *catalog.Locked
			if err := c.DeleteLock(ctx, r); !errors.As(err, &got) || *got != (catalog.Locked{Repo: r, Ref: ref, Lock: catalog.LockDelete}) {
				t.Errorf("with %v locked: %v", ref, err)
			}
			must(c.SetLocks(ctx, r, ref, 0, catalog.AllLocks, catalog.Act{}))(t)
		}
	})
}

// useAttributes calls what lists with attributes are made of.
func useAttributes(t testing.TB, c *catalog.Catalog, r oci.Repository, d oci.Digest) {
	t.Helper()
	ctx := t.Context()
	must(c.RepositoryAttributes(ctx, r))(t)
	must(c.NamedRepositories(ctx, "", 0))(t)
	for _, o := range []catalog.Order{catalog.ByName, catalog.OldestFirst, catalog.NewestFirst} {
		must(c.TagList(ctx, catalog.TagPage{Repo: r, Order: o}))(t)
		must(c.TagList(ctx, catalog.TagPage{Repo: r, Order: o, Digest: d}))(t)
		_, _, err := c.ManifestList(ctx, catalog.ManifestPage{Repo: r, Order: o})
		ok(t, err)
	}
	must(c.TagAttributes(ctx, r, "v1"))(t)
	must(c.ManifestAttributes(ctx, r, d))(t)
	must(c.HeldManifests(ctx, r, 0, 0))(t)
	ok(t, c.DeleteLock(ctx, r))
}

// TestListsByTimeAreNotSorted: a page of them is read in its order.
func TestListsByTimeAreNotSorted(t *testing.T) {
	c := catalogtest.Open(t)
	r := repo(t, "app")
	m := pushImage(t, c, r, "one", "v1")
	useAttributes(t, c, r, m.Digest)
	c.Learned(func(text string) {
		if !slices.ContainsFunc([]string{"t.moved_at", "h.pushed_at"}, func(column string) bool { return containsAll(text, "order by "+column, "limit $") }) ||
			containsAll(text, "t.manifest_id = (select") {
			return
		}
		steps := c.Plan(t.Context(), t, text)
		for i, s := range steps {
			if s == "USE TEMP B-TREE FOR ORDER BY" && !slices.ContainsFunc(steps[:i], func(s string) bool { return containsAll(s, "SUBQUERY") }) {
				t.Errorf("%s: %v", text, steps)
			}
		}
	})
}

func containsAll(s string, parts ...string) bool {
	return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(s, p) })
}

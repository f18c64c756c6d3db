package catalog_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// list is a page of a list.
func list(t testing.TB, c *catalog.Catalog, q catalog.ListQuery) []catalog.Listed {
	t.Helper()
	out, _, err := c.List(t.Context(), q)
	ok(t, err)
	return out
}

// allListed follows the pages of a list.
func allListed(t testing.TB, c *catalog.Catalog, q catalog.ListQuery) (names []string, pages int) {
	t.Helper()
	for {
		out, next, err := c.List(t.Context(), q)
		ok(t, err)
		pages++
		if q.Limit > 0 && len(out) > q.Limit {
			t.Fatalf("%d on a page of %d", len(out), q.Limit)
		}
		for _, l := range out {
			names = append(names, l.Repo+":"+l.Tag)
		}
		if next == "" {
			return names, pages
		}
		q.After = next
	}
}

// TestListFiltered: however few are wanted and however small the pages, each is listed once, in order.
func TestListFiltered(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		var want, held []string
		good, bad := pushImage(t, c, repo(t, "a"), "good"), pushImage(t, c, repo(t, "a"), "bad")
		judge(t, c, good.Digest, policy.Allow, catalog.Counts{})
		judge(t, c, bad.Digest, policy.Quarantine, catalog.Counts{})
		// More than are looked at for one page.
		put(t, c, repo(t, "a"), good, numbered("t", 1500)...)
		for _, name := range []string{"a/b", "b", "c"} {
			pushImage(t, c, repo(t, name), "good", "v1", "x")
			pushImage(t, c, repo(t, name), "bad", "v2")
			want = append(want, name+":v1", name+":v2")
			held = append(held, name+":v2")
		}
		v := func(tag string) bool { return strings.HasPrefix(tag, "v") }
		for _, limit := range []int{0, 1, 2, 3, 1000} {
			got, pages := allListed(t, c, catalog.ListQuery{Limit: limit, Tag: v})
			equal(t, got, want)
			if limit == 0 && pages != 2 {
				t.Errorf("%d pages", pages)
			}
			got, _ = allListed(t, c, catalog.ListQuery{Limit: limit, Decisions: []policy.Decision{policy.Quarantine}})
			equal(t, got, held)
			got, _ = allListed(t, c, catalog.ListQuery{Prefix: "b", Limit: limit, Tag: v, Decisions: []policy.Decision{policy.Allow, policy.Pending}})
			equal(t, got, []string{"b:v1"})
		}
		got, _ := allListed(t, c, catalog.ListQuery{Limit: 700})
		equal(t, len(got), 1500+9)
	})
}

// BenchmarkList: a page costs the same wherever it lies, in one repository of 10,000 tags and
// among 100,000 repositories.
func BenchmarkList(b *testing.B) {
	c := catalogtest.Open(b)
	index := parse(b, oci.MediaTypeImageIndex, map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeImageIndex, "manifests": []any{}})
	full := repo(b, "m/full")
	for i := range 100 {
		put(b, c, full, index, numbered(fmt.Sprintf("t%02d-", i), 100)...)
	}
	var pushes sync.WaitGroup
	for w := range 8 {
		pushes.Go(func() {
			for i := w; i < 100_000; i += 8 {
				if _, err := c.PutManifest(b.Context(), catalog.NewManifest{Repo: repo(b, fmt.Sprintf("r%02d/app%05d", i%100, i)), Manifest: index, Tags: []string{"v1"}, Now: now}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	pushes.Wait()
	for _, tc := range []struct {
		name string
		q    catalog.ListQuery
		n    int
	}{
		{"tags/first", catalog.ListQuery{Prefix: "m/", Limit: 100}, 100},
		{"tags/middle", catalog.ListQuery{Prefix: "m/", After: "m/full:t50-", Limit: 100}, 100},
		{"tags/last", catalog.ListQuery{Prefix: "m/", After: "m/full:t98-99", Limit: 100}, 100},
		{"repositories/first", catalog.ListQuery{Limit: 100}, 100},
		{"repositories/middle", catalog.ListQuery{After: "r50/app00050:v1", Limit: 100}, 100},
		{"repositories/prefix", catalog.ListQuery{Prefix: "r77/", Limit: 100}, 100},
		{"filtered", catalog.ListQuery{After: "r50/app00050:v1", Limit: 100, Tag: func(string) bool { return false }}, 0},
	} {
		b.Run(tc.name, func(b *testing.B) {
			for b.Loop() {
				if got := list(b, c, tc.q); len(got) != tc.n {
					b.Fatalf("%d tags, want %d", len(got), tc.n)
				}
			}
		})
	}
	b.Run("names/tags-100", func(b *testing.B) {
		for b.Loop() {
			equal(b, len(must(c.Tags(b.Context(), full, "t50-", 100))(b)), 100)
		}
	})
	b.Run("names/tags-10000", func(b *testing.B) {
		for b.Loop() {
			equal(b, len(must(c.Tags(b.Context(), full, "", 10_000))(b)), 10_000)
		}
	})
	b.Run("names/repositories", func(b *testing.B) {
		for b.Loop() {
			equal(b, len(must(c.Repositories(b.Context(), "r50", 100))(b)), 100)
		}
	})
	b.Run("usage/all", func(b *testing.B) {
		for b.Loop() {
			equal(b, must(c.Usage(b.Context(), ""))(b).Tags, 110_000)
		}
	})
}

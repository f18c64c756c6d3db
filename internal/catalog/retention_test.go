package catalog_test

import (
	"testing"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
)

func TestPulls(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "app")
		m := pushImage(t, c, r, "one", "a", "b")
		pulled := func(tag string) time.Time {
			t.Helper()
			for _, x := range must(c.RetainedTags(ctx, r, "", 10))(t) {
				if x.Name == tag {
					return x.Pulled
				}
			}
			t.Fatalf("no tag %s", tag)
			return time.Time{}
		}
		if !pulled("a").IsZero() {
			t.Error("pulled before it was")
		}
		byTag, byDigest, nothing := oci.Reference{Tag: "a"}, oci.Reference{Digest: m.Digest}, oci.Reference{Tag: "none"}
		for _, tc := range []struct {
			ref      oci.Reference
			at, want time.Duration
		}{
			{byTag, 0, 0},
			{byTag, time.Minute, time.Minute},
			{nothing, time.Hour, time.Minute},
			{byDigest, time.Hour, time.Hour},
			{byDigest, time.Minute, time.Hour}, // it comes late
		} {
			ok(t, c.NotePulls(ctx, []catalog.Pull{{Repo: repo(t, "other"), Ref: tc.ref, At: now.Add(10 * time.Hour), Count: 1}, {Repo: r, Ref: tc.ref, At: now.Add(tc.at), Count: 3}}))
			equal(t, pulled("a"), now.Add(tc.want))
			equal(t, pulled("b"), now.Add(tc.want)) // the same manifest
		}
		listed, _, err := c.List(ctx, catalog.ListQuery{})
		ok(t, err)
		equal(t, []int64{listed[0].Pulls, listed[1].Pulls}, []int64{12, 12}) // of the same manifest, four times three, by tag and by digest
	})
}

// TestUntaggedSince: a manifest is untagged since its last tag went elsewhere or was removed.
func TestUntaggedSince(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "app")
		at := func(h int) time.Time { return now.Add(time.Duration(h) * time.Hour) }
		one, two, three := pushImage(t, c, r, "one"), pushImage(t, c, r, "two"), pushImage(t, c, r, "three")
		tag := func(m oci.Manifest, h int, name string) {
			t.Helper()
			_, err := c.PutManifest(ctx, catalog.NewManifest{Repo: r, Manifest: m, Tags: []string{name}, Now: at(h)})
			ok(t, err)
		}
		tag(one, 1, "a")
		tag(one, 1, "b")
		tag(two, 2, "a")
		tag(three, 3, "a")
		ok(t, c.DeleteTag(ctx, r, "b", catalog.Act{Now: at(4)}))
		tag(three, 5, "b")
		since := map[oci.Digest]time.Time{one.Digest: now, two.Digest: now}
		ok(t, c.Untagged(ctx, r, since))
		equal(t, since, map[oci.Digest]time.Time{one.Digest: at(4), two.Digest: at(3)})
		list := must(c.UntaggedManifests(ctx, r, at(1), 0, 10))(t)
		if len(list) != 2 || list[0].Digest != one.Digest || list[1].Digest != two.Digest {
			t.Errorf("untagged: %+v", list)
		}
		equal(t, len(must(c.UntaggedManifests(ctx, r, now, 0, 10))(t)), 0)
	})
}

// TestExpire: only what still stands as it was decided about goes, and a manifest with its last tag.
func TestExpire(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "app")
		m := pushImage(t, c, r, "one", "a", "b", "c")
		a := catalog.Act{By: "retention", Now: now, Restore: time.Hour}
		expire := func(tags map[string]time.Time) catalog.Expired {
			t.Helper()
			return must(c.Expire(ctx, catalog.Expiry{Repo: r, Digest: m.Digest, Tags: tags}, a))(t)
		}
		equal(t, expire(map[string]time.Time{"a": now, "b": now.Add(-time.Second), "x": now}), catalog.Expired{Tags: []string{"a"}})
		equal(t, expire(map[string]time.Time{"a": now}), catalog.Expired{})
		equal(t, expire(nil), catalog.Expired{})
		lay(t, c, `immutable: [{repositories: "**", tags: c}]`)
		_, err := c.Expire(ctx, catalog.Expiry{Repo: r, Digest: m.Digest, Tags: map[string]time.Time{"b": now, "c": now}}, a)
		wantRefusal(t, err, "c of app")
		equal(t, must(c.Tags(ctx, r, "", 10))(t), []string{"b", "c"})
		lay(t, c, "")
		equal(t, expire(map[string]time.Time{"b": now, "c": now}), catalog.Expired{Tags: []string{"b", "c"}, Manifest: true})
		equal(t, expire(map[string]time.Time{"b": now}), catalog.Expired{})
		out := must(c.RestoreManifest(ctx, r, m.Digest, a))(t)
		equal(t, out.Tags, []string{"b", "c"})
	})
}

package catalog_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
)

// byAnn is something that ann does.
func byAnn() catalog.Act { return catalog.Act{By: "ann", Now: now} }

// named is what a tag names, "" if there is none.
func named(t testing.TB, c *catalog.Catalog, r oci.Repository, tag string) string {
	t.Helper()
	m, err := c.Manifest(t.Context(), r, oci.Reference{Tag: tag})
	if errors.Is(err, catalog.ErrNotFound) {
		return ""
	}
	ok(t, err)
	return m.Digest.String()
}

// moves is a tag's history as "kind digest", the newest first.
func moves(t testing.TB, c *catalog.Catalog, r oci.Repository, tag string) []string {
	t.Helper()
	out := []string{}
	for _, m := range must(c.TagHistory(t.Context(), r, tag, 0, 0))(t) {
		if m.By != "ann" || !m.At.Equal(now) || m.Tag != tag {
			t.Fatalf("move is %+v", m)
		}
		out = append(out, m.Kind+" "+m.Digest.Short())
	}
	return out
}

// TestTagHistory: each move of a tag is written down once, and what names the same is none.
func TestTagHistory(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "a")
		one := pushImage(t, c, r, "one", "v1", "v2")
		two := pushImage(t, c, r, "two")
		put(t, c, r, one, "v1")
		put(t, c, r, two, "v1")
		ok(t, c.DeleteTag(ctx, r, "v1", byAnn()))
		put(t, c, r, one, "v1")
		ok(t, c.DeleteManifest(ctx, r, one.Digest, byAnn()))
		d1, d2 := one.Digest.Short(), two.Digest.Short()
		equal(t, moves(t, c, r, "v1"), []string{"untag " + d1, "tag " + d1, "untag " + d2, "tag " + d2, "tag " + d1})
		equal(t, moves(t, c, r, "v2"), []string{"untag " + d1, "tag " + d1})
		equal(t, moves(t, c, r, ""), []string{"delete " + d1, "push " + d2, "push " + d1})
		equal(t, moves(t, c, r, "never"), []string{})
		_, err := c.TagHistory(ctx, repo(t, "none"), "v1", 0, 0)
		wantErr(t, err, catalog.ErrNoRepository)

		all := must(c.TagHistory(ctx, r, "v1", 0, 0))(t)
		equal(t, must(c.TagHistory(ctx, r, "v1", 0, 2))(t), all[:2])
		equal(t, must(c.TagHistory(ctx, r, "v1", all[1].ID, 2))(t), all[2:4])
	})
}

// TestFailedPushHasNoHistory: a push that is refused writes down nothing.
func TestFailedPushHasNoHistory(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		r := repo(t, "a")
		one := pushImage(t, c, r, "one", "v1")
		two := imageOf(t, pushBlob(t, c, r, "c"), nil, nil)
		_, err := c.PutManifest(t.Context(), catalog.NewManifest{Repo: r, Manifest: two, Tags: []string{"v1", "v2"}, By: "ann", Now: now,
			If: catalog.Condition{Tag: "v1", Absent: true}})
		wantErr(t, err, catalog.ErrCondition)
		equal(t, moves(t, c, r, "v1"), []string{"tag " + one.Digest.Short()})
		equal(t, moves(t, c, r, "v2"), []string{})
		equal(t, moves(t, c, r, ""), []string{"push " + one.Digest.Short()})
	})
}

// TestUndoTag: a tag goes back to what it named before its last move, and again forth.
func TestUndoTag(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "a")
		one, two := pushImage(t, c, r, "one", "v1"), pushImage(t, c, r, "two")
		_, err := c.UndoTag(ctx, r, "v1", byAnn())
		wantErr(t, err, catalog.ErrNothingBefore)
		_, err = c.UndoTag(ctx, r, "never", byAnn())
		wantErr(t, err, catalog.ErrNotFound)
		_, err = c.UndoTag(ctx, repo(t, "none"), "v1", byAnn())
		wantErr(t, err, catalog.ErrNoRepository)

		put(t, c, r, two, "v1")
		equal(t, must(c.UndoTag(ctx, r, "v1", byAnn()))(t), catalog.Undone{From: two.Digest, To: one.Digest})
		equal(t, named(t, c, r, "v1"), one.Digest.String())
		equal(t, must(c.UndoTag(ctx, r, "v1", byAnn()))(t), catalog.Undone{From: one.Digest, To: two.Digest})
		equal(t, named(t, c, r, "v1"), two.Digest.String())

		ok(t, c.DeleteTag(ctx, r, "v1", byAnn()))
		equal(t, must(c.UndoTag(ctx, r, "v1", byAnn()))(t), catalog.Undone{To: two.Digest})
		equal(t, named(t, c, r, "v1"), two.Digest.String())
		_, err = c.UndoTag(ctx, r, "v1", byAnn()) // it was not there before
		wantErr(t, err, catalog.ErrNothingBefore)

		put(t, c, r, one, "v1")
		ok(t, c.DeleteManifest(ctx, r, two.Digest, byAnn()))
		u, err := c.UndoTag(ctx, r, "v1", byAnn())
		wantErr(t, err, catalog.ErrManifestGone)
		equal(t, u.To, two.Digest)
		equal(t, named(t, c, r, "v1"), one.Digest.String())
	})
}

// TestUsage: what is written down of a repository's use is what a recount gives, whatever
// was done to it.
func TestUsage(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		repos := []oci.Repository{repo(t, "a"), repo(t, "a/b"), repo(t, "c")}
		seeds := []string{"one", "two", "three"}
		tags := []string{"v1", "v2", "v3"}
		ctx := t.Context()
		rapid.Check(t, func(t *rapid.T) {
			r := func() oci.Repository { return rapid.SampledFrom(repos).Draw(t, "repository") }
			seed := func() string { return rapid.SampledFrom(seeds).Draw(t, "seed") }
			tag := func() string { return rapid.SampledFrom(tags).Draw(t, "tag") }
			// Most of what is drawn is not there, and is to change nothing.
			may := func(err error) {
				var missing *catalog.Missing
				if err != nil && !errors.Is(err, catalog.ErrNotFound) && !errors.Is(err, catalog.ErrConflict) && !errors.As(err, &missing) &&
					!errors.Is(err, catalog.ErrNothingBefore) && !errors.Is(err, catalog.ErrManifestGone) {
					t.Fatal(err)
				}
			}
			blobOf := func() oci.Descriptor {
				content := seed() + rapid.SampledFrom([]string{" config", " layer"}).Draw(t, "part")
				return oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: digest(content), Size: int64(len(content))}
			}
			manifest := func() oci.Manifest {
				s := seed()
				part := func(p string) oci.Descriptor {
					return oci.Descriptor{MediaType: oci.MediaTypeImageConfig, Digest: digest(s + p), Size: int64(len(s + p))}
				}
				raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest,
					"config": part(" config"), "layers": []oci.Descriptor{part(" layer")}})
				may(err)
				m, err := oci.ParseManifest(oci.MediaTypeImageManifest, raw)
				may(err)
				return m
			}
			t.Repeat(map[string]func(*rapid.T){
				"push blob":   func(*rapid.T) { b := blobOf(); may(c.FinishUpload(ctx, "", r(), b.Digest, b.Size, now)) },
				"mount":       func(*rapid.T) { may(c.LinkBlob(ctx, r(), r(), blobOf().Digest, now)) },
				"delete blob": func(*rapid.T) { may(c.UnlinkBlob(ctx, r(), blobOf().Digest, byAnn())) },
				"push": func(t *rapid.T) {
					list := rapid.SliceOfNDistinct(rapid.SampledFrom(tags), 0, 3, rapid.ID).Draw(t, "tags")
					_, err := c.PutManifest(ctx, catalog.NewManifest{Repo: r(), Manifest: manifest(), Tags: list, By: "ann", Now: now})
					may(err)
				},
				"delete tag": func(*rapid.T) { may(c.DeleteTag(ctx, r(), tag(), byAnn())) },
				"delete":     func(*rapid.T) { may(c.DeleteManifest(ctx, r(), manifest().Digest, byAnn())) },
				"discard":    func(*rapid.T) { may(c.DeleteManifest(ctx, r(), manifest().Digest, discarding())) },
				"restore":    func(*rapid.T) { _, err := c.RestoreManifest(ctx, r(), manifest().Digest, byAnn()); may(err) },
				"purge":      func(*rapid.T) { may(c.PurgeManifest(ctx, r(), manifest().Digest, byAnn())) },
				"undo":       func(*rapid.T) { _, err := c.UndoTag(ctx, r(), tag(), byAnn()); may(err) },
				"collect": func(*rapid.T) {
					_, _, err := c.PruneLinks(ctx, catalog.LinkMark{}, now.Add(time.Second), 0, false)
					may(err)
				},
				"": func(t *rapid.T) {
					wrong, _, err := c.Usages(ctx, 0, 0, false)
					if err != nil || len(wrong) > 0 {
						t.Fatalf("written down and counted differ: %+v, %v", wrong, err)
					}
				},
			})
		})
	})
}

// TestUsageAtOnce: pushes to one repository at the same time are all counted.
func TestUsageAtOnce(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		r := repo(t, "a")
		one, two := pushImage(t, c, r, "one"), pushImage(t, c, r, "two")
		var work []func() error
		for _, tag := range numbered("v", 20) {
			for _, m := range []oci.Manifest{one, two} {
				work = append(work, func() error {
					_, err := c.PutManifest(t.Context(), catalog.NewManifest{Repo: r, Manifest: m, Tags: []string{tag}, Now: now})
					return err
				})
			}
			work = append(work, func() error {
				err := c.DeleteTag(t.Context(), r, tag, byAnn())
				if errors.Is(err, catalog.ErrNotFound) {
					err = nil
				}
				return errors.Join(err, c.FinishUpload(t.Context(), "", r, digest(tag), 7, now))
			})
		}
		ok(t, errors.Join(atOnce(work...)...))
		wrong, _, err := c.Usages(t.Context(), 0, 0, false)
		ok(t, err)
		if len(wrong) > 0 {
			t.Errorf("written down and counted differ: %+v", wrong)
		}
	})
}

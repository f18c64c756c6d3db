package catalog_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
)

func TestConditions(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		r := repo(t, "app")
		a, b := pushImage(t, c, r, "a", "v1"), pushImage(t, c, r, "b")
		other := digest("other")
		for i, tc := range []struct {
			tag   string
			cond  catalog.Condition
			holds bool
		}{
			{"v1", catalog.Condition{Absent: true}, false},
			{"v1", catalog.Condition{IsNot: []oci.Digest{a.Digest}}, false},
			{"v1", catalog.Condition{Is: []oci.Digest{other}}, false},
			{"v1", catalog.Condition{Is: []oci.Digest{a.Digest}, IsNot: []oci.Digest{a.Digest}}, false},
			{"new", catalog.Condition{Present: true}, false},
			{"new", catalog.Condition{Is: []oci.Digest{a.Digest}}, false},
			{"", catalog.Condition{Absent: true}, false}, // b is there
			{"v1", catalog.Condition{Present: true}, true},
			{"v1", catalog.Condition{Is: []oci.Digest{other, b.Digest}}, true}, // the case before made it so
			{"v1", catalog.Condition{IsNot: []oci.Digest{other}}, true},
			{"new", catalog.Condition{Absent: true}, true},
			{"newer", catalog.Condition{IsNot: []oci.Digest{other}}, true},
			{"", catalog.Condition{Present: true}, true},
		} {
			before, _ := c.Manifest(t.Context(), r, oci.Reference{Tag: "v1"})
			m := catalog.NewManifest{Repo: r, Manifest: b, By: "ann", Now: now, If: tc.cond}
			if m.If.Tag = tc.tag; tc.tag != "" {
				m.Tags = []string{"beside", tc.tag}
			}
			_, err := c.PutManifest(t.Context(), m)
			if (err == nil) != tc.holds || err != nil && !errors.Is(err, catalog.ErrCondition) {
				t.Fatalf("case %d: %v", i, err)
			}
			if _, err := c.Manifest(t.Context(), r, oci.Reference{Tag: "beside"}); !tc.holds && !errors.Is(err, catalog.ErrNotFound) {
				t.Fatalf("case %d: the other tag was made: %v", i, err)
			}
			if after, _ := c.Manifest(t.Context(), r, oci.Reference{Tag: "v1"}); !tc.holds && after.Digest != before.Digest {
				t.Fatalf("case %d: v1 was moved", i)
			}
		}
	})
}

// Of many who create the same tag at once one does.
func TestCreateOnce(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		r := repo(t, "app")
		var images []oci.Manifest
		for i := range 6 {
			images = append(images, pushImage(t, c, r, fmt.Sprint(i)))
		}
		for round := range 5 {
			tag := fmt.Sprintf("v%d", round)
			errs := make([]error, len(images))
			var wg sync.WaitGroup
			for i, m := range images {
				wg.Go(func() {
					_, errs[i] = c.PutManifest(t.Context(), catalog.NewManifest{Repo: r, Manifest: m, Tags: []string{tag}, By: "ann", Now: now,
						If: catalog.Condition{Tag: tag, Absent: true}})
				})
			}
			wg.Wait()
			made := -1
			for i, err := range errs {
				switch {
				case err == nil && made >= 0:
					t.Fatalf("%s was created twice", tag)
				case err == nil:
					made = i
				case !errors.Is(err, catalog.ErrCondition):
					t.Fatal(err)
				}
			}
			if made < 0 {
				t.Fatalf("nobody created %s: %v", tag, errs)
			}
			equal(t, must(c.Manifest(t.Context(), r, oci.Reference{Tag: tag}))(t).Digest, images[made].Digest)
		}
	})
}

func TestWrongSize(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		r := repo(t, "app")
		config, layer := pushBlob(t, c, r, "config"), pushBlob(t, c, r, "layer")
		wrong := layer
		wrong.Size++
		_, err := c.PutManifest(t.Context(), catalog.NewManifest{Repo: r, Manifest: imageOf(t, config, []oci.Descriptor{layer, wrong}, nil), Now: now})
		var size *catalog.Size
		if !errors.As(err, &size) || size.Blob != 2 || size.Digest != layer.Digest || size.Stated != 6 || size.Has != 5 {
			t.Fatalf("error %v, %+v", err, size)
		}
	})
}

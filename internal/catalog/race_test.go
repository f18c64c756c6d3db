package catalog_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/vuln"
)

// atOnce runs functions side by side and returns their errors.
func atOnce(fs ...func() error) []error {
	errs := make([]error, len(fs))
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i, f := range fs {
		wg.Go(func() {
			<-start
			errs[i] = f()
		})
	}
	close(start)
	wg.Wait()
	return errs
}

// Of a push and a deletion of a blob that it needs, one gives way: no manifest is left
// without its blobs.
func TestUnlinkBesidePush(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "app")
		pushed, refused := 0, 0
		for i := range 30 {
			layer := pushBlob(t, c, r, fmt.Sprint("layer ", i))
			m := imageOf(t, pushBlob(t, c, r, fmt.Sprint("config ", i)), []oci.Descriptor{layer}, nil)
			errs := atOnce(func() error {
				_, err := c.PutManifest(ctx, catalog.NewManifest{Repo: r, Manifest: m, Tags: []string{"v1"}, Now: now})
				return err
			}, func() error { return c.UnlinkBlob(ctx, r, layer.Digest, byAnn()) })
			var missing *catalog.Missing
			switch {
			case errs[0] == nil && errors.Is(errs[1], catalog.ErrConflict):
				pushed++
				must(c.Blob(ctx, r, layer.Digest))(t)
			case errors.As(errs[0], &missing) && errs[1] == nil:
				refused++
				_, err := c.Manifest(ctx, r, oci.Reference{Digest: m.Digest})
				wantErr(t, err, catalog.ErrNotFound)
			default:
				t.Fatalf("push: %v, deletion: %v", errs[0], errs[1])
			}
		}
		t.Logf("the push won %d times, the deletion %d times", pushed, refused)
	})
}

// A manifest that is deleted in one repository while it is pushed to another is there
// afterwards, whole.
func TestDeleteBesidePush(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, a, b := t.Context(), repo(t, "a"), repo(t, "b")
		for i := range 20 {
			seed := fmt.Sprint("img ", i)
			m := pushImage(t, c, a, seed)
			for _, d := range m.Blobs() {
				ok(t, c.LinkBlob(ctx, a, b, d.Digest, now))
			}
			errs := atOnce(func() error { return c.DeleteManifest(ctx, a, m.Digest, catalog.Act{}) }, func() error {
				_, err := c.PutManifest(ctx, catalog.NewManifest{Repo: b, Manifest: m, Tags: []string{"v1"}, Now: now})
				return err
			})
			ok(t, errors.Join(errs...))
			equal(t, must(c.Manifest(ctx, b, oci.Reference{Tag: "v1"}))(t).Digest, m.Digest)
			holds(t, c, m, goNet)
		}
	})
}

// Pushes of the same things at once make them once.
func TestSamePushAtOnce(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		var mu sync.Mutex
		created := 0
		var pushes []func() error
		for i := range 8 {
			pushes = append(pushes, func() error {
				r := repo(t, fmt.Sprint("team/app", i%2))
				for _, content := range []string{"config", "layer"} {
					if err := c.FinishUpload(ctx, "", r, digest(content), int64(len(content)), now); err != nil {
						return err
					}
				}
				m := imageOf(t, oci.Descriptor{Digest: digest("config"), Size: 6}, []oci.Descriptor{{MediaType: "l", Digest: digest("layer"), Size: 5}}, nil)
				is, err := c.PutManifest(ctx, catalog.NewManifest{Repo: r, Manifest: m, Tags: []string{"v1"}, Now: now})
				mu.Lock()
				defer mu.Unlock()
				if is {
					created++
				}
				return err
			})
		}
		ok(t, errors.Join(atOnce(pushes...)...))
		equal(t, created, 2)
		equal(t, len(due(t, c, now)), 1)
	})
}

// However images and advisories come in beside each other, each image ends with the
// findings of all advisories, and is due or was judged on them.
func TestImagesBesideAdvisories(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "app")
		keys := []inventory.Key{debianSSL, alpineSSL, alpineBusy, goNet, lodash}
		ecosystems := []string{"Debian", "Alpine", "Go", "npm"}
		var images []oci.Manifest
		var work []func() error
		for i := range 12 {
			m := pushImage(t, c, r, fmt.Sprint("img ", i))
			images = append(images, m)
			work = append(work, func() error {
				img := inventory.Image{Manifest: m.Digest, ExtractedBy: "x"}
				for n := range 3 {
					k := keys[(i+n)%len(keys)]
					img.Packages = append(img.Packages, inventory.Placed{Package: inventory.Package{Key: k, Type: typeOf(k.Ecosystem)}})
				}
				at, err := c.ManifestByDigest(ctx, m.Digest)
				if err != nil {
					return err
				}
				if err := c.PutImage(ctx, img); err != nil {
					return err
				}
				found, err := c.Findings(ctx, m.Digest)
				if err != nil {
					return err
				}
				err = c.KeepVerdict(ctx, m.Digest, at.Generation, policy.Verdict{Decision: policy.Allow, At: now}, catalog.Counts{High: len(found)})
				if errors.Is(err, catalog.ErrConflict) {
					return nil // it is due again
				}
				return err
			})
		}
		for _, eco := range ecosystems {
			list := records(t, eco)
			work = append(work, func() error {
				_, err := c.PutAdvisories(ctx, feed(eco), all(list))
				return err
			})
		}
		ok(t, errors.Join(atOnce(work...)...))
		dueNow := due(t, c, time.Now().Add(time.Hour))
		for i, m := range images {
			want := 0
			for n := range 3 {
				k := keys[(i+n)%len(keys)]
				fresh := must(c.AdvisoriesFor(ctx, k))(t)
				found, _ := vuln.Match(k, fresh)
				want += len(found)
			}
			got := must(c.Findings(ctx, m.Digest))(t)
			if len(got) != want {
				t.Errorf("image %d has %d findings, want %d", i, len(got), want)
			}
			_, n, err := c.Verdict(ctx, m.Digest)
			ok(t, err)
			if n.High != want && !slices.Contains(dueNow, m.Digest) {
				t.Errorf("image %d was judged on %d findings of %d and is not due", i, n.High, want)
			}
		}
	})
}

// Many workers claim: nothing twice, and nothing is left.
func TestClaimsAtOnce(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "app")
		var images []oci.Manifest
		for i := range 40 {
			images = append(images, pushImage(t, c, r, fmt.Sprint("img ", i)))
		}
		var mu sync.Mutex
		seen := map[oci.Digest]int{}
		var workers []func() error
		for range 6 {
			workers = append(workers, func() error {
				for {
					ds, err := c.Due(ctx, now, time.Minute, 3)
					if err != nil {
						return err
					}
					mu.Lock()
					for _, d := range ds {
						seen[d]++
					}
					done := len(seen) == len(images)
					mu.Unlock()
					if done {
						return nil
					}
					for _, d := range ds {
						if err := catalogtest.Judge(ctx, c, d, policy.Verdict{Decision: policy.Allow, At: now}, catalog.Counts{}); err != nil {
							return err
						}
					}
				}
			})
		}
		ok(t, errors.Join(atOnce(workers...)...))
		for d, n := range seen {
			if n != 1 {
				t.Errorf("%s was claimed %d times", d, n)
			}
		}
		events := must(c.Events(ctx, 0, 0))(t)
		for i, e := range events {
			if e.ID != int64(i+1) {
				t.Fatalf("event %d has the id %d", i, e.ID)
			}
		}
	})
}

// Reads go on while a loading holds the writer.
func TestReadsBesideLoading(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "app")
		m := pushImage(t, c, r, "img", "v1")
		list := records(t, "npm")
		for i := range list {
			list[i].Summary = strings.Repeat("x", 4<<20)
		}
		reads := 0
		_, err := c.PutAdvisories(ctx, feed("npm"), func(yield func(vuln.Advisory, error) bool) {
			for _, a := range list {
				got, err := c.Manifest(ctx, r, oci.Reference{Tag: "v1"})
				if err == nil && got.Digest == m.Digest {
					reads++
				}
				if !yield(a, err) {
					return
				}
			}
		})
		ok(t, err)
		equal(t, reads, len(list))
	})
}

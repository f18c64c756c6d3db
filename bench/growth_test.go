package bench

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// Of what is filled in: a hundred tags in a repository, but for one that has many.
const (
	tagsOfMost = 100
	tagsOfOne  = 10_000
)

// grown is a data folder with n images in n/100 repositories, and 10,000 tags of them in
// one more repository. The bytes of their layers are not there: nothing here reads them.
func grown(b *testing.B, n int) (data string) {
	b.Helper()
	data = loadedData(b)
	ctx := context.Background()
	cat, err := catalog.Open(ctx, "sqlite:"+filepath.Join(data, "catalog.db"))
	if err != nil {
		b.Fatal(err)
	}
	var g errgroup.Group
	g.SetLimit(64) // what comes together is committed together
	for i := range n {
		g.Go(func() error { return fill(ctx, cat, i, n) })
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(journaled(ctx, cat), cat.Close()); err != nil {
		b.Fatal(err)
	}
	return data
}

// journaled has the store's journal take what was filled in for written, as it would have
// been: else the server would make up for it beside what is measured.
func journaled(ctx context.Context, cat *catalog.Catalog) error {
	for {
		moves, err := cat.Unjournaled(ctx, 10_000)
		if err != nil || len(moves) == 0 {
			return err
		}
		if err := cat.MarkJournaled(ctx, moves); err != nil {
			return err
		}
	}
}

// settle waits until the journal's first snapshot is written.
func settle(b *testing.B, data string) {
	b.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		ends, err := filepath.Glob(filepath.Join(data, "journal", "s-*-end"))
		if err != nil {
			b.Fatal(err)
		}
		if len(ends) > 0 {
			return
		}
	}
	b.Fatal("the journal has no snapshot")
}

func fill(ctx context.Context, cat *catalog.Catalog, i, n int) error {
	now := time.Now()
	image := imageNumber(i)
	m, err := oci.ParseManifest(manifestType, image)
	if err != nil {
		return err
	}
	repos := map[string]string{fmt.Sprintf("grown/r%05d", i/tagsOfMost): fmt.Sprintf("t%03d", i%tagsOfMost)}
	if i < tagsOfOne {
		repos["grown/one"] = fmt.Sprintf("t%05d", i)
	}
	for name, tag := range repos {
		repo, err := oci.ParseRepository(name)
		if err != nil {
			return err
		}
		for _, d := range m.Blobs() {
			if err := cat.FinishUpload(ctx, "", repo, d.Digest, d.Size, now); err != nil {
				return err
			}
		}
		if _, err := cat.PutManifest(ctx, catalog.NewManifest{Repo: repo, Manifest: m, Tags: []string{tag}, By: "bench", Now: now}); err != nil {
			return err
		}
	}
	if err := cat.PutImage(ctx, inventory.Image{Manifest: m.Digest}); err != nil {
		return err
	}
	_, generation, err := cat.ToJudge(ctx, m.Digest)
	if err != nil {
		return err
	}
	return cat.KeepVerdict(ctx, m.Digest, generation, policy.Verdict{Decision: policy.Allow, At: now}, catalog.Counts{})
}

// imageNumber is the manifest of the i-th image, with a config and three layers of its own
// and one that all share.
func imageNumber(i int) []byte {
	part := func(name string, size int64) descriptor {
		sum := sha256.Sum256([]byte(name))
		return descriptor{"application/vnd.oci.image.layer.v1.tar+gzip", fmt.Sprintf("sha256:%x", sum), size}
	}
	m := manifest{2, manifestType, part(fmt.Sprint("config", i), 100), []descriptor{part("base", 1000)}}
	m.Config.MediaType = "application/vnd.oci.image.config.v1+json"
	for l := range 3 {
		m.Layers = append(m.Layers, part(fmt.Sprint("layer", i, "-", l), 200))
	}
	raw, _ := json.Marshal(m) // of strings and numbers
	return raw
}

// BenchmarkGrowth measures the same requests on registries of 1, 10 and 100 thousand images.
func BenchmarkGrowth(b *testing.B) {
	sizes := []int{1000, 10_000, 100_000}
	figures := map[string][]string{}
	var order []string
	for b.Loop() {
		for _, n := range sizes {
			data := grown(b, n)
			p := pratique(b, data)
			settle(b, data)
			c := newClient(p.base, 0)
			note := func(name string, do func(i int) error) {
				took := make([]time.Duration, 0, 301)
				for i := range 301 {
					t := time.Now()
					if err := do(i * (n - 1) / 301); err != nil {
						b.Fatal(err)
					}
					took = append(took, time.Since(t))
				}
				if len(figures[name]) == 0 {
					order = append(order, name)
				}
				figures[name] = append(figures[name], fmt.Sprintf("%.2f", float64(median(took).Microseconds())/1000))
			}
			requests(c, n, note)
			c.http.CloseIdleConnections()
			p.stop(b)
		}
	}
	for _, name := range order {
		of := "1/10/100"
		if len(figures[name]) < len(sizes) {
			of = "10/100"
		}
		row(name+", "+of+" thousand images", strings.Join(figures[name], " / ")+" ms", "flat")
	}
}

func requests(c *client, n int, note func(name string, do func(i int) error)) {
	read := func(method, path string, args ...any) error {
		_, err := c.do(method, fmt.Sprintf(path, args...), nil, 0, "", http.StatusOK, io.Discard)
		return err
	}
	note("manifest by tag", func(i int) error {
		return read(http.MethodGet, "/v2/grown/r%05d/manifests/t%03d", i/tagsOfMost, i%tagsOfMost)
	})
	note("manifest by digest", func(i int) error {
		return read(http.MethodGet, "/v2/grown/r%05d/manifests/%s", i/tagsOfMost, digestOf(imageNumber(i)))
	})
	note("HEAD of a blob", func(i int) error {
		var m manifest
		if err := json.Unmarshal(imageNumber(i), &m); err != nil {
			return err
		}
		return read(http.MethodHead, "/v2/grown/r%05d/blobs/%s", i/tagsOfMost, m.Layers[1].Digest)
	})
	note("HEAD of the blob that all share", func(i int) error {
		return read(http.MethodHead, "/v2/grown/r%05d/blobs/%s", i/tagsOfMost, digestOf([]byte("base")))
	})
	note("referrers of a manifest that has none", func(i int) error {
		return read(http.MethodGet, "/v2/grown/r%05d/referrers/%s", i/tagsOfMost, digestOf(imageNumber(i)))
	})
	note("100 of a repository's tags", func(i int) error {
		return read(http.MethodGet, "/v2/grown/one/tags/list?n=100&last=t%05d", i%min(n, tagsOfOne))
	})
	note("100 repositories", func(i int) error {
		return read(http.MethodGet, "/v2/_catalog?n=100&last=grown/r%05d", i/tagsOfMost)
	})
	note("push of a small image", func(i int) error {
		_, err := c.pushSmall("grown/new", fmt.Sprint(i), 1000)
		return err
	})
	if n >= tagsOfOne {
		note("all 10,000 tags of a repository, ten pages", func(int) error { return c.allTags("grown/one") })
	}
	note("delete of a tag", func(i int) error {
		if _, err := c.do(http.MethodDelete, fmt.Sprintf("/v2/grown/one/manifests/t%05d", i%min(n, tagsOfOne)), nil, 0, "", http.StatusAccepted, io.Discard); err != nil && !strings.Contains(err.Error(), "404") {
			return err
		}
		return nil
	})
}

// allTags reads the list of a repository's tags to its end, as clients do.
func (c *client) allTags(repo string) error {
	for next := "/v2/" + repo + "/tags/list?n=1000"; next != ""; {
		head, err := c.do(http.MethodGet, next, nil, 0, "", http.StatusOK, io.Discard)
		if err != nil {
			return err
		}
		link := head.Get("Link") // <URL>; rel="next"
		next = strings.Trim(strings.TrimSuffix(link, `; rel="next"`), "<>")
	}
	return nil
}

package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// emptyCatalog makes a catalog's file in a folder, its schema in place.
func emptyCatalog(t *testing.T, dir string) string {
	t.Helper()
	file := filepath.Join(dir, "catalog.db")
	c := must(catalog.Open(t.Context(), "sqlite:"+file))(t)
	ok(t, c.Close())
	return file
}

// act is one transaction of a push, and how to see that it was done.
type act struct {
	name string
	do   func(*catalog.Catalog) error
	done func(*catalog.Catalog) error
}

// pushActs are the transactions of the push of an image named after seed.
func pushActs(t *testing.T, seed string) []act {
	r, ctx := repo(t, "app"), context.Background()
	config, layer := blobOf(seed+" config"), blobOf(seed+" layer")
	m := imageOf(t, config, []oci.Descriptor{layer}, nil)
	acts := []act{
		{"upload", func(c *catalog.Catalog) error {
			return c.PutUpload(ctx, catalog.Upload{ID: seed, Repo: r, By: "ann", State: []byte("{}"), Started: now, Touched: now})
		}, func(c *catalog.Catalog) error { _, err := c.Upload(ctx, r, seed); return err }},
	}
	for _, b := range []oci.Descriptor{config, layer} {
		acts = append(acts, act{"blob",
			func(c *catalog.Catalog) error { return c.FinishUpload(ctx, "", r, b.Digest, b.Size, now) },
			func(c *catalog.Catalog) error { _, err := c.Blob(ctx, r, b.Digest); return err }})
	}
	return append(acts, act{"manifest",
		func(c *catalog.Catalog) error {
			_, err := c.PutManifest(ctx, catalog.NewManifest{Repo: r, Manifest: m, Tags: []string{seed}, By: "ann", Now: now})
			return err
		},
		func(c *catalog.Catalog) error {
			got, err := c.Manifest(ctx, r, oci.Reference{Tag: seed})
			if err == nil && got.Digest != m.Digest {
				err = fmt.Errorf("tag %s names %s", seed, got.Digest)
			}
			return err
		}})
}

func blobOf(content string) oci.Descriptor {
	return oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: digest(content), Size: int64(len(content))}
}

// sound opens what is left of a catalog and checks it against what was acknowledged.
func sound(t *testing.T, what, file string, acked []act) {
	t.Helper()
	c, err := catalog.Open(t.Context(), "sqlite:"+file)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for _, a := range acked {
		if err := a.done(c); err != nil {
			t.Errorf("%s: %s was acknowledged and is gone: %v", what, a.name, err)
		}
	}
	var said string
	ok(t, c.DB().QueryRow(`pragma integrity_check`).Scan(&said))
	equal(t, said, "ok")
	rows, err := c.DB().Query(`pragma foreign_key_check`)
	ok(t, err)
	if rows.Next() {
		t.Errorf("%s: a row refers to nothing", what)
	}
	ok(t, errors.Join(rows.Err(), rows.Close()))
	ok(t, c.Close())
}

// TestDiskFaults lets each write and sync of a few pushes go wrong in turn: what failed
// left no trace and can be done again, what did not is there, also after a power cut.
func TestDiskFaults(t *testing.T) {
	template := must(os.ReadFile(emptyCatalog(t, t.TempDir())))(t)
	d, vfsName := newDisk(t)
	run := func(at int, full bool) (ran int) {
		what := fmt.Sprintf("operation %d, full %v", at, full)
		dir := t.TempDir()
		file := filepath.Join(dir, "catalog.db")
		ok(t, os.WriteFile(file, template, 0o600))
		d.forget()
		c := must(catalog.Open(t.Context(), "sqlite:"+file, catalog.WithVFS(vfsName)))(t)
		d.arm(at, false, full)
		var acked []act
		for _, a := range append(pushActs(t, "one"), pushActs(t, "two")...) {
			err := a.do(c)
			if err != nil {
				if !full && errors.Is(err, catalog.ErrNoSpace) || full && !errors.Is(err, catalog.ErrNoSpace) {
					t.Errorf("%s: %s: error %v", what, a.name, err)
				}
				wantErr(t, a.done(c), catalog.ErrNotFound)
				if err := a.do(c); err != nil {
					t.Errorf("%s: %s once more: %v", what, a.name, err)
				}
			}
			acked = append(acked, a)
		}
		ran = d.n
		if at > 0 && d.hits == 0 {
			t.Errorf("%s: never came", what)
		}
		left := t.TempDir()
		d.crash(t, rand.New(rand.NewPCG(uint64(at), 1)), left)
		sound(t, what+", power cut", filepath.Join(left, "catalog.db"), acked)
		ok(t, c.Close())
		if at%4 == 0 {
			sound(t, what, file, acked)
		}
		return ran
	}
	operations := run(0, false)
	if operations < 50 {
		t.Fatalf("only %d operations", operations)
	}
	for at := 1; at <= operations; at++ {
		run(at, at%2 == 0)
	}
}

// TestPowerCut cuts the power at random points of pushes that come in at once and are
// committed together.
func TestPowerCut(t *testing.T) {
	const cuts, pushers = 40, 4
	template := must(os.ReadFile(emptyCatalog(t, t.TempDir())))(t)
	d, vfsName := newDisk(t)
	for seed := range uint64(cuts) {
		rng := rand.New(rand.NewPCG(seed, 2))
		file := filepath.Join(t.TempDir(), "catalog.db")
		ok(t, os.WriteFile(file, template, 0o600))
		d.forget()
		c := must(catalog.Open(t.Context(), "sqlite:"+file, catalog.WithVFS(vfsName)))(t)
		c.CheckpointAt(20, 60) // so that the power also goes while the log is copied
		d.arm(1+rng.IntN(600), true, false)
		var mu sync.Mutex
		var wg sync.WaitGroup
		var acked []act
		for p := range pushers {
			var images [][]act
			for i := range 40 {
				images = append(images, pushActs(t, fmt.Sprintf("p%d-%d", p, i)))
			}
			wg.Go(func() {
				for _, acts := range images {
					for _, a := range acts {
						if a.do(c) != nil {
							return // no power
						}
						mu.Lock()
						acked = append(acked, a)
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		left := t.TempDir()
		d.crash(t, rng, left)
		sound(t, fmt.Sprintf("cut %d after %d transactions", seed, len(acked)), filepath.Join(left, "catalog.db"), acked)
		_ = c.Close() // its disk has no power
	}
}

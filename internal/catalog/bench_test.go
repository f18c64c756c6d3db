package catalog_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/vuln"
)

// onBoth runs a benchmark on a file and on PostgreSQL.
func onBoth(b *testing.B, bench func(b *testing.B, c *catalog.Catalog)) {
	run := func(dsn func(b *testing.B) string) func(b *testing.B) {
		return func(b *testing.B) {
			c := must(catalog.Open(b.Context(), dsn(b)))(b)
			defer c.Close()
			bench(b, c)
		}
	}
	b.Run("sqlite", run(func(b *testing.B) string { return "sqlite:" + filepath.Join(b.TempDir(), "catalog.db") }))
	b.Run("postgres", run(func(b *testing.B) string { return catalogtest.Postgres(b) }))
}

// manyImages makes a catalog that is no longer small: 500 images with three tags each.
func manyImages(b *testing.B, c *catalog.Catalog) (oci.Repository, []oci.Manifest) {
	r := repo(b, "team/app")
	var out []oci.Manifest
	for i := range 500 {
		m := pushImage(b, c, r, fmt.Sprint("img", i), fmt.Sprint("a", i), fmt.Sprint("b", i), fmt.Sprint("c", i))
		ok(b, catalogtest.Judge(b.Context(), c, m.Digest, policy.Verdict{Decision: policy.Allow, At: now}, catalog.Counts{Low: 4}))
		out = append(out, m)
	}
	return r, out
}

func BenchmarkManifest(b *testing.B) {
	onBoth(b, func(b *testing.B, c *catalog.Catalog) {
		r, images := manyImages(b, c)
		b.Run("tag", func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				must(c.Manifest(b.Context(), r, oci.Reference{Tag: fmt.Sprint("b", i%len(images))}))(b)
			}
		})
		b.Run("digest", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				must(c.Manifest(b.Context(), r, oci.Reference{Digest: images[i%len(images)].Digest}))(b)
			}
		})
		b.Run("parallel", func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					must(c.Manifest(b.Context(), r, oci.Reference{Tag: fmt.Sprint("b", i%len(images))}))(b)
				}
			})
		})
		b.Run("blob", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				must(c.Blob(b.Context(), r, images[i%len(images)].Layers[1].Digest))(b)
			}
		})
		b.Run("sharedblob", func(b *testing.B) {
			for b.Loop() {
				must(c.Blob(b.Context(), r, images[0].Layers[0].Digest))(b)
			}
		})
	})
}

func BenchmarkPutManifest(b *testing.B) {
	onBoth(b, func(b *testing.B, c *catalog.Catalog) {
		r := repo(b, "team/app")
		config := pushBlob(b, c, r, "config")
		var layers []oci.Descriptor
		for i := range 60 {
			layers = append(layers, pushBlob(b, c, r, fmt.Sprint("layer", i)))
		}
		for i := 0; b.Loop(); i++ {
			put(b, c, r, imageOf(b, config, layers, map[string]any{"annotations": map[string]string{"n": fmt.Sprint(i)}}), "v1")
		}
	})
}

// BenchmarkPutImage keeps images of 400 packages; each has one package version that is new.
func BenchmarkPutImage(b *testing.B) {
	onBoth(b, func(b *testing.B, c *catalog.Catalog) {
		loadMany(b, c)
		m := pushImage(b, c, repo(b, "team/app"), "img")
		img := inventory.Image{Manifest: m.Digest, ExtractedBy: "x"}
		for i := range 400 {
			k := key("Debian:12", fmt.Sprint("openssl-", i), "3.0.11-1~deb12u2")
			img.Packages = append(img.Packages, inventory.Placed{Package: inventory.Package{Key: k, Type: "deb", PURL: "pkg:deb/debian/" + k.Name, Paths: []string{"var/lib/dpkg/status"}}, Layer: m.Layers[0].Digest})
		}
		b.Run("first", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				for n := range img.Packages {
					img.Packages[n].Version = fmt.Sprintf("3.0.11-%d", i)
				}
				ok(b, c.PutImage(b.Context(), img))
			}
		})
		b.Run("onenew", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				img.Packages[0].Version = fmt.Sprintf("3.0.12-%d", i)
				ok(b, c.PutImage(b.Context(), img))
			}
		})
		b.Run("findings", func(b *testing.B) {
			n := 0
			for b.Loop() {
				n = len(must(c.Findings(b.Context(), m.Digest))(b))
			}
			b.ReportMetric(float64(n), "findings")
		})
	})
}

// loadMany loads the real Debian records for 40 packages made after openssl.
func loadMany(b *testing.B, c *catalog.Catalog) int {
	list := records(b, "Debian")
	n := 0
	must(c.PutAdvisories(b.Context(), feed("Debian"), func(yield func(vuln.Advisory, error) bool) {
		for i := range 40 {
			for _, a := range list {
				a.ID = fmt.Sprintf("%s-%d", a.ID, i)
				of := append([]vuln.Affected(nil), a.Affected...)
				for j := range of {
					of[j].Name = fmt.Sprintf("%s-%d", of[j].Name, i)
				}
				a.Affected = of
				n++
				if !yield(a, nil) {
					return
				}
			}
		}
	}))(b)
	return n
}

func BenchmarkPutAdvisories(b *testing.B) {
	onBoth(b, func(b *testing.B, c *catalog.Catalog) {
		b.Run("new", func(b *testing.B) {
			n := 0
			for b.Loop() {
				must(c.PutAdvisories(b.Context(), feed("Debian"), all(nil)))(b)
				n = loadMany(b, c)
			}
			b.ReportMetric(float64(n), "records")
		})
		b.Run("unchanged", func(b *testing.B) {
			for b.Loop() {
				loadMany(b, c)
			}
		})
	})
}

func BenchmarkPutEPSS(b *testing.B) {
	onBoth(b, func(b *testing.B, c *catalog.Catalog) {
		for b.Loop() {
			ok(b, c.PutEPSS(b.Context(), now, func(yield func(catalog.EPSS, error) bool) {
				for i := range 300_000 {
					if !yield(catalog.EPSS{CVE: fmt.Sprintf("CVE-%d-%04d", 2000+i/12_000, i%12_000), Score: float32(i) / 300_000}, nil) {
						return
					}
				}
			}))
		}
	})
}

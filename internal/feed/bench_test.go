package feed

import (
	"archive/zip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/inventory"
)

// wanted picks n package names of the embedded snapshot, spread over the ecosystems given.
func wanted(tb testing.TB, n int, ecosystems ...string) []inventory.Key {
	tb.Helper()
	s, err := Embedded()
	if err != nil {
		tb.Fatal(err)
	}
	var all []inventory.Key
	for i, p := range s.parts {
		for _, e := range ecosystems {
			if _, ok := p.Covers[e]; !ok {
				continue
			}
			idx, err := s.files[i].index()
			if err != nil {
				tb.Fatal(err)
			}
			for _, name := range idx.ecosystems[e].names {
				all = append(all, inventory.Key{Ecosystem: e, Name: name, Version: "1.0-1"})
			}
		}
	}
	step := max(1, len(all)/n)
	var out []inventory.Key
	for i := 0; i < len(all) && len(out) < n; i += step {
		out = append(out, all[i])
	}
	for i := 0; len(out) < n; i++ {
		out = append(out, inventory.Key{Ecosystem: ecosystems[0], Name: fmt.Sprintf("unheard-of-%d", i), Version: "1"})
	}
	return out
}

// BenchmarkLookup asks a snapshot that was just opened for 2,000 packages, as a scan does.
func BenchmarkLookup(b *testing.B) {
	for _, set := range [][]string{
		{"Debian:11", "npm", "PyPI", "Go", "Maven"},
		{"AlmaLinux:9", "npm", "PyPI"},
	} {
		b.Run(set[0], func(b *testing.B) {
			keys := wanted(b, 2000, set...)
			b.ReportAllocs()
			found := 0
			for b.Loop() {
				s, err := openEmbedded()
				if err != nil {
					b.Fatal(err)
				}
				found = 0
				for _, k := range keys {
					as, err := s.Lookup(k)
					if err != nil {
						b.Fatal(err)
					}
					found += len(as)
				}
			}
			b.ReportMetric(float64(found), "advisories")
		})
	}
}

// BenchmarkEnrich reads the lists of a snapshot that was just opened.
func BenchmarkEnrich(b *testing.B) {
	for b.Loop() {
		s, err := openEmbedded()
		if err != nil {
			b.Fatal(err)
		}
		if score, ok := s.EPSS("CVE-2021-44228"); !ok || score < 0.9 || !s.Exploited("CVE-2021-44228") {
			b.Fatalf("Log4Shell: %v, %v", score, ok)
		}
	}
}

// dumpFolder is the -sources folder's dumps, or the embedded snapshot written as dumps.
func dumpFolder(tb testing.TB) string {
	tb.Helper()
	if *sources != "" {
		return filepath.Join(*sources, "osv")
	}
	dir := tb.TempDir()
	s, err := Embedded()
	if err != nil {
		tb.Fatal(err)
	}
	for i, p := range s.parts {
		if s.files[i] != nil {
			writeDump(tb, filepath.Join(dir, p.Ecosystem), s.files[i])
		}
	}
	return dir
}

func writeDump(tb testing.TB, dir string, part *partFile) {
	tb.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "all.zip"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z := zip.NewWriter(f)
	idx, err := part.index()
	if err != nil {
		tb.Fatal(err)
	}
	for n := range idx.blocks {
		b, err := part.readBlock(idx, n)
		if err != nil {
			tb.Fatal(err)
		}
		for i := range b.ends {
			w, err := z.Create(fmt.Sprintf("R-%06d.json", idx.blocks[n].first+i))
			if err == nil {
				_, err = w.Write(b.record(i))
			}
			if err != nil {
				tb.Fatal(err)
			}
		}
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkOpenDumps searches a folder of dumps for 2,000 packages.
func BenchmarkOpenDumps(b *testing.B) {
	dir := dumpFolder(b)
	for _, set := range [][]string{
		{"Debian:11", "npm", "PyPI", "Go", "Maven"},
		{"AlmaLinux:9", "Alpine:v3.11", "Debian:11", "npm", "PyPI", "Go", "Maven", "crates.io"},
	} {
		b.Run(fmt.Sprintf("%d-ecosystems", len(set)), func(b *testing.B) {
			keys := wanted(b, 2000, set...)
			b.ReportAllocs()
			for b.Loop() {
				d, err := OpenDumps(context.Background(), dir, keys, nil)
				if err != nil {
					b.Fatal(err)
				}
				if as, err := d.Lookup(keys[0]); err != nil || len(as) == 0 {
					b.Fatalf("%v: %d advisories, %v", keys[0], len(as), err)
				}
			}
		})
	}
}

// fresh opens a catalog in a file of its own.
func fresh(b *testing.B) *catalog.Catalog {
	b.Helper()
	cat, err := catalog.Open(context.Background(), "sqlite:"+filepath.Join(b.TempDir(), "catalog.db"))
	if err != nil {
		b.Fatal(err)
	}
	return cat
}

// BenchmarkLoadEmbedded loads the whole snapshot into an empty catalog, as the first start does.
func BenchmarkLoadEmbedded(b *testing.B) {
	for b.Loop() {
		cat := fresh(b)
		if err := LoadEmbedded(context.Background(), cat, nil); err != nil {
			b.Fatal(err)
		}
		if err := cat.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkImport imports a folder of dumps into an empty catalog, and once more.
func BenchmarkImport(b *testing.B) {
	dir := dumpFolder(b)
	for _, again := range []bool{false, true} {
		b.Run(fmt.Sprintf("again=%v", again), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				cat := fresh(b)
				if again {
					importAll(b, cat, dir)
				}
				b.StartTimer()
				importAll(b, cat, dir)
				b.StopTimer()
				if err := cat.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

func importAll(b *testing.B, cat *catalog.Catalog, dir string) {
	b.Helper()
	if _, err := Import(context.Background(), cat, dir, nil, time.Now()); err != nil {
		b.Fatal(err)
	}
}

package feed

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/inventory"
)

var now = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

// result finds what became of a file.
func result(t *testing.T, results []Result, name string) Result {
	t.Helper()
	i := slices.IndexFunc(results, func(r Result) bool { return r.File == name })
	if i < 0 {
		t.Fatalf("no result for %s in %+v", name, results)
	}
	return results[i]
}

// ids lists the advisories that the catalog has for a package.
func ids(t *testing.T, cat *catalog.Catalog, ecosystem, name string) []string {
	t.Helper()
	as, err := cat.AdvisoriesFor(ctx, inventory.Key{Ecosystem: ecosystem, Name: name, Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, a := range as {
		out = append(out, a.ID)
	}
	slices.Sort(out)
	return out
}

func record(id, ecosystem, name, fixed string) file {
	return file{id + ".json", []byte(`{"id":"` + id + `","modified":"2026-01-02T00:00:00Z","affected":[{"package":{"ecosystem":"` + ecosystem +
		`","name":"` + name + `"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"` + fixed + `"}]}]}]}`)}
}

// TestMain starts and ends the PostgreSQL of catalogtest.
func TestMain(m *testing.M) { os.Exit(catalogtest.Main(m)) }

func TestImport(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, cat *catalog.Catalog) {
		last := map[string]Event{}
		results, err := Import(ctx, cat, "testdata/osv", func(e Event) { last[e.Part] = e }, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range samples {
			r, n := result(t, results, e+"/all.zip"), len(records(t, e))
			if r.Ecosystem != e || r.Records != n || r.Added != n || r.Changed+r.Removed+r.Unchanged != 0 || r.AsOf.IsZero() || r.AsOf.After(now) {
				t.Errorf("%s: %+v; want %d added", e, r, n)
			}
			if l := last[e+"/all.zip"]; l.Done != n || l.Total != n || !l.Over || l.Bytes == 0 {
				t.Errorf("%s: progress ended at %+v", e, l)
			}
		}
		for k, as := range sampleKeys(t) {
			want := []string{}
			for _, a := range as {
				want = append(want, a.ID)
			}
			slices.Sort(want)
			if diff := gocmp.Diff(want, ids(t, cat, k.Ecosystem, k.Name)); diff != "" {
				t.Fatalf("%v (-want +got):\n%s", k, diff)
			}
		}
		again, err := Import(ctx, cat, "testdata/osv", nil, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range again {
			if !r.Same || r.Unchanged != r.Records || r.Added != 0 {
				t.Errorf("again: %+v", r)
			}
		}
		status, err := Status(ctx, cat)
		if err != nil || len(status) != len(samples) {
			t.Errorf("status %+v, %v", status, err)
		}
	})
}

// TestImportReplaces has a dump that says of its ecosystem all there is to say, and one
// that only adds.
func TestImportReplaces(t *testing.T) {
	cat := catalogtest.Open(t)
	dir := t.TempDir()
	imp := func(name string, files ...file) Result {
		t.Helper()
		path := put(t, dir, name, makeZip(t, zip.Deflate, files...))
		results, err := Import(ctx, cat, path, nil, now)
		if err != nil || len(results) != 1 {
			t.Fatalf("%+v, %v", results, err)
		}
		return results[0]
	}
	a, b, c := record("A-1", "npm", "x", "1"), record("B-1", "npm", "x", "2"), record("C-1", "npm", "x", "3")
	imp("npm/all.zip", a, b)
	if r := imp("npm/all.zip", b, c); r.Added != 1 || r.Removed != 1 || r.Unchanged != 1 {
		t.Errorf("replaced: %+v", r)
	}
	if r := imp("npm/all.zip", record("B-1", "npm", "x", "2.1"), c); r.Changed != 1 || r.Unchanged != 1 {
		t.Errorf("changed: %+v", r)
	}
	if r := imp("mine.zip", a); r.Added != 1 || r.Removed != 0 || r.Ecosystem != "" {
		t.Errorf("added: %+v", r)
	}
	if got, want := ids(t, cat, "npm", "x"), []string{"A-1", "B-1", "C-1"}; !slices.Equal(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
}

// TestAdditionsCoverNothing imports one record of an ecosystem, which must not make the
// rest of it look clean.
func TestAdditionsCoverNothing(t *testing.T) {
	cat := catalogtest.Open(t)
	f := record("A-1", "RubyGems", "x", "1")
	if _, err := Import(ctx, cat, put(t, t.TempDir(), f.name, f.data), nil, now); err != nil {
		t.Fatal(err)
	}
	covered, err := cat.CoveredEcosystems(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := covered["RubyGems"]; ok {
		t.Error("one record makes RubyGems covered")
	}
}

func TestImportRefuses(t *testing.T) {
	cat := catalogtest.Open(t)
	before := record("OLD-1", "Debian:12", "old", "1")
	if _, err := Import(ctx, cat, put(t, t.TempDir(), "Debian/all.zip", makeZip(t, zip.Deflate, before)), nil, now); err != nil {
		t.Fatal(err)
	}
	for name, tc := range badDumps(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, "Debian/all.zip", tc.data)
			put(t, dir, "Alpine/all.zip", makeZip(t, zip.Deflate, record("NEW-1", "Alpine:v3.11", name, "1")))
			results, err := Import(ctx, cat, dir, nil, now)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v; want %q", err, tc.want)
			}
			var fault *FileError
			if !errors.As(err, &fault) {
				t.Errorf("%v is no FileError", err)
			}
			if r := result(t, results, "Alpine/all.zip"); r.Err != nil || r.Records != 1 {
				t.Errorf("the sound file: %+v", r)
			}
			if got := ids(t, cat, "Alpine:v3.11", name); !slices.Equal(got, []string{"NEW-1"}) {
				t.Errorf("of the sound file there is %v", got)
			}
			if got := ids(t, cat, "Debian:12", "old"); !slices.Equal(got, []string{"OLD-1"}) {
				t.Errorf("of what was there before there is %v", got)
			}
		})
	}
}

// TestImportBrokenOff cancels while records are on their way into the catalog.
func TestImportBrokenOff(t *testing.T) {
	cat := catalogtest.Open(t)
	old := record("OLD-1", "npm", "old", "1")
	dir := t.TempDir()
	put(t, dir, "npm/all.zip", makeZip(t, zip.Deflate, old))
	if _, err := Import(ctx, cat, dir, nil, now); err != nil {
		t.Fatal(err)
	}
	// More than the catalog reads ahead of its transaction.
	var versions []string
	for i := range 10 {
		versions = append(versions, fmt.Sprintf(`"1.0.%d-%s"`, i, strings.Repeat("a", 100_000)))
	}
	var files []file
	for i := range 40 {
		id := fmt.Sprintf("NEW-%d", i)
		files = append(files, file{id + ".json", []byte(`{"id":"` + id + `","affected":[{"package":{"ecosystem":"npm","name":"new"},"versions":[` +
			strings.Join(versions, ",") + `]}]}`)})
	}
	put(t, dir, "npm/all.zip", makeZip(t, zip.Deflate, files...))
	cctx, cancel := context.WithCancel(ctx)
	_, err := Import(cctx, cat, dir, func(e Event) {
		if e.Done > 36 {
			cancel()
		}
	}, now)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v; want %v", err, context.Canceled)
	}
	if got := ids(t, cat, "npm", "old"); !slices.Equal(got, []string{"OLD-1"}) {
		t.Errorf("of what was there before there is %v", got)
	}
	if got := ids(t, cat, "npm", "new"); len(got) != 0 {
		t.Errorf("%d records of the import that broke off are there", len(got))
	}
	results, err := Import(ctx, cat, dir, nil, now)
	if err != nil || results[0].Added != len(files) || results[0].Removed != 1 {
		t.Errorf("taken up again: %+v, %v", results, err)
	}
}

func TestImportLists(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, cat *catalog.Catalog) {
		dir := t.TempDir()
		for _, name := range []string{"kev/" + kevFile, "epss/epss_scores-current.csv.gz"} {
			raw, err := os.ReadFile(filepath.Join("testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			put(t, dir, filepath.Base(name), raw)
		}
		put(t, dir, kevSchema, []byte("{}"))
		results, err := Import(ctx, cat, dir, nil, now)
		if err != nil {
			t.Fatal(err)
		}
		if r := result(t, results, kevFile); r.Records < 10 || r.AsOf.Format("2006-01-02") != "2025-08-25" {
			t.Errorf("%+v", r)
		}
		if r := result(t, results, "epss_scores-current.csv.gz"); r.Records < 300 || r.AsOf.Format("2006-01-02") != "2026-08-16" {
			t.Errorf("%+v", r)
		}
		held := must(cat.Enrichments(ctx))(t)
		if len(held) != 2 || held[0].Records != results[1].Records+results[0].Records-held[1].Records {
			t.Errorf("the catalog holds %+v", held)
		}
	})
}

// sampleSnapshot is a snapshot of the samples.
func sampleSnapshot(t *testing.T) *Snapshot {
	t.Helper()
	dir := t.TempDir()
	buildSnapshot(t, "testdata", dir)
	s, err := openSnapshot(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLoadSnapshot(t *testing.T) {
	s := sampleSnapshot(t)
	catalogtest.Each(t, func(t *testing.T, cat *catalog.Catalog) {
		var parts []string
		tell := func(e Event) {
			if e.Over {
				parts = append(parts, e.Part)
			}
		}
		if err := s.load(ctx, cat, tell); err != nil {
			t.Fatal(err)
		}
		if len(parts) != len(s.parts) {
			t.Errorf("loaded %v", parts)
		}
		for k, as := range sampleKeys(t) {
			if got := ids(t, cat, k.Ecosystem, k.Name); len(got) != len(as) {
				t.Fatalf("%v: %v; want %d", k, got, len(as))
			}
		}
		parts = nil
		if err := s.load(ctx, cat, tell); err != nil || len(parts) != 0 {
			t.Errorf("loaded %v again, %v", parts, err)
		}
	})
}

// TestLoadSnapshotLeavesImports starts a program whose snapshot is older, or newer, than
// what is in the catalog.
func TestLoadSnapshotLeavesImports(t *testing.T) {
	cat, s := catalogtest.Open(t), sampleSnapshot(t)
	mine := record("MINE-1", "Debian:12", "mine", "1")
	if _, err := Import(ctx, cat, put(t, t.TempDir(), "Debian/all.zip", makeZip(t, zip.Deflate, mine)), nil, now); err != nil {
		t.Fatal(err)
	}
	if err := s.load(ctx, cat, nil); err != nil {
		t.Fatal(err)
	}
	if got := ids(t, cat, "Debian:12", "mine"); !slices.Equal(got, []string{"MINE-1"}) {
		t.Errorf("of the import there is %v", got)
	}
	before, err := Status(ctx, cat)
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.parts {
		s.parts[i].AsOf = s.parts[i].AsOf.AddDate(-1, 0, 0)
	}
	if err := s.load(ctx, cat, nil); err != nil {
		t.Fatal(err)
	}
	after, err := Status(ctx, cat)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(before, after, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("an older snapshot changed (-before +after):\n%s", diff)
	}
	for i := range s.parts {
		s.parts[i].AsOf = s.parts[i].AsOf.AddDate(2, 0, 0)
	}
	if err := s.load(ctx, cat, nil); err != nil {
		t.Fatal(err)
	}
	for _, e := range must(Status(ctx, cat))(t) {
		if newer := e.AsOf.Year() >= 2025 || e.Ecosystem == "Alpine" && e.AsOf.Year() == 2021; !newer && e.Ecosystem != "Debian" {
			t.Errorf("a newer snapshot did not replace %+v", e)
		}
	}
	if got := ids(t, cat, "Debian:12", "mine"); !slices.Equal(got, []string{"MINE-1"}) {
		t.Errorf("after a newer snapshot there is of the import %v", got)
	}
}

// must turns a result with an error into one without.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestLoadSnapshotBrokenOff(t *testing.T) {
	cat, s := catalogtest.Open(t), sampleSnapshot(t)
	cctx, cancel := context.WithCancel(ctx)
	n := 0
	err := s.load(cctx, cat, func(e Event) {
		if n++; n == 4 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v; want %v", err, context.Canceled)
	}
	if err := s.load(ctx, cat, nil); err != nil {
		t.Fatal(err)
	}
	if got := must(Status(ctx, cat))(t); len(got) != len(samples) {
		t.Errorf("taken up again: %+v", got)
	}
}

// TestImportLayouts has folders in which an ecosystem's records lie twice.
func TestImportLayouts(t *testing.T) {
	cat, dir := catalogtest.Open(t), t.TempDir()
	whole := makeZip(t, zip.Deflate, record("A-1", "npm", "x", "1"), record("B-1", "npm", "x", "2"))
	put(t, dir, "npm/all.zip", whole)
	a := record("A-1", "npm", "x", "1")
	put(t, dir, "npm/"+a.name, a.data) // as OSV's bucket has it: the same once more
	results, err := Import(ctx, cat, dir, nil, now)
	if err != nil || len(results) != 1 || results[0].Added != 2 {
		t.Fatalf("%+v, %v", results, err)
	}
	put(t, dir, "all.zip", makeZip(t, zip.Deflate, record("C-1", "npm", "x", "3")))
	results, err = Import(ctx, cat, dir, nil, now)
	if err == nil || !strings.Contains(err.Error(), "npm/all.zip: all.zip is the dump of npm too") {
		t.Errorf("two dumps of one ecosystem: %+v, %v", results, err)
	}
	put(t, dir, "npm/all.zip", []byte("PK\x03\x04, cut off"))
	if err := os.Remove(filepath.Join(dir, "all.zip")); err != nil {
		t.Fatal(err)
	}
	want := "npm/all.zip: a zip that is cut off or damaged (13 bytes): fetch it again: zip: not a valid zip file"
	if _, err := Import(ctx, cat, dir, nil, now); err == nil || err.Error() != want {
		t.Errorf("got %v; want %s", err, want)
	}
	put(t, dir, "npm/all.zip", makeZip(t, zip.Deflate, a, file{"X-1.json", []byte(`{"id":"X-1","modified":"yesterday"}`)}))
	want = `npm/all.zip!X-1.json: OSV record X-1: modified: "yesterday" is no time as RFC 3339 writes it: take the record out, or fetch the file again; nothing of the file was stored`
	if _, err := Import(ctx, cat, dir, nil, now); err == nil || err.Error() != want {
		t.Errorf("got %v; want %s", err, want)
	}
}

package feed

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/vuln"
)

var ctx = context.Background()

// file is one entry of a zip that a test makes.
type file struct {
	name string
	data []byte
}

func makeZip(t *testing.T, method uint16, files ...file) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, f := range files {
		w, err := z.CreateHeader(&zip.FileHeader{Name: f.name, Method: method})
		if err == nil {
			_, err = w.Write(f.data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// put writes a file below a folder and returns its name.
func put(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	full := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return full
}

func sample(t *testing.T, ecosystem string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "osv", ecosystem, "all.zip"))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// records unpacks the sample of an ecosystem.
func records(t *testing.T, ecosystem string) []file {
	t.Helper()
	d := openOne(t, filepath.Join("testdata", "osv", ecosystem, "all.zip"))
	var out []file
	var buf bytes.Buffer
	for _, e := range d.entries {
		raw, err := e.read(&buf)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, file{e.name, slices.Clone(raw)})
	}
	return out
}

var samples = []string{"AlmaLinux", "Alpine", "Debian", "Go", "Maven", "PyPI", "crates.io", "npm"}

// sampleKeys lists every package that the samples name, by parsing all of them.
func sampleKeys(t *testing.T) map[inventory.Key][]vuln.Advisory {
	t.Helper()
	want := map[inventory.Key][]vuln.Advisory{}
	for _, e := range samples {
		d := dump{ecosystem: e}
		for _, f := range records(t, e) {
			a, err := d.parse(f.data)
			if err != nil {
				t.Fatal(err)
			}
			seen := map[inventory.Key]bool{}
			for _, p := range a.Affected {
				k := inventory.Key{Ecosystem: p.Ecosystem, Name: p.Name}
				if seen[k] {
					continue
				}
				seen[k] = true
				own := a
				own.Affected = slices.DeleteFunc(slices.Clone(a.Affected), func(q vuln.Affected) bool {
					return q.Ecosystem != p.Ecosystem || q.Name != p.Name
				})
				want[k] = append(want[k], own)
			}
		}
	}
	return want
}

func keysOf(m map[inventory.Key][]vuln.Advisory) []inventory.Key {
	var keys []inventory.Key
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

func byID(a, b vuln.Advisory) int { return strings.Compare(a.ID, b.ID) }

func checkLookup(t *testing.T, d *Dumps, want map[inventory.Key][]vuln.Advisory) {
	t.Helper()
	for k, as := range want {
		got, err := d.Lookup(k)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(got, byID)
		slices.SortFunc(as, byID)
		if diff := gocmp.Diff(as, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%v (-want +got):\n%s", k, diff)
		}
	}
}

func TestOpenDumps(t *testing.T) {
	want := sampleKeys(t)
	last := map[string]int{}
	d, err := OpenDumps(ctx, "testdata/osv", keysOf(want), func(e Event) { last[e.Part] = e.Done })
	if err != nil {
		t.Fatal(err)
	}
	checkLookup(t, d, want)
	for k := range want {
		if !d.Covers(k.Ecosystem) {
			t.Errorf("%s is not covered", k.Ecosystem)
		}
	}
	for _, e := range []string{"Debian:99", "Debian", "Alpine:edge", "NuGet", "RubyGems", "wolfi:20230201", ""} {
		if d.Covers(e) {
			t.Errorf("%q is covered", e)
		}
	}
	if len(d.Parts()) != len(samples) || last["Debian/all.zip"] != len(records(t, "Debian")) {
		t.Errorf("%d parts, progress %v", len(d.Parts()), last)
	}
	if got := d.AsOf().Format("2006-01"); got != "2026-08" {
		t.Errorf("as of %s", got)
	}
	if _, err := d.Lookup(inventory.Key{Ecosystem: "npm", Name: "not-asked-for"}); err == nil {
		t.Error("a package that was not searched for is answered")
	}
}

// TestOpenDumpsOf has all ways to lay out one ecosystem.
func TestOpenDumpsOf(t *testing.T) {
	all := sampleKeys(t)
	want := map[inventory.Key][]vuln.Advisory{}
	for k, as := range all {
		if base(k.Ecosystem) == "Debian" {
			want[k] = as
		}
	}
	raw, loose := sample(t, "Debian"), records(t, "Debian")
	dir := t.TempDir()
	inFolder := func(folder string) string {
		for _, f := range loose {
			put(t, filepath.Join(dir, folder), f.name, f.data)
		}
		return filepath.Join(dir, folder)
	}
	single := file{"Debian/all.zip", raw}
	for _, tc := range []struct {
		name, path string
		covers     bool
	}{
		{"zip in its folder", put(t, dir, "a/Debian/all.zip", raw), true},
		{"folder of the zip", filepath.Dir(put(t, dir, "b/Debian/all.zip", raw)), true},
		{"zip alone, told by its records", put(t, dir, "c/all.zip", raw), true},
		{"zip of zips, stored", put(t, dir, "d/osv.zip", makeZip(t, zip.Store, single, file{"README.md", nil})), true},
		{"zip of zips, deflated", put(t, dir, "e/osv.zip", makeZip(t, zip.Deflate, single)), true},
		{"files in a folder of the ecosystem", filepath.Dir(inFolder("f/Debian")), true},
		{"files in any folder", inFolder("g/mine"), false},
		{"zip of another name", put(t, dir, "h/mine.zip", raw), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, err := OpenDumps(ctx, tc.path, keysOf(want), nil)
			if err != nil {
				t.Fatal(err)
			}
			checkLookup(t, d, want)
			if got := d.Covers("Debian:12"); got != tc.covers {
				t.Errorf("covers Debian:12: %v", got)
			}
		})
	}
}

func TestOpenDumpsSkipsWhatIsNotWanted(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "npm/all.zip", sample(t, "npm"))
	put(t, dir, "PyPI/all.zip", sample(t, "PyPI"))
	d, err := OpenDumps(ctx, dir, []inventory.Key{{Ecosystem: "npm"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Parts()) != 1 || !d.Covers("npm") || d.Covers("PyPI") {
		t.Errorf("parts %+v", d.Parts())
	}
}

// lying makes a zip whose directory says that its only entry is small.
func lying(t *testing.T) []byte {
	t.Helper()
	raw := makeZip(t, zip.Deflate, file{"BIG-1.json", make([]byte, maxRecord+2)})
	at := bytes.Index(raw, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(raw[at+24:], 100)
	return raw
}

// damaged flips a bit in the data of a record.
func damaged(t *testing.T) []byte {
	raw := slices.Clone(sample(t, "Debian"))
	raw[200] ^= 1
	return raw
}

// badDumps are files at Debian/all.zip that must be refused, and how the error says so.
func badDumps(t *testing.T) map[string]struct {
	data []byte
	want string
} {
	good := records(t, "Debian")[0]
	zipOf := func(name, text string) []byte { return makeZip(t, zip.Deflate, good, file{name, []byte(text)}) }
	raw := sample(t, "Debian")
	return map[string]struct {
		data []byte
		want string
	}{
		"not a zip":        {[]byte("<html>404</html>"), "no zip: it begins with \"<htm\""},
		"empty file":       {nil, "the file is empty"},
		"cut off":          {raw[:len(raw)/2], "cut off or damaged"},
		"damaged":          {damaged(t), "Debian/all.zip!"},
		"no records":       {makeZip(t, zip.Deflate, file{"README.md", nil}), "no .json files"},
		"no JSON":          {zipOf("X-1.json", "{\"id\":"), "Debian/all.zip!X-1.json"},
		"no id":            {zipOf("X-1.json", `{"modified":"2024-01-01T00:00:00Z"}`), "X-1.json: OSV record: id: missing"},
		"bad date":         {zipOf("X-1.json", `{"id":"X-1","modified":"yesterday"}`), "modified"},
		"bad range":        {zipOf("X-1.json", `{"id":"X-1","affected":[{"package":{"ecosystem":"Debian:12","name":"`+"x"+`"},"ranges":[{"type":"ECOSYSTEM","events":[{"fixed":"1"}]}]}]}`), "affected[0].ranges[0].events"},
		"other ecosystem":  {zipOf("X-1.json", `{"id":"X-1","affected":[{"package":{"ecosystem":"npm","name":"x"},"versions":["1"]}]}`), "expected Debian, as the folder is named, found only npm"},
		"too big":          {makeZip(t, zip.Deflate, file{"BIG-1.json", make([]byte, maxRecord+2)}), "more than the bounds"},
		"bigger than said": {lying(t), "Debian/all.zip!BIG-1.json"},
		"leaves":           {zipOf("../X-1.json", "{}"), "leaves the archive"},
		"absolute":         {zipOf("/etc/X-1.json", "{}"), "leaves the archive"},
		"backslash":        {zipOf(`..\X-1.json`, "{}"), "leaves the archive"},
		"twice":            {makeZip(t, zip.Deflate, good, good), "comes twice"},
		"zip in a zip":     {makeZip(t, zip.Deflate, file{"x/all.zip", raw}), "is no ecosystem that OSV knows"},
		"nested too deep":  {makeZip(t, zip.Deflate, file{"npm/all.zip", makeZip(t, zip.Deflate, file{"PyPI/all.zip", raw})}), "no .json files"},
	}
}

func TestOpenDumpsRefuses(t *testing.T) {
	// A name that is in every bad record, so that each is parsed; what is not parsed is refused too.
	for _, keys := range [][]inventory.Key{{{Ecosystem: "Debian:12", Name: "x"}, {Ecosystem: "npm", Name: "x"}}} {
		for name, tc := range badDumps(t) {
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				put(t, dir, "Debian/all.zip", tc.data)
				_, err := OpenDumps(ctx, dir, keys, nil)
				if name == "no id" || name == "bad date" {
					return // names no package: it can hide nothing that was asked for
				}
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("got %v; want %q", err, tc.want)
				}
			})
		}
	}
}

func TestFoldersRefused(t *testing.T) {
	raw := sample(t, "Debian")
	for _, tc := range []struct {
		name string
		make func(dir string)
		want string
	}{
		{"empty folder", func(string) {}, "no advisories found"},
		{"empty ecosystem", func(dir string) { put(t, dir, "Debian/README.md", nil) }, "Debian: no advisories found: the folder holds neither"},
		{"unknown ecosystem", func(dir string) { put(t, dir, "Debiam/all.zip", raw) }, `"Debiam" is no ecosystem that OSV knows`},
		{"unknown ecosystem with files", func(dir string) { put(t, dir, "debian/X-1.json", []byte("{}")) }, `"debian" is no ecosystem that OSV knows`},
		{"no file", func(dir string) { os.Remove(dir) }, "no such file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "in")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			tc.make(dir)
			_, err := OpenDumps(ctx, dir, []inventory.Key{{Ecosystem: "Debian:12", Name: "x"}}, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v; want %q", err, tc.want)
			}
		})
	}
	if _, err := OpenDumps(ctx, put(t, t.TempDir(), "x.tar", nil), nil, nil); err == nil || !strings.Contains(err.Error(), "is no folder, no .zip and no .json") {
		t.Errorf("a tar: %v", err)
	}
}

func TestOpenDumpsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(ctx)
	_, err := OpenDumps(ctx, "testdata/osv", []inventory.Key{{Ecosystem: "npm"}, {Ecosystem: "PyPI"}}, func(Event) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v; want %v", err, context.Canceled)
	}
}

// TestSearchSeesEveryForm has names that are written otherwise than they are asked for.
func TestSearchSeesEveryForm(t *testing.T) {
	for _, tc := range []struct{ ecosystem, written, asked string }{
		{"PyPI", `"Zope.Interface"`, "zope-interface"},
		{"PyPI", `"ruamel--yaml"`, "ruamel-yaml"},
		{"npm", `"@babel\/core"`, "@babel/core"},
		{"npm", `"\u006codash"`, "lodash"},
		{"npm", ` "left-pad"`, "left-pad"},
	} {
		t.Run(tc.written, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, tc.ecosystem+"/X-1.json", []byte(`{"id":"X-1","details":"a \"name\": \"trap\"","affected":[{"package":
				{ "name" :`+tc.written+`,"ecosystem":"`+tc.ecosystem+`"},"versions":["1"]}]}`))
			key := inventory.Key{Ecosystem: tc.ecosystem, Name: tc.asked}
			d, err := OpenDumps(ctx, dir, []inventory.Key{key}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if as, err := d.Lookup(key); err != nil || len(as) != 1 {
				t.Errorf("%d advisories, %v", len(as), err)
			}
		})
	}
}

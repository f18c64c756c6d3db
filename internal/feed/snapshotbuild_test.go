package feed

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"text/template"

	"github.com/klauspost/compress/zstd"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/vuln"
)

//go:generate go test -run ^TestBuildSnapshot$ -timeout 30m -sources ../../../advisories

// sources makes TestBuildSnapshot write snapshot/ anew. The folder holds osv/<Ecosystem>/all.zip,
// kev/known_exploited_vulnerabilities.json and epss/epss_scores-*.csv.gz; what to say of
// each part is taken from testdata/sources.json.
var sources = flag.String("sources", "", "folder of advisories to build snapshot/ from")

// TestBuildSnapshot builds a snapshot, of the samples in testdata unless told otherwise,
// opens it, and looks up every package of every record in it.
func TestBuildSnapshot(t *testing.T) {
	from, to := "testdata", t.TempDir()
	if *sources != "" {
		from, to = *sources, "snapshot"
	}
	parts := buildSnapshot(t, from, to)
	s, err := openSnapshot(os.DirFS(to))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if p.Kind == kindOSV {
			checkLookups(t, s, filepath.Join(from, "osv", p.Ecosystem, "all.zip"))
		}
	}
}

func buildSnapshot(t *testing.T, from, to string) []Part {
	t.Helper()
	raw, err := os.ReadFile("testdata/sources.json")
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	for i := range m.Parts {
		p := &m.Parts[i]
		var data []byte
		switch p.Kind {
		case kindOSV:
			data = buildPart(t, filepath.Join(from, "osv", p.Ecosystem, "all.zip"), p)
		case kindKEV:
			data = buildKEV(t, filepath.Join(from, "kev", kevFile), p)
		case kindEPSS:
			data = buildEPSS(t, filepath.Join(from, "epss", "epss_scores-*.csv.gz"), p)
		default:
			t.Fatalf("part of kind %q", p.Kind)
		}
		sum := sha256.Sum256(data)
		p.SHA256 = hex.EncodeToString(sum[:])
		write(t, filepath.Join(to, p.File), data)
		t.Logf("%s: %d records, %d bytes, newest %s", p.File, p.Records, len(data), p.Newest)
	}
	out, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(to, "MANIFEST.json"), append(out, '\n'))
	var text bytes.Buffer
	if err := notice.Execute(&text, m); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(to, "README.md"), text.Bytes())
	return m.Parts
}

// notice keeps source, date and licence of each part beside it.
var notice = template.Must(template.New("README.md").Parse(`# Advisories that are built into the program

A dated snapshot, made by ` + "`go generate ./internal/feed`" + ` of the sources below. Each record is
reduced to what matching and explaining need: prose beyond a summary, all links but one,
lists of symbols and what it says of other ecosystems are left out, and Python names are
normalised (PEP 503). MANIFEST.json tells the same to programs, and internal/feed/part.go
the form of the .adv files.
{{range .Parts}}
## {{.File}}

{{.Records}} {{if eq .Kind "osv"}}advisories for {{.Ecosystem}}{{else}}CVEs{{end}}, as of {{.AsOf.Format "2006-01-02"}}{{if eq .Kind "osv"}}, the newest of {{.Newest.Format "2006-01-02"}}{{end}}

- Source: {{range $i, $s := .Sources}}{{if $i}}; {{end}}{{$s}}{{end}}
- Attribution: {{.Attribution}}
- Licence: {{.Licence}}
{{- with .Note}}
- {{.}}
{{- end}}
{{end}}`))

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// openOne opens a file that is one dump.
func openOne(t *testing.T, name string) *dump {
	t.Helper()
	dumps, _, err := openDumps(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	if len(dumps) != 1 || dumps[0].err != nil {
		t.Fatalf("%s: %d dumps, the first %+v", name, len(dumps), dumps[0])
	}
	t.Cleanup(func() {
		if err := closeAll(dumps); err != nil {
			t.Error(err)
		}
	})
	return dumps[0]
}

func buildPart(t *testing.T, name string, p *Part) []byte {
	t.Helper()
	d := openOne(t, name)
	work := func(batch []entry) (out []reduced, err error) {
		var buf bytes.Buffer
		for _, e := range batch {
			raw, err := e.read(&buf)
			if err != nil {
				return nil, &RecordError{d.name, e.name, err}
			}
			r, err := reduce(raw, p.Ecosystem)
			if err != nil {
				return nil, &RecordError{d.name, e.name, err}
			}
			out = append(out, r)
		}
		return out, nil
	}
	var all []reduced
	for rs, err := range inOrder(context.Background(), d.batches(), work) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rs...)
	}
	covers := p.Covers
	p.Records, p.Covers = len(all), map[string]vuln.Coverage{}
	for _, r := range all {
		p.Newest = newest(p.Newest, r.modified, p.AsOf.AddDate(0, 0, 1))
		for _, n := range r.packages {
			p.Covers[n.ecosystem] = vuln.Coverage{AsOf: p.AsOf}
			if c, ok := covers[n.ecosystem]; ok {
				p.Covers[n.ecosystem] = c
			} else if c, ok := covers["*"]; ok {
				p.Covers[n.ecosystem] = c
			}
		}
	}
	data, err := writePart(all)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func pack(t *testing.T, raw []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	return enc.EncodeAll(raw, nil)
}

func buildKEV(t *testing.T, name string, p *Part) []byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	kev, asOf, err := ParseKEV(f)
	if err != nil {
		t.Fatal(err)
	}
	p.AsOf, p.Records = asOf, len(kev)
	for _, at := range kev {
		p.Newest = newest(p.Newest, at, asOf)
	}
	return pack(t, encodeKEV(kev))
}

func buildEPSS(t *testing.T, pattern string, p *Part) []byte {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) != 1 {
		t.Fatalf("%s: %v, %v; want one file", pattern, names, err)
	}
	f, err := os.Open(names[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	cves, scores, asOf, err := ParseEPSS(z)
	if err != nil {
		t.Fatal(err)
	}
	p.AsOf, p.Newest, p.Records = asOf, asOf, len(cves)
	return pack(t, encodeEPSS(cves, scores))
}

// checkLookups asks the snapshot for each package that each record of a dump names, and
// expects what the record says of it, in full.
func checkLookups(t *testing.T, s *Snapshot, name string) {
	t.Helper()
	d := openOne(t, name)
	asked := map[packageName][]vuln.Advisory{}
	var buf bytes.Buffer
	for _, e := range d.entries {
		raw, err := e.read(&buf)
		if err != nil {
			t.Fatal(err)
		}
		full, err := d.parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range full.Affected {
			n := packageName{f.Ecosystem, f.Name}
			if _, ok := asked[n]; !ok {
				got, err := s.Lookup(inventory.Key{Ecosystem: f.Ecosystem, Name: f.Name})
				if err != nil {
					t.Fatal(err)
				}
				if !s.Covers(f.Ecosystem) {
					t.Fatalf("%s names %s, which the snapshot does not cover", full.ID, f.Ecosystem)
				}
				asked[n] = got
			}
			if err := holds(asked[n], full, n); err != nil {
				t.Fatalf("%s %s: %v", n.ecosystem, n.name, err)
			}
		}
	}
}

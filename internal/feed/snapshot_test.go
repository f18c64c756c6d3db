package feed

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/vuln"
)

// TestEmbedded holds the committed files to their manifest and to their notice.
func TestEmbedded(t *testing.T) {
	s, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	readme, err := fs.ReadFile(s.folder, "README.md")
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for i, p := range s.Parts() {
		data, err := fs.ReadFile(s.folder, p.File)
		if err != nil {
			t.Fatal(err)
		}
		total += len(data)
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != p.SHA256 {
			t.Errorf("%s has another SHA-256 than the manifest says", p.File)
		}
		if p.AsOf.IsZero() || p.Licence == "" || p.Attribution == "" || len(p.Sources) == 0 {
			t.Errorf("%s: source, date or licence is missing", p.File)
		}
		for _, text := range append([]string{p.Licence, p.Attribution, p.AsOf.Format("2006-01-02")}, p.Sources...) {
			if !strings.Contains(string(readme), text) {
				t.Errorf("README.md does not say %q of %s", text, p.File)
			}
		}
		if s.files[i] == nil {
			continue
		}
		idx, err := s.files[i].index()
		if err != nil {
			t.Fatal(err)
		}
		if idx.records != p.Records {
			t.Errorf("%s has %d records; the manifest says %d", p.File, idx.records, p.Records)
		}
		for e := range idx.ecosystems {
			if _, ok := p.Covers[e]; !ok || base(e) != p.Ecosystem {
				t.Errorf("%s names %s, which the manifest does not cover", p.File, e)
			}
		}
	}
	if total > 4<<20 {
		t.Errorf("the snapshot adds %d bytes to the program; at most 4 MB are meant for it", total)
	}
	l, err := s.lists()
	if err != nil {
		t.Fatal(err)
	}
	if len(l.exploited) < 1000 || len(l.cves) < 300_000 {
		t.Errorf("%d exploited, %d scored", len(l.exploited), len(l.cves))
	}
}

func TestSnapshotCovers(t *testing.T) {
	s, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		ecosystem, asOf string
	}{
		{"Debian:12", "2026-11-23"}, {"Debian:11", "2023-04-02"}, {"Alpine:v3.11", "2020-06-08"}, {"AlmaLinux:9", "2026-08-21"},
		{"npm", "2026-08-22"}, {"PyPI", "2026-07-23"}, {"Go", "2026-08-21"}, {"Maven", "2024-08-27"}, {"crates.io", "2026-08-21"},
		{"Debian", ""}, {"Debian:14", ""}, {"Debian:sid", ""}, {"Alpine:v3.20", ""}, {"Alpine:edge", ""}, {"AlmaLinux:7", ""},
		{"Ubuntu:22.04:LTS", ""}, {"NuGet", ""}, {"RubyGems", ""}, {"wolfi:20230201", ""}, {"", ""},
	} {
		at, ok := s.Covered(tc.ecosystem)
		if got := s.Covers(tc.ecosystem); got != ok || ok != (tc.asOf != "") || ok && at.AsOf.Format("2006-01-02") != tc.asOf {
			t.Errorf("%q: %v as of %s; want %q", tc.ecosystem, got, at, tc.asOf)
		}
	}
	if got := s.AsOf().Format("2006-01-02"); got != "2026-11-23" {
		t.Errorf("as of %s", got)
	}
}

// TestSnapshotLookup asks from many goroutines at once for packages that are known well.
func TestSnapshotLookup(t *testing.T) {
	s, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, tc := range []struct{ ecosystem, name, id string }{
		{"Debian:11", "openssl", "DSA-5343-1"},
		{"Alpine:v3.11", "openssl", "ALPINE-CVE-2019-1551"},
		{"AlmaLinux:9", "openssl", "ALSA-2022:6224"},
		{"Go", "stdlib", "GO-2021-0159"},
		{"npm", "lodash", "NSWG-ECO-516"},
		{"PyPI", "django", "PYSEC-2021-439"},
		{"crates.io", "openssl", "RUSTSEC-2016-0001"},
		{"npm", "no-such-package", ""},
		{"Debian:99", "openssl", ""},
	} {
		wg.Go(func() {
			as, err := s.Lookup(inventory.Key{Ecosystem: tc.ecosystem, Name: tc.name, Version: "1"})
			if err != nil {
				t.Error(err)
			}
			if found := slices.ContainsFunc(as, func(a vuln.Advisory) bool { return a.ID == tc.id }); found != (tc.id != "") {
				t.Errorf("%s %s: %d advisories, %s among them: %v", tc.ecosystem, tc.name, len(as), tc.id, found)
			}
			for _, a := range as {
				for _, f := range a.Affected {
					if f.Ecosystem != tc.ecosystem || f.Name != tc.name {
						t.Errorf("%s %s: %s tells of %s %s", tc.ecosystem, tc.name, a.ID, f.Ecosystem, f.Name)
					}
				}
			}
		})
	}
	wg.Wait()
}

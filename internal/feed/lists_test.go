package feed

import (
	"bytes"
	"compress/gzip"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/vuln"
)

func TestCVENumber(t *testing.T) {
	for _, tc := range []struct {
		id string
		ok bool
	}{
		{"CVE-1999-0001", true}, {"CVE-2021-44228", true}, {"CVE-2026-1999047", true}, {"CVE-2062-67108863", true},
		{"CVE-1998-0001", false}, {"CVE-2063-0001", false}, {"CVE-2021-67108864", false}, {"CVE-2021-1", false},
		{"GHSA-2021-0001", false}, {"CVE-2021", false}, {"cve-2021-44228", false}, {"CVE-2021-044228", false}, {"CVE-02021-4422", false}, {"", false},
	} {
		n, ok := cveNumber(tc.id)
		if ok != tc.ok || ok && cveID(n) != tc.id {
			t.Errorf("cveNumber(%q) = %d, %v; back %q", tc.id, n, ok, cveID(n))
		}
	}
}

func sampleEPSS(tb testing.TB) []byte {
	tb.Helper()
	f, err := os.Open("testdata/epss/epss_scores-current.csv.gz")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := out.ReadFrom(z); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// TestEPSSLosesNothing compares each score with the digits that FIRST published.
func TestEPSSLosesNothing(t *testing.T) {
	raw := sampleEPSS(t)
	cves, scores, asOf, err := ParseEPSS(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if got := asOf.Format("2006-01-02"); got != "2026-08-16" {
		t.Errorf("as of %s", got)
	}
	cves, scores, err = decodeEPSS(encodeEPSS(cves, scores))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")[2:]
	if len(lines) != len(cves) {
		t.Fatalf("%d scores; want %d", len(cves), len(lines))
	}
	for _, line := range lines {
		f := strings.Split(line, ",")
		n, _ := cveNumber(f[0])
		i, ok := slices.BinarySearch(cves, n)
		if !ok || strconv.FormatFloat(float64(scores[i])*epssUnit, 'f', 5, 64) != f[1] {
			t.Errorf("%s: found %v; want %s", f[0], ok, f[1])
		}
	}
}

func TestListsRefused(t *testing.T) {
	const head = "#model_version:unknown,score_date:2026-08-16T00:00:00+0000\ncve,epss,percentile\n"
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "EOF"},
		{"no date", "cve,epss,percentile\n", "expected score_date"},
		{"no heading", "#score_date:2026-08-16T00:00:00Z\nCVE-2021-44228,0.9,0.9\n", "expected cve,epss,percentile"},
		{"score above one", head + "CVE-2021-44228,9,0.9\n", "a score from 0 to 1"},
		{"not a number", head + "CVE-2021-44228,NaN,0.9\n", "a score from 0 to 1"},
		{"no CVE", head + "GHSA-1,0.5,0.9\n", "expected a CVE id"},
		{"two fields", head + "CVE-2021-44228,0.5\n", "wrong number of fields"},
		{"twice", head + "CVE-2021-44228,0.5,1\nCVE-2021-44228,0.4,1\n", "comes twice"},
		{"none", head, "no scores"},
	} {
		if _, _, _, err := ParseEPSS(strings.NewReader(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("EPSS, %s: got %v; want %q", tc.name, err, tc.want)
		}
	}
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "EOF"},
		{"no entries", `{"dateReleased":"2025-08-25T17:04:19Z","vulnerabilities":[]}`, "no entries"},
		{"no date", `{"vulnerabilities":[{"cveID":"CVE-2021-44228","dateAdded":"2021-12-10"}]}`, "no dateReleased"},
		{"no CVE", `{"dateReleased":"2025-08-25T17:04:19Z","vulnerabilities":[{"cveID":"x","dateAdded":"2021-12-10"}]}`, "expected a CVE id"},
		{"no day", `{"dateReleased":"2025-08-25T17:04:19Z","vulnerabilities":[{"cveID":"CVE-2021-44228"}]}`, "and a date"},
	} {
		if _, _, err := ParseKEV(strings.NewReader(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("KEV, %s: got %v; want %q", tc.name, err, tc.want)
		}
	}
}

func TestEnrich(t *testing.T) {
	s, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	findings := []vuln.Finding{
		{ID: "CVE-2021-44228"},
		{ID: "GHSA-jfh8-c2jp-5v3q", Aliases: []string{"CVE-2021-44228"}},
		{ID: "GHSA-0000-0000-0000"},
	}
	if err := s.Enrich(findings); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, true, false} {
		if f := findings[i]; f.Exploited != want || (f.EPSS > 0.9) != want || math.IsNaN(float64(f.EPSS)) {
			t.Errorf("%s: exploited %v, EPSS %v", f.ID, f.Exploited, f.EPSS)
		}
	}
}

func FuzzEPSS(f *testing.F) {
	f.Add(encodeEPSS([]uint32{1, 2, 1 << 30}, []uint32{0, 100_000, 42}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, raw []byte) {
		cves, scores, err := decodeEPSS(raw)
		if err == nil && (!slices.IsSorted(cves) || len(cves) != len(scores)) {
			t.Errorf("%d ids, %d scores", len(cves), len(scores))
		}
	})
}

func FuzzParseEPSS(f *testing.F) {
	f.Add(sampleEPSS(f)[:400])
	f.Fuzz(func(t *testing.T, raw []byte) {
		cves, scores, _, err := ParseEPSS(bytes.NewReader(raw))
		if err != nil {
			return
		}
		back, same, err := decodeEPSS(encodeEPSS(cves, scores))
		if err != nil || !slices.Equal(cves, back) || !slices.Equal(scores, same) {
			t.Errorf("%v: %d ids come back as %d", err, len(cves), len(back))
		}
	})
}

func FuzzParseKEV(f *testing.F) {
	f.Add([]byte(`{"dateReleased":"2025-08-25T17:04:19.9796Z","vulnerabilities":[{"cveID":"CVE-2021-44228","dateAdded":"2021-12-10"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		kev, _, err := ParseKEV(bytes.NewReader(raw))
		if err != nil {
			return
		}
		back, err := decodeKEV(encodeKEV(kev))
		if err != nil || len(back) != len(kev) {
			t.Errorf("%v: %d entries come back as %d", err, len(kev), len(back))
		}
	})
}

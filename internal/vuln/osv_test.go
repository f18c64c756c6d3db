package vuln_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"archive/zip"

	"github.com/google/go-cmp/cmp"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/vuln"
)

func TestParseOSVRefuses(t *testing.T) {
	affected := func(text string) string { return `{"id":"X-1","affected":[{},{},` + text + `]}` }
	npm := `"package":{"ecosystem":"npm","name":"a"},`
	for _, tc := range []struct{ name, raw, want string }{
		{"no JSON", `{"id":`, "unexpected end"},
		{"a list", `[]`, "cannot unmarshal array"},
		{"no id", `{}`, "id: missing"},
		{"an id of another type", `{"id":7}`, "id"},
		{"an id that is a path", `{"id":"../x"}`, "id: "},
		{"an id that is a page", `{"id":"a<script>"}`, "id: "},
		{"an endless id", `{"id":"` + strings.Repeat("a", 200) + `"}`, "id: longer"},
		{"a broken time", `{"id":"X-1","modified":"yesterday"}`, "X-1: modified: "},
		{"a broken withdrawal", `{"id":"X-1","withdrawn":"yes"}`, "withdrawn: "},
		{"an unknown type of range", affected(`{` + npm + `"ranges":[{"type":"DATE","events":[{"introduced":"0"}]}]}`), "affected[2].ranges[0].type: "},
		{"an empty event", affected(`{` + npm + `"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{}]}]}`), "affected[2].ranges[0].events[1]: "},
		{"a double event", affected(`{` + npm + `"ranges":[{"type":"SEMVER","events":[{"introduced":"0","fixed":"1"}]}]}`), "affected[2].ranges[0].events[0]: "},
		{"a range without a beginning", affected(`{` + npm + `"ranges":[{"type":"SEMVER","events":[{"fixed":"1"}]}]}`), "affected[2].ranges[0].events: none says introduced"},
		{"a range without events", affected(`{` + npm + `"ranges":[{"type":"SEMVER"}]}`), "affected[2].ranges[0].events: none"},
		{"ranges of no package", affected(`{"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}]}`), "affected[2].package: missing"},
		{"no name", affected(`{"package":{"ecosystem":"npm"},"versions":["1"]}`), "affected[2].package.name: missing"},
		{"no ecosystem", affected(`{"package":{"name":"a"},"versions":["1"]}`), "affected[2].package.ecosystem: missing"},
		{"a name of two lines", affected(`{"package":{"ecosystem":"npm","name":"a\nb"},"versions":["1"]}`), "affected[2].package.name: "},
		{"versions of another type", affected(`{` + npm + `"versions":[1]}`), "versions"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := vuln.ParseOSV([]byte(tc.raw), "test")
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("ParseOSV = %v; want an error with %q", err, tc.want)
			}
		})
	}
}

func parse(t *testing.T, raw string) vuln.Advisory {
	t.Helper()
	a, err := vuln.ParseOSV([]byte(raw), "test")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestParseOSV(t *testing.T) {
	got := parse(t, `{"schema_version":"1.7.0","id":"GHSA-aaaa-bbbb-cccc","modified":"2026-01-02T03:04:05Z","published":"2026-01-01T00:00:00+01:00",
		"aliases":["CVE-2026-1","CVE-2026-1","GHSA-aaaa-bbbb-cccc","bad id"],"related":["CVE-2020-9"],
		"summary":"Bad\u001b[31m\nthing","details":"long text",
		"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"},{"type":"CVSS_V3","score":"nonsense"},{"type":"NEW","score":"x"}],
		"affected":[{"package":{"ecosystem":"PyPI","name":"Foo_.Bar"},"ranges":[{"type":"GIT","repo":"x","events":[{"introduced":"abc"}]},
			{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1.2"}]}],"versions":["1.0"]},
			{"ranges":[{"type":"GIT","repo":"x","events":[{"introduced":"abc"}]}]}],
		"references":[{"type":"WEB","url":"https://web.test/1"},{"type":"ADVISORY","url":"javascript:alert(1)"},{"type":"ADVISORY","url":"https://advisory.test/2"}],
		"database_specific":{"severity":"MODERATE","cwe_ids":null,"categories":7}}`)
	want := vuln.Advisory{
		ID: "GHSA-aaaa-bbbb-cccc", Aliases: []string{"CVE-2026-1"}, Summary: "Bad [31m thing", URL: "https://advisory.test/2", Source: "test",
		Severity: []vuln.Rating{
			{Source: "GHSA", Severity: vuln.Critical, Score: 9.8, Vector: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"},
			{Source: "GHSA", Vector: "nonsense"},
			{Source: "GHSA", Severity: vuln.Medium}},
		Affected: []vuln.Affected{{Ecosystem: "PyPI", Name: "foo-bar", Versions: []string{"1.0"},
			Ranges: []vuln.Range{{Events: []vuln.Event{{Introduced: "0"}, {Fixed: "1.2"}}}}}},
		Modified: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Published: time.Date(2025, 12, 31, 23, 0, 0, 0, time.UTC),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("ParseOSV (-want +got):\n%s", d)
	}
}

func TestParseOSVByDatabase(t *testing.T) {
	pkg := func(ecosystem, name, fixed, more string) string {
		return `"affected":[{"package":{"ecosystem":"` + ecosystem + `","name":"` + name +
			`"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"` + fixed + `"}]}]` + more + `}]`
	}
	debian := parse(t, `{"id":"DSA-1-1","upstream":["DEBIAN-CVE-2024-1","CVE-2024-1","CVE-2024-2"],`+pkg("Debian:12", "x", "1", "")+`}`)
	if d := cmp.Diff([]string{"CVE-2024-1", "CVE-2024-2"}, debian.Related); d != "" || debian.Aliases != nil {
		t.Errorf("a DSA fixes (-want +got):\n%s; aliases %v", d, debian.Aliases)
	}
	urgency := parse(t, `{"id":"DEBIAN-CVE-2024-1","upstream":["CVE-2024-1"],`+pkg("Debian:12", "x", "1", `,"ecosystem_specific":{"urgency":"low**"}`)+`}`)
	if d := cmp.Diff([]vuln.Rating{{Source: "Debian", Severity: vuln.Low}}, urgency.Affected[0].Severity); d != "" {
		t.Errorf("Debian's urgency (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"CVE-2024-1"}, urgency.Aliases); d != "" || urgency.Related != nil {
		t.Errorf("a record of one CVE (-want +got):\n%s", d)
	}
	alma := parse(t, `{"id":"ALSA-2024:1","summary":"Important: nodejs:16 security update","related":["CVE-2024-3"],`+
		pkg("AlmaLinux:8", "nodejs", "1:16.20.2-3.module_el8.8.0+3613+1b78d1d1", "")+`}`)
	if alma.Module != "nodejs:16" || len(alma.Severity) != 1 || alma.Severity[0] != (vuln.Rating{Source: "AlmaLinux", Severity: vuln.High}) {
		t.Errorf("AlmaLinux: module %q, ratings %v", alma.Module, alma.Severity)
	}
	ubuntu := parse(t, `{"id":"UBUNTU-CVE-2024-1","severity":[{"type":"Ubuntu","score":"medium"}],`+pkg("Ubuntu:22.04:LTS", "x", "1", "")+`}`)
	if len(ubuntu.Severity) != 1 || ubuntu.Severity[0] != (vuln.Rating{Source: "Ubuntu", Severity: vuln.Medium}) {
		t.Errorf("Ubuntu: %v", ubuntu.Severity)
	}
	rust := parse(t, `{"id":"RUSTSEC-2024-1",`+pkg("crates.io", "x", "1", `,"database_specific":{"informational":"unmaintained","categories":[]}`)+`}`)
	if len(rust.Affected[0].Severity) != 1 || rust.Affected[0].Severity[0] != (vuln.Rating{Source: "RustSec", Severity: vuln.None}) || rust.Malicious {
		t.Errorf("RustSec's unmaintained: %+v", rust.Affected[0])
	}
	for _, raw := range []string{
		`{"id":"MAL-2024-1"}`, `{"id":"GHSA-1","database_specific":{"cwe_ids":["CWE-506"]}}`,
		`{"id":"RUSTSEC-2024-2",` + pkg("crates.io", "x", "1", `,"database_specific":{"categories":["malicious"]}`) + `}`,
	} {
		if !parse(t, raw).Malicious {
			t.Errorf("not malicious: %s", raw)
		}
	}
	if a := parse(t, `{"id":"GO-1","withdrawn":"2024-01-01T00:00:00Z"}`); !a.Withdrawn {
		t.Error("not withdrawn")
	}
}

func TestSummary(t *testing.T) {
	for _, tc := range []struct{ summary, details, want string }{
		{"short", "x", "short"},
		{"", "First sentence. Second.", "First sentence."},
		{"  ", "# Heading\nmore", "Heading"},
		{"", "", ""},
		{strings.Repeat("ä", 300), "", strings.Repeat("ä", 98) + "…"},
	} {
		raw, err := json.Marshal(map[string]string{"id": "X-1", "summary": tc.summary, "details": tc.details})
		if err != nil {
			t.Fatal(err)
		}
		if got := parse(t, string(raw)).Summary; got != tc.want || len(got) > 200 || !utf8.ValidString(got) {
			t.Errorf("summary of %.20q, %.20q = %q; want %q", tc.summary, tc.details, got, tc.want)
		}
	}
}

func TestSeverityText(t *testing.T) {
	for s, want := range map[vuln.Severity]string{vuln.Critical: "critical", vuln.High: "high", vuln.Medium: "medium",
		vuln.Low: "low", vuln.None: "none", vuln.Unknown: "unknown", vuln.Severity(99): "unknown"} {
		raw, err := json.Marshal(s)
		if err != nil || string(raw) != `"`+want+`"` {
			t.Errorf("Marshal(%d) = %s, %v; want %s", int(s), raw, err, want)
		}
	}
	var s vuln.Severity
	if err := json.Unmarshal([]byte(`"High"`), &s); err != nil || s != vuln.High {
		t.Errorf("Unmarshal = %v, %v", s, err)
	}
	if _, err := vuln.ParseSeverity("dire"); err == nil {
		t.Error("ParseSeverity(dire) gives no error")
	}
}

func TestRate(t *testing.T) {
	v31 := vuln.Rating{Source: "PyPA", Severity: vuln.Medium, Score: 5, Vector: "CVSS:3.1/…"}
	v4 := vuln.Rating{Source: "PyPA", Severity: vuln.High, Score: 8, Vector: "CVSS:4.0/…"}
	ghsa := vuln.Rating{Source: "GHSA", Severity: vuln.Low}
	debian := vuln.Rating{Source: "Debian", Severity: vuln.None}
	for _, tc := range []struct {
		name, ecosystem string
		ratings         []vuln.Rating
		want            vuln.Severity
		source          string
	}{
		{"nobody", "npm", nil, vuln.Unknown, ""},
		{"unreadable", "npm", []vuln.Rating{{Source: "GHSA", Vector: "x"}}, vuln.Unknown, ""},
		{"the vendor's word", "Debian:12", []vuln.Rating{v4, ghsa, debian}, vuln.None, "Debian"},
		{"another's word", "Alpine:v3.18", []vuln.Rating{v4, debian, ghsa}, vuln.Low, "GHSA"},
		{"GHSA before scores", "PyPI", []vuln.Rating{v4, ghsa, v31}, vuln.Low, "GHSA"},
		{"the newest score", "PyPI", []vuln.Rating{v31, v4}, vuln.High, "PyPA, CVSS 4.0"},
		{"version 2", "PyPI", []vuln.Rating{{Source: "NVD", Severity: vuln.High, Vector: "AV:N/AC:L/Au:N/C:C/I:C/A:C"}}, vuln.High, "NVD, CVSS 2.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, source := vuln.Rate(tc.ecosystem, tc.ratings); got != tc.want || source != tc.source {
				t.Errorf("Rate = %v by %q; want %v by %q", got, source, tc.want, tc.source)
			}
		})
	}
}

func TestVectors(t *testing.T) {
	for vector, want := range map[string]vuln.Rating{
		"AV:N/AC:L/Au:N/C:P/I:P/A:P":                                      {Severity: vuln.High, Score: 7.5},
		"(AV:N/AC:L/Au:N/C:C/I:C/A:C)":                                    {Severity: vuln.High, Score: 10},
		"CVSS:3.0/AV:N/AC:H/PR:L/UI:R/S:U/C:H/I:H/A:H":                    {Severity: vuln.High, Score: 7.1},
		"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H":                    {Severity: vuln.Critical, Score: 10},
		"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N":                    {Severity: vuln.None},
		"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N": {Severity: vuln.Critical, Score: 9.3},
		"CVSS:5.0/AV:N": {},
		"CVSS:3.1/AV:N": {},
	} {
		a := parse(t, fmt.Sprintf(`{"id":"GHSA-1","severity":[{"type":"CVSS_V3","score":%q}]}`, vector))
		want.Source, want.Vector = "GHSA", vector
		if d := cmp.Diff([]vuln.Rating{want}, a.Severity); d != "" {
			t.Errorf("%s (-want +got):\n%s", vector, d)
		}
	}
}

func TestLookupEcosystems(t *testing.T) {
	for ecosystem, want := range map[string][]string{
		"npm":                {"npm"},
		"Debian:12":          {"Debian:12", "Debian"},
		"Ubuntu:22.04:LTS":   {"Ubuntu:22.04:LTS", "Ubuntu:22.04", "Ubuntu"},
		"Ubuntu:23.10":       {"Ubuntu:23.10", "Ubuntu:23.10:LTS", "Ubuntu"},
		"wolfi:20230201":     {"wolfi:20230201", "Wolfi:20230201", "Wolfi:20230201", "Wolfi"},
		"openSUSE:Leap 15.5": {"openSUSE:Leap 15.5", "openSUSE"},
	} {
		if d := cmp.Diff(want, vuln.LookupEcosystems(inventory.Key{Ecosystem: ecosystem})); d != "" {
			t.Errorf("%s (-want +got):\n%s", ecosystem, d)
		}
	}
	for ecosystem, want := range map[string]string{
		"Red Hat:enterprise_linux:9::baseos":  "Red Hat:enterprise_linux:9::appstream",
		"SUSE:Linux Enterprise Server 15 SP5": "SUSE:Linux Enterprise Module for Basesystem 15 SP5",
		"ol:8.9":                              "Oracle Linux:8",
	} {
		if got := vuln.LookupEcosystems(inventory.Key{Ecosystem: ecosystem}); !strings.Contains(strings.Join(got, "|")+"|", want+"|") {
			t.Errorf("%s: %q is not in %v", ecosystem, want, got)
		}
	}
}

func FuzzParseOSV(f *testing.F) {
	f.Add([]byte(`{"id":"X-1","affected":[{"package":{"ecosystem":"npm","name":"a"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"1"}]}]}]}`))
	f.Add([]byte(`{"id":"ALSA-1","summary":"Low: a:b c","severity":[{"type":"CVSS_V4","score":"CVSS:4.0/AV:N"}],"database_specific":{"cwe_ids":[1]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := vuln.ParseOSV(raw, "fuzz")
		if err != nil {
			return
		}
		if a.ID == "" || len(a.Summary) > 200 || strings.ContainsAny(a.Summary, "\n\x1b") || !utf8.ValidString(a.Summary) {
			t.Errorf("%q is accepted as %+v", raw, a)
		}
		if _, err := json.Marshal(a); err != nil {
			t.Errorf("%q cannot be written again: %v", raw, err)
		}
		for _, aff := range a.Affected {
			for _, v := range append([]string{"1", "0.0.0-x"}, aff.Versions...) {
				vuln.Match(inventory.Key{Ecosystem: aff.Ecosystem, Name: aff.Name, Version: v}, []vuln.Advisory{a})
			}
		}
	})
}

func BenchmarkParseOSV(b *testing.B) {
	z, err := zip.OpenReader(filepath.Join("testdata", "accuracy", "advisories", "AlmaLinux", "all.zip"))
	if err != nil {
		b.Fatal(err)
	}
	defer z.Close()
	var raws [][]byte
	size := 0
	for _, e := range z.File {
		raw := readEntry(b, e)
		raws, size = append(raws, raw), size+len(raw)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		for _, raw := range raws {
			if _, err := vuln.ParseOSV(raw, "bench"); err != nil {
				b.Fatal(err)
			}
		}
	}
}

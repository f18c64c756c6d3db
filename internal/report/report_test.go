package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/vuln"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func digest(t *testing.T, c string) oci.Digest {
	t.Helper()
	d, err := oci.ParseDigest("sha256:" + strings.Repeat(c, 64))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func sample(t *testing.T) Report {
	base, app := digest(t, "b"), digest(t, "a")
	findings := []Finding{
		{ID: "CVE-2023-0002", Ecosystem: "Debian:12", Package: "openssl", Version: "3.0.9-1", Fixed: "3.0.11-1~deb12u2",
			Severity: vuln.Unknown, Layer: base, Binaries: []string{"libssl3", "openssl"}, Fix: "apt-get install libssl3=3.0.11-1~deb12u2 openssl=3.0.11-1~deb12u2"},
		{ID: "CVE-2024-0003", Ecosystem: "Debian:12", Package: "zlib", Version: "1:1.2.13", Severity: vuln.Low, Layer: base,
			Binaries: []string{"zlib1g"}, Status: vuln.StatusWontFix},
		{ID: "CVE-2021-44228", Aliases: []string{"GHSA-jfh8-c2jp-5v3q"}, Ecosystem: "Maven", Package: "org.apache.logging.log4j:log4j-core",
			Version: "2.14.1", Fixed: "2.15.0", Severity: vuln.Critical, SeveritySource: "GHSA", Layer: app, Exploited: true,
			Paths: []string{"srv/app.jar!/log4j-core-2.14.1.jar"}, Fix: "set org.apache.logging.log4j:log4j-core to 2.15.0",
			Summary: "Remote code injection in Log4j\x1b[31m"},
	}
	SortFindings(findings)
	return Report{Target: "team/app:1", Digest: digest(t, "c"), Platform: "linux/amd64", Decision: policy.Quarantine,
		Reasons: []policy.Reason{
			{Rule: "critical-with-fix", Message: "CVE-2021-44228 in log4j-core 2.14.1 is critical and fixed in 2.15.0"},
			{Rule: "unknown-severity", Message: "1 finding of unknown severity counts as high", Note: true}},
		Counts: Count(findings), Distro: inventory.Distro{ID: "debian", PrettyName: "Debian GNU/Linux 12 (bookworm)"},
		Packages: []Package{{Ecosystem: "Debian:12", Name: "libssl3", Version: "3.0.9-1", Layer: base}},
		Findings: findings,
		Fixes:    []Fix{{Layer: base, Command: "apt-get install libssl3=3.0.11-1~deb12u2", Note: "or rebuild on a newer base", Findings: 1}},
		Coverage: inventory.Coverage{Examined: []string{"dpkg", "java"},
			Unknown: []inventory.Gap{{Kind: inventory.GapUnknown, Path: "opt/tool", Reason: "no package owns it", Count: 3}}},
		Advisories: Advisories{AsOf: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), Ecosystems: map[string]time.Time{
			"Debian:12": time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), "Maven": time.Date(2026, 8, 21, 0, 0, 0, 0, time.UTC)}},
		Layers: []Layer{{Digest: base, Instruction: "ADD rootfs.tar /"}, {Digest: app, Instruction: "COPY app.jar /srv/"}},
	}
}

func TestWriteText(t *testing.T) {
	one := sample(t)
	index := Report{Target: "team/app:1", Decision: policy.Quarantine, Platforms: []Report{one, {Target: "team/app:1", Platform: "linux/arm64", Decision: policy.Allow}}}
	for _, tc := range []struct {
		name string
		r    Report
		o    TextOptions
	}{
		{"image", one, TextOptions{}},
		{"packages", one, TextOptions{Packages: true}},
		{"color", one, TextOptions{Color: true}},
		{"index", index, TextOptions{}},
		{"pending", Report{Target: "x:1", Decision: policy.Pending}, TextOptions{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got bytes.Buffer
			if err := WriteText(&got, tc.r, tc.o); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", tc.name+".txt")
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTextTakesOutControlCharacters(t *testing.T) {
	var got bytes.Buffer
	if err := WriteText(&got, sample(t), TextOptions{}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(got.String(), "\x1b\x07\r") {
		t.Errorf("content of the image reached the terminal unfiltered:\n%q", got.String())
	}
}

func TestSortPutsExploitedFirstAndUnknownBesideHigh(t *testing.T) {
	fs := []Finding{{ID: "low", Severity: vuln.Low}, {ID: "medium", Severity: vuln.Medium, Fixed: "1"}, {ID: "unknown"},
		{ID: "critical", Severity: vuln.Critical}, {ID: "exploited", Severity: vuln.Low, Exploited: true}}
	SortFindings(fs)
	var got []string
	for _, f := range fs {
		got = append(got, f.ID)
	}
	if diff := cmp.Diff([]string{"exploited", "critical", "unknown", "medium", "low"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestCounts(t *testing.T) {
	c := Count(sample(t).Findings)
	want := Counts{Critical: 1, Low: 1, Unknown: 1, Fixable: 2, Exploited: 1}
	if c != want {
		t.Errorf("got %+v, want %+v", c, want)
	}
	if got := CountsText(c.Add(c)); got != "2 critical, 2 of unknown severity, 2 low (4 with a fix)" {
		t.Errorf("got %q", got)
	}
}

// TestFieldsAreThere holds the document to the fields that scripts rely on, whatever they hold.
func TestFieldsAreThere(t *testing.T) {
	for _, tc := range []struct {
		of   any
		want string
	}{
		{Package{}, "ecosystem name version source sourceVersion purl paths layer"},
		{Finding{}, "id aliases ecosystem package version fixed severity severitySource layer instruction fix why"},
		{Report{}, "target digest decision reasons distro packages findings coverage advisories"},
	} {
		raw, err := json.Marshal(tc.of)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatal(err)
		}
		for _, field := range strings.Fields(tc.want) {
			if _, ok := got[field]; !ok {
				t.Errorf("%T has no %q: %s", tc.of, field, raw)
			}
		}
	}
}

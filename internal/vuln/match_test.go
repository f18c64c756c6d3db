package vuln_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/version"
	"pratique.dev/pratique/internal/vuln"
)

// adv makes an advisory on package "p": events are "introduced fixed" pairs, where "-" as
// fixed is none and "<=x" is the last affected.
func adv(id, ecosystem string, events ...string) vuln.Advisory {
	a := vuln.Advisory{ID: id, Affected: []vuln.Affected{{Ecosystem: ecosystem, Name: "p"}}}
	for i := 0; i+1 < len(events); i += 2 {
		r := vuln.Range{Events: []vuln.Event{{Introduced: events[i]}}}
		if last, ok := strings.CutPrefix(events[i+1], "<="); ok {
			r.Events = append(r.Events, vuln.Event{LastAffected: last})
		} else if events[i+1] != "-" {
			r.Events = append(r.Events, vuln.Event{Fixed: events[i+1]})
		}
		a.Affected[0].Ranges = append(a.Affected[0].Ranges, r)
	}
	return a
}

func change(a vuln.Advisory, f func(*vuln.Advisory)) vuln.Advisory {
	f(&a)
	return a
}

func related(a vuln.Advisory, ids ...string) vuln.Advisory {
	a.Related = ids
	return a
}

func aliases(a vuln.Advisory, ids ...string) vuln.Advisory {
	a.Aliases = ids
	return a
}

// told puts findings and cleared into lines: "ID aliases fixed" and "!ID rule", "?ID" if undecided.
func told(fs []vuln.Finding, cs []vuln.Cleared) (out []string) {
	for _, f := range fs {
		fixed := f.Fixed
		if fixed == "" {
			fixed = "-"
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", f.ID, fixed, strings.Join(f.Aliases, ","))))
	}
	for _, c := range cs {
		mark := "!"
		if c.Undecided {
			mark = "?"
		}
		out = append(out, mark+c.Advisory)
	}
	return out
}

func TestMatch(t *testing.T) {
	const deb, alma = "Debian:12", "AlmaLinux:8"
	for _, tc := range []struct {
		name, ecosystem, installed string
		in                         []vuln.Advisory
		want                       []string
	}{
		// What cannot be decided must not pass for clean.
		{"a version without an order", "Go", "(devel)", []vuln.Advisory{adv("GO-1", "Go", "0", "1.2")}, []string{"?GO-1"}},
		{"a version without an order, all affected", "Go", "(devel)", []vuln.Advisory{adv("GO-1", "Go", "0", "-")}, []string{"GO-1 -"}},
		{"no version", "npm", "", []vuln.Advisory{adv("X-1", "npm", "0", "1.2")}, []string{"?X-1"}},
		{"an unknown ecosystem", "Plan9", "1.0", []vuln.Advisory{adv("X-1", "Plan9", "0", "1.2")}, []string{"?X-1"}},
		{"a word where PyPI wants a number", "PyPI", "unknown", []vuln.Advisory{adv("X-1", "PyPI", "2.0", "2.1")}, []string{"?X-1"}},
		{"an advisory with a broken version", deb, "1.0", []vuln.Advisory{adv("X-1", deb, "0", "a:1")}, []string{"?X-1"}},
		{"a broken range beside one that decides", deb, "1.0", []vuln.Advisory{adv("X-1", deb, "0", "a:1", "0", "2")}, []string{"X-1 2"}},
		{"listed, whatever the order", "Plan9", "1.0", []vuln.Advisory{change(adv("X-1", "Plan9"), func(a *vuln.Advisory) {
			a.Affected[0].Versions = []string{"0.9", "1.0"}
		})}, []string{"X-1 -"}},

		{"below the fix", deb, "1.0-1", []vuln.Advisory{adv("X-1", deb, "0", "1.0-2")}, []string{"X-1 1.0-2"}},
		{"at the fix", deb, "1.0-2", []vuln.Advisory{adv("X-1", deb, "0", "1.0-2")}, []string{"!X-1"}},
		{"before the first affected", "npm", "0.9.0", []vuln.Advisory{adv("X-1", "npm", "1.0.0", "2.0.0")}, []string{"!X-1"}},
		{"at the first affected", "npm", "1.0.0", []vuln.Advisory{adv("X-1", "npm", "1.0.0", "2.0.0")}, []string{"X-1 2.0.0"}},
		{"at the last affected", "npm", "1.5.0", []vuln.Advisory{adv("X-1", "npm", "0", "<=1.5.0")}, []string{"X-1 -"}},
		{"after the last affected", "npm", "1.5.1", []vuln.Advisory{adv("X-1", "npm", "0", "<=1.5.0")}, []string{"!X-1"}},
		{"no fix", deb, "1.0", []vuln.Advisory{adv("X-1", deb, "0", "-")}, []string{"X-1 -"}},
		{"between two lines", "npm", "1.9.0", []vuln.Advisory{adv("X-1", "npm", "0", "1.5.0", "2.0.0", "2.3.0")}, []string{"!X-1"}},
		{"the fix of the own line", "npm", "2.1.0", []vuln.Advisory{adv("X-1", "npm", "0", "1.5.0", "2.0.0", "2.3.0")}, []string{"X-1 2.3.0"}},
		{"an epoch counts", deb, "1:1.0-1", []vuln.Advisory{adv("X-1", deb, "0", "9.0-1")}, []string{"!X-1"}},
		{"a record without the release", deb, "1.0", []vuln.Advisory{adv("X-1", "Debian", "0", "2")}, []string{"X-1 2"}},
		{"another release", deb, "1.0", []vuln.Advisory{adv("X-1", "Debian:11", "0", "2")}, nil},
		{"another ecosystem", "npm", "1.0.0", []vuln.Advisory{adv("X-1", "PyPI", "0", "2")}, nil},
		{"another package", "npm", "1.0.0", []vuln.Advisory{change(adv("X-1", "npm", "0", "2"), func(a *vuln.Advisory) { a.Affected[0].Name = "q" })}, nil},
		{"events in any order", "npm", "2.1.0", []vuln.Advisory{change(adv("X-1", "npm"), func(a *vuln.Advisory) {
			a.Affected[0].Ranges = []vuln.Range{{Events: []vuln.Event{{Fixed: "2.3.0"}, {Introduced: "2.0.0"}, {Fixed: "1.5.0"}, {Introduced: "0"}}}}
		})}, []string{"X-1 2.3.0"}},
		{"a limit", "npm", "3.0.0", []vuln.Advisory{change(adv("X-1", "npm"), func(a *vuln.Advisory) {
			a.Affected[0].Ranges = []vuln.Range{{Events: []vuln.Event{{Introduced: "0"}, {Limit: "2.0.0"}}}}
		})}, []string{"!X-1"}},
		{"below a limit", "npm", "1.0.0", []vuln.Advisory{change(adv("X-1", "npm"), func(a *vuln.Advisory) {
			a.Affected[0].Ranges = []vuln.Range{{Events: []vuln.Event{{Introduced: "0"}, {Limit: "1.0.0"}, {Limit: "2.0.0"}}}}
		})}, []string{"X-1 -"}},
		{"versions of equal rank", "PyPI", "1.0", []vuln.Advisory{change(adv("X-1", "PyPI"), func(a *vuln.Advisory) {
			a.Affected[0].Versions = []string{"1.0.0"}
		})}, []string{"X-1 -"}},

		{"somebody's own build of the last affected", "PyPI", "2.6.0+cu124", []vuln.Advisory{adv("X-1", "PyPI", "0", "<=2.6.0")}, []string{"X-1 -"}},
		{"somebody's own build of the fix", "PyPI", "2.6.0+cu124", []vuln.Advisory{adv("X-1", "PyPI", "0", "2.6.0")}, []string{"!X-1"}},
		{"somebody's own build of a listed version", "PyPI", "2.6.0+cu124", []vuln.Advisory{change(adv("X-1", "PyPI", "0", "1"), func(a *vuln.Advisory) {
			a.Affected[0].Versions = []string{"2.6.0"}
		})}, []string{"X-1 -"}},
		{"a last affected that is no version", "PyPI", "2.6.0", []vuln.Advisory{adv("X-1", "PyPI", "0", "<=2.6.0-NA"), adv("X-2", "PyPI", "0", "<=2.6.0-cu124")},
			[]string{"X-1 -", "X-2 -"}},
		{"beside a last affected that is no version", "PyPI", "2.5.0", []vuln.Advisory{adv("X-1", "PyPI", "0", "<=2.6.0-NA")}, []string{"!X-1"}},

		{"withdrawn", "npm", "1.0.0", []vuln.Advisory{change(adv("X-1", "npm", "0", "2"), func(a *vuln.Advisory) { a.Withdrawn = true })}, []string{"!X-1"}},
		{"the vendor says not affected", deb, "1.0", []vuln.Advisory{
			aliases(adv("X-1", deb, "0", "2"), "CVE-1"),
			change(aliases(adv("DEBIAN-CVE-1", deb), "CVE-1"), func(a *vuln.Advisory) { a.Affected[0].Status = vuln.StatusNotAffected }),
		}, []string{"!DEBIAN-CVE-1", "!X-1"}},

		{"aliases make one", "Go", "v1.0.0", []vuln.Advisory{
			aliases(adv("GO-1", "Go", "0", "1.2.0"), "CVE-1", "GHSA-1"), aliases(adv("GHSA-1", "Go", "0", "1.1.0"), "CVE-1"),
		}, []string{"CVE-1 1.2.0 GHSA-1,GO-1"}},
		{"aliases of aliases", "PyPI", "1.0", []vuln.Advisory{
			aliases(adv("PYSEC-1", "PyPI", "0", "1.2"), "GHSA-1"), aliases(adv("GHSA-1", "PyPI", "0", "1.2"), "CVE-1"), adv("CVE-1", "PyPI", "0", "1.2"),
		}, []string{"CVE-1 1.2 GHSA-1,PYSEC-1"}},
		{"without a CVE the GHSA id", "npm", "1.0.0", []vuln.Advisory{
			aliases(adv("A-1", "npm", "0", "2.0.0"), "GHSA-1"), adv("GHSA-1", "npm", "0", "2.0.0"),
		}, []string{"GHSA-1 2.0.0 A-1"}},
		{"an update fixes several", deb, "1.0", []vuln.Advisory{related(adv("DSA-1-1", deb, "0", "2"), "CVE-2", "CVE-1")},
			[]string{"CVE-1 2 DSA-1-1", "CVE-2 2 DSA-1-1"}},
		{"an update and the CVE's own record", deb, "1.0", []vuln.Advisory{
			related(adv("DSA-1-1", deb, "0", "2"), "CVE-1"), aliases(adv("DEBIAN-CVE-1", deb, "0", "2"), "CVE-1"),
		}, []string{"CVE-1 2 DEBIAN-CVE-1,DSA-1-1"}},
		{"an update without flaws", deb, "1.0", []vuln.Advisory{adv("DLA-1-1", deb, "0", "2")}, []string{"DLA-1-1 2"}},
		{"a bug fix", alma, "1.0-1.el8", []vuln.Advisory{adv("ALBA-1", alma, "0", "2.0-1.el8")}, []string{"!ALBA-1"}},
		{"a bug fix that names a CVE", alma, "1.0-1.el8", []vuln.Advisory{related(adv("ALBA-1", alma, "0", "2.0-1.el8"), "CVE-1")},
			[]string{"CVE-1 2.0-1.el8 ALBA-1"}},
		{"the fix that nothing affects", deb, "1.0", []vuln.Advisory{
			related(adv("DSA-1-1", deb, "0", "1.1"), "CVE-1"), related(adv("DSA-1-2", deb, "0", "1.2"), "CVE-1"),
		}, []string{"CVE-1 1.2 DSA-1-1,DSA-1-2"}},
		{"a fix past another's last affected", "npm", "1.0.0", []vuln.Advisory{
			aliases(adv("A-1", "npm", "0", "<=1.4.0"), "CVE-1"), aliases(adv("B-1", "npm", "0", "1.2.0", "1.3.0", "1.5.0"), "CVE-1"),
		}, []string{"CVE-1 1.5.0 A-1,B-1"}},
		{"a fix that only the record of a later line names", "npm", "3.7.0", []vuln.Advisory{
			aliases(adv("A-1", "npm", "0", "4.17.21"), "CVE-1"), aliases(adv("B-1", "npm", "4.0.0", "4.18.0"), "CVE-1"),
		}, []string{"CVE-1 4.18.0 A-1,B-1", "!B-1"}},
		{"one says unfixed", "npm", "1.0.0", []vuln.Advisory{
			aliases(adv("A-1", "npm", "0", "-"), "CVE-1"), aliases(adv("B-1", "npm", "0", "1.2.0"), "CVE-1"),
		}, []string{"CVE-1 - A-1,B-1"}},

		{"a plain build and a module's fix", alma, "1.0-1.el8", []vuln.Advisory{
			related(adv("ALSA-1", alma, "0", "2.0-1.module_el8.8.0+1+a"), "CVE-1")}, []string{"!ALSA-1"}},
		{"a module's build and a plain fix", alma, "1.0-1.module+el8.1.0+1+a", []vuln.Advisory{
			related(adv("ALSA-1", alma, "0", "2.0-1.el8"), "CVE-1")}, []string{"!ALSA-1"}},
		{"a module's build and its fix", alma, "1.0-1.module_el8.1.0+1+a", []vuln.Advisory{
			related(adv("ALSA-1", alma, "0", "2.0-1.module_el8.8.0+1+a"), "CVE-1")}, []string{"CVE-1 2.0-1.module_el8.8.0+1+a ALSA-1"}},
		{"another stream of the module", alma, "1:14.21.3-1.module_el8.7.0+1+a", []vuln.Advisory{
			change(related(adv("ALSA-1", alma, "0", "1:16.20.2-1.module_el8.8.0+1+a"), "CVE-1"), func(a *vuln.Advisory) { a.Module = "nodejs:16" }),
		}, []string{"!ALSA-1"}},

		{"Go without v", "Go", "v1.0.0", []vuln.Advisory{adv("GO-1", "Go", "0", "1.0.1")}, []string{"GO-1 1.0.1"}},
		{"Go incompatible", "Go", "v20.10.7+incompatible", []vuln.Advisory{adv("GO-1", "Go", "0", "20.10.9")}, []string{"GO-1 20.10.9"}},
		{"Go pseudo-version", "Go", "v0.0.0-20210817142637-7d9622a276b7", []vuln.Advisory{
			adv("GO-1", "Go", "0", "0.0.0-20220412211240-33da011f77ad")}, []string{"GO-1 0.0.0-20220412211240-33da011f77ad"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			key := inventory.Key{Ecosystem: tc.ecosystem, Name: "p", Version: tc.installed}
			if d := gocmp.Diff(tc.want, told(vuln.Match(key, tc.in))); d != "" {
				t.Errorf("Match (-want +got):\n%s", d)
			}
			slices.Reverse(tc.in)
			if d := gocmp.Diff(tc.want, told(vuln.Match(key, tc.in))); d != "" {
				t.Errorf("Match in the other order (-want +got):\n%s", d)
			}
		})
	}
}

func TestToolchain(t *testing.T) {
	a := adv("GO-1", "Go", "1.21.0-0", "1.21.5", "1.22.0-rc.1", "1.22.0-rc.2")
	a.Affected[0].Name = "stdlib"
	for installed, want := range map[string]int{
		"1.21.4": 1, "go1.21.4": 1, "1.21.5": 0, "go1.21.5 X:boringcrypto": 0, "1.21.5-fips": 0, "1.21rc2": 1,
		"1.22rc1": 1, "1.22rc2": 0, "1.20.14": 0,
	} {
		got, cleared := vuln.Match(inventory.Key{Ecosystem: "Go", Name: "stdlib", Version: installed}, []vuln.Advisory{a})
		if len(got) != want || len(got)+len(cleared) != 1 {
			t.Errorf("%s: %d findings, %v; want %d", installed, len(got), cleared, want)
		}
	}
}

func TestFinding(t *testing.T) {
	key := inventory.Key{Ecosystem: "Debian:12", Name: "p", Version: "1.0"}
	dsa := change(related(adv("DSA-1-1", "Debian:12", "0", "1.2"), "CVE-1"), func(a *vuln.Advisory) {
		a.Summary, a.URL, a.EPSS = "p - overflow", "https://debian.test", 0.5
	})
	cve := change(aliases(adv("DEBIAN-CVE-1", "Debian:12", "0", "1.2"), "CVE-1"), func(a *vuln.Advisory) {
		a.Exploited = true
		a.Affected[0].Severity = []vuln.Rating{{Source: "Debian", Severity: vuln.Low}}
	})
	got, _ := vuln.Match(key, []vuln.Advisory{dsa, cve})
	want := []vuln.Finding{{
		ID: "CVE-1", Advisory: "DEBIAN-CVE-1", Aliases: []string{"DEBIAN-CVE-1", "DSA-1-1"}, Package: key, Fixed: "1.2",
		Severity: vuln.Low, SeveritySource: "Debian", Ratings: []vuln.Rating{{Source: "Debian", Severity: vuln.Low}},
		Exploited: true, EPSS: 0.5, Summary: "p - overflow", URL: "https://debian.test",
		Why: "1.0 is below 1.2, the version that fixes it (DEBIAN-CVE-1)",
	}}
	if d := gocmp.Diff(want, got); d != "" {
		t.Errorf("Match (-want +got):\n%s", d)
	}
	wont := change(adv("CVE-2", "Debian:12", "0", "-"), func(a *vuln.Advisory) { a.Affected[0].Status = vuln.StatusWontFix })
	got, _ = vuln.Match(key, []vuln.Advisory{wont, adv("CVE-3", "Debian:12", "0", "-")})
	if len(got) != 2 || got[0].Status != vuln.StatusWontFix || got[1].Status != vuln.StatusUnfixed {
		t.Errorf("statuses: %+v", got)
	}
}

func TestWords(t *testing.T) {
	for _, tc := range []struct {
		installed string
		a         vuln.Advisory
		want      string
	}{
		{"1.0.0", adv("X-1", "npm", "0", "1.2.0"), "1.0.0 is below 1.2.0, the version that fixes it (X-1)"},
		{"1.0.0", adv("X-1", "npm", "0", "<=1.0.0"), "1.0.0 is not above 1.0.0, the last affected version (X-1)"},
		{"1.0.0", adv("X-1", "npm", "0", "-"), "all versions are affected, and no fixed one is known (X-1)"},
		{"1.0.0", adv("X-1", "npm", "0.5.0", "-"), "1.0.0 is not below 0.5.0, the first affected version, and no fixed one is known (X-1)"},
		{"1.3.0", adv("X-1", "npm", "0", "1.2.0"), "fixed in 1.2.0, 1.3.0 is installed"},
		{"1.3.0", adv("X-1", "npm", "0", "<=1.2.0"), "the last affected version is 1.2.0, 1.3.0 is installed"},
		{"1.3.0", adv("X-1", "npm", "2.0.0", "-"), "the first affected version is 2.0.0, 1.3.0 is installed"},
	} {
		found, cleared := vuln.Match(inventory.Key{Ecosystem: "npm", Name: "p", Version: tc.installed}, []vuln.Advisory{tc.a})
		got := ""
		if len(found) == 1 {
			got = found[0].Why
		} else if len(cleared) == 1 {
			got = cleared[0].Rule
		}
		if got != tc.want {
			t.Errorf("%s: %q; want %q", tc.installed, got, tc.want)
		}
	}
}

func TestWorstFirst(t *testing.T) {
	rated := func(id string, s vuln.Severity, more func(*vuln.Advisory)) vuln.Advisory {
		return change(adv(id, "npm", "0", "2.0.0"), func(a *vuln.Advisory) {
			a.Severity = []vuln.Rating{{Source: "GHSA", Severity: s}}
			if more != nil {
				more(a)
			}
		})
	}
	got, _ := vuln.Match(inventory.Key{Ecosystem: "npm", Name: "p", Version: "1.0.0"}, []vuln.Advisory{
		rated("A-6", vuln.Medium, nil), rated("A-5", vuln.Unknown, nil), rated("A-4", vuln.High, nil), rated("A-3", vuln.Critical, nil),
		rated("A-2", vuln.Low, func(a *vuln.Advisory) { a.Exploited = true }), rated("A-1", vuln.None, func(a *vuln.Advisory) { a.Malicious = true }),
		rated("A-7", vuln.Medium, nil),
	})
	var ids []string
	for _, f := range got {
		ids = append(ids, f.ID)
	}
	if d := gocmp.Diff([]string{"A-1", "A-2", "A-3", "A-4", "A-5", "A-6", "A-7"}, ids); d != "" {
		t.Errorf("order (-want +got):\n%s", d)
	}
}

func TestKernelHeaders(t *testing.T) {
	for _, tc := range []struct {
		typ, binary string
		want        bool
	}{
		{"deb", "linux-image-6.1.0-1-amd64", false}, {"deb", "libc6", false}, {"npm", "linux-libc-dev", false},
		{"rpm", "kernel-core", false}, {"deb", "linux-libc-dev", true}, {"rpm", "kernel-headers", true}, {"apk", "linux-headers", true},
	} {
		if got := vuln.KernelHeaders(inventory.Package{Type: tc.typ, Binary: tc.binary}); got != tc.want {
			t.Errorf("KernelHeaders(%s %s) = %t", tc.typ, tc.binary, got)
		}
	}
}

// many makes n updates of one package that fix m flaws each.
func many(n, m int) []vuln.Advisory {
	var out []vuln.Advisory
	for i := range n {
		a := adv(fmt.Sprintf("DSA-%d-1", i), "Debian:12", "0", fmt.Sprintf("6.1.%d-1", i))
		for j := range m {
			a.Related = append(a.Related, fmt.Sprintf("CVE-2024-%d", (i*m+j)%(n*m/2)))
		}
		out = append(out, a)
	}
	return out
}

// TestBounded holds Match to a time that grows with its input and not with its square: a
// record with 20,000 ranges, and 2,000 records that are all aliases.
func TestBounded(t *testing.T) {
	key := inventory.Key{Ecosystem: "npm", Name: "p", Version: "1.0.0"}
	wide := adv("X-1", "npm")
	for i := range 20000 {
		wide.Affected[0].Ranges = append(wide.Affected[0].Ranges, vuln.Range{Events: []vuln.Event{
			{Introduced: fmt.Sprintf("%d.0.0", i)}, {Fixed: fmt.Sprintf("%d.0.0", i+1)}}})
	}
	var chain []vuln.Advisory
	for i := range 2000 {
		chain = append(chain, aliases(adv(fmt.Sprintf("X-%d", i), "npm", "0", "2.0.0"), fmt.Sprintf("X-%d", i+1)))
	}
	if got, _ := vuln.Match(key, []vuln.Advisory{wide}); len(got) != 1 || got[0].Fixed != "20000.0.0" {
		t.Errorf("20,000 adjoining ranges: %v", told(got, nil))
	}
	if got, _ := vuln.Match(key, chain); len(got) != 1 || len(got[0].Aliases) != 2000 {
		t.Errorf("2,000 aliases in a chain: %d findings", len(got))
	}
}

// FuzzMatch compares Match with OSV's algorithm written down plainly, on ranges made at random.
func FuzzMatch(f *testing.F) {
	f.Add(uint64(1), "1.2.3")
	f.Add(uint64(7), "2")
	f.Fuzz(func(t *testing.T, seed uint64, installed string) {
		r := rand.New(rand.NewPCG(seed, 1))
		var in []vuln.Advisory
		for i := range 1 + r.IntN(4) {
			a := adv(fmt.Sprintf("X-%d", i), "npm")
			for range 1 + r.IntN(3) {
				var events []vuln.Event
				for range 1 + r.IntN(5) {
					v := fmt.Sprintf("%d.%d.0", r.IntN(4), r.IntN(3))
					events = append(events, []vuln.Event{{Introduced: v}, {Fixed: v}, {LastAffected: v}}[r.IntN(3)])
				}
				a.Affected[0].Ranges = append(a.Affected[0].Ranges, vuln.Range{Events: append(events, vuln.Event{Introduced: "0"})})
			}
			in = append(in, a)
		}
		key := inventory.Key{Ecosystem: "npm", Name: "p", Version: installed}
		found, cleared := vuln.Match(key, in)
		if len(found)+len(cleared) != len(in) {
			t.Fatalf("%d findings and %d cleared of %d", len(found), len(cleared), len(in))
		}
		for _, a := range in {
			one, _ := vuln.Match(key, []vuln.Advisory{a})
			if want, ok := plainly(installed, a); ok && want != (len(one) == 1) {
				t.Errorf("%s is affected by %+v: %t; want %t", installed, a.Affected[0].Ranges, !want, want)
			}
		}
		if !slices.EqualFunc(found, sorted(found), func(a, b vuln.Finding) bool { return a.ID == b.ID }) {
			t.Errorf("out of order: %v", told(found, nil))
		}
		for _, f := range found {
			if f.Fixed == "" {
				continue
			}
			for i := range in {
				if again, _ := vuln.Match(inventory.Key{Ecosystem: "npm", Name: "p", Version: f.Fixed}, in[i:i+1]); in[i].ID == f.ID && len(again) > 0 {
					t.Errorf("%s is said to be fixed in %s, which it affects", f.ID, f.Fixed)
				}
			}
		}
	})
}

// plainly is OSV's evaluation, range by range and event by event. It is not ok if installed
// is no version.
func plainly(installed string, a vuln.Advisory) (affected, ok bool) {
	if _, err := version.Parse("npm", installed); err != nil {
		return false, false
	}
	at := func(e vuln.Event) string { return cmp.Or(e.Introduced, e.Fixed, e.LastAffected) }
	order := func(e vuln.Event) int {
		switch {
		case e.Fixed != "":
			return 0
		case e.LastAffected != "":
			return 1
		}
		return 2
	}
	above := func(v, w string) int {
		c, err := version.Compare("npm", v, w)
		if err != nil {
			panic(err) // versions of this test's own making
		}
		return c
	}
	for _, r := range a.Affected[0].Ranges {
		events := slices.Clone(r.Events)
		slices.SortStableFunc(events, func(e, f vuln.Event) int {
			return cmp.Or(rankZero(e)-rankZero(f), above(at(e), at(f)), order(e)-order(f))
		})
		in := false
		for _, e := range events {
			switch {
			case e.Introduced == "0" || e.Introduced != "" && above(installed, e.Introduced) >= 0:
				in = true
			case e.Fixed != "" && above(installed, e.Fixed) >= 0, e.LastAffected != "" && above(installed, e.LastAffected) > 0:
				in = false
			}
		}
		if in {
			return true, true
		}
	}
	return false, true
}

func rankZero(e vuln.Event) int {
	if e.Introduced == "0" {
		return -1
	}
	return 0
}

func sorted(fs []vuln.Finding) []vuln.Finding {
	out := slices.Clone(fs)
	slices.SortFunc(out, vuln.Compare)
	return out
}

func BenchmarkMatch(b *testing.B) {
	in := many(1000, 4)
	key := inventory.Key{Ecosystem: "Debian:12", Name: "p", Version: "6.1.500-1"}
	b.ReportAllocs()
	for b.Loop() {
		vuln.Match(key, in)
	}
}

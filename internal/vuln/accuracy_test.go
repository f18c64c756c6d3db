package vuln_test

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/vuln"
)

// accuracyCase is a case of testdata/accuracy.
type accuracyCase struct {
	OS *struct {
		ID      string
		Version string `json:"version_id"`
	}
	Packages []casePackage
	Expected struct {
		Match    string
		Optional []string `json:"optional_ids"`
		Ignore   []string `json:"ignore_ids"`
		Findings []struct {
			ID, Name, Version, Fixed string
			AnyOf                    []string `json:"any_of"`
		}
	}
}

type casePackage struct {
	Type, Name, Version, Source string
	SourceVersion               string `json:"source_version"`
}

func readJSON(t *testing.T, file string, to any) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, to); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// key is what the package is looked up by, as extraction gives it.
func (c *accuracyCase) key(p casePackage) inventory.Key {
	source := func() (name, version string) {
		name, version = p.Name, p.Version
		if p.Source != "" {
			name = p.Source
		}
		if p.SourceVersion != "" {
			version = p.SourceVersion
		}
		return name, version
	}
	k := inventory.Key{Name: p.Name, Version: p.Version}
	switch p.Type {
	case "dpkg":
		k.Name, k.Version = source()
		k.Ecosystem = map[string]string{"debian": "Debian:", "ubuntu": "Ubuntu:"}[c.OS.ID] + c.OS.Version
		if c.OS.ID == "ubuntu" {
			k.Ecosystem += ":LTS"
		}
	case "apk":
		k.Name, _ = source()
		k.Ecosystem = "Alpine:v" + c.OS.Version[:strings.LastIndexByte(c.OS.Version, '.')]
	case "rpm":
		major, _, _ := strings.Cut(c.OS.Version, ".")
		k.Ecosystem = "AlmaLinux:" + major
	case "pypi":
		k.Ecosystem, k.Name = "PyPI", vuln.NormalName("PyPI", p.Name)
	default:
		k.Ecosystem = map[string]string{"npm": "npm", "go": "Go", "maven": "Maven", "gem": "RubyGems"}[p.Type]
	}
	return k
}

// dumps reads every all.zip below folder, by the package names that records hold.
func dumps(t *testing.T, folder string) map[string][]vuln.Advisory {
	t.Helper()
	zips, err := filepath.Glob(filepath.Join(folder, "*", "all.zip"))
	if err != nil || len(zips) == 0 {
		t.Fatalf("no dumps in %s (%v)", folder, err)
	}
	out := map[string][]vuln.Advisory{}
	for _, file := range zips {
		z, err := zip.OpenReader(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range z.File {
			a, err := vuln.ParseOSV(readEntry(t, entry), "test")
			if err != nil {
				t.Fatalf("%s: %s: %v", file, entry.Name, err)
			}
			names := map[string]bool{}
			for _, aff := range a.Affected {
				if !names[aff.Name] {
					names[aff.Name] = true
					out[aff.Name] = append(out[aff.Name], a)
				}
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func readEntry(t testing.TB, entry *zip.File) []byte {
	t.Helper()
	r, err := entry.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

type reported struct {
	vuln.Finding
	pkg  casePackage
	used bool
}

func (r *reported) is(ids []string) bool {
	return slices.ContainsFunc(append([]string{r.ID}, r.Aliases...), func(id string) bool { return slices.Contains(ids, id) })
}

var goVersion = regexp.MustCompile(`^(go|v)`)

// score compares as the cases' own compare.py does.
func (c *accuracyCase) score(got []*reported) (want, met int, missing, extra []string) {
	for _, f := range c.Expected.Findings {
		found := false
		for _, g := range got {
			if g.pkg.Name == f.Name && goVersion.ReplaceAllString(g.pkg.Version, "") == goVersion.ReplaceAllString(f.Version, "") && g.is(f.AnyOf) {
				g.used, found = true, true
				if f.Fixed != "" && g.Fixed != f.Fixed {
					extra = append(extra, fmt.Sprintf("%s %s %s is fixed in %q, said to be in %q", f.Name, f.Version, f.ID, g.Fixed, f.Fixed))
				}
			}
		}
		switch {
		case found:
			want, met = want+1, met+1
		case !slices.Contains(c.Expected.Optional, f.ID):
			want++
			missing = append(missing, fmt.Sprintf("%s %s %s", f.Name, f.Version, f.ID))
		}
	}
	for _, g := range got {
		if c.Expected.Match == "exact" && !g.used && !g.is(c.Expected.Ignore) && !g.is(c.Expected.Optional) {
			extra = append(extra, fmt.Sprintf("%s %s %s (%s)", g.pkg.Name, g.pkg.Version, g.ID, g.Why))
		}
	}
	return want, met, missing, extra
}

// TestAccuracy holds Match to what others say of the same packages.
func TestAccuracy(t *testing.T) {
	const least = 0.98
	root := filepath.Join("testdata", "accuracy")
	cases, err := filepath.Glob(filepath.Join(root, "*", "input.json"))
	if err != nil || len(cases) < 8 {
		t.Fatalf("%d cases in %s (%v)", len(cases), root, err)
	}
	common := dumps(t, filepath.Join(root, "advisories"))
	for _, input := range cases {
		folder := filepath.Dir(input)
		t.Run(filepath.Base(folder), func(t *testing.T) {
			var c accuracyCase
			readJSON(t, input, &c)
			readJSON(t, filepath.Join(folder, "expected.json"), &c.Expected)
			advisories := common
			if _, err := os.Stat(filepath.Join(folder, "advisories")); !errors.Is(err, fs.ErrNotExist) {
				advisories = dumps(t, filepath.Join(folder, "advisories"))
			}
			var got []*reported
			for _, p := range c.Packages {
				key := c.key(p)
				findings, cleared := vuln.Match(key, advisories[key.Name])
				for _, f := range findings {
					got = append(got, &reported{Finding: f, pkg: p})
				}
				for _, cl := range cleared {
					if cl.Undecided {
						t.Logf("undecided: %s %s: %s", p.Name, cl.Advisory, cl.Rule)
					}
				}
			}
			want, met, missing, extra := c.score(got)
			precision, recall := 1.0, 1.0
			if len(got) > 0 {
				precision = 1 - float64(len(extra))/float64(len(got))
			}
			if want > 0 {
				recall = float64(met) / float64(want)
			}
			t.Logf("precision %.3f, recall %.3f: %d expected, %d met, %d reported", precision, recall, want, met, len(got))
			for _, m := range missing {
				t.Logf("missing %s", m)
			}
			for _, e := range extra {
				t.Logf("extra   %s", e)
			}
			if precision < least || recall < least {
				t.Errorf("precision %.3f, recall %.3f; want %.2f of both", precision, recall, least)
			}
		})
	}
}

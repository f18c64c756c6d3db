package version_test

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/version"
)

func TestRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, ecosystem, text string
		want                  error
	}{
		{"unknown ecosystem", "Plan9", "1.0", version.ErrEcosystem},
		{"no ecosystem", "", "1.0", version.ErrEcosystem},
		{"other case", "NPM", "1.0", version.ErrEcosystem},
		{"empty", "npm", "", version.ErrInvalid},
		{"only space", "Debian:12", " \t", version.ErrInvalid},
		{"newline", "Debian:12", "1.0\n2", version.ErrInvalid},
		{"too long", "Maven", strings.Repeat("1", version.MaxLength+1), version.ErrInvalid},
		{"a main module built from a checkout", "Go", "(devel)", version.ErrInvalid},
		{"a toolchain from a checkout", "Go", "devel +abc", version.ErrInvalid},
		{"a branch", "npm", "latest", version.ErrInvalid},
		{"a word", "RubyGems", "unknown", version.ErrInvalid},
		{"an unset property", "Maven", "${revision}", version.ErrInvalid},
		{"an epoch that is no number", "Debian:12", "a:1", version.ErrInvalid},
		{"an epoch alone", "Debian:12", "1:", version.ErrInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := version.Parse(tc.ecosystem, tc.text); !errors.Is(err, tc.want) {
				t.Errorf("Parse(%q, %.40q) = %v; want %v", tc.ecosystem, tc.text, err, tc.want)
			}
			if _, err := version.Compare(tc.ecosystem, "1.0", tc.text); !errors.Is(err, tc.want) {
				t.Errorf("Compare(%q, 1.0, %.40q) = %v; want %v", tc.ecosystem, tc.text, err, tc.want)
			}
		})
	}
}

func TestMixed(t *testing.T) {
	d, err := version.Parse("Debian:12", "1.0")
	if err != nil {
		t.Fatal(err)
	}
	n, err := version.Parse("npm", "1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Compare(n); !errors.Is(err, version.ErrMixed) {
		t.Errorf("a Debian with an npm version: %v; want ErrMixed", err)
	}
	if _, err := (version.Version{}).Compare(version.Version{}); !errors.Is(err, version.ErrMixed) {
		t.Errorf("two zero versions: %v; want ErrMixed", err)
	}
}

func TestCompare(t *testing.T) {
	for _, tc := range []struct {
		name, ecosystem, a, b string
		want                  int
	}{
		{"tilde sorts before release", "Debian:12", "1.0~rc1", "1.0", -1},
		{"epoch outranks all", "Debian", "1:0.1", "9.9", +1},
		{"Ubuntu is ordered as Debian", "Ubuntu:22.04:LTS", "1.0-1ubuntu1", "1.0-1ubuntu1.1", -1},
		{"binary rebuild", "Debian:11", "1.0-1+b1", "1.0-1", +1},
		{"rpm epoch", "AlmaLinux:9", "1:3.0.7-27.el9", "3.2.1-1.el9", +1},
		{"rpm epoch zero is none", "Rocky Linux:9", "0:3.0.7-27.el9", "3.0.7-27.el9", 0},
		{"rpm release", "Amazon Linux:2", "1.0-9.amzn2", "1.0-10.amzn2", -1},
		{"apk build", "Alpine:v3.18", "3.1.4-r1", "3.1.4-r10", -1},
		{"apk pre-release", "Wolfi", "1.0_rc1-r0", "1.0-r0", -1},
		{"apk patch", "Chainguard", "1.0_p1-r0", "1.0-r0", +1},
		{"apk leading zero", "Alpine:v3.18", "1.01-r0", "1.1-r0", -1},
		{"npm number not text", "npm", "4.17.9", "4.17.21", -1},
		{"npm pre-release", "npm", "1.0.0-rc.1", "1.0.0", -1},
		{"Go with and without v", "Go", "v1.2.3", "1.2.3", 0},
		{"Go incompatible", "Go", "v20.10.7+incompatible", "20.10.7", 0},
		{"Go pseudo-version before its release", "Go", "v0.0.0-20210817142637-7d9622a276b7", "0.1.0", -1},
		{"Go pseudo-versions by time", "Go", "v0.0.0-20210817142637-7d9622a276b7", "0.0.0-20220412211240-33da011f77ad", -1},
		{"Go toolchain without patch", "Go", "go1.19", "1.19.0", 0},
		{"Go toolchain candidate", "Go", "go1.21rc2", "1.21.0-rc.2", 0},
		{"Go toolchain candidates by number", "Go", "go1.21rc10", "1.21.0-rc.9", +1},
		{"Go toolchain candidate after the cycle's begin", "Go", "1.22rc1", "1.22.0-0", +1},
		{"Go toolchain candidate before release", "Go", "1.22rc1", "1.22.0", -1},
		{"crates pre-release zero", "crates.io", "0.0.0-0", "0.0.0", -1},
		{"four numbers count", "npm", "1.2.3.4", "1.2.3", +1},
		{"PyPI zero padding", "PyPI", "1.0", "1.0.0", 0},
		{"PyPI post release", "PyPI", "1.0.post1", "1.0", +1},
		{"PyPI development release", "PyPI", "1.0.dev1", "1.0a1", -1},
		{"PyPI epoch", "PyPI", "1!0.1", "2024.1", +1},
		{"Maven snapshot", "Maven", "1.0-SNAPSHOT", "1.0", -1},
		{"Maven final", "Maven", "1.0.Final", "1.0", 0},
		{"Maven jre", "Maven", "32.0.0-jre", "32.0.0-android", +1},
		{"RubyGems pre-release", "RubyGems", "1.0.a", "1.0", -1},
		{"NuGet fourth number", "NuGet", "1.0.0.1", "1.0.0", +1},
		{"Packagist v", "Packagist", "v1.2.3", "1.2.3", 0},
		{"longer than a machine word", "npm", "99999999999999999999999.0.0", "99999999999999999999998.0.0", +1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := version.Compare(tc.ecosystem, tc.a, tc.b)
			if err != nil || got != tc.want {
				t.Errorf("Compare(%s, %q, %q) = %d, %v; want %d", tc.ecosystem, tc.a, tc.b, got, err, tc.want)
			}
			got, err = version.Compare(tc.ecosystem, tc.b, tc.a)
			if err != nil || got != -tc.want {
				t.Errorf("Compare(%s, %q, %q) = %d, %v; want %d", tc.ecosystem, tc.b, tc.a, got, err, -tc.want)
			}
		})
	}
}

// TestVectors holds every order to the lines "A < B" of testdata.
func TestVectors(t *testing.T) {
	for _, tc := range []struct {
		file, ecosystem string
		atLeast         int
	}{
		{"alpine-versions.txt", "Alpine:v3.18", 700},
		{"apk-order.txt", "Wolfi", 15},
		{"debian-versions.txt", "Debian:12", 25},
		{"dpkg-oracle.txt", "Ubuntu:22.04:LTS", 4000},
		{"redhat-versions.txt", "AlmaLinux:9", 120},
		{"rpm-oracle.txt", "openSUSE:Leap 15.5", 4000},
		{"semver-versions.txt", "npm", 60},
		{"semver-versions.txt", "Go", 60},
		{"npm-oracle.txt", "crates.io", 3000},
		{"maven-versions.txt", "Maven", 60},
		{"nuget-versions.txt", "NuGet", 30},
		{"packagist-versions.txt", "Packagist", 60},
		{"pypi-versions.txt", "PyPI", 30},
		{"rubygems-versions.txt", "RubyGems", 25},
	} {
		t.Run(tc.file+" "+tc.ecosystem, func(t *testing.T) {
			checkVectors(t, filepath.Join("testdata", tc.file), tc.ecosystem, tc.atLeast)
		})
	}
}

func checkVectors(t *testing.T, file, ecosystem string, atLeast int) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "# ") || strings.HasPrefix(line, "// ") {
			continue
		}
		part := strings.Fields(line)
		if len(part) != 3 || !strings.Contains("<=>", part[1]) {
			t.Fatalf("%s: %q is not \"A < B\"", file, line)
		}
		n++
		want := strings.Index("<=>", part[1]) - 1
		if got, err := version.Compare(ecosystem, part[0], part[2]); err != nil || got != want {
			t.Errorf("%s: got %d, %v", line, got, err)
		}
		if got, err := version.Compare(ecosystem, part[2], part[0]); err != nil || got != -want {
			t.Errorf("%s: the other way round got %d, %v", line, got, err)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if n < atLeast {
		t.Errorf("%s holds %d lines; want at least %d", file, n, atLeast)
	}
}

// ecosystems has one ecosystem of every order.
var ecosystems = []string{"Debian:12", "AlmaLinux:9", "Alpine:v3.18", "npm", "Go", "PyPI", "Maven", "RubyGems", "NuGet", "Packagist"}

// ownOrder are those whose order is written here; it must be a total one, whatever the input.
var ownOrder = ecosystems[:5]

func FuzzCompare(f *testing.F) {
	for _, seed := range [][3]string{
		{"1.0", "1.0~rc1", "1:0.9-1"}, {"1.2.3-r4", "1.2_p1", "1-ruff2"}, {"1.0^git1", "1.0~pre", "1.a"},
		{"v0.0.0-20210817142637-7d9622a276b7", "1.0.0-rc.1+x", "1.2.3.4"}, {"1.0.post1.dev2", "1!2a", "2004d"},
		{"1-1.foo-bar1baz-.1", "1.0.Final", "1-sp"}, {"1.01", "1.1", "1.001"}, {"0", "00", "-"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		for _, e := range ecosystems {
			ab, err := version.Compare(e, a, b)
			if err != nil {
				continue
			}
			ba, err := version.Compare(e, b, a)
			if err != nil || ab != -ba || ab < -1 || ab > 1 {
				t.Errorf("%s: %q with %q is %d, the other way round %d, %v", e, a, b, ab, ba, err)
			}
		}
		for _, e := range ownOrder {
			checkTransitive(t, e, a, b, c)
		}
	})
}

func checkTransitive(t *testing.T, e, a, b, c string) {
	t.Helper()
	ab, err1 := version.Compare(e, a, b)
	bc, err2 := version.Compare(e, b, c)
	ac, err3 := version.Compare(e, a, c)
	if err1 != nil || err2 != nil || err3 != nil {
		return
	}
	if ab <= 0 && bc <= 0 && (ac > 0 || ac == 0 && ab+bc < 0) || ab >= 0 && bc >= 0 && (ac < 0 || ac == 0 && ab+bc > 0) {
		t.Errorf("%s: %q, %q, %q compare as %d, %d, and the outer two as %d", e, a, b, c, ab, bc, ac)
	}
}

func BenchmarkCompare(b *testing.B) {
	for _, tc := range []struct{ ecosystem, a, b string }{
		{"Debian:12", "1:2.36.1-8+deb12u1", "1:2.36.1-8+deb12u2"},
		{"AlmaLinux:9", "1:3.0.7-27.el9", "1:3.0.7-28.el9_4"},
		{"Alpine:v3.18", "3.1.4-r1", "3.1.4-r5"},
		{"npm", "4.17.20", "4.17.21"},
		{"Go", "v0.0.0-20210817142637-7d9622a276b7", "0.38.0"},
		{"PyPI", "2.31.0", "2.32.0"},
		{"Maven", "2.14.1", "2.17.0"},
	} {
		b.Run(tc.ecosystem, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := version.Compare(tc.ecosystem, tc.a, tc.b); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

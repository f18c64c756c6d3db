package e2e

import (
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The exit codes of scan.
const (
	exitAllowed    = 0
	exitQuarantine = 1
	exitUnknown    = 2
)

// scan runs `pratique scan` without a server.
func scan(t *testing.T, args ...string) result {
	t.Helper()
	return command{name: binary, args: append([]string{"scan"}, args...)}.run(t)
}

// TestScan scans the same content as everything that scan takes, clean and not.
func TestScan(t *testing.T) {
	s := sharedRegistry(t)
	base := debian(t)
	for _, tc := range []struct {
		name, spec, decision string
		code                 int
	}{
		{"vulnerable", handlebarsOld, "quarantine", exitQuarantine},
		{"fixed", handlebarsFixed, "allow", exitAllowed},
	} {
		img := buildImage(t, format{}, base, npmPart(t, tc.spec))
		s.push(t, "scan/app", tc.name, img)
		for _, target := range []struct{ name, target string }{
			{"OCI layout", writeLayout(t, img)},
			{"docker save archive", writeDockerArchive(t, img)},
			{"OCI archive", writeOCIArchive(t, img)},
			{"root folder", rootFolder(t, npm(t, tc.spec))},
		} {
			t.Run(tc.name+"/"+target.name, func(t *testing.T) {
				got := scan(t, target.target, "-o", "json")
				if got.code != tc.code {
					t.Fatalf("exit code %d, want %d\n%s", got.code, tc.code, got.stderr)
				}
				wantScan(t, parseReport(t, got), tc.decision)
			})
		}
		t.Run(tc.name+"/registry", func(t *testing.T) {
			// The gate holds for scans too: what is quarantined is not handed out to be scanned.
			c := s.pratique("scan", s.ref("scan/app", tc.name), "-o", "json")
			c.env = append(c.env, "DOCKER_CONFIG="+s.home)
			got := c.run(t)
			if tc.decision == "quarantine" {
				if got.code != exitUnknown {
					t.Fatalf("exit code %d, want %d\n%s", got.code, exitUnknown, got.stderr)
				}
				wantWords(t, "the message", got.stderr, "handlebars", "4.7.9")
				return
			}
			if got.code != tc.code {
				t.Fatalf("exit code %d, want %d\n%s", got.code, tc.code, got.stderr)
			}
			r := parseReport(t, got)
			wantScan(t, r, tc.decision)
			if r.Digest != digest(t, img) {
				t.Errorf("digest %s, want %s", r.Digest, digest(t, img))
			}
		})
	}
}

// rootFolder is a root file system as a build leaves it in a folder: the package
// database of a real Debian, and more.
func rootFolder(t *testing.T, more tree) string {
	t.Helper()
	root, dir := debianRoot(t), t.TempDir()
	for _, name := range []string{"usr/lib/os-release", "var/lib/dpkg/status"} {
		body, err := os.ReadFile(filepath.Join(root, name))
		check(t, err)
		more = merge(more, tree{name: {body: body, mode: 0o644}})
	}
	more.write(t, dir)
	check(t, os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
	check(t, os.Symlink("../usr/lib/os-release", filepath.Join(dir, "etc/os-release")))
	return dir
}

func wantScan(t *testing.T, r report, decision string) {
	t.Helper()
	r.wantDecision(t, decision)
	if r.Distro.ID != "debian" {
		t.Errorf("distro is %q, want debian", r.Distro.ID)
	}
	if r.Advisories.AsOf == "" {
		t.Error("advisories.asOf is empty")
	}
	if decision == "quarantine" {
		f := r.find(t, "handlebars", handlebarsID)
		if f.Fixed != "4.7.9" || f.Severity != "critical" {
			t.Errorf("finding is %+v", f)
		}
	}
	debs := 0
	for _, p := range r.Packages {
		if p.Ecosystem == "Debian:12" {
			debs++
			if p.Source == "" || p.SourceVersion == "" || p.PURL == "" || len(p.Paths) == 0 {
				t.Errorf("package %+v lacks its source, purl or path", p)
			}
		}
	}
	if debs < 80 {
		t.Errorf("%d Debian packages, a minimal root has over 80", debs)
	}
}

// TestScanSameAsServer compares scan with show: one schema, one answer.
func TestScanSameAsServer(t *testing.T) {
	s := sharedRegistry(t)
	img := buildImage(t, format{}, debian(t), npmPart(t, handlebarsOld))
	s.push(t, "same/app", "1", img)
	shown := s.show(t, "same/app:1")
	scanned := parseReport(t, scan(t, writeLayout(t, img), "-o", "json"))
	if len(shown.Packages) != len(scanned.Packages) || len(shown.Findings) != len(scanned.Findings) {
		t.Fatalf("show has %d packages and %d findings, scan %d and %d",
			len(shown.Packages), len(shown.Findings), len(scanned.Packages), len(scanned.Findings))
	}
	for i := range shown.Findings {
		a, b := shown.Findings[i], scanned.Findings[i]
		if a.ID != b.ID || a.Package != b.Package || a.Fixed != b.Fixed || a.Severity != b.Severity || a.Fix != b.Fix {
			t.Errorf("finding %d: show says %+v, scan %+v", i, a, b)
		}
	}
}

// TestScanIndex scans a layout that holds an index: each platform has its report.
func TestScanIndex(t *testing.T) {
	fixed := platformImage(t, "fixed", "amd64", handlebarsFixed)
	old := platformImage(t, "old", "arm64", handlebarsOld)
	dir, _ := writeIndex(t, map[string]v1.Image{"amd64": fixed, "arm64": old})
	got := scan(t, dir, "-o", "json")
	if got.code != exitQuarantine {
		t.Fatalf("exit code %d, want %d\n%s", got.code, exitQuarantine, got.stderr)
	}
	r := parseReport(t, got)
	if len(r.Platforms) != 2 {
		t.Fatalf("%d platforms, want 2", len(r.Platforms))
	}
	for _, p := range r.Platforms {
		want := map[string]string{digest(t, fixed): "allow", digest(t, old): "quarantine"}[p.Digest]
		if p.Decision != want {
			t.Errorf("platform %s is %q, want %q", p.Platform, p.Decision, want)
		}
	}
}

// TestScanItself scans the program under test: its own modules are listed.
func TestScanItself(t *testing.T) {
	body, err := os.ReadFile(binary)
	check(t, err)
	dir := t.TempDir()
	tree{"usr/bin/pratique": {body: body, mode: 0o755}}.write(t, dir)
	r := parseReport(t, scan(t, dir, "-o", "json"))
	modules := 0
	for _, p := range r.Packages {
		if p.Ecosystem == "Go" {
			modules++
		}
	}
	if modules < 20 {
		t.Errorf("%d Go modules in the program, it is built from more", modules)
	}
	for _, f := range r.Findings {
		if f.Severity == "critical" {
			t.Errorf("the program itself has a critical flaw: %+v", f)
		}
	}
}

// TestScanCannotTell gives scan what it cannot judge: exit code 2, and why.
func TestScanCannotTell(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.tar")
	check(t, os.WriteFile(broken, []byte("this is no archive"), 0o644))
	truncated := writeDockerArchive(t, buildImage(t, format{}, npmPart(t, jqueryFixed)))
	info, err := os.Stat(truncated)
	check(t, err)
	check(t, os.Truncate(truncated, info.Size()/2))
	emptyLayout := t.TempDir()
	tree{"oci-layout": text(`{"imageLayoutVersion":"1.0.0"}`),
		"index.json": text(`{"schemaVersion":2,"manifests":[]}`)}.write(t, emptyLayout)
	fixed := writeLayout(t, buildImage(t, format{}, npmPart(t, jqueryFixed)))

	for _, tc := range []struct {
		name string
		args []string
		says string
	}{
		{"nothing there", []string{filepath.Join(t.TempDir(), "absent")}, "absent"},
		{"no archive", []string{broken}, "broken.tar"},
		{"truncated archive", []string{truncated}, "image.tar"},
		{"layout without images", []string{emptyLayout}, "no image"},
		{"no server there", []string{"127.0.0.1:1/app:1"}, "127.0.0.1:1"},
		{"no advisories there", []string{fixed, "--advisories", t.TempDir()}, "advisories"},
		{"no target", nil, "arg"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := scan(t, append(tc.args, "-o", "json")...)
			if got.code != exitUnknown {
				t.Errorf("exit code %d, want %d\n%s%s", got.code, exitUnknown, got.stdout, got.stderr)
			}
			wantWords(t, "the message", got.stderr, tc.says)
		})
	}
}

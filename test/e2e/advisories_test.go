package e2e

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// record is an advisory of these tests: jquery below 3.6.0 is made critical.
const record = `{
  "schema_version": "1.7.0",
  "id": "E2E-2026-0001",
  "modified": "2026-11-01T00:00:00Z",
  "published": "2026-11-01T00:00:00Z",
  "summary": "made for a test",
  "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
  "affected": [{
    "package": {"ecosystem": "npm", "name": "jquery"},
    "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "3.6.0"}]}]
  }]
}`

// dump writes a folder of advisories in the layout of OSV's dumps.
func dump(t *testing.T, ecosystem string, records map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	check(t, os.Mkdir(filepath.Join(dir, ecosystem), 0o755))
	f, err := os.Create(filepath.Join(dir, ecosystem, "all.zip"))
	check(t, err)
	z := zip.NewWriter(f)
	for name, body := range records {
		w, err := z.Create(name)
		check(t, err)
		_, err = w.Write([]byte(body))
		check(t, err)
	}
	check(t, errors.Join(z.Close(), f.Close()))
	return dir
}

// hideBlobs moves all blobs of a data folder away, so that whoever reads one fails.
func hideBlobs(t *testing.T, data string, digests ...string) (restore func()) {
	t.Helper()
	moved := map[string]string{}
	for _, d := range digests {
		_, hex, _ := strings.Cut(d, ":")
		found := 0
		check(t, filepath.WalkDir(data, func(p string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.Contains(e.Name(), hex) {
				return err
			}
			found++
			moved[p] = p + ".hidden"
			return os.Rename(p, moved[p])
		}))
		if found == 0 {
			t.Fatalf("no file of %s in the data folder", d)
		}
	}
	return func() {
		for p, hidden := range moved {
			check(t, os.Rename(hidden, p))
		}
	}
}

// TestImport brings in an advisory about an image that was allowed: it is judged anew,
// and no layer is read for it.
func TestImport(t *testing.T) {
	s := start(t, loadedData(t))
	img := buildImage(t, format{}, npmPart(t, jqueryFixed))
	s.push(t, "import/app", "1", img)
	s.show(t, "import/app:1").wantDecision(t, "allow")

	restore := hideBlobs(t, s.data, layerDigest(t, img, 0))
	dir := dump(t, "npm", map[string]string{"E2E-2026-0001.json": record})
	s.pratique("advisories", "import", dir).mustRun(t)
	check(t, s.awaitDecision("import/app:1", "quarantine"))
	r := s.show(t, "import/app:1")
	f := r.find(t, "jquery", "E2E-2026-0001")
	if f.Fixed != "3.6.0" || f.Severity != "critical" {
		t.Errorf("finding is %+v", f)
	}
	restore()

	// Once more changes nothing: same records, same verdict.
	before := s.npmStatus(t)
	s.pratique("advisories", "import", dir).mustRun(t)
	if after := s.npmStatus(t); after != before {
		t.Errorf("npm after the second import: %+v, before it %+v", after, before)
	}
	s.show(t, "import/app:1").wantDecision(t, "quarantine")

	// The records withdrawn, the image is free again.
	withdrawn := strings.Replace(record, `"summary"`, `"withdrawn": "2026-11-02T00:00:00Z", "summary"`, 1)
	s.pratique("advisories", "import", dump(t, "npm", map[string]string{"E2E-2026-0001.json": withdrawn})).mustRun(t)
	check(t, s.awaitDecision("import/app:1", "allow"))
}

// TestImportMany imports a folder of several ecosystems in one go, twice.
func TestImportMany(t *testing.T) {
	s := start(t, loadedData(t))
	dir := dump(t, "npm", map[string]string{"E2E-2026-0001.json": record})
	for _, ecosystem := range []string{"PyPI", "Go", "Maven", "crates.io"} {
		r := strings.NewReplacer("E2E-2026-0001", "E2E-2026-"+ecosystem, `"npm"`, `"`+ecosystem+`"`, `"jquery"`, `"nobody-has-this"`, "SEMVER", "ECOSYSTEM").Replace(record)
		from := dump(t, ecosystem, map[string]string{"E2E-2026-" + ecosystem + ".json": r})
		check(t, os.Rename(filepath.Join(from, ecosystem), filepath.Join(dir, ecosystem)))
	}
	for range 2 {
		s.pratique("advisories", "import", dir).mustRun(t)
		if e := s.npmStatus(t); e.Records != 1 {
			t.Errorf("npm is %+v, want the dump's one record", e)
		}
	}
}

// awaitDecision waits until the server has judged an image so.
func (s *server) awaitDecision(image, want string) error {
	return s.await(waitJudged, "done with judging "+image+" "+want, func() (bool, error) {
		out, err := s.output("show", image, "-o", "json")
		if err != nil {
			return false, err
		}
		var r report
		return json.Unmarshal(out, &r) == nil && r.Decision == want, nil
	})
}

// ecosystemStatus is what `advisories status` says of one ecosystem.
type ecosystemStatus struct {
	Ecosystem string `json:"ecosystem"`
	Source    string `json:"source"`
	Records   int    `json:"records"`
	Newest    string `json:"newest"`
}

func (s *server) npmStatus(t *testing.T) ecosystemStatus {
	t.Helper()
	var status struct {
		Ecosystems []ecosystemStatus `json:"ecosystems"`
	}
	r := s.pratique("advisories", "status", "-o", "json").mustRun(t)
	check(t, json.Unmarshal([]byte(r.stdout), &status))
	for _, e := range status.Ecosystems {
		if e.Ecosystem == "npm" {
			return e
		}
	}
	t.Fatalf("advisories status has no npm: %s", r.stdout)
	return ecosystemStatus{}
}

// TestStatus reads what there is of advisories, for people and for programs.
func TestStatus(t *testing.T) {
	s := sharedRegistry(t)
	if e := s.npmStatus(t); e.Records < 500 || e.Newest == "" || e.Source == "" {
		t.Errorf("npm is %+v", e)
	}
	wantWords(t, "advisories status", s.pratique("advisories", "status").mustRun(t).stdout,
		"AlmaLinux", "Alpine", "Debian", "Go", "Maven", "PyPI", "crates.io", "npm")
}

// TestImportBroken imports what is damaged: a clear error, and nothing of it is kept.
func TestImportBroken(t *testing.T) {
	s := start(t, loadedData(t))
	before := s.npmStatus(t)
	notZip := t.TempDir()
	tree{"npm/all.zip": text("not a zip")}.write(t, notZip)
	for _, tc := range []struct {
		name, dir string
		says      []string
	}{
		{"not a zip", notZip, []string{"npm/all.zip"}},
		{"malformed record", dump(t, "npm", map[string]string{"GOOD-1.json": record, "BAD-1.json": `{"id": "BAD-1", "affected": 7`}),
			[]string{"npm/all.zip", "BAD-1.json"}},
		{"empty folder", t.TempDir(), []string{"all.zip"}},
		{"no folder", filepath.Join(t.TempDir(), "absent"), []string{"absent"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := s.pratique("advisories", "import", tc.dir).run(t)
			if got.code == 0 {
				t.Errorf("exit code 0\n%s%s", got.stdout, got.stderr)
			}
			wantWords(t, "the message", got.stderr, tc.says...)
			if after := s.npmStatus(t); after != before {
				t.Errorf("npm is now %+v, was %+v", after, before)
			}
		})
	}
}

// TestScanAdvisories scans with a dump alone: the embedded records are out of the game.
func TestScanAdvisories(t *testing.T) {
	layout := writeLayout(t, buildImage(t, format{}, npmPart(t, jqueryFixed)))
	dir := dump(t, "npm", map[string]string{"E2E-2026-0001.json": record})
	got := scan(t, layout, "--advisories", dir, "-o", "json")
	if got.code != exitQuarantine {
		t.Fatalf("exit code %d, want %d\n%s", got.code, exitQuarantine, got.stderr)
	}
	r := parseReport(t, got)
	r.find(t, "jquery", "E2E-2026-0001")
	if len(r.Findings) != 1 {
		t.Errorf("%d findings, want the dump's one: %s", len(r.Findings), r.summary())
	}

	fixed := strings.ReplaceAll(record, "3.6.0", "3.5.1")
	got = scan(t, layout, "--advisories", dump(t, "npm", map[string]string{"E2E-2026-0001.json": fixed}), "-o", "json")
	if got.code != exitAllowed {
		t.Errorf("exit code %d, want %d\n%s", got.code, exitAllowed, got.stderr)
	}
}

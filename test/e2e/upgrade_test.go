package e2e

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ncruces/go-sqlite3"
)

// TestUpgrade opens a data folder of every released schema with the program under test.
func TestUpgrade(t *testing.T) {
	if *makeReleased != "" {
		writeReleased(t, *makeReleased)
		return
	}
	for _, schema := range released(t) {
		t.Run(schema, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			world := unpackReleased(t, schema, data)
			// The upload in it has been open for as long as the release is out.
			s := start(t, data, "--upload-expiry", "1000000h")
			world.isServed(t, s)
			world.isResumed(t, s)
			s.push(t, "team/app", "later", buildImage(t, format{}, part{files: tree{"etc/later": text("later")}, by: "COPY . /"}))
			// Advisories come in again; then all is judged by this program's rules.
			check(t, s.awaitAdvisories())
			world.isJudged(t, s)
			check(t, s.stop())
			world.isRemembered(t, data)

			again := start(t, data, "--upload-expiry", "1000000h")
			world.isServed(t, again)
			world.isJudged(t, again)
		})
	}
}

// TestUpgradeFromEach holds the fixtures to the schema: all of its versions but the
// newest are out, and have one.
func TestUpgradeFromEach(t *testing.T) {
	files, err := filepath.Glob("../../internal/catalog/schema/*.sql")
	check(t, err)
	if len(files) == 0 {
		t.Fatal("no schema found")
	}
	slices.Sort(files)
	have := released(t)
	for _, f := range files[:len(files)-1] {
		schema, _, _ := strings.Cut(filepath.Base(f), "_")
		if !slices.Contains(have, schema) {
			t.Errorf("testdata/released has no data folder of schema %s; its README says how to make one", schema)
		}
	}
}

// released lists the schemas of which there is a data folder.
func released(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/released/*.tar.zst")
	check(t, err)
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".tar.zst")
	}
	return files
}

// unpackReleased lays a released data folder down and returns what was acknowledged in it.
func unpackReleased(t *testing.T, schema, dir string) (w releasedWorld) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "released", schema+".tar.zst"))
	check(t, err)
	defer f.Close()
	z, err := zstd.NewReader(f)
	check(t, err)
	defer z.Close()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		check(t, err)
		if !filepath.IsLocal(h.Name) {
			t.Fatalf("%s leads out of the folder", h.Name)
		}
		name := filepath.Join(dir, h.Name)
		if h.FileInfo().IsDir() {
			check(t, os.MkdirAll(name, 0o700))
			continue
		}
		body, err := io.ReadAll(r)
		check(t, err)
		check(t, errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, body, 0o600)))
	}
	name := filepath.Join(dir, "world.json")
	raw, err := os.ReadFile(name)
	check(t, err)
	check(t, errors.Join(json.Unmarshal(raw, &w), os.Remove(name)))
	if len(w.Manifests) == 0 || len(w.Blobs) == 0 || w.Upload.Have == 0 {
		t.Fatalf("%s: world.json says nothing", schema)
	}
	return w
}

// isServed holds a server to what the released program had acknowledged.
func (w releasedWorld) isServed(t *testing.T, s *server) {
	t.Helper()
	for _, m := range w.Manifests {
		for _, ref := range append([]string{m.Digest}, m.Tags...) {
			path := "/v2/" + m.Repo + "/manifests/" + ref
			if got := s.do(t, http.MethodHead, path, nil, "").want(t, http.StatusOK).header.Get("Docker-Content-Digest"); got != m.Digest {
				t.Errorf("%s:%s is %s, was %s", m.Repo, ref, got, m.Digest)
			}
			a := s.do(t, http.MethodGet, path, nil, "")
			if m.Decision != "allow" {
				a.wantError(t, http.StatusForbidden, "DENIED")
			} else if got := sha256Digest(a.want(t, http.StatusOK).body); got != m.Digest {
				t.Errorf("%s:%s came back as %s, was %s", m.Repo, ref, got, m.Digest)
			}
		}
		for _, tag := range m.Tags {
			a := s.do(t, http.MethodGet, "/v2/"+m.Repo+"/tags/list", nil, "").want(t, http.StatusOK)
			if !strings.Contains(string(a.body), fmt.Sprintf("%q", tag)) {
				t.Errorf("%s has no tag %s: %s", m.Repo, tag, a.body)
			}
		}
	}
	for _, b := range w.Blobs {
		a := s.do(t, http.MethodGet, "/v2/"+b.Repo+"/blobs/"+b.Digest, nil, "").want(t, http.StatusOK)
		if got := sha256Digest(a.body); got != b.Digest {
			t.Errorf("blob %s came back as %s", b.Digest, got)
		}
	}
	a := s.do(t, http.MethodGet, "/v2/"+w.Referrers.Repo+"/referrers/"+w.Referrers.Subject, nil, "").want(t, http.StatusOK)
	if !strings.Contains(string(a.body), w.Referrers.Digest) {
		t.Errorf("referrers are %s, without %s", a.body, w.Referrers.Digest)
	}
}

// isResumed brings the upload to its end that the released program was left with.
func (w releasedWorld) isResumed(t *testing.T, s *server) {
	t.Helper()
	u := w.Upload
	a := s.do(t, http.MethodGet, u.Path, nil, "").want(t, http.StatusNoContent)
	if got, want := a.header.Get("Range"), fmt.Sprintf("0-%d", u.Have-1); got != want {
		t.Fatalf("the upload is at %q, want %q", got, want)
	}
	sep := "?"
	if strings.Contains(u.Path, "?") {
		sep = "&"
	}
	d := sha256Digest(u.Body)
	s.do(t, http.MethodPut, u.Path+sep+"digest="+d, u.Body[u.Have:], "application/octet-stream").want(t, http.StatusCreated)
	if got := sha256Digest(s.do(t, http.MethodGet, "/v2/"+u.Repo+"/blobs/"+d, nil, "").want(t, http.StatusOK).body); got != d {
		t.Errorf("the resumed upload came back as %s, want %s", got, d)
	}
}

// isJudged waits until every image has the verdict that it had.
func (w releasedWorld) isJudged(t *testing.T, s *server) {
	t.Helper()
	for _, m := range w.Manifests {
		check(t, s.awaitDecision(m.Repo+"@"+m.Digest, m.Decision))
	}
}

// isRemembered: the history begins with what was there.
func (w releasedWorld) isRemembered(t *testing.T, data string) {
	t.Helper()
	db, err := sqlite3.Open(filepath.Join(data, "catalog.db"))
	check(t, err)
	defer db.Close()
	q, _, err := db.Prepare(`select r.name || ' ' || h.kind || ' ' || h.tag || ' ' || h.digest || ' by ' || h.caused_by
		from history h join repositories r on r.id = h.repository_id order by h.id`)
	check(t, err)
	defer q.Close()
	var lines []string
	for q.Step() {
		lines = append(lines, q.ColumnText(0))
	}
	check(t, q.Err())
	for _, m := range w.Manifests {
		for _, want := range append([]string{m.Repo + " push  " + m.Digest + " by admin"}, tagged(m)...) {
			if !slices.Contains(lines, want) {
				t.Errorf("the history does not say %q:\n%s", want, strings.Join(lines, "\n"))
			}
		}
	}
}

func tagged(m releasedManifest) []string {
	var out []string
	for _, tag := range m.Tags {
		out = append(out, m.Repo+" tag "+tag+" "+m.Digest+" by admin")
	}
	return out
}

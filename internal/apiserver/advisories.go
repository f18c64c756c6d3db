package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/oci"
)

// maxDump bounds an uploaded dump, in bytes. OSV's largest is below a tenth of it.
const maxDump = 4 << 30

// importWait is how long an import waits for another one's end before it is refused.
const importWait = 30 * time.Second

// ecosystemName is what a dump's folder may be called.
var ecosystemName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$`)

func (s *Server) advisories(w http.ResponseWriter, r *http.Request, _ caller) error {
	rows, err := s.o.Catalog.AdvisoryStatus(r.Context())
	if err != nil {
		return err
	}
	out := api.AdvisoryList{Ecosystems: []api.Ecosystem{}, Loading: s.o.Loading()}
	now := s.o.Now()
	for _, e := range rows {
		age := 0
		if !e.AsOf.IsZero() && now.After(e.AsOf) {
			age = int(now.Sub(e.AsOf) / (24 * time.Hour))
		}
		out.Ecosystems = append(out.Ecosystems, api.Ecosystem{Ecosystem: e.Ecosystem, Releases: e.Releases, Source: e.Source, File: e.File,
			Records: e.Records, Newest: e.Newest, AsOf: e.AsOf, LoadedAt: e.LoadedAt, AgeDays: age})
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// importAdvisories keeps the dump on disk, imports it, and answers with a line of JSON
// for each step of progress and a last one with the result.
func (s *Server) importAdvisories(w http.ResponseWriter, r *http.Request, c caller) error {
	eco := r.URL.Query().Get("ecosystem")
	if !ecosystemName.MatchString(eco) {
		return oci.Errorf(oci.CodeNameInvalid, "ecosystem %q: expected the name of the dump's folder, as in Debian or crates.io", eco)
	}
	wait, cancel := context.WithTimeout(r.Context(), importWait)
	defer cancel()
	select {
	case s.imports <- struct{}{}:
		defer func() { <-s.imports }()
	case <-wait.Done():
		return oci.Errorf(oci.CodeTooManyRequests, "another import is under way; try again when it is done")
	}
	dir, err := os.MkdirTemp(s.o.TempDir, "import-*")
	if err != nil {
		return fmt.Errorf("folder for an import: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := s.receive(filepath.Join(dir, eco), w, r); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	lines := &eventWriter{enc: json.NewEncoder(w), flush: http.NewResponseController(w)}
	results, err := s.o.Import(r.Context(), dir, lines.progress)
	if err != nil {
		s.o.Log.WarnContext(r.Context(), "import of advisories failed", "ecosystem", eco, "by", c.Name, "err", err)
		lines.write(api.ImportEvent{Error: oci.Errorf(oci.CodeManifestInvalid, "%v", err)})
		return answered{err}
	}
	s.o.Log.InfoContext(r.Context(), "advisories imported", "ecosystem", eco, "by", c.Name)
	lines.write(api.ImportEvent{Done: true, Results: results})
	return nil
}

// receive writes the request's body to dir/all.zip.
func (s *Server) receive(dir string, w http.ResponseWriter, r *http.Request) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "all.zip"))
	if err != nil {
		return err
	}
	body := &patient{r: http.MaxBytesReader(w, r.Body, maxDump), rc: http.NewResponseController(w)}
	_, err = io.Copy(f, body)
	err = errors.Join(err, f.Close())
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return oci.Errorf(oci.CodeSizeInvalid, "the dump is larger than %d bytes", large.Limit)
	}
	if err != nil {
		return fmt.Errorf("receive dump: %w", err)
	}
	return nil
}

// patient puts the read deadline off with every read, and lifts it at the end, from where on
// the server listens whether the client is still there.
type patient struct {
	r  io.Reader
	rc *http.ResponseController
}

func (p *patient) Read(b []byte) (int, error) {
	// A writer without deadlines is one of a test.
	_ = p.rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	n, err := p.r.Read(b)
	if errors.Is(err, io.EOF) {
		_ = p.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// progressEvery is the least time between two lines of progress.
const progressEvery = 100 * time.Millisecond

// eventWriter sends progress, a line at a time.
type eventWriter struct {
	enc   *json.Encoder
	flush *http.ResponseController
	last  time.Time
}

func (e *eventWriter) progress(p api.Progress) {
	if now := time.Now(); now.Sub(e.last) >= progressEvery {
		e.last = now
		e.write(api.ImportEvent{Progress: &p})
	}
}

func (e *eventWriter) write(ev any) {
	// A client that is gone cannot be told; the work goes on by its context.
	_ = e.flush.SetWriteDeadline(time.Now().Add(answerTimeout))
	_ = e.enc.Encode(ev)
	_ = e.flush.Flush()
}

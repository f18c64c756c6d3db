// Package apiserver answers /api/v1/: reports, lists and advisories. It turns requests
// into calls and errors into statuses; package api has the wire types.
package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"pratique.dev/pratique/internal/admin"
	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/edge"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/registry"
	"pratique.dev/pratique/internal/report"
)

// Reporter says what is known of an image.
type Reporter interface {
	Report(ctx context.Context, target string, d oci.Digest) (report.Report, error)
}

// Options are the needs of a Server.
type Options struct {
	Catalog  *catalog.Catalog
	Registry *registry.Registry
	Identity *identity.Identity
	Admin    *admin.Service
	Reports  Reporter
	// Import stores the dump at path, laid out as OSV does, and tells of its progress.
	Import func(ctx context.Context, path string, progress func(api.Progress)) ([]api.Imported, error)
	// Collect collects garbage. It returns an *oci.Error if a collection is under way.
	Collect func(ctx context.Context, dryRun bool, progress func(api.Collection)) (api.Collection, error)
	// Retain runs retention and tells of each fate. It returns an *oci.Error if a run is under way.
	Retain  func(ctx context.Context, dryRun bool, each func(api.Fate)) (api.Retained, error)
	Loading func() *api.Progress // a load under way, or nil
	Ready   func() bool
	TempDir string // where uploaded dumps are kept while they are imported
	Version string
	Now     func() time.Time
	Log     *slog.Logger
	Rates   *edge.Rates // how often one may ask; nil: as often as they like
	Audit   Auditor     // hears of what is refused, and of what leaves no record else; nil: nobody does
}

// Server answers the requests of /api/v1/.
type Server struct {
	o       Options
	mux     *http.ServeMux
	imports chan struct{} // one import at a time
	cursors cursors
	origins *http.CrossOriginProtection

	rotating sync.Mutex
	rotated  time.Time // when the signing keys were last; held by rotating
}

// Auditor takes in records. It must not wait.
type Auditor interface{ Note(catalog.Record) }

type noAuditor struct{}

func (noAuditor) Note(catalog.Record) {}

// New makes a Server.
func New(o Options) *Server {
	if o.Audit == nil {
		o.Audit = noAuditor{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{o: o, mux: http.NewServeMux(), imports: make(chan struct{}, 1), cursors: newCursors(), origins: http.NewCrossOriginProtection()}
	allow := map[string][]string{}
	for _, r := range routes {
		s.mux.Handle(r.pattern, s.guard(r))
		method, path, _ := strings.Cut(r.pattern, " ")
		if method == http.MethodGet {
			allow[path] = append(allow[path], http.MethodHead) // net/http's mux answers it by GET
		}
		allow[path] = append(allow[path], method)
	}
	for path, methods := range allow {
		slices.Sort(methods)
		s.mux.HandleFunc(path, wrongMethod(strings.Join(methods, ", ")))
	}
	s.mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, oci.Errorf(oci.CodeUnsupported, "%s %s is not part of /api/v1/", r.Method, r.URL.Path))
	})
	return s
}

// wrongMethod answers what a path does not take (RFC 9110, section 15.5.6).
func wrongMethod(allow string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allow)
		writeError(w, http.StatusMethodNotAllowed, oci.Errorf(oci.CodeUnsupported, "%.16s is not supported at %s; it takes %s", r.Method, r.URL.Path, allow))
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	// A writer without deadlines is one of a test.
	_ = rc.SetWriteDeadline(time.Now().Add(answerTimeout))
	if r.Body != nil && r.Body != http.NoBody {
		_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	}
	// A browser may have been told a name and a secret for this interface: another site's page must
	// not change anything by them.
	if s.origins.Check(r) != nil {
		writeError(w, http.StatusForbidden, oci.Errorf(oci.CodeDenied, "the request comes from the page of another site"))
		return
	}
	s.mux.ServeHTTP(w, r)
	// For what is still buffered; the connection's next request sets its own.
	_ = rc.SetWriteDeadline(time.Now().Add(answerTimeout))
}

// Bounds of a request's time. A body that brings nothing for bodyTimeout is given up,
// also one that is read away because its request is refused; an answer must be taken
// within answerTimeout, a line of an import's progress each.
const (
	bodyTimeout   = time.Minute
	answerTimeout = 5 * time.Minute
)

func queryRepository(q url.Values) (oci.Repository, error) {
	return oci.ParseRepository(q.Get("repository"))
}

// fail answers with an error that a handler returned before it wrote anything.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var e *oci.Error
	var often *edge.Limited
	switch {
	case errors.As(err, &often):
		w.Header().Set("Retry-After", often.RetryAfter())
		writeError(w, http.StatusTooManyRequests, oci.Errorf(oci.CodeTooManyRequests, "%v", often))
	case errors.As(err, &e):
		if e.Status() == http.StatusTooManyRequests || e.Status() == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "5")
		}
		writeError(w, e.Status(), e)
	case errors.Is(err, catalog.ErrNotFound):
		writeError(w, http.StatusNotFound, oci.Errorf(oci.CodeManifestUnknown, "there is no such image"))
	case r.Context().Err() != nil:
		// The client has most likely left. But it may have closed its half alone, and no
		// answer would be a 200.
		e = oci.Errorf(oci.CodeUnavailable, "the request was broken off")
		writeError(w, e.Status(), e)
	default:
		s.o.Log.ErrorContext(r.Context(), "request failed", "request", edge.OriginOf(r).Request, "method", r.Method, "path", r.URL.Path, "err", err)
		writeError(w, http.StatusInternalServerError, oci.Errorf(oci.CodeUnknown, "internal error; the server's log has more under request %s", edge.OriginOf(r).Request))
	}
}

func writeError(w http.ResponseWriter, status int, e *oci.Error) {
	writeJSON(w, status, api.Errors{Errors: []oci.Error{*e}})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// A client that is gone cannot be told.
	_ = json.NewEncoder(w).Encode(v)
}

func (s *Server) report(w http.ResponseWriter, r *http.Request, c caller) error {
	repo, err := queryRepository(r.URL.Query())
	if err != nil {
		return oci.Errorf(oci.CodeNameInvalid, "%v", err)
	}
	ref, err := oci.ParseReference(r.URL.Query().Get("reference"))
	if err != nil {
		return oci.Errorf(oci.CodeTagInvalid, "%v", err)
	}
	m, err := s.o.Catalog.Manifest(r.Context(), repo, ref)
	if errors.Is(err, catalog.ErrNotFound) {
		return oci.Errorf(oci.CodeManifestUnknown, "there is no %s in %s; 'pratique list %s' shows what there is", ref, repo, repo)
	}
	if err != nil {
		return err
	}
	sep := ":"
	if ref.Tag == "" {
		sep = "@"
	}
	rep, err := s.o.Reports.Report(r.Context(), repo.String()+sep+ref.String(), m.Digest)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, rep)
	return nil
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request, _ caller) error {
	writeJSON(w, http.StatusOK, api.Status{Version: s.o.Version, Ready: s.o.Ready(), Loading: s.o.Loading()})
	return nil
}

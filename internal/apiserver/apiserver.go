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
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/edge"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/registry"
	"pratique.dev/pratique/internal/report"
)

// Identity proves who sends a request.
type Identity interface {
	// Authenticate returns the principal and what it may do. Any error refuses the request.
	Authenticate(r *http.Request) (access.Principal, Allower, error)
	// Unproven says of such an error that the request proves nobody, rather than that it
	// could not be told.
	Unproven(err error) bool
	// Challenge is the WWW-Authenticate header of a 401.
	Challenge(r *http.Request) string
}

// Allower says what a principal may do.
type Allower interface {
	Allows(p access.Permission, repo oci.Repository) bool
}

// Reporter says what is known of an image.
type Reporter interface {
	Report(ctx context.Context, target string, d oci.Digest) (report.Report, error)
}

// Options are the needs of a Server.
type Options struct {
	Catalog  *catalog.Catalog
	Registry *registry.Registry
	Identity Identity
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
}

// Server answers the requests of /api/v1/.
type Server struct {
	o       Options
	mux     *http.ServeMux
	imports chan struct{} // one import at a time
}

// New makes a Server.
func New(o Options) *Server {
	s := &Server{o: o, mux: http.NewServeMux(), imports: make(chan struct{}, 1)}
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
	s.mux.ServeHTTP(w, r)
	// For what is still buffered; the connection's next request sets its own.
	_ = rc.SetWriteDeadline(time.Now().Add(answerTimeout))
}

// route is one kind of request: what it needs and who answers it. scope gives the
// repository that the permission is asked for; nil asks for the whole registry.
type route struct {
	pattern    string
	permission access.Permission
	scope      func(url.Values) (oci.Repository, error)
	handle     func(*Server, http.ResponseWriter, *http.Request, caller) error
}

// caller is who sent a request that the guard let through.
type caller struct {
	access.Principal
	Allower
}

var routes = []route{
	{"GET " + api.PathReport, access.RepositoryList, queryRepository, (*Server).report},
	{"GET " + api.PathImages, access.CatalogList, nil, (*Server).images},
	{"GET " + api.PathAdvisories, access.AdvisoriesRead, nil, (*Server).advisories},
	{"POST " + api.PathImport, access.AdvisoriesWrite, nil, (*Server).importAdvisories},
	{"GET " + api.PathStatus, access.AdvisoriesRead, nil, (*Server).status},
	{"GET " + api.PathTagHistory, access.RepositoryList, queryRepository, (*Server).tagHistory},
	{"POST " + api.PathTagUndo, access.RepositoryPush, queryRepository, (*Server).undoTag},
	{"GET " + api.PathTrash, access.CatalogList, nil, (*Server).trash},
	{"POST " + api.PathRestore, access.RepositoryPush, queryRepository, (*Server).restore},
	{"POST " + api.PathPurge, access.RepositoryDelete, queryRepository, (*Server).purge},
	{"POST " + api.PathLocks, access.RegistryConfigure, queryRepository, (*Server).lock},
	{"POST " + api.PathGC, access.RegistryConfigure, nil, (*Server).collect},
	{"POST " + api.PathRetention, access.RegistryConfigure, nil, (*Server).retain},
	{"GET " + api.PathRules, access.RegistryConfigure, nil, (*Server).rules},
	{"PUT " + api.PathRules, access.RegistryConfigure, nil, (*Server).setRules},
}

// Bounds of a request's time. A body that brings nothing for bodyTimeout is given up,
// also one that is read away because its request is refused; an answer must be taken
// within answerTimeout, a line of an import's progress each.
const (
	bodyTimeout   = time.Minute
	answerTimeout = 5 * time.Minute
)

// guard refuses whoever is not known or may not; only then the handler runs.
func (s *Server) guard(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, grants, err := s.o.Identity.Authenticate(r)
		if err != nil && !s.o.Identity.Unproven(err) {
			s.fail(w, r, err)
			return
		}
		often := s.o.Rates.Principal(p.Name)
		if err != nil || p.IsZero() {
			often = s.o.Rates.Anonymous(edge.OriginOf(r).Addr)
		}
		if often != nil {
			s.fail(w, r, often)
			return
		}
		if err != nil || p.IsZero() {
			w.Header().Set("WWW-Authenticate", s.o.Identity.Challenge(r))
			said := "authentication is required"
			if r.Header.Get("Authorization") != "" {
				said = "the name or the secret is wrong, or the token has run out"
			}
			writeError(w, http.StatusUnauthorized, oci.Errorf(oci.CodeUnauthorized, "%s", said))
			return
		}
		q, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil { // what cannot be read would be passed over
			writeError(w, http.StatusBadRequest, oci.Errorf(oci.CodeQueryInvalid, "the query: %.200s", err))
			return
		}
		var repo oci.Repository
		if rt.scope != nil {
			if repo, err = rt.scope(q); err != nil {
				writeError(w, http.StatusBadRequest, oci.Errorf(oci.CodeNameInvalid, "%v", err))
				return
			}
		}
		if !grants.Allows(rt.permission, repo) {
			writeError(w, http.StatusForbidden, oci.Errorf(oci.CodeDenied, "%s has not been granted %s", p.Name, rt.permission))
			return
		}
		if err := rt.handle(s, w, r, caller{p, grants}); err != nil {
			s.fail(w, r, err)
		}
	})
}

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
		s.o.Log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		writeError(w, http.StatusInternalServerError, oci.Errorf(oci.CodeUnknown, "internal error; the server's log has more"))
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

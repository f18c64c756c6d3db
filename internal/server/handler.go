package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/web"
)

// handler sends each request to its door. What no door takes gets a plain 404.
func (p *parts) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", p.ready)
	mux.HandleFunc("GET /{$}", p.home)
	mux.HandleFunc("GET "+api.PathJWKS, p.jwks)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer p.panicked(r)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		switch {
		case ociPath(r.URL.Path):
			// Not through the mux, which would clean the path and redirect.
			p.oci.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, "/api/"):
			p.api.ServeHTTP(w, r)
		case web.Serves(r.URL.Path):
			p.web.ServeHTTP(w, r)
		default:
			// Answers of a few bytes, to bodies that nobody reads.
			rc := http.NewResponseController(w)
			_ = errors.Join(rc.SetReadDeadline(time.Now().Add(plainTimeout)), rc.SetWriteDeadline(time.Now().Add(plainTimeout)))
			mux.ServeHTTP(w, r)
		}
	})
}

// ociPath says whether a path is ociserver's.
func ociPath(path string) bool {
	return path == "/v2" || strings.HasPrefix(path, "/v2/") || strings.HasPrefix(path, "/acr/") || path == "/oauth2/token" || path == "/oauth2/exchange"
}

// panicked logs a handler's panic, which net/http would only tell to those who debug, and
// breaks the connection off.
func (p *parts) panicked(r *http.Request) {
	what := recover()
	if what == nil {
		return
	}
	if what != http.ErrAbortHandler {
		p.cfg.Log.ErrorContext(r.Context(), "request panicked; this is a fault of the program", "method", r.Method, "path", r.URL.Path,
			"panic", fmt.Sprint(what), "stack", string(debug.Stack()))
	}
	panic(http.ErrAbortHandler)
}

// ready answers 200 once requests are answered: the catalog can be read and pushes are
// taken. The body says whether images are judged yet.
func (p *parts) ready(w http.ResponseWriter, r *http.Request) {
	status := http.StatusOK
	if _, err := p.cat.PrincipalCount(r.Context()); err != nil {
		p.cfg.Log.ErrorContext(r.Context(), "not ready", "err", err)
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// A client that is gone cannot be told.
	_ = json.NewEncoder(w).Encode(api.Status{Version: p.cfg.Version, Ready: p.loader.isLoaded(), Loading: p.loader.progress()})
}

// jwks has the public keys by which anybody can verify the registry's tokens.
func (p *parts) jwks(w http.ResponseWriter, r *http.Request) {
	set, err := p.identity.PublicKeys(r.Context())
	if err != nil {
		p.cfg.Log.ErrorContext(r.Context(), "public keys", "err", err)
		http.Error(w, "internal error; the server's log has more", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	// A new key is published this long before it signs.
	w.Header().Set("Cache-Control", "public, max-age=15")
	// A client that is gone cannot be told.
	_ = json.NewEncoder(w).Encode(set)
}

func (p *parts) home(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "This is a Pratique container registry, version %s.\n\ndocker login %s\npratique list --server %s\n",
		p.cfg.Version, p.url.Host, p.url)
}

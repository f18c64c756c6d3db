package apiserver

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/oci"
)

// TestDryRun: whatever is wrong with a query, nothing is deleted that was only to be looked at.
func TestDryRun(t *testing.T) {
	for _, path := range []string{api.PathGC, api.PathRetention} {
		for _, tc := range []struct {
			query  string
			status int
			runs   string // "", "dry" or "real"
		}{
			{"", 200, "real"}, {"?dryRun=false", 200, "real"}, {"?dryRun=true", 200, "dry"}, {"?dryRun=1", 200, "dry"},
			{"?dryRun=true;x", 400, ""}, {"?dryRun=%zz", 400, ""}, {"?dryrun=true", 400, ""}, {"?dry-run=true", 400, ""},
			{"?dryRun=yes", 400, ""}, {"?dryRun", 400, ""}, {"?dryRun=", 400, ""},
		} {
			ran := ""
			run := func(dry bool) {
				ran = "real"
				if dry {
					ran = "dry"
				}
			}
			s := New(Options{Identity: asker{role: access.Role{Name: "all", Permissions: access.Permissions}}, Log: slog.New(slog.DiscardHandler),
				Collect: func(_ context.Context, dry bool, _ func(api.Collection)) (api.Collection, error) {
					run(dry)
					return api.Collection{}, nil
				},
				Retain: func(_ context.Context, dry bool, _ func(api.Fate)) (api.Retained, error) {
					run(dry)
					return api.Retained{}, nil
				}})
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path+tc.query, nil))
			if w.Code != tc.status || ran != tc.runs || tc.status == 400 && !strings.Contains(w.Body.String(), "QUERY_INVALID") {
				t.Errorf("%s%s: %d, it runs %q; want %d, %q; %s", path, tc.query, w.Code, ran, tc.status, tc.runs, w.Body)
			}
		}
	}
}

// TestComeAgain: who is told that there is too much going on is told when to ask again.
func TestComeAgain(t *testing.T) {
	s := New(Options{Identity: asker{role: access.Role{Name: "all", Permissions: access.Permissions}}, Log: slog.New(slog.DiscardHandler),
		Collect: func(context.Context, bool, func(api.Collection)) (api.Collection, error) {
			return api.Collection{}, oci.Errorf(oci.CodeTooManyRequests, "one runs already")
		}})
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, api.PathGC, nil))
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

package apiserver

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/oci"
)

// TestDryRun: whatever is wrong with a query, nothing is deleted that was only to be looked at.
func TestDryRun(t *testing.T) {
	w := newWorld(t)
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
			w.s.o.Collect = func(_ context.Context, dry bool, _ func(api.Collection)) (api.Collection, error) {
				run(dry)
				return api.Collection{}, nil
			}
			w.s.o.Retain = func(_ context.Context, dry bool, _ func(api.Fate)) (api.Retained, error) {
				run(dry)
				return api.Retained{}, nil
			}
			res := w.send(w.owner, http.MethodPost, path+tc.query, nil)
			if body := readAll(t, res); res.StatusCode != tc.status || ran != tc.runs || tc.status == 400 && !strings.Contains(body, "QUERY_INVALID") {
				t.Errorf("%s%s: %d, it runs %q; want %d, %q; %s", path, tc.query, res.StatusCode, ran, tc.status, tc.runs, body)
			}
		}
	}
}

// TestComeAgain: who is told that there is too much going on is told when to ask again.
func TestComeAgain(t *testing.T) {
	w := newWorld(t)
	w.s.o.Collect = func(context.Context, bool, func(api.Collection)) (api.Collection, error) {
		return api.Collection{}, oci.Errorf(oci.CodeTooManyRequests, "one runs already")
	}
	res := w.send(w.owner, http.MethodPost, api.PathGC, nil)
	if body := readAll(t, res); res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, body)
	}
}

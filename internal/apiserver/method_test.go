package apiserver

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/api"
)

func TestWrongMethods(t *testing.T) {
	s := newWorld(t).s
	for _, rt := range routes {
		method, path, _ := strings.Cut(rt.pattern, " ")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodPatch, path, nil))
		if w.Code != http.StatusMethodNotAllowed || !strings.Contains(w.Header().Get("Allow"), method) || !strings.Contains(w.Body.String(), "UNSUPPORTED") {
			t.Errorf("PATCH %s: %d, Allow %q, %s", path, w.Code, w.Header().Get("Allow"), w.Body)
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, api.PathReport, nil))
	if got := w.Header().Get("Allow"); got != "GET, HEAD" {
		t.Errorf("Allow %q", got)
	}
	w = httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/nothing", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("a path that is not there: %d", w.Code)
	}
}

package server

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/apiserver"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/identity"
)

// timed is a ResponseWriter that hears of deadlines.
type timed struct {
	*httptest.ResponseRecorder
	read, write time.Time
}

func (d *timed) SetReadDeadline(t time.Time) error  { d.read = t; return nil }
func (d *timed) SetWriteDeadline(t time.Time) error { d.write = t; return nil }

// TestNobodyHoldsAConnection: whoever needs no credentials for an answer must take it, and end
// their request, within some time.
func TestNobodyHoldsAConnection(t *testing.T) {
	p := &parts{cfg: Config{Log: slog.New(slog.DiscardHandler)}, loader: &loader{}, api: apiserver.New(apiserver.Options{
		Identity: identity.New(catalogtest.Open(t), identity.Options{}), Log: slog.New(slog.DiscardHandler), Loading: func() *api.Progress { return nil }})}
	var err error
	if p.url, err = externalURL("http://r.example", "http", nil, nil); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/nothing", "/api/", "/api/v1/images", "/api/v1/nothing"} {
		w := &timed{ResponseRecorder: httptest.NewRecorder()}
		p.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, strings.NewReader("a body")))
		if time.Until(w.read) <= 0 || time.Until(w.write) <= 0 {
			t.Errorf("GET %s: read until %v, written until %v", path, w.read, w.write)
		}
	}
}

func TestPanicIsLogged(t *testing.T) {
	for _, tc := range []struct {
		what   any
		logged bool
	}{{"a fault", true}, {http.ErrAbortHandler, false}} {
		var log bytes.Buffer
		p := &parts{cfg: Config{Log: slog.New(slog.NewTextHandler(&log, nil))},
			oci: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(tc.what) })}
		func() {
			defer func() {
				if got := recover(); got != http.ErrAbortHandler {
					t.Errorf("%v: net/http sees %v", tc.what, got)
				}
			}()
			p.handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/v2/", nil))
		}()
		if got := strings.Contains(log.String(), "a fault") && strings.Contains(log.String(), "handler_test.go"); got != tc.logged {
			t.Errorf("%v: log %q", tc.what, log.String())
		}
	}
}

package ociserver_test

import (
	"net/http/httptest"
	"sync"
	"testing"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/edge"
	"pratique.dev/pratique/internal/ociserver"
)

// heard takes in what a door tells of.
type heard struct {
	mu   sync.Mutex
	told []catalog.Record
}

func (h *heard) Note(r catalog.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told = append(h.told, r)
}

func (h *heard) take() []catalog.Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.told
	h.told = nil
	return out
}

// TestRefusalsAreTold: each kind of request that is refused to who is known, and each wrong credential, is
// told with who and from where; what only has to come again is not.
func TestRefusalsAreTold(t *testing.T) {
	w := newWorld(t)
	w.putImage("app", "1", "layer")
	h := &heard{}
	srv := httptest.NewServer(edge.Proxies{}.Handler(ociserver.New(w.reg, w.ident, ociserver.Options{Audit: h})))
	defer srv.Close()
	secret := w.given("robot", "AcrPull", "elsewhere", "")
	w.given("owner", "Owner", "", "")
	token := w.tokenFor("owner")
	for _, r := range everyRequest {
		r.path = srv.URL + r.path
		r.anonymous, r.header = true, map[string]string{"Authorization": basicAuth("robot", secret)}
		a := w.do(r)
		told := h.take()
		if a.StatusCode != 403 {
			if len(told) != 0 {
				t.Errorf("%s %s: %d, and it is told %+v", r.method, r.path, a.StatusCode, told)
			}
			continue
		}
		if len(told) != 1 || told[0].Actor != "robot" || told[0].ActorID != "id-robot" || told[0].Target != "app" || told[0].Decision != catalog.AuditDenied ||
			told[0].Address != "127.0.0.1" || told[0].Request == "" || told[0].Request != a.Header.Get("X-Request-Id") {
			t.Errorf("%s %s: it is told %+v", r.method, r.path, told)
		}
		r.header["Authorization"] = basicAuth("robot", "wrong")
		w.do(r)
		told = h.take()
		if len(told) > 0 && (told[0].Action != "login" || told[0].Actor != "robot" || told[0].Decision != catalog.AuditDenied) {
			t.Errorf("%s %s with a wrong secret: it is told %+v", r.method, r.path, told)
		}
		for _, header := range []map[string]string{nil, {"Authorization": "Bearer " + token}} {
			r.header = header
			w.do(r)
			if told := h.take(); len(told) != 0 {
				t.Errorf("%s %s, which only has to come again: it is told %+v", r.method, r.path, told)
			}
		}
	}
	for _, path := range []string{"/v2/token", "/v2/"} {
		w.do(request{method: "GET", path: srv.URL + path, anonymous: true, header: map[string]string{"Authorization": basicAuth("nobody", "wrong")}})
		if told := h.take(); len(told) != 1 || told[0].Actor != "nobody" || told[0].Action != "login" {
			t.Errorf("%s: it is told %+v", path, told)
		}
	}
}

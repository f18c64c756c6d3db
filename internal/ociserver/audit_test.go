package ociserver_test

import (
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/edge"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/oci"
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
		if len(told) != 1 || told[0].Actor != "robot" || told[0].ActorID != "id-robot" || told[0].Kind != "service" || !strings.HasPrefix(told[0].Target, "app") || told[0].Decision != catalog.AuditDenied ||
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

// TestRefusedInsideIsTold: what is refused only once it is looked at, by the gate, a lock or a rule, is told with
// the image and why.
func TestRefusedInsideIsTold(t *testing.T) {
	w := newWorld(t)
	w.judge.set(quarantineAll)
	raw := w.putImage("app", "1", "layer")
	repo, err := oci.ParseRepository("app")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.cat.SetLocks(bg, repo, oci.Reference{}, catalog.LockDelete, 0, catalog.Act{}); err != nil {
		t.Fatal(err)
	}
	h := &heard{}
	srv := httptest.NewServer(edge.Proxies{}.Handler(ociserver.New(w.reg, w.ident, ociserver.Options{Audit: h})))
	defer srv.Close()
	secret := w.given("robot", "AcrPull", "app", "")
	w.assign("id-robot", "AcrDelete", "app", "")
	digest := "app@" + sum(raw).String()
	for _, tc := range []struct{ method, path, action, target, why string }{
		{"GET", "/v2/app/manifests/1", "pull", "app:1", "is quarantined"},
		{"GET", "/v2/app/blobs/" + sum("layer").String(), "pull", "app@" + sum("layer").String(), "quarantine"},
		{"DELETE", "/v2/app/manifests/" + sum(raw).String(), "delete", digest, "is locked against deleting"},
	} {
		a := w.do(request{method: tc.method, path: srv.URL + tc.path, anonymous: true, header: map[string]string{"Authorization": basicAuth("robot", secret)}})
		told := h.take()
		if a.StatusCode != 403 || len(told) != 1 || told[0].Action != tc.action || told[0].Target != tc.target || !strings.Contains(told[0].Why, tc.why) ||
			told[0].Actor != "robot" || told[0].ActorID != "id-robot" || told[0].Decision != catalog.AuditDenied || told[0].Address == "" || told[0].Request != a.Header.Get("X-Request-Id") {
			t.Errorf("%s %s: %d, and it is told %+v", tc.method, tc.path, a.StatusCode, told)
		}
	}
}

// TestGuessingIsTold: credentials that are not even looked at, because too many were wrong, are told too.
func TestGuessingIsTold(t *testing.T) {
	w := newWorld(t)
	h := &heard{}
	rates := edge.NewRates(edge.RateLimits{}, time.Now)
	ident := identity.New(w.cat, identity.Options{Rates: rates})
	srv := httptest.NewServer(edge.Proxies{}.Handler(ociserver.New(w.reg, ident, ociserver.Options{Audit: h, Rates: rates})))
	defer srv.Close()
	for i := range 40 {
		path := []string{"/v2/", "/v2/token"}[i%2]
		a := w.do(request{method: "GET", path: srv.URL + path, anonymous: true, header: map[string]string{"Authorization": basicAuth("admin", "wrong guess")}})
		told := h.take()
		want := map[int]string{401: "the credentials are wrong", 429: "were not looked at"}[a.StatusCode]
		if len(told) != 1 || told[0].Actor != "admin" || told[0].Action != "login" || want == "" || !strings.Contains(told[0].Why, want) {
			t.Fatalf("%s: %d, and it is told %+v", path, a.StatusCode, told)
		}
		if a.StatusCode == 429 && i%2 == 1 {
			return
		}
	}
	t.Error("it was looked at 40 guesses")
}

// TestPullsAreCounted: a client that asks before it pulls has pulled once.
func TestPullsAreCounted(t *testing.T) {
	w := newWorld(t)
	raw := w.putImage("app", "1", "layer")
	agent := map[string]string{"User-Agent": "docker/29.0 go/go1.26"}
	for range 2 {
		w.want(w.do(request{method: "HEAD", path: "/v2/app/manifests/1", header: agent}), 200, "")
		w.want(w.do(request{method: "GET", path: "/v2/app/manifests/" + sum(raw).String(), header: agent}), 200, "")
	}
	if err := w.reg.WritePulls(bg); err != nil {
		t.Fatal(err)
	}
	list, _, err := w.cat.List(bg, catalog.ListQuery{})
	if err != nil || len(list) != 1 || list[0].Pulls != 2 {
		t.Errorf("%+v, %v; want two pulls", list, err)
	}
}

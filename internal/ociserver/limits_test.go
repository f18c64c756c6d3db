package ociserver_test

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"pratique.dev/pratique/internal/edge"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/ociserver"
	"pratique.dev/pratique/internal/registry"
)

// behind is the same world's registry behind other rates, whose clock stands still until it is moved.
func (w *world) behind(l edge.RateLimits) (at string, clock *time.Time) {
	w.t.Helper()
	now := testTime
	rates := edge.NewRates(l, func() time.Time { return now })
	proxies, err := edge.ParseProxies("127.0.0.0/8")
	if err != nil {
		w.t.Fatal(err)
	}
	ident := identity.New(w.cat, identity.Options{Rates: rates})
	srv := httptest.NewServer(proxies.Handler(ociserver.New(w.reg, ident, ociserver.Options{Rates: rates})))
	w.t.Cleanup(srv.Close)
	return srv.URL, &now
}

func TestRateOfPrincipal(t *testing.T) {
	w := newWorld(t)
	at, now := w.behind(edge.RateLimits{Principal: 2})
	ping := request{method: "GET", path: at + "/v2/"}
	for range 10 {
		w.want(w.do(ping), 200, "")
	}
	a := w.want(w.do(ping), 429, "TOOMANYREQUESTS")
	if got := a.Header.Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After %q", got)
	}
	w.want(w.do(request{method: "GET", path: at + "/v2/token"}), 429, "TOOMANYREQUESTS")
	// Others are not held up by it.
	w.want(w.do(request{method: "GET", path: at + "/v2/", anonymous: true}), 401, "UNAUTHORIZED")
	*now = now.Add(time.Second)
	w.want(w.do(ping), 200, "")
}

func TestRateOfNobody(t *testing.T) {
	w := newWorld(t)
	at, now := w.behind(edge.RateLimits{Anonymous: 1})
	ping := request{method: "GET", path: at + "/v2/", anonymous: true}
	for range 5 {
		w.want(w.do(ping), 401, "UNAUTHORIZED")
	}
	w.want(w.do(ping), 429, "TOOMANYREQUESTS")
	w.want(w.do(request{method: "GET", path: at + "/v2/"}), 200, "")
	*now = now.Add(time.Second)
	w.want(w.do(ping), 401, "UNAUTHORIZED")
}

// TestGuessing: who gives wrong secrets is heard less and less often, not even with a right one, while
// the same name with the right one is heard from elsewhere.
func TestGuessing(t *testing.T) {
	w := newWorld(t)
	at, now := w.behind(edge.RateLimits{})
	basic := func(name, secret string) map[string]string {
		return map[string]string{"Authorization": basicAuth(name, secret)}
	}
	token := w.tokenFor(w.principal("robot", "", ""))
	ping := func(header map[string]string) answer {
		return w.do(request{method: "GET", path: at + "/v2/", anonymous: true, header: header})
	}
	for range 5 {
		w.want(ping(basic("admin", "wrong")), 401, "UNAUTHORIZED")
	}
	if a := w.want(ping(basic("admin", "wrong")), 429, "TOOMANYREQUESTS"); a.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", a.Header.Get("Retry-After"))
	}
	w.want(w.do(request{method: "GET", path: at + "/v2/token", anonymous: true, header: basic("admin", "wrong")}), 429, "TOOMANYREQUESTS")
	w.want(ping(basic("admin", secret)), 429, "TOOMANYREQUESTS")
	// A token cannot be guessed, and from elsewhere the name is free.
	w.want(w.do(request{method: "GET", path: at + "/v2/", token: token}), 200, "")
	elsewhere := basic("admin", secret)
	elsewhere["X-Forwarded-For"] = "198.51.100.7"
	w.want(ping(elsewhere), 200, "")
	// What was right just now is remembered, and does not stand in line with those who guess.
	w.want(ping(basic("admin", secret)), 200, "")
	*now = now.Add(time.Second)
	w.want(ping(basic("admin", "wrong")), 401, "UNAUTHORIZED")
	*now = now.Add(time.Second)
	w.want(ping(basic("admin", "wrong")), 429, "TOOMANYREQUESTS") // it has to wait twice as long now
	for i := range 70 {
		ping(basic(fmt.Sprint("name", i), "wrong"))
	}
	w.want(ping(basic("nobody", "wrong")), 429, "TOOMANYREQUESTS")
	w.want(ping(basic("admin", secret)), 200, "")
}

func TestOpenUploads(t *testing.T) {
	w := newWorld(t)
	reg := registry.New(w.cat, w.store, registry.Options{Judge: w.judge, MaxOpenUploads: 2})
	srv := httptest.NewServer(ociserver.New(reg, w.ident, ociserver.Options{}))
	defer srv.Close()
	begin := request{method: "POST", path: srv.URL + "/v2/app/blobs/uploads/"}
	first := w.want(w.do(begin), 202, "").Header.Get("Location")
	w.want(w.do(begin), 202, "")
	a := w.want(w.do(begin), 429, "TOOMANYREQUESTS")
	if a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	// One that comes in a single request is never open.
	w.want(w.do(request{method: "POST", path: srv.URL + "/v2/app/blobs/uploads/?digest=" + sum("x").String(), body: "x"}), 201, "")
	w.want(w.do(request{method: "DELETE", path: srv.URL + first}), 204, "")
	w.want(w.do(begin), 202, "")
}

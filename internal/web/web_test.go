package web

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/identity/issuertest"
)

// site is the pages, and a session of jane.
type site struct {
	http.Handler
	ident   *identity.Identity
	session string
}

func newSite(t *testing.T, external string) site {
	t.Helper()
	cat, issuer, transport := catalogtest.Open(t), issuertest.New(t), &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	jane := catalog.Account{Principal: access.Principal{ID: "j", Kind: access.KindUser, Name: "jane"}}
	if err := cat.CreatePrincipal(t.Context(), jane, catalog.Act{By: "test"}); err != nil {
		t.Fatal(err)
	}
	i := identity.New(cat, identity.Options{Issuers: transport, SignIn: identity.SignIn{Issuer: issuer.URL, ClientID: "pratique"}})
	s, err := i.IssueSession(context.Background(), identity.Login{Principal: jane.Principal, Credential: "oidc"})
	if err != nil {
		t.Fatal(err)
	}
	return site{New(Options{Catalog: cat, Identity: i, ExternalURL: external, Issuer: issuer.URL, Log: slog.New(slog.DiscardHandler)}), i, s.Text}
}

// ask sends a request, with jane's session if that is wanted.
func (s site) ask(method, path string, form url.Values, session bool) *http.Response {
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if session {
		r.AddCookie(&http.Cookie{Name: sessionCookie, Value: s.session})
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Result()
}

const authorize = "/login/authorize?response_type=code&code_challenge_method=S256&state=s&code_challenge=c&redirect_uri="

// TestWhoMay: pages of the signed in are shown to nobody else, and no form counts that the session was not shown.
func TestWhoMay(t *testing.T) {
	s := newSite(t, "")
	for _, path := range []string{"/account", authorize + url.QueryEscape("http://127.0.0.1:1/")} {
		res := s.ask(http.MethodGet, path, nil, false)
		if to := res.Header.Get("Location"); res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to, "/login?next=") {
			t.Errorf("%s without a session: %d to %s", path, res.StatusCode, to)
		}
		if res := s.ask(http.MethodGet, path, nil, true); res.StatusCode != http.StatusOK {
			t.Errorf("%s with a session: %d", path, res.StatusCode)
		}
	}
	for _, path := range []string{"/account/secret", "/login/authorize", "/logout"} {
		for name, form := range map[string]url.Values{"no form token": {"days": {"30"}}, "another session's": {"days": {"30"}, "form": {identity.FormToken("another")}}} {
			if res := s.ask(http.MethodPost, path, form, true); res.StatusCode != http.StatusForbidden || res.Header.Get("Set-Cookie") != "" {
				t.Errorf("%s with %s: %d", path, name, res.StatusCode)
			}
		}
		if res := s.ask(http.MethodGet, path, nil, true); path != "/login/authorize" && res.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("GET %s: %d", path, res.StatusCode)
		}
	}
	form := url.Values{"form": {identity.FormToken(s.session)}}
	for _, days := range []string{"", "0", "-1", "91", "365", "x"} {
		form.Set("days", days)
		if res := s.ask(http.MethodPost, "/account/secret", form, true); res.StatusCode < 400 {
			t.Errorf("a secret for %q days: %d", days, res.StatusCode)
		}
	}
	form.Set("days", "30")
	if res := s.ask(http.MethodPost, "/account/secret", form, true); res.StatusCode != http.StatusOK {
		t.Errorf("a secret for 30 days: %d", res.StatusCode)
	}
	form.Set("pad", strings.Repeat("x", maxForm))
	if res := s.ask(http.MethodPost, "/account/secret", form, true); res.StatusCode != http.StatusBadRequest {
		t.Errorf("a form without an end: %d", res.StatusCode)
	}
	form.Del("pad")
	if res := s.ask(http.MethodPost, "/logout", form, true); res.StatusCode != http.StatusSeeOther {
		t.Errorf("logout: %d", res.StatusCode)
	}
	if res := s.ask(http.MethodGet, "/account", nil, true); res.StatusCode != http.StatusSeeOther {
		t.Errorf("a session that was ended, and copied before: %d", res.StatusCode)
	}
}

// TestNothingLeadsAway: neither the sign-in nor the command line's leads to another's site.
func TestNothingLeadsAway(t *testing.T) {
	s := newSite(t, "")
	for _, to := range []string{"https://evil.example", "//evil.example", `/\evil.example`, "/account@evil.example", "javascript:alert(1)", "/logout", strings.Repeat("/", 2000)} {
		res := s.ask(http.MethodGet, "/login?next="+url.QueryEscape(to), nil, true)
		if got := res.Header.Get("Location"); got != "/account" {
			t.Errorf("next=%.40s leads to %s", to, got)
		}
	}
	for _, to := range []string{"https://evil.example/", "http://127.0.0.1.evil.example:1/", "http://127.0.0.1@evil.example:1/", "", "javascript:alert(1)"} {
		if res := s.ask(http.MethodGet, authorize+url.QueryEscape(to), nil, true); res.StatusCode != http.StatusBadRequest {
			t.Errorf("redirect_uri=%s: %d", to, res.StatusCode)
		}
		form := url.Values{"form": {identity.FormToken(s.session)}, "redirect_uri": {to}, "state": {"s"}, "code_challenge": {"R-8Q7iwVVBwSdEQv5YJd3Z0CGJ1zvRy3rK0pS2bBhQ0"}}
		if res := s.ask(http.MethodPost, "/login/authorize", form, true); res.StatusCode != http.StatusBadRequest || res.Header.Get("Location") != "" {
			t.Errorf("redirect_uri=%s, allowed: %d", to, res.StatusCode)
		}
	}
}

// TestHeaders: every page is bound to this site, and cookies to this host.
func TestHeaders(t *testing.T) {
	for _, external := range []string{"", "https://registry.example"} {
		s := newSite(t, external)
		for _, path := range []string{"/login", "/account", "/login/callback?code=x&state=y", "/nonesuch", "/login/style.css"} {
			h := s.ask(http.MethodGet, path, nil, true).Header
			if csp := h.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'self';") || !strings.Contains(csp, "frame-ancestors 'none'") || h.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: %v", path, h)
			}
		}
		cookie := s.ask(http.MethodGet, "/login/start", nil, false).Header.Get("Set-Cookie")
		for _, want := range []string{"HttpOnly", "SameSite=Lax", "Path=/"} {
			if !strings.Contains(cookie, want) {
				t.Errorf("the cookie has no %s: %s", want, cookie)
			}
		}
		secure := strings.Contains(cookie, "Secure") && strings.HasPrefix(cookie, "__Host-")
		if secure != (external != "") {
			t.Errorf("at %q the cookie is %s", external, cookie)
		}
	}
}

// TestCallback: an answer to a sign-in that this browser did not begin signs nobody in.
func TestCallback(t *testing.T) {
	s := newSite(t, "")
	for _, query := range []string{"code=x&state=y", "error=access_denied", "error=" + strings.Repeat("<script>", 100), ""} {
		res := s.ask(http.MethodGet, "/login/callback?"+query, nil, false)
		if res.StatusCode != http.StatusBadRequest || res.Header.Get("Set-Cookie") != "" {
			t.Errorf("%.30s: %d, %v", query, res.StatusCode, res.Header)
		}
	}
}

package identity

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/edge"
)

// world is a registry's principals, with an owner so that others can be disabled.
type world struct {
	*testing.T
	*Identity
	cat   *catalog.Catalog
	clock *clock
}

func newWorld(t *testing.T) world {
	t.Helper()
	i, cat, c := fresh(t)
	if _, _, _, err := i.Bootstrap(bg, ""); err != nil {
		t.Fatal(err)
	}
	return world{t, i, cat, c}
}

func (w world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// principal makes a service principal with a role, and returns its secret. Its ID is its name.
func (w world) principal(name, role, scope, condition string) string {
	w.Helper()
	secret := NewSecret()
	w.ok(w.cat.CreatePrincipal(bg, catalog.Account{Principal: access.Principal{ID: name, Kind: access.KindService, Name: name}}, catalog.Act{}))
	w.ok(w.cat.AddSecret(bg, Hashed(secret, catalog.Secret{ID: name + "-1", Principal: name}), catalog.Act{Now: w.clock.now()}))
	if role != "" {
		w.ok(w.cat.Assign(bg, catalog.Assigned{Principal: name, Role: role, Scope: access.Scope{Pattern: scope}, Condition: condition}, catalog.Act{}))
	}
	return secret
}

func (w world) login(name, secret string) Login {
	w.Helper()
	l, err := w.Authenticate(bg, name, secret, nowhere)
	w.ok(err)
	return l
}

// token is an access token of a login for scopes.
func (w world) token(l Login, scope ...string) string {
	w.Helper()
	t, err := w.Issue(bg, l, access.Request{Time: w.clock.now()}, scopes(w.T, scope...))
	w.ok(err)
	return t.Text
}

func basic(name, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+secret))
}

// from is who sends a request with these Authorization headers.
func (w world) from(authorization ...string) (Caller, error) {
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	for _, a := range authorization {
		r.Header.Add("Authorization", a)
	}
	return w.Caller(r)
}

func (w world) refuses(what, authorization string) {
	w.Helper()
	if c, err := w.from(authorization); !errors.Is(err, ErrUnauthenticated) || !c.IsZero() || c.Allows(access.RepositoryPull, repo("team/app")) {
		w.Errorf("%s: %+v, %v; want ErrUnauthenticated", what, c.Login, err)
	}
}

// TestTakenAway: once what a login rests on is gone, the secret, the token and the refresh
// token are worth nothing.
func TestTakenAway(t *testing.T) {
	for what, take := range map[string]func(w world) error{
		"the principal is disabled": func(w world) error { return w.cat.DisablePrincipal(bg, "ci", catalog.Act{}) },
		"the principal is deleted":  func(w world) error { return w.cat.DeletePrincipal(bg, "ci", catalog.Act{}) },
		"the secret is deleted":     func(w world) error { return w.cat.DeleteSecret(bg, "ci", "ci-1", catalog.Act{}) },
		"the secret is ended":       func(w world) error { return w.cat.ExpireSecret(bg, "ci", "ci-1", w.clock.now(), catalog.Act{}) },
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			secret := w.principal("ci", "AcrPush", "team/*", "")
			l := w.login("ci", secret)
			token := w.token(l, "repository:team/app:pull,push")
			refresh, err := w.IssueRefresh(bg, l)
			w.ok(err)
			all := map[string]string{"secret": basic("ci", secret), "token": "Bearer " + token, "refresh token": basic(RefreshUser, refresh.Text)}
			for name, a := range all {
				c, err := w.from(a)
				if err != nil || c.Name != "ci" || !c.Allows(access.RepositoryPush, repo("team/app")) {
					t.Fatalf("%s, before: %+v, %v", name, c.Login, err)
				}
			}
			w.ok(take(w))
			for name, a := range all {
				w.refuses(name, a)
			}
			if _, err := w.Issue(bg, l, access.Request{}, nil); !errors.Is(err, ErrUnauthenticated) {
				t.Errorf("a token is issued all the same: %v", err)
			}
		})
	}
}

// TestRoleTakenAway: a live token loses what its owner loses, also in the middle of a push, and gains
// nothing that it was not asked for.
func TestRoleTakenAway(t *testing.T) {
	w := newWorld(t)
	token := "Bearer " + w.token(w.login("ci", w.principal("ci", "AcrPush", "team/*", "")), "repository:team/app:pull,push repository:other:pull")
	allows := func(p access.Permission, name string) bool {
		c, err := w.from(token)
		w.ok(err)
		return c.Allows(p, repo(name))
	}
	if !allows(access.RepositoryPush, "team/app") || allows(access.RepositoryPull, "other") || allows(access.RepositoryPull, "team/b") {
		t.Fatal("the token does not hold what was asked and granted")
	}
	w.ok(w.cat.Assign(bg, catalog.Assigned{Principal: "ci", Role: "AcrPull", Scope: access.Scope{Pattern: "other"}}, catalog.Act{}))
	w.ok(w.cat.Unassign(bg, catalog.Assigned{Principal: "ci", Role: "AcrPush", Scope: access.Scope{Pattern: "team/*"}}, catalog.Act{}))
	if allows(access.RepositoryPush, "team/app") || allows(access.RepositoryPull, "team/app") {
		t.Error("the token still gives what was taken away")
	}
	if allows(access.RepositoryPull, "other") {
		t.Error("the token gives what was granted after it was issued")
	}
}

// TestConditionsOfRequests: the address, the time and the tag of the very request count.
func TestConditionsOfRequests(t *testing.T) {
	w := newWorld(t)
	secret := w.principal("ci", "AcrPush", "team/*", `inNetwork(address, "192.0.2.0/24") && (tag == "" || tag.startsWith("v"))`)
	l := w.login("ci", secret)
	at := func(address, authorization string) Caller {
		r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
		r.RemoteAddr = address + ":1234"
		r.Header.Set("Authorization", authorization)
		c, err := w.Caller(r)
		w.ok(err)
		return c
	}
	tok, err := w.Issue(bg, l, access.Request{Address: edge.OriginOf(httptest.NewRequest("GET", "/", nil)).Addr, Time: w.clock.now()}, scopes(t, "repository:team/app:push"))
	w.ok(err)
	if len(tok.Granted) != 1 { // httptest's address is 192.0.2.1
		t.Fatalf("within the network: %v; the tag is not known yet and must not count", tok.Granted)
	}
	for _, authorization := range []string{basic("ci", secret), "Bearer " + tok.Text} {
		for _, tc := range []struct {
			address, tag string
			want         bool
		}{{"192.0.2.9", "v1", true}, {"192.0.2.9", "", true}, {"192.0.2.9", "latest", false}, {"198.51.100.1", "v1", false}} {
			if got := at(tc.address, authorization).Tagged(tc.tag).Allows(access.RepositoryPush, repo("team/app")); got != tc.want {
				t.Errorf("from %s, tag %q: %v, want %v", tc.address, tc.tag, got, tc.want)
			}
		}
	}
}

// TestAnonymous: nothing is open unless it was opened, and then for pulling alone.
func TestAnonymous(t *testing.T) {
	w := newWorld(t)
	may := func(p access.Permission, name string) bool {
		c, err := w.from()
		w.ok(err)
		if !c.Anonymous() || c.MayList() {
			t.Errorf("%+v", c.Login)
		}
		return c.Allows(p, repo(name))
	}
	if may(access.RepositoryPull, "public/app") {
		t.Error("a repository is open from the start")
	}
	w.ok(w.cat.Assign(bg, catalog.Assigned{Principal: access.Anonymous.ID, Role: "Owner", Scope: access.Scope{Pattern: "public/*"}}, catalog.Act{}))
	for _, p := range access.Permissions {
		if got, want := may(p, "public/app"), p == access.RepositoryPull || p == access.RepositoryList; got != want {
			t.Errorf("%s: %v, want %v", p, got, want)
		}
	}
	if may(access.RepositoryPull, "private/app") {
		t.Error("what was opened reaches further than its pattern")
	}
	if _, err := w.IssueRefresh(bg, Login{Principal: access.Anonymous}); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("a refresh token for nobody: %v", err)
	}
	w.ok(w.cat.DisablePrincipal(bg, access.Anonymous.ID, catalog.Act{}))
	if _, err := w.from(); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("disabled: %v", err)
	}
}

// TestHeaders: what is no single, known form of credentials proves nobody.
func TestHeaders(t *testing.T) {
	w := newWorld(t)
	secret := w.principal("ci", "AcrPush", "", "")
	l := w.login("ci", secret)
	refresh, err := w.IssueRefresh(bg, l)
	w.ok(err)
	token := w.token(l)
	for what, header := range map[string]string{"no scheme": "x", "unknown scheme": "Negotiate abc", "no base64": "Basic ???", "no colon": "Basic YWJj",
		"empty token": "Bearer ", "a refresh token as an access token": "Bearer " + refresh.Text, "an access token as a refresh token": basic(RefreshUser, token),
		"a refresh token of another": basic("admin", refresh.Text), "an access token as a password": basic("ci", token),
		"a principal without secrets": basic("anonymous", "anonymous secret"), "spaces": "Bearer " + token + " " + token} {
		w.refuses(what, header)
	}
	if _, err := w.from(basic("ci", secret), "Bearer "+token); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("two headers: %v", err)
	}
	if c, err := w.from(basic("ci", refresh.Text)); err != nil || c.Name != "ci" {
		t.Errorf("a refresh token under its owner's name: %v", err)
	}
	w.clock.advance(3*time.Hour + time.Second)
	w.refuses("a refresh token that has run out", basic(RefreshUser, refresh.Text))
}

// TestRotation: two secrets overlap, so that one can take the other's place without a gap.
func TestRotation(t *testing.T) {
	w := newWorld(t)
	first := w.principal("ci", "AcrPull", "", "")
	second := NewSecret()
	w.ok(w.cat.AddSecret(bg, Hashed(second, catalog.Secret{ID: "ci-2", Principal: "ci", Expires: w.clock.now().AddDate(0, 0, 20)}), catalog.Act{Now: w.clock.now()}))
	if l := w.login("ci", first); l.Credential != "secret ci-1" || l.Warning(w.clock.now()) != "" {
		t.Errorf("%+v, %q", l, l.Warning(w.clock.now()))
	}
	if l := w.login("ci", second); l.Credential != "secret ci-2" || l.Warning(w.clock.now()) == "" || l.Warning(w.clock.now().AddDate(0, 0, -20)) != "" {
		t.Errorf("%+v, %q", l, l.Warning(w.clock.now()))
	}
	w.ok(w.cat.ExpireSecret(bg, "ci", "ci-1", w.clock.now(), catalog.Act{}))
	w.refuses("the first", basic("ci", first))
	w.login("ci", second)
	w.clock.advance(20 * 24 * time.Hour)
	w.refuses("the second, at its end", basic("ci", second))
}

// BenchmarkCaller is what proving a request costs once its credentials are known.
func BenchmarkCaller(b *testing.B) {
	i := New(catalogtest.Open(b), Options{})
	_, secret, _, err := i.Bootstrap(bg, "")
	if err != nil {
		b.Fatal(err)
	}
	l, err := i.Authenticate(bg, "admin", secret, nowhere)
	if err != nil {
		b.Fatal(err)
	}
	t, err := i.Issue(bg, l, access.Request{}, []Access{{typeRepository, "team/app", []string{"pull"}}})
	if err != nil {
		b.Fatal(err)
	}
	for name, header := range map[string]string{"basic": basic("admin", secret), "bearer": "Bearer " + t.Text, "anonymous": ""} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
			if header != "" {
				r.Header.Set("Authorization", header)
			}
			for b.Loop() {
				c, err := i.Caller(r)
				if err != nil || c.Allows(access.RepositoryPull, repo("team/app")) == c.Anonymous() {
					b.Fatal(c.Login, err)
				}
			}
		})
	}
}

package ociserver_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/identity"
)

// given makes a service principal with a role, and returns its generated secret.
func (w *world) given(name, role, pattern, condition string) string {
	w.t.Helper()
	w.principal(name, "", "")
	secret := identity.NewSecret()
	if err := w.cat.AddSecret(bg, identity.Hashed(secret, catalog.Secret{ID: "secret-" + name, Principal: "id-" + name}), catalog.Act{}); err != nil {
		w.t.Fatal(err)
	}
	w.assign("id-"+name, role, pattern, condition)
	return secret
}

func (w *world) assign(id, role, pattern, condition string) {
	w.t.Helper()
	if err := w.cat.Assign(bg, catalog.Assigned{Principal: id, Role: role, Scope: access.Scope{Pattern: pattern}, Condition: condition}, catalog.Act{}); err != nil {
		w.t.Fatal(err)
	}
}

// tokens asks the token endpoint.
func (w *world) tokens(r request) (answer, struct {
	Token        string `json:"token"`
	RefreshToken string `json:"refresh_token"`
	Scope        string `json:"scope"`
}) {
	w.t.Helper()
	r.path = "/v2/token" + r.path
	a := w.do(r)
	var doc struct {
		Token        string `json:"token"`
		RefreshToken string `json:"refresh_token"`
		Scope        string `json:"scope"`
	}
	if a.StatusCode == 200 {
		if err := json.Unmarshal(a.body, &doc); err != nil {
			w.t.Fatal(err)
		}
	}
	return a, doc
}

// TestUnseen: a repository that one may not see answers as one that is not there, to each kind of
// request, whoever asks.
func TestUnseen(t *testing.T) {
	w := newWorld(t)
	w.putImage("app", "1", "layer")
	w.putImage("mine", "1", "layer")
	w.given("robot", "AcrPush", "mine", "")
	token := w.tokenFor("robot", "repository:app:pull,push,delete repository:nap:pull,push,delete repository:mine:pull,push")
	for _, r := range everyRequest {
		there := r
		there.token = token
		not := there
		not.path = strings.Replace(not.path, "/app", "/nap", 1)
		a, b := w.do(there), w.do(not)
		if a.StatusCode != b.StatusCode || strings.ReplaceAll(string(a.body), "app", "nap") != string(b.body) || len(a.Header) != len(b.Header) {
			t.Errorf("%s %s: %d %s; where nothing is: %d %s", r.method, r.path, a.StatusCode, a.body, b.StatusCode, b.body)
		}
		there.token, not.token, there.anonymous, not.anonymous = "", "", true, true
		if a, b := w.do(there), w.do(not); a.StatusCode != b.StatusCode || string(a.body) != string(b.body) {
			t.Errorf("nobody, %s %s: %d %s; where nothing is: %d %s", r.method, r.path, a.StatusCode, a.body, b.StatusCode, b.body)
		}
	}
	// A mount from there is as one from nowhere: the bytes must be sent.
	for _, from := range []string{"app", "nap"} {
		a := w.want(w.do(request{method: "POST", path: "/v2/mine/blobs/uploads/?mount=" + sum("config").String() + "&from=" + from, token: token}), 202, "")
		if a.Header.Get("Location") == "" {
			t.Errorf("from %s: %v", from, a.Header)
		}
	}
	if a := w.do(request{method: "GET", path: "/v2/_catalog", token: w.tokenFor("robot", "registry:catalog:*")}); string(a.body) != `{"repositories":["mine"]}`+"\n" {
		t.Errorf("the list shows %s", a.body)
	}
}

// TestAnonymousPull: without credentials there is what was opened, for pulling, by the token flow too.
func TestAnonymousPull(t *testing.T) {
	w := newWorld(t)
	for _, repo := range []string{"public/app", "private/app"} {
		w.putImage(repo, "1", "layer")
	}
	nobody := func(method, path, token string) request {
		return request{method: method, path: path, token: token, anonymous: true}
	}
	if a, _ := w.tokens(nobody("GET", "?scope=repository:public/app:pull", "")); a.StatusCode != 401 {
		t.Errorf("before anything was opened: %d %s", a.StatusCode, a.body)
	}
	w.assign(access.Anonymous.ID, "AcrPush", "public/*", "")
	w.want(w.do(nobody("GET", "/v2/", "")), 401, "UNAUTHORIZED") // so that clients with credentials show them
	w.want(w.do(nobody("GET", "/v2/public/app/manifests/1", "")), 200, "")
	for _, r := range []request{nobody("GET", "/v2/private/app/manifests/1", ""), nobody("POST", "/v2/public/app/blobs/uploads/", ""), nobody("GET", "/v2/_catalog", "")} {
		w.want(w.do(r), 401, "UNAUTHORIZED")
	}
	a, doc := w.tokens(nobody("GET", "?service=pratique&offline_token=true&scope=repository:public/app:pull,push&scope=repository:private/app:pull&scope=registry:catalog:*", ""))
	if a.StatusCode != 200 || doc.RefreshToken != "" || strings.Contains(doc.Scope, "private") || strings.Contains(doc.Scope, "push") {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	w.want(w.do(nobody("GET", "/v2/public/app/manifests/1", doc.Token)), 200, "")
	for _, r := range []request{nobody("GET", "/v2/private/app/manifests/1", doc.Token), nobody("POST", "/v2/public/app/blobs/uploads/", doc.Token), nobody("GET", "/v2/_catalog", doc.Token)} {
		w.want(w.do(r), 401, "UNAUTHORIZED")
	}
	if a, _ := w.tokens(nobody("GET", "?scope=repository:private/app:pull", "")); a.StatusCode != 401 {
		t.Errorf("for what is not open: %d %s", a.StatusCode, a.body)
	}
}

// TestRefreshTokens: they stand for the credentials, in each form that clients use, until those are gone.
func TestRefreshTokens(t *testing.T) {
	w := newWorld(t)
	w.putImage("team/app", "1", "layer")
	secret := w.given("robot", "AcrPush", "team/*", "")
	as := func(name, secret string) map[string]string {
		return map[string]string{"Authorization": basicAuth(name, secret)}
	}
	a, first := w.tokens(request{method: "GET", path: "?offline_token=true&scope=repository:team/app:pull", anonymous: true, header: as("robot", secret)})
	if a.StatusCode != 200 || first.RefreshToken == "" {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	if _, doc := w.tokens(request{method: "GET", path: "?scope=repository:team/app:pull", anonymous: true, header: as("robot", secret)}); doc.RefreshToken != "" {
		t.Error("a refresh token came unasked")
	}
	form := func(kv ...string) request {
		v := url.Values{}
		for i := 0; i < len(kv); i += 2 {
			v.Add(kv[i], kv[i+1])
		}
		return request{method: "POST", anonymous: true, body: v.Encode(), header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}}
	}
	push := "repository:team/app:pull,push"
	ways := map[string]func() request{
		"POST": func() request {
			return form("grant_type", "refresh_token", "refresh_token", first.RefreshToken, "service", "pratique", "scope", push)
		},
		"Azure's user name": func() request {
			return request{method: "GET", path: "?scope=" + push, anonymous: true, header: as(identity.RefreshUser, first.RefreshToken)}
		},
		"POST with a password": func() request {
			return form("grant_type", "password", "username", "robot", "password", secret, "access_type", "offline", "scope", push)
		},
		"client credentials": func() request {
			return form("grant_type", "client_credentials", "client_id", "robot", "client_secret", secret, "scope", push)
		},
	}
	for name, way := range ways {
		a, doc := w.tokens(way())
		if a.StatusCode != 200 {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
			continue
		}
		w.want(w.do(request{method: "POST", path: "/v2/team/app/blobs/uploads/", token: doc.Token}), 202, "")
		w.want(w.do(request{method: "POST", path: "/v2/other/blobs/uploads/", token: doc.Token}), 403, "DENIED")
	}
	if err := w.cat.DeleteSecret(bg, "id-robot", "secret-robot", catalog.Act{}); err != nil {
		t.Fatal(err)
	}
	for name, way := range ways {
		if a, _ := w.tokens(way()); a.StatusCode != 401 {
			t.Errorf("%s, after the secret was deleted: %d %s", name, a.StatusCode, a.body)
		}
	}
}

// TestRightsEndDuringAPush: what a pusher loses while a push is under way ends the push, and nothing of it shows.
func TestRightsEndDuringAPush(t *testing.T) {
	for name, tc := range map[string]struct {
		take func(w *world) error
		want int
	}{
		"the role": {func(w *world) error {
			return w.cat.Unassign(bg, catalog.Assigned{Principal: "id-robot", Role: "AcrPush", Scope: access.Scope{Pattern: "team/*"}}, catalog.Act{})
		}, 403},
		"the principal": {func(w *world) error { return w.cat.DeletePrincipal(bg, "id-robot", catalog.Act{}) }, 401},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.assign("id-"+w.principal("owner", "", ""), "Owner", "", "")
			w.given("robot", "AcrPush", "team/*", "")
			token := w.tokenFor("robot", "repository:team/app:pull,push")
			a := w.want(w.do(request{method: "POST", path: "/v2/team/app/blobs/uploads/", token: token}), 202, "")
			loc := a.Header.Get("Location")
			w.want(w.do(request{method: "PATCH", path: loc, token: token, body: "half"}), 202, "")
			if err := tc.take(w); err != nil {
				t.Fatal(err)
			}
			for _, r := range []request{{method: "PATCH", path: loc, body: "more"}, {method: "PUT", path: loc + "?digest=" + sum("half").String()}, {method: "GET", path: loc},
				{method: "POST", path: "/v2/team/app/blobs/uploads/?digest=" + sum("x").String(), body: "x"}} {
				r.token = token
				if a := w.do(r); a.StatusCode != tc.want {
					t.Errorf("%s: %d %s, want %d", r.method, a.StatusCode, a.body, tc.want)
				}
			}
			w.want(w.do(request{method: "HEAD", path: "/v2/team/app/blobs/" + sum("half").String()}), 404, "")
		})
	}
}

// TestConditionOnTags: a pusher of tags of one pattern cannot move others.
func TestConditionOnTags(t *testing.T) {
	w := newWorld(t)
	w.putImage("team/app", "latest", "layer")
	w.given("ci", "AcrPush", "team/*", `tag == "" || tag.startsWith("ci-")`)
	token := w.tokenFor("ci", "repository:team/app:pull,push")
	a := w.want(w.do(request{method: "GET", path: "/v2/team/app/manifests/latest"}), 200, "")
	put := func(tag string) request {
		return request{method: "PUT", path: "/v2/team/app/manifests/" + tag, token: token, body: string(a.body), header: map[string]string{"Content-Type": a.Header.Get("Content-Type")}}
	}
	w.want(w.do(put("ci-7")), 201, "")
	w.want(w.do(put("latest")), 403, "DENIED")
	w.want(w.do(put("ci-8?tag=latest")), 403, "DENIED")
}

// TestAssertions: a signed JWT takes the place of a secret at the token endpoint, once, and for this door alone.
func TestAssertions(t *testing.T) {
	w := newWorld(t)
	w.given("robot", "AcrPush", "team/*", "")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(jose.JSONWebKey{Key: &key.PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	public, err := identity.ParseKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cat.AddSecret(bg, catalog.Secret{ID: "key", Principal: "id-robot", Kind: catalog.SecretKey, Hash: public}, catalog.Act{}); err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	assertion := func(id, audience string) string {
		text, err := jwt.Signed(signer).Claims(jwt.Claims{Issuer: "robot", Subject: "robot", ID: id, Audience: jwt.Audience{audience}, Expiry: jwt.NewNumericDate(time.Now().Add(time.Minute))}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	ask := func(kind, assertion string) (answer, string) {
		form := url.Values{"grant_type": {"client_credentials"}, "client_assertion_type": {kind}, "client_assertion": {assertion}, "scope": {"repository:team/app:pull,push"}}
		a, doc := w.tokens(request{method: "POST", anonymous: true, body: form.Encode(), header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}})
		return a, doc.Token
	}
	good := assertion("1", w.url+"/v2/token")
	a, token := ask(identity.AssertionType, good)
	if a.StatusCode != 200 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	w.want(w.do(request{method: "POST", path: "/v2/team/app/blobs/uploads/", token: token}), 202, "")
	for what, tc := range map[string]struct {
		kind, assertion string
		status          int
	}{
		"once more":        {identity.AssertionType, good, 401},
		"for another door": {identity.AssertionType, assertion("2", "https://elsewhere.example/v2/token"), 401},
		"of another kind":  {"urn:ietf:params:oauth:client-assertion-type:saml2-bearer", assertion("3", w.url+"/v2/token"), 400},
		"nothing":          {identity.AssertionType, "", 401},
	} {
		if a, _ := ask(tc.kind, tc.assertion); a.StatusCode != tc.status {
			t.Errorf("%s: %d %s, want %d", what, a.StatusCode, a.body, tc.status)
		}
	}
}

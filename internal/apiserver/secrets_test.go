package apiserver

import (
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/api"
)

const day = 24 * time.Hour

// TestRotation: a secret is replaced without a gap, two at most overlap, and each ends when it
// should.
func TestRotation(t *testing.T) {
	w := newWorld(t)
	ci := w.principal("ci", access.KindService, nil)
	var m api.SecretMade
	w.must(w.owner, http.MethodPost, api.PathSecrets+"?principal=ci", api.NewSecret{Rotate: true, GraceSeconds: 3600}, &m)
	if m.Replaced == nil || !m.Replaced.Expires.Equal(w.now.Add(time.Hour)) || !m.Expires.Equal(w.now.Add(180*day)) {
		t.Errorf("made %+v, replaced %+v", m.Secret, m.Replaced)
	}
	next := login{"ci", m.Text}
	w.must(ci, http.MethodGet, api.PathWhoami, nil, nil)
	w.must(next, http.MethodGet, api.PathWhoami, nil, nil)
	w.refused(w.owner, http.StatusConflict, "pratique secret expire ci ID", http.MethodPost, api.PathSecrets+"?principal=ci", api.NewSecret{})
	w.now = w.now.Add(time.Hour)
	w.refused(ci, http.StatusUnauthorized, "wrong", http.MethodGet, api.PathWhoami, nil)
	w.must(next, http.MethodGet, api.PathWhoami, nil, nil)
	var third api.SecretMade
	w.must(w.owner, http.MethodPost, api.PathSecrets+"?principal=ci", api.NewSecret{Forever: true}, &third)
	w.must(w.owner, http.MethodPost, api.PathSecretExpire+"?principal=ci&id="+m.ID, nil, nil)
	w.refused(next, http.StatusUnauthorized, "wrong", http.MethodGet, api.PathWhoami, nil)
	w.must(login{"ci", third.Text}, http.MethodGet, api.PathWhoami, nil, nil)
	w.must(w.owner, http.MethodDelete, api.PathSecrets+"?principal=ci&id="+third.ID, nil, nil)
	w.refused(login{"ci", third.Text}, http.StatusUnauthorized, "wrong", http.MethodGet, api.PathWhoami, nil)
	if list := readAll(t, w.send(w.owner, http.MethodGet, api.PathSecrets+"?principal=ci", nil)); strings.Contains(list, "pratique_") || strings.Contains(list, "sha256") {
		t.Errorf("the list tells secrets: %s", list)
	}
	for range 40 {
		var x api.SecretMade
		w.must(w.owner, http.MethodPost, api.PathSecrets+"?principal=ci", api.NewSecret{}, &x)
		w.must(w.owner, http.MethodPost, api.PathSecretExpire+"?principal=ci&id="+x.ID, nil, nil)
		w.now = w.now.Add(time.Second)
	}
	var l api.SecretList
	w.must(w.owner, http.MethodGet, api.PathSecrets+"?principal=ci", nil, &l)
	if len(l.Secrets) > 22 {
		t.Errorf("%d secrets are remembered", len(l.Secrets))
	}
}

// TestSelfService: everyone sees and replaces their own secrets, with one of them and nothing less, and
// nobody else's.
func TestSelfService(t *testing.T) {
	w := newWorld(t)
	w.must(w.owner, http.MethodPut, api.PathScopeMaps, api.NewScopeMap{Name: "map", Actions: []string{"a:content/read"}}, nil)
	var made api.PrincipalMade
	w.must(w.owner, http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "tok", Kind: access.KindToken, ScopeMap: "map"}, &made)
	tok, ann := login{"tok", made.Secret.Text}, w.principal("ann", access.KindUser, nil)
	for _, path := range []string{api.PathSecrets, api.PathPrincipal, api.PathAssignments, api.PathAccessCheck} {
		q := "&permission=content/read"
		w.must(ann, http.MethodGet, path+"?principal=ann"+q, nil, nil)
		w.refused(ann, http.StatusForbidden, "principals.read", http.MethodGet, path+"?principal=tok"+q, nil)
		w.refused(ann, http.StatusForbidden, "principals.read", http.MethodGet, path+"?principal="+q, nil)
		w.refused(ann, http.StatusForbidden, "principals.read", http.MethodGet, path+"?principal=tok&principal=ann"+q, nil)
	}
	w.refused(ann, http.StatusForbidden, "principals.manage", http.MethodPost, api.PathSecrets+"?principal=tok", api.NewSecret{})
	w.refused(ann, http.StatusForbidden, "principals.manage", http.MethodDelete, api.PathSecrets+"?principal=admin&id=admin-first", nil)

	// By a refresh token in the place of the secret, one can look and not touch.
	l, err := w.ident.Authenticate(t.Context(), ann.name, ann.secret, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	refresh, err := w.ident.IssueRefresh(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	byToken := login{"ann", refresh.Text}
	w.must(byToken, http.MethodGet, api.PathSecrets+"?principal=ann", nil, nil)
	w.refused(byToken, http.StatusForbidden, "not with a token", http.MethodPost, api.PathSecrets+"?principal=ann", api.NewSecret{})

	var m api.SecretMade
	w.now = w.now.Add(time.Second)
	w.must(ann, http.MethodPost, api.PathSecrets+"?principal=ann", api.NewSecret{Rotate: true}, &m)
	w.refused(ann, http.StatusUnauthorized, "wrong", http.MethodGet, api.PathWhoami, nil)
	w.refused(byToken, http.StatusUnauthorized, "wrong", http.MethodGet, api.PathWhoami, nil)
	w.must(login{"ann", m.Text}, http.MethodGet, api.PathWhoami, nil, nil)
	if !m.Expires.IsZero() {
		t.Errorf("a user's secret ends %v", m.Expires)
	}

	// A program's end is not put off by itself beyond what is usual.
	w.refused(tok, http.StatusForbidden, "180 days at most", http.MethodPost, api.PathSecrets+"?principal=tok", api.NewSecret{Forever: true})
	w.refused(tok, http.StatusForbidden, "180 days at most", http.MethodPost, api.PathSecrets+"?principal=tok", api.NewSecret{Expires: w.now.Add(181 * day)})
	w.refused(tok, http.StatusForbidden, "put off", http.MethodPost,
		api.PathSecretExpire+"?principal=tok&id="+made.Secret.ID+"&at="+w.now.Add(181*day).Format(time.RFC3339), nil)
	w.now = w.now.Add(time.Second)
	w.must(tok, http.MethodPost, api.PathSecrets+"?principal=tok", api.NewSecret{}, &m)
	next := login{"tok", m.Text}

	// One that is being replaced can do nothing about that.
	w.refused(tok, http.StatusForbidden, "only with the newest", http.MethodPost, api.PathSecrets+"?principal=tok", api.NewSecret{})
	w.refused(tok, http.StatusForbidden, "only with the newest", http.MethodDelete, api.PathSecrets+"?principal=tok&id="+m.ID, nil)
	w.refused(tok, http.StatusForbidden, "only with the newest", http.MethodPost, api.PathSecretExpire+"?principal=tok&id="+m.ID, nil)
	w.must(next, http.MethodPost, api.PathSecretExpire+"?principal=tok&id="+made.Secret.ID, nil, nil)
	w.refused(tok, http.StatusUnauthorized, "wrong", http.MethodGet, api.PathWhoami, nil)
}

// TestWarning: who logs in by what ends soon hears of it.
func TestWarning(t *testing.T) {
	w := newWorld(t)
	ci := w.principal("ci", access.KindService, nil)
	header := func() string { return w.send(ci, http.MethodGet, api.PathWhoami, nil).Header.Get("Warning") }
	if got := header(); got != "" {
		t.Errorf("180 days before: %s", got)
	}
	w.now = w.now.Add(151 * day)
	if got := header(); !strings.HasPrefix(got, `299 - "the secret with id `) || !strings.Contains(got, "pratique secret add ci") {
		t.Errorf("29 days before: %s", got)
	}
}

// TestKeysOfPrincipals: a public key is kept and shown, a private one refused.
func TestKeysOfPrincipals(t *testing.T) {
	w := newWorld(t)
	w.principal("ci", access.KindService, nil)
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	jwk := func(key any) []byte {
		raw, err := json.Marshal(jose.JSONWebKey{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	var m api.SecretMade
	w.must(w.owner, http.MethodPost, api.PathSecrets+"?principal=ci", api.NewSecret{Key: jwk(public)}, &m)
	if m.Kind != "key" || m.Text != "" || !strings.Contains(string(m.Key), `"OKP"`) {
		t.Errorf("made %+v", m)
	}
	w.refused(w.owner, http.StatusBadRequest, "keep the private one", http.MethodPost, api.PathSecrets+"?principal=ci", api.NewSecret{Key: jwk(private)})
}

// TestCheck explains, by group, scope map and condition, and to everyone of themselves.
func TestCheck(t *testing.T) {
	w := newWorld(t)
	ann := w.principal("ann", access.KindUser, &api.NewAssignment{Role: "AcrPush", Scope: "team/*", Condition: `inNetwork(address, "192.0.2.0/24") && tag != "prod"`})
	w.principal("readers", access.KindGroup, &api.NewAssignment{Role: "AcrPull", Scope: "lib/*"})
	w.must(w.owner, http.MethodPost, api.PathMembers+"?group=readers&member=ann", nil, nil)
	w.must(w.owner, http.MethodPut, api.PathScopeMaps, api.NewScopeMap{Name: "map", Actions: []string{"a:content/read"}}, nil)
	w.must(w.owner, http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "tok", Kind: access.KindToken, ScopeMap: "map"}, nil)
	w.must(w.owner, http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "anonymous", Role: "AcrPull", Scope: "public/*"}, nil)
	w.principal("off", access.KindUser, &api.NewAssignment{Role: "AcrPull"})
	w.must(w.owner, http.MethodPost, api.PathPrincipalDisable+"?principal=off", nil, nil)
	for _, tc := range []struct {
		who     login
		query   string
		allowed bool
		says    string
	}{
		{w.owner, "principal=ann&permission=content/write&repository=team/app&address=192.0.2.7", true, "the condition holds"},
		{w.owner, "principal=ann&permission=content/write&repository=team/app&address=192.0.2.7&tag=prod", false, "the condition does not hold"},
		{w.owner, "principal=ann&permission=content/write&repository=team/app", false, "could not be evaluated"},
		{w.owner, "principal=ann&permission=content/write&repository=other/app&address=192.0.2.7", false, "does not cover other/app"},
		{w.owner, "principal=ann&permission=repository.pull&repository=lib/x", true, "group readers"},
		{w.owner, "principal=tok&permission=repository.pull&repository=a", true, "scope map map"},
		{w.owner, "principal=tok&permission=repository.push&repository=a", false, "does not have repository.push"},
		{w.owner, "principal=anonymous&permission=repository.pull&repository=public/x", true, "AcrPull"},
		{w.owner, "principal=anonymous&permission=repository.push&repository=public/x", false, "does not have"},
		{w.owner, "principal=off&permission=repository.pull&repository=a", false, `"disabled":true`},
		{w.owner, "principal=admin&permission=roles.manage", true, "Owner"},
		{ann, "principal=ann&permission=content/write&repository=team/app", true, "the condition holds"}, // from 192.0.2.1, httptest's
	} {
		var c api.Check
		text := readAll(t, w.send(tc.who, http.MethodGet, api.PathAccessCheck+"?"+tc.query, nil))
		if err := json.Unmarshal([]byte(text), &c); err != nil || c.Allowed != tc.allowed || !strings.Contains(text, tc.says) {
			t.Errorf("%s: %s (%v); want %v, %q", tc.query, text, err, tc.allowed, tc.says)
		}
	}
}

// TestSigningKeys: rotated on demand, and not so often that they pile up.
func TestSigningKeys(t *testing.T) {
	w := newWorld(t)
	var before, after api.KeyList
	w.must(w.owner, http.MethodGet, api.PathKeys, nil, &before)
	w.must(w.owner, http.MethodPost, api.PathKeysRotate, nil, &after)
	if len(before.Keys) != 1 || len(after.Keys) != 2 || after.Keys[1].ID != before.Keys[0].ID || strings.Contains(string(after.Keys[0].Public), `"d"`) {
		t.Errorf("before %+v, after %+v", before, after)
	}
	w.refused(w.owner, http.StatusTooManyRequests, "just now", http.MethodPost, api.PathKeysRotate, nil)
	w.now = w.now.Add(rotateEvery)
	w.must(w.owner, http.MethodPost, api.PathKeysRotate, nil, nil)
}

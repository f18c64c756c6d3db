// Package issuertest is an issuer of identities for tests: a real server on loopback with a
// discovery document and keys, whose tokens look like those of GitHub Actions, of Kubernetes or of
// whatever else a test says. It lies where it is told to.
package issuertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Issuer is a running issuer. Its methods may be called at once.
type Issuer struct {
	URL  string
	Asks atomic.Int32 // how often its keys were asked for

	t *testing.T

	mu      sync.Mutex
	key     *ecdsa.PrivateKey
	kid     string
	handler func(w http.ResponseWriter, r *http.Request) bool
}

// New starts an issuer, which ends with the test.
func New(t *testing.T) *Issuer {
	t.Helper()
	i := &Issuer{t: t}
	i.Rotate()
	srv := httptest.NewServer(http.HandlerFunc(i.serve))
	t.Cleanup(srv.Close)
	i.URL = srv.URL
	return i
}

// Rotate has the issuer sign with a new key, and know no other.
func (i *Issuer) Rotate() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key, i.kid = key, rand.Text()
}

// Answer has h answer what is asked instead, where it returns true; nil takes it back.
func (i *Issuer) Answer(h func(w http.ResponseWriter, r *http.Request) bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.handler = h
}

func (i *Issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	h, set := i.handler, i.keySet()
	i.mu.Unlock()
	if r.URL.Path == "/jwks" {
		i.Asks.Add(1)
	}
	if h != nil && h(w, r) {
		return
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		i.send(w, map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/jwks", "authorization_endpoint": i.URL + "/auth", "token_endpoint": i.URL + "/token",
			"id_token_signing_alg_values_supported": []string{"ES256"}})
	case "/jwks":
		i.send(w, set)
	default:
		http.NotFound(w, r)
	}
}

func (i *Issuer) send(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		i.t.Error(err)
	}
}

func (i *Issuer) keySet() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &i.key.PublicKey, KeyID: i.kid, Algorithm: "ES256", Use: "sig"}}}
}

// Key is the present key and its ID.
func (i *Issuer) Key() (*ecdsa.PrivateKey, string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.key, i.kid
}

// Sign makes a token of claims as they are.
func (i *Issuer) Sign(claims map[string]any) string {
	i.t.Helper()
	key, kid := i.Key()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		i.t.Fatal(err)
	}
	text, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return text
}

// GitHub are the claims of a job of GitHub Actions ("About security hardening with OpenID Connect").
func (i *Issuer) GitHub(audience string, now time.Time) map[string]any {
	return map[string]any{"iss": i.URL, "aud": audience, "sub": "repo:octo-org/octo-repo:environment:prod", "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Unix() - 600, "exp": now.Unix() + 300,
		"repository": "octo-org/octo-repo", "repository_owner": "octo-org", "ref": "refs/heads/main", "environment": "prod",
		"workflow": "release", "event_name": "push", "runner_environment": "github-hosted"}
}

// Kubernetes are the claims of a service account's projected token ("Service account token volume
// projection").
func (i *Issuer) Kubernetes(audience string, now time.Time) map[string]any {
	return map[string]any{"iss": i.URL, "aud": []string{audience}, "sub": "system:serviceaccount:build:kaniko", "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Unix() + 3600,
		"kubernetes.io": map[string]any{"namespace": "build", "serviceaccount": map[string]any{"name": "kaniko", "uid": "0a5c2c1d-6a5c-4b4e-9d0b-1a2b3c4d5e6f"}}}
}

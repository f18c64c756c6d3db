package apiserver

import (
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/admin"
	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/blob/memblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/registry"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// world is the interface over a catalog in memory, with an owner.
type world struct {
	t     testing.TB
	cat   *catalog.Catalog
	ident *identity.Identity
	s     *Server
	now   time.Time
	owner login
}

// login is whom a request is from; the zero login is nobody.
type login struct{ name, secret string }

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, cat: catalogtest.Open(t), now: time.Now().UTC().Truncate(time.Second)}
	clock := func() time.Time { return w.now }
	log := slog.New(slog.DiscardHandler)
	w.ident = identity.New(w.cat, identity.Options{Now: clock, Log: log})
	name, secret, _, err := w.ident.Bootstrap(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	w.owner = login{name, secret}
	admins := admin.New(w.cat, admin.Options{NewSecret: identity.NewHashedSecret, ParseKey: identity.ParseKey,
		Reserved: []string{identity.RefreshUser, identity.FederatedUser}, Now: clock})
	w.s = New(Options{Catalog: w.cat, Registry: registry.New(w.cat, memblob.New(), registry.Options{Now: clock}), Identity: w.ident, Admin: admins,
		Now: clock, Log: log, Ready: func() bool { return true }, Loading: func() *api.Progress { return nil }})
	return w
}

// send sends a request; body is a document to be marshalled, text as it is, or nil.
func (w *world) send(who login, method, target string, body any) *http.Response {
	w.t.Helper()
	var doc io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		doc = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			w.t.Fatal(err)
		}
		doc = strings.NewReader(string(raw))
	}
	r := httptest.NewRequest(method, target, doc)
	if who.name != "" {
		r.SetBasicAuth(who.name, who.secret)
	}
	rec := httptest.NewRecorder()
	w.s.ServeHTTP(rec, r)
	return rec.Result()
}

// must sends a request that shall be answered with 2xx, and reads the answer.
func (w *world) must(who login, method, target string, body, into any) {
	w.t.Helper()
	res := w.send(who, method, target, body)
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode/100 != 2 {
		w.t.Fatalf("%s: %s %s: %d %s (%v)", who.name, method, target, res.StatusCode, text, err)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			w.t.Fatal(err)
		}
	}
}

// refused sends a request that shall be answered so, in these words.
func (w *world) refused(who login, status int, words, method, target string, body any) {
	w.t.Helper()
	res := w.send(who, method, target, body)
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status || !strings.Contains(string(text), words) {
		w.t.Errorf("%s: %s %s %v: %d %s (%v); want %d, %q", who.name, method, target, body, res.StatusCode, text, err, status, words)
	}
}

// principal makes somebody with a secret, as the owner.
func (w *world) principal(name string, kind access.Kind, assign *api.NewAssignment) login {
	w.t.Helper()
	var m api.PrincipalMade
	w.must(w.owner, http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: name, Kind: kind, Assign: assign}, &m)
	if m.Secret == nil {
		return login{name: name}
	}
	return login{name, m.Secret.Text}
}

// having makes a service principal that has single permissions within a scope.
func (w *world) having(name, scope string, ps ...access.Permission) login {
	w.t.Helper()
	var texts []string
	for _, p := range ps {
		texts = append(texts, string(p))
	}
	w.must(w.owner, http.MethodPut, api.PathRoles, api.NewRole{Name: "role-of-" + name, Permissions: texts}, nil)
	return w.principal(name, access.KindService, &api.NewAssignment{Role: "role-of-" + name, Scope: scope})
}

// push puts a manifest, with the tag 1, into repositories.
func (w *world) push(repositories ...string) {
	w.t.Helper()
	for _, name := range repositories {
		repo, err := oci.ParseRepository(name)
		if err != nil {
			w.t.Fatal(err)
		}
		raw := `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeImageIndex + `","manifests":[],"annotations":{"name":"` + name + `"}}`
		m, err := oci.ParseManifest(oci.MediaTypeImageIndex, []byte(raw))
		if err != nil {
			w.t.Fatal(err)
		}
		if _, err := w.cat.PutManifest(w.t.Context(), catalog.NewManifest{Repo: repo, Manifest: m, Tags: []string{"1"}, By: "someone", Now: w.now}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// bearer sends a request with a token in the place of a name and a secret.
func (w *world) bearer(token, method, target string) *http.Response {
	w.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader("{}"))
	r.Header.Set("Authorization", "Bearer "+token)
	rec := httptest.NewRecorder()
	w.s.ServeHTTP(rec, r)
	return rec.Result()
}

func readAll(t testing.TB, res *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

package ociserver_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/ociserver"
)

// TestNeeds sends each kind of request as who has each single permission, and each built-in role, in
// the repository, and elsewhere: it is answered to whom Needs says, and to nobody else.
func TestNeeds(t *testing.T) {
	w := newWorld(t)
	secrets := map[string]string{}
	login := func(name, role, pattern string) string {
		w.principal(name, role, pattern)
		text, hash := identity.NewHashedSecret()
		if err := w.cat.AddSecret(bg, catalog.Secret{ID: "of-" + name, Principal: "id-" + name, Hash: hash}, catalog.Act{}); err != nil {
			t.Fatal(err)
		}
		secrets[name] = text
		return name
	}
	nobody := login("without", "", "")
	single, roles := map[access.Permission]string{}, map[string]string{}
	for i, p := range access.Permissions {
		role := access.Role{Name: fmt.Sprintf("only%d", i), Permissions: []access.Permission{p}}
		if err := w.cat.PutRole(bg, role, catalog.Act{}); err != nil {
			t.Fatal(err)
		}
		single[p] = login(fmt.Sprintf("p%d", i), role.Name, "team/*")
	}
	for i, r := range access.BuiltIn {
		roles[r.Name] = login(fmt.Sprintf("r%d", i), r.Name, "team/*")
	}
	fill := strings.NewReplacer("DIGEST", someDigest, "REFERENCE", "v1", "ID", "none")
	for _, n := range ociserver.Needs() {
		method, path, _ := strings.Cut(n.Request, " ")
		if !n.OnRepository {
			if n.Else == "" {
				t.Errorf("%s is nobody's", n.Request)
			}
			continue
		}
		admitted := func(name, repo string) bool {
			req, err := http.NewRequestWithContext(bg, method, w.url+fill.Replace(strings.Replace(path, "NAME", repo, 1)), nil)
			if err != nil {
				t.Fatal(err)
			}
			if name != "" {
				req.SetBasicAuth(name, secrets[name])
			}
			res, err := w.http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if err := res.Body.Close(); err != nil {
				t.Fatal(err)
			}
			return res.StatusCode != http.StatusUnauthorized && res.StatusCode != http.StatusForbidden
		}
		if admitted("", "team/app") || admitted(nobody, "team/app") {
			t.Errorf("%s is answered to who was given nothing", n.Request)
		}
		for p, name := range single {
			if got := admitted(name, "team/app"); got != slices.Contains(n.AnyOf, p) {
				t.Errorf("%s with %s: %v", n.Request, p, got)
			}
			if admitted(name, "other/app") {
				t.Errorf("%s with %s of another repository is answered", n.Request, p)
			}
		}
		for _, r := range access.BuiltIn {
			if got := admitted(roles[r.Name], "team/app"); got != n.MetBy(r) {
				t.Errorf("%s with %s: %v", n.Request, r.Name, got)
			}
		}
	}
}

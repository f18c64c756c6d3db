package apiserver

import (
	"errors"
	"net/http"
	"testing"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/identity"
)

// someone makes a service principal with a secret and a role of some permissions.
func (w *world) someone(name string, may ...access.Permission) login {
	w.t.Helper()
	act, ctx := catalog.Act{By: "test", Now: w.now}, w.t.Context()
	p := access.Principal{ID: "id-" + name, Kind: access.KindService, Name: name}
	text, hash := identity.NewHashedSecret()
	err := errors.Join(w.cat.CreatePrincipal(ctx, catalog.Account{Principal: p}, act), w.cat.AddSecret(ctx, catalog.Secret{ID: "s-" + name, Principal: p.ID, Hash: hash}, act))
	if err == nil && len(may) > 0 {
		err = errors.Join(w.cat.PutRole(ctx, access.Role{Name: "of-" + name, Permissions: may}, act), w.cat.Assign(ctx, catalog.Assigned{Principal: p.ID, Role: "of-" + name}, act))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return login{name, text}
}

// TestNobodyRises: who may manage principals has nobody log in as one who has more, and so not themselves.
func TestNobodyRises(t *testing.T) {
	w := newWorld(t)
	act := catalog.Act{By: "test", Now: w.now}
	w.someone("reader", access.RepositoryPull, access.RepositoryList)
	w.someone("nobody")
	w.someone("asleep", access.RepositoryPush)
	manager := w.someone("manager", access.PrincipalsManage, access.PrincipalsRead, access.RepositoryPull, access.RepositoryList)
	full := w.someone("full", access.RolesManage, access.PrincipalsManage, access.PrincipalsRead, access.RepositoryPull, access.RepositoryList)
	err := errors.Join(w.cat.DisablePrincipal(t.Context(), "id-asleep", act), w.cat.CreatePrincipal(t.Context(), catalog.Account{Principal: access.Principal{ID: "boss", Kind: access.KindService, Name: "boss"}}, act),
		w.cat.Assign(t.Context(), catalog.Assigned{Principal: "boss", Role: "Owner"}, act),
		w.cat.PutFederation(t.Context(), catalog.Federation{Name: "of-boss", Principal: "boss", Issuer: "https://i.example", Audience: "a", Rule: "true"}, act))
	if err != nil {
		t.Fatal(err)
	}
	put := func(more string) string {
		return `{"issuer":"https://i.example","audience":"a","rule":"claims.sub == \"x\"",` + more + `}`
	}
	const at = "/api/v1/federations"
	for _, tc := range []struct {
		name               string
		who                login
		method, path, body string
		want               int
	}{
		{"to an owner", manager, http.MethodPut, at, put(`"name":"f","principal":"boss"`), http.StatusForbidden},
		{"to an owner, who may assign", full, http.MethodPut, at, put(`"name":"f","principal":"boss"`), http.StatusForbidden},
		{"to one who is disabled, and may come back", full, http.MethodPut, at, put(`"name":"f","principal":"asleep"`), http.StatusForbidden},
		{"with a role, who may not assign", manager, http.MethodPut, at, put(`"name":"f","role":"AcrPull"`), http.StatusForbidden},
		{"with a role of more", full, http.MethodPut, at, put(`"name":"f","role":"AcrPush"`), http.StatusForbidden},
		{"in place of an owner's", full, http.MethodPut, at, put(`"name":"of-boss","principal":"nobody"`), http.StatusForbidden},
		{"an owner's away", full, http.MethodDelete, at + "?name=of-boss", "", http.StatusForbidden},
		{"a group with a role of more", full, http.MethodPost, at + "/groups", `{"name":"g","issuer":"https://i.example","group":"x","role":"Owner"}`, http.StatusForbidden},
		{"to the anonymous", w.owner, http.MethodPut, at, put(`"name":"f","principal":"anonymous"`), http.StatusBadRequest},
		{"with what is not known", w.owner, http.MethodPut, at, put(`"name":"f","principal":"nobody","rules":"true"`), http.StatusBadRequest},
		{"to one with less", manager, http.MethodPut, at, put(`"name":"h","principal":"reader"`), http.StatusOK},
		{"with a role of less", full, http.MethodPut, at, put(`"name":"g","role":"AcrPull","scope":"team/*"`), http.StatusOK},
		{"an owner to an owner", w.owner, http.MethodPut, at, put(`"name":"i","principal":"boss"`), http.StatusOK},
		{"what nobody would take", manager, http.MethodPost, at + "/test", `{"token":"x"}`, http.StatusOK},
	} {
		res := w.send(tc.who, tc.method, tc.path, tc.body)
		if res.StatusCode != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, res.StatusCode, tc.want)
		}
	}
	if _, err := w.cat.PrincipalByName(t.Context(), "f"); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("a refused request left a principal: %v", err)
	}
}

package apiserver

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/oci"
)

// TestListsShowWhatOneMaySee: of images and of the trash, a page at a time, and no page's end tells
// of what is not shown.
func TestListsShowWhatOneMaySee(t *testing.T) {
	w := newWorld(t)
	all := []string{"a/secret", "b/secret", "team/app", "team/web", "z/secret"}
	w.push(all...)
	team := w.principal("team", access.KindService, &api.NewAssignment{Role: "AcrPull", Scope: "team/*"})
	lister := w.principal("lister", access.KindService, &api.NewAssignment{Role: "Container Registry Repository Catalog Lister"})
	nothing := w.principal("nothing", access.KindService, nil)
	mine := []string{"team/app", "team/web"}
	for _, tc := range []struct {
		who  login
		want []string
	}{{nothing, nil}, {team, mine}, {lister, all}, {w.owner, all}} {
		if got := w.images(tc.who); !slices.Equal(got, tc.want) {
			t.Errorf("%s is shown images of %v, want %v", tc.who.name, got, tc.want)
		}
	}
	for _, name := range all {
		repo, err := oci.ParseRepository(name)
		if err != nil {
			t.Fatal(err)
		}
		m, err := w.cat.Manifest(t.Context(), repo, oci.Reference{Tag: "1"})
		if err == nil {
			err = w.cat.DeleteManifest(t.Context(), repo, m.Digest, catalog.Act{By: "someone", Now: w.now, Restore: 1 << 40})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		who  login
		want []string
	}{{nothing, nil}, {team, mine}, {lister, all}} {
		if got := w.trash(tc.who); !slices.Equal(got, tc.want) {
			t.Errorf("%s is shown trash of %v, want %v", tc.who.name, got, tc.want)
		}
	}
	w.refused(team, http.StatusBadRequest, "begin at the first page", http.MethodGet, api.PathImages+"?after=~AAAA", nil)
}

// page checks that what follows is not told.
func (w *world) page(who login, next string) string {
	w.t.Helper()
	if strings.Contains(next, "secret") && !strings.Contains("lister admin", who.name) {
		w.t.Errorf("%s is told that %q follows", who.name, next)
	}
	return url.QueryEscape(next)
}

func (w *world) images(who login) (out []string) {
	for after := ""; ; {
		var l api.ImageList
		w.must(who, http.MethodGet, api.PathImages+"?limit=1&after="+after, nil, &l)
		for _, i := range l.Images {
			out = append(out, i.Repository)
		}
		if after = w.page(who, l.Next); after == "" {
			return out
		}
	}
}

func (w *world) trash(who login) (out []string) {
	for after := ""; ; {
		var l api.Trash
		w.must(who, http.MethodGet, api.PathTrash+"?limit=1&after="+after, nil, &l)
		for _, d := range l.Manifests {
			out = append(out, d.Repository)
		}
		if after = w.page(who, l.Next); after == "" {
			return out
		}
	}
}

// TestTokens: a token holds what it was asked for, and changes no secrets.
func TestTokens(t *testing.T) {
	w := newWorld(t)
	w.push("team/app")
	l, err := w.ident.Authenticate(t.Context(), w.owner.name, w.owner.secret, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	token := func(scopes ...string) string {
		asked, err := identity.ParseScopes(scopes)
		if err != nil {
			t.Fatal(err)
		}
		tok, err := w.ident.Issue(t.Context(), l, access.Request{}, asked)
		if err != nil {
			t.Fatal(err)
		}
		return tok.Text
	}
	pulls, lists := token("repository:team/app:pull,push,delete"), token("registry:catalog:*")
	for _, tc := range []struct {
		token, method, target string
		want                  int
	}{
		{pulls, http.MethodGet, api.PathImages, http.StatusForbidden},
		{lists, http.MethodGet, api.PathImages, http.StatusOK},
		{pulls, http.MethodGet, api.PathWhoami, http.StatusOK},
		{lists, http.MethodGet, api.PathPrincipals, http.StatusForbidden},
		{pulls, http.MethodGet, api.PathSecrets + "?principal=admin", http.StatusForbidden},
		{pulls, http.MethodPost, api.PathSecrets + "?principal=admin", http.StatusForbidden},
		{pulls, http.MethodPost, api.PathAssignments, http.StatusForbidden},
		{pulls, http.MethodPost, api.PathLocks + "?repository=team/app&lock=write", http.StatusForbidden},
		{pulls, http.MethodGet, api.PathTagHistory + "?repository=team/app&tag=1", http.StatusOK},
		{pulls, http.MethodGet, api.PathTagHistory + "?repository=team/web&tag=1", http.StatusForbidden},
	} {
		if res := w.bearer(tc.token, tc.method, tc.target); res.StatusCode != tc.want {
			t.Errorf("%s %s: %d %s, want %d", tc.method, tc.target, res.StatusCode, readAll(t, res), tc.want)
		}
	}
}

// TestLocksAreOfTheirRepository: metadata is changed by who may in that repository.
func TestLocksAreOfTheirRepository(t *testing.T) {
	w := newWorld(t)
	w.push("team/app", "other/app")
	who := w.principal("writer", access.KindService, &api.NewAssignment{Role: "Container Registry Repository Writer", Scope: "team/*"})
	w.must(who, http.MethodPost, api.PathLocks+"?repository=team/app&lock=write", nil, nil)
	w.refused(who, http.StatusForbidden, "has not been granted repository.lock on other/app", http.MethodPost, api.PathLocks+"?repository=other/app&lock=write", nil)
}

// TestPages: principals and assignments come in pages, each once.
func TestPages(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		w.principal(fmt.Sprintf("p%d", i), access.KindWorkload, &api.NewAssignment{Role: "AcrPull", Scope: "team/*"})
	}
	var names, given []string
	for after := ""; ; {
		var l api.PrincipalList
		w.must(w.owner, http.MethodGet, api.PathPrincipals+"?limit=2&kind=workload&after="+url.QueryEscape(after), nil, &l)
		for _, p := range l.Principals {
			names = append(names, p.Name)
		}
		if after = l.Next; after == "" {
			break
		}
	}
	for after := ""; ; {
		var l api.AssignmentList
		w.must(w.owner, http.MethodGet, api.PathAssignments+"?limit=2&role=AcrPull&after="+url.QueryEscape(after), nil, &l)
		for _, a := range l.Assignments {
			given = append(given, a.Principal)
		}
		if after = l.Next; after == "" {
			break
		}
	}
	slices.Sort(given)
	if want := []string{"p0", "p1", "p2", "p3", "p4"}; !slices.Equal(names, want) || !slices.Equal(given, want) {
		t.Errorf("listed %v, given %v", names, given)
	}
	w.refused(w.owner, http.StatusBadRequest, "expected the next", http.MethodGet, api.PathAssignments+"?after=x", nil)
}

package apiserver

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/oci"
)

// reach sends a request of a route's kind, and says how it was answered and whether the handler was
// reached. Where the route names principals it names another one.
func (w *world) reach(rt route, who login) (status int, reached bool) {
	w.t.Helper()
	rt.handle = func(_ *Server, w http.ResponseWriter, _ *http.Request, _ caller) error {
		reached = true
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	method, path, _ := strings.Cut(rt.pattern, " ")
	r := httptest.NewRequest(method, path+"?repository=team/app&reference=1&principal=admin", nil)
	if who.name != "" {
		r.SetBasicAuth(who.name, who.secret)
	}
	rec := httptest.NewRecorder()
	w.s.guard(rt).ServeHTTP(rec, r)
	if rec.Code == http.StatusUnauthorized && rec.Header().Get("WWW-Authenticate") == "" {
		w.t.Errorf("%s: a 401 without a challenge", rt.pattern)
	}
	return rec.Code, reached
}

// TestWhoMay sends each kind of request as who has each single permission, and as who has each built-in
// role, for the whole registry: what is answered is in testdata/who-may.golden, and is what Needs
// says. It is answered to nobody else: not to the anonymous, whatever they were given.
func TestWhoMay(t *testing.T) {
	w := newWorld(t)
	w.must(w.owner, http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "anonymous", Role: "AcrPull", Scope: "*"}, nil)
	nothing := w.principal("nothing", access.KindService, nil)
	single, roles := map[access.Permission]login{}, map[string]login{}
	for i, p := range access.Permissions {
		single[p] = w.having(fmt.Sprintf("p%d", i), "/", p)
	}
	for i, r := range access.BuiltIn {
		roles[r.Name] = w.principal(fmt.Sprintf("r%d", i), access.KindService, &api.NewAssignment{Role: r.Name})
	}
	var b strings.Builder
	for i, rt := range routes {
		need := Needs()[i]
		for _, who := range []login{{}, {"nobody", "pratique_0"}, {nothing.name, nothing.secret + "x"}} {
			if status, reached := w.reach(rt, who); status != http.StatusUnauthorized || reached {
				t.Errorf("%s of %q: %d", rt.pattern, who.name, status)
			}
		}
		everyone := rt.also == anyone || rt.also == listing
		if status, reached := w.reach(rt, nothing); reached != everyone || !reached && status != http.StatusForbidden {
			t.Errorf("%s without a role: %d", rt.pattern, status)
		}
		fmt.Fprintf(&b, "%s\n", rt.pattern)
		if everyone {
			fmt.Fprintf(&b, "  %s\n", need.Else)
		} else if need.Else != "" {
			fmt.Fprintf(&b, "  and %s\n", need.Else)
		}
		for _, p := range access.Permissions {
			status, reached := w.reach(rt, single[p])
			if want := everyone || slices.Contains(need.AnyOf, p); reached != want || !reached && status != http.StatusForbidden {
				t.Errorf("%s with %s alone: %d", rt.pattern, p, status)
			}
			if reached && !everyone {
				fmt.Fprintf(&b, "  permission %s\n", p)
			}
		}
		for _, r := range access.BuiltIn {
			_, reached := w.reach(rt, roles[r.Name])
			if reached != (everyone || need.MetBy(r)) {
				t.Errorf("%s with %s: %v", rt.pattern, r.Name, reached)
			}
			if reached && !everyone {
				fmt.Fprintf(&b, "  role %s\n", r.Name)
			}
		}
	}
	golden(t, "who-may.golden", b.String())
}

// golden compares with a file of testdata; with -update it is written anew.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not what the program does; run with -update and look at what changes:\n%s", path, diff)
	}
}

// TestUnguarded: a kind of request without a permission is nobody's.
func TestUnguarded(t *testing.T) {
	w := newWorld(t)
	if status, reached := w.reach(route{pattern: "GET /api/v1/new"}, w.owner); status != http.StatusForbidden || reached {
		t.Errorf("a kind of request without a permission is answered %d", status)
	}
	for _, rt := range routes {
		if rt.permission == "" && rt.also != anyone || rt.permission != "" && !slices.Contains(access.Permissions, rt.permission) {
			t.Errorf("%s needs %q, which is no permission", rt.pattern, rt.permission)
		}
		if rt.permission != "" && rt.permission.OfRegistry() == (rt.scope != nil) {
			t.Errorf("%s needs %s, asked for another part of the registry than it is given for", rt.pattern, rt.permission)
		}
	}
}

// TestPagesOfOthers: what a browser sends for the page of another site changes nothing, whatever it
// knows to log in by.
func TestPagesOfOthers(t *testing.T) {
	w := newWorld(t)
	for site, want := range map[string]int{"cross-site": http.StatusForbidden, "same-site": http.StatusForbidden, "same-origin": http.StatusOK, "": http.StatusOK} {
		r := httptest.NewRequest(http.MethodPost, api.PathPrincipalEnable+"?principal=admin", nil)
		r.SetBasicAuth(w.owner.name, w.owner.secret)
		if site != "" {
			r.Header.Set("Sec-Fetch-Site", site)
		}
		rec := httptest.NewRecorder()
		w.s.ServeHTTP(rec, r)
		if rec.Code != want {
			t.Errorf("from %q: %d %s", site, rec.Code, rec.Body)
		}
	}
}

// TestFaultsOfTheHouse: what could not be told is no refusal, and not told.
func TestFaultsOfTheHouse(t *testing.T) {
	w := newWorld(t)
	if err := w.cat.Close(); err != nil {
		t.Fatal(err)
	}
	w.refused(w.owner, http.StatusInternalServerError, "internal error", http.MethodGet, api.PathWhoami, nil)
}

// TestUnseen: a repository that one may not see is answered for like one that is not there.
func TestUnseen(t *testing.T) {
	w := newWorld(t)
	w.push("hidden/app", "team/app")
	who := w.having("team", "team/*", access.Permissions...)
	for _, rt := range routes {
		if rt.scope == nil {
			continue
		}
		method, path, _ := strings.Cut(rt.pattern, " ")
		var answers []string
		for _, repo := range []string{"hidden/app", "hidden/nil"} {
			res := w.send(who, method, path+"?repository="+repo+"&tag=1&reference=1&lock=write&digest="+oci.DigestOf(oci.SHA256, []byte("x")).String(), nil)
			answers = append(answers, strings.ReplaceAll(fmt.Sprint(res.StatusCode, readAll(t, res)), repo, "REPO"))
		}
		if answers[0] != answers[1] || !strings.HasPrefix(answers[0], "403") {
			t.Errorf("%s: one that is there: %s, one that is not: %s", rt.pattern, answers[0], answers[1])
		}
	}
}

// TestScope: a report is asked of one repository, and only its grants count.
func TestScope(t *testing.T) {
	for _, tc := range []struct{ query, want string }{
		{"repository=team/app", "team/app"},
		{"repository=", ""},
		{"", ""},
		{"repository=../x", ""},
	} {
		r := httptest.NewRequest(http.MethodGet, "/?"+tc.query, nil)
		got, err := queryRepository(r.URL.Query())
		if (err == nil) != (tc.want != "") || got.String() != tc.want {
			t.Errorf("%q: got %q, %v; want %q", tc.query, got, err, tc.want)
		}
	}
	if _, err := oci.ParseRepository(""); err == nil {
		t.Error("the empty name is a repository, and would stand for the registry as a whole")
	}
}

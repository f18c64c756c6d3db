package apiserver

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/oci"
)

var (
	errNobody = errors.New("proves nobody")
	errFault  = errors.New("it could not be told, by fault of the house")
)

// asker is an Identity by which every request is somebody's who was granted one role, or fails.
type asker struct {
	role access.Role
	err  error
}

func (a asker) Authenticate(*http.Request) (access.Principal, Allower, error) {
	if a.err != nil {
		return access.Principal{}, nil, a.err
	}
	return access.Principal{ID: "1", Kind: access.KindUser, Name: "someone"}, access.NewGrants(access.Assignment{Role: a.role}), nil
}

func (a asker) Unproven(err error) bool        { return errors.Is(err, errNobody) }
func (a asker) Challenge(*http.Request) string { return `Basic realm="test"` }

// ask sends a request of a route's kind and returns its status, its answer and whether the
// handler was reached.
func ask(t *testing.T, rt route, who asker) (status int, body string, reached bool) {
	t.Helper()
	s := New(Options{Identity: who, Log: slog.New(slog.DiscardHandler)})
	rt.handle = func(_ *Server, w http.ResponseWriter, _ *http.Request, _ caller) error {
		reached = true
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	method, path, _ := strings.Cut(rt.pattern, " ")
	w := httptest.NewRecorder()
	s.guard(rt).ServeHTTP(w, httptest.NewRequest(method, path+"?repository=team/app&reference=1", nil))
	res := w.Result()
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode == http.StatusUnauthorized && res.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("%s: a 401 without a challenge", rt.pattern)
	}
	return res.StatusCode, string(b), reached
}

// TestGuard walks all kinds of requests: each is answered to whoever was granted its one
// permission, and to nobody else.
func TestGuard(t *testing.T) {
	for _, rt := range routes {
		var others []access.Permission
		for _, p := range access.Permissions {
			if p != rt.permission {
				others = append(others, p)
			}
		}
		if len(others) != len(access.Permissions)-1 {
			t.Errorf("%s needs %q, which is no permission", rt.pattern, rt.permission)
		}
		for _, tc := range []struct {
			name string
			who  asker
			want int
		}{
			{"nobody", asker{err: errNobody}, http.StatusUnauthorized},
			{"a fault of the house", asker{err: errFault}, http.StatusInternalServerError},
			{"without any role", asker{}, http.StatusForbidden},
			{"with every other permission", asker{role: access.Role{Permissions: others}}, http.StatusForbidden},
			{"with the permission", asker{role: access.Role{Permissions: []access.Permission{rt.permission}}}, http.StatusNoContent},
		} {
			status, body, reached := ask(t, rt, tc.who)
			if status != tc.want || reached != (tc.want == http.StatusNoContent) {
				t.Errorf("%s, %s: %d (handled: %v), want %d", rt.pattern, tc.name, status, reached, tc.want)
			}
			if strings.Contains(body, errFault.Error()) {
				t.Errorf("%s, %s: the client hears %s", rt.pattern, tc.name, body)
			}
		}
	}
	unguarded := route{pattern: "GET /api/v1/new", handle: routes[0].handle}
	everything := asker{role: access.Role{Permissions: access.Permissions}}
	if status, _, reached := ask(t, unguarded, everything); status != http.StatusForbidden || reached {
		t.Errorf("a kind of request without a permission is answered %d", status)
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
	if routes[0].permission != access.RepositoryList || routes[0].scope == nil {
		t.Error("a report is not asked of one repository")
	}
	if _, err := oci.ParseRepository(""); err == nil {
		t.Error("the empty name is a repository, and would stand for the registry as a whole")
	}
}

package access_test

import (
	"errors"
	"testing"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/oci"
)

func scope(t *testing.T, s string) access.Scope {
	t.Helper()
	out, err := access.ParseScope(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestScopeContains(t *testing.T) {
	for _, tc := range []struct {
		outer, inner string
		want         bool
	}{
		{"team/app", "/", false},
		{"team/app", "team/*", false},
		{"team/*", "*", false},
		{"team/*", "team*", false},
		{"team/a*", "team/*", false},
		{"*/app", "team/*", false},
		{"team/*/app", "team/*/ap*", false},
		{"team/*/app", "team/*", false},
		{"/", "/", true},
		{"/", "team/*", true},
		{"*", "team/*", true},
		{"*", "*", true},
		{"team/*", "team/app", true},
		{"team/*", "team/*", true},
		{"team/*", "team/a/*", true},
		{"team/*", "team/*/b", true},
		{"*/app", "team/*/app", true},
		{"team/*/app", "team/a*/app", true},
	} {
		if got := scope(t, tc.outer).Contains(scope(t, tc.inner)); got != tc.want {
			t.Errorf("%s contains %s: %v", tc.outer, tc.inner, got)
		}
	}
}

// FuzzScopeContains: what a contained scope covers, the one around it does.
func FuzzScopeContains(f *testing.F) {
	f.Add("team/*", "team/a*", "x")
	f.Add("a*b*c", "ab*bc", "b/c")
	f.Fuzz(func(t *testing.T, outer, inner, text string) {
		o, err1 := access.ParseScope(outer)
		i, err2 := access.ParseScope(inner)
		if err1 != nil || err2 != nil || !o.Contains(i) {
			return
		}
		for _, name := range []string{text, i.Pattern} {
			repo, err := oci.ParseRepository(name)
			if err == nil && i.Covers(repo) && !o.Covers(repo) {
				t.Errorf("%q is said to contain %q, but not %q", outer, inner, name)
			}
		}
	})
}

// conditional is some condition.
type conditional struct{}

func (conditional) Holds(access.Permission, oci.Repository, access.Request) (bool, bool, error) {
	return true, false, nil
}
func (conditional) String() string { return "true" }

func role(t *testing.T, name string) access.Role {
	t.Helper()
	r, ok := access.BuiltInRole(name)
	if !ok {
		t.Fatalf("no role %s", name)
	}
	return r
}

// TestMayGive: nobody gives what they do not have, as widely, and without a condition.
func TestMayGive(t *testing.T) {
	give := func(name, where string) access.Assignment {
		return access.Assignment{Role: role(t, name), Scope: scope(t, where)}
	}
	under := func(a access.Assignment) access.Assignment { a.Condition = conditional{}; return a }
	for _, tc := range []struct {
		name  string
		has   []access.Assignment
		gives access.Assignment
		want  bool
	}{
		{"nothing", nil, give("AcrPull", "a"), false},
		{"more", []access.Assignment{give("AcrPull", "/")}, give("AcrPush", "a"), false},
		{"wider", []access.Assignment{give("AcrPush", "team/*")}, give("AcrPush", "*"), false},
		{"the registry", []access.Assignment{give("AcrPush", "*")}, give("AcrPush", "/"), false},
		{"under a condition", []access.Assignment{under(give("AcrPush", "/"))}, give("AcrPush", "a"), false},
		{"under the same condition", []access.Assignment{under(give("AcrPush", "/"))}, under(give("AcrPush", "a")), false},
		{"owner under a condition", []access.Assignment{under(give("Owner", "/"))}, give("AcrPull", "a"), false},
		{"owner of a part", []access.Assignment{give("Owner", "team/*")}, give("Owner", "/"), false},
		{"quarantine of a part's owner", []access.Assignment{give("Owner", "team/*")}, give("AcrQuarantineReader", "team/a"), false},
		{"the same", []access.Assignment{give("AcrPush", "team/*")}, give("AcrPush", "team/*"), true},
		{"less", []access.Assignment{give("AcrPush", "team/*")}, under(give("AcrPull", "team/a")), true},
		{"of two", []access.Assignment{give("AcrPush", "team/*"), give("AcrDelete", "/")},
			access.Assignment{Role: access.Role{Permissions: []access.Permission{access.RepositoryPush, access.RepositoryDelete}}, Scope: scope(t, "team/a")}, true},
		{"the registry's within a part", []access.Assignment{give("AcrPull", "team/*")}, give("Reader", "team/*"), true},
		{"the registry's", []access.Assignment{give("AcrPull", "/")}, give("Reader", "/"), false},
		{"owner", []access.Assignment{give("Owner", "/")}, give("AcrQuarantineReader", "/"), true},
	} {
		err := access.NewGrants(tc.has...).MayGive(tc.gives)
		var lack *access.Lack
		if (err == nil) != tc.want || err != nil && !errors.As(err, &lack) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	fake := access.Role{Name: "Owner", Permissions: []access.Permission{access.RepositoryPull}}
	if g := access.NewGrants(access.Assignment{Role: fake}); g.Owner() || g.OwnerAtTimes() {
		t.Error("a role made here that is called Owner is taken for it")
	}
}

func TestCheckAnonymous(t *testing.T) {
	for _, tc := range []struct {
		role, scope string
		want        bool
	}{
		{"AcrPush", "public/*", false},
		{"Owner", "public/*", false},
		{"AcrQuarantineReader", "public/*", false},
		{"Reader", "public/*", false},
		{"AcrPull", "/", false},
		{"AcrPull", "*", true},
		{"Container Registry Repository Reader", "public/*", true},
	} {
		if err := access.CheckAnonymous(role(t, tc.role), scope(t, tc.scope)); (err == nil) != tc.want {
			t.Errorf("%s on %s: %v", tc.role, tc.scope, err)
		}
	}
}

package access

import (
	"slices"
	"testing"

	"pratique.dev/pratique/internal/oci"
)

func repository(t *testing.T, s string) oci.Repository {
	t.Helper()
	if s == "" {
		return oci.Repository{}
	}
	r, err := oci.ParseRepository(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCovers(t *testing.T) {
	for _, tc := range []struct {
		pattern, repo string // "" is the registry as a whole
		want          bool
	}{
		{"", "", true},
		{"", "team/app", true},
		{"team/app", "", false},
		{"team/*", "", false},
		{"*", "", false},
		{"team/app", "team/app", true},
		{"team/app", "team/app2", false},
		{"team/app", "team", false},
		{"team/app", "team/app/part", false},
		{"team/*", "team/app", true},
		{"team/*", "team/app/part", true},
		{"team/*", "team", false},
		{"team/*", "team2/app", false},
		{"team*", "team2/app", true},
		{"*/app", "team/sub/app", true},
		{"*/app", "team/application", false},
		{"team/[*", "team/app", false}, // a pattern that is none covers nothing
	} {
		if got := (Scope{tc.pattern}).Covers(repository(t, tc.repo)); got != tc.want {
			t.Errorf("scope %q covers %q: %v, want %v", tc.pattern, tc.repo, got, tc.want)
		}
	}
}

// TestAllows: nothing is allowed but what a role within a scope grants.
func TestAllows(t *testing.T) {
	reader := Role{Name: "Reader", Permissions: []Permission{RepositoryPull, RepositoryList}}
	writer := Role{Name: "Writer", Permissions: []Permission{RepositoryPush}}
	grants := NewGrants(Assignment{Principal: "p", Role: reader, Scope: Scope{"team/*"}},
		Assignment{Principal: "p", Role: writer, Scope: Scope{"team/app"}})
	for _, tc := range []struct {
		name   string
		grants Grants
		p      Permission
		repo   string
		want   bool
	}{
		{"zero grants", Grants{}, RepositoryPull, "team/app", false},
		{"no assignments", NewGrants(), RepositoryPull, "team/app", false},
		{"the empty permission", NewGrants(Assignment{Role: Role{Permissions: []Permission{""}}}), "", "team/app", false},
		{"granted within the scope", grants, RepositoryPull, "team/other", true},
		{"outside of the scope", grants, RepositoryPull, "elsewhere/app", false},
		{"by the other assignment", grants, RepositoryPush, "team/app", true},
		{"one's role in the other's scope", grants, RepositoryPush, "team/other", false},
		{"not in any role", grants, RepositoryDelete, "team/app", false},
		{"the registry as a whole", grants, RepositoryPull, "", false},
	} {
		if got := tc.grants.Allows(tc.p, repository(t, tc.repo)); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// TestOwner: everything but what the gate holds back.
func TestOwner(t *testing.T) {
	grants := NewGrants(Assignment{Role: Owner})
	for _, p := range Permissions {
		for _, repo := range []string{"", "team/app"} {
			if got, want := grants.Allows(p, repository(t, repo)), p != QuarantinePull; got != want {
				t.Errorf("%s on %q: %v, want %v", p, repo, got, want)
			}
		}
	}
	if !slices.Contains(Permissions, QuarantinePull) {
		t.Error("the list of permissions has lost one to its role")
	}
}

package apiserver

import (
	"net/http"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/api"
)

// manager is what someone has who manages principals and roles, and may pull and push in team/*.
var manager = []access.Permission{access.PrincipalsRead, access.PrincipalsManage, access.RolesManage}

// newManagedWorld is a world with such a manager.
func newManagedWorld(t *testing.T) (*world, login) {
	w := newWorld(t)
	mallory := w.having("mallory", "/", manager...)
	w.must(w.owner, http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "mallory", Role: "AcrPush", Scope: "team/*"}, nil)
	return w, mallory
}

// TestNobodyGivesMoreThanTheyHave tries each way of giving.
func TestNobodyGivesMoreThanTheyHave(t *testing.T) {
	w, mallory := newManagedWorld(t)
	w.principal("pal", access.KindService, nil)
	w.principal("strong", access.KindService, &api.NewAssignment{Role: "AcrDelete", Scope: "team/*"})
	w.principal("gone", access.KindService, &api.NewAssignment{Role: "AcrDelete", Scope: "team/*"})
	w.must(w.owner, http.MethodPost, api.PathPrincipalDisable+"?principal=gone", nil, nil)
	w.principal("deleters", access.KindGroup, &api.NewAssignment{Role: "AcrDelete", Scope: "team/*"})
	w.principal("off", access.KindGroup, &api.NewAssignment{Role: "AcrDelete", Scope: "team/*"})
	w.must(w.owner, http.MethodPost, api.PathPrincipalDisable+"?principal=off", nil, nil)
	w.principal("member", access.KindService, nil)
	w.must(w.owner, http.MethodPost, api.PathMembers+"?group=deleters&member=member", nil, nil)
	w.must(w.owner, http.MethodPut, api.PathRoles, api.NewRole{Name: "used", Permissions: []string{"repository.pull"}}, nil)
	w.must(w.owner, http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "mallory", Role: "used", Scope: "team/*"}, nil)
	w.must(w.owner, http.MethodPut, api.PathRoles, api.NewRole{Name: "harmless", Permissions: []string{"repository.pull"}}, nil)
	w.must(w.owner, http.MethodPut, api.PathScopeMaps, api.NewScopeMap{Name: "deletes", Actions: []string{"team/app:content/delete"}}, nil)
	w.must(w.owner, http.MethodPut, api.PathScopeMaps, api.NewScopeMap{Name: "pulls", Actions: []string{"team/app:content/read"}}, nil)
	var tok api.PrincipalMade
	w.must(w.owner, http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "tok", Kind: access.KindToken, ScopeMap: "pulls"}, &tok)
	for _, tc := range []struct {
		name, method, target string
		body                 any
		words                string
	}{
		{"a role with more", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "pal", Role: "AcrDelete", Scope: "team/app"}, "repository.delete on team/app"},
		{"a role with more to oneself", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "mallory", Role: "AcrDelete", Scope: "team/app"}, "repository.delete"},
		{"a wider scope", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "pal", Role: "AcrPull", Scope: "*"}, "repository.pull on *"},
		{"the registry", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "mallory", Role: "AcrPull"}, "repository.pull on /"},
		{"what the registry's readers have", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "mallory", Role: "Auditor"}, "cannot give"},
		{"Owner", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "mallory", Role: "Owner"}, "cannot give"},
		{"Owner by its former name", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "mallory", Role: "Administrator"}, "cannot give"},
		{"more, under a condition that never holds", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "mallory", Role: "Owner", Condition: "false"}, "cannot give"},
		{"more to everybody", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "anonymous", Role: "AcrPull", Scope: "*"}, "cannot give"},
		{"a role that others have, with more", http.MethodPut, api.PathRoles, api.NewRole{Name: "used", Permissions: []string{"repository.delete"}, Replace: true}, "cannot give"},
		{"a role that nobody has yet, with more", http.MethodPut, api.PathRoles, api.NewRole{Name: "harmless", Permissions: []string{"repository.push"}, Replace: true}, "repository.pull on /"},
		{"a new role of what one has nowhere", http.MethodPut, api.PathRoles, api.NewRole{Name: "new", Permissions: []string{"repository.pull", "audit.read"}}, "audit.read nowhere"},
		{"the end of a role", http.MethodDelete, api.PathRoles + "?role=harmless", nil, "repository.pull on /"},
		{"one's own role, with more", http.MethodPut, api.PathRoles, api.NewRole{Name: "role-of-mallory", Permissions: []string{"registry.configure"}, Replace: true}, "registry.configure on /"},
		{"a scope map with more", http.MethodPut, api.PathScopeMaps, api.NewScopeMap{Name: "mine", Actions: []string{"team/app:content/delete"}}, "repository.delete on team/app"},
		{"a scope map elsewhere", http.MethodPut, api.PathScopeMaps, api.NewScopeMap{Name: "mine", Actions: []string{"other:content/read"}}, "repository.pull on other"},
		{"a scope map that was more", http.MethodPut, api.PathScopeMaps, api.NewScopeMap{Name: "deletes", Actions: []string{"team/app:content/read"}, Replace: true}, "repository.delete"},
		{"a token of a scope map with more", http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "new", Kind: access.KindToken, ScopeMap: "deletes"}, "repository.delete"},
		{"a scope map with more to a token", http.MethodPost, api.PathPrincipalMap + "?principal=tok&scopeMap=deletes", nil, "repository.delete"},
		{"a new principal with more", http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "new", Kind: access.KindService, Assign: &api.NewAssignment{Role: "Owner"}}, "cannot give"},
		{"the membership of a group with more", http.MethodPost, api.PathMembers + "?group=deleters&member=mallory", nil, "repository.delete"},
		{"the membership of a disabled group", http.MethodPost, api.PathMembers + "?group=off&member=mallory", nil, "repository.delete"},
		{"an end of membership", http.MethodDelete, api.PathMembers + "?group=deleters&member=member", nil, "repository.delete"},
		{"a secret of who has more", http.MethodPost, api.PathSecrets + "?principal=strong", api.NewSecret{}, "strong has repository.delete"},
		{"a secret of who has more by a group", http.MethodPost, api.PathSecrets + "?principal=member", api.NewSecret{}, "member has repository.delete"},
		{"a key of who has more", http.MethodPost, api.PathSecrets + "?principal=strong", api.NewSecret{Key: []byte(`{"kty":"OKP"}`)}, "strong has repository.delete"},
		{"a secret of who is disabled", http.MethodPost, api.PathSecrets + "?principal=gone", api.NewSecret{}, "gone has repository.delete"},
		{"a secret of an owner", http.MethodPost, api.PathSecrets + "?principal=admin", api.NewSecret{}, "admin is an Owner"},
		{"an owner's end", http.MethodDelete, api.PathPrincipals + "?principal=admin", nil, "admin is an Owner"},
		{"an owner's disabling", http.MethodPost, api.PathPrincipalDisable + "?principal=admin", nil, "admin is an Owner"},
		{"the end of an owner's role", http.MethodDelete, api.PathAssignments + "?principal=admin&role=Owner&scope=/", nil, "cannot give"},
		{"a role of an owner", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "admin", Role: "AcrPull", Scope: "team/*"}, "admin is an Owner"},
		{"the enabling of who has more", http.MethodPost, api.PathPrincipalEnable + "?principal=gone", nil, "gone has repository.delete"},
		{"the enabling of a group with more", http.MethodPost, api.PathPrincipalEnable + "?principal=off", nil, "off has repository.delete"},
		{"the end of a role that one does not have", http.MethodDelete, api.PathAssignments + "?principal=strong&role=AcrDelete&scope=team/*", nil, "repository.delete"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.t = t
			before := w.standing()
			w.refused(mallory, http.StatusForbidden, tc.words, tc.method, tc.target, tc.body)
			if after := w.standing(); after != before {
				t.Errorf("refused, and done:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

// standing is all that principals, roles and scope maps have, as the owner is shown it.
func (w *world) standing() string {
	var b strings.Builder
	for _, path := range []string{api.PathPrincipals, api.PathAssignments, api.PathRoles, api.PathScopeMaps, api.PathMembers + "?group=deleters",
		api.PathSecrets + "?principal=strong", api.PathSecrets + "?principal=member", api.PathSecrets + "?principal=gone", api.PathSecrets + "?principal=admin"} {
		b.WriteString(readAll(w.t, w.send(w.owner, http.MethodGet, path, nil)))
	}
	return b.String()
}

// TestWhatOneHasCanBeGiven: the same ways are open for what the manager has.
func TestWhatOneHasCanBeGiven(t *testing.T) {
	w, mallory := newManagedWorld(t)
	var made api.PrincipalMade
	w.must(mallory, http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "new", Kind: access.KindService, Assign: &api.NewAssignment{Role: "AcrPush", Scope: "team/app"}}, &made)
	w.must(mallory, http.MethodPost, api.PathSecrets+"?principal=new", api.NewSecret{Rotate: true}, nil)
	w.must(mallory, http.MethodPut, api.PathRoles, api.NewRole{Name: "puller", Permissions: []string{"content/read"}}, nil)
	w.must(mallory, http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "new", Role: "puller", Scope: "team/*"}, nil)
	w.must(mallory, http.MethodPut, api.PathRoles, api.NewRole{Name: "managers", Permissions: []string{"principals.read", "roles.manage"}}, nil)
	w.must(mallory, http.MethodPut, api.PathRoles, api.NewRole{Name: "managers", Permissions: []string{"principals.read"}, Replace: true}, nil)
	w.must(mallory, http.MethodDelete, api.PathRoles+"?role=managers", nil, nil)
	w.must(mallory, http.MethodPut, api.PathScopeMaps, api.NewScopeMap{Name: "map", Actions: []string{"team/app:content/read"}}, nil)
	w.must(mallory, http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "tok", Kind: access.KindToken, ScopeMap: "map"}, nil)
	w.must(mallory, http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "group", Kind: access.KindGroup}, nil)
	w.must(mallory, http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "group", Role: "AcrPull", Scope: "team/a*"}, nil)
	w.must(mallory, http.MethodPost, api.PathMembers+"?group=group&member=new", nil, nil)
	w.must(mallory, http.MethodDelete, api.PathMembers+"?group=group&member=new", nil, nil)
	w.must(mallory, http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "anonymous", Role: "AcrPull", Scope: "team/public"}, nil)
	w.must(mallory, http.MethodDelete, api.PathAssignments+"?principal=new&role=AcrPush&scope=team/app", nil, nil)
	w.must(mallory, http.MethodPost, api.PathPrincipalDisable+"?principal=new", nil, nil)
	w.must(mallory, http.MethodDelete, api.PathPrincipals+"?principal=new", nil, nil)
}

// TestConditionsAreNotShedByGiving: who has something under a condition cannot give it, neither without
// nor with one, and is no owner for that.
func TestConditionsAreNotShedByGiving(t *testing.T) {
	w := newWorld(t)
	who := w.principal("night", access.KindService, &api.NewAssignment{Role: "Owner", Condition: `permission != "audit.read"`})
	w.principal("pal", access.KindService, nil)
	for _, condition := range []string{"", `permission != "audit.read"`} {
		w.refused(who, http.StatusForbidden, "without a condition", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "pal", Role: "AcrPull", Condition: condition})
	}
	w.refused(who, http.StatusForbidden, "admin is an Owner", http.MethodPost, api.PathSecrets+"?principal=admin", api.NewSecret{})
	mallory := w.having("mallory", "/", manager...)
	w.refused(mallory, http.StatusForbidden, "night is an Owner", http.MethodPost, api.PathSecrets+"?principal=night", api.NewSecret{})
}

// TestOwnersAreOwnersByTheirRole: whoever has all that an Owner has by another role can neither be
// taken for one nor change one, but everybody else.
func TestOwnersAreOwnersByTheirRole(t *testing.T) {
	w := newWorld(t)
	like := w.having("like", "/", access.Owner.Permissions...)
	w.principal("pal", access.KindService, nil)
	w.refused(like, http.StatusForbidden, "only an Owner of the registry says", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "pal", Role: "Owner"})
	w.refused(like, http.StatusForbidden, "admin is an Owner", http.MethodPost, api.PathSecrets+"?principal=admin", api.NewSecret{})
	w.refused(like, http.StatusForbidden, "only an Owner of the registry says", http.MethodDelete, api.PathAssignments+"?principal=admin&role=Owner", nil)
	w.refused(like, http.StatusForbidden, "quarantine.pull", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "pal", Role: "AcrQuarantineReader"})
	w.principal("owners", access.KindGroup, &api.NewAssignment{Role: "Owner"})
	w.refused(like, http.StatusForbidden, "owners is an Owner", http.MethodPost, api.PathMembers+"?group=owners&member=like", nil)
	w.must(w.owner, http.MethodPost, api.PathMembers+"?group=owners&member=like", nil, nil)
	w.must(like, http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "pal", Role: "AcrQuarantineReader"}, nil)
	w.must(like, http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "pal", Role: "Contributor", Scope: "team/*"}, nil)
}

// TestManagingPrincipalsGivesNoRoles: each of the two permissions is for its own.
func TestManagingPrincipalsGivesNoRoles(t *testing.T) {
	w := newWorld(t)
	principals := w.having("principals", "/", access.PrincipalsManage, access.RepositoryPull, access.RepositoryList)
	roles := w.having("roles", "/", access.RolesManage, access.RepositoryPull, access.RepositoryList)
	give := api.NewAssignment{Principal: "principals", Role: "AcrPull", Scope: "x"}
	w.refused(principals, http.StatusForbidden, "roles.manage", http.MethodPost, api.PathAssignments, give)
	w.refused(principals, http.StatusForbidden, "roles.manage", http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "new", Kind: access.KindService, Assign: &give})
	w.refused(roles, http.StatusForbidden, "principals.manage", http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "new", Kind: access.KindService})
	w.refused(roles, http.StatusForbidden, "principals.manage", http.MethodPost, api.PathSecrets+"?principal=principals", api.NewSecret{})
	w.must(roles, http.MethodPost, api.PathAssignments, give, nil)
}

// TestLastOwner: the last one stays, however it is tried.
func TestLastOwner(t *testing.T) {
	w := newWorld(t)
	under := api.NewAssignment{Principal: "admin", Role: "Owner", Condition: "true"}
	for _, tc := range []struct {
		method, target string
		body           any
	}{
		{http.MethodDelete, api.PathPrincipals + "?principal=admin", nil},
		{http.MethodPost, api.PathPrincipalDisable + "?principal=admin", nil},
		{http.MethodDelete, api.PathAssignments + "?principal=admin&role=Owner", nil},
		{http.MethodDelete, api.PathAssignments + "?principal=admin&role=Administrator&scope=/", nil},
		{http.MethodPost, api.PathAssignments, under},
	} {
		w.refused(w.owner, http.StatusConflict, "last Owner of the registry", tc.method, tc.target, tc.body)
	}
	second := w.principal("second", access.KindUser, &api.NewAssignment{Role: "Owner"})
	w.must(second, http.MethodPost, api.PathPrincipalDisable+"?principal=admin", nil, nil)
	w.refused(second, http.StatusConflict, "last Owner", http.MethodDelete, api.PathPrincipals+"?principal=second", nil)
	w.refused(w.owner, http.StatusUnauthorized, "wrong", http.MethodGet, api.PathWhoami, nil)
}

// TestOthersAreToldWhatIsWrong: with what is asked for, in words that name the next step.
func TestOthersAreToldWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	w.principal("ci", access.KindService, nil)
	w.principal("group", access.KindGroup, nil)
	w.must(w.owner, http.MethodPut, api.PathScopeMaps, api.NewScopeMap{Name: "map", Actions: []string{"a:content/read"}}, nil)
	w.must(w.owner, http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "tok", Kind: access.KindToken, ScopeMap: "map"}, nil)
	w.must(w.owner, http.MethodPut, api.PathRoles, api.NewRole{Name: "mine", Permissions: []string{"content/read"}}, nil)
	w.must(w.owner, http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "ci", Role: "mine"}, nil)
	long := strings.Repeat("x", 600)
	for _, tc := range []struct {
		status                int
		words, method, target string
		body                  any
	}{
		{404, "no principal", http.MethodGet, api.PathPrincipal + "?principal=none", nil},
		{404, "no principal", http.MethodDelete, api.PathPrincipals + "?principal=none", nil},
		{400, "expected a name", http.MethodDelete, api.PathPrincipals, nil},
		{400, "kind", http.MethodGet, api.PathPrincipals + "?kind=robot", nil},
		{400, "kind", http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "x", Kind: "anonymous"}},
		{400, "name", http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "a:b", Kind: "user"}},
		{400, "name", http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "a\nb", Kind: "user"}},
		{400, "refresh tokens", http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "00000000-0000-0000-0000-000000000000", Kind: "user"}},
		{400, "scope map", http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "x", Kind: "token"}},
		{400, "scope map", http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "x", Kind: "user", ScopeMap: "map"}},
		{404, "no scope map", http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "x", Kind: "token", ScopeMap: "none"}},
		{409, "there is a principal", http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "ci", Kind: "user"}},
		{409, "there is a principal", http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "anonymous", Kind: "user"}},
		{400, "description", http.MethodPost, api.PathPrincipals, api.NewPrincipal{Name: "x", Kind: "user", Description: long}},
		{400, "unknown field", http.MethodPost, api.PathPrincipals, `{"name":"x","kind":"user","owner":true}`},
		{400, "more behind", http.MethodPost, api.PathPrincipals, `{"name":"x","kind":"user"}{}`},
		{400, "too large", http.MethodPost, api.PathPrincipals, `{"name":"` + strings.Repeat("x", maxBody) + `"}`},
		{403, "cannot be deleted", http.MethodDelete, api.PathPrincipals + "?principal=anonymous", nil},
		{404, "no role", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "ci", Role: "None"}},
		{400, "scope", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "ci", Role: "AcrPull", Scope: "../x"}},
		{400, "condition", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "ci", Role: "AcrPull", Condition: "1 +"}},
		{400, "scope map", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "tok", Role: "AcrPull"}},
		{403, "pull alone", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "anonymous", Role: "AcrPush", Scope: "x"}},
		{403, "Expected a scope", http.MethodPost, api.PathAssignments, api.NewAssignment{Principal: "anonymous", Role: "AcrPull"}},
		{404, "does not have", http.MethodDelete, api.PathAssignments + "?principal=ci&role=AcrPull", nil},
		{409, "built in", http.MethodPut, api.PathRoles, api.NewRole{Name: "AcrPull", Permissions: []string{"content/read"}, Replace: true}},
		{409, "built in", http.MethodPut, api.PathRoles, api.NewRole{Name: "Administrator", Permissions: []string{"content/read"}}},
		{409, "--replace", http.MethodPut, api.PathRoles, api.NewRole{Name: "mine", Permissions: []string{"content/read"}}},
		{400, "permission", http.MethodPut, api.PathRoles, api.NewRole{Name: "x", Permissions: []string{"everything"}}},
		{400, "no permissions", http.MethodPut, api.PathRoles, api.NewRole{Name: "x"}},
		{409, "assigned", http.MethodDelete, api.PathRoles + "?role=mine", nil},
		{409, "built in", http.MethodDelete, api.PathRoles + "?role=AcrPull", nil},
		{404, "no role", http.MethodDelete, api.PathRoles + "?role=none", nil},
		{409, "some token's", http.MethodDelete, api.PathScopeMaps + "?scopeMap=map", nil},
		{404, "no scope map", http.MethodDelete, api.PathScopeMaps + "?scopeMap=none", nil},
		{400, "cannot be given to a repository token", http.MethodPut, api.PathScopeMaps, api.NewScopeMap{Name: "x", Actions: []string{"a:roles.manage"}}},
		{409, "--replace", http.MethodPut, api.PathScopeMaps, api.NewScopeMap{Name: "map", Actions: []string{"a:content/read"}}},
		{400, "not a group", http.MethodPost, api.PathMembers + "?group=ci&member=ci", nil},
		{400, "in no group", http.MethodPost, api.PathMembers + "?group=group&member=tok", nil},
		{400, "in no group", http.MethodPost, api.PathMembers + "?group=group&member=anonymous", nil},
		{400, "in no group", http.MethodPost, api.PathMembers + "?group=group&member=group", nil},
		{404, "no member", http.MethodDelete, api.PathMembers + "?group=group&member=ci", nil},
		{400, "no secrets", http.MethodPost, api.PathSecrets + "?principal=group", api.NewSecret{}},
		{400, "no JSON Web Key", http.MethodPost, api.PathSecrets + "?principal=ci", api.NewSecret{Key: []byte(`{}`)}},
		{400, "time to come", http.MethodPost, api.PathSecrets + "?principal=ci", api.NewSecret{Expires: w.now.Add(-1)}},
		{400, "graceSeconds", http.MethodPost, api.PathSecrets + "?principal=ci", api.NewSecret{Rotate: true, GraceSeconds: -1}},
		{404, "no secret", http.MethodDelete, api.PathSecrets + "?principal=ci&id=x", nil},
		{404, "no secret", http.MethodPost, api.PathSecretExpire + "?principal=ci&id=x", nil},
		{400, "permission", http.MethodGet, api.PathAccessCheck + "?principal=ci&permission=fly", nil},
		{400, "address", http.MethodGet, api.PathAccessCheck + "?principal=ci&permission=content/read&address=home", nil},
		{400, "time as in", http.MethodGet, api.PathAccessCheck + "?principal=ci&permission=content/read&at=noon", nil},
	} {
		w.refused(w.owner, tc.status, tc.words, tc.method, tc.target, tc.body)
	}
}

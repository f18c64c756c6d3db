package access

import (
	"slices"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/oci"
)

// TestBuiltIn: what the roles with Azure's names have, written down once more, so that none
// changes unseen ("Azure Container Registry roles and permissions").
func TestBuiltIn(t *testing.T) {
	read := []Permission{RepositoryPull, RepositoryList}
	for name, want := range map[string][]Permission{
		"AcrPull":                                      read,
		"AcrPush":                                      append(read[:2:2], RepositoryPush),
		"AcrDelete":                                    {RepositoryDelete, RepositoryList},
		"AcrImageSigner":                               append(read[:2:2], RepositorySign),
		"AcrQuarantineReader":                          append(read[:2:2], QuarantinePull),
		"AcrQuarantineWriter":                          append(read[:2:2], QuarantinePull, QuarantineWrite),
		"Container Registry Repository Reader":         read,
		"Container Registry Repository Writer":         append(read[:2:2], RepositoryPush, RepositoryLock),
		"Container Registry Repository Contributor":    append(read[:2:2], RepositoryPush, RepositoryDelete, RepositoryLock),
		"Container Registry Repository Catalog Lister": {CatalogList},
		"Reader":      append(read[:2:2], CatalogList, AdvisoriesRead, PolicyRead),
		"Contributor": append(read[:2:2], RepositoryPush, RepositoryDelete, RepositoryLock, CatalogList, AdvisoriesRead, AdvisoriesWrite, PolicyRead, PolicyWrite, RegistryConfigure),
		"Auditor":     {RepositoryList, CatalogList, AdvisoriesRead, PolicyRead, PrincipalsRead, AuditRead},
		"Owner":       without(Permissions, QuarantinePull),
	} {
		r, ok := BuiltInRole(name)
		if !ok || !r.BuiltIn {
			t.Errorf("%s is no built-in role", name)
		}
		for _, p := range Permissions {
			if got, want := slices.Contains(r.Permissions, p), slices.Contains(want, p); got != want {
				t.Errorf("%s has %s: %v, want %v", name, p, got, want)
			}
		}
	}
	if len(BuiltIn) != 14 {
		t.Errorf("%d built-in roles; each needs its line above", len(BuiltIn))
	}
	if r, ok := BuiltInRole("Administrator"); !ok || r.Name != Owner.Name {
		t.Error("what the first release called the owner is not known any more")
	}
	if _, ok := BuiltInRole("owner"); ok {
		t.Error("names of roles are taken without regard to case")
	}
}

func TestParsePermission(t *testing.T) {
	for in, want := range map[string]Permission{"repository.pull": RepositoryPull, "content/read": RepositoryPull, "Content/Write": RepositoryPush,
		"metadata/read": RepositoryList, "metadata/write": RepositoryLock, "audit.read": AuditRead} {
		if got, err := ParsePermission(in); got != want || err != nil {
			t.Errorf("ParsePermission(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "*", "repository.*", "Repository.Pull", "content", "content/read/"} {
		if got, err := ParsePermission(in); got != "" || err == nil {
			t.Errorf("ParsePermission(%q) = %q, %v; want an error", in, got, err)
		}
	}
	if _, err := ParsePermissions(nil); err == nil {
		t.Error("a role without permissions is taken")
	}
}

func TestParseScope(t *testing.T) {
	for in, want := range map[string]string{"": "", "/": "", "team/app": "team/app", "team/*": "team/*", "*": "*", "*/app": "*/app", "team-*/x*y/*": "team-*/x*y/*"} {
		if got, err := ParseScope(in); got.Pattern != want || err != nil {
			t.Errorf("ParseScope(%q) = %q, %v; want %q", in, got.Pattern, err, want)
		}
	}
	for _, in := range []string{"Team/app", "team//app", "/team", "team/", "..", "team/../x", "team/[ab]", "team/a?", " ", strings.Repeat("a", 256), strings.Repeat("*/", 9) + "a", "team\x00"} {
		if got, err := ParseScope(in); err == nil {
			t.Errorf("ParseScope(%.20q) = %q; want an error", in, got)
		}
	}
}

// FuzzScope: a scope covers no name that its pattern has no place for.
func FuzzScope(f *testing.F) {
	f.Add("team/*", "team/app")
	f.Add("*a*b*", "xaybz")
	f.Add("**", "a")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		s, err := ParseScope(pattern)
		repo, err2 := oci.ParseRepository(name)
		if err != nil || err2 != nil {
			return
		}
		if got, want := s.Covers(repo), s.Pattern == "" || slow(s.Pattern, name); got != want {
			t.Fatalf("%q covers %q: %v, want %v", pattern, name, got, want)
		}
	})
}

// slow is what a pattern means, said in another way.
func slow(pattern, name string) bool {
	if pattern == "" {
		return name == ""
	}
	if pattern[0] != '*' {
		return name != "" && name[0] == pattern[0] && slow(pattern[1:], name[1:])
	}
	for i := range len(name) + 1 {
		if slow(pattern[1:], name[i:]) {
			return true
		}
	}
	return false
}

func TestParseScopeMap(t *testing.T) {
	m, err := ParseScopeMap("ci", "", []string{"repositories/team/app/content/read", "team/app:content/write, metadata/read", "public/*:repository.pull"})
	if err != nil {
		t.Fatal(err)
	}
	g := NewGrants(m.Assignments("t")...)
	for _, tc := range []struct {
		p    Permission
		repo string
		want bool
	}{
		{RepositoryPull, "team/app", true}, {RepositoryPush, "team/app", true}, {RepositoryList, "team/app", true}, {RepositoryDelete, "team/app", false},
		{RepositoryPull, "public/a/b", true}, {RepositoryPush, "public/a", false}, {RepositoryPull, "team/app2", false}, {CatalogList, "", false},
	} {
		if got := g.Allows(tc.p, repository(t, tc.repo)); got != tc.want {
			t.Errorf("%s on %q: %v, want %v", tc.p, tc.repo, got, tc.want)
		}
	}
	for _, action := range []string{"", "team/app", "team/app:", "team/app:fly", ":content/read", "/:content/read", "repositories/team/app", "repositories//content/read",
		"Team:content/read", "team/app:quarantine.pull", "team/app:catalog.list", "team/app:policy.write", "team/app:audit.read"} {
		if m, err := ParseScopeMap("ci", "", []string{action}); err == nil {
			t.Errorf("ParseScopeMap(%q) = %+v; want an error", action, m)
		}
	}
	for _, name := range []string{"", " ci", "a:b", "a\nb", strings.Repeat("a", 256), "-x"} {
		if _, err := ParseScopeMap(name, "", []string{"a:content/read"}); err == nil {
			t.Errorf("the name %.20q is taken", name)
		}
	}
	if _, err := ParseScopeMap("ci", "", nil); err == nil {
		t.Error("a scope map without actions is taken")
	}
}

// answers is a condition that says what it is told to.
type answers struct {
	holds, unknown bool
	err            error
}

func (a answers) Holds(Permission, oci.Repository, Request) (bool, bool, error) {
	return a.holds, a.unknown, a.err
}
func (a answers) String() string { return "a condition" }

// TestConditions: an assignment counts where its condition holds, and where that cannot be told does not.
func TestConditions(t *testing.T) {
	app := repository(t, "team/app")
	for _, tc := range []struct {
		name        string
		a           answers
		now, issued bool // allowed, and allowed to be in a token
	}{
		{"it could not be told", answers{err: strings.NewReader("").UnreadByte()}, false, false},
		{"it could not be told, and says that it holds", answers{holds: true, err: strings.NewReader("").UnreadByte()}, false, false},
		{"does not hold", answers{}, false, false},
		{"depends on what is not known", answers{unknown: true}, false, true},
		{"holds", answers{holds: true}, true, true},
	} {
		g := NewGrants(Assignment{Role: Owner, Scope: Scope{"team/*"}, Condition: tc.a})
		if got := g.For(Request{}).Allows(RepositoryPush, app); got != tc.now {
			t.Errorf("%s: allowed %v, want %v", tc.name, got, tc.now)
		}
		if got := g.For(Request{Later: true}).Allows(RepositoryPush, app); got != tc.issued {
			t.Errorf("%s: in a token %v, want %v", tc.name, got, tc.issued)
		}
		e := g.For(Request{}).Explain(RepositoryPush, app)
		if e.Allowed != tc.now || len(e.Reasons) != 1 || e.Reasons[0].Granted != tc.now || e.Reasons[0].Condition != "a condition" {
			t.Errorf("%s: %+v", tc.name, e)
		}
		if g.Allows(RepositoryPush, app) || g.For(Request{}).Allows(RepositoryPush, repository(t, "other")) || g.For(Request{}).Allows(QuarantinePull, app) {
			t.Errorf("%s: a condition gives more than its assignment", tc.name)
		}
	}
}

// TestExplain: each assignment says why it did or did not count.
func TestExplain(t *testing.T) {
	pull, _ := BuiltInRole("AcrPull")
	g := NewGrants(Assignment{Role: pull, Scope: Scope{"team/*"}}, Assignment{Role: pull, Scope: Scope{"other"}, Via: "group dev"},
		Assignment{Role: Role{Name: "gone"}}, Assignment{Role: Role{Name: "x", Permissions: []Permission{RepositoryPush}}})
	e := g.For(Request{}).Explain(RepositoryPull, repository(t, "team/app"))
	var why []string
	for _, r := range e.Reasons {
		why = append(why, r.Why)
	}
	want := []string{"the role has repository.pull and the scope covers it", "the scope does not cover team/app", "there is no such role any more", "the role does not have repository.pull"}
	if !e.Allowed || !slices.Equal(why, want) || e.Reasons[1].Via != "group dev" || e.Reasons[0].Scope != "team/*" {
		t.Errorf("%+v", e)
	}
	if e := g.For(Request{}).Explain(RepositoryPull, oci.Repository{}); e.Allowed || !strings.Contains(e.Reasons[0].Why, "registry as a whole") {
		t.Errorf("%+v", e)
	}
	if e := (Grants{}).For(Request{}).Explain(RepositoryPull, oci.Repository{}); e.Allowed || e.Reasons == nil {
		t.Errorf("nobody: %+v", e)
	}
}

// BenchmarkAllows is a decision out of as many assignments as one principal may have, the last of which counts.
func BenchmarkAllows(b *testing.B) {
	pull, _ := BuiltInRole("AcrPull")
	var assigned []Assignment
	for i := range 1000 {
		assigned = append(assigned, Assignment{Role: pull, Scope: Scope{"team" + strings.Repeat("x", i%10) + "/*"}})
	}
	assigned[999].Scope = Scope{"last/*"}
	g := NewGrants(assigned...)
	r, err := oci.ParseRepository("last/app")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !g.For(Request{}).Allows(RepositoryPull, r) {
			b.Fatal("not allowed")
		}
	}
}

package catalog_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
)

// TestEndedSecretsAreForgotten: but for the last of them.
func TestEndedSecretsAreForgotten(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		ok(t, c.CreatePrincipal(ctx, person("p1", "ann"), byAnn()))
		ok(t, c.AddSecret(ctx, catalog.Secret{ID: "stays", Principal: "p1"}, byAnn()))
		for i := range 30 {
			id := fmt.Sprintf("s%02d", i)
			ok(t, c.AddSecret(ctx, catalog.Secret{ID: id, Principal: "p1"}, byAnn()))
			ok(t, c.ExpireSecret(ctx, "p1", id, now.Add(time.Duration(i-60)*time.Minute), byAnn()))
		}
		var ids []string
		for _, s := range must(c.Secrets(ctx, "p1"))(t) {
			ids = append(ids, s.ID)
		}
		slices.Sort(ids)
		equal(t, len(ids), 22)
		equal(t, []string{ids[0], ids[20], ids[21]}, []string{"s09", "s29", "stays"})
	})
}

// TestWarnedOfWhatOneSets: whoever sets an end knows of it; what is nearer is warned of all the same.
func TestWarnedOfWhatOneSets(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		ok(t, c.CreatePrincipal(ctx, person("p1", "ann"), byAnn()))
		ok(t, c.AddSecret(ctx, catalog.Secret{ID: "s1", Principal: "p1"}, byAnn()))
		ok(t, c.ExpireSecret(ctx, "p1", "s1", now.AddDate(0, 0, 5), byAnn()))
		equal(t, len(must(c.ExpiringSecrets(ctx, now, 0))(t)), 0)
		soon := must(c.ExpiringSecrets(ctx, now.AddDate(0, 0, 4).Add(time.Hour), 0))(t)
		equal(t, len(soon), 1)
		equal(t, soon[0].Days, 1)
		ok(t, c.ExpireSecret(ctx, "p1", "s1", now.Add(time.Hour), byAnn()))
		equal(t, len(must(c.ExpiringSecrets(ctx, now.Add(time.Minute), 0))(t)), 0)
		ok(t, c.ExpireSecret(ctx, "p1", "s1", now.AddDate(0, 0, 60), byAnn()))
		equal(t, len(must(c.ExpiringSecrets(ctx, now.AddDate(0, 0, 31), 0))(t)), 1)
	})
}

// TestGiven: what a principal was given is known while it is disabled too.
func TestGiven(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		ok(t, c.CreatePrincipal(ctx, person("p1", "ann"), byAnn()))
		ok(t, c.CreatePrincipal(ctx, person("p2", "bob"), byAnn()))
		ok(t, c.Assign(ctx, catalog.Assigned{Principal: "p2", Role: "Owner"}, byAnn()))
		ok(t, c.PutRole(ctx, access.Role{Name: "r", Permissions: []access.Permission{access.RepositoryPull}}, byAnn()))
		for _, p := range []string{"p1", "p2"} {
			for _, s := range []string{"a", "b/*"} {
				ok(t, c.Assign(ctx, catalog.Assigned{Principal: p, Role: "r", Scope: access.Scope{Pattern: s}}, byAnn()))
			}
		}
		ok(t, c.DisablePrincipal(ctx, "p1", byAnn()))
		equal(t, len(must(c.Given(ctx, must(c.Principal(ctx, "p1"))(t)))(t).Assigned()), 2)
		equal(t, must(c.Role(ctx, "r"))(t).Permissions, []access.Permission{access.RepositoryPull})
		equal(t, must(c.Role(ctx, "Administrator"))(t).Name, "Owner")
		wantErr(t, must2(c.Role(ctx, "none")), catalog.ErrNotFound)
		wantErr(t, must2(c.ScopeMap(ctx, "none")), catalog.ErrNotFound)
		m := access.ScopeMap{Name: "m", Actions: []access.Rule{{Scope: "a", Permissions: []access.Permission{access.RepositoryPull}}}}
		ok(t, c.PutScopeMap(ctx, m, byAnn()))
		equal(t, must(c.ScopeMap(ctx, "m"))(t), m)
	})
}

// TestListSees: what is not to be seen is left out, and pages go on behind it.
func TestListSees(t *testing.T) {
	c := catalogtest.Open(t)
	for _, name := range []string{"a", "b", "c"} {
		pushImage(t, c, repo(t, name), name, "v1")
	}
	sees := func(name string) bool { return name != "b" }
	page, next, err := c.List(t.Context(), catalog.ListQuery{Sees: sees, Limit: 1})
	ok(t, err)
	equal(t, []string{page[0].Repo, next}, []string{"a", "a:v1"})
	page, next, err = c.List(t.Context(), catalog.ListQuery{Sees: sees, Limit: 1, After: next})
	ok(t, err)
	equal(t, []string{page[0].Repo, next}, []string{"c", ""})
}

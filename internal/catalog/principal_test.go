package catalog_test

import (
	"testing"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
)

// person is an account of a user.
func person(id, name string) catalog.Account {
	return catalog.Account{Principal: access.Principal{ID: id, Kind: access.KindUser, Name: name}}
}

// kept is how an account comes back that ann made.
func kept(a catalog.Account) catalog.Account {
	a.Created, a.CreatedBy = now, "ann"
	return a
}

func TestPrincipals(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		ann, bob := person("p1", "ann"), person("p2", "bob")
		bob.Kind, bob.External, bob.Description = access.KindWorkload, "https://issuer.example sub", "builds"
		equal(t, must(c.PrincipalCount(ctx))(t), 0)
		ok(t, c.CreatePrincipal(ctx, ann, byAnn()))
		ok(t, c.CreatePrincipal(ctx, bob, byAnn()))
		wantErr(t, c.CreatePrincipal(ctx, ann, byAnn()), catalog.ErrConflict)
		wantErr(t, c.CreatePrincipal(ctx, person("p3", "ann"), byAnn()), catalog.ErrConflict)
		again := person("p3", "carl")
		again.External = bob.External
		wantErr(t, c.CreatePrincipal(ctx, again, byAnn()), catalog.ErrConflict)
		again.External, again.ScopeMap = "", "none"
		wantErr(t, c.CreatePrincipal(ctx, again, byAnn()), catalog.ErrNotFound)
		equal(t, must(c.PrincipalCount(ctx))(t), 2)
		equal(t, must(c.PrincipalByName(ctx, "ann"))(t), kept(ann))
		equal(t, must(c.Principal(ctx, "p1"))(t), kept(ann))
		equal(t, must(c.PrincipalByExternal(ctx, bob.External))(t), kept(bob))
		for _, err := range []error{must2(c.PrincipalByName(ctx, "Ann")), must2(c.Principal(ctx, "p3")), must2(c.PrincipalByExternal(ctx, "")),
			c.DisablePrincipal(ctx, "p3", byAnn()), c.EnablePrincipal(ctx, "p3", byAnn()), c.DeletePrincipal(ctx, "p3", byAnn()),
			c.DeletePrincipal(ctx, access.Anonymous.ID, byAnn())} {
			wantErr(t, err, catalog.ErrNotFound)
		}
		listed, next, err := c.Principals(ctx, "", "", "", 2)
		ok(t, err)
		equal(t, []string{listed[0].Name, listed[1].Name, next}, []string{"ann", "anonymous", "anonymous"})
		listed, next, err = c.Principals(ctx, "", "", next, 2)
		ok(t, err)
		equal(t, listed, []catalog.Account{kept(bob)})
		equal(t, next, "")
		listed, _, err = c.Principals(ctx, access.KindUser, "a", "", 0)
		ok(t, err)
		equal(t, listed, []catalog.Account{kept(ann)})
	})
}

func TestSecrets(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		ok(t, c.CreatePrincipal(ctx, person("p1", "ann"), byAnn()))
		s := catalog.Secret{ID: "s1", Principal: "p1", Kind: catalog.SecretPassword, Hash: []byte{1, 0, 2}, Created: now, CreatedBy: "ann"}
		s2 := catalog.Secret{ID: "s2", Principal: "p1", Kind: catalog.SecretPassword, Name: "second", Hash: []byte{3}, Created: now, CreatedBy: "ann", Expires: now.Add(time.Hour)}
		ok(t, c.AddSecret(ctx, s, byAnn()))
		wantErr(t, c.AddSecret(ctx, s, byAnn()), catalog.ErrConflict)
		wantErr(t, c.AddSecret(ctx, catalog.Secret{ID: "s3", Principal: "none"}, byAnn()), catalog.ErrConflict)
		ok(t, c.AddSecret(ctx, s2, byAnn()))
		equal(t, must(c.Secrets(ctx, "p1"))(t), []catalog.Secret{s, s2})
		equal(t, len(must(c.Secrets(ctx, "none"))(t)), 0)
		third := catalog.Secret{ID: "s3", Principal: "p1"}
		wantErr(t, c.AddSecret(ctx, third, byAnn()), catalog.ErrTooMany)
		ok(t, c.AddSecret(ctx, catalog.Secret{ID: "k1", Principal: "p1", Kind: catalog.SecretKey}, byAnn())) // counted by itself
		wantErr(t, c.ExpireSecret(ctx, "other", "s1", now, byAnn()), catalog.ErrNotFound)
		ok(t, c.ExpireSecret(ctx, "p1", "s1", now, byAnn()))
		ok(t, c.AddSecret(ctx, third, byAnn())) // the first has run out
		wantErr(t, c.DeleteSecret(ctx, "other", "s1", byAnn()), catalog.ErrNotFound)
		ok(t, c.DeleteSecret(ctx, "p1", "s1", byAnn()))
		wantErr(t, c.DeleteSecret(ctx, "p1", "s1", byAnn()), catalog.ErrNotFound)
	})
}

// TestExpiringSecrets: of each secret is warned once 30, 7 and 1 days before its end, and once alone where
// all of that is over.
func TestExpiringSecrets(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		ok(t, c.CreatePrincipal(ctx, person("p1", "ann"), byAnn()))
		ok(t, c.AddSecret(ctx, catalog.Secret{ID: "never", Principal: "p1"}, byAnn()))
		ok(t, c.AddSecret(ctx, catalog.Secret{ID: "s", Principal: "p1", Expires: now.AddDate(0, 0, 40)}, byAnn()))
		var days []int
		for at := now; at.Before(now.AddDate(0, 0, 45)); at = at.Add(6 * time.Hour) {
			for _, e := range must(c.ExpiringSecrets(ctx, at, 0))(t) {
				equal(t, []string{e.ID, e.Owner}, []string{"s", "ann"})
				days = append(days, e.Days)
				ok(t, c.MarkWarned(ctx, e, []byte(`{}`), at))
				ok(t, c.MarkWarned(ctx, e, []byte(`{}`), at)) // another replica was as quick
			}
		}
		equal(t, days, []int{30, 7, 1})
		events := must(c.Events(ctx, 0, 0))(t)
		equal(t, len(events), 3)
		equal(t, events[0].Kind, catalog.EventSecretExpires)
	})
}

// TestStanding: what a principal has, from where it has it, and that whatever cannot be read
// or is not there gives nothing.
func TestStanding(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, app, other := t.Context(), repo(t, "team/app"), repo(t, "other")
		team := person("g", "team")
		team.Kind = access.KindGroup
		robot := person("t", "robot")
		robot.Kind, robot.ScopeMap = access.KindToken, "ci"
		ok(t, c.PutScopeMap(ctx, must(access.ParseScopeMap("ci", "", []string{"other:content/read"}))(t), byAnn()))
		for _, a := range []catalog.Account{person("p", "ann"), team, robot} {
			ok(t, c.CreatePrincipal(ctx, a, byAnn()))
		}
		ok(t, c.CreatePrincipal(ctx, person("o", "owner"), byAnn()))
		ok(t, c.Assign(ctx, catalog.Assigned{Principal: "o", Role: "Owner"}, byAnn())) // nobody can be disabled before
		may := func(id string, p access.Permission, r oci.Repository, groups ...string) bool {
			t.Helper()
			return must(c.Standing(ctx, id, groups))(t).Grants.For(access.Request{Tag: "v1", Time: now}).Allows(p, r)
		}
		assign := func(id, role, scope, condition string) {
			t.Helper()
			ok(t, c.Assign(ctx, catalog.Assigned{Principal: id, Role: role, Scope: access.Scope{Pattern: scope}, Condition: condition}, byAnn()))
		}
		version := must(c.AccessVersion(ctx))(t)
		if may("p", access.RepositoryPull, app) {
			t.Error("a principal without assignments may pull")
		}
		wantErr(t, c.Assign(ctx, catalog.Assigned{Principal: "p", Role: "Emperor"}, byAnn()), catalog.ErrNotFound)
		wantErr(t, c.Assign(ctx, catalog.Assigned{Principal: "none", Role: "AcrPull"}, byAnn()), catalog.ErrConflict)
		assign("p", "AcrPull", "team/*", "")
		assign("p", "AcrPull", "team/*", "") // once more is no error
		if !may("p", access.RepositoryPull, app) || may("p", access.RepositoryPull, other) || may("p", access.RepositoryPush, app) {
			t.Error("the role or the scope of an assignment does not hold")
		}
		for condition, want := range map[string]bool{`tag == "v1"`: true, `tag == "v2"`: false, `this is none`: false, `claims.missing == "x"`: false} {
			assign("p", "AcrPush", "other", condition)
			if got := may("p", access.RepositoryPush, other); got != want {
				t.Errorf("under %q: %v, want %v", condition, got, want)
			}
		}
		// By a group that it is a member of, or that its issuer says it is in.
		assign("g", "AcrDelete", "", "")
		if may("p", access.RepositoryDelete, app) || !may("p", access.RepositoryDelete, app, "g") || may("p", access.RepositoryDelete, app, "robot", "p", "t") {
			t.Error("a group gives its assignments to others than those in it")
		}
		wantErr(t, c.AddMember(ctx, "p", "g", byAnn()), catalog.ErrNotFound)
		wantErr(t, c.AddMember(ctx, "g", "g", byAnn()), catalog.ErrConflict)
		ok(t, c.AddMember(ctx, "g", "p", byAnn()))
		if !may("p", access.RepositoryDelete, app) {
			t.Error("a member has not what its group has")
		}
		equal(t, must(c.Members(ctx, "g", 0))(t), []string{"ann"})
		equal(t, must(c.Groups(ctx, "p"))(t), []string{"team"})
		ok(t, c.DisablePrincipal(ctx, "g", byAnn()))
		if may("p", access.RepositoryDelete, app) {
			t.Error("a disabled group still gives")
		}
		ok(t, c.EnablePrincipal(ctx, "g", byAnn()))
		ok(t, c.RemoveMember(ctx, "g", "p", byAnn()))
		wantErr(t, c.RemoveMember(ctx, "g", "p", byAnn()), catalog.ErrNotFound)
		// By a role that was made here, as it is now.
		role := access.Role{Name: "lister", Permissions: []access.Permission{access.RepositoryDelete}}
		ok(t, c.PutRole(ctx, role, byAnn()))
		assign("p", "lister", "", "")
		if !may("p", access.RepositoryDelete, app) {
			t.Error("a role of one's own gives nothing")
		}
		wantErr(t, c.DeleteRole(ctx, "lister", byAnn()), catalog.ErrConflict)
		role.Permissions = []access.Permission{access.RepositoryList}
		ok(t, c.PutRole(ctx, role, byAnn()))
		if may("p", access.RepositoryDelete, app) {
			t.Error("a role gives what was taken out of it")
		}
		wantErr(t, c.PutRole(ctx, access.Role{Name: "AcrPull"}, byAnn()), catalog.ErrConflict)
		// By a scope map.
		if !may("t", access.RepositoryPull, other) || may("t", access.RepositoryPull, app) || may("t", access.RepositoryPush, other) {
			t.Error("a token has not what its scope map says")
		}
		wantErr(t, c.DeleteScopeMap(ctx, "ci", byAnn()), catalog.ErrConflict)
		if must(c.AccessVersion(ctx))(t) == version {
			t.Error("nothing tells of the changes")
		}
	})
}

// TestDisabled: who is disabled or deleted is nobody.
func TestDisabled(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		for _, a := range []catalog.Account{person("o", "owner"), person("p", "ann")} {
			ok(t, c.CreatePrincipal(ctx, a, byAnn()))
		}
		owns := catalog.Assigned{Principal: "o", Role: "Owner"}
		ok(t, c.Assign(ctx, owns, byAnn()))
		ok(t, c.DisablePrincipal(ctx, "p", byAnn()))
		_, err := c.Standing(ctx, "p", nil)
		wantErr(t, err, catalog.ErrNotFound)
		ok(t, c.EnablePrincipal(ctx, "p", byAnn()))
		_, err = c.Standing(ctx, "p", nil)
		ok(t, err)
		ok(t, c.DeletePrincipal(ctx, "p", byAnn()))
		_, err = c.Standing(ctx, "p", nil)
		wantErr(t, err, catalog.ErrNotFound)
		// The last owner stays.
		under := owns
		under.Condition = "true"
		for _, err := range []error{c.DisablePrincipal(ctx, "o", byAnn()), c.DeletePrincipal(ctx, "o", byAnn()), c.Unassign(ctx, owns, byAnn()), c.Assign(ctx, under, byAnn())} {
			wantErr(t, err, catalog.ErrLastOwner)
		}
		ok(t, c.CreatePrincipal(ctx, person("q", "second"), byAnn()))
		ok(t, c.Assign(ctx, catalog.Assigned{Principal: "q", Role: "Owner"}, byAnn()))
		ok(t, c.DisablePrincipal(ctx, "o", byAnn()))
		wantErr(t, c.DeletePrincipal(ctx, "q", byAnn()), catalog.ErrLastOwner)
	})
}

// TestAccessVersion: a change is seen at once where it was made, and in other processes within accessAge.
func TestAccessVersion(t *testing.T) {
	catalogtest.EachDSN(t, func(t *testing.T, dsn string) {
		if dsn == "sqlite::memory:" {
			return // no other process has it
		}
		clock := now
		at := catalog.WithClock(func() time.Time { return clock })
		here, there := must(catalog.Open(t.Context(), dsn, at))(t), must(catalog.Open(t.Context(), dsn, at))(t)
		defer here.Close()
		defer there.Close()
		before := must(here.AccessVersion(t.Context()))(t)
		equal(t, must(there.AccessVersion(t.Context()))(t), before)
		ok(t, here.CreatePrincipal(t.Context(), person("p", "ann"), byAnn()))
		if must(here.AccessVersion(t.Context()))(t) == before {
			t.Error("the change is not seen where it was made")
		}
		clock = clock.Add(2 * time.Second)
		equal(t, must(there.AccessVersion(t.Context()))(t), must(here.AccessVersion(t.Context()))(t))
	})
}

func TestFederations(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		ok(t, c.CreatePrincipal(ctx, person("p", "ann"), byAnn()))
		f := catalog.Federation{Name: "ci", Principal: "p", Issuer: "https://issuer.example", Audience: "pratique", Rule: "true", Once: true, Created: now, CreatedBy: "ann"}
		wantErr(t, c.PutFederation(ctx, catalog.Federation{Name: "ci", Principal: "none"}, byAnn()), catalog.ErrConflict)
		ok(t, c.PutFederation(ctx, catalog.Federation{Name: "ci", Principal: "p", Issuer: "https://former.example"}, byAnn()))
		ok(t, c.PutFederation(ctx, f, byAnn()))
		equal(t, must(c.FederationsBy(ctx, f.Issuer))(t), []catalog.Federation{f})
		equal(t, len(must(c.FederationsBy(ctx, "https://former.example"))(t)), 0)
		equal(t, must(c.FederationsOf(ctx, "p"))(t), must(c.Federations(ctx))(t))
		ok(t, c.UseToken(ctx, "a", now.Add(time.Minute), now))
		wantErr(t, c.UseToken(ctx, "a", now.Add(time.Minute), now), catalog.ErrConflict)
		ok(t, c.UseToken(ctx, "a", now.Add(2*time.Minute), now.Add(time.Minute))) // forgotten
		ok(t, c.DeleteFederation(ctx, "ci", byAnn()))
		wantErr(t, c.DeleteFederation(ctx, "ci", byAnn()), catalog.ErrNotFound)
	})
}

func TestSettings(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		_, err := c.Setting(ctx, "k")
		wantErr(t, err, catalog.ErrNotFound)
		equal(t, must(c.PutSettingOnce(ctx, "k", []byte("first")))(t), []byte("first"))
		equal(t, must(c.PutSettingOnce(ctx, "k", []byte("second")))(t), []byte("first"))
		ok(t, c.PutSetting(ctx, "k", []byte("third")))
		equal(t, must(c.Setting(ctx, "k"))(t), []byte("third"))
		wantErr(t, c.SwapSetting(ctx, "k", nil, []byte("x")), catalog.ErrConflict)
		wantErr(t, c.SwapSetting(ctx, "k", []byte("first"), []byte("x")), catalog.ErrConflict)
		ok(t, c.SwapSetting(ctx, "k", []byte("third"), []byte("fourth")))
		equal(t, must(c.Setting(ctx, "k"))(t), []byte("fourth"))
		ok(t, c.PutSetting(ctx, "empty", nil))
		equal(t, len(must(c.Setting(ctx, "empty"))(t)), 0)
	})
}

package catalog_test

import (
	"testing"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
)

func TestPrincipals(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		ann := access.Principal{ID: "p1", Kind: access.KindUser, Name: "ann"}
		equal(t, must(c.PrincipalCount(ctx))(t), 0)
		ok(t, c.CreatePrincipal(ctx, ann, now))
		wantErr(t, c.CreatePrincipal(ctx, ann, now), catalog.ErrConflict)
		wantErr(t, c.CreatePrincipal(ctx, access.Principal{ID: "p2", Name: "ann"}, now), catalog.ErrConflict)
		equal(t, must(c.PrincipalCount(ctx))(t), 1)
		equal(t, must(c.PrincipalByName(ctx, "ann"))(t), ann)
		equal(t, must(c.Principal(ctx, "p1"))(t), ann)
		_, err := c.PrincipalByName(ctx, "Ann")
		wantErr(t, err, catalog.ErrNotFound)
		_, err = c.Principal(ctx, "p2")
		wantErr(t, err, catalog.ErrNotFound)

		s := catalog.Secret{ID: "s1", Principal: "p1", Hash: []byte{1, 0, 2}, Created: now}
		s2 := catalog.Secret{ID: "s2", Principal: "p1", Hash: []byte{3}, Created: now.Add(1000), Expires: now.Add(time.Hour)}
		ok(t, c.AddSecret(ctx, s2))
		ok(t, c.AddSecret(ctx, s))
		wantErr(t, c.AddSecret(ctx, s), catalog.ErrConflict)
		wantErr(t, c.AddSecret(ctx, catalog.Secret{ID: "s3", Principal: "none"}), catalog.ErrConflict)
		equal(t, must(c.Secrets(ctx, "p1"))(t), []catalog.Secret{s, s2})
		equal(t, len(must(c.Secrets(ctx, "none"))(t)), 0)
		ok(t, c.DeleteSecret(ctx, "s1"))
		wantErr(t, c.DeleteSecret(ctx, "s1"), catalog.ErrNotFound)

		app, other := repo(t, "team/app"), repo(t, "other")
		if must(c.Grants(ctx, "p1"))(t).Allows(access.RepositoryPull, app) {
			t.Error("a principal without assignments may pull")
		}
		ok(t, c.Assign(ctx, "p1", "Emperor", "")) // no such role
		if must(c.Grants(ctx, "p1"))(t).Allows(access.RepositoryPull, app) {
			t.Error("an unknown role grants something")
		}
		for range 2 {
			ok(t, c.Assign(ctx, "p1", access.Administrator.Name, "team/*"))
		}
		wantErr(t, c.Assign(ctx, "none", access.Administrator.Name, ""), catalog.ErrConflict)
		g := must(c.Grants(ctx, "p1"))(t)
		if !g.Allows(access.RepositoryPush, app) || g.Allows(access.RepositoryPush, other) {
			t.Error("the scope of an assignment does not hold")
		}
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
		ok(t, c.PutSetting(ctx, "empty", nil))
		equal(t, len(must(c.Setting(ctx, "empty"))(t)), 0)
	})
}

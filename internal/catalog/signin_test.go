package catalog_test

import (
	"testing"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
)

// TestSetGroups: an issuer says who is in its own groups, and in no others.
func TestSetGroups(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		const issuer = "https://issuer.example"
		ok(t, c.CreatePrincipal(ctx, person("p", "ann"), byAnn()))
		for id, external := range map[string]string{"a": issuer + " a", "b": issuer + " b", "x": issuer + ".evil a", "y": "https://issuer.exampl a", "local": ""} {
			g := person(id, id)
			g.Kind, g.External = access.KindGroup, external
			ok(t, c.CreatePrincipal(ctx, g, byAnn()))
		}
		user := person("u", "u")
		user.External = issuer + " u"
		ok(t, c.CreatePrincipal(ctx, user, byAnn()))
		for _, g := range []string{"local", "x", "y"} {
			ok(t, c.AddMember(ctx, g, "p", byAnn()))
		}
		others := []string{"local", "x", "y"}
		for _, tc := range []struct{ says, want []string }{
			{[]string{"a", "unknown", "u"}, append([]string{"a"}, others...)},
			{[]string{"b", "a"}, append([]string{"a", "b"}, others...)},
			{[]string{"b"}, append([]string{"b"}, others...)},
			{nil, others},
		} {
			ok(t, c.SetGroups(ctx, "p", issuer, tc.says, byAnn()))
			equal(t, must(c.Groups(ctx, "p"))(t), tc.want)
			before := must(c.AccessVersion(ctx))(t)
			ok(t, c.SetGroups(ctx, "p", issuer, tc.says, byAnn()))
			equal(t, must(c.AccessVersion(ctx))(t), before) // nothing changed
		}
	})
}

func TestTokenUsed(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		equal(t, must(c.TokenUsed(ctx, "a"))(t), false)
		ok(t, c.UseToken(ctx, "a", now.Add(time.Minute), now))
		equal(t, must(c.TokenUsed(ctx, "a"))(t), true)
		equal(t, must(c.TokenUsed(ctx, "b"))(t), false)
	})
}

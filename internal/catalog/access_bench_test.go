package catalog_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
)

// manyPrincipals fills a catalog with principals that have ten assignments each, and as many members in
// each group of a hundred as make it a hundredth of all.
func manyPrincipals(b *testing.B, c *catalog.Catalog, n int) {
	b.Helper()
	insert := func(text string, row func(i int) []any) {
		tx := must(c.DB().BeginTx(b.Context(), nil))(b)
		s := must(tx.PrepareContext(b.Context(), text))(b)
		for i := range n {
			must[sql.Result](s.ExecContext(context.Background(), row(i)...))(b)
		}
		ok(b, s.Close())
		ok(b, tx.Commit())
	}
	insert(`insert into principals (id, kind, name, created_at) values ($1, 'service', $2, 0)`, func(i int) []any { return []any{fmt.Sprint("id", i), fmt.Sprint("name", i)} })
	for k := range 10 {
		insert(`insert into assignments (principal_id, role, scope) values ($1, 'AcrPush', $2)`, func(i int) []any {
			return []any{fmt.Sprint("id", i), fmt.Sprintf("team%d/app%d/*", i%1000, k)}
		})
	}
}

// BenchmarkAccess is how long a decision takes among 100,000 principals with 1,000,000 assignments:
// from what was loaded of a principal, and with the loading.
func BenchmarkAccess(b *testing.B) {
	const principals = 100_000
	c := must(catalog.Open(b.Context(), "sqlite:"+filepath.Join(b.TempDir(), "catalog.db")))(b)
	defer c.Close()
	manyPrincipals(b, c, principals)
	random := rand.New(rand.NewPCG(1, 2))
	load := func(i int) access.Grants { return must(c.Standing(b.Context(), fmt.Sprint("id", i), nil))(b).Grants }
	b.Run("decision", func(b *testing.B) {
		g, r := load(77), repo(b, "team77/app9/part")
		for b.Loop() {
			if !g.For(access.Request{Time: now}).Allows(access.RepositoryPush, r) {
				b.Fatal("not allowed")
			}
		}
	})
	b.Run("load and decision", func(b *testing.B) {
		for b.Loop() {
			i := random.IntN(principals)
			if !load(i).Allows(access.RepositoryPush, repo(b, fmt.Sprintf("team%d/app9/part", i%1000))) {
				b.Fatal("not allowed")
			}
		}
	})
	b.Run("page of principals", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := c.Principals(b.Context(), "", "name5", fmt.Sprint("name5", random.IntN(9999)), 100); err != nil {
				b.Fatal(err)
			}
		}
	})
}

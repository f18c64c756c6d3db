// Package catalogtest opens catalogs for tests: in memory, which takes milliseconds,
// or one of each engine. The PostgreSQL it uses is a private cluster from Debian's
// packages, started once for a test binary and gone with it.
package catalogtest

import (
	"context"
	"testing"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// Open returns an empty catalog in memory that is closed with the test.
func Open(t testing.TB, options ...catalog.Option) *catalog.Catalog {
	t.Helper()
	return open(t, "sqlite::memory:", options)
}

func open(t testing.TB, dsn string, options []catalog.Option) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Open(context.Background(), dsn, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close catalog: %v", err)
		}
	})
	return c
}

// Judge keeps a verdict on a manifest as it stands now.
func Judge(ctx context.Context, c *catalog.Catalog, d oci.Digest, v policy.Verdict, n catalog.Counts) error {
	_, generation, err := c.ToJudge(ctx, d)
	if err != nil {
		return err
	}
	return c.KeepVerdict(ctx, d, generation, v, n)
}

package catalog_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/rules"
)

// lay puts rules.
func lay(t testing.TB, c *catalog.Catalog, source string) {
	t.Helper()
	must(c.PutRules(t.Context(), []byte(source), catalog.Act{}))(t)
}

// wantRefusal wants a refusal by a rule that says so.
func wantRefusal(t testing.TB, err error, says ...string) {
	t.Helper()
	var r *rules.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a refusal by a rule", err)
	}
	for _, s := range says {
		if !strings.Contains(r.Message, s) {
			t.Errorf("%q does not say %q", r.Message, s)
		}
	}
}

func TestRules(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		r, source, err := c.Rules(ctx)
		ok(t, err)
		equal(t, r, rules.Default())
		if source != nil {
			t.Errorf("source %q", source)
		}
		var wrong *rules.Error
		if _, err := c.PutRules(ctx, []byte("restore: soon"), catalog.Act{}); !errors.As(err, &wrong) {
			t.Errorf("what is no document is kept: %v", err)
		}
		const document = "# ours\nrestore: 1h\n"
		lay(t, c, document)
		r, source, err = c.Rules(ctx)
		ok(t, err)
		if string(source) != document || r.Restore.String() != "1h" {
			t.Errorf("%q, %+v", source, r)
		}
	})
}

func TestImmutableTags(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "prod/app")
		one, two := pushImage(t, c, r, "one", "v1", "latest"), pushImage(t, c, r, "two")
		lay(t, c, `immutable: [{repositories: "prod/**", tags: "v*"}]`)
		putAs := func(m oci.Manifest, tags ...string) error {
			_, err := c.PutManifest(ctx, catalog.NewManifest{Repo: r, Manifest: m, Tags: tags, By: "ann", Now: now})
			return err
		}
		wantRefusal(t, putAs(two, "new", "v1"), "v1 of prod/app", "be moved", "prod/**", one.Digest.String())
		wantErr(t, must2(c.Manifest(ctx, r, oci.Reference{Tag: "new"})), catalog.ErrNotFound) // all or nothing
		ok(t, putAs(one, "v1"))                                                               // it stays where it is
		ok(t, putAs(two, "latest"))
		wantRefusal(t, c.DeleteTag(ctx, r, "v1", byAnn()), "v1 of prod/app", "be deleted")
		wantRefusal(t, c.DeleteManifest(ctx, r, one.Digest, byAnn()), "v1 of prod/app", "be deleted")
		equal(t, named(t, c, r, "v1"), one.Digest.String())
		ok(t, c.DeleteManifest(ctx, r, two.Digest, byAnn()))
		ok(t, putAs(one, "v2")) // a first time
		_, err := c.UndoTag(ctx, r, "v2", byAnn())
		wantErr(t, err, catalog.ErrNothingBefore)
		other := repo(t, "dev/app")
		pushImage(t, c, other, "one", "v1")
		pushImage(t, c, other, "two", "v1")

		lay(t, c, "")
		pushImage(t, c, r, "two", "v1")
		lay(t, c, `immutable: [{repositories: "prod/**", tags: "v*"}]`)
		_, err = c.UndoTag(ctx, r, "v1", byAnn())
		wantRefusal(t, err, "be moved")
	})
}

func must2[T any](_ T, err error) error { return err }

func TestQuotas(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, a, b, far := t.Context(), repo(t, "team/a"), repo(t, "team/b"), repo(t, "elsewhere")
		blob := func(r oci.Repository, seed string, size int) error {
			return c.FinishUpload(ctx, "", r, digest(seed), int64(size), now)
		}
		ok(t, blob(a, "before", 40))
		lay(t, c, `quotas: [{prefix: "team/", bytes: 100, tags: 2}]`)
		ok(t, blob(a, "x", 30))
		wantRefusal(t, blob(b, "y", 31), `"team/"`, "70B of 100B", "31B more")
		wantErr(t, must2(c.Blob(ctx, b, digest("y"))), catalog.ErrNotFound)
		ok(t, blob(b, "y", 30))
		ok(t, blob(a, "x", 30)) // it is there already
		wantRefusal(t, c.CheckQuota(ctx, repo(t, "team/new"), 1), "100B of 100B")
		ok(t, c.CheckQuota(ctx, far, 1))
		ok(t, blob(far, "z", 1000))
		wantRefusal(t, c.LinkBlob(ctx, far, a, digest("z"), now), "100B of 100B")
		wantRefusal(t, c.LinkBlob(ctx, a, b, digest("x"), now)) // counts in each
		ok(t, c.UnlinkBlob(ctx, a, digest("before"), byAnn()))
		ok(t, c.CheckQuota(ctx, a, 1))
		ok(t, c.LinkBlob(ctx, a, b, digest("x"), now))

		lay(t, c, `quotas: [{prefix: "team/", tags: 2}]`)
		m := pushImage(t, c, a, "one", "1")
		put(t, c, a, m, "1", "2")
		_, err := c.PutManifest(ctx, catalog.NewManifest{Repo: b, Manifest: pushImage(t, c, b, "two"), Tags: []string{"3"}, Now: now})
		wantRefusal(t, err, "2 of 2 tags, and one more does not fit")
		put(t, c, a, m, "1", "2") // there already
		ok(t, c.DeleteTag(ctx, a, "2", byAnn()))
		pushImage(t, c, b, "two", "3")
		_, err = c.UndoTag(ctx, a, "2", byAnn())
		wantRefusal(t, err, "2 of 2 tags")
		equal(t, must(c.Usage(ctx, "team/"))(t).Tags, 2)
	})
}

// TestQuotaAtOnce: pushes at the same time do not exceed a quota together, and none that fits
// is refused.
func TestQuotaAtOnce(t *testing.T) {
	c := catalogtest.Open(t)
	lay(t, c, `quotas: [{prefix: "", bytes: 100}, {prefix: "r1", bytes: 15}]`)
	done := make(chan error)
	for i := range 60 {
		go func() {
			done <- c.FinishUpload(t.Context(), "", repo(t, fmt.Sprintf("r%d", i%6)), digest(fmt.Sprint(i)), 3, now)
		}()
	}
	refused := 0
	for range 60 {
		var r *rules.Refusal
		switch err := <-done; {
		case errors.As(err, &r):
			refused++
		case err != nil:
			t.Error(err)
		}
	}
	equal(t, must(c.Usage(t.Context(), ""))(t).Bytes, 99)
	equal(t, refused, 60-33)
	if n := must(c.Usage(t.Context(), "r1"))(t).Bytes; n > 15 {
		t.Errorf("r1 holds %d bytes", n)
	}
}

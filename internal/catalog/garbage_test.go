package catalog_test

import (
	"errors"
	"testing"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
)

// orphans goes through all blobs, two at a time.
func orphans(t *testing.T, c *catalog.Catalog, before, at time.Time) []oci.Digest {
	t.Helper()
	var out []oci.Digest
	for after := int64(0); ; {
		page, next, err := c.Orphans(t.Context(), after, before, at, 2)
		ok(t, err)
		for _, o := range page {
			out = append(out, o.Digest)
		}
		if next == 0 {
			return out
		}
		after = next
	}
}

// pruneLinks goes through all links, two at a time.
func pruneLinks(t *testing.T, c *catalog.Catalog, before time.Time, dry bool) int {
	t.Helper()
	removed := 0
	for mark, more := (catalog.LinkMark{}), true; more; {
		next, p, err := c.PruneLinks(t.Context(), mark, before, 2, dry)
		ok(t, err)
		removed += p.Removed
		mark, more = next, p.More
	}
	return removed
}

// TestGarbage: what a manifest needs, and what is young, stays; all else goes.
func TestGarbage(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, a, b := t.Context(), repo(t, "a"), repo(t, "b")
		before, at := now.Add(time.Second), now.Add(time.Hour)
		needed := pushImage(t, c, a, "img", "v1")
		old := pushBlob(t, c, a, "old").Digest
		ok(t, c.LinkBlob(ctx, a, b, old, now))
		ok(t, c.LinkBlob(ctx, a, b, needed.Config.Digest, now)) // old in b, needed in a
		young := digest("young")
		ok(t, c.FinishUpload(ctx, "", a, young, 1, before))
		touched := pushBlob(t, c, a, "touched").Digest
		ok(t, c.TouchBlob(ctx, a, touched, before))
		wantErr(t, c.TouchBlob(ctx, b, touched, before), catalog.ErrNotFound)

		equal(t, orphans(t, c, before, at), []oci.Digest{old})
		if n := pruneLinks(t, c, before, true); n != 3 {
			t.Errorf("a dry run finds %d links, want 3", n)
		}
		got := must(c.DropBlobs(ctx, []oci.Digest{old, young, touched, needed.Config.Digest}, before, at))(t)
		if len(got) > 0 {
			t.Errorf("blobs that repositories have were forgotten: %v", got)
		}
		if n := pruneLinks(t, c, before, false); n != 3 {
			t.Errorf("%d links taken away, want 3", n)
		}
		equal(t, orphans(t, c, before, at), []oci.Digest{old})
		for _, d := range []oci.Digest{young, touched, needed.Config.Digest, needed.Layers[0].Digest, needed.Layers[1].Digest} {
			must(c.Blob(ctx, a, d))(t)
		}
		ok(t, c.Lease(ctx, "backup", at))
		_, err := c.DropBlobs(ctx, []oci.Digest{old}, before, at)
		wantErr(t, err, catalog.ErrLeased)
		_, err = c.DropBlobs(ctx, []oci.Digest{old}, before, at.Add(catalog.LeaseLife-1000))
		wantErr(t, err, catalog.ErrLeased)
		equal(t, must(c.Strangers(ctx, []oci.Digest{old, needed.Digest, digest("never")}))(t), []oci.Digest{digest("never")})
		equal(t, must(c.DropBlobs(ctx, []oci.Digest{old, young}, before, at.Add(catalog.LeaseLife)))(t), []oci.Digest{old})
		equal(t, must(c.Strangers(ctx, []oci.Digest{old, young}))(t), []oci.Digest{old})
		ok(t, c.Lease(ctx, "backup", at))
		ok(t, c.Release(ctx, "backup"))
		must(c.DropBlobs(ctx, nil, before, at))(t)
	})
}

// TestGarbageOfRecords: inventories of layers that are gone go, and package versions that
// no image has.
func TestGarbageOfRecords(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "a")
		img := pushImage(t, c, r, "img", "v1")
		layer := img.Layers[0].Digest
		for _, d := range []oci.Digest{layer, digest("gone")} {
			ok(t, c.PutLayer(ctx, inventory.Layer{Digest: d, ExtractedBy: "x"}))
		}
		must(c.PutAdvisories(ctx, feed("Debian"), all(records(t, "Debian"))))(t)
		holds(t, c, img, debianSSL, goNet)
		holds(t, c, img, goNet)
		for _, dry := range []bool{true, false, false} {
			_, layers, err := c.PruneLayers(ctx, "", 1, dry)
			ok(t, err)
			if !layers.More {
				t.Error("a page of one is the last of two")
			}
			_, layers, err = c.PruneLayers(ctx, "", 0, dry)
			ok(t, err)
			_, packages, err := c.PrunePackages(ctx, 0, 0, dry)
			ok(t, err)
			if dry && (layers.Removed != 1 || packages.Removed != 1) {
				t.Errorf("a dry run finds %d inventories and %d package versions, want 1 and 1", layers.Removed, packages.Removed)
			}
		}
		for d, want := range map[oci.Digest]bool{layer: true, digest("gone"): false} {
			if got := len(must(c.Layers(ctx, []oci.Digest{d}, "x"))(t)) == 1; got != want {
				t.Errorf("inventory of %s is there: %v", d, got)
			}
		}
		// The version that was forgotten is matched anew when it comes again.
		holds(t, c, img, debianSSL, goNet)
		if got := must(c.Findings(ctx, img.Digest))(t); len(got) == 0 {
			t.Error("no findings after the package came again")
		}
	})
}

// TestDamaged: a damaged blob is as one that is not there, until it is pushed again.
func TestDamaged(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, a := t.Context(), repo(t, "a")
		img := pushImage(t, c, a, "img", "v1")
		d := img.Config
		ok(t, c.MarkDamaged(ctx, d.Digest, now))
		_, err := c.Blob(ctx, a, d.Digest)
		wantErr(t, err, catalog.ErrNotFound)
		wantErr(t, c.LinkBlob(ctx, a, repo(t, "b"), d.Digest, now), catalog.ErrNotFound)
		wantErr(t, c.TouchBlob(ctx, a, d.Digest, now), catalog.ErrNotFound)
		if got := must(c.BlobRepositories(ctx, d.Digest))(t); len(got) > 0 {
			t.Errorf("mounted from %v", got)
		}
		other := imageOf(t, d, nil, nil)
		_, err = c.PutManifest(ctx, catalog.NewManifest{Repo: a, Manifest: other, Now: now})
		var missing *catalog.Missing
		if !errors.As(err, &missing) || missing.Digests[0] != d.Digest {
			t.Errorf("a manifest of a damaged blob: %v", err)
		}
		ok(t, c.FinishUpload(ctx, "", a, d.Digest, d.Size, now))
		must(c.Blob(ctx, a, d.Digest))(t)
		put(t, c, a, other)
	})
}

package catalog

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
)

// PutImage keeps what an image holds, in place of what was kept of it, and matches the
// package keys that are new to the catalog against all advisories. Packages of a
// language that the operating system's package manager installed are kept but not
// matched: the distribution's advisories speak for them. ErrNotFound if the manifest is gone.
func (c *Catalog) PutImage(ctx context.Context, img inventory.Image) error {
	doc, err := c.pack(img)
	if err != nil {
		return fmt.Errorf("put image %s: %w", img.Manifest, err)
	}
	keys := matchedKeys(img.Packages)
	err = c.txDerived(ctx, func(t *tx) error {
		if err := t.hold(ctx, t.engine.lockShared); err != nil {
			return err
		}
		var id int64
		if err := t.row(ctx, `select id from manifests where digest = $1`+t.engine.forUpdate, img.Manifest.String()).Scan(&id); err != nil {
			return err
		}
		if _, err := t.exec(ctx, `insert into images (manifest_id, extracted_by, doc) values ($1, $2, $3)
			on conflict (manifest_id) do update set extracted_by = excluded.extracted_by, doc = excluded.doc`, id, img.ExtractedBy, doc); err != nil {
			return err
		}
		all, fresh, err := t.packageKeys(ctx, keys)
		if err != nil {
			return err
		}
		m := matcher{t: t}
		for _, k := range fresh {
			if _, err := m.match(ctx, k); err != nil {
				return err
			}
		}
		if _, err := t.exec(ctx, `delete from image_packages where manifest_id = $1`, id); err != nil {
			return err
		}
		rows := make([][]any, len(all))
		for i, k := range all {
			rows[i] = []any{id, k.id}
		}
		return t.insert(ctx, `insert into image_packages (manifest_id, key_id) values %s`, rows)
	})
	if err != nil {
		return fmt.Errorf("put image %s: %w", img.Manifest, err)
	}
	return nil
}

// Image returns what an image holds. ErrNotFound if that was not kept yet.
func (c *Catalog) Image(ctx context.Context, manifest oci.Digest) (inventory.Image, error) {
	var doc []byte
	err := c.read.row(ctx, `select i.doc from manifests m join images i on i.manifest_id = m.id where m.digest = $1`, manifest.String()).Scan(&doc)
	if err != nil {
		return inventory.Image{}, fmt.Errorf("image %s: %w", manifest, asKnown(err))
	}
	var img inventory.Image
	if err := c.unpack(doc, &img); err != nil {
		return inventory.Image{}, fmt.Errorf("image %s: %w", manifest, err)
	}
	return img, nil
}

// matchedKeys returns the keys that advisories are looked up by, each once.
func matchedKeys(packages []inventory.Placed) []inventory.Key {
	var out []inventory.Key
	for _, p := range packages {
		if p.Name != "" && p.Ecosystem != "" && !ownedByOS(p.Package) {
			out = append(out, p.Key)
		}
	}
	slices.SortFunc(out, func(a, b inventory.Key) int {
		return cmp.Or(cmp.Compare(a.Ecosystem, b.Ecosystem), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	return slices.Compact(out)
}

// ownedByOS says whether an operating system's package installed a package of a language.
func ownedByOS(p inventory.Package) bool {
	switch p.Type {
	case "deb", "apk", "rpm":
		return false
	}
	return p.OwnedBy != ""
}

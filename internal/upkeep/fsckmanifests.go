package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

func (c *checker) manifests(ctx context.Context) error {
	for {
		page, err := c.cat.KeptManifests(ctx, c.st.After, manifestPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, m := range page {
			if err := pass(ctx, c.limit, len(m.Raw)); err != nil {
				return err
			}
			if err := c.manifest(ctx, m); err != nil {
				return err
			}
			if err := c.step(ctx, m.ID); err != nil {
				return err
			}
		}
	}
}

// manifest checks a manifest's two copies and what is written down of what it names.
func (c *checker) manifest(ctx context.Context, m catalog.KeptManifest) error {
	c.st.Done.Manifests++
	parsed, err := oci.ParseManifestAs(m.Digest.Algorithm(), m.MediaType, m.Raw)
	if err != nil || parsed.Digest != m.Digest {
		parsed, err = c.otherCopy(ctx, m)
		if err != nil {
			return err
		}
		if parsed.Digest.IsZero() {
			return nil // told, and nothing to go by
		}
	}
	if err := c.storedCopy(ctx, parsed); err != nil {
		return err
	}
	if err := c.absentParts(ctx, parsed); err != nil {
		return err
	}
	found := gaps(m, parsed)
	if len(found) > 0 {
		// It may have been deleted while it was looked up.
		again, err := c.cat.KeptManifests(ctx, m.ID-1, 1)
		if err != nil || len(again) == 0 || again[0].ID != m.ID {
			return err
		}
		found = gaps(again[0], parsed)
	}
	for _, detail := range found {
		p := Problem{Kind: KindReference, Digest: m.Digest.String(), Detail: detail, Repaired: c.o.Repair}
		if c.o.Repair {
			if err := c.cat.MendManifest(ctx, m.ID, parsed, c.o.Now()); err != nil && !errors.Is(err, catalog.ErrNotFound) {
				return err
			}
		}
		c.found(p)
	}
	return nil
}

// otherCopy takes a manifest whose bytes in the catalog are not its own from the store.
func (c *checker) otherCopy(ctx context.Context, m catalog.KeptManifest) (oci.Manifest, error) {
	p := Problem{Kind: KindManifest, Digest: m.Digest.String(), Detail: "its bytes in the catalog are changed", Images: holders(m)}
	raw, err := c.readManifest(ctx, m.Digest)
	if err != nil {
		return oci.Manifest{}, err
	}
	parsed, perr := oci.ParseManifestAs(m.Digest.Algorithm(), m.MediaType, raw)
	if perr != nil || parsed.Digest != m.Digest {
		p.Detail += ", and so they are in the store; it has to be pushed again"
		c.found(p)
		return oci.Manifest{}, nil
	}
	if c.o.Repair {
		if err := c.cat.MendManifest(ctx, m.ID, parsed, c.o.Now()); err != nil {
			return oci.Manifest{}, err
		}
		p.Repaired, p.Images = true, nil
	}
	c.found(p)
	return parsed, nil
}

func holders(m catalog.KeptManifest) []string {
	var out []string
	for _, r := range slices.Sorted(maps.Keys(m.Holders)) {
		if len(out) < maxImages {
			out = append(out, r+"@"+m.Digest.String())
		}
	}
	return out
}

// readManifest returns what the store has under a manifest's digest, nothing if that is
// missing or too large for one.
func (c *checker) readManifest(ctx context.Context, d oci.Digest) ([]byte, error) {
	r, err := c.store.Open(ctx, d, 0)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(r, oci.MaxManifestSize+1))
	if cerr := r.Close(); err != nil || cerr != nil {
		return nil, nil //nolint:nilerr // a sector that cannot be read is as good as none
	}
	c.st.Done.Bytes += int64(len(raw))
	return raw, pass(ctx, c.limit, len(raw))
}

// storedCopy checks a manifest's bytes in the store, from which the catalog can be rebuilt.
// Those of one that the journal does not know yet come with it.
func (c *checker) storedCopy(ctx context.Context, m oci.Manifest) error {
	coming, err := c.cat.IsUnjournaled(ctx, m.Digest)
	if err != nil {
		return err
	}
	raw, err := c.readManifest(ctx, m.Digest)
	if err != nil || raw == nil && coming || raw != nil && oci.DigestOf(m.Digest.Algorithm(), raw) == m.Digest {
		return err
	}
	p := Problem{Kind: KindManifest, Digest: m.Digest.String(), Detail: "its bytes in the store are missing"}
	if raw != nil {
		p.Detail = "its bytes in the store are changed"
	}
	gone, err := c.cat.Strangers(ctx, []oci.Digest{m.Digest})
	if err != nil || len(gone) > 0 {
		return err // deleted meanwhile
	}
	if c.o.Repair {
		if err := putBytes(ctx, c.store, m.Digest, m.Raw); err != nil {
			return err
		}
		p.Repaired = true
	}
	c.found(p)
	return nil
}

// putBytes stores content under its digest, in place of what is there.
func putBytes(ctx context.Context, store blob.Store, d oci.Digest, content []byte) error {
	up, err := store.Begin(ctx, d.Algorithm())
	if err != nil {
		return err
	}
	if _, err := up.Write(content); err != nil {
		return errors.Join(err, up.Abort(ctx))
	}
	return up.Commit(ctx, d)
}

// absentParts adopts blobs that a manifest names, that the store has and that the catalog
// does not list.
func (c *checker) absentParts(ctx context.Context, m oci.Manifest) error {
	var named []oci.Digest
	for i, d := range m.Blobs() {
		if i == 0 || len(d.URLs) == 0 {
			named = append(named, d.Digest)
		}
	}
	for _, d := range named {
		_, err := c.cat.KeptBlob(ctx, d)
		if err == nil {
			continue
		}
		if !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		if gone, err := c.cat.Strangers(ctx, []oci.Digest{m.Digest}); err != nil || len(gone) > 0 {
			return err // deleted meanwhile
		}
		wrong, err := c.read(ctx, d, -1)
		if err != nil {
			return err
		}
		p := Problem{Kind: KindReference, Digest: d.String(), Detail: fmt.Sprintf("manifest %s names it, and the catalog does not list it", m.Digest)}
		if wrong != "" {
			p.Detail += "; " + wrong
		} else if c.o.Repair {
			size, err := c.store.Stat(ctx, d)
			if err == nil {
				err = c.cat.AdoptBlob(ctx, d, size, c.o.Now())
			}
			if err != nil {
				return err
			}
			p.Repaired = true
		}
		c.found(p)
	}
	return nil
}

// gaps says what is not written down as the manifest has it.
func gaps(m catalog.KeptManifest, parsed oci.Manifest) []string {
	var out []string
	if !m.Judged {
		out = append(out, "it has no verdict, not even a pending one")
	}
	for _, child := range parsed.Manifests {
		if !slices.Contains(m.Children, child.Digest.String()) {
			out = append(out, fmt.Sprintf("its child %s is not written down", child.Digest))
		}
	}
	for _, repo := range slices.Sorted(maps.Keys(m.Holders)) {
		for i, d := range parsed.Blobs() {
			foreign := i > 0 && len(d.URLs) > 0
			if !foreign && !slices.Contains(m.Holders[repo], d.Digest.String()) {
				out = append(out, fmt.Sprintf("in %s it is not written down that it needs %s", repo, d.Digest))
			}
		}
	}
	return out
}

package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
)

// Layers returns the inventories of those digests that are known and were read by
// the extractor set extractedBy; the others are not in the map.
func (c *Catalog) Layers(ctx context.Context, digests []oci.Digest, extractedBy string) (map[oci.Digest]inventory.Layer, error) {
	out := make(map[oci.Digest]inventory.Layer, len(digests))
	for _, d := range digests {
		if _, ok := out[d]; ok {
			continue
		}
		var doc []byte
		err := c.read.row(ctx, `select doc from layers where digest = $1 and extracted_by = $2`, d.String(), extractedBy).Scan(&doc)
		if err == sql.ErrNoRows {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("inventory of layer %s: %w", d, asKnown(err))
		}
		var l inventory.Layer
		if err := c.unpack(doc, &l); err != nil {
			return nil, fmt.Errorf("inventory of layer %s: %w", d, err)
		}
		out[d] = l
	}
	return out, nil
}

// PutLayer keeps a layer's inventory, in place of what another extractor set read. It does
// not wait for the disk.
func (c *Catalog) PutLayer(ctx context.Context, l inventory.Layer) error {
	doc, err := c.pack(l)
	if err != nil {
		return fmt.Errorf("put inventory of layer %s: %w", l.Digest, err)
	}
	err = c.txDerived(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `insert into layers (digest, extracted_by, doc) values ($1, $2, $3)
			on conflict (digest) do update set extracted_by = excluded.extracted_by, doc = excluded.doc`, l.Digest.String(), l.ExtractedBy, doc)
		return err
	})
	if err != nil {
		return fmt.Errorf("put inventory of layer %s: %w", l.Digest, err)
	}
	return nil
}

// pack is how inventories are kept.
func (c *Catalog) pack(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	doc := c.zip.EncodeAll(raw, make([]byte, 0, len(raw)/4))
	if len(raw) > maxDoc || len(doc) > maxValue {
		return nil, fmt.Errorf("the inventory has %d bytes, %d packed: more than can be kept (%d, %d packed)", len(raw), len(doc), maxDoc, maxValue)
	}
	return doc, nil
}

// unpack is the inverse of pack.
func (c *Catalog) unpack(doc []byte, v any) error {
	raw, err := c.unzip.DecodeAll(doc, nil)
	if err != nil {
		return fmt.Errorf("kept inventory: %w", err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("kept inventory: %w", err)
	}
	return nil
}

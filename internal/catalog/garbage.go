package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"pratique.dev/pratique/internal/oci"
)

// Garbage is found by reading tables page by page outside of any transaction, and taken
// away by short transactions that look again whether it still is: no step holds a push
// up for longer than one such transaction takes.

// LinkMark is a place in the order in which PruneLinks goes through the links; the zero
// LinkMark is before the first.
type LinkMark struct{ repository, blob int64 }

// Pruned is what one step of a collection came to.
type Pruned struct {
	Removed int  // or, on a dry run, what would be
	More    bool // there is more to look at
}

// heldText says whether a link is to stay: a manifest needs it, or one in the trash does.
const heldText = `(exists (select 1 from needs n where n.repository_id = l.repository_id and n.blob_id = l.blob_id)
	or exists (select 1 from trash_needs n where n.repository_id = l.repository_id and n.blob_id = l.blob_id))`

// PruneLinks looks at up to limit links behind after, and takes those out of their
// repositories that were made before a time and that no manifest needs, be it one in the
// trash. With dry it only counts them.
func (c *Catalog) PruneLinks(ctx context.Context, after LinkMark, before time.Time, limit int, dry bool) (LinkMark, Pruned, error) {
	var p Pruned
	var old []LinkMark
	seen := 0
	rows, err := c.read.query(ctx, `select l.repository_id, l.blob_id, l.linked_at < $3 and not `+heldText+` from links l
		where (l.repository_id, l.blob_id) > ($1, $2) order by l.repository_id, l.blob_id limit $4`,
		after.repository, after.blob, before.UnixMicro(), page(limit))
	err = each(func(r *sql.Rows) error {
		var free bool
		if err := r.Scan(&after.repository, &after.blob, &free); err != nil {
			return err
		}
		seen++
		if free {
			old = append(old, after)
		}
		return nil
	})(rows, err)
	p.More = seen == page(limit)
	if err == nil && dry {
		p.Removed = len(old)
	} else if err == nil && len(old) > 0 {
		err = c.onConflict(ctx, func(t *tx) error {
			p.Removed = 0
			return t.pruneLinks(ctx, old, before, &p.Removed)
		})
	}
	if err != nil {
		return after, p, fmt.Errorf("prune links: %w", asKnown(err))
	}
	return after, p, nil
}

func (t *tx) pruneLinks(ctx context.Context, old []LinkMark, before time.Time, removed *int) error {
	freed := map[int64]int64{} // bytes by repository
	for _, m := range old {
		n, err := t.exec(ctx, `delete from links as l where l.repository_id = $1 and l.blob_id = $2 and l.linked_at < $3 and not `+heldText,
			m.repository, m.blob, before.UnixMicro())
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		*removed++
		var size int64
		if err := t.row(ctx, `select size from blobs where id = $1`, m.blob).Scan(&size); err != nil {
			return err
		}
		freed[m.repository] += size
	}
	for _, r := range slices.Sorted(maps.Keys(freed)) {
		if err := t.use(ctx, r, used{bytes: -freed[r]}); err != nil {
			return err
		}
	}
	return nil
}

// onConflict runs do in a transaction, and again if something that it wanted to delete
// came to be needed meanwhile: it looks anew then.
func (c *Catalog) onConflict(ctx context.Context, do func(*tx) error) error {
	for try := 1; ; try++ {
		err := c.tx(ctx, do)
		if !errors.Is(err, ErrConflict) || try == maxTries {
			return err
		}
	}
}

// Orphan is a blob that no repository has.
type Orphan struct {
	Digest oci.Digest
	Size   int64
}

// Orphans looks at up to limit blobs behind the one with id after, and returns those that
// were last touched before a time and that no repository has, or has by a link alone that
// PruneLinks would take away; next is the after of the next page, 0 at the end. What only
// manifests in the trash need that may go by now counts as free too.
func (c *Catalog) Orphans(ctx context.Context, after int64, before, now time.Time, limit int) (out []Orphan, next int64, err error) {
	seen := 0
	rows, err := c.read.query(ctx, `select b.id, b.digest, b.size, b.touched_at < $2 and not exists (select 1 from links l
			where l.blob_id = b.id and (l.linked_at >= $2
				or exists (select 1 from needs n where n.repository_id = l.repository_id and n.blob_id = l.blob_id)
				or exists (select 1 from trash_needs n join trash t on t.repository_id = n.repository_id and t.manifest_id = n.manifest_id
					where n.repository_id = l.repository_id and n.blob_id = l.blob_id and t.until > $3)))
		from blobs b where b.id > $1 order by b.id limit $4`, after, before.UnixMicro(), now.UnixMicro(), page(limit))
	err = each(func(r *sql.Rows) error {
		var digest string
		var size int64
		var free bool
		if err := r.Scan(&next, &digest, &size, &free); err != nil {
			return err
		}
		seen++
		if !free {
			return nil
		}
		d, err := oci.ParseDigest(digest)
		out = append(out, Orphan{d, size})
		return err
	})(rows, err)
	if err != nil {
		return nil, 0, fmt.Errorf("blobs that no repository has: %w", asKnown(err))
	}
	if seen < page(limit) {
		next = 0
	}
	return out, next, nil
}

// ErrLeased says that blobs must stay for now: a backup is copying them.
var ErrLeased = errors.New("a backup is copying the blobs")

// DropBlobs forgets those of the blobs that were last touched before a time and that no
// repository has, and returns them: their bytes are the caller's to remove, who keeps
// pushes of the same digests away from before the call until the bytes are gone.
// ErrLeased while a lease runs at now; nothing is forgotten then.
func (c *Catalog) DropBlobs(ctx context.Context, digests []oci.Digest, before, now time.Time) ([]oci.Digest, error) {
	var out []oci.Digest
	err := c.onConflict(ctx, func(t *tx) error {
		out = nil
		var leased bool
		if err := t.row(ctx, leasedText, leaseSince(now)).Scan(&leased); err != nil {
			return err
		}
		if leased {
			return ErrLeased
		}
		return t.eachOf(ctx, `delete from blobs where touched_at < $1 and digest in (%s)
			and not exists (select 1 from links l where l.blob_id = blobs.id) returning digest`, before.UnixMicro(), texts(digests),
			func(r *sql.Rows) error {
				d, err := scanDigest(r)
				out = append(out, d)
				return err
			})
	})
	if err != nil {
		return nil, fmt.Errorf("forget blobs: %w", err)
	}
	return out, nil
}

// Strangers returns those of the digests that are neither a blob nor a manifest here.
func (c *Catalog) Strangers(ctx context.Context, digests []oci.Digest) ([]oci.Digest, error) {
	known := map[string]bool{}
	for _, text := range []string{`select digest from blobs where digest in (%s)`, `select digest from manifests where digest in (%s)`} {
		err := eachList(texts(digests), func(size int, members []any) error {
			return each(func(r *sql.Rows) error {
				s, err := scanText(r)
				known[s] = true
				return err
			})(c.read.query(ctx, fmt.Sprintf(text, marks(1, size)), members...))
		})
		if err != nil {
			return nil, fmt.Errorf("digests that are not known: %w", asKnown(err))
		}
	}
	var out []oci.Digest
	for _, d := range digests {
		if !known[d.String()] {
			out = append(out, d)
		}
	}
	return out, nil
}

func texts(digests []oci.Digest) []string {
	out := make([]string, len(digests))
	for i, d := range digests {
		out[i] = d.String()
	}
	return out
}

// TouchBlob keeps a blob from being collected for as long as if it had just been pushed to
// repo. ErrNotFound if repo does not have it.
func (c *Catalog) TouchBlob(ctx context.Context, repo oci.Repository, d oci.Digest, now time.Time) error {
	err := c.tx(ctx, func(t *tx) error {
		return one(t.exec(ctx, `update links set linked_at = $3 where repository_id = (select id from repositories where name = $1)
			and blob_id = (select id from blobs where digest = $2 and damaged_at is null)`, repo.String(), d.String(), now.UnixMicro()))
	})
	if err != nil {
		return fmt.Errorf("touch blob %s of %s: %w", d, repo, err)
	}
	return nil
}

// PruneLayers looks at up to limit inventories behind the layer after, and forgets those
// of layers that are gone. The layers are gone through by their digests, from "" on.
func (c *Catalog) PruneLayers(ctx context.Context, after string, limit int, dry bool) (string, Pruned, error) {
	const gone = `not exists (select 1 from blobs b where b.digest = l.digest)`
	var p Pruned
	var old []string
	seen := 0
	rows, err := c.read.query(ctx, `select l.digest, `+gone+` from layers l where l.digest > $1 order by l.digest limit $2`, after, page(limit))
	err = each(func(r *sql.Rows) error {
		var free bool
		if err := r.Scan(&after, &free); err != nil {
			return err
		}
		seen++
		if free {
			old = append(old, after)
		}
		return nil
	})(rows, err)
	p.More = seen == page(limit)
	if err == nil && dry {
		p.Removed = len(old)
	} else if err == nil && len(old) > 0 {
		err = c.tx(ctx, func(t *tx) error {
			p.Removed = 0
			for _, d := range old {
				n, err := t.exec(ctx, `delete from layers as l where l.digest = $1 and `+gone, d)
				if err != nil {
					return err
				}
				p.Removed += int(n)
			}
			return nil
		})
	}
	if err != nil {
		return after, p, fmt.Errorf("prune inventories: %w", asKnown(err))
	}
	return after, p, nil
}

// PrunePackages looks at up to limit package versions behind the one with id after, and
// forgets those that no image has, with their findings.
func (c *Catalog) PrunePackages(ctx context.Context, after int64, limit int, dry bool) (int64, Pruned, error) {
	var p Pruned
	var old []int64
	seen := 0
	rows, err := c.read.query(ctx, `select k.id, not exists (select 1 from image_packages i where i.key_id = k.id) from package_keys k
		where k.id > $1 order by k.id limit $2`, after, page(limit))
	err = each(func(r *sql.Rows) error {
		var free bool
		if err := r.Scan(&after, &free); err != nil {
			return err
		}
		seen++
		if free {
			old = append(old, after)
		}
		return nil
	})(rows, err)
	p.More = seen == page(limit)
	if err == nil && dry {
		p.Removed = len(old)
	} else if err == nil && len(old) > 0 {
		err = c.onConflict(ctx, func(t *tx) error {
			p.Removed = 0
			return t.prunePackages(ctx, old, &p.Removed)
		})
	}
	if err != nil {
		return after, p, fmt.Errorf("prune packages: %w", asKnown(err))
	}
	return after, p, nil
}

func (t *tx) prunePackages(ctx context.Context, old []int64, removed *int) error {
	// No image may come to name one of them in between.
	if err := t.hold(ctx, t.engine.lock); err != nil {
		return err
	}
	for _, id := range old {
		var used bool
		if err := t.row(ctx, `select exists (select 1 from image_packages where key_id = $1)`, id).Scan(&used); err != nil {
			return err
		}
		if used {
			continue
		}
		for _, text := range []string{`delete from findings where key_id = $1`, `delete from lookups where key_id = $1`, `delete from package_keys where id = $1`} {
			if _, err := t.exec(ctx, text, id); err != nil {
				return err
			}
		}
		*removed++
	}
	return nil
}

// PruneHistory forgets up to limit moves from before a time that the blob store knows of.
func (c *Catalog) PruneHistory(ctx context.Context, before time.Time, limit int, dry bool) (Pruned, error) {
	var p Pruned
	rows, err := c.read.query(ctx, `select id from history where at < $1 and journaled = 1 order by at limit $2`, before.UnixMicro(), page(limit))
	old, err := collect(rows, err, scanID)
	p.Removed, p.More = len(old), len(old) == page(limit) && !dry
	if err == nil && !dry && len(old) > 0 {
		err = c.tx(ctx, func(t *tx) error { return t.eachOfIDs(ctx, `delete from history where id in (%s)`, old, nil) })
	}
	if err != nil {
		return Pruned{}, fmt.Errorf("prune history: %w", asKnown(err))
	}
	return p, nil
}

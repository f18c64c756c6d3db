package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"pratique.dev/pratique/internal/oci"
)

// maxFaults bounds what a check of the database lists.
const maxFaults = 100

// Faults has the database examine itself and returns what it finds wrong, in its own
// words: broken pages and indexes, rows that refer to what is not there. It reads the
// whole database. PostgreSQL holds itself to its constraints and offers no such check.
func (c *Catalog) Faults(ctx context.Context) ([]string, error) {
	if c.engine.name != sqliteEngine.name {
		return nil, nil
	}
	rows, err := c.read.query(ctx, `pragma integrity_check(100)`)
	out, err := collect(rows, err, scanText)
	if err != nil {
		return nil, fmt.Errorf("check of the database: %w", err)
	}
	if len(out) == 1 && out[0] == "ok" {
		out = nil
	}
	rows, err = c.read.query(ctx, `pragma foreign_key_check`)
	err = each(func(r *sql.Rows) error {
		var table, parent string
		var id, key sql.NullInt64
		if err := r.Scan(&table, &id, &parent, &key); err != nil || len(out) >= maxFaults {
			return err
		}
		out = append(out, fmt.Sprintf("a row of %s refers to one of %s that is not there", table, parent))
		return nil
	})(rows, err)
	if err != nil {
		return nil, fmt.Errorf("check of references: %w", asKnown(err))
	}
	return out, nil
}

// KeptBlob is a blob that the catalog lists, whatever repositories have it.
type KeptBlob struct {
	ID      int64
	Digest  oci.Digest
	Size    int64
	Damaged bool
}

// KeptBlobs returns up to limit blobs behind the one with id after.
func (c *Catalog) KeptBlobs(ctx context.Context, after int64, limit int) ([]KeptBlob, error) {
	rows, err := c.read.query(ctx, `select id, digest, size, damaged_at is not null from blobs where id > $1 order by id limit $2`, after, page(limit))
	out, err := collect(rows, err, scanKeptBlob)
	if err != nil {
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	return out, nil
}

// KeptBlob returns one blob. ErrNotFound if the catalog does not list it.
func (c *Catalog) KeptBlob(ctx context.Context, d oci.Digest) (KeptBlob, error) {
	rows, err := c.read.query(ctx, `select id, digest, size, damaged_at is not null from blobs where digest = $1`, d.String())
	out, err := collect(rows, err, scanKeptBlob)
	if err == nil && len(out) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return KeptBlob{}, fmt.Errorf("blob %s: %w", d, err)
	}
	return out[0], nil
}

func scanKeptBlob(r *sql.Rows) (b KeptBlob, err error) {
	var digest string
	if err := r.Scan(&b.ID, &digest, &b.Size, &b.Damaged); err != nil {
		return b, err
	}
	b.Digest, err = oci.ParseDigest(digest)
	return b, err
}

// BlobTotals returns how many blobs the catalog lists, and their bytes.
func (c *Catalog) BlobTotals(ctx context.Context) (n int, bytes int64, err error) {
	err = c.read.row(ctx, `select count(*), coalesce(sum(size), 0) from blobs`).Scan(&n, &bytes)
	if err != nil {
		return 0, 0, fmt.Errorf("count blobs: %w", asKnown(err))
	}
	return n, bytes, nil
}

// ClearDamaged makes a blob count as sound again.
func (c *Catalog) ClearDamaged(ctx context.Context, d oci.Digest) error {
	err := c.tx(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `update blobs set damaged_at = null where digest = $1`, d.String())
		return err
	})
	if err != nil {
		return fmt.Errorf("clear the mark of %s: %w", d, err)
	}
	return nil
}

// Dependants returns up to limit images, as REPOSITORY@DIGEST, that need a blob.
func (c *Catalog) Dependants(ctx context.Context, d oci.Digest, limit int) ([]string, error) {
	rows, err := c.read.query(ctx, `select r.name || '@' || m.digest from blobs b
		join links l on l.blob_id = b.id
		join needs n on n.repository_id = l.repository_id and n.blob_id = l.blob_id
		join repositories r on r.id = n.repository_id
		join manifests m on m.id = n.manifest_id
		where b.digest = $1 limit $2`, d.String(), page(limit))
	out, err := collect(rows, err, scanText)
	if err != nil {
		return nil, fmt.Errorf("images that need %s: %w", d, err)
	}
	return out, nil
}

// KeptManifest is a manifest that the catalog keeps, as it is kept: unlike what the other
// methods return it may be damaged.
type KeptManifest struct {
	ID        int64
	Digest    oci.Digest
	MediaType string
	Raw       []byte
	// Holders are the repositories that hold it, with the blobs that are written down as
	// needed there; Children are what is written down of an index. Digests as texts.
	Holders  map[string][]string
	Children []string
	Judged   bool      // there is a verdict, be it pending
	PushedAt time.Time // when it last came to a repository; zero: none holds it
}

// KeptManifests returns up to limit manifests behind the one with id after.
func (c *Catalog) KeptManifests(ctx context.Context, after int64, limit int) ([]KeptManifest, error) {
	rows, err := c.read.query(ctx, `select m.id, m.digest, m.media_type, m.raw, exists (select 1 from verdicts v where v.manifest_id = m.id)
		from manifests m where m.id > $1 order by m.id limit $2`, after, page(limit))
	out, err := collect(rows, err, func(r *sql.Rows) (m KeptManifest, err error) {
		var digest string
		if err := r.Scan(&m.ID, &digest, &m.MediaType, &m.Raw, &m.Judged); err != nil {
			return m, err
		}
		m.Digest, err = oci.ParseDigest(digest)
		return m, err
	})
	for i := range out {
		if err == nil {
			err = c.keptParts(ctx, &out[i])
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list manifests: %w", err)
	}
	return out, nil
}

func (c *Catalog) keptParts(ctx context.Context, m *KeptManifest) error {
	m.Holders = map[string][]string{}
	rows, err := c.read.query(ctx, `select r.name, coalesce(b.digest, ''), h.pushed_at from holdings h
		join repositories r on r.id = h.repository_id
		left join needs n on n.repository_id = h.repository_id and n.manifest_id = h.manifest_id
		left join blobs b on b.id = n.blob_id
		where h.manifest_id = $1`, m.ID)
	err = each(func(r *sql.Rows) error {
		var repo, digest string
		var pushed int64
		err := r.Scan(&repo, &digest, &pushed)
		if at := fromMicros(&pushed); at.After(m.PushedAt) {
			m.PushedAt = at
		}
		m.Holders[repo] = append(m.Holders[repo], digest)
		return err
	})(rows, err)
	if err != nil {
		return asKnown(err)
	}
	rows, err = c.read.query(ctx, `select child_digest from children where parent_id = $1`, m.ID)
	m.Children, err = collect(rows, err, scanText)
	return err
}

// MendManifest writes down anew all that follows from a manifest's bytes: the bytes
// themselves, its children, its verdict as pending if it has none, and in each repository
// that holds it which blobs it needs, as far as the catalog lists them.
func (c *Catalog) MendManifest(ctx context.Context, id int64, m oci.Manifest, now time.Time) error {
	err := c.onConflict(ctx, func(t *tx) error {
		if err := one(t.exec(ctx, `update manifests set raw = $2, media_type = $3 where id = $1`, id, m.Raw, m.MediaType)); err != nil {
			return err
		}
		if err := t.makeVerdict(ctx, id, m.IsIndex(), now); err != nil {
			return err
		}
		if err := t.makeChildren(ctx, id, m); err != nil {
			return err
		}
		rows, err := t.query(ctx, `select repository_id from holdings where manifest_id = $1`, id)
		holders, err := collect(rows, err, scanID)
		if err != nil {
			return err
		}
		for _, r := range holders {
			if err := t.mendNeeds(ctx, r, id, m, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("mend manifest %s: %w", m.Digest, err)
	}
	return nil
}

// mendNeeds gives a repository the blobs that a manifest names, and writes down that it
// needs them.
func (t *tx) mendNeeds(ctx context.Context, repository, manifest int64, m oci.Manifest, now time.Time) error {
	var want []string
	for _, d := range m.Blobs() {
		want = append(want, d.Digest.String())
	}
	var blobs []int64
	err := t.eachOf(ctx, `select id from blobs where 0 = $1 and digest in (%s)`, int64(0), want, func(r *sql.Rows) error {
		id, err := scanID(r)
		blobs = append(blobs, id)
		return err
	})
	if err != nil {
		return err
	}
	for _, b := range blobs {
		if err := t.link(ctx, repository, b, now); err != nil {
			return err
		}
	}
	return t.need(ctx, repository, manifest, blobs)
}

// AdoptBlob lists a blob whose bytes are in the store, if it is not listed.
func (c *Catalog) AdoptBlob(ctx context.Context, d oci.Digest, size int64, now time.Time) error {
	err := c.tx(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `insert into blobs (digest, size, touched_at) values ($1, $2, $3) on conflict (digest) do nothing`,
			d.String(), size, now.UnixMicro())
		return err
	})
	if err != nil {
		return fmt.Errorf("adopt blob %s: %w", d, err)
	}
	return nil
}

// Usage is what a repository holds, as it is written down and as it is counted.
type Usage struct {
	Repo                                  string
	Bytes, Tags, Manifests                int64
	CountBytes, CountTags, CountManifests int64 // as counted
	id                                    int64
}

// Usages recounts up to limit repositories behind the one with id after, and returns those
// whose written usage is not what is counted; next is the after of the next page, 0 at the
// end. With mend the count is written down.
func (c *Catalog) Usages(ctx context.Context, after int64, limit int, mend bool) (wrong []Usage, next int64, err error) {
	const counted = `select r.id, r.name, coalesce(u.bytes, 0), coalesce(u.tags, 0), coalesce(u.manifests, 0),
			(select coalesce(sum(b.size), 0) from links l join blobs b on b.id = l.blob_id where l.repository_id = r.id),
			(select count(*) from tags t where t.repository_id = r.id),
			(select count(*) from holdings h where h.repository_id = r.id)
		from repositories r left join usage u on u.repository_id = r.id where r.id > $1 order by r.id limit $2`
	err = c.tx(ctx, func(t *tx) error {
		wrong, next = nil, 0
		seen := 0
		rows, err := t.query(ctx, counted, after, page(limit))
		err = each(func(r *sql.Rows) error {
			var u Usage
			err := r.Scan(&u.id, &u.Repo, &u.Bytes, &u.Tags, &u.Manifests, &u.CountBytes, &u.CountTags, &u.CountManifests)
			next = u.id
			if seen++; u.Bytes != u.CountBytes || u.Tags != u.CountTags || u.Manifests != u.CountManifests {
				wrong = append(wrong, u)
			}
			return err
		})(rows, err)
		if seen < page(limit) {
			next = 0
		}
		for _, u := range wrong {
			if err != nil || !mend {
				break
			}
			_, err = t.exec(ctx, `insert into usage (repository_id, bytes, tags, manifests) values ($1, $2, $3, $4)
				on conflict (repository_id) do update set bytes = excluded.bytes, tags = excluded.tags, manifests = excluded.manifests`,
				u.id, u.CountBytes, u.CountTags, u.CountManifests)
		}
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("count usage: %w", err)
	}
	return wrong, next, nil
}

// makeVerdict leaves a manifest pending and due if it has no verdict.
func (t *tx) makeVerdict(ctx context.Context, id int64, index bool, now time.Time) error {
	isIndex := 0
	if index {
		isIndex = 1
	}
	_, err := t.exec(ctx, `insert into verdicts (manifest_id, is_index, decision, doc, counts, due_at, generation, attempts, last_error)
		values ($1, $2, 0, '{}', '{}', $3, $4, 0, '') on conflict (manifest_id) do nothing`, id, isIndex, now.UnixMicro(), FirstGeneration)
	return err
}

// makeChildren writes down the manifests that an index lists.
func (t *tx) makeChildren(ctx context.Context, id int64, m oci.Manifest) error {
	var children [][]any
	for _, child := range m.Manifests {
		children = append(children, []any{child.Digest.String(), id})
	}
	return t.insert(ctx, `insert into children (child_digest, parent_id) values %s on conflict (child_digest, parent_id) do nothing`, children)
}

package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/rules"
)

// Blob is a blob as one repository sees it.
type Blob struct {
	Digest     oci.Digest
	Size       int64
	Linked     bool  // the repository has it; true of every Blob that was found
	Referenced bool  // a manifest of the repository names it
	Served     bool  // a manifest of the repository that the gate lets through, and no lock keeps, names it
	Open       bool  // a manifest of the repository that is not locked against reading names it
	Trashed    bool  // a manifest in the repository's trash names it
	Locks      Locks // of the repository
	// LinkedAt is when it was last pushed to the repository, mounted there or touched.
	LinkedAt time.Time
}

const blobText = `
select b.size, l.linked_at, r.closed,
	exists (select 1 from needs n where n.repository_id = l.repository_id and n.blob_id = l.blob_id),
	exists (select 1 from needs n join holdings h on h.repository_id = n.repository_id and h.manifest_id = n.manifest_id
		where n.repository_id = l.repository_id and n.blob_id = l.blob_id and h.closed & 4 = 0
		and (select decision from verdicts v where v.manifest_id = n.manifest_id) = $3),
	exists (select 1 from needs n join holdings h on h.repository_id = n.repository_id and h.manifest_id = n.manifest_id
		where n.repository_id = l.repository_id and n.blob_id = l.blob_id and h.closed & 4 = 0),
	exists (select 1 from trash_needs n where n.repository_id = l.repository_id and n.blob_id = l.blob_id)
from repositories r
join links l on l.repository_id = r.id
join blobs b on b.id = l.blob_id
where r.name = $1
	and l.blob_id = (select id from blobs where digest = $2 and damaged_at is null)`

// Blob tells of a blob as repo sees it. ErrNotFound if repo does not have it, whoever
// else does, or has it damaged.
func (c *Catalog) Blob(ctx context.Context, repo oci.Repository, d oci.Digest) (Blob, error) {
	b := Blob{Digest: d, Linked: true}
	var linked int64
	err := c.read.row(ctx, blobText, repo.String(), d.String(), int64(policy.Allow)).Scan(&b.Size, &linked, &b.Locks, &b.Referenced, &b.Served, &b.Open, &b.Trashed)
	if err != nil {
		return Blob{}, fmt.Errorf("blob %s of %s: %w", d, repo, asKnown(err))
	}
	b.LinkedAt = fromMicros(&linked)
	return b, nil
}

const linkedText = `
select repository_id, blob_id from links
where repository_id = (select id from repositories where name = $1)
	and blob_id = (select id from blobs where digest = $2)`

// soundText is linkedText for a blob that is not damaged.
const soundText = linkedText + `
	and blob_id in (select id from blobs where digest = $2 and damaged_at is null)`

// LinkBlob gives the repository to a blob that from has (distribution-spec, "Mounting
// a blob from another repository"). ErrNotFound if from does not have it.
func (c *Catalog) LinkBlob(ctx context.Context, from, to oci.Repository, d oci.Digest, now time.Time) error {
	err := c.tx(ctx, func(t *tx) error {
		var source, blob int64
		if err := t.row(ctx, soundText, from.String(), d.String()).Scan(&source, &blob); err != nil {
			return err
		}
		r, err := t.makeRepository(ctx, to, now)
		if err != nil {
			return err
		}
		if err := t.repositoryLocked(ctx, r, LockWrite); err != nil {
			return err
		}
		if _, err := t.exec(ctx, `update blobs set touched_at = $2 where id = $1`, blob, now.UnixMicro()); err != nil {
			return err
		}
		return t.linkWithin(ctx, r, blob, now)
	})
	if err != nil {
		return fmt.Errorf("mount %s of %s in %s: %w", d, from, to, err)
	}
	return nil
}

// UnlinkBlob takes a blob out of repo; its bytes stay for garbage collection. Manifests in
// the trash of repo that need it go for good. ErrNotFound if repo does not have it,
// ErrConflict while a manifest of repo names it.
func (c *Catalog) UnlinkBlob(ctx context.Context, repo oci.Repository, d oci.Digest, a Act) error {
	a = c.actNow(a)
	err := c.tx(ctx, func(t *tx) error {
		var r, blob int64
		if err := t.row(ctx, linkedText, repo.String(), d.String()).Scan(&r, &blob); err != nil {
			return err
		}
		if err := t.repositoryLocked(ctx, r, LockDelete); err != nil {
			return err
		}
		if err := t.purgeNeeding(ctx, r, blob, a); err != nil {
			return err
		}
		// needs refers to links, so a blob that is needed stays even if the manifest is
		// being put at this moment.
		if err := one(t.exec(ctx, `delete from links where repository_id = $1 and blob_id = $2`, r, blob)); err != nil {
			return err
		}
		var size int64
		if err := t.row(ctx, `update blobs set touched_at = $2 where id = $1 returning size`, blob, a.Now.UnixMicro()).Scan(&size); err != nil {
			return err
		}
		if err := t.audit(ctx, a, "blob-delete", repo.String()+"@"+d.String(), nil); err != nil {
			return err
		}
		return t.use(ctx, r, used{bytes: -size})
	})
	if err != nil {
		return fmt.Errorf("delete blob %s of %s: %w", d, repo, err)
	}
	return nil
}

// BlobRepositories returns the repositories that have a blob, at most maxPage of them.
func (c *Catalog) BlobRepositories(ctx context.Context, d oci.Digest) ([]oci.Repository, error) {
	rows, err := c.read.query(ctx, `select r.name from blobs b join links l on l.blob_id = b.id join repositories r on r.id = l.repository_id
		where b.digest = $1 and b.damaged_at is null order by r.name limit $2`, d.String(), maxPage)
	names, err := collect(rows, err, scanText)
	if err != nil {
		return nil, fmt.Errorf("repositories of %s: %w", d, err)
	}
	out := make([]oci.Repository, len(names))
	for i, n := range names {
		if out[i], err = oci.ParseRepository(n); err != nil {
			return nil, fmt.Errorf("repositories of %s: %w", d, err)
		}
	}
	return out, nil
}

// makeRepository returns the id of repo, which comes to be if it is not there.
func (t *tx) makeRepository(ctx context.Context, repo oci.Repository, now time.Time) (int64, error) {
	const find = `select id from repositories where name = $1`
	var id int64
	if err := t.row(ctx, find, repo.String()).Scan(&id); !errors.Is(err, sql.ErrNoRows) {
		return id, err
	}
	if _, err := t.exec(ctx, `insert into repositories (name, created_at) values ($1, $2) on conflict (name) do nothing`, repo.String(), now.UnixMicro()); err != nil {
		return 0, err
	}
	err := t.row(ctx, find, repo.String()).Scan(&id)
	return id, err
}

// link makes a blob part of a repository, or as one that just became so.
func (t *tx) link(ctx context.Context, repository, blob int64, now time.Time) error {
	return t.linkIf(ctx, repository, blob, now, func(rules.Usage) error { return nil })
}

// linkWithin is link within the repository's quotas.
func (t *tx) linkWithin(ctx context.Context, repository, blob int64, now time.Time) error {
	return t.linkIf(ctx, repository, blob, now, func(add rules.Usage) error { return t.fits(ctx, repository, add) })
}

// linkIf asks fits about what is added to the repository, if anything is.
func (t *tx) linkIf(ctx context.Context, repository, blob int64, now time.Time, fits func(add rules.Usage) error) error {
	for range maxTries {
		n, err := t.exec(ctx, `insert into links (repository_id, blob_id, linked_at) values ($1, $2, $3)
			on conflict (repository_id, blob_id) do nothing`, repository, blob, now.UnixMicro())
		if err != nil {
			return err
		}
		if n > 0 {
			var add rules.Usage
			if err := t.row(ctx, `select size from blobs where id = $1`, blob).Scan(&add.Bytes); err != nil {
				return err
			}
			if err := fits(add); err != nil {
				return err
			}
			return t.use(ctx, repository, used{bytes: add.Bytes})
		}
		n, err = t.exec(ctx, `update links set linked_at = $3 where repository_id = $1 and blob_id = $2`, repository, blob, now.UnixMicro())
		if err != nil || n > 0 {
			return err
		}
		// Another transaction has removed it in between.
	}
	return fmt.Errorf("link a blob: %w", ErrConflict)
}

// MarkDamaged makes a blob count as one that is not there, until it is pushed again.
// ErrNotFound if there is no such blob.
func (c *Catalog) MarkDamaged(ctx context.Context, d oci.Digest, now time.Time) error {
	err := c.tx(ctx, func(t *tx) error {
		return one(t.exec(ctx, `update blobs set damaged_at = $2 where digest = $1`, d.String(), now.UnixMicro()))
	})
	if err != nil {
		return fmt.Errorf("mark %s as damaged: %w", d, err)
	}
	return nil
}

package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"pratique.dev/pratique/internal/oci"
)

// Upload is a blob on its way in, as it stood after its last request.
type Upload struct {
	ID     string
	Repo   oci.Repository
	By     string // who began it
	State  []byte // of blob.Upload.Save
	Offset int64  // bytes taken so far
	// Started and Touched are when it was begun and last saved.
	Started, Touched time.Time
}

const uploadColumns = `id, repository, started_by, state, size, started_at, touched_at`

func scanUpload(row interface{ Scan(...any) error }) (Upload, error) {
	var u Upload
	var repo string
	var started, touched int64
	if err := row.Scan(&u.ID, &repo, &u.By, &u.State, &u.Offset, &started, &touched); err != nil {
		return Upload{}, err
	}
	u.Started, u.Touched = fromMicros(&started), fromMicros(&touched)
	var err error
	u.Repo, err = oci.ParseRepository(repo)
	return u, err
}

// PutUpload keeps a new upload. ErrConflict if the id is taken, a *Locked if the
// repository is locked against writing. The repository need
// not exist, and does not come to be by this.
func (c *Catalog) PutUpload(ctx context.Context, u Upload) error {
	err := c.tx(ctx, func(t *tx) error {
		var closed Locks
		err := t.row(ctx, `select coalesce((select closed from repositories where name = $1), 0)`, u.Repo.String()).Scan(&closed)
		if err != nil {
			return err
		}
		if closed&LockWrite != 0 {
			return &Locked{Repo: u.Repo, Lock: LockWrite}
		}
		_, err = t.exec(ctx, `insert into uploads (`+uploadColumns+`) values ($1, $2, $3, $4, $5, $6, $7)`,
			u.ID, u.Repo.String(), u.By, u.State, u.Offset, u.Started.UnixMicro(), u.Touched.UnixMicro())
		return err
	})
	if err != nil {
		return fmt.Errorf("put upload %s to %s: %w", u.ID, u.Repo, err)
	}
	return nil
}

// Upload returns an upload of a repository. ErrNotFound if the repository has none by this id.
func (c *Catalog) Upload(ctx context.Context, repo oci.Repository, id string) (Upload, error) {
	u, err := scanUpload(c.read.row(ctx, `select `+uploadColumns+` from uploads where id = $1 and repository = $2`, id, repo.String()))
	if err != nil {
		return Upload{}, fmt.Errorf("upload %s to %s: %w", id, repo, asKnown(err))
	}
	return u, nil
}

// SaveUpload keeps how far an upload has come. ErrNotFound if it is over.
func (c *Catalog) SaveUpload(ctx context.Context, id string, state []byte, offset int64, now time.Time) error {
	err := c.tx(ctx, func(t *tx) error {
		return one(t.exec(ctx, `update uploads set state = $2, size = $3, touched_at = $4 where id = $1`, id, state, offset, now.UnixMicro()))
	})
	if err != nil {
		return fmt.Errorf("save upload %s: %w", id, err)
	}
	return nil
}

// FinishUpload makes the blob that an upload became part of its repository, which
// comes to be if it is not there yet, and ends the upload. An empty id stands for an
// upload that was never kept. A blob that was damaged is sound again. ErrNotFound if another request has ended the upload.
func (c *Catalog) FinishUpload(ctx context.Context, id string, repo oci.Repository, d oci.Digest, size int64, now time.Time) error {
	err := c.tx(ctx, func(t *tx) error {
		if id != "" {
			if err := one(t.exec(ctx, `delete from uploads where id = $1 and repository = $2`, id, repo.String())); err != nil {
				return err
			}
		}
		r, err := t.makeRepository(ctx, repo, now)
		if err != nil {
			return err
		}
		if err := t.repositoryLocked(ctx, r, LockWrite); err != nil {
			return err
		}
		var b int64
		err = t.row(ctx, `insert into blobs (digest, size, touched_at) values ($1, $2, $3)
			on conflict (digest) do update set touched_at = excluded.touched_at, damaged_at = null returning id`,
			d.String(), size, now.UnixMicro()).Scan(&b)
		if err != nil {
			return err
		}
		return t.linkWithin(ctx, r, b, now)
	})
	if err != nil {
		return fmt.Errorf("finish upload %s of %s to %s: %w", id, d, repo, err)
	}
	return nil
}

// DeleteUpload forgets an upload. ErrNotFound if it is over already.
func (c *Catalog) DeleteUpload(ctx context.Context, id string) error {
	err := c.tx(ctx, func(t *tx) error {
		return one(t.exec(ctx, `delete from uploads where id = $1`, id))
	})
	if err != nil {
		return fmt.Errorf("delete upload %s: %w", id, err)
	}
	return nil
}

// StaleUploads returns the uploads that were last saved before a time, the longest
// untouched first, at most maxPage of them.
func (c *Catalog) StaleUploads(ctx context.Context, before time.Time) ([]Upload, error) {
	rows, err := c.read.query(ctx, `select `+uploadColumns+` from uploads where touched_at < $1 order by touched_at limit $2`, before.UnixMicro(), maxPage)
	return collect(rows, err, func(r *sql.Rows) (Upload, error) { return scanUpload(r) })
}

// UploadsBy counts the uploads that somebody has begun and not ended, up to limit.
func (c *Catalog) UploadsBy(ctx context.Context, by string, limit int) (n int, err error) {
	rows, err := c.read.query(ctx, `select 1 from uploads where started_by = $1 limit $2`, by, limit)
	list, err := collect(rows, err, scanID)
	if err != nil {
		return 0, fmt.Errorf("uploads by %s: %w", by, err)
	}
	return len(list), nil
}

// one turns a statement that changed no row into ErrNotFound.
func one(changed int64, err error) error {
	if err == nil && changed == 0 {
		return ErrNotFound
	}
	return err
}

// maxPage bounds every list, whatever limit was asked for.
const maxPage = 10_000

// page is the limit that holds.
func page(limit int) int {
	if limit <= 0 || limit > maxPage {
		return maxPage
	}
	return limit
}

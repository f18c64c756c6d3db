package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/rules"
)

// Trashed is a deleted manifest that can be restored.
type Trashed struct {
	Repo      string
	Digest    oci.Digest
	MediaType string
	Tags      []string // that named it, sorted by bytes
	Size      int64    // of the config and all layers, for an index of all its images
	PushedAt  time.Time
	PushedBy  string
	DeletedAt time.Time
	DeletedBy string
	Until     time.Time // it stays at least until then
}

// trashedTag is a tag of a manifest in the trash as it is kept.
type trashedTag struct {
	Name   string `json:"name"`
	Closed int64  `json:"closed,omitempty"`
}

func readTrashedTags(doc string) ([]trashedTag, error) {
	var tags []trashedTag
	if err := json.Unmarshal([]byte(doc), &tags); err != nil {
		return nil, fmt.Errorf("tags in the trash: %w", err)
	}
	return tags, nil
}

// discard keeps a holding, its needs and its tags in the trash. The holding is removed by the
// caller after.
func (t *tx) discard(ctx context.Context, repository, manifest int64, tags []trashedTag, a Act) error {
	doc, err := json.Marshal(tags)
	if err != nil {
		return err
	}
	if tags == nil {
		doc = []byte("[]")
	}
	_, err = t.exec(ctx, `insert into trash (repository_id, manifest_id, tags, closed, pushed_at, pushed_by, deleted_at, deleted_by, until)
		select repository_id, manifest_id, $3, closed, pushed_at, pushed_by, $4, $5, $6 from holdings where repository_id = $1 and manifest_id = $2`,
		repository, manifest, string(doc), a.Now.UnixMicro(), a.By, a.Now.Add(a.Restore).UnixMicro())
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `insert into trash_needs (repository_id, blob_id, manifest_id)
		select repository_id, blob_id, manifest_id from needs where repository_id = $1 and manifest_id = $2`, repository, manifest)
	return err
}

// unheld says whether no repository but one holds a manifest.
func (t *tx) unheld(ctx context.Context, repository, manifest int64) (bool, error) {
	var held bool
	err := t.row(ctx, `select exists (select 1 from holdings where manifest_id = $1 and repository_id <> $2)`, manifest, repository).Scan(&held)
	return !held, err
}

// fromTrash takes a manifest that was pushed again out of the trash of its repository. Its
// verdict was kept meanwhile.
func (t *tx) fromTrash(ctx context.Context, repository, manifest int64, d oci.Digest, now time.Time) error {
	// What it needs goes with it.
	if _, err := t.exec(ctx, `delete from trash where repository_id = $1 and manifest_id = $2`, repository, manifest); err != nil {
		return err
	}
	alone, err := t.unheld(ctx, repository, manifest)
	if err != nil || !alone {
		return err
	}
	return t.parentsDue(ctx, d, now)
}

// dropUnheld forgets a manifest that no repository holds or has in its trash, with its
// verdict and inventory. The caller has its row locked.
func (t *tx) dropUnheld(ctx context.Context, manifest int64) error {
	_, err := t.exec(ctx, `delete from manifests where id = $1 and not exists (select 1 from holdings where manifest_id = $1)
		and not exists (select 1 from trash where manifest_id = $1)`, manifest)
	return err
}

// Trash returns up to limit manifests in the trash of the repositories whose names begin
// with prefix, by repository. next is the after of the page that follows, "" at the end.
func (c *Catalog) Trash(ctx context.Context, prefix, after string, limit int) (out []Trashed, next string, err error) {
	repo, mark, _ := strings.Cut(after, "@")
	id, _ := strconv.ParseInt(mark, 10, 64) // what is no mark begins with the repository
	limit = page(limit)
	rows, err := c.read.query(ctx, `select m.id, r.name, m.digest, m.media_type, m.content_size, t.tags, t.pushed_at, t.pushed_by, t.deleted_at, t.deleted_by, t.until
		from repositories r
		join trash t on t.repository_id = r.id
		join manifests m on m.id = t.manifest_id
		where r.name >= $1 and r.name < $2 and (r.name > $3 or t.manifest_id > $4)
		order by r.name, t.manifest_id limit $5`, max(prefix, repo), prefix+"\x7f", repo, id, limit)
	out, err = collect(rows, err, func(r *sql.Rows) (Trashed, error) {
		d, err := scanTrashed(r, &id)
		return d, err
	})
	if err != nil {
		return nil, "", fmt.Errorf("trash of %q: %w", prefix, err)
	}
	if len(out) == limit {
		next = out[limit-1].Repo + "@" + strconv.FormatInt(id, 10)
	}
	return out, next, nil
}

func scanTrashed(r *sql.Rows, id *int64) (Trashed, error) {
	var d Trashed
	var digest, doc string
	var pushed, deleted, until int64
	err := r.Scan(id, &d.Repo, &digest, &d.MediaType, &d.Size, &doc, &pushed, &d.PushedBy, &deleted, &d.DeletedBy, &until)
	if err != nil {
		return d, err
	}
	d.PushedAt, d.DeletedAt, d.Until = fromMicros(&pushed), fromMicros(&deleted), fromMicros(&until)
	tags, err := readTrashedTags(doc)
	if err != nil {
		return d, err
	}
	d.Tags = make([]string, len(tags))
	for i, t := range tags {
		d.Tags[i] = t.Name
	}
	d.Digest, err = oci.ParseDigest(digest)
	return d, err
}

// Restored is what the restoring of a manifest came to.
type Restored struct {
	Tags []string // that name it again
	Left []string // that named it, and were pointed elsewhere since
}

// RestoreManifest takes a manifest out of the trash, with the tags that named it and are
// free. Its verdict stands as it was kept, and is due. ErrNotFound if it is not in the trash of
// repo, ErrNoRepository if not even repo exists.
func (c *Catalog) RestoreManifest(ctx context.Context, repo oci.Repository, d oci.Digest, a Act) (Restored, error) {
	a = c.actNow(a)
	var out Restored
	err := c.onConflict(ctx, func(t *tx) (err error) {
		out, err = t.restore(ctx, repo, d, a)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		err = c.noRepository(ctx, repo, err)
	}
	if err != nil {
		return Restored{}, fmt.Errorf("restore %s of %s: %w", d, repo, err)
	}
	return out, nil
}

// lockTrashed finds a manifest in the trash, and holds it until the transaction ends.
func (t *tx) lockTrashed(ctx context.Context, repo oci.Repository, d oci.Digest) (repository, manifest int64, doc string, err error) {
	err = t.row(ctx, `select id from manifests where digest = $1`+t.engine.forUpdate, d.String()).Scan(&manifest)
	if err != nil {
		return 0, 0, "", err
	}
	err = t.row(ctx, `select repository_id, tags from trash where manifest_id = $2
		and repository_id = (select id from repositories where name = $1)`+t.engine.forUpdate, repo.String(), manifest).Scan(&repository, &doc)
	return repository, manifest, doc, err
}

func (t *tx) restore(ctx context.Context, repo oci.Repository, d oci.Digest, a Act) (out Restored, err error) {
	repository, manifest, doc, err := t.lockTrashed(ctx, repo, d)
	if err != nil {
		return out, err
	}
	if err := t.repositoryLocked(ctx, repository, LockWrite); err != nil {
		return out, err
	}
	tags, err := readTrashedTags(doc)
	if err != nil {
		return out, err
	}
	for _, text := range []string{
		`insert into holdings (repository_id, manifest_id, pushed_at, pushed_by, closed)
			select repository_id, manifest_id, pushed_at, pushed_by, closed from trash where repository_id = $1 and manifest_id = $2`,
		`insert into needs (repository_id, blob_id, manifest_id)
			select repository_id, blob_id, manifest_id from trash_needs where repository_id = $1 and manifest_id = $2`,
	} {
		if _, err := t.exec(ctx, text, repository, manifest); err != nil {
			return out, err
		}
	}
	if err := t.fromTrash(ctx, repository, manifest, d, a.Now); err != nil {
		return out, err
	}
	if _, err := t.exec(ctx, `update verdicts set due_at = $2, generation = generation + 1 where manifest_id = $1`, manifest, a.Now.UnixMicro()); err != nil {
		return out, err
	}
	moves := []Move{{Kind: MoveRestore, Digest: d}}
	for _, tag := range tags {
		n, err := t.exec(ctx, `insert into tags (repository_id, name, manifest_id, moved_at, moved_by, closed) values ($1, $2, $3, $4, $5, $6)
			on conflict (repository_id, name) do nothing`, repository, tag.Name, manifest, a.Now.UnixMicro(), a.By, tag.Closed)
		if err != nil {
			return out, err
		}
		if n == 0 {
			out.Left = append(out.Left, tag.Name)
			continue
		}
		out.Tags = append(out.Tags, tag.Name)
		moves = append(moves, Move{Kind: MoveTag, Tag: tag.Name, Digest: d})
	}
	if err := t.moved(ctx, repository, a, moves...); err != nil {
		return out, err
	}
	add := rules.Usage{Tags: int64(len(out.Tags))}
	if err := t.fits(ctx, repository, add); err != nil {
		return out, err
	}
	return out, t.use(ctx, repository, used{tags: add.Tags, manifests: 1})
}

// PurgeManifest removes a manifest from the trash of repo for good. ErrNotFound if it is not
// there, ErrNoRepository if not even repo exists.
func (c *Catalog) PurgeManifest(ctx context.Context, repo oci.Repository, d oci.Digest, a Act) error {
	a = c.actNow(a)
	err := c.onConflict(ctx, func(t *tx) error {
		repository, manifest, _, err := t.lockTrashed(ctx, repo, d)
		if err != nil {
			return err
		}
		if err := t.repositoryLocked(ctx, repository, LockDelete); err != nil {
			return err
		}
		return t.purge(ctx, repository, manifest, d, a)
	})
	if errors.Is(err, ErrNotFound) {
		err = c.noRepository(ctx, repo, err)
	}
	if err != nil {
		return fmt.Errorf("purge %s of %s: %w", d, repo, err)
	}
	return nil
}

// purge removes a manifest from the trash. The caller has its row locked.
func (t *tx) purge(ctx context.Context, repository, manifest int64, d oci.Digest, a Act) error {
	if err := one(t.exec(ctx, `delete from trash where repository_id = $1 and manifest_id = $2`, repository, manifest)); err != nil {
		return err
	}
	if err := t.moved(ctx, repository, a, Move{Kind: MovePurge, Digest: d}); err != nil {
		return err
	}
	return t.dropUnheld(ctx, manifest)
}

// trashEntry is a manifest in a repository's trash.
type trashEntry struct {
	repository, manifest int64
	digest               oci.Digest
}

func scanTrashEntry(r *sql.Rows) (trashEntry, error) {
	var e trashEntry
	var digest string
	if err := r.Scan(&e.repository, &e.manifest, &digest); err != nil {
		return e, err
	}
	var err error
	e.digest, err = oci.ParseDigest(digest)
	return e, err
}

// PurgeTrash removes up to limit manifests from the trash whose time there is over at now.
// With dry it only counts them.
func (c *Catalog) PurgeTrash(ctx context.Context, now time.Time, limit int, dry bool) (Pruned, error) {
	var p Pruned
	rows, err := c.read.query(ctx, `select t.repository_id, t.manifest_id, m.digest from trash t join manifests m on m.id = t.manifest_id
		where t.until <= $1 order by t.until limit $2`, now.UnixMicro(), page(limit))
	old, err := collect(rows, err, scanTrashEntry)
	p.Removed, p.More = len(old), len(old) == page(limit) && !dry
	if err == nil && !dry && len(old) > 0 {
		err = c.onConflict(ctx, func(t *tx) error {
			p.Removed = 0
			return t.purgeAll(ctx, old, Act{Now: now}, func() { p.Removed++ })
		})
	}
	if err != nil {
		return Pruned{}, fmt.Errorf("purge the trash: %w", err)
	}
	return p, nil
}

// purgeAll purges those of the entries that are still there and whose time is over.
func (t *tx) purgeAll(ctx context.Context, old []trashEntry, a Act, done func()) error {
	for _, e := range old {
		var over bool
		err := t.row(ctx, `select id from manifests where id = $1`+t.engine.forUpdate, e.manifest).Scan(new(int64))
		if err == nil {
			err = t.row(ctx, `select until <= $3 from trash where repository_id = $1 and manifest_id = $2`, e.repository, e.manifest, a.Now.UnixMicro()).Scan(&over)
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if !over {
			continue // restored, pushed again or purged since
		}
		if err := t.purge(ctx, e.repository, e.manifest, e.digest, a); err != nil {
			return err
		}
		done()
	}
	return nil
}

// purgeNeeding purges what of a repository's trash needs a blob.
func (t *tx) purgeNeeding(ctx context.Context, repository, blob int64, a Act) error {
	rows, err := t.query(ctx, `select n.repository_id, n.manifest_id, m.digest from trash_needs n join manifests m on m.id = n.manifest_id
		where n.repository_id = $1 and n.blob_id = $2 order by n.manifest_id`, repository, blob)
	entries, err := collect(rows, err, scanTrashEntry)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := t.row(ctx, `select id from manifests where id = $1`+t.engine.forUpdate, e.manifest).Scan(new(int64)); err != nil {
			return err
		}
		if err := t.purge(ctx, repository, e.manifest, e.digest, a); err != nil {
			return err
		}
	}
	return nil
}

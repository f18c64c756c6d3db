package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"pratique.dev/pratique/internal/oci"
)

// DeleteManifest takes a manifest and the tags that name it out of repo, to its trash if
// a.Restore says so. With the last repository that holds it, indexes that list it become
// due; with the last that has it in its trash, its verdict and inventory go. ErrNotFound or ErrNoRepository if repo does not hold it,
// ErrCondition if a.If does not hold.
func (c *Catalog) DeleteManifest(ctx context.Context, repo oci.Repository, d oci.Digest, a Act) error {
	a = c.actNow(a)
	err := c.onConflict(ctx, func(t *tx) error { return t.deleteManifest(ctx, repo, d, a) })
	if errors.Is(err, ErrNotFound) {
		err = c.noRepository(ctx, repo, err)
	}
	if err != nil {
		return fmt.Errorf("delete manifest %s of %s: %w", d, repo, err)
	}
	return nil
}

func (t *tx) deleteManifest(ctx context.Context, repo oci.Repository, d oci.Digest, a Act) error {
	// Held against a push of the same manifest, here or elsewhere.
	var repository, manifest int64
	err := t.row(ctx, `select m.id from manifests m where m.digest = $1`+t.engine.forUpdate, d.String()).Scan(&manifest)
	if err != nil {
		return err
	}
	if err := t.row(ctx, `select id from repositories where name = $1`, repo.String()).Scan(&repository); err != nil {
		return err
	}
	if err := t.repositoryLocked(ctx, repository, LockDelete); err != nil {
		return err
	}
	if !a.If.holds(d.String()) {
		return ErrCondition
	}
	tags, err := t.untagAll(ctx, repository, manifest, d, a)
	if err != nil {
		return err
	}
	if a.Restore > 0 {
		if err := t.discard(ctx, repository, manifest, tags, a); err != nil {
			return err
		}
	}
	// Needs go with the holding.
	if err := one(t.exec(ctx, `delete from holdings where repository_id = $1 and manifest_id = $2`, repository, manifest)); err != nil {
		return err
	}
	if err := t.moved(ctx, repository, a, Move{Kind: MoveDelete, Digest: d}); err != nil {
		return err
	}
	gone, err := t.unheld(ctx, repository, manifest)
	if err != nil {
		return err
	}
	if gone {
		if err := t.parentsDue(ctx, d, a.Now); err != nil {
			return err
		}
	}
	if err := t.dropUnheld(ctx, manifest); err != nil {
		return err
	}
	return t.use(ctx, repository, used{tags: -int64(len(tags)), manifests: -1})
}

// untagAll removes all tags that name a manifest, and returns them; the caller counts them out.
func (t *tx) untagAll(ctx context.Context, repository, manifest int64, d oci.Digest, a Act) ([]trashedTag, error) {
	// The holding first, as a push does that points a tag at it.
	var held int64
	if err := t.row(ctx, `select 1 from holdings where repository_id = $1 and manifest_id = $2`+t.engine.forUpdate, repository, manifest).Scan(&held); err != nil {
		return nil, err
	}
	if err := t.holdingLocked(ctx, repository, manifest, LockDelete); err != nil {
		return nil, err
	}
	rows, err := t.query(ctx, `delete from tags where repository_id = $1 and manifest_id = $2 returning name, closed`, repository, manifest)
	tags, err := collect(rows, err, func(r *sql.Rows) (trashedTag, error) {
		var tag trashedTag
		return tag, r.Scan(&tag.Name, &tag.Closed)
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(tags, func(a, b trashedTag) int { return strings.Compare(a.Name, b.Name) })
	moves := make([]Move, len(tags))
	for i, tag := range tags {
		if err := t.guardTag(ctx, repository, tag.Name, d, "be deleted"); err != nil {
			return nil, err
		}
		if Locks(tag.Closed)&LockDelete != 0 {
			return nil, t.refuseLocked(ctx, repository, oci.Reference{Tag: tag.Name}, LockDelete)
		}
		moves[i] = Move{Kind: MoveUntag, Tag: tag.Name, Digest: d}
	}
	return tags, t.moved(ctx, repository, a, moves...)
}

// DeleteTag takes a tag out of repo; the manifest stays. A *Locked if a lock
// forbids it, ErrCondition if a.If does not hold, ErrNotFound or ErrNoRepository if there is none.
func (c *Catalog) DeleteTag(ctx context.Context, repo oci.Repository, tag string, a Act) error {
	a = c.actNow(a)
	err := c.tx(ctx, func(t *tx) error { return t.deleteTag(ctx, repo, tag, a) })
	if errors.Is(err, ErrNotFound) {
		err = c.noRepository(ctx, repo, err)
	}
	if err != nil {
		return fmt.Errorf("delete tag %s of %s: %w", tag, repo, err)
	}
	return nil
}

func (t *tx) deleteTag(ctx context.Context, repo oci.Repository, tag string, a Act) error {
	rows, err := t.query(ctx, `delete from tags where name = $2 and repository_id = (select id from repositories where name = $1)
		returning repository_id, closed, (select digest from manifests m where m.id = manifest_id)`, repo.String(), tag)
	var repository int64
	var closed Locks
	named, err := collect(rows, err, func(r *sql.Rows) (oci.Digest, error) {
		var s string
		if err := r.Scan(&repository, &closed, &s); err != nil {
			return oci.Digest{}, err
		}
		return oci.ParseDigest(s)
	})
	if err != nil {
		return err
	}
	if len(named) == 0 {
		return ErrNotFound
	}
	if !a.If.holds(named[0].String()) {
		return fmt.Errorf("%w: it is %q now", ErrCondition, named[0])
	}
	if err := t.guardTag(ctx, repository, tag, named[0], "be deleted"); err != nil {
		return err
	}
	if closed&LockDelete != 0 {
		return t.refuseLocked(ctx, repository, oci.Reference{Tag: tag}, LockDelete)
	}
	if err := t.repositoryLocked(ctx, repository, LockDelete); err != nil {
		return err
	}
	if err := t.moved(ctx, repository, a, Move{Kind: MoveUntag, Tag: tag, Digest: named[0]}); err != nil {
		return err
	}
	return t.use(ctx, repository, used{tags: -1})
}

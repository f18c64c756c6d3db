package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/rules"
)

// Kinds of a Move.
const (
	MovePush    = "push"    // a manifest became part of the repository
	MoveTag     = "tag"     // a tag was made, or pointed elsewhere
	MoveUntag   = "untag"   // a tag was removed
	MoveDelete  = "delete"  // a manifest was deleted; it may be in the trash
	MoveRestore = "restore" // it was taken out of the trash
	MovePurge   = "purge"   // it is gone from the trash
)

// Move is one thing that became of a repository's manifests and tags.
type Move struct {
	ID     int64 // rises with the moves of one tag
	Kind   string
	Tag    string     // "" where the manifest itself is meant
	Digest oci.Digest // that the tag names since, or for MoveUntag named before
	At     time.Time
	By     string
}

// Act is who does something, and when.
type Act struct {
	By  string
	Now time.Time // zero: by the catalog's clock
	// Restore is how long what is deleted can be had back; 0 or less: not at all.
	Restore time.Duration
	// If must hold of what is deleted for it to be deleted; its Tag is not used.
	If Condition
	Trace
	unaudited bool // it was done before, and is only written down again
}

func (c *Catalog) actNow(a Act) Act {
	if a.Now.IsZero() {
		a.Now = c.now()
	}
	return a
}

const historyInsert = `insert into history (repository_id, kind, tag, digest, at, caused_by) values %s`

// moved writes down what became of a repository. The caller holds the rows that it was done to.
func (t *tx) moved(ctx context.Context, repository int64, a Act, moves ...Move) error {
	rows := make([][]any, len(moves))
	for i, m := range moves {
		rows[i] = []any{repository, m.Kind, m.Tag, m.Digest.String(), a.Now.UnixMicro(), a.By}
	}
	if err := t.insert(ctx, historyInsert, rows); err != nil || len(moves) == 0 || a.unaudited {
		return err
	}
	repo, err := t.repositoryName(ctx, repository)
	if err != nil {
		return err
	}
	return t.auditMoves(ctx, a, repo.String(), moves)
}

// auditMoves writes one record of what one act did to a repository.
func (t *tx) auditMoves(ctx context.Context, a Act, repo string, moves []Move) error {
	first := moves[0]
	target := repo + "@" + first.Digest.String()
	var tags []string
	for _, m := range moves {
		if m.Tag != "" {
			tags = append(tags, m.Tag)
		}
	}
	if len(tags) == 1 {
		target = repo + ":" + tags[0]
	}
	return t.audit(ctx, a, first.Kind, target, struct {
		Digest string   `json:"digest"`
		Tags   []string `json:"tags,omitempty"`
	}{first.Digest.String(), tags})
}

// used is what came to a repository, or with less than 0 left it.
type used struct{ bytes, tags, manifests int64 }

// use counts what came to a repository. It is the last that a transaction does to a
// repository, whose other pushes wait for its end on PostgreSQL.
func (t *tx) use(ctx context.Context, repository int64, u used) error {
	if u == (used{}) {
		return nil
	}
	_, err := t.exec(ctx, `insert into usage (repository_id, bytes, tags, manifests) values ($1, $2, $3, $4)
		on conflict (repository_id) do update set bytes = usage.bytes + excluded.bytes, tags = usage.tags + excluded.tags,
			manifests = usage.manifests + excluded.manifests`, repository, u.bytes, u.tags, u.manifests)
	return err
}

// pointed is what pointing a tag at a manifest came to.
type pointed struct {
	made  bool // there was no such tag
	moved bool // it named something else or nothing before
}

// point points a tag at a manifest. A fresh one is not to be there: ErrCondition.
func (t *tx) point(ctx context.Context, repository, manifest int64, tag string, fresh bool, a Act) (pointed, error) {
	for range maxTries {
		n, err := t.exec(ctx, `insert into tags (repository_id, name, manifest_id, moved_at, moved_by) values ($1, $2, $3, $4, $5)
			on conflict (repository_id, name) do nothing`, repository, tag, manifest, a.Now.UnixMicro(), a.By)
		if err != nil || n > 0 {
			return pointed{made: true, moved: true}, err
		}
		if fresh {
			return pointed{}, ErrCondition
		}
		var was int64
		var closed Locks
		err = t.row(ctx, `select manifest_id, closed from tags where repository_id = $1 and name = $2`+t.engine.forUpdate, repository, tag).Scan(&was, &closed)
		if errors.Is(err, sql.ErrNoRows) {
			continue // another transaction has removed it since
		}
		if err != nil {
			return pointed{}, err
		}
		if was != manifest {
			if err := t.guardMove(ctx, repository, tag, was); err != nil {
				return pointed{}, err
			}
			if err := t.moveLocked(ctx, repository, tag, closed, was); err != nil {
				return pointed{}, err
			}
		}
		_, err = t.exec(ctx, `update tags set manifest_id = $3, moved_at = $4, moved_by = $5 where repository_id = $1 and name = $2`,
			repository, tag, manifest, a.Now.UnixMicro(), a.By)
		return pointed{moved: was != manifest}, err
	}
	return pointed{}, fmt.Errorf("tag %s: %w", tag, ErrConflict)
}

// moveLocked returns a *Locked if a tag must not be pointed away from a manifest.
func (t *tx) moveLocked(ctx context.Context, repository int64, tag string, closed Locks, was int64) error {
	if closed&LockWrite != 0 {
		return t.refuseLocked(ctx, repository, oci.Reference{Tag: tag}, LockWrite)
	}
	return t.holdingLocked(ctx, repository, was, LockWrite)
}

// TagHistory returns up to limit moves of a tag from before the one with an id, the newest
// first; with before 0 from the newest on. A tag that is gone has a history too.
// ErrNoRepository if there is no repo.
func (c *Catalog) TagHistory(ctx context.Context, repo oci.Repository, tag string, before int64, limit int) ([]Move, error) {
	if before <= 0 {
		before = 1<<63 - 1
	}
	rows, err := c.read.query(ctx, tagHistoryText, repo.String(), tag, before, page(limit))
	out, err := collect(rows, err, scanMove)
	if err == nil && len(out) == 0 {
		err = c.noRepository(ctx, repo, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("history of %s:%s: %w", repo, tag, err)
	}
	return out, nil
}

const tagHistoryText = `select h.id, h.kind, h.tag, h.digest, h.at, h.caused_by from history h
	where h.repository_id = (select id from repositories where name = $1) and h.tag = $2 and h.id < $3
	order by h.id desc limit $4`

func scanMove(r *sql.Rows) (Move, error) {
	var m Move
	var digest string
	var at int64
	err := r.Scan(&m.ID, &m.Kind, &m.Tag, &digest, &at, &m.By)
	if err != nil {
		return Move{}, err
	}
	m.At = fromMicros(&at)
	m.Digest, err = oci.ParseDigest(digest)
	return m, err
}

// Undone is what undoing a tag's last move came to.
type Undone struct {
	From, To oci.Digest // From is zero where the tag had been removed
}

// What UndoTag reports, for errors.Is.
var (
	// ErrNothingBefore says that a tag named nothing before its last move.
	ErrNothingBefore = errors.New("the tag named nothing before")
	// ErrManifestGone says that the repository does not hold the manifest any more.
	ErrManifestGone = errors.New("the manifest is gone")
)

// UndoTag points a tag back to what it named before its last move; a second UndoTag takes
// back the first. ErrNotFound if nothing is known of the tag, ErrNothingBefore and
// ErrManifestGone if there is nothing to point it back to: Undone.To says what that was.
func (c *Catalog) UndoTag(ctx context.Context, repo oci.Repository, tag string, a Act) (Undone, error) {
	a = c.actNow(a)
	var u Undone
	err := c.tx(ctx, func(t *tx) (err error) {
		u, err = t.undoTag(ctx, repo, tag, a)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		err = c.noRepository(ctx, repo, err)
	}
	if err != nil {
		return u, fmt.Errorf("undo the last move of %s:%s: %w", repo, tag, err)
	}
	return u, nil
}

func (t *tx) undoTag(ctx context.Context, repo oci.Repository, tag string, a Act) (Undone, error) {
	var repository int64
	if err := t.row(ctx, `select id from repositories where name = $1`, repo.String()).Scan(&repository); err != nil {
		return Undone{}, err
	}
	if err := t.repositoryLocked(ctx, repository, LockWrite); err != nil {
		return Undone{}, err
	}
	// Held against other moves of the tag, if it is there.
	var from string
	err := t.row(ctx, taggedText+t.engine.forUpdate, repository, tag).Scan(&from)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return Undone{}, err
	}
	rows, err := t.query(ctx, tagHistoryText, repo.String(), tag, int64(1<<63-1), 2)
	last, err := collect(rows, err, scanMove)
	if err != nil {
		return Undone{}, err
	}
	if len(last) == 0 {
		return Undone{}, ErrNotFound
	}
	u, err := before(last)
	if err != nil {
		return u, err
	}
	if from != "" {
		if u.From, err = oci.ParseDigest(from); err != nil {
			return u, err
		}
	}
	var manifest int64
	err = t.row(ctx, `select m.id from manifests m join holdings h on h.repository_id = $1 and h.manifest_id = m.id where m.digest = $2`+t.engine.forUpdate,
		repository, u.To.String()).Scan(&manifest)
	if errors.Is(err, sql.ErrNoRows) {
		return u, ErrManifestGone
	}
	if err != nil {
		return u, err
	}
	return u, t.pointBack(ctx, repository, manifest, tag, u.To, a)
}

// before says what a tag named before its last move, given that and the one before.
func before(last []Move) (Undone, error) {
	switch {
	case last[0].Kind == MoveUntag:
		return Undone{To: last[0].Digest}, nil
	case len(last) > 1 && last[1].Kind == MoveTag:
		return Undone{To: last[1].Digest}, nil
	}
	return Undone{}, ErrNothingBefore
}

// pointBack points a tag at a manifest that the repository holds.
func (t *tx) pointBack(ctx context.Context, repository, manifest int64, tag string, d oci.Digest, a Act) error {
	p, err := t.point(ctx, repository, manifest, tag, false, a)
	if err != nil || !p.moved {
		return err
	}
	if err := t.holdingLocked(ctx, repository, manifest, LockWrite); err != nil {
		return err
	}
	if err := t.moved(ctx, repository, a, Move{Kind: MoveTag, Tag: tag, Digest: d}); err != nil {
		return err
	}
	if p.made {
		if err := t.fits(ctx, repository, rules.Usage{Tags: 1}); err != nil {
			return err
		}
		return t.use(ctx, repository, used{tags: 1})
	}
	return nil
}

package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"pratique.dev/pratique/internal/oci"
)

// Entry is one entry of a repository's history, with what the blob store has to know to
// make the catalog again.
type Entry struct {
	ID     int64     `json:"id,omitempty"` // they rise; 0 of what stands, as All gives it
	Repo   string    `json:"repo"`
	Kind   string    `json:"kind"` // push, tag, untag, delete, restore or purge
	Tag    string    `json:"tag,omitempty"`
	Digest string    `json:"digest"`
	Type   string    `json:"type,omitempty"` // the manifest's media type, "" if it is gone
	At     time.Time `json:"at"`
	By     string    `json:"by,omitempty"`
}

func scanEntry(r *sql.Rows) (Entry, error) {
	var m Entry
	var at int64
	err := r.Scan(&m.ID, &m.Repo, &m.Kind, &m.Tag, &m.Digest, &m.Type, &at, &m.By)
	m.At = fromMicros(&at)
	return m, err
}

// Unjournaled returns up to limit moves, the oldest first, that the blob store does not
// know of yet.
func (c *Catalog) Unjournaled(ctx context.Context, limit int) ([]Entry, error) {
	rows, err := c.read.query(ctx, `select h.id, r.name, h.kind, h.tag, h.digest, coalesce(m.media_type, ''), h.at, h.caused_by
		from history h join repositories r on r.id = h.repository_id left join manifests m on m.digest = h.digest
		where h.journaled = 0 order by h.id limit $1`, page(limit))
	out, err := collect(rows, err, scanEntry)
	if err != nil {
		return nil, fmt.Errorf("moves to journal: %w", err)
	}
	return out, nil
}

// IsUnjournaled says whether there is a move of a manifest that the blob store does not know
// of yet.
func (c *Catalog) IsUnjournaled(ctx context.Context, d oci.Digest) (bool, error) {
	var is bool
	err := c.read.row(ctx, `select exists (select 1 from history h where h.journaled = 0 and h.digest = $1)`, d.String()).Scan(&is)
	if err != nil {
		return false, fmt.Errorf("moves of %s to journal: %w", d, asKnown(err))
	}
	return is, nil
}

// MarkJournaled notes that the blob store knows of moves.
func (c *Catalog) MarkJournaled(ctx context.Context, moves []Entry) error {
	ids := make([]int64, len(moves))
	for i, m := range moves {
		ids[i] = m.ID
	}
	err := c.tx(ctx, func(t *tx) error {
		return t.eachOfIDs(ctx, `update history set journaled = 1 where id in (%s)`, ids, nil)
	})
	if err != nil {
		return fmt.Errorf("mark moves as journaled: %w", err)
	}
	return nil
}

// LastMove returns the id of the newest move, 0 if there is none.
func (c *Catalog) LastMove(ctx context.Context) (int64, error) {
	var id int64
	err := c.read.row(ctx, `select coalesce(max(id), 0) from history`).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("newest move: %w", asKnown(err))
	}
	return id, nil
}

// All calls do with a push for each manifest that a repository holds and a tag for each
// tag, all as they stood at one moment, and returns the id of the newest move before it.
func (c *Catalog) All(ctx context.Context, do func(Entry) error) (last int64, err error) {
	o := &sql.TxOptions{ReadOnly: true}
	if c.engine.name == postgresEngine.name {
		o.Isolation = sql.LevelRepeatableRead
	}
	raw, err := c.read.db.BeginTx(ctx, o)
	if err != nil {
		return 0, fmt.Errorf("read all: %w", asKnown(err))
	}
	defer raw.Rollback()
	t := &tx{Tx: raw, engine: c.engine, p: c.read}
	if err := t.row(ctx, `select coalesce(max(id), 0) from history`).Scan(&last); err != nil {
		return 0, fmt.Errorf("read all: %w", asKnown(err))
	}
	for _, text := range []string{
		`select 0, r.name, 'push', '', m.digest, m.media_type, h.pushed_at, h.pushed_by from repositories r
			join holdings h on h.repository_id = r.id join manifests m on m.id = h.manifest_id`,
		`select 0, r.name, 'tag', t.name, m.digest, m.media_type, t.moved_at, t.moved_by from repositories r
			join tags t on t.repository_id = r.id join manifests m on m.id = t.manifest_id`,
	} {
		err := each(func(r *sql.Rows) error {
			m, err := scanEntry(r)
			if err == nil {
				err = do(m)
			}
			return err
		})(t.query(ctx, text))
		if err != nil {
			return 0, fmt.Errorf("read all: %w", asKnown(err))
		}
	}
	return last, nil
}

// Remade is a manifest that is made part of its repository again from what the blob store
// knows of it.
type Remade struct {
	Repo     oci.Repository
	Manifest oci.Manifest
	PushedAt time.Time
	PushedBy string
	Tags     []RemadeTag
	// Sizes are of those of its blobs whose bytes are there. Others count as damaged, but
	// layers with foreign URLs, which may lie elsewhere.
	Sizes map[oci.Digest]int64
}

// RemadeTag is a tag that named it.
type RemadeTag struct {
	Name string
	At   time.Time
	By   string
}

// Remake makes manifests part of their repositories again, pending and due, in one
// transaction. Unlike PutManifest it takes them with parts missing, as they may have been
// when the catalog was lost, and keeps who pushed them when.
func (c *Catalog) Remake(ctx context.Context, list []Remade) error {
	err := c.tx(ctx, func(t *tx) error {
		for _, m := range list {
			if err := t.remake(ctx, m); err != nil {
				return fmt.Errorf("%s of %s: %w", m.Manifest.Digest, m.Repo, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remake manifests: %w", err)
	}
	return nil
}

func (t *tx) remake(ctx context.Context, m Remade) error {
	repository, err := t.makeRepository(ctx, m.Repo, m.PushedAt)
	if err != nil {
		return err
	}
	size, blobs, err := t.remakeBlobs(ctx, repository, m)
	if err != nil {
		return err
	}
	if m.Manifest.IsIndex() {
		if size, err = t.checkChildren(ctx, repository, m.Manifest.Manifests); errors.As(err, new(*Missing)) {
			err = nil // a child may have been deleted
		}
		if err != nil {
			return err
		}
	}
	id, _, err := t.makeManifest(ctx, NewManifest{Repo: m.Repo, Manifest: m.Manifest, By: m.PushedBy, Now: m.PushedAt}, size)
	if err != nil {
		return err
	}
	made, err := t.exec(ctx, `insert into holdings (repository_id, manifest_id, pushed_at, pushed_by) values ($1, $2, $3, $4)
		on conflict (repository_id, manifest_id) do nothing`, repository, id, m.PushedAt.UnixMicro(), m.PushedBy)
	if err != nil {
		return err
	}
	d := m.Manifest.Digest
	if err := t.moved(ctx, repository, Act{By: m.PushedBy, Now: m.PushedAt, unaudited: true}, Move{Kind: MovePush, Digest: d}); err != nil {
		return err
	}
	if err := t.need(ctx, repository, id, blobs); err != nil {
		return err
	}
	for _, tag := range m.Tags {
		if _, err := t.exec(ctx, `insert into tags (repository_id, name, manifest_id, moved_at, moved_by) values ($1, $2, $3, $4, $5)`,
			repository, tag.Name, id, tag.At.UnixMicro(), tag.By); err != nil {
			return err
		}
		if err := t.moved(ctx, repository, Act{By: tag.By, Now: tag.At, unaudited: true}, Move{Kind: MoveTag, Tag: tag.Name, Digest: d}); err != nil {
			return err
		}
	}
	return t.use(ctx, repository, used{tags: int64(len(m.Tags)), manifests: made})
}

// remakeBlobs lists the blobs of a manifest as its repository's, and returns their size
// and ids.
func (t *tx) remakeBlobs(ctx context.Context, repository int64, m Remade) (size int64, ids []int64, err error) {
	for i, d := range m.Manifest.Blobs() {
		size += d.Size
		n, there := m.Sizes[d.Digest]
		var damaged any
		if !there {
			if i > 0 && len(d.URLs) > 0 {
				continue
			}
			n, damaged = d.Size, m.PushedAt.UnixMicro()
		}
		var id int64
		err := t.row(ctx, `insert into blobs (digest, size, touched_at, damaged_at) values ($1, $2, $3, $4)
			on conflict (digest) do update set touched_at = excluded.touched_at returning id`,
			d.Digest.String(), n, m.PushedAt.UnixMicro(), damaged).Scan(&id)
		if err == nil {
			err = t.link(ctx, repository, id, m.PushedAt)
		}
		if err != nil {
			return 0, nil, err
		}
		ids = append(ids, id)
	}
	return size, ids, nil
}

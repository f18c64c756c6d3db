package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"pratique.dev/pratique/internal/oci"
)

// RetainedTag is a tag as retention needs it.
type RetainedTag struct {
	Name   string
	Digest oci.Digest
	Set    time.Time // when it was last set
	Pulled time.Time // when its manifest was last pulled from the repository, by whatever name; zero: never
	Locked bool      // it, its manifest or its repository must not be deleted
}

// RetainedTags returns up to limit tags of repo that sort behind after, in the order of bytes.
func (c *Catalog) RetainedTags(ctx context.Context, repo oci.Repository, after string, limit int) ([]RetainedTag, error) {
	rows, err := c.read.query(ctx, `select t.name, m.digest, t.moved_at, t.pulled_at, h.pulled_at, r.closed | h.closed | t.closed
		from repositories r
		join tags t on t.repository_id = r.id
		join holdings h on h.repository_id = t.repository_id and h.manifest_id = t.manifest_id
		join manifests m on m.id = t.manifest_id
		where r.name = $1 and t.name > $2 order by t.name limit $3`, repo.String(), after, page(limit))
	out, err := collect(rows, err, func(r *sql.Rows) (RetainedTag, error) {
		var t RetainedTag
		var digest string
		var set, closed int64
		var byTag, byAny *int64
		err := r.Scan(&t.Name, &digest, &set, &byTag, &byAny, &closed)
		if err != nil {
			return t, err
		}
		t.Set, t.Pulled, t.Locked = fromMicros(&set), later(fromMicros(byTag), fromMicros(byAny)), Locks(closed)&LockDelete != 0
		t.Digest, err = oci.ParseDigest(digest)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("tags of %s: %w", repo, err)
	}
	return out, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Holds returns which of some manifests repo holds.
func (c *Catalog) Holds(ctx context.Context, repo oci.Repository, digests []oci.Digest) (map[oci.Digest]bool, error) {
	held := map[oci.Digest]bool{}
	for _, d := range digests {
		var n int
		err := c.read.row(ctx, `select 1 from manifests m join holdings h on h.manifest_id = m.id
			where m.digest = $2 and h.repository_id = (select id from repositories where name = $1)`, repo.String(), d.String()).Scan(&n)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, fmt.Errorf("manifests of %s: %w", repo, asKnown(err))
		}
		held[d] = err == nil
	}
	return held, nil
}

// UntaggedManifest is one that nothing in its repository names.
type UntaggedManifest struct {
	ID     int64 // rises in a list
	Digest oci.Digest
	Pushed time.Time
	Pulled time.Time // zero: never
	Locked bool      // it or its repository must not be deleted
}

// unnamed is the condition that a manifest m that repository $1 holds is in none of its indexes, and
// has no subject that it holds.
const unnamed = `not exists (select 1 from children c join holdings p on p.repository_id = $1 and p.manifest_id = c.parent_id where c.child_digest = m.digest)
	and (m.subject is null or not exists (select 1 from manifests s join holdings sh on sh.repository_id = $1 and sh.manifest_id = s.id where s.digest = m.subject))`

// UntaggedManifests returns up to limit manifests that repo holds and that no tag names, no
// index that it holds lists and whose subject it does not hold, with ids above after, pushed
// before a time. It reads all that repo holds from after on to the page's end.
func (c *Catalog) UntaggedManifests(ctx context.Context, repo oci.Repository, before time.Time, after int64, limit int) ([]UntaggedManifest, error) {
	var id, closed int64
	err := c.read.row(ctx, `select id, closed from repositories where name = $1`, repo.String()).Scan(&id, &closed)
	if err != nil {
		return nil, fmt.Errorf("untagged manifests of %s: %w", repo, asKnown(err))
	}
	rows, err := c.read.query(ctx, `select m.id, m.digest, h.pushed_at, h.pulled_at, h.closed
		from holdings h join manifests m on m.id = h.manifest_id
		where h.repository_id = $1 and h.manifest_id > $2 and h.pushed_at < $3
			and not exists (select 1 from tags t where t.repository_id = $1 and t.manifest_id = h.manifest_id)
			and `+unnamed+` order by h.manifest_id limit $4`, id, after, before.UnixMicro(), page(limit))
	out, err := collect(rows, err, func(r *sql.Rows) (UntaggedManifest, error) {
		var m UntaggedManifest
		var digest string
		var pushed, own int64
		var pulled *int64
		err := r.Scan(&m.ID, &digest, &pushed, &pulled, &own)
		if err != nil {
			return m, err
		}
		m.Pushed, m.Pulled, m.Locked = fromMicros(&pushed), fromMicros(pulled), Locks(own|closed)&LockDelete != 0
		m.Digest, err = oci.ParseDigest(digest)
		return m, err
	})
	if err != nil {
		return nil, fmt.Errorf("untagged manifests of %s: %w", repo, err)
	}
	return out, nil
}

// Untagged says for some manifests when the last tag was moved away from them, or removed, as far
// as the history of repo goes back. It reads all of that.
func (c *Catalog) Untagged(ctx context.Context, repo oci.Repository, of map[oci.Digest]time.Time) error {
	tag, id := "", int64(0)
	var named oci.Digest // what the tag names before the row that is looked at
	for {
		rows, err := c.read.query(ctx, `select id, kind, tag, digest, at, caused_by from history
			where repository_id = (select id from repositories where name = $1) and tag > '' and (tag, id) > ($2, $3)
			order by tag, id limit $4`, repo.String(), tag, id, maxPage)
		moves, err := collect(rows, err, scanMove)
		if err != nil {
			return fmt.Errorf("history of %s: %w", repo, err)
		}
		for _, m := range moves {
			if m.Tag != tag {
				named = oci.Digest{}
			}
			if at, ok := of[named]; ok && (m.Kind == MoveUntag || m.Digest != named) && m.At.After(at) {
				of[named] = m.At
			}
			named = m.Digest
			if m.Kind == MoveUntag {
				named = oci.Digest{}
			}
			tag, id = m.Tag, m.ID
		}
		if len(moves) < maxPage {
			return nil
		}
	}
}

// Expiry is what retention is about to delete: the tags that name a manifest, as they were set,
// or a manifest that has none.
type Expiry struct {
	Repo   oci.Repository
	Digest oci.Digest
	Tags   map[string]time.Time // when each was set
}

// Expired is what came of an Expiry.
type Expired struct {
	Tags     []string // that are gone
	Manifest bool     // it is gone with them, to the trash if the Act says so
}

// Expire deletes the tags of an Expiry that still name its manifest and were not set since. The
// manifest goes too if no tag is left, no index that the repository holds lists it and it does
// not hold its subject; else nothing but its tags. What a rule or a lock keeps is an error, and nothing is changed.
// What is there no more is no error.
func (c *Catalog) Expire(ctx context.Context, e Expiry, a Act) (Expired, error) {
	a = c.actNow(a)
	var out Expired
	err := c.onConflict(ctx, func(t *tx) (err error) {
		out, err = t.expire(ctx, e, a)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return Expired{}, nil
	}
	if err != nil {
		return Expired{}, fmt.Errorf("retention of %s in %s: %w", e.Digest, e.Repo, err)
	}
	return out, nil
}

func (t *tx) expire(ctx context.Context, e Expiry, a Act) (out Expired, err error) {
	var repository, manifest int64
	if err := t.row(ctx, `select id from manifests where digest = $1`+t.engine.forUpdate, e.Digest.String()).Scan(&manifest); err != nil {
		return out, err
	}
	if err := t.row(ctx, `select id from repositories where name = $1`, e.Repo.String()).Scan(&repository); err != nil {
		return out, err
	}
	rows, err := t.query(ctx, `select name, moved_at from tags where repository_id = $1 and manifest_id = $2 order by name`+t.engine.forUpdate, repository, manifest)
	left := 0
	_, err = collect(rows, err, func(r *sql.Rows) (string, error) {
		var name string
		var set int64
		err := r.Scan(&name, &set)
		if at, ok := e.Tags[name]; ok && at.UnixMicro() == set {
			out.Tags = append(out.Tags, name)
		} else {
			left++
		}
		return name, err
	})
	if err != nil || len(out.Tags) == 0 && (left > 0 || len(e.Tags) > 0) {
		return Expired{}, err
	}
	if left == 0 {
		var one int
		err := t.row(ctx, `select 1 from manifests m where m.id = $2 and `+unnamed, repository, manifest).Scan(&one)
		if err == nil {
			out.Manifest = true
			return out, t.deleteManifest(ctx, e.Repo, e.Digest, a)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return Expired{}, err
		}
	}
	for _, tag := range out.Tags {
		if err := t.deleteTag(ctx, e.Repo, tag, a); err != nil {
			return Expired{}, err
		}
	}
	return out, nil
}

// Pull is that a manifest was pulled from a repository.
type Pull struct {
	Repo  oci.Repository
	Ref   oci.Reference // the tag or the digest that it was asked for by
	At    time.Time     // the last time
	Count int64         // how often
}

// NotePulls notes how often manifests were pulled, and when last. What is there no more is passed
// over. After a power cut the last ones may be forgotten.
func (c *Catalog) NotePulls(ctx context.Context, pulls []Pull) error {
	err := c.txDerived(ctx, func(t *tx) error {
		for _, p := range pulls {
			if err := t.notePull(ctx, p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note pulls: %w", err)
	}
	return nil
}

// pulled is what a pull sets.
const pulled = ` set pulls = pulls + $4, pulled_at = case when coalesce(pulled_at, 0) < $3 then $3 else pulled_at end
	where repository_id = (select id from repositories where name = $1) and `

func (t *tx) notePull(ctx context.Context, p Pull) error {
	if p.Ref.Tag == "" {
		_, err := t.exec(ctx, `update holdings`+pulled+`manifest_id = (select id from manifests where digest = $2)`, p.Repo.String(), p.Ref.Digest.String(), p.At.UnixMicro(), p.Count)
		return err
	}
	if _, err := t.exec(ctx, `update tags`+pulled+`name = $2`, p.Repo.String(), p.Ref.Tag, p.At.UnixMicro(), p.Count); err != nil {
		return err
	}
	_, err := t.exec(ctx, `update holdings`+pulled+`manifest_id = (select manifest_id from tags
		where repository_id = (select id from repositories where name = $1) and name = $2)`, p.Repo.String(), p.Ref.Tag, p.At.UnixMicro(), p.Count)
	return err
}

package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"pratique.dev/pratique/internal/oci"
)

// Locks is a set of what was closed by hand of a repository, a manifest or a tag.
type Locks int64

// The locks. Of a repository they hold for all that is in it.
const (
	// LockWrite: a tag is not pointed elsewhere, no tag is pointed to or from a manifest,
	// and nothing is put into a repository.
	LockWrite Locks = 1 << iota
	// LockDelete: it is not deleted; what a locked tag names is not deleted either.
	LockDelete
	// LockRead: it is served to nobody.
	LockRead
	// LockList: it is left out of the lists that clients get.
	LockList
)

// AllLocks are all locks there are.
const AllLocks = LockWrite | LockDelete | LockRead | LockList

var lockNames = []struct {
	lock Locks
	name string
}{{LockWrite, "write"}, {LockDelete, "delete"}, {LockRead, "read"}, {LockList, "list"}}

// Names lists the locks as "write", "delete", "read" and "list".
func (l Locks) Names() []string {
	out := []string{}
	for _, n := range lockNames {
		if l&n.lock != 0 {
			out = append(out, n.name)
		}
	}
	return out
}

// ParseLock reads a name that Names gives; false if it is none.
func ParseLock(name string) (Locks, bool) {
	for _, n := range lockNames {
		if n.name == name {
			return n.lock, true
		}
	}
	return 0, false
}

// Locked is the error of what a lock forbids. Nothing was changed.
type Locked struct {
	Repo oci.Repository
	Ref  oci.Reference // of what is locked; zero: all of Repo
	Lock Locks         // that forbids it
}

// What is locked, as in "team/app:1.2".
func (l *Locked) What() string {
	switch {
	case l.Ref.Tag != "":
		return l.Repo.String() + ":" + l.Ref.Tag
	case !l.Ref.Digest.IsZero():
		return l.Repo.String() + "@" + l.Ref.Digest.String()
	}
	return l.Repo.String()
}

// Error implements error.
func (l *Locked) Error() string {
	return fmt.Sprintf("%s is locked (%s)", l.What(), strings.Join(l.Lock.Names(), ", "))
}

// SetLocks closes and opens what ref names in repo, a tag or a manifest, or repo itself if
// ref is zero, and returns what is closed of it then. ErrNotFound if ref names nothing,
// ErrNoRepository if not even repo exists.
func (c *Catalog) SetLocks(ctx context.Context, repo oci.Repository, ref oci.Reference, lock, unlock Locks, a Act) (now Locks, err error) {
	a = c.actNow(a)
	args := []any{repo.String(), int64(lock), int64(AllLocks &^ unlock)}
	text := `update repositories set closed = (closed | $2) & $3 where name = $1 returning closed`
	switch {
	case ref.Tag != "":
		text = `update tags set closed = (closed | $2) & $3
			where repository_id = (select id from repositories where name = $1) and name = $4 returning closed`
		args = append(args, ref.Tag)
	case !ref.Digest.IsZero():
		text = `update holdings set closed = (closed | $2) & $3
			where repository_id = (select id from repositories where name = $1) and manifest_id = (select id from manifests where digest = $4) returning closed`
		args = append(args, ref.Digest.String())
	}
	err = c.tx(ctx, func(t *tx) error {
		if err := t.row(ctx, text, args...).Scan(&now); err != nil {
			return err
		}
		what := (&Locked{Repo: repo, Ref: ref}).What()
		return t.audit(ctx, a, "lock", what, map[string][]string{"lock": lock.Names(), "unlock": unlock.Names(), "now": now.Names()})
	})
	if errors.Is(err, ErrNotFound) {
		err = c.noRepository(ctx, repo, err)
	}
	if err != nil {
		return 0, fmt.Errorf("lock %s %s: %w", repo, ref, err)
	}
	return now, nil
}

// refuseLocked makes the error of what a lock forbids in a repository.
func (t *tx) refuseLocked(ctx context.Context, repository int64, ref oci.Reference, lock Locks) error {
	var name string
	if err := t.row(ctx, `select name from repositories where id = $1`, repository).Scan(&name); err != nil {
		return err
	}
	repo, err := oci.ParseRepository(name)
	if err != nil {
		return err
	}
	return &Locked{repo, ref, lock}
}

// repositoryLocked returns a *Locked if a repository has the lock.
func (t *tx) repositoryLocked(ctx context.Context, repository int64, lock Locks) error {
	var closed Locks
	err := t.row(ctx, `select closed from repositories where id = $1`, repository).Scan(&closed)
	if err != nil || closed&lock == 0 {
		return err
	}
	return t.refuseLocked(ctx, repository, oci.Reference{}, lock)
}

// holdingLocked returns a *Locked if a manifest of a repository has the lock.
func (t *tx) holdingLocked(ctx context.Context, repository, manifest int64, lock Locks) error {
	var closed Locks
	var digest string
	err := t.row(ctx, `select h.closed, m.digest from holdings h join manifests m on m.id = h.manifest_id
		where h.repository_id = $1 and h.manifest_id = $2`, repository, manifest).Scan(&closed, &digest)
	if err != nil || closed&lock == 0 {
		return err
	}
	d, err := oci.ParseDigest(digest)
	if err != nil {
		return err
	}
	return t.refuseLocked(ctx, repository, oci.Reference{Digest: d}, lock)
}

// ReadLock says which of a repository, a manifest and the tag by which ref names it is
// locked against reading, the widest of them; if neither of the first two is, it is the tag.
// ErrNotFound if ref names nothing.
func (c *Catalog) ReadLock(ctx context.Context, repo oci.Repository, ref oci.Reference) (*Locked, error) {
	var whole, holding Locks
	var digest string
	text := `select r.closed, h.closed, m.digest from repositories r
		join tags t on t.repository_id = r.id and t.name = $2
		join holdings h on h.repository_id = r.id and h.manifest_id = t.manifest_id
		join manifests m on m.id = h.manifest_id where r.name = $1`
	if ref.Tag == "" {
		text = `select r.closed, h.closed, m.digest from repositories r
			join manifests m on m.digest = $2
			join holdings h on h.repository_id = r.id and h.manifest_id = m.id where r.name = $1`
	}
	if err := c.read.row(ctx, text, repo.String(), ref.String()).Scan(&whole, &holding, &digest); err != nil {
		return nil, fmt.Errorf("locks of %s %s: %w", repo, ref, asKnown(err))
	}
	d, err := oci.ParseDigest(digest)
	if err != nil {
		return nil, err
	}
	switch {
	case whole&LockRead != 0:
		ref = oci.Reference{}
	case holding&LockRead != 0:
		ref = oci.Reference{Digest: d}
	}
	return &Locked{repo, ref, LockRead}, nil
}

package registry

import (
	"context"
	"fmt"
	"strings"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// LockRefusal is the structured part of DENIED where a lock forbids what was asked.
type LockRefusal struct {
	Locked string   `json:"locked"` // the repository, REPO:TAG or REPO@DIGEST that is locked
	Locks  []string `json:"locks"`  // that forbid it
	ReadOn ReadOn   `json:"readOn"`
}

// refuseLocked says what is locked, against what, and the command that unlocks it.
func refuseLocked(l catalog.Locked) *oci.Error {
	names := l.Lock.Names()
	d := LockRefusal{Locked: l.What(), Locks: names, ReadOn: ReadOn{Command: "pratique unlock " + l.What() + " --" + strings.Join(names, " --")}}
	doing := map[catalog.Locks]string{catalog.LockWrite: "writing", catalog.LockDelete: "deleting", catalog.LockRead: "reading", catalog.LockList: "listing"}
	return &oci.Error{Code: oci.CodeDenied, Detail: d,
		Message: fmt.Sprintf("%s is locked against %s; who may configure the registry unlocks it by '%s'", d.Locked, doing[l.Lock], d.ReadOn.Command)}
}

// readLocked returns why what ref names in repo is not read, given the locks of the two and of
// the repository together; nil if none of them forbids it.
func (r *Registry) readLocked(ctx context.Context, repo oci.Repository, ref oci.Reference, closed catalog.Locks) error {
	if closed&catalog.LockRead == 0 {
		return nil
	}
	l, err := r.cat.ReadLock(ctx, repo, ref)
	if err != nil {
		r.o.Log.ErrorContext(ctx, "refusal not explained", "image", image(repo, ref.String()), "err", err)
		l = &catalog.Locked{Repo: repo, Ref: ref, Lock: catalog.LockRead}
	}
	return refuseLocked(*l)
}

// Lock closes and opens a repository, or what ref names in it if that is not zero, and returns
// what is locked of it then.
func (r *Registry) Lock(ctx context.Context, by Caller, repo oci.Repository, ref oci.Reference, lock, unlock catalog.Locks) (catalog.Locks, error) {
	what := (&catalog.Locked{Repo: repo, Ref: ref}).What()
	now, err := r.cat.SetLocks(ctx, repo, ref, lock, unlock, r.act(by))
	return now, known(err, oci.CodeManifestUnknown, what)
}

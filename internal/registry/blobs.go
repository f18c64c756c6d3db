package registry

import (
	"context"
	"errors"
	"fmt"
	"io"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// Content is a blob that may be read.
type Content struct {
	Digest oci.Digest
	Size   int64
	open   func(ctx context.Context, offset int64) (io.ReadCloser, error)
}

// Open reads the blob from offset on. On a store of files it is an *os.File. The
// caller closes it.
func (c Content) Open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	r, err := c.open(ctx, offset)
	return r, known(err, oci.CodeBlobUnknown, "blob "+c.Digest.String())
}

// Blob returns a blob of repo if the gate lets it through: if a manifest of repo that
// is allowed names it; or if the caller may pull what is held back; or if no manifest
// of repo names it yet and the caller may push there, for then it is no part of
// anything that could be run. All else is DENIED, with the reasons of what holds it back;
// what is locked against reading is denied to everybody.
func (r *Registry) Blob(ctx context.Context, by Caller, repo oci.Repository, d oci.Digest) (Content, error) {
	b, err := r.cat.Blob(ctx, repo, d)
	if err != nil {
		return Content{}, known(err, oci.CodeBlobUnknown, "blob "+d.String())
	}
	if !readable(by, repo, b) {
		return Content{}, r.refuseBlob(ctx, repo, b)
	}
	if b.Referenced && !b.Served {
		r.o.Audit.Note(r.record(by, "quarantine-pull", repo.String()+"@"+d.String(), "no image that is allowed has this blob, and the caller may pull what is held back"))
	}
	return Content{Digest: d, Size: b.Size, open: func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		return r.store.Open(ctx, d, offset)
	}}, nil
}

func readable(by Caller, repo oci.Repository, b catalog.Blob) bool {
	switch {
	case b.Locks&catalog.LockRead != 0, b.Referenced && !b.Open:
		return false
	case b.Served:
		return true
	case by.may(access.QuarantinePull, repo):
		return true
	case b.Referenced:
		return false
	}
	// A client reads back what it pushed with a token for pulling alone.
	return by.pushes(repo)
}

// pushes says whether a caller was granted to push to repo, be it signatures alone.
func (c Caller) pushes(repo oci.Repository) bool {
	return c.was(access.RepositoryPush, repo) || c.was(access.RepositorySign, repo)
}

// StatBlob says whether repo has a blob, and its size. Who may push may always ask,
// else every push would send everything again; what it is told of then stays for the manifest
// that is to come.
func (r *Registry) StatBlob(ctx context.Context, by Caller, repo oci.Repository, d oci.Digest) (int64, error) {
	b, err := r.cat.Blob(ctx, repo, d)
	if err != nil {
		return 0, known(err, oci.CodeBlobUnknown, "blob "+d.String())
	}
	pusher := by.pushes(repo)
	if !pusher && !readable(by, repo, b) {
		return 0, r.refuseBlob(ctx, repo, b)
	}
	if pusher {
		if err := r.spare(ctx, repo, b); err != nil {
			return 0, err
		}
	}
	return b.Size, nil
}

// spare keeps a blob that somebody relies on from the collection that its age would bring
// near. A manifest that needs it now may be deleted before the next one comes.
func (r *Registry) spare(ctx context.Context, repo oci.Repository, b catalog.Blob) error {
	if now := r.o.Now(); now.Sub(b.LinkedAt) > r.o.Grace/2 {
		return known(r.cat.TouchBlob(ctx, repo, b.Digest, now), oci.CodeBlobUnknown, "blob "+b.Digest.String())
	}
	return nil
}

// Mount makes a blob that another repository has part of repo, without its bytes
// being sent (distribution-spec, "Mounting a blob from another repository"). from may
// be zero: any repository will do. ok is false, and the client has to send the bytes,
// where the caller may not read the blob there: so nobody reads by way of a mount
// what the gate holds back. What only the trash needs is mounted by nobody.
func (r *Registry) Mount(ctx context.Context, by Caller, repo, from oci.Repository, d oci.Digest) (ok bool, err error) {
	sources := []oci.Repository{from}
	if from.IsZero() {
		if sources, err = r.cat.BlobRepositories(ctx, d); err != nil {
			return false, err
		}
	}
	for _, s := range sources[:min(len(sources), maxSources)] {
		if !by.may(access.RepositoryPull, s) {
			continue
		}
		b, err := r.cat.Blob(ctx, s, d)
		if errors.Is(err, catalog.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		if !readable(by, s, b) || b.Trashed && !b.Referenced {
			continue
		}
		err = r.cat.LinkBlob(ctx, s, repo, d, r.o.Now())
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, catalog.ErrNotFound) {
			return false, known(err, oci.CodeBlobUnknown, "blob "+d.String())
		}
	}
	return false, nil
}

// maxSources bounds the repositories that a mount without a source looks into.
const maxSources = 64

// DeleteBlob takes a blob out of repo, and what of its trash needs it for good. It stays
// while a manifest of repo names it.
func (r *Registry) DeleteBlob(ctx context.Context, by Caller, repo oci.Repository, d oci.Digest) error {
	err := r.cat.UnlinkBlob(ctx, repo, d, r.act(by))
	if errors.Is(err, catalog.ErrConflict) {
		return oci.Errorf(oci.CodeUnsupported, "blob %s is part of a manifest in %s; delete that manifest first", d, repo)
	}
	return known(err, oci.CodeBlobUnknown, fmt.Sprintf("blob %s", d))
}

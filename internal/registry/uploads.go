package registry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/rules"
)

// lockWait is how long a request waits for another one on the same upload, such as
// one whose connection broke without the server having noticed.
const lockWait = 10 * time.Second

// Status is how far an upload has come.
type Status struct {
	ID     string
	Offset int64 // bytes that are kept
}

// Chunk is what one request brings to an upload.
type Chunk struct {
	// At is the offset that the client believes the upload to be at; -1: it does not say.
	At int64
	// Size is how many bytes follow; -1: unknown, until the end of Body.
	Size int64
	Body io.Reader
}

// BeginUpload opens an upload to repo whose content is hashed with a.
func (r *Registry) BeginUpload(ctx context.Context, by Caller, repo oci.Repository, a oci.Algorithm) (Status, error) {
	open, err := r.cat.UploadsBy(ctx, by.Name, r.o.MaxOpenUploads)
	if err != nil {
		return Status{}, err
	}
	if open >= r.o.MaxOpenUploads {
		return Status{}, oci.Errorf(oci.CodeTooManyRequests, "%s has %d uploads that are begun and not ended, which is the limit; end or cancel some, or wait until they are given up", by.Name, open)
	}
	if err := r.cat.CheckQuota(ctx, repo, 1); err != nil {
		return Status{}, known(err, oci.CodeNameUnknown, repo.String())
	}
	up, err := r.store.Begin(ctx, a)
	if err != nil {
		return Status{}, known(err, oci.CodeBlobUploadInvalid, "upload")
	}
	state, err := up.Save(ctx)
	id, now := idOf(up), r.o.Now()
	if err == nil {
		err = r.cat.PutUpload(ctx, catalog.Upload{ID: id, Repo: repo, By: by.Name, State: state, Started: now, Touched: now})
	}
	if err != nil {
		return Status{}, known(errors.Join(err, up.Abort(ctx)), oci.CodeBlobUploadInvalid, "upload")
	}
	return Status{ID: id}, nil
}

// idOf takes the store's own name of an upload where it has one, so that a sweep of
// the store can ask the catalog.
func idOf(up blob.Upload) string {
	if named, ok := up.(interface{ ID() string }); ok {
		return named.ID()
	}
	return strings.ToLower(rand.Text())
}

// UploadStatus says how far an upload has come.
func (r *Registry) UploadStatus(ctx context.Context, repo oci.Repository, id string) (Status, error) {
	u, err := r.cat.Upload(ctx, repo, id)
	if err != nil {
		return Status{}, unknownUpload(err, id)
	}
	return Status{id, u.Offset}, nil
}

func unknownUpload(err error, id string) error {
	if errors.Is(err, catalog.ErrNotFound) || errors.Is(err, blob.ErrNotFound) {
		return oci.Errorf(oci.CodeBlobUploadUnknown, "upload %.64q is not known: it is finished, was cancelled, or was given up; begin a new one", id)
	}
	return known(err, oci.CodeBlobUploadUnknown, "upload")
}

// opened is an upload that this request alone works on.
type opened struct {
	blob.Upload
	id      string
	release func()
}

// open takes an upload up where it was left. If at does not fit, the error is
// RANGE_INVALID and the Status says where the upload is.
func (r *Registry) open(ctx context.Context, repo oci.Repository, id string, at int64) (opened, Status, error) {
	wait, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	release, err := r.locks.take(wait, id)
	if err != nil {
		return opened{}, Status{}, oci.Errorf(oci.CodeTooManyRequests, "another request is still writing to upload %.64q", id)
	}
	up, st, err := r.resume(ctx, repo, id, at)
	if err != nil {
		release()
		return opened{}, st, err
	}
	return opened{up, id, release}, st, nil
}

func (r *Registry) resume(ctx context.Context, repo oci.Repository, id string, at int64) (blob.Upload, Status, error) {
	u, err := r.cat.Upload(ctx, repo, id)
	if err != nil {
		return nil, Status{}, unknownUpload(err, id)
	}
	st := Status{id, u.Offset}
	if at >= 0 && at != u.Offset {
		return nil, st, oci.Errorf(oci.CodeRangeInvalid, "the chunk begins at byte %d, but the upload has %d bytes; go on from there", at, u.Offset)
	}
	up, err := r.store.Resume(ctx, u.State)
	if errors.Is(err, blob.ErrNotFound) {
		// The bytes are gone, so the row is of no use to anybody.
		if e := r.cat.DeleteUpload(ctx, id); e != nil && !errors.Is(e, catalog.ErrNotFound) {
			return nil, st, e
		}
	}
	if err != nil {
		return nil, st, unknownUpload(err, id)
	}
	return up, st, nil
}

// Append adds a chunk to an upload and keeps it durably. If the chunk breaks off, what
// came is kept and the error says so; the client may go on from the Status.
func (r *Registry) Append(ctx context.Context, repo oci.Repository, id string, c Chunk) (Status, error) {
	leave, err := r.enter()
	if err != nil {
		return Status{}, err
	}
	defer leave()
	up, st, err := r.open(ctx, repo, id, c.At)
	if err != nil {
		return st, err
	}
	defer up.release()
	r.follow(up)
	broken := r.receive(ctx, repo, up, c)
	if hopeless(broken) {
		return st, r.giveUp(ctx, up, broken)
	}
	return r.rest(ctx, up, broken)
}

// rest keeps what an upload has so far. broken is why it did not get more, if so.
func (r *Registry) rest(ctx context.Context, up opened, broken error) (Status, error) {
	// The client may be gone, but its bytes shall not be.
	ctx = context.WithoutCancel(ctx)
	st := Status{up.id, up.Size()}
	state, err := up.Save(ctx)
	if err != nil {
		return st, r.giveUp(ctx, up, errors.Join(broken, err))
	}
	if err := r.cat.SaveUpload(ctx, up.id, state, st.Offset, r.o.Now()); err != nil {
		return st, unknownUpload(err, up.id)
	}
	return st, known(broken, oci.CodeBlobUploadInvalid, "upload")
}

// giveUp ends an upload that cannot go on, and returns why.
func (r *Registry) giveUp(ctx context.Context, up opened, why error) error {
	ctx = context.WithoutCancel(ctx)
	r.o.Examiner.Abort(up.id)
	err := up.Abort(ctx)
	if e := r.cat.DeleteUpload(ctx, up.id); e != nil && !errors.Is(e, catalog.ErrNotFound) {
		err = errors.Join(err, e)
	}
	if err != nil {
		r.o.Log.ErrorContext(ctx, "giving up an upload", "upload", up.id, "err", err)
	}
	return known(why, oci.CodeBlobUploadInvalid, "upload")
}

// FinishUpload adds the last chunk, if there is one, and makes the upload the blob d
// of repo. With a wrong digest nothing is kept.
func (r *Registry) FinishUpload(ctx context.Context, repo oci.Repository, id string, c Chunk, d oci.Digest) error {
	leave, err := r.enter()
	if err != nil {
		return err
	}
	defer leave()
	up, _, err := r.open(ctx, repo, id, c.At)
	if err != nil {
		return err
	}
	defer up.release()
	if c.Size != 0 {
		r.follow(up)
		if broken := r.receive(ctx, repo, up, c); hopeless(broken) {
			return r.giveUp(ctx, up, broken)
		} else if broken != nil {
			_, err := r.rest(ctx, up, broken)
			return err
		}
	}
	return r.commit(ctx, up, repo, d, id)
}

// PutBlob stores a blob that comes in one request (distribution-spec, "Single POST").
func (r *Registry) PutBlob(ctx context.Context, repo oci.Repository, c Chunk, d oci.Digest) error {
	leave, err := r.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := r.cat.CheckQuota(ctx, repo, 1); err != nil {
		return known(err, oci.CodeNameUnknown, repo.String())
	}
	b, err := r.store.Begin(ctx, d.Algorithm())
	if err != nil {
		return known(err, oci.CodeBlobUploadInvalid, "upload")
	}
	up := opened{b, idOf(b), func() {}}
	r.follow(up)
	if broken := r.receive(ctx, repo, up, c); broken != nil {
		return r.giveUp(ctx, up, broken)
	}
	return r.commit(ctx, up, repo, d, "")
}

// commit makes the upload a blob of repo. row is its name in the catalog, "" if it has none there.
func (r *Registry) commit(ctx context.Context, up opened, repo oci.Repository, d oci.Digest, row string) error {
	ctx = context.WithoutCancel(ctx) // all bytes are here; finishing costs less than sending them again
	size := up.Size()
	release, err := r.contents.share(ctx, d)
	if err != nil {
		return r.giveUp(ctx, up, err)
	}
	defer release()
	if err := up.Commit(ctx, d); err != nil {
		if errors.Is(err, blob.ErrMismatch) {
			err = oci.Errorf(oci.CodeDigestInvalid, "%d bytes were received, and they are not %s; nothing was kept, begin a new upload", size, d)
		}
		return r.giveUp(ctx, up, err)
	}
	if err := r.cat.FinishUpload(ctx, row, repo, d, size, r.o.Now()); err != nil {
		r.o.Examiner.Abort(up.id)
		if (errors.As(err, new(*rules.Refusal)) || errors.As(err, new(*catalog.Locked))) && row != "" {
			// Its bytes went to where garbage is collected; there is nothing to go on with.
			if e := r.cat.DeleteUpload(ctx, row); e != nil && !errors.Is(e, catalog.ErrNotFound) {
				return e
			}
		}
		return unknownUpload(err, up.id)
	}
	r.o.Examiner.Commit(up.id, d)
	return nil
}

// CancelUpload drops an upload.
func (r *Registry) CancelUpload(ctx context.Context, repo oci.Repository, id string) error {
	up, _, err := r.open(ctx, repo, id, -1)
	if err != nil {
		return err
	}
	defer up.release()
	ctx = context.WithoutCancel(ctx)
	r.o.Examiner.Abort(id)
	if err := up.Abort(ctx); err != nil {
		return err
	}
	return unknownUpload(r.cat.DeleteUpload(ctx, id), id)
}

// enter counts a transfer in, or says that there are too many.
func (r *Registry) enter() (leave func(), err error) {
	select {
	case r.transfers <- struct{}{}:
		return func() { <-r.transfers }, nil
	default:
		return nil, oci.Errorf(oci.CodeTooManyRequests, "%d uploads are being received, which is the limit; try again shortly", r.o.MaxTransfers)
	}
}

// follow lets the examiner read along.
func (r *Registry) follow(up opened) {
	if f, ok := up.Upload.(blob.Follower); ok {
		r.o.Examiner.Begin(up.id, f.Follow)
	}
}

// copyBuffer is large, so that hashing and writing are called seldom.
const copyBuffer = 256 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }}

// receive writes a chunk's bytes to the upload. What was written before an error
// stays in the upload.
func receive(up io.Writer, c Chunk) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	var n int64
	for c.Size < 0 || n < c.Size {
		b := *buf
		if c.Size >= 0 {
			b = b[:min(int64(len(b)), c.Size-n)]
		}
		got, err := c.Body.Read(b)
		if got > 0 {
			n += int64(got)
			if _, e := up.Write(b[:got]); e != nil {
				return e
			}
		}
		if err != nil {
			return ended(err, n, c.Size)
		}
	}
	// A body that is longer than it said is the door's to notice: it frames requests.
	return nil
}

// ended says what the end of a body after n bytes means, when size were promised.
func ended(err error, n, size int64) error {
	switch {
	case errors.Is(err, io.EOF) && (size < 0 || n == size):
		return nil
	case errors.As(err, new(*rules.Refusal)):
		return err
	case errors.Is(err, io.EOF):
		return oci.Errorf(oci.CodeSizeInvalid, "the request ended after %d bytes of %d", n, size)
	}
	var said *oci.Error
	if errors.As(err, &said) { // the door gave it up
		return said
	}
	return &oci.Error{Code: oci.CodeBlobUploadInvalid, Message: fmt.Sprintf("the request broke off after %d bytes", n), Detail: nil}
}

// Sweep drops the uploads that nobody has continued since before, with what is left of
// others in the store. One that cannot be dropped keeps none of the others; the error tells of it.
func (r *Registry) Sweep(ctx context.Context, before time.Time) error {
	stale, err := r.cat.StaleUploads(ctx, before)
	if err != nil {
		return err
	}
	var failed error
	for _, u := range stale {
		if err := r.sweepUpload(ctx, u, before); err != nil {
			failed = errors.Join(failed, fmt.Errorf("sweep upload %s to %s: %w", u.ID, u.Repo, err))
		}
	}
	sweeper, ok := r.store.(interface {
		Sweep(ctx context.Context, keep func(id string) bool, before time.Time) (int, error)
	})
	if !ok {
		return failed
	}
	rows, err := r.cat.StaleUploads(ctx, r.o.Now().AddDate(100, 0, 0))
	if err != nil {
		return errors.Join(failed, err)
	}
	known := make(map[string]bool, len(rows))
	for _, u := range rows {
		known[u.ID] = true
	}
	// A list that may have been cut short proves nothing about who is not on it.
	n, err := sweeper.Sweep(ctx, func(id string) bool { return known[id] || len(rows) >= maxListed }, before)
	if n+len(stale) > 0 {
		r.o.Log.InfoContext(ctx, "abandoned uploads dropped", "uploads", len(stale), "files", n)
	}
	return errors.Join(failed, err)
}

// sweepUpload drops an upload unless a request works on it, or has since it was listed.
func (r *Registry) sweepUpload(ctx context.Context, u catalog.Upload, before time.Time) error {
	release, ok := r.locks.try(u.ID)
	if !ok {
		return nil
	}
	defer release()
	u, err := r.cat.Upload(ctx, u.Repo, u.ID)
	if errors.Is(err, catalog.ErrNotFound) || err == nil && !u.Touched.Before(before) {
		return nil
	}
	if err != nil {
		return err
	}
	r.o.Examiner.Abort(u.ID)
	up, err := r.store.Resume(ctx, u.State)
	switch {
	case err == nil:
		err = up.Abort(ctx)
	case errors.Is(err, blob.ErrNotFound):
		err = nil
	case ctx.Err() != nil:
		return err
	default:
		// As with a hash that another version kept otherwise: nobody can go on with it. Its
		// file goes with those that no row names.
		r.o.Log.WarnContext(ctx, "an abandoned upload cannot be read", "upload", u.ID, "err", err)
		err = nil
	}
	if e := r.cat.DeleteUpload(ctx, u.ID); !errors.Is(e, catalog.ErrNotFound) {
		err = errors.Join(err, e)
	}
	return err
}

// maxListed is where the catalog cuts its lists.
const maxListed = 10_000

// Package memblob keeps blobs in memory, for tests and for what is thrown away. It
// keeps the whole contract of blob.Store, but a process's end is the end of its content.
package memblob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"strconv"
	"sync"
	"time"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/oci"
)

// Store is a blob.Store in memory. Limit, when it is not zero, bounds the bytes of
// blobs and uploads together; what goes beyond meets blob.ErrNoSpace.
type Store struct {
	Limit int64
	Now   func() time.Time // nil: time.Now

	mu      sync.Mutex
	used    int64
	next    int
	blobs   map[oci.Digest][]byte
	since   map[oci.Digest]time.Time
	uploads map[string]*content
	aside   map[oci.Digest][]byte
	records map[string][]byte
}

// New returns an empty Store.
func New() *Store {
	return &Store{blobs: map[oci.Digest][]byte{}, since: map[oci.Digest]time.Time{},
		aside: map[oci.Digest][]byte{}, records: map[string][]byte{}, uploads: map[string]*content{}}
}

// content is what an upload has brought so far, shared by the upload values that
// were made of it and its followers. All of it is guarded by Store.mu.
type content struct {
	data      []byte
	cuts      int // how often data was set back
	committed bool
	aborted   bool
	changed   chan struct{}
}

func (c *content) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Begin implements blob.Store.
func (s *Store) Begin(ctx context.Context, a oci.Algorithm) (blob.Upload, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if a.New() == nil {
		return nil, fmt.Errorf("begin upload: %w: algorithm %q", oci.ErrDigest, a)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	id := strconv.Itoa(s.next)
	c := &content{changed: make(chan struct{})}
	s.uploads[id] = c
	return &upload{store: s, id: id, content: c}, nil
}

// Resume implements blob.Store.
func (s *Store) Resume(ctx context.Context, state []byte) (blob.Upload, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	id, size, _ := bytes.Cut(state, []byte(" "))
	n, err := strconv.Atoi(string(size))
	if err != nil || n < 0 {
		return nil, fmt.Errorf("resume upload: saved state %.40q is not one of this store", state)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.uploads[string(id)]
	if c == nil || len(c.data) < n {
		return nil, fmt.Errorf("resume upload %s: %w", id, blob.ErrNotFound)
	}
	if n < len(c.data) {
		s.used -= int64(len(c.data) - n)
		c.data = c.data[:n:n]
		c.cuts++
		c.wake()
	}
	return &upload{store: s, id: string(id), content: c}, nil
}

// reader is bytes.Reader with a Close, so that it can be sought as a file can.
type reader struct{ *bytes.Reader }

func (reader) Close() error { return nil }

// Open implements blob.Store.
func (s *Store) Open(ctx context.Context, d oci.Digest, offset int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.blobs[d]
	if !ok || offset < 0 {
		return nil, fmt.Errorf("open %s at %d: %w", d, offset, blob.ErrNotFound)
	}
	r := reader{bytes.NewReader(b)}
	_, err := r.Seek(offset, io.SeekStart)
	return r, err
}

// Stat implements blob.Store.
func (s *Store) Stat(ctx context.Context, d oci.Digest) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.blobs[d]
	if !ok {
		return 0, fmt.Errorf("stat %s: %w", d, blob.ErrNotFound)
	}
	return int64(len(b)), nil
}

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, d oci.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= int64(len(s.blobs[d]))
	delete(s.blobs, d)
	delete(s.since, d)
	return nil
}

// Since implements blob.Aged.
func (s *Store) Since(ctx context.Context, d oci.Digest) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.since[d]
	if !ok {
		return time.Time{}, fmt.Errorf("age of %s: %w", d, blob.ErrNotFound)
	}
	return at, nil
}

// List implements blob.Store. It yields what was there when it was begun.
func (s *Store) List(ctx context.Context) iter.Seq2[oci.Digest, error] {
	return func(yield func(oci.Digest, error) bool) {
		s.mu.Lock()
		all := maps.Clone(s.blobs)
		s.mu.Unlock()
		for d := range all {
			if err := ctx.Err(); err != nil {
				yield(oci.Digest{}, err)
				return
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

// upload is one blob.Upload value; several may stand for one content, one after the other.
type upload struct {
	store   *Store
	id      string
	content *content
	over    bool
}

// ID returns the upload's name within the Store.
func (u *upload) ID() string { return u.id }

// Size implements blob.Upload.
func (u *upload) Size() int64 {
	u.store.mu.Lock()
	defer u.store.mu.Unlock()
	return int64(len(u.content.data))
}

// Write implements io.Writer.
func (u *upload) Write(p []byte) (int, error) {
	s := u.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.over {
		return 0, blob.ErrClosed
	}
	n := len(p)
	if s.Limit > 0 {
		n = int(min(int64(n), max(0, s.Limit-s.used)))
	}
	u.content.data = append(u.content.data, p[:n]...)
	s.used += int64(n)
	u.content.wake()
	if n < len(p) {
		return n, blob.ErrNoSpace
	}
	return n, nil
}

// Save implements blob.Upload.
func (u *upload) Save(ctx context.Context) ([]byte, error) {
	if u.over {
		return nil, blob.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%s %d", u.id, u.Size()), nil
}

// Commit implements blob.Upload.
func (u *upload) Commit(ctx context.Context, d oci.Digest) error {
	if u.over {
		return blob.ErrClosed
	}
	err := ctx.Err()
	if err == nil {
		err = u.commit(d)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("commit upload as %s: %w", d, err), u.Abort(ctx))
	}
	return nil
}

func (u *upload) commit(d oci.Digest) error {
	if d.Algorithm().New() == nil {
		return fmt.Errorf("%w: algorithm %q", oci.ErrDigest, d.Algorithm())
	}
	s := u.store
	s.mu.Lock()
	defer s.mu.Unlock()
	c := u.content
	if got := oci.DigestOf(d.Algorithm(), c.data); got != d {
		return fmt.Errorf("%w: it is %s", blob.ErrMismatch, got)
	}
	s.used -= int64(len(s.blobs[d]))
	s.blobs[d] = c.data
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	s.since[d] = now()
	delete(s.uploads, u.id)
	u.over, c.committed = true, true
	c.wake()
	return nil
}

// Abort implements blob.Upload.
func (u *upload) Abort(context.Context) error {
	s := u.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.over {
		return nil
	}
	c := u.content
	s.used -= int64(len(c.data))
	delete(s.uploads, u.id)
	u.over, c.aborted = true, true
	c.wake()
	return nil
}

// Follow implements blob.Follower.
func (u *upload) Follow(ctx context.Context) (io.ReadCloser, error) {
	u.store.mu.Lock()
	defer u.store.mu.Unlock()
	if u.content.aborted {
		return nil, blob.ErrClosed
	}
	return &follower{ctx: ctx, store: u.store, content: u.content, cuts: u.content.cuts}, nil
}

// follower reads an upload's content while it grows.
type follower struct {
	ctx     context.Context //nolint:containedctx // an io.Reader cannot take one
	store   *Store
	content *content
	pos     int
	cuts    int
}

// Read implements io.Reader as blob.Follower promises it.
func (f *follower) Read(p []byte) (int, error) {
	for len(p) > 0 {
		f.store.mu.Lock()
		c := f.content
		n := copy(p, c.data[min(f.pos, len(c.data)):])
		lost := c.aborted || c.cuts != f.cuts
		f.pos += n
		committed, changed := c.committed, c.changed
		f.store.mu.Unlock()
		switch {
		case lost:
			return 0, blob.ErrClosed
		case n > 0:
			return n, nil
		case committed:
			return 0, io.EOF
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
			return 0, f.ctx.Err()
		}
	}
	return 0, nil
}

// Close implements io.Closer.
func (f *follower) Close() error { return nil }

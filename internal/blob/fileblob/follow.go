package fileblob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"pratique.dev/pratique/internal/blob"
)

// phase is where an upload stands.
type phase int

const (
	open phase = iota
	committed
	aborted
)

// feed is what followers know of an upload. It outlives the upload values that
// requests make of it, and rests in Store.feeds until the upload ends.
type feed struct {
	id string

	mu      sync.Mutex
	writers int           // upload values with an open file
	size    int64         // bytes that can be read
	phase   phase         // open until the upload ends
	path    string        // where the content lies
	changed chan struct{} // closed and replaced when size or phase change; nil: nobody waits
	readers map[*reader]struct{}
}

func (s *Store) feedOf(id string) *feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.feeds[id]
	if f == nil {
		f = &feed{id: id, path: uploadPath(id), readers: map[*reader]struct{}{}}
		s.feeds[id] = f
	}
	return f
}

// end closes a feed: readers come to io.EOF or ErrClosed.
func (s *Store) end(f *feed, p phase) {
	s.mu.Lock()
	delete(s.feeds, f.id)
	s.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.phase == open {
		f.phase = p
		f.wake()
	}
}

func (f *feed) wake() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

func (f *feed) writing(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if on {
		f.writers++
	} else if f.writers > 0 {
		f.writers--
	}
}

func (f *feed) isWriting() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writers > 0
}

// set says how many bytes there are. If an upload was set back by a Resume, readers
// that have seen the bytes that are gone are ended.
func (f *feed) set(size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if size < f.size {
		for r := range f.readers {
			if r.pos > size {
				r.lost = true
			}
		}
	}
	f.size = size
	f.wake()
}

// rename moves the content to its final place, while no follower opens it.
func (f *feed) rename(s *Store, id, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := s.disk.Rename(uploadPath(id), to); err != nil {
		return err
	}
	f.path = to
	return nil
}

// Follow implements blob.Follower. It may be called at once with the other methods.
func (u *upload) Follow(ctx context.Context) (io.ReadCloser, error) {
	f := u.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.phase == aborted {
		return nil, blob.ErrClosed
	}
	opened, err := u.store.disk.OpenFile(f.path, os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("follow upload %s: %w", f.id, err)
	}
	r := &reader{ctx: ctx, feed: f, file: opened}
	f.readers[r] = struct{}{}
	return r, nil
}

// reader follows one upload through a descriptor of its own. It starts no goroutine.
type reader struct {
	ctx  context.Context //nolint:containedctx // an io.Reader cannot take one
	feed *feed
	file file

	pos  int64 // guarded by feed.mu, as is lost
	lost bool
}

// Behind implements blob.Behind.
func (r *reader) Behind() int64 {
	r.feed.mu.Lock()
	defer r.feed.mu.Unlock()
	return r.feed.size - r.pos
}

// Read implements io.Reader as blob.Follower promises it.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.reserve(int64(len(p)))
	if err != nil {
		return 0, err
	}
	got, err := io.ReadFull(r.file, p[:n])
	r.feed.mu.Lock()
	defer r.feed.mu.Unlock()
	if r.lost {
		return 0, blob.ErrClosed
	}
	if err != nil {
		return got, fmt.Errorf("follow upload %s: %w", r.feed.id, err)
	}
	return got, nil
}

// reserve waits until there are bytes behind the reader's place, and takes up to
// limit of them.
func (r *reader) reserve(limit int64) (int64, error) {
	f := r.feed
	for {
		f.mu.Lock()
		n := min(limit, f.size-r.pos)
		switch {
		case r.lost, f.phase == aborted:
			f.mu.Unlock()
			return 0, blob.ErrClosed
		case n > 0:
			r.pos += n
			f.mu.Unlock()
			return n, nil
		case f.phase == committed:
			f.mu.Unlock()
			return 0, io.EOF
		}
		if f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.feed.mu.Lock()
	delete(r.feed.readers, r)
	r.feed.mu.Unlock()
	if err := r.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

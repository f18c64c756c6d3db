// Package fileblob keeps blobs as files of one folder:
//
//	blobs/sha256/ab/ab12…   a blob, named by its digest
//	uploads/0f3c…           an upload under way, named by its id
//	damaged/sha256-ab12…    a blob that was found damaged and set aside
//	journal/…               records
//
// What is under blobs was hashed, fsynced and then renamed, so a file there is whole
// or absent, also after a power cut. All access goes through an os.Root: no name,
// whatever it holds, leads out of the folder.
package fileblob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/oci"
)

const (
	blobsDir   = "blobs"
	uploadsDir = "uploads"
)

// Store is a blob.Store in a folder. Several Stores, also in several processes, may
// share the folder; a follower sees only the uploads of its own Store.
type Store struct {
	disk disk
	dir  string // for messages

	mu     sync.Mutex
	feeds  map[string]*feed // uploads under way, by id
	synced map[string]bool  // folders known to be durable
}

// New opens or makes the folder dir and what it needs in it. The error says which
// path could not be used and why.
func New(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("blob folder %s: %w", dir, explain(err))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("blob folder %s: %w", dir, explain(err))
	}
	return newStore(folder{root}, dir)
}

// newStore makes a Store on a disk, which is closed with it, or with an error.
func newStore(d disk, dir string) (*Store, error) {
	s := &Store{disk: d, dir: dir, feeds: map[string]*feed{}, synced: map[string]bool{}}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("blob folder %s: %w", dir, explain(err)), d.Close())
	}
	return s, nil
}

// prepare makes the folders and proves that files can be written, so that a
// read-only disk is known at the start and not at the first push.
func (s *Store) prepare() error {
	for _, d := range []string{path.Join(blobsDir, string(oci.SHA256)), path.Join(blobsDir, string(oci.SHA512)), uploadsDir} {
		if err := s.makeDir(d); err != nil {
			return err
		}
	}
	probe := path.Join(uploadsDir, ".probe")
	f, err := s.disk.OpenFile(probe, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Close(), s.disk.Remove(probe)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil // another process may have removed it
}

// Close gives the folder up. Uploads and readers that are open stay usable as files,
// but nothing can be begun or committed any more.
func (s *Store) Close() error { return s.disk.Close() }

// explain turns the errors of a folder that cannot be used into words that say what
// to do, and a full disk into blob.ErrNoSpace.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", blob.ErrNoSpace, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("the file system is read-only; remount it writable or choose another folder: %w", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to write there; give the folder to the user who runs pratique: %w", err)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		return fmt.Errorf("a file stands where a folder is needed; move it away: %w", err)
	}
	return err
}

// blobPath is where d is kept. d is not zero.
func blobPath(d oci.Digest) string {
	return path.Join(blobsDir, string(d.Algorithm()), d.Hex()[:2], d.Hex())
}

// makeDir makes name and its parents and makes them durable: each folder's entry in
// its parent is synced, once in the life of the Store.
func (s *Store) makeDir(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.synced[name] {
		return nil
	}
	if err := s.disk.MkdirAll(name, 0o700); err != nil {
		return err
	}
	for d := name; d != "."; d = path.Dir(d) {
		if s.synced[d] {
			break
		}
		if err := s.syncDir(path.Dir(d)); err != nil {
			return err
		}
	}
	for d := name; d != "."; d = path.Dir(d) {
		s.synced[d] = true
	}
	return nil
}

func (s *Store) syncDir(name string) error {
	f, err := s.disk.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Open implements blob.Store. The reader is an *os.File, which the kernel can send
// to a connection by itself.
func (s *Store) Open(ctx context.Context, d oci.Digest, offset int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if d.IsZero() || offset < 0 {
		return nil, fmt.Errorf("open %q at %d: %w", d, offset, blob.ErrNotFound)
	}
	f, err := s.disk.OpenFile(blobPath(d), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", d, blob.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", d, err)
	}
	if offset > 0 {
		if _, err := f.Seek(offset, io.SeekStart); err != nil {
			return nil, errors.Join(fmt.Errorf("open %s at %d: %w", d, offset, err), f.Close())
		}
	}
	return f, nil
}

// Stat implements blob.Store.
func (s *Store) Stat(ctx context.Context, d oci.Digest) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if d.IsZero() {
		return 0, blob.ErrNotFound
	}
	info, err := s.disk.Stat(blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("stat %s: %w", d, blob.ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("stat %s: %w", d, err)
	}
	return info.Size(), nil
}

// Since implements blob.Aged.
func (s *Store) Since(ctx context.Context, d oci.Digest) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	if d.IsZero() {
		return time.Time{}, blob.ErrNotFound
	}
	info, err := s.disk.Stat(blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, fmt.Errorf("age of %s: %w", d, blob.ErrNotFound)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("age of %s: %w", d, err)
	}
	return info.ModTime(), nil
}

// Delete implements blob.Store. Readers that have the blob open read on.
func (s *Store) Delete(ctx context.Context, d oci.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.IsZero() {
		return nil
	}
	if err := s.disk.Remove(blobPath(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", d, explain(err))
	}
	return nil
}

// List implements blob.Store. Files that are not named as blobs are passed over.
func (s *Store) List(ctx context.Context) iter.Seq2[oci.Digest, error] {
	return func(yield func(oci.Digest, error) bool) {
		err := fs.WalkDir(s.disk.FS(), blobsDir, func(name string, e fs.DirEntry, err error) error {
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err != nil || !e.Type().IsRegular() {
				return nil
			}
			alg := strings.SplitN(name, "/", 3)[1]
			d, err := oci.ParseDigest(alg + ":" + e.Name())
			if err != nil || blobPath(d) != name {
				return nil //nolint:nilerr // not a blob of ours
			}
			if !yield(d, nil) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(oci.Digest{}, fmt.Errorf("list blobs of %s: %w", s.dir, err))
		}
	}
}

// Sweep removes the files of uploads that nobody will continue: those last written to
// before the given time, not being written now, and of whose id keep knows nothing.
// It returns how many it removed.
func (s *Store) Sweep(ctx context.Context, keep func(id string) bool, before time.Time) (int, error) {
	entries, err := fs.ReadDir(s.disk.FS(), uploadsDir)
	if err != nil {
		return 0, fmt.Errorf("sweep uploads of %s: %w", s.dir, err)
	}
	removed := 0
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return removed, err
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !info.ModTime().Before(before) || keep(e.Name()) {
			continue // gone already, or not to be removed
		}
		if !s.drop(e.Name()) {
			continue
		}
		if err := s.disk.Remove(path.Join(uploadsDir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, fmt.Errorf("sweep upload %s of %s: %w", e.Name(), s.dir, explain(err))
		}
		removed++
	}
	return removed, nil
}

// drop ends the feed of an upload; false if the upload is being written.
func (s *Store) drop(id string) bool {
	s.mu.Lock()
	f := s.feeds[id]
	s.mu.Unlock()
	if f == nil {
		return true
	}
	if f.isWriting() {
		return false
	}
	s.end(f, aborted)
	return true
}

package fileblob

import (
	"context"
	"crypto/rand"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/oci"
)

// upload is a blob on its way in. The file is open from the first Write until the
// next Save, Commit or Abort: an upload that rests between requests holds no
// descriptor.
type upload struct {
	store *Store
	feed  *feed
	id    string
	alg   oci.Algorithm
	hash  hash.Hash
	size  int64
	file  file  // nil while resting
	dirty bool  // written since the last fsync
	ahead int64 // so many bytes the disk has been told to write
	named bool  // its name in the folder of uploads is durable
	over  bool  // committed or aborted

	// lost is why the bytes could not be made durable. The kernel drops what it could not
	// write, and a second fsync says that all is well: nothing more can be promised.
	lost error
}

// aheadPart is how much is written before the disk begins with it: so the fsync at the end
// finds little left to wait for.
const aheadPart = 8 << 20

// state is what Save returns: JSON, so that a later version can read it.
type state struct {
	ID        string        `json:"id"`
	Offset    int64         `json:"offset"`
	Algorithm oci.Algorithm `json:"algorithm"`
	Hash      []byte        `json:"hash"` // the running hash, from encoding.BinaryMarshaler
}

func uploadPath(id string) string { return path.Join(uploadsDir, id) }

// Begin implements blob.Store.
func (s *Store) Begin(ctx context.Context, a oci.Algorithm) (blob.Upload, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h := a.New()
	if h == nil {
		return nil, fmt.Errorf("begin upload: %w: algorithm %q", oci.ErrDigest, a)
	}
	var random [16]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	u := &upload{store: s, id: hex.EncodeToString(random[:]), alg: a, hash: h}
	f, err := s.disk.OpenFile(uploadPath(u.id), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("begin upload: %w", explain(err))
	}
	u.file = f
	u.feed = s.feedOf(u.id)
	u.feed.writing(true)
	return u, nil
}

// Resume implements blob.Store. The file is cut to the saved offset.
func (s *Store) Resume(ctx context.Context, saved []byte) (blob.Upload, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var st state
	if err := json.Unmarshal(saved, &st); err != nil {
		return nil, fmt.Errorf("resume upload: saved state: %w", err)
	}
	h := st.Algorithm.New()
	if raw, err := hex.DecodeString(st.ID); err != nil || len(raw) != 16 || h == nil || st.Offset < 0 {
		return nil, errors.New("resume upload: saved state is not one of this store")
	}
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(st.Hash); err != nil {
		return nil, fmt.Errorf("resume upload %s: saved hash: %w", st.ID, err)
	}
	u := &upload{store: s, id: st.ID, alg: st.Algorithm, hash: h, size: st.Offset, ahead: st.Offset, named: st.Offset > 0}
	if err := u.reopen(); err != nil {
		return nil, fmt.Errorf("resume upload %s: %w", st.ID, err)
	}
	return u, nil
}

// reopen opens the upload's file for writing at u.size and cuts off what is beyond.
func (u *upload) reopen() error {
	f, err := u.store.disk.OpenFile(uploadPath(u.id), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return blob.ErrNotFound
	}
	if err != nil {
		return explain(err)
	}
	if err := u.position(f); err != nil {
		return errors.Join(err, f.Close())
	}
	u.file = f
	u.feed = u.store.feedOf(u.id)
	u.feed.writing(true)
	u.feed.set(u.size)
	return nil
}

func (u *upload) position(f file) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < u.size {
		return fmt.Errorf("%d bytes were saved, but its file holds %d: %w", u.size, info.Size(), blob.ErrNotFound)
	}
	if info.Size() > u.size {
		if err := f.Truncate(u.size); err != nil {
			return explain(err)
		}
	}
	_, err = f.Seek(u.size, io.SeekStart)
	return err
}

// ID returns the name of the upload's file, by which Sweep asks.
func (u *upload) ID() string { return u.id }

// Size implements blob.Upload.
func (u *upload) Size() int64 { return u.size }

// Write implements io.Writer. What it returns as written is also hashed and visible
// to followers, so an upload can be saved and resumed after a short write.
func (u *upload) Write(p []byte) (int, error) {
	if u.over {
		return 0, blob.ErrClosed
	}
	if u.lost != nil {
		return 0, fmt.Errorf("write upload %s: %w", u.id, explain(u.lost))
	}
	if u.file == nil {
		if err := u.reopen(); err != nil {
			return 0, fmt.Errorf("write upload %s: %w", u.id, err)
		}
	}
	n, err := u.file.Write(p)
	if n > 0 {
		u.hash.Write(p[:n])
		u.size += int64(n)
		u.dirty = true
		u.feed.set(u.size)
		if part := u.size - u.ahead; part >= aheadPart {
			writeAhead(u.file, u.ahead, part)
			u.ahead = u.size
		}
	}
	if err != nil {
		return n, fmt.Errorf("write upload %s: %w", u.id, explain(err))
	}
	return n, nil
}

// Save implements blob.Upload. It closes the file; the next Write opens it again.
func (u *upload) Save(ctx context.Context) ([]byte, error) {
	if u.over {
		return nil, blob.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := u.rest(); err != nil {
		return nil, fmt.Errorf("save upload %s: %w", u.id, explain(err))
	}
	// An fsync of a file need not keep its name (POSIX). Without a byte nothing is promised.
	if !u.named && u.size > 0 {
		if err := u.store.syncDir(uploadsDir); err != nil {
			return nil, fmt.Errorf("save upload %s: %w", u.id, explain(err))
		}
		u.named = true
	}
	h, err := u.hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("save upload %s: %w", u.id, err)
	}
	return json.Marshal(state{ID: u.id, Offset: u.size, Algorithm: u.alg, Hash: h})
}

// rest makes the bytes durable and closes the file.
func (u *upload) rest() error {
	if u.lost != nil || u.file == nil {
		return u.lost
	}
	if u.dirty {
		u.lost = u.file.Sync()
	}
	u.lost = errors.Join(u.lost, u.file.Close())
	u.file = nil
	u.dirty = false
	u.feed.writing(false)
	return u.lost
}

// Commit implements blob.Upload.
func (u *upload) Commit(ctx context.Context, d oci.Digest) error {
	if u.over {
		return blob.ErrClosed
	}
	if err := u.commit(ctx, d); err != nil {
		return errors.Join(fmt.Errorf("commit upload as %s: %w", d, explain(err)), u.Abort(ctx))
	}
	u.over = true
	return nil
}

func (u *upload) commit(ctx context.Context, d oci.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	got, err := u.digest(ctx, d.Algorithm())
	if err != nil {
		return err
	}
	if got != d {
		return fmt.Errorf("%w: it is %s", blob.ErrMismatch, got)
	}
	if err := u.rest(); err != nil {
		return err
	}
	to := blobPath(d)
	if err := u.store.makeDir(path.Dir(to)); err != nil {
		return err
	}
	// A blob that is there already is replaced by the same bytes: that heals a file
	// that the disk has damaged, and cannot meet a deletion halfway.
	if err := u.feed.rename(u.store, u.id, to); err != nil {
		return err
	}
	if err := u.store.syncDir(path.Dir(to)); err != nil {
		return err
	}
	u.store.end(u.feed, committed)
	return nil
}

// digest gives the digest of the content under a; one of another algorithm than the
// upload was begun with costs a read of the file.
func (u *upload) digest(ctx context.Context, a oci.Algorithm) (oci.Digest, error) {
	if a == u.alg {
		return oci.DigestFrom(a, u.hash), nil
	}
	h := a.New()
	if h == nil {
		return oci.Digest{}, fmt.Errorf("%w: algorithm %q", oci.ErrDigest, a)
	}
	f, err := u.store.disk.OpenFile(uploadPath(u.id), os.O_RDONLY, 0)
	if err != nil {
		return oci.Digest{}, err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{h}, contextReader{ctx, f}, make([]byte, 256<<10))
	if err := errors.Join(err, f.Close()); err != nil {
		return oci.Digest{}, err
	}
	return oci.DigestFrom(a, h), nil
}

// contextReader ends a long read when its context does.
type contextReader struct {
	ctx context.Context //nolint:containedctx // an io.Reader cannot take one
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// Abort implements blob.Upload. It works with a context that has ended, because that
// is when it is needed.
func (u *upload) Abort(context.Context) error {
	if u.over {
		return nil
	}
	u.over = true
	var err error
	if u.file != nil {
		err = u.file.Close()
		u.file = nil
		u.feed.writing(false)
	}
	u.store.end(u.feed, aborted)
	if e := u.store.disk.Remove(uploadPath(u.id)); e != nil && !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, fmt.Errorf("abort upload %s: %w", u.id, e))
	}
	return err
}

// Package blob states the contract of a blob store: a heap of bytes keyed by
// digest. It owns no implementation; those are its subpackages, and blobtest holds
// every one of them to the same test. A store knows no repositories, no users and no
// verdicts: which repository may see a blob is the catalog's to say.
package blob

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"pratique.dev/pratique/internal/oci"
)

// What stores report, for errors.Is.
var (
	ErrNotFound = errors.New("blob not found")
	ErrMismatch = errors.New("content does not have the digest it was pushed under")
	ErrNoSpace  = errors.New("no space left in the blob store")
	ErrClosed   = errors.New("upload is already committed or aborted")
	ErrName     = errors.New("not a name of a record")
)

// Store holds blobs by digest. Its methods may be called at once from many goroutines.
type Store interface {
	// Begin starts an upload. Content is hashed with a while it is written; a Commit
	// under a digest of another algorithm costs one more read of the content.
	Begin(ctx context.Context, a oci.Algorithm) (Upload, error)
	// Resume continues an upload from what its last Save returned, in any process.
	// Bytes written after that Save are gone. ErrNotFound if the upload is no more.
	Resume(ctx context.Context, state []byte) (Upload, error)
	// Open reads a blob from offset on. ErrNotFound if there is none. The caller
	// closes the reader. A store on a file system returns an *os.File.
	Open(ctx context.Context, d oci.Digest, offset int64) (io.ReadCloser, error)
	// Stat returns the size in bytes. ErrNotFound if there is no such blob.
	Stat(ctx context.Context, d oci.Digest) (size int64, err error)
	// Delete removes a blob. Deleting what is not there is no error.
	Delete(ctx context.Context, d oci.Digest) error
	// List yields every blob, in no order.
	List(ctx context.Context) iter.Seq2[oci.Digest, error]
}

// Upload is a blob on its way in. Nothing of it can be opened before Commit. One
// goroutine at a time may call its methods; a Follower's readers are apart from that.
type Upload interface {
	io.Writer
	// Size is the number of bytes taken so far.
	Size() int64
	// Save makes what was written durable and returns the input of Store.Resume.
	Save(ctx context.Context) (state []byte, err error)
	// Commit makes the blob durable and visible under d. ErrMismatch if the content
	// is not d's; nothing is kept then. On any error the upload is over.
	Commit(ctx context.Context, d oci.Digest) error
	// Abort drops the upload; after Commit it is a no-op.
	Abort(ctx context.Context) error
}

// Follower is an Upload whose bytes can be read while they are still being written,
// so that a layer is examined during its push without holding the push up.
type Follower interface {
	// Follow returns a reader of the whole upload from its first byte on. Read blocks
	// until there is more, also while the upload rests between Save and a Resume in
	// the same process; it returns io.EOF after Commit and ErrClosed after Abort.
	// Cancelling ctx ends a blocked Read. The caller closes the reader.
	Follow(ctx context.Context) (io.ReadCloser, error)
}

// Behind is a reader of a Follower that knows how many bytes could be read from it
// without waiting.
type Behind interface{ Behind() int64 }

// Whole is a blob's content in memory.
type Whole struct {
	Digest  oci.Digest
	Content []byte
}

// Bulk is a Store that takes many small blobs for less than each of them costs by itself.
type Bulk interface {
	// PutAll makes contents blobs, durable and visible, in place of those that are there.
	// After an error some of them may be there, each of those whole. ErrMismatch if a
	// content is not its digest's; then none is.
	PutAll(ctx context.Context, all []Whole) error
}

// Aged is a Store that knows when a blob came in.
type Aged interface {
	// Since is when the blob's last byte was written, or later. ErrNotFound if there is
	// no such blob.
	Since(ctx context.Context, d oci.Digest) (time.Time, error)
}

// Shelf is a Store that can set a damaged blob aside instead of losing what is left of it.
type Shelf interface {
	// SetAside takes a blob out of the store and keeps its bytes apart, in place of what was
	// kept of it before. ErrNotFound if there is no such blob.
	SetAside(ctx context.Context, d oci.Digest) error
	// OpenAside reads what was set aside. ErrNotFound if nothing was. The caller closes it.
	OpenAside(ctx context.Context, d oci.Digest) (io.ReadCloser, error)
	// PutBack makes what was set aside a blob again. ErrNotFound if nothing was.
	PutBack(ctx context.Context, d oci.Digest) error
}

// Records is a Store that keeps small records by name beside the blobs. A name is 1 to 100
// lower-case letters, digits, hyphens and dots, and begins with a letter or digit; ErrName
// for others.
type Records interface {
	// Keep makes a record durable, in place of the one that had its name. It is seen whole
	// or not at all, also after a power cut.
	Keep(ctx context.Context, name string, content []byte) error
	// Record returns a record. ErrNotFound if there is none of this name.
	Record(ctx context.Context, name string) ([]byte, error)
	// Names lists all records, sorted by bytes.
	Names(ctx context.Context) ([]string, error)
	// Forget removes a record. Removing what is not there is no error.
	Forget(ctx context.Context, name string) error
}

// RecordName says whether a record can have this name.
func RecordName(name string) bool {
	for i, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (i == 0 || c != '-' && c != '.') {
			return false
		}
	}
	return name != "" && len(name) <= 100
}

// Linker is a Store that can hand out an address from which a client fetches the
// blob itself.
type Linker interface {
	Link(ctx context.Context, d oci.Digest) (url string, err error)
}

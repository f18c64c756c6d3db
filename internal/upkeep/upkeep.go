// Package upkeep looks after a data folder: it checks and mends it, writes the journal from
// which a lost catalog can be made again, and makes it again. It knows no HTTP and no
// verdicts; what is served is the registry's to say.
package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/time/rate"

	"pratique.dev/pratique/internal/blob/fileblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// CatalogFile is the name of the catalog in a data folder.
const CatalogFile = "catalog.db"

// Data is an opened data folder.
type Data struct {
	Dir   string
	Store *fileblob.Store
	Cat   *catalog.Catalog
}

// Open opens the data folder of a registry, be it running or not. It makes nothing: the
// error says what to do where there is no registry. The caller closes it.
func Open(ctx context.Context, dir string) (*Data, error) {
	name := filepath.Join(dir, CatalogFile)
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, "blobs")); err == nil {
			return nil, fmt.Errorf("%s holds blobs and no %s; 'pratique rebuild' makes it again", dir, CatalogFile)
		}
		return nil, fmt.Errorf("%s is no data folder of a registry; name one with --data", dir)
	} else if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	store, err := fileblob.New(dir)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	cat, err := catalog.Open(ctx, "sqlite:"+name)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("data folder %s: %w; if the file is damaged, restore a backup or 'pratique rebuild --force' makes it again", dir, err), store.Close())
	}
	return &Data{dir, store, cat}, nil
}

// Close gives the data folder up.
func (d *Data) Close() error { return errors.Join(d.Cat.Close(), d.Store.Close()) }

// readSize is how many bytes are read and let through at once.
const readSize = 256 << 10

// throttle limits how many bytes a second are read; nil does not.
func throttle(bytesPerSecond int64) *rate.Limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytesPerSecond), readSize)
}

// errHeldUp says that a limit let no more bytes through before its context's end. Of the bytes
// it says nothing.
var errHeldUp = errors.New("the limit of bytes a second was reached")

// pass waits until n bytes may be read by a limit, nil for none.
func pass(ctx context.Context, limit *rate.Limiter, n int) error {
	for limit != nil && n > 0 {
		part := min(n, limit.Burst())
		if err := limit.WaitN(ctx, part); err != nil {
			return fmt.Errorf("%w: %w", errHeldUp, err)
		}
		n -= part
	}
	return nil
}

// digestOf reads r to its end and returns the digest under a and the size, telling of the
// bytes as they are read.
func digestOf(ctx context.Context, a oci.Algorithm, r io.Reader, limit *rate.Limiter, tell func(n int)) (oci.Digest, int64, error) {
	h := a.New()
	buf := make([]byte, readSize)
	var size int64
	for {
		if err := ctx.Err(); err != nil {
			return oci.Digest{}, size, err
		}
		n, err := r.Read(buf)
		h.Write(buf[:n])
		size += int64(n)
		if tell != nil {
			tell(n)
		}
		if err := pass(ctx, limit, n); err != nil {
			return oci.Digest{}, size, err
		}
		if errors.Is(err, io.EOF) {
			return oci.DigestFrom(a, h), size, nil
		}
		if err != nil {
			return oci.Digest{}, size, err
		}
	}
}

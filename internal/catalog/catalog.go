// Package catalog keeps everything the registry knows but the blobs' bytes:
// repositories, manifests and tags, uploads, inventories of layers and images,
// advisories and the findings they make, verdicts, principals and events. It is the
// only package that speaks SQL, to SQLite or PostgreSQL with the same words.
//
// Each method is one transaction: one that returned nil has committed durably, one
// that returned an error has changed nothing. Inventories alone (PutLayer, PutImage) may be
// gone after a power cut, unless something was committed after them: they can be read again. Methods may be called at once from many
// goroutines and, on PostgreSQL, many processes.
//
// There is no queue of work. A verdict that must be reached again says so itself
// (Due), so that nothing can be lost between a fact and the work that follows from it.
// Bytes of blobs are the blob store's, and what verdict is right is policy's.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"pratique.dev/pratique/internal/access"
)

// What methods report, for errors.Is.
var (
	ErrNotFound = errors.New("not found")
	// ErrNoRepository is an ErrNotFound that says that not even the repository exists.
	ErrNoRepository = fmt.Errorf("no such repository: %w", ErrNotFound)
	ErrConflict     = errors.New("conflicts with what the catalog holds")
	// ErrCondition says that a Condition does not hold; nothing was changed.
	ErrCondition = errors.New("the condition does not hold")
	ErrNoSpace   = errors.New("no space left for the catalog")
	ErrReadOnly  = errors.New("the catalog's place cannot be written to")
	// ErrNewerSchema comes from Open alone.
	ErrNewerSchema = errors.New("the catalog was written by a newer version")
)

// Catalog is an open catalog.
type Catalog struct {
	engine engine
	read   *pool
	write  *pool
	group  *group // of transactions that are committed together; SQLite's
	memory *memory
	now    func() time.Time
	log    *slog.Logger
	zip    *zstd.Encoder
	unzip  *zstd.Decoder
	vfs    string // SQLite's way to its files, which tests alone choose

	mu      sync.Mutex
	covered coverage // as of the last look
	access  int64    // AccessVersion, as of accessAt
	// accessAt is zero where it must be read anew.
	accessAt   time.Time
	conditions map[string]access.Condition // of assignments, by their text
}

// Option changes what Open makes.
type Option func(*Catalog)

// WithClock sets where the catalog takes the time from when a method is not given it.
func WithClock(now func() time.Time) Option { return func(c *Catalog) { c.now = now } }

// WithLog sets where the catalog tells of migrations and of transactions that were tried again.
func WithLog(log *slog.Logger) Option { return func(c *Catalog) { c.log = log } }

// Bounds of what is kept, in bytes. Each connection to SQLite has 256 MiB and ends the
// process when it needs more.
const (
	maxDoc   = 512 << 20 // an inventory, unpacked
	maxValue = 32 << 20  // one value: a packed inventory, an advisory, an upload's state
)

// Open opens the catalog that dsn names, and brings its schema up to this version's:
// "sqlite:/path/catalog.db" (made if it is not there), "sqlite::memory:" (gone after
// Close) or "postgres://…". The error wraps ErrNewerSchema if a newer version of the
// program has been at it, ErrReadOnly if the file cannot be written. The caller closes
// the catalog.
func Open(ctx context.Context, dsn string, options ...Option) (*Catalog, error) {
	c := &Catalog{now: time.Now, log: slog.New(slog.DiscardHandler)}
	for _, o := range options {
		o(c)
	}
	var err error
	if c.zip, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true)); err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	if c.unzip, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxDoc)); err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	if c.engine, c.write, c.read, err = openPools(dsn, c.vfs); err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	if k := c.write.checkpoints; k != nil {
		k.start(c.read, c.write, c.log)
	}
	c.memory = &memory{}
	c.group = newGroup(c.write, c.engine)
	c.group.memory = c.memory
	if err := c.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open catalog: %w", asKnown(err)), c.Close())
	}
	return c, nil
}

// Close ends all connections. Methods that are under way fail.
func (c *Catalog) Close() error {
	if k := c.write.checkpoints; k != nil {
		k.end()
	}
	err := c.read.close()
	if c.write != c.read {
		err = errors.Join(err, c.write.close())
	}
	c.unzip.Close()
	return err
}

// micros is how times are kept; the zero time as null.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// fromMicros is the inverse of micros.
func fromMicros(n *int64) time.Time {
	if n == nil {
		return time.Time{}
	}
	return time.UnixMicro(*n).UTC()
}

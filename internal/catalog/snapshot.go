package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/ncruces/go-sqlite3/driver"
)

// ErrNoSnapshot says that a database offers no copy of itself in a file.
var ErrNoSnapshot = errors.New("only a catalog in SQLite can be copied as a file; use PostgreSQL's own tools for others")

// Snapshot copies the catalog, as it is at one moment, to a new file, and makes that
// durable. Others go on reading and writing meanwhile.
func (c *Catalog) Snapshot(ctx context.Context, name string) error {
	if c.engine.name != sqliteEngine.name {
		return ErrNoSnapshot
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return fmt.Errorf("copy the catalog: %w", err)
	}
	conn, err := c.read.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("copy the catalog: %w", err)
	}
	to := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(abs)}
	err = conn.Raw(func(raw any) error { return raw.(driver.Conn).Raw().Backup("main", to.String()) })
	if err := errors.Join(err, conn.Close()); err != nil {
		return fmt.Errorf("copy the catalog to %s: %w", name, asKnown(err))
	}
	f, err := os.Open(abs)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("copy the catalog to %s: %w", name, asKnown(err))
	}
	return nil
}

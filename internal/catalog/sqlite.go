package catalog

import (
	"context"
	"crypto/rand"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
	"github.com/ncruces/go-sqlite3/vfs/memdb"
)

// Sizes of SQLite's connections.
const (
	readers     = 8     // connections that read at once
	writerCache = 16384 // KiB of pages
	readerCache = 4096

	idleConnection = 5 * time.Second // then a connection is closed
)

// openSQLite opens the one connection that writes and the pool of those that read. A
// second writing connection would only wait for the first, and could be told "busy".
func openSQLite(path, vfs string) (write, read *pool, err error) {
	u := url.URL{Scheme: "file", OmitHost: true}
	mode, memory := []string{"journal_mode(wal)", "synchronous(full)"}, int64(256<<20)
	drop := func() {}
	if path == ":memory:" {
		name := rand.Text()
		memdb.Create(name, nil)
		drop = func() { memdb.Delete(name) }
		u.Path, vfs = "/"+name, "memdb"
		// A memory database has no WAL: what spills out of the cache would lock readers
		// out, so a transaction stays in the cache.
		mode, memory = []string{"journal_mode(memory)", "cache_spill(off)"}, 1<<30
	} else {
		if u.Path, err = checkPlace(path); err != nil {
			return nil, nil, err
		}
	}
	connect := func(cacheKiB int, hook func(pages int), extra ...string) (*sql.DB, error) {
		v := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(20000)"}}
		if vfs != "" {
			v.Set("vfs", vfs)
		}
		for _, p := range append(mode, "foreign_keys(on)", "trusted_schema(off)", "temp_store(memory)", fmt.Sprintf("cache_size(-%d)", cacheKiB)) {
			v.Add("_pragma", p)
		}
		for _, p := range extra {
			v.Add("_pragma", p)
		}
		u.RawQuery = v.Encode()
		c, err := (&driver.SQLite{}).OpenConnector(u.String())
		if err != nil {
			return nil, err
		}
		db := sql.OpenDB(bounded{c, memory, hook})
		if path != ":memory:" {
			// A connection never gives back the memory that its largest transaction took.
			db.SetConnMaxIdleTime(idleConnection)
		}
		return db, nil
	}
	checkpoints := newCheckpoints()
	w, err := connect(writerCache, checkpoints.committed)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", path, err)
	}
	w.SetMaxOpenConns(1)
	if err := connectSQLite(w); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open %s: %w", path, err), w.Close())
	}
	r, err := connect(readerCache, nil, "query_only(on)")
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open %s: %w", path, err), w.Close())
	}
	r.SetMaxOpenConns(max(readers, runtime.GOMAXPROCS(0)))
	r.SetMaxIdleConns(4)
	return &pool{db: w, prepare: true, words: sqliteWords, drop: drop, checkpoints: checkpoints}, &pool{db: r, prepare: true, words: sqliteWords}, nil
}

// bounded makes connections with a bound on their memory: beyond it the driver panics,
// see maxValue. One that has a hook tells it the length of the log after each commit, and
// copies nothing of the log by itself.
type bounded struct {
	sqldriver.Connector
	memory int64
	hook   func(pages int)
}

// Connect implements driver.Connector.
func (b bounded) Connect(ctx context.Context) (sqldriver.Conn, error) {
	c, err := b.Connector.Connect(sqlite3.WithMaxMemory(ctx, b.memory))
	if raw, ok := c.(interface{ Raw() *sqlite3.Conn }); ok && err == nil && b.hook != nil {
		raw.Raw().WALHook(func(_ *sqlite3.Conn, _ string, pages int) error { b.hook(pages); return nil })
	}
	return c, err
}

// connectSQLite makes the first connection. When another process has made the file just
// now and is going over to WAL, SQLite says "locked" at once instead of waiting.
func connectSQLite(db *sql.DB) error {
	ctx := context.Background()
	for wait := time.Millisecond; ; wait *= 2 {
		err := db.PingContext(ctx)
		if err == nil || !errors.Is(err, sqlite3.BUSY) || wait > 8*time.Second {
			return err
		}
		time.Sleep(wait)
	}
}

// SQLite takes $2 for a name and numbers names as they come; ?2 is the second parameter.
var dollar = regexp.MustCompile(`\$(\d+)`)

func sqliteWords(text string) string { return dollar.ReplaceAllString(text, "?$1") }

// checkPlace says in plain words what SQLite would call "unable to open database file".
func checkPlace(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("path of %s: %w", path, err)
	}
	f, err := os.OpenFile(abs, os.O_RDWR|os.O_CREATE, 0o600)
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return "", fmt.Errorf("%w: %w; give this user the right to write to it, or name another folder", ErrReadOnly, err)
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%w; make the folder first", err)
	case err != nil:
		return "", asKnown(err)
	}
	return filepath.ToSlash(abs), f.Close()
}

// sqliteError names the errors of SQLite that callers ask for.
func sqliteError(err error) error {
	for _, k := range []struct{ code, known error }{
		{sqlite3.FULL, ErrNoSpace},
		{sqlite3.READONLY, ErrReadOnly},
		{sqlite3.PERM, ErrReadOnly},
		{sqlite3.CONSTRAINT_FOREIGNKEY, ErrConflict},
		{sqlite3.CONSTRAINT_UNIQUE, ErrConflict},
		{sqlite3.CONSTRAINT_PRIMARYKEY, ErrConflict},
		{sqlite3.CONSTRAINT_ROWID, ErrConflict},
	} {
		if errors.Is(err, k.code) {
			return k.known
		}
	}
	return nil
}

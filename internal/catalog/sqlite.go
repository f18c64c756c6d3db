package catalog

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
	"github.com/ncruces/go-sqlite3/vfs/memdb"
)

// Sizes of SQLite's connections.
const (
	readers     = 8     // connections that read at once
	writerCache = 16384 // KiB of pages
	readerCache = 4096
)

// openSQLite opens the one connection that writes and the pool of those that read. A
// second writing connection would only wait for the first, and could be told "busy".
func openSQLite(path string) (write, read *pool, err error) {
	u := url.URL{Scheme: "file", OmitHost: true}
	mode := []string{"journal_mode(wal)", "synchronous(full)"}
	drop := func() {}
	if path == ":memory:" {
		name := rand.Text()
		memdb.Create(name, nil)
		drop = func() { memdb.Delete(name) }
		u.Path = "/" + name
		// A memory database has no WAL: what spills out of the cache would lock readers out.
		mode = []string{"journal_mode(memory)", "cache_spill(off)"}
	} else {
		if u.Path, err = checkPlace(path); err != nil {
			return nil, nil, err
		}
	}
	connect := func(cacheKiB int, extra ...string) (*sql.DB, error) {
		v := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(20000)"}}
		if path == ":memory:" {
			v.Set("vfs", "memdb")
		}
		for _, p := range append(mode, "foreign_keys(on)", "trusted_schema(off)", "temp_store(memory)", fmt.Sprintf("cache_size(-%d)", cacheKiB)) {
			v.Add("_pragma", p)
		}
		for _, p := range extra {
			v.Add("_pragma", p)
		}
		u.RawQuery = v.Encode()
		return driver.Open(u.String())
	}
	w, err := connect(writerCache)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", path, err)
	}
	w.SetMaxOpenConns(1)
	r, err := connect(readerCache, "query_only(on)")
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open %s: %w", path, err), w.Close())
	}
	r.SetMaxOpenConns(max(readers, runtime.GOMAXPROCS(0)))
	r.SetMaxIdleConns(4)
	return &pool{db: w, prepare: true, words: sqliteWords, drop: drop}, &pool{db: r, prepare: true, words: sqliteWords}, nil
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
	var e *sqlite3.Error
	switch {
	case !errors.As(err, &e):
		return nil
	case e.Code() == sqlite3.FULL:
		return ErrNoSpace
	case e.Code() == sqlite3.READONLY, e.Code() == sqlite3.PERM:
		return ErrReadOnly
	case e.ExtendedCode() == sqlite3.CONSTRAINT_FOREIGNKEY, e.ExtendedCode() == sqlite3.CONSTRAINT_UNIQUE,
		e.ExtendedCode() == sqlite3.CONSTRAINT_PRIMARYKEY, e.ExtendedCode() == sqlite3.CONSTRAINT_ROWID:
		return ErrConflict
	}
	return nil
}

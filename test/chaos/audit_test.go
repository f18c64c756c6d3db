package chaos

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/ncruces/go-sqlite3"
)

// audit looks into the data folder of a server that has ended: every file of a blob is
// whole, every row of a blob and of an upload has its bytes, and the catalog is sound.
func audit(data string) error {
	db, err := sqlite3.OpenFlags(filepath.Join(data, "catalog.db"), sqlite3.OPEN_READONLY)
	if err != nil {
		return err
	}
	return errors.Join(auditBlobs(data), auditRows(data, db), auditCatalog(db), db.Close())
}

func auditBlobs(data string) error {
	root := os.DirFS(data)
	return fs.WalkDir(root, "blobs/sha256", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return err
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != path.Base(name) {
			return fmt.Errorf("%s holds %s", name, got)
		}
		return nil
	})
}

func auditRows(data string, db *sqlite3.Conn) error {
	return errors.Join(
		each(db, `select substr(digest, 8), size from blobs`, func(hex string, size int64) error {
			info, err := os.Stat(filepath.Join(data, "blobs/sha256", hex[:2], hex))
			if err == nil && info.Size() != size {
				err = fmt.Errorf("blob %s has %d bytes, want %d", hex, info.Size(), size)
			}
			return err
		}),
		each(db, `select id, size from uploads`, func(id string, size int64) error {
			info, err := os.Stat(filepath.Join(data, "uploads", id))
			if err == nil && info.Size() < size {
				err = fmt.Errorf("upload %s has %d bytes, and %d are promised", id, info.Size(), size)
			}
			return err
		}))
}

func auditCatalog(db *sqlite3.Conn) error {
	return errors.Join(
		each(db, `pragma integrity_check`, func(said string, _ int64) error {
			if said != "ok" {
				return errors.New("the catalog is damaged: " + said)
			}
			return nil
		}),
		each(db, `pragma foreign_key_check`, func(table string, row int64) error {
			return fmt.Errorf("row %d of %s refers to nothing", row, table)
		}))
}

// each calls f with the first two columns of a query's rows.
func each(db *sqlite3.Conn, query string, f func(string, int64) error) error {
	q, _, err := db.Prepare(query)
	if err != nil {
		return err
	}
	for q.Step() {
		if err := f(q.ColumnText(0), q.ColumnInt64(1)); err != nil {
			return errors.Join(err, q.Close())
		}
	}
	return errors.Join(q.Err(), q.Close())
}

package registry

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"

	"pratique.dev/pratique/internal/blob/fileblob"
	"pratique.dev/pratique/internal/catalog"
)

// garbageBlobs is how many blobs BenchmarkCollect collects.
const garbageBlobs = 100_000

// BenchmarkCollect collects blobs of one repository that no manifest names, on disk.
func BenchmarkCollect(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		store, err := fileblob.New(dir)
		if err != nil {
			b.Fatal(err)
		}
		cat, err := catalog.Open(b.Context(), "sqlite:"+filepath.Join(dir, "catalog.db"))
		if err != nil {
			b.Fatal(err)
		}
		if err := litter(b, dir); err != nil {
			b.Fatal(err)
		}
		reg := New(cat, store, Options{Now: func() time.Time { return time.Now().Add(2 * DefaultGrace) }})
		b.StartTimer()
		c, err := reg.Collect(b.Context(), CollectOptions{})
		b.StopTimer()
		if err != nil || c.Blobs != garbageBlobs {
			b.Fatalf("%+v, %v", c, err)
		}
		if err := cat.Close(); err != nil {
			b.Fatal(err)
		}
		if err := store.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// litter puts the blobs where pushes would, all at once.
func litter(b *testing.B, dir string) error {
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "catalog.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	tx, err := db.BeginTx(b.Context(), nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.Exec(`insert into repositories (id, name, created_at) values (1, 'team/app', 0)`); err != nil {
		return err
	}
	if _, err := tx.Exec(`insert into usage (repository_id, bytes, tags) values (1, 0, 0)`); err != nil {
		return err
	}
	for i := range garbageBlobs {
		content := fmt.Sprintf("content of the blob %d", i)
		d := sum(content)
		name := filepath.Join(dir, "blobs", "sha256", d.Hex()[:2], d.Hex())
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			return err
		}
		if _, err := tx.Exec(`insert into blobs (id, digest, size, touched_at) values (?, ?, ?, 0)`, i+1, d.String(), len(content)); err != nil {
			return err
		}
		if _, err := tx.Exec(`insert into links (repository_id, blob_id, linked_at) values (1, ?, 0)`, i+1); err != nil {
			return err
		}
	}
	return tx.Commit()
}

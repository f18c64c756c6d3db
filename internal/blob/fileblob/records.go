package fileblob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/oci"
)

const (
	damagedDir = "damaged"
	journalDir = "journal"

	// unfinished begins the names of records that are being written.
	unfinished = ".new-"
)

// asidePath is where d is kept when it was set aside.
func asidePath(d oci.Digest) string {
	return path.Join(damagedDir, string(d.Algorithm())+"-"+d.Hex())
}

// SetAside implements blob.Shelf.
func (s *Store) SetAside(ctx context.Context, d oci.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.IsZero() {
		return blob.ErrNotFound
	}
	if err := s.makeDir(damagedDir); err != nil {
		return fmt.Errorf("set %s aside: %w", d, explain(err))
	}
	return s.move(blobPath(d), asidePath(d), "set "+d.String()+" aside")
}

// PutBack implements blob.Shelf.
func (s *Store) PutBack(ctx context.Context, d oci.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.IsZero() {
		return blob.ErrNotFound
	}
	to := blobPath(d)
	if err := s.makeDir(path.Dir(to)); err != nil {
		return fmt.Errorf("put %s back: %w", d, explain(err))
	}
	return s.move(asidePath(d), to, "put "+d.String()+" back")
}

// move renames a file and makes that durable.
func (s *Store) move(from, to, what string) error {
	err := s.disk.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", what, blob.ErrNotFound)
	}
	if err == nil {
		err = errors.Join(s.syncDir(path.Dir(to)), s.syncDir(path.Dir(from)))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, explain(err))
	}
	return nil
}

// OpenAside implements blob.Shelf.
func (s *Store) OpenAside(ctx context.Context, d oci.Digest) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if d.IsZero() {
		return nil, blob.ErrNotFound
	}
	f, err := s.disk.OpenFile(asidePath(d), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open what was set aside of %s: %w", d, blob.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open what was set aside of %s: %w", d, err)
	}
	return f, nil
}

// Keep implements blob.Records.
func (s *Store) Keep(ctx context.Context, name string, content []byte) error {
	if err := checkRecord(ctx, name); err != nil {
		return err
	}
	if err := s.keep(name, content); err != nil {
		return fmt.Errorf("keep record %s: %w", name, explain(err))
	}
	return nil
}

func (s *Store) keep(name string, content []byte) error {
	if err := s.makeDir(journalDir); err != nil {
		return err
	}
	temp := path.Join(journalDir, unfinished+name)
	f, err := s.disk.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = s.disk.Rename(temp, path.Join(journalDir, name))
	}
	if err != nil {
		if e := s.disk.Remove(temp); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		return err
	}
	return s.syncDir(journalDir)
}

func checkRecord(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !blob.RecordName(name) {
		return fmt.Errorf("record %.120q: %w", name, blob.ErrName)
	}
	return nil
}

// Record implements blob.Records.
func (s *Store) Record(ctx context.Context, name string) ([]byte, error) {
	if err := checkRecord(ctx, name); err != nil {
		return nil, err
	}
	f, err := s.disk.OpenFile(path.Join(journalDir, name), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("record %s: %w", name, blob.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", name, err)
	}
	content, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("record %s: %w", name, err)
	}
	return content, nil
}

// Names implements blob.Records.
func (s *Store) Names(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(s.disk.FS(), journalDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list records: %w", err)
	}
	var out []string
	for _, e := range entries {
		if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), unfinished) && blob.RecordName(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, nil // fs.ReadDir sorts
}

// Forget implements blob.Records.
func (s *Store) Forget(ctx context.Context, name string) error {
	if err := checkRecord(ctx, name); err != nil {
		return err
	}
	if err := s.disk.Remove(path.Join(journalDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget record %s: %w", name, explain(err))
	}
	return nil
}

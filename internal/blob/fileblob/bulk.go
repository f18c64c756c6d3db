package fileblob

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/oci"
)

// part is one of many blobs on their way in.
type part struct {
	blob.Whole
	file file   // nil once it is closed
	name string // of the file until it is renamed, then ""
}

// PutAll implements blob.Bulk. Each file and each folder is synced as ever, but only once
// all are written and all are renamed: with the first the disk keeps most of the others.
func (s *Store) PutAll(ctx context.Context, all []blob.Whole) (err error) {
	for _, w := range all {
		if w.Digest.IsZero() || oci.DigestOf(w.Digest.Algorithm(), w.Content) != w.Digest {
			return fmt.Errorf("put %s: %w", w.Digest, blob.ErrMismatch)
		}
	}
	parts := make([]part, len(all))
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("put %d blobs: %w", len(all), explain(err)), s.dropParts(parts))
		}
	}()
	for i, w := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		parts[i].Whole = w
		if err := s.writePart(&parts[i]); err != nil {
			return err
		}
	}
	for i := range parts {
		p := &parts[i]
		err := errors.Join(p.file.Sync(), p.file.Close())
		if p.file = nil; err != nil {
			return err
		}
	}
	return s.nameParts(parts)
}

// writePart writes a blob to a file among the uploads, which the disk begins to take.
func (s *Store) writePart(p *part) error {
	var random [16]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	name := uploadPath(hex.EncodeToString(random[:]))
	f, err := s.disk.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	p.file, p.name = f, name
	if _, err := f.Write(p.Content); err != nil {
		return err
	}
	writeAhead(f, 0, int64(len(p.Content)))
	return nil
}

// nameParts makes blobs of what is synced.
func (s *Store) nameParts(parts []part) error {
	dirs := map[string]bool{}
	for i := range parts {
		p := &parts[i]
		to := blobPath(p.Digest)
		if err := s.makeDir(path.Dir(to)); err != nil {
			return err
		}
		if err := s.disk.Rename(p.name, to); err != nil {
			return err
		}
		p.name = ""
		dirs[path.Dir(to)] = true
	}
	for dir := range dirs {
		if err := s.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// dropParts removes what did not become a blob.
func (s *Store) dropParts(parts []part) (err error) {
	for _, p := range parts {
		if p.file != nil {
			err = errors.Join(err, p.file.Close())
		}
		if p.name == "" {
			continue
		}
		if e := s.disk.Remove(p.name); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

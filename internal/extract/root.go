package extract

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"

	"pratique.dev/pratique/internal/inventory"
)

// folder walks a root file system on disk. os.Root keeps every access within dir,
// whatever links say and whoever changes them meanwhile.
func (s *scan) folder(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if s.fatal != nil {
			return s.fatal
		}
		if err != nil {
			if p == "." {
				return err
			}
			s.gap(inventory.GapUnread, p, plain(err))
			return nil
		}
		if s.files++; s.files > int64(s.set.limits.Entries) {
			s.gap(inventory.GapBound, "", fmt.Sprintf("more than %d entries; the rest was not read", s.set.limits.Entries))
			return fs.SkipAll
		}
		return s.onDisk(ctx, root, p, d)
	})
}

// onDisk takes one entry of a folder.
func (s *scan) onDisk(ctx context.Context, root *os.Root, p string, d fs.DirEntry) error {
	switch {
	case d.IsDir():
		if p == "proc" || p == "sys" {
			return fs.SkipDir
		}
		if p != "." {
			s.directory(p)
		}
	case d.Type()&fs.ModeSymlink != 0:
		target, err := root.Readlink(p)
		if err != nil {
			s.gap(inventory.GapUnread, p, plain(err))
			return nil
		}
		s.symlink(p, target)
	case d.Type().IsRegular():
		s.fileOnDisk(ctx, root, p)
	default:
		s.place(p)
	}
	return nil
}

// fileOnDisk reads a regular file. It must not wait for a pipe that somebody put
// in the file's place since.
func (s *scan) fileOnDisk(ctx context.Context, root *os.Root, p string) {
	f, err := root.OpenFile(p, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		s.place(p)
		s.gap(inventory.GapUnread, p, plain(err))
		return
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		s.gap(inventory.GapUnread, p, "no longer a regular file")
		return
	}
	s.regular(ctx, &File{Path: path.Clean(p), Mode: info.Mode(), Size: info.Size(), Reader: f, at: f})
}

// plain is err without the path, which the gap names.
func plain(err error) string {
	if e, ok := err.(*fs.PathError); ok {
		return e.Op + ": " + e.Err.Error()
	}
	return err.Error()
}

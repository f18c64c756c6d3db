package extract

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"pratique.dev/pratique/internal/inventory"
)

// Whiteouts (image-spec layer.md, "Whiteouts").
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
	// metadata of aufs, which says nothing of the layer's content
	aufs = ".wh..wh."
)

// tar walks the archive in st to its end and st's, and returns what is wrong with either.
func (s *scan) tar(ctx context.Context, st *stream) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the archive reader gave up: %v", p)
		}
	}()
	tr := tar.NewReader(st)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		s.files++
		if s.files > int64(s.set.limits.Entries) {
			return &boundError{fmt.Sprintf("more than %d entries", s.set.limits.Entries)}
		}
		s.entry(ctx, hdr, tr)
		if s.fatal != nil {
			return s.fatal
		}
	}
	more, err := st.drain()
	if more {
		s.gap(inventory.GapArchive, "", "data follows the end of the archive; container runtimes do not unpack it")
	}
	return err
}

// entry takes one entry of the archive.
func (s *scan) entry(ctx context.Context, hdr *tar.Header, r io.Reader) {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return
	}
	p, ok := clean(hdr.Name)
	if !ok {
		s.gap(inventory.GapUnusable, hdr.Name, "the name leaves the root")
		return
	}
	if len(p) > s.set.limits.PathLength {
		s.gap(inventory.GapUnusable, hdr.Name, fmt.Sprintf("the name is longer than %d bytes", s.set.limits.PathLength))
		return
	}
	if base := path.Base(p); strings.HasPrefix(base, whiteout) {
		s.whiteout(p, base)
		return
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		s.directory(p)
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		if p == "" {
			s.gap(inventory.GapUnusable, hdr.Name, "a file in place of the root")
			return
		}
		s.regular(ctx, &File{Path: p, Mode: hdr.FileInfo().Mode(), Size: hdr.Size, Reader: r})
	case tar.TypeLink:
		target, ok := clean(hdr.Linkname)
		if !ok {
			s.gap(inventory.GapUnusable, p, "a hard link to a name that leaves the root")
			return
		}
		s.hardLink(p, target)
	case tar.TypeSymlink:
		s.symlink(p, hdr.Linkname)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		s.place(p)
	default:
		s.gap(inventory.GapUnusable, p, fmt.Sprintf("an entry of unknown type %q", hdr.Typeflag))
	}
}

// whiteout notes what the entry at p, whose last element is base, removes from lower layers.
func (s *scan) whiteout(p, base string) {
	dir := strings.TrimSuffix(strings.TrimSuffix(p, base), "/")
	name := strings.TrimPrefix(base, whiteout)
	switch {
	case base == opaque:
		s.removed = append(s.removed, dir+"/")
	case strings.HasPrefix(base, aufs):
	case name == "" || name == "." || name == "..":
		s.gap(inventory.GapUnusable, p, "a whiteout of nothing")
	default:
		s.removed = append(s.removed, path.Join(dir, name))
	}
}

// directory notes a folder. It replaces what was read from a file of its name, and
// changes nothing for what lies below.
func (s *scan) directory(p string) {
	s.forget(p)
	for _, x := range s.set.extractors {
		if x.Wants(p) {
			s.folders = append(s.folders, inventory.PathHash(p))
			return
		}
	}
}

// symlink notes a link. Links are not followed: what they point at is read where it
// lies. That of os-release is kept, to choose among several of them.
func (s *scan) symlink(p, target string) {
	s.place(p)
	if !(osRelease{}).Wants(p) {
		return
	}
	if !path.IsAbs(target) {
		target = path.Join("/", path.Dir(p), target)
	}
	if to, ok := clean(target); ok {
		s.links[p] = to
	}
}

// broken notes why the archive could not be read to its end.
func (s *scan) broken(err error, format, mediaType string) {
	var bound *boundError
	switch {
	case errors.As(err, &bound):
		s.gap(inventory.GapBound, "", bound.what+"; the rest was not read")
	case errors.Is(err, io.ErrUnexpectedEOF):
		s.gap(inventory.GapArchive, "", fmt.Sprintf("the %s stream breaks off after %d entries", format, s.files))
	case errors.Is(err, tar.ErrHeader) && s.files == 0 && format == "tar":
		s.gap(inventory.GapArchive, "", fmt.Sprintf("neither gzip, zstd nor tar, though its media type is %q", mediaType))
	default:
		s.gap(inventory.GapArchive, "", fmt.Sprintf("the %s stream is broken after %d entries: %v", format, s.files, err))
	}
}

package extract

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"pratique.dev/pratique/internal/inventory"
)

// rpm reads rpm's database of installed packages in each of the three forms that it
// has had: a Berkeley DB hash, rpm's own NDB, and SQLite. All of them hold the header of
// each package, which says the rest.
type rpm struct{}

func (rpm) Kind() string { return "rpm" }

func (rpm) Wants(p string) bool {
	switch path.Base(p) {
	case "Packages", "Packages.db", "rpmdb.sqlite":
		return isRPMDir(path.Dir(p))
	}
	return false
}

func isRPMDir(dir string) bool {
	return dir == "var/lib/rpm" || dir == "usr/lib/sysimage/rpm" || dir == "usr/share/rpm"
}

// headers calls yield with the header of each package in db, until it returns an error.
// The sum of their lengths may be at most db.size.
type headers func(db *rpmFile, yield func([]byte) error) error

func (rpm) Extract(ctx context.Context, f *File, found *Found) error {
	if f.Size == 0 {
		found.Nothing()
		return errors.New("an empty rpm database")
	}
	at, err := f.Random()
	if err != nil {
		return err
	}
	db := &rpmFile{ReaderAt: at, size: f.Size, budget: f.Size, record: f.limits().Record}
	read, err := rpmFormat(db)
	if err != nil {
		found.Nothing()
		return err
	}
	bad := 0
	var first error
	err = read(db, func(blob []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := parseRPMHeader(blob)
		if err == nil {
			err = h.report(found)
		}
		if err != nil {
			if bad++; first == nil {
				first = err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d packages of the rpm database could not be read, the first because of %w", bad, first)
	}
	return nil
}

// rpmFile is a database and what may still be read out of it.
type rpmFile struct {
	io.ReaderAt
	size, budget, record int64
}

// take returns n bytes at off, which must lie within the file.
func (db *rpmFile) take(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off > db.size-n {
		return nil, fmt.Errorf("%d bytes at %d are not in the rpm database", n, off)
	}
	b := make([]byte, n)
	if _, err := db.ReadAt(b, off); err != nil {
		return nil, err
	}
	return b, nil
}

// spend takes the length of a header off the budget: in a sound database no two
// headers share their bytes, so that all of them together are no longer than the file.
func (db *rpmFile) spend(n int64) error {
	if n > db.record {
		return &boundError{fmt.Sprintf("a package record of %d bytes is longer than the %d that are read", n, db.record)}
	}
	if n > db.budget {
		return errors.New("the records of the rpm database are longer than the database")
	}
	db.budget -= n
	return nil
}

// rpmFormat tells the form of a database by its first bytes.
func rpmFormat(db *rpmFile) (headers, error) {
	head := make([]byte, 16)
	if _, err := db.ReadAt(head, 0); err != nil {
		return nil, errors.New("too short for an rpm database")
	}
	switch {
	case bytes.Equal(head, []byte(sqliteMagic)):
		return sqliteHeaders, nil
	case bytes.Equal(head[:4], []byte(ndbMagic)):
		return ndbHeaders, nil
	case binary.LittleEndian.Uint32(head[12:]) == bdbHashMagic, binary.BigEndian.Uint32(head[12:]) == bdbHashMagic:
		return bdbHeaders, nil
	}
	return nil, errors.New("not an rpm database of a known form")
}

// rpmLog is SQLite's write-ahead log beside the database. What is still in it is not
// in the database, and this reader does not apply it.
type rpmLog struct{}

func (rpmLog) Kind() string { return "rpm" }
func (rpmLog) Wants(p string) bool {
	return path.Base(p) == "rpmdb.sqlite-wal" && isRPMDir(path.Dir(p))
}

func (rpmLog) Extract(_ context.Context, f *File, found *Found) error {
	found.Nothing()
	if f.Size > 32 { // the log's own header
		return fmt.Errorf("a write-ahead log of %d bytes holds changes to the rpm database that are not seen", f.Size)
	}
	return nil
}

// The tags of an rpm header that are read (rpm, lib/rpmtag.h).
const (
	tagName         = 1000
	tagVersion      = 1001
	tagRelease      = 1002
	tagEpoch        = 1003
	tagVendor       = 1011
	tagArch         = 1022
	tagOldFilenames = 1027
	tagSourceRPM    = 1044
	tagDirIndexes   = 1116
	tagBaseNames    = 1117
	tagDirNames     = 1118
	tagModularity   = 5096
)

// The types of a header's values (rpm, lib/rpmtag.h).
const (
	typeInt32  = 4
	typeString = 6
	typeArray  = 8
	typeI18N   = 9
)

// rpmHeader is a header's values by tag: texts and numbers, the others left out.
type rpmHeader struct {
	texts   map[uint32][]byte // the bytes from the value's first to the data's end
	numbers map[uint32][]byte
	counts  map[uint32]uint32
}

// parseRPMHeader reads a header as rpm keeps it in its database: the numbers of
// index entries and of data bytes, the entries, the data (rpm, docs/manual/format_header.md).
func parseRPMHeader(blob []byte) (*rpmHeader, error) {
	if len(blob) < 8 {
		return nil, errors.New("a header of less than 8 bytes")
	}
	entries, length := binary.BigEndian.Uint32(blob), binary.BigEndian.Uint32(blob[4:])
	if int64(entries)*16+int64(length)+8 > int64(len(blob)) {
		return nil, fmt.Errorf("a header of %d entries and %d bytes in %d bytes", entries, length, len(blob))
	}
	index, data := blob[8:8+16*entries], blob[8+16*entries:]
	data = data[:length]
	h := &rpmHeader{map[uint32][]byte{}, map[uint32][]byte{}, map[uint32]uint32{}}
	for ; len(index) > 0; index = index[16:] {
		tag, kind := binary.BigEndian.Uint32(index), binary.BigEndian.Uint32(index[4:])
		offset, count := binary.BigEndian.Uint32(index[8:]), binary.BigEndian.Uint32(index[12:])
		if tag < tagName {
			continue // regions and signatures, whose offsets mean something else
		}
		if offset > length {
			return nil, fmt.Errorf("tag %d lies outside the header", tag)
		}
		value := data[offset:]
		switch kind {
		case typeInt32:
			if int64(count)*4 > int64(len(value)) {
				return nil, fmt.Errorf("tag %d lies outside the header", tag)
			}
			h.numbers[tag] = value[:4*count]
		case typeString, typeI18N, typeArray:
			h.texts[tag], h.counts[tag] = value, count
		}
	}
	return h, nil
}

// text is the first text of a tag, "" if it has none.
func (h *rpmHeader) text(tag uint32) string {
	s, _, ok := bytes.Cut(h.texts[tag], []byte{0})
	if !ok || string(s) == "(none)" {
		return ""
	}
	return string(s)
}

// list is all texts of a tag.
func (h *rpmHeader) list(tag uint32) ([]string, error) {
	rest, n := h.texts[tag], h.counts[tag]
	out := make([]string, 0, min(int(n), len(rest)))
	for ; n > 0; n-- {
		s, more, ok := bytes.Cut(rest, []byte{0})
		if !ok {
			return nil, fmt.Errorf("the list of tag %d is cut off", tag)
		}
		out, rest = append(out, string(s)), more
	}
	return out, nil
}

// report adds the package and its files.
func (h *rpmHeader) report(found *Found) error {
	name, version, release := h.text(tagName), h.text(tagVersion), h.text(tagRelease)
	if name == "gpg-pubkey" {
		return nil // a key that was imported, not a package
	}
	if name == "" || version == "" || release == "" {
		return errors.New("a package without name, version or release")
	}
	// The epoch is left out where it is 0, as in advisories; both compare alike.
	full := version + "-" + release
	if e := h.numbers[tagEpoch]; len(e) >= 4 && binary.BigEndian.Uint32(e) != 0 {
		full = fmt.Sprintf("%d:%s", binary.BigEndian.Uint32(e), full)
	}
	p := inventory.Package{
		Key:  inventory.Key{Name: name, Version: full},
		Type: inventory.TypeRPM, Binary: name, BinaryVersion: full,
		Arch: h.text(tagArch), Module: h.text(tagModularity), Vendor: h.text(tagVendor),
	}
	p.Source, p.SourceVersion = splitSourceRPM(h.text(tagSourceRPM))
	found.Package(p)
	files, err := h.files()
	for _, file := range files {
		if f, ok := clean(file); ok && f != "" {
			found.Owns(name, f)
		}
	}
	return err
}

// splitSourceRPM takes "bash" and "5.1.8-6.el9" out of "bash-5.1.8-6.el9.src.rpm".
func splitSourceRPM(file string) (name, version string) {
	s := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(file, ".rpm"), ".src"), ".nosrc")
	i := strings.LastIndexByte(s, '-')
	if i < 0 {
		return "", ""
	}
	j := strings.LastIndexByte(s[:i], '-')
	if j < 0 {
		return "", ""
	}
	return s[:j], s[j+1:]
}

// files are the paths of the package's files.
func (h *rpmHeader) files() ([]string, error) {
	if _, old := h.texts[tagOldFilenames]; old {
		return h.list(tagOldFilenames)
	}
	bases, err := h.list(tagBaseNames)
	if err != nil {
		return nil, err
	}
	dirs, err := h.list(tagDirNames)
	if err != nil {
		return nil, err
	}
	at := h.numbers[tagDirIndexes]
	if len(at) != 4*len(bases) {
		return nil, errors.New("file names and folders of a package do not fit together")
	}
	out := make([]string, 0, len(bases))
	for i, base := range bases {
		n := binary.BigEndian.Uint32(at[4*i:])
		if int64(n) >= int64(len(dirs)) {
			return nil, errors.New("a file of a package lies in no folder")
		}
		out = append(out, dirs[n]+base)
	}
	return out, nil
}

package inventory

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// PathSet is a set of paths kept as the first 64 bits of their SHA-256, sorted: it
// answers whether a path is in it and costs about seven bytes for each, however long
// the paths are. The hash is cryptographic so that nobody can build a layer whose
// files pass for others.
type PathSet []uint64

// PathHash is the member of a PathSet that stands for path, which is cleaned and has no leading slash.
func PathHash(path string) uint64 {
	sum := sha256.Sum256([]byte(path))
	return binary.BigEndian.Uint64(sum[:8])
}

// NewPathSet sorts hashes into a set; it takes the slice over.
func NewPathSet(hashes []uint64) PathSet {
	slices.Sort(hashes)
	return PathSet(slices.Compact(hashes))
}

// Has says whether path is in the set.
func (s PathSet) Has(path string) bool {
	_, ok := slices.BinarySearch(s, PathHash(path))
	return ok
}

// HasOrBelow says whether path or any folder that it lies in is in the set: a file
// written where a folder was takes away everything below it.
func (s PathSet) HasOrBelow(path string) bool {
	if len(s) == 0 {
		return false
	}
	for {
		if s.Has(path) {
			return true
		}
		i := strings.LastIndexByte(path, '/')
		if i < 0 {
			return false
		}
		path = path[:i]
	}
}

// MarshalText writes the set as base64 of the differences between its members.
func (s PathSet) MarshalText() ([]byte, error) {
	b := make([]byte, 0, 8*len(s))
	var last uint64
	for _, h := range s {
		b = binary.AppendUvarint(b, h-last)
		last = h
	}
	return base64.StdEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText reads what MarshalText wrote.
func (s *PathSet) UnmarshalText(text []byte) error {
	b, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("path set: %w", err)
	}
	out := make(PathSet, 0, len(b)/7)
	var last uint64
	for len(b) > 0 {
		d, n := binary.Uvarint(b)
		if n <= 0 {
			return fmt.Errorf("path set: broken number at member %d", len(out))
		}
		last += d
		out = append(out, last)
		b = b[n:]
	}
	*s = out
	return nil
}

// hasHash says whether a hash is in the set.
func (s PathSet) hasHash(h uint64) bool {
	_, ok := slices.BinarySearch(s, h)
	return ok
}

// ProgramSum is the Program.Sum of an executable: a hash over its path and the
// SHA-256 of its content, so that a program replaced in place is another one.
func ProgramSum(path string, content [sha256.Size]byte) uint64 {
	h := sha256.New()
	h.Write([]byte(path))
	h.Write([]byte{0})
	h.Write(content[:])
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// MergedUsr returns path as it is called where /bin, /sbin and /lib* are links into
// /usr. Package databases still use the old names of files that lie in the new place
// (https://wiki.debian.org/UsrMerge), so owners are looked up by this one.
func MergedUsr(path string) string {
	top, _, ok := strings.Cut(path, "/")
	if !ok {
		return path
	}
	switch top {
	case "bin", "sbin", "lib", "lib32", "lib64", "libx32", "libo32":
		return "usr/" + path
	}
	return path
}

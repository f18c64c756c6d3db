// Package oci holds the words of the Open Container Initiative's specifications:
// digests, repository names, references, descriptors, manifests and the errors of
// the distribution protocol. Everything in it is a value; it does no I/O.
package oci

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
)

// Algorithm names a hash by which content is addressed (image-spec, descriptor.md,
// "Registered algorithms").
type Algorithm string

// The registered algorithms that this registry stores content under.
const (
	SHA256 Algorithm = "sha256"
	SHA512 Algorithm = "sha512"
)

// New returns a running hash, or nil for an algorithm that is not known.
func (a Algorithm) New() hash.Hash {
	switch a {
	case SHA256:
		return sha256.New()
	case SHA512:
		return sha512.New()
	}
	return nil
}

// hexLen is the length of the encoded hash, 0 for an unknown algorithm.
func (a Algorithm) hexLen() int {
	switch a {
	case SHA256:
		return 2 * sha256.Size
	case SHA512:
		return 2 * sha512.Size
	}
	return 0
}

// ErrDigest says that a text is no digest of a supported algorithm.
var ErrDigest = errors.New("invalid digest")

// Digest addresses content by its hash, as "sha256:<64 hex digits>". It is valid by
// construction; the zero Digest names nothing. Digests compare with ==.
type Digest struct{ text string }

// ParseDigest checks s against the grammar of the image specification and the
// registered algorithms. The error wraps ErrDigest and names what is wrong.
func ParseDigest(s string) (Digest, error) {
	alg, enc, ok := strings.Cut(s, ":")
	if !ok {
		return Digest{}, fmt.Errorf("%w %.140q: expected ALGORITHM:HEX, as in sha256:<64 hex digits>", ErrDigest, s)
	}
	want := Algorithm(alg).hexLen()
	if want == 0 {
		return Digest{}, fmt.Errorf("%w %.140q: algorithm %.20q is not supported; use sha256 or sha512", ErrDigest, s, alg)
	}
	if len(enc) != want {
		return Digest{}, fmt.Errorf("%w %.140q: %s takes %d hex digits, got %d", ErrDigest, s, alg, want, len(enc))
	}
	for i := range len(enc) {
		if c := enc[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return Digest{}, fmt.Errorf("%w %.140q: only lower-case hex digits are allowed", ErrDigest, s)
		}
	}
	return Digest{s}, nil
}

// DigestOf returns the digest of content under an algorithm that New knows.
func DigestOf(a Algorithm, content []byte) Digest {
	h := a.New()
	h.Write(content)
	return DigestFrom(a, h)
}

// DigestFrom returns the digest that h, a running hash of algorithm a, has come to.
func DigestFrom(a Algorithm, h hash.Hash) Digest {
	return Digest{string(a) + ":" + hex.EncodeToString(h.Sum(nil))}
}

// Algorithm returns the part before the colon, "" for the zero Digest.
func (d Digest) Algorithm() Algorithm {
	a, _, _ := strings.Cut(d.text, ":")
	return Algorithm(a)
}

// Hex returns the part after the colon, "" for the zero Digest.
func (d Digest) Hex() string {
	_, h, _ := strings.Cut(d.text, ":")
	return h
}

// Short returns the first twelve hex digits, for people to read.
func (d Digest) Short() string {
	if h := d.Hex(); len(h) > 12 {
		return h[:12]
	}
	return d.Hex()
}

// IsZero says whether d names nothing.
func (d Digest) IsZero() bool { return d.text == "" }

// String returns the digest as it stands in manifests and URLs.
func (d Digest) String() string { return d.text }

// MarshalText implements encoding.TextMarshaler; the zero Digest is "".
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.text), nil }

// UnmarshalText implements encoding.TextUnmarshaler; "" gives the zero Digest.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = Digest{}
		return nil
	}
	v, err := ParseDigest(string(b))
	if err == nil {
		*d = v
	}
	return err
}

package oci

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// The grammar of names and tags: distribution-spec 1.1, "Pulling manifests".
var (
	repositoryPattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// MaxRepositoryName is the longest repository name accepted, in bytes. The
// specification leaves 255 for host and name together.
const MaxRepositoryName = 255

// Sentinels that the parsers' errors wrap.
var (
	ErrName = errors.New("invalid repository name")
	ErrTag  = errors.New("invalid tag")
)

// Repository is a checked repository name, "team/app". The zero value names nothing.
type Repository struct{ name string }

// ParseRepository checks s against the specification's grammar. The error wraps ErrName.
func ParseRepository(s string) (Repository, error) {
	if len(s) > MaxRepositoryName {
		return Repository{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrName, len(s), MaxRepositoryName)
	}
	if !repositoryPattern.MatchString(s) {
		return Repository{}, fmt.Errorf("%w %q: expected lower-case letters, digits and single . _ __ - between them, parts divided by /", ErrName, s)
	}
	return Repository{s}, nil
}

// String returns the name.
func (r Repository) String() string { return r.name }

// IsZero says whether r names nothing.
func (r Repository) IsZero() bool { return r.name == "" }

// MarshalText implements encoding.TextMarshaler.
func (r Repository) MarshalText() ([]byte, error) { return []byte(r.name), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Repository) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*r = Repository{}
		return nil
	}
	v, err := ParseRepository(string(b))
	if err == nil {
		*r = v
	}
	return err
}

// ParseTag checks s against the specification's grammar for tags. The error wraps ErrTag.
func ParseTag(s string) (string, error) {
	if !tagPattern.MatchString(s) {
		return "", fmt.Errorf("%w %.140q: expected 1 to 128 letters, digits, _ . -, not beginning with . or -", ErrTag, s)
	}
	return s, nil
}

// Reference names a manifest within a repository: by tag or by digest, never both.
type Reference struct {
	Tag    string
	Digest Digest
}

// ParseReference takes what stands behind /manifests/: a digest if it holds a
// colon, else a tag. The error wraps ErrDigest or ErrTag.
func ParseReference(s string) (Reference, error) {
	if strings.Contains(s, ":") {
		d, err := ParseDigest(s)
		return Reference{Digest: d}, err
	}
	t, err := ParseTag(s)
	return Reference{Tag: t}, err
}

// String returns the tag or the digest.
func (r Reference) String() string {
	if r.Tag != "" {
		return r.Tag
	}
	return r.Digest.String()
}

// ParseImage splits "team/app:tag", "team/app@sha256:…" or "team/app", which means
// the tag latest. A text with both tag and digest is taken by its digest. It knows
// no host names; a caller cuts those off before.
func ParseImage(s string) (Repository, Reference, error) {
	name, ref := s, "latest"
	if n, d, ok := strings.Cut(s, "@"); ok {
		name, ref = n, d
		if i := strings.LastIndexByte(n, ':'); i >= 0 {
			name = n[:i]
		}
		if _, err := ParseDigest(d); err != nil {
			return Repository{}, Reference{}, err // a tag stands behind a colon
		}
	} else if i := strings.LastIndexByte(s, ':'); i >= 0 {
		name, ref = s[:i], s[i+1:]
	}
	repo, err := ParseRepository(name)
	if err != nil {
		return Repository{}, Reference{}, err
	}
	r, err := ParseReference(ref)
	return repo, r, err
}

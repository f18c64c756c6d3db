package access

import (
	"fmt"
	"strings"

	"pratique.dev/pratique/internal/oci"
)

// Scope is where an assignment holds: the whole registry (zero value), one
// repository ("team/app"), or the repositories that a pattern matches ("team/*",
// where * stands for any text, slashes included).
type Scope struct{ Pattern string }

// maxScope bounds a pattern, in bytes, and maxStars the * in it.
const (
	maxScope = 255
	maxStars = 8
)

// ParseScope reads a pattern; "" and "/" stand for the whole registry.
func ParseScope(s string) (Scope, error) {
	if s == "" || s == "/" {
		return Scope{}, nil
	}
	if len(s) > maxScope || strings.Count(s, "*") > maxStars {
		return Scope{}, fmt.Errorf("scope %.60q: expected at most %d bytes and %d *", s, maxScope, maxStars)
	}
	// A name is in the place of each *, so that what is between them can be checked.
	if _, err := oci.ParseRepository(strings.ReplaceAll(strings.ReplaceAll(s, "**", "*"), "*", "a")); err != nil {
		return Scope{}, fmt.Errorf("scope %.60q: expected a repository, or a pattern as in team/*, or / for the whole registry", s)
	}
	return Scope{s}, nil
}

// String is the pattern, "/" for the whole registry.
func (s Scope) String() string {
	if s.Pattern == "" {
		return "/"
	}
	return s.Pattern
}

// Covers says whether the scope holds for repo. The zero Repository stands for the
// registry as a whole, which only the registry's scope covers.
func (s Scope) Covers(repo oci.Repository) bool {
	switch {
	case s.Pattern == "":
		return true
	case repo.IsZero():
		return false
	}
	return matches(s.Pattern, repo.String())
}

// matches says whether a pattern, in which * stands for any text, is that of a name.
func matches(pattern, name string) bool {
	head, rest, stars := strings.Cut(pattern, "*")
	if !stars {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, head)
	for ok {
		part, behind, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(name, part)
		}
		// The first place is as good as any later one, since a * follows.
		_, name, ok = strings.Cut(name, part)
		rest = behind
	}
	return false
}

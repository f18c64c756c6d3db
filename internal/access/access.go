// Package access says who may do what: principals, roles, permissions, the scopes that
// they are given for and the conditions that they are given under. Allows is the one
// question it answers; proving who asks is identity's, and remembering who was given what
// the catalog's.
package access

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Kind is what sort of principal asks.
type Kind string

// The kinds of principals.
const (
	KindUser      Kind = "user"      // a person, here or at an issuer of identities
	KindService   Kind = "service"   // a service principal: a program with secrets or keys of its own
	KindToken     Kind = "token"     // a repository token: what it may do is its scope map's to say
	KindWorkload  Kind = "workload"  // proves itself by tokens of a trusted issuer alone
	KindGroup     Kind = "group"     // of principals; it cannot log in
	KindAnonymous Kind = "anonymous" // whoever brings no credentials
)

// Kinds lists every Kind that can be made; anonymous is there from the start.
var Kinds = []Kind{KindUser, KindService, KindToken, KindWorkload, KindGroup}

// ParseKind reads one of Kinds.
func ParseKind(s string) (Kind, error) {
	if slices.Contains(Kinds, Kind(s)) {
		return Kind(s), nil
	}
	return "", fmt.Errorf("kind %.40q: expected one of %s", s, joined(Kinds))
}

// HasSecrets says whether principals of this kind may have secrets.
func (k Kind) HasSecrets() bool { return k == KindUser || k == KindService || k == KindToken }

// Principal is someone who has proved who they are. The zero Principal is nobody.
type Principal struct {
	ID   string `json:"id"`
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
}

// IsZero says whether p is nobody.
func (p Principal) IsZero() bool { return p.ID == "" }

// Anonymous is whoever brings no credentials. It has no more than what is assigned to it,
// of which Grants leaves pulling and listing alone.
var Anonymous = Principal{ID: "anonymous", Kind: KindAnonymous, Name: "anonymous"}

// MaxName bounds the name of a principal, a role or a scope map, in bytes.
const MaxName = 255

// CheckName refuses a name that HTTP Basic credentials, a terminal or a log could not carry:
// it has letters, digits and any of ._-@+/ and begins with a letter or a digit.
func CheckName(s string) error {
	if s == "" || len(s) > MaxName || !utf8.ValidString(s) {
		return fmt.Errorf("name %.60q: expected 1 to %d bytes of UTF-8", s, MaxName)
	}
	for i, r := range s {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			continue
		}
		if i == 0 || !strings.ContainsRune("._-@+/", r) {
			return fmt.Errorf("name %.60q: %q is not accepted at byte %d; expected letters, digits and ._-@+/ behind a letter or digit", s, r, i)
		}
	}
	return nil
}

func joined[T ~string](list []T) string {
	var out []string
	for _, x := range list {
		out = append(out, string(x))
	}
	return strings.Join(out, ", ")
}

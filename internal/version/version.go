// Package version orders the versions of packages as their own package managers do:
// "1.0~rc1" comes before "1.0" in Debian, "1.10" after "1.9" everywhere. It knows
// nothing of advisories. An ecosystem or a text that it cannot order is an error and
// never a guess, for a wrong order reads as "not affected".
package version

import (
	"errors"
	"fmt"
	"strings"
)

// MaxLength is the longest version text that is parsed. The longest in OSV's dumps of
// the ecosystems named here has 90 bytes.
const MaxLength = 512

var (
	// ErrEcosystem says that the order of an ecosystem's versions is not known.
	ErrEcosystem = errors.New("unknown ecosystem")
	// ErrInvalid says that a text is no version of its ecosystem.
	ErrInvalid = errors.New("invalid version")
	// ErrMixed says that two versions follow different orders.
	ErrMixed = errors.New("versions of different order")
)

// Version is a version that is ready to be compared. The zero Version compares with
// nothing.
type Version struct {
	text   string
	scheme scheme
	form   form
}

// form is a version taken apart. compare is called with a form of the same scheme.
type form interface {
	compare(other form) (int, error)
}

// Parse takes apart text as a version of ecosystem, which is written as in
// inventory.Key: "Debian:12", "npm". The errors are ErrEcosystem and ErrInvalid.
func Parse(ecosystem, text string) (Version, error) {
	s, ok := schemeOf(ecosystem)
	if !ok {
		return Version{}, fmt.Errorf("%w %q", ErrEcosystem, ecosystem)
	}
	trimmed := strings.TrimSpace(text)
	if err := check(trimmed); err != nil {
		return Version{}, fmt.Errorf("%s version %.80q: %w", ecosystem, text, err)
	}
	f, err := s.parse(trimmed)
	if err != nil {
		return Version{}, fmt.Errorf("%s version %.80q: %w", ecosystem, text, err)
	}
	return Version{text: trimmed, scheme: s, form: f}, nil
}

// check refuses what is a version nowhere.
func check(text string) error {
	if text == "" {
		return fmt.Errorf("%w: empty", ErrInvalid)
	}
	if len(text) > MaxLength {
		return fmt.Errorf("%w: longer than %d bytes", ErrInvalid, MaxLength)
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] == 0x7f {
			return fmt.Errorf("%w: space or control character", ErrInvalid)
		}
	}
	return nil
}

// Compare returns -1 if v comes before w, +1 if after, 0 if they are of equal rank. It
// returns ErrMixed for versions of different orders.
func (v Version) Compare(w Version) (int, error) {
	if v.form == nil || v.scheme != w.scheme {
		return 0, fmt.Errorf("compare %q with %q: %w", v.text, w.text, ErrMixed)
	}
	c, err := v.form.compare(w.form)
	if err != nil {
		return 0, fmt.Errorf("compare %q with %q: %w", v.text, w.text, err)
	}
	return c, nil
}

// String is the text that was parsed, without surrounding space.
func (v Version) String() string { return v.text }

// IsZero says whether v is no version at all.
func (v Version) IsZero() bool { return v.form == nil }

// Compare parses a and b as versions of ecosystem and compares them.
func Compare(ecosystem, a, b string) (int, error) {
	v, err := Parse(ecosystem, a)
	if err != nil {
		return 0, err
	}
	w, err := Parse(ecosystem, b)
	if err != nil {
		return 0, err
	}
	return v.Compare(w)
}

// Known says whether the order of an ecosystem's versions is known.
func Known(ecosystem string) bool {
	_, ok := schemeOf(ecosystem)
	return ok
}

// cutDigits splits the leading ASCII digits off s.
func cutDigits(s string) (digits, rest string) {
	i := 0
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return s[:i], s[i:]
}

// compareNumbers compares two runs of digits by value, whatever their length.
func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	switch {
	case len(a) < len(b):
		return -1
	case len(a) > len(b):
		return +1
	}
	return strings.Compare(a, b)
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func isNumber(s string) bool {
	digits, rest := cutDigits(s)
	return digits != "" && rest == ""
}

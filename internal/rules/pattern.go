package rules

import (
	"fmt"
	"regexp"
	"strings"
)

// MaxPattern bounds a pattern, in bytes.
const MaxPattern = 255

// Pattern matches names: * stands for any text without a slash, ** for any text, ? for one
// character that is no slash, and every other character for itself. The zero Pattern
// matches nothing.
type Pattern struct {
	text string
	re   *regexp.Regexp
}

var patternText = regexp.MustCompile(`^[A-Za-z0-9_./*?-]+$`)

// ParsePattern reads a pattern.
func ParsePattern(s string) (Pattern, error) {
	if len(s) > MaxPattern || !patternText.MatchString(s) {
		return Pattern{}, fmt.Errorf("%.40q: expected 1 to %d letters, digits, . _ - /, * (any text without /), ** (any text) and ? (one character)", s, MaxPattern)
	}
	var b strings.Builder
	b.WriteString(`^`)
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "**"):
			b.WriteString(`.*`)
			i++
		case s[i] == '*':
			b.WriteString(`[^/]*`)
		case s[i] == '?':
			b.WriteString(`[^/]`)
		default:
			b.WriteString(regexp.QuoteMeta(s[i : i+1]))
		}
	}
	b.WriteString(`$`)
	re, err := regexp.Compile(b.String())
	if err != nil {
		return Pattern{}, fmt.Errorf("pattern %q: %w", s, err)
	}
	return Pattern{s, re}, nil
}

// Match says whether the pattern matches all of a name.
func (p Pattern) Match(name string) bool {
	switch {
	case p.re == nil:
		return false
	case p.text == "**":
		return true
	}
	return p.re.MatchString(name)
}

// String returns the pattern as it was written.
func (p Pattern) String() string { return p.text }

// IsZero says whether p is the zero Pattern.
func (p Pattern) IsZero() bool { return p.re == nil }

// MarshalText implements encoding.TextMarshaler.
func (p Pattern) MarshalText() ([]byte, error) { return []byte(p.text), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Pattern) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePattern(string(b))
	return err
}

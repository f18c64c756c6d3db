package version

import (
	"fmt"
	"strings"
)

// semver is a version of Semantic Versioning 2.0.0: the dotted numbers and the
// pre-release. Build metadata does not count (clause 10). More or fewer than three
// numbers are taken as they come, since packages have them.
type semver struct{ numbers, pre string }

func parseSemver(text string) (form, error) { return semverOf(text, false) }

// parseGo parses a version of a Go module or, since the toolchain writes its own
// without a hyphen ("go1.21rc2"), of Go itself. The Go vulnerability database writes
// the same as "1.21.0-rc.2".
func parseGo(text string) (form, error) {
	return semverOf(strings.TrimPrefix(text, "go"), true)
}

func semverOf(text string, goStyle bool) (form, error) {
	text = strings.TrimPrefix(text, "v")
	text, _, _ = strings.Cut(text, "+")
	i := 0
	for i < len(text) && isDigit(text[i]) {
		for i < len(text) && isDigit(text[i]) {
			i++
		}
		if i+1 < len(text) && text[i] == '.' && isDigit(text[i+1]) {
			i++
		}
	}
	if i == 0 {
		return nil, fmt.Errorf("%w: does not begin with a number", ErrInvalid)
	}
	v := semver{numbers: text[:i], pre: text[i:]}
	if rest, ok := strings.CutPrefix(v.pre, "-"); ok {
		v.pre = rest
		return v, nil
	}
	v.pre = strings.TrimLeft(v.pre, ".")
	if letters, digits := cutLetters(v.pre); goStyle && letters != "" && isNumber(digits) {
		v.pre = letters + "." + digits
	}
	return v, nil
}

func (v semver) compare(other form) (int, error) {
	w := other.(semver)
	a, b := v.numbers, w.numbers
	for a != "" || b != "" {
		var na, nb string
		na, a = cutNumber(a)
		nb, b = cutNumber(b)
		if c := compareNumbers(na, nb); c != 0 {
			return c, nil
		}
	}
	return semverPre(v.pre, w.pre), nil
}

// semverPre compares pre-releases (clause 11): none comes last.
func semverPre(a, b string) int {
	if a == "" || b == "" {
		return sign(len(b) - len(a))
	}
	for {
		ia, ra, moreA := strings.Cut(a, ".")
		ib, rb, moreB := strings.Cut(b, ".")
		if c := semverIdentifier(ia, ib); c != 0 {
			return c
		}
		if !moreA || !moreB {
			return boolRank(moreA) - boolRank(moreB)
		}
		a, b = ra, rb
	}
}

func semverIdentifier(a, b string) int {
	na, nb := isNumber(a), isNumber(b)
	switch {
	case na && nb:
		return compareNumbers(a, b)
	case na:
		return -1
	case nb:
		return +1
	}
	return strings.Compare(a, b)
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}

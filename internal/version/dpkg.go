package version

import (
	"fmt"
	"strings"
)

// dpkg is a Debian version, [epoch:]upstream[-revision] (deb-version(7)).
type dpkg struct{ epoch, upstream, revision string }

func parseDpkg(text string) (form, error) {
	v := dpkg{upstream: text}
	if epoch, rest, ok := strings.Cut(text, ":"); ok {
		if !isNumber(epoch) {
			return nil, fmt.Errorf("%w: epoch %.20q is no number", ErrInvalid, epoch)
		}
		v.epoch, v.upstream = epoch, rest
	}
	if i := strings.LastIndexByte(v.upstream, '-'); i >= 0 {
		v.upstream, v.revision = v.upstream[:i], v.upstream[i+1:]
	}
	if v.upstream == "" {
		return nil, fmt.Errorf("%w: no upstream version", ErrInvalid)
	}
	return v, nil
}

func (v dpkg) compare(other form) (int, error) {
	w := other.(dpkg)
	if c := compareNumbers(v.epoch, w.epoch); c != 0 {
		return c, nil
	}
	if c := dpkgCompare(v.upstream, w.upstream); c != 0 {
		return c, nil
	}
	return dpkgCompare(v.revision, w.revision), nil
}

// dpkgCompare walks runs of non-digits and digits by turns (deb-version(7), "Sorting
// algorithm").
func dpkgCompare(a, b string) int {
	for a != "" || b != "" {
		for (a != "" && !isDigit(a[0])) || (b != "" && !isDigit(b[0])) {
			ra, rb := dpkgRank(a), dpkgRank(b)
			if ra != rb {
				return sign(ra - rb)
			}
			a, b = a[1:], b[1:]
		}
		var da, db string
		da, a = cutDigits(a)
		db, b = cutDigits(b)
		if c := compareNumbers(da, db); c != 0 {
			return c
		}
	}
	return 0
}

// dpkgRank ranks the first byte of s: a tilde before the end of the text, letters
// before all other characters. Both texts hold a byte where ranks are equal and not
// that of the end or of a digit.
func dpkgRank(s string) int {
	switch {
	case s == "" || isDigit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case isLetter(s[0]):
		return int(s[0])
	}
	return int(s[0]) + 256
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return +1
	}
	return 0
}

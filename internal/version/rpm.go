package version

import "strings"

// rpm is an RPM version, [epoch:]version[-release] (rpm-version(7)). The release
// keeps its hyphen, so that an empty one differs from none.
type rpm struct{ epoch, version, release string }

func parseRPM(text string) (form, error) {
	v := rpm{version: text}
	if epoch, rest, ok := strings.Cut(text, ":"); ok && (epoch == "" || isNumber(epoch)) {
		v.epoch, v.version = epoch, rest
	}
	if i := strings.LastIndexByte(v.version, '-'); i >= 0 {
		v.version, v.release = v.version[:i], v.version[i:]
	}
	return v, nil
}

func (v rpm) compare(other form) (int, error) {
	w := other.(rpm)
	if c := compareNumbers(v.epoch, w.epoch); c != 0 {
		return c, nil
	}
	if c := rpmCompare(v.version, w.version); c != 0 {
		return c, nil
	}
	if v.release == "" || w.release == "" {
		return sign(len(v.release) - len(w.release)), nil
	}
	return rpmCompare(v.release, w.release), nil
}

// rpmCompare is rpmvercmp: runs of digits or letters by turns, whatever separates
// them; a tilde sorts before the end and a caret just after it (rpm-version(7)).
func rpmCompare(a, b string) int {
	for {
		a, b = rpmSkip(a), rpmSkip(b)
		if c, cut, done := rpmMark(a, b); done {
			return c
		} else if cut {
			a, b = a[1:], b[1:]
			continue
		}
		if a == "" || b == "" {
			return sign(len(a) - len(b))
		}
		var ra, rb string
		if isDigit(a[0]) {
			ra, a = cutDigits(a)
			rb, b = cutDigits(b)
			if rb == "" {
				return +1
			}
			if c := compareNumbers(ra, rb); c != 0 {
				return c
			}
			continue
		}
		ra, a = cutLetters(a)
		rb, b = cutLetters(b)
		if rb == "" {
			return -1
		}
		if c := strings.Compare(ra, rb); c != 0 {
			return c
		}
	}
}

// rpmMark deals with a tilde or a caret at the front of a or b: done if it decides,
// cut if both have it.
func rpmMark(a, b string) (c int, cut, done bool) {
	ta, tb := strings.HasPrefix(a, "~"), strings.HasPrefix(b, "~")
	ca, cb := strings.HasPrefix(a, "^"), strings.HasPrefix(b, "^")
	switch {
	case ta && tb, !ta && !tb && ca && cb:
		return 0, true, false
	case ta:
		return -1, false, true
	case tb:
		return +1, false, true
	case ca && b == "":
		return +1, false, true
	case ca:
		return -1, false, true
	case cb && a == "":
		return -1, false, true
	case cb:
		return +1, false, true
	}
	return 0, false, false
}

func rpmSkip(s string) string {
	for s != "" && !isDigit(s[0]) && !isLetter(s[0]) && s[0] != '~' && s[0] != '^' {
		s = s[1:]
	}
	return s
}

func cutLetters(s string) (letters, rest string) {
	i := 0
	for i < len(s) && isLetter(s[i]) {
		i++
	}
	return s[:i], s[i:]
}

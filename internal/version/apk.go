package version

import "strings"

// apk is an Alpine version,
// number{.number}[letter]{_suffix[number]}[~hash][-r#]
// (apk-package(5), "PACKAGE INFO METADATA"). rest is what does not follow that form.
type apk struct {
	numbers  string
	letter   byte
	suffixes string
	build    string
	rest     string
}

// apkSuffixes in their order; no suffix ranks as apkNone. The first that fits is
// taken, so "pre" stands before "p".
var apkSuffixes = [...]string{"alpha", "beta", "pre", "rc", "\x00", "cvs", "svn", "git", "hg", "p"}

const apkNone = 4

func parseApk(text string) (form, error) {
	var v apk
	i := 0
	for i < len(text) && isDigit(text[i]) {
		for i < len(text) && isDigit(text[i]) {
			i++
		}
		if i < len(text) && text[i] == '.' {
			i++
		}
	}
	v.numbers, text = text[:i], text[i:]
	if numbers, dot := strings.CutSuffix(v.numbers, "."); dot {
		v.numbers, v.rest = numbers, "."+text
		return v, nil
	}
	if text != "" && 'a' <= text[0] && text[0] <= 'z' {
		v.letter, text = text[0], text[1:]
	}
	before := text
	for {
		_, _, rest, ok := apkSuffix(text)
		if !ok {
			break
		}
		text = rest
	}
	v.suffixes = before[:len(before)-len(text)]
	if len(text) > 1 && text[0] == '~' && isHex(text[1]) {
		for text = text[1:]; text != "" && isHex(text[0]); {
			text = text[1:]
		}
	}
	if rest, ok := strings.CutPrefix(text, "-r"); ok {
		if v.build, text = cutDigits(rest); text != "" {
			text = "-"
		}
	}
	v.rest = text
	if strings.HasPrefix(text, "-") {
		v.rest = "-" // a broken build number: all alike
	}
	return v, nil
}

func isHex(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'f' }

// apkSuffix takes one "_suffix[number]" off the front of s.
func apkSuffix(s string) (rank int, number, rest string, ok bool) {
	if !strings.HasPrefix(s, "_") {
		return apkNone, "", s, false
	}
	for i, name := range apkSuffixes {
		if rest, found := strings.CutPrefix(s[1:], name); found {
			number, rest = cutDigits(rest)
			return i, number, rest, true
		}
	}
	return apkNone, "", s, false
}

func (v apk) compare(other form) (int, error) {
	w := other.(apk)
	if c := apkNumbers(v.numbers, w.numbers); c != 0 {
		return c, nil
	}
	if v.letter != w.letter {
		return sign(int(v.letter) - int(w.letter)), nil
	}
	if c := apkSuffixOrder(v.suffixes, w.suffixes); c != 0 {
		return c, nil
	}
	if c := compareNumbers(v.build, w.build); c != 0 {
		return c, nil
	}
	return apkRest(v.rest, w.rest), nil
}

// apkRest orders what does not follow the form: it comes before nothing at all, a
// number ("6.6p1") before other text.
func apkRest(a, b string) int {
	if a == "" || b == "" {
		return sign(len(b) - len(a))
	}
	switch na, nb := isNumber(a), isNumber(b); {
	case na && nb:
		return compareNumbers(a, b)
	case na:
		return -1
	case nb:
		return +1
	}
	return strings.Compare(a, b)
}

// apkNumbers compares dotted numbers. From the second on, one that begins with 0 is
// read as the digits after a decimal point: 1.01 comes before 1.1.
func apkNumbers(a, b string) int {
	for first := true; a != "" || b != ""; first = false {
		if (a == "") != (b == "") {
			return sign(len(a) - len(b))
		}
		var na, nb string
		na, a = cutNumber(a)
		nb, b = cutNumber(b)
		c := 0
		if !first && (na[0] == '0' || nb[0] == '0') {
			c = strings.Compare(na, nb)
		} else {
			c = compareNumbers(na, nb)
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// cutNumber takes the first of dotted numbers off s, and its dot.
func cutNumber(s string) (number, rest string) {
	number, rest = cutDigits(s)
	return number, strings.TrimPrefix(rest, ".")
}

func apkSuffixOrder(a, b string) int {
	for a != "" || b != "" {
		var ra, rb int
		var na, nb string
		ra, na, a, _ = apkSuffix(a)
		rb, nb, b, _ = apkSuffix(b)
		if ra != rb {
			return sign(ra - rb)
		}
		if c := compareNumbers(na, nb); c != 0 {
			return c
		}
	}
	return 0
}

package vuln

import (
	"strings"

	cvss20 "github.com/pandatix/go-cvss/20"
	cvss30 "github.com/pandatix/go-cvss/30"
	cvss31 "github.com/pandatix/go-cvss/31"
	cvss40 "github.com/pandatix/go-cvss/40"
)

// vectorName names the version of CVSS that a vector is written in. Version 2 has no
// prefix (CVSS v2.0 guide, 2.4).
func vectorName(vector string) string {
	if rest, ok := strings.CutPrefix(vector, "CVSS:"); ok {
		version, _, _ := strings.Cut(rest, "/")
		return "CVSS " + version
	}
	return "CVSS 2.0"
}

// scoreVector gives the base score of a CVSS vector. One that cannot be read has none.
func scoreVector(vector string) (score float64, ok bool) {
	switch vectorName(vector) {
	case "CVSS 4.0":
		if v, err := cvss40.ParseVector(vector); err == nil {
			return v.Score(), true
		}
	case "CVSS 3.1":
		if v, err := cvss31.ParseVector(vector); err == nil {
			return v.BaseScore(), true
		}
	case "CVSS 3.0":
		if v, err := cvss30.ParseVector(vector); err == nil {
			return v.BaseScore(), true
		}
	case "CVSS 2.0":
		if v, err := cvss20.ParseVector(strings.Trim(vector, "()")); err == nil {
			return v.BaseScore(), true
		}
	}
	return 0, false
}

// rateVector makes a rating of a CVSS vector, by the qualitative scale of CVSS 3.1,
// clause 5, and 4.0, clause 6; NVD's three steps for version 2. A vector that cannot be
// read is kept and rated Unknown.
func rateVector(source, vector string) Rating {
	r := Rating{Source: source, Vector: vector}
	score, ok := scoreVector(vector)
	if !ok {
		return r
	}
	r.Score = score
	switch {
	case score >= 9 && vectorName(vector) != "CVSS 2.0":
		r.Severity = Critical
	case score >= 7:
		r.Severity = High
	case score >= 4:
		r.Severity = Medium
	case score > 0:
		r.Severity = Low
	default:
		r.Severity = None
	}
	return r
}

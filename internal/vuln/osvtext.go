package vuln

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// summary is one line of at most maxSummary bytes: the record's summary, or the first
// sentence of its details.
func (rec *osvRecord) summary() string {
	text := rec.Summary
	if strings.TrimSpace(text) == "" {
		text = strings.TrimSpace(rec.Details)
		if i := strings.IndexAny(text, "\r\n"); i >= 0 {
			text = text[:i]
		}
		if i := strings.Index(text, ". "); i >= 0 {
			text = text[:i+1]
		}
		text = strings.TrimLeft(text, "# ")
	}
	return oneLine(text, maxSummary)
}

// oneLine makes of text one line of at most most bytes, without control characters.
func oneLine(text string, most int) string {
	long := len(text) > 4*most
	if long {
		text = text[:4*most]
	}
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, ""), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	if len(text) <= most && !long {
		return text
	}
	text = text[:min(len(text), most-len("…"))]
	for text != "" && !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return text + "…"
}

// url is where to read on: the first advisory among the references, else the first page.
func (rec *osvRecord) url() string {
	best, rank := "", 0
	for _, r := range rec.References {
		n := 1
		switch r.Type {
		case "ADVISORY":
			n = 3
		case "WEB":
			n = 2
		}
		if n > rank && safeURL(r.URL) {
			best, rank = r.URL, n
		}
	}
	return best
}

// safeURL lets through what may stand behind a link.
func safeURL(url string) bool {
	if !strings.HasPrefix(url, "https://") && !strings.HasPrefix(url, "http://") || len(url) > 2048 {
		return false
	}
	return !strings.ContainsFunc(url, func(r rune) bool { return r <= ' ' || r == 0x7f || r == utf8.RuneError })
}

// ratings gathers what the record says of severity as a whole.
func (rec *osvRecord) ratings() []Rating {
	source := sourceOf(rec.ID)
	if strings.HasPrefix(rec.Specific.Source, "RetireJS/") {
		source = "Retire.js" // speaks under GHSA's ids, in its own words
	}
	out := rateAll(source, rec.Severity)
	if s := wordSeverity(rec.Specific.Severity); s != Unknown {
		out = append(out, Rating{Source: source, Severity: s})
	}
	if source == "AlmaLinux" || source == "Rocky Linux" { // "Important: openssl security update"
		word, _, _ := strings.Cut(rec.Summary, ":")
		if s := wordSeverity(word); s != Unknown {
			out = append(out, Rating{Source: source, Severity: s})
		}
	}
	return out
}

// ratings gathers what the entry says of the severity in its package.
func (o *osvAffected) ratings(id string) []Rating {
	source := sourceOf(id)
	out := rateAll(source, o.Severity)
	for _, word := range []string{o.Ecosystem.Severity, o.Ecosystem.Urgency, o.Database.Severity} {
		if s := wordSeverity(word); s != Unknown {
			out = append(out, Rating{Source: source, Severity: s})
		}
	}
	switch o.Database.Informational {
	case "unmaintained", "notice": // RustSec: no vulnerability
		out = append(out, Rating{Source: source, Severity: None})
	}
	return out
}

func rateAll(source string, severities []osvSeverity) []Rating {
	var out []Rating
	for _, s := range severities {
		switch s.Type {
		case "CVSS_V2", "CVSS_V3", "CVSS_V4":
			out = append(out, rateVector(source, s.Score))
		case "Ubuntu":
			if word := wordSeverity(s.Score); word != Unknown {
				out = append(out, Rating{Source: "Ubuntu", Severity: word})
			}
		}
	}
	return out
}

// malicious says whether the record reports the package itself as the attack: OSV's
// MAL- records, GHSA's with the weakness "Embedded Malicious Code" and RustSec's of that
// category.
func (rec *osvRecord) malicious() bool {
	if strings.HasPrefix(rec.ID, "MAL-") {
		return true
	}
	if strings.HasPrefix(rec.ID, "GHSA-") && contains(rec.Specific.CWEs, "CWE-506") {
		return true
	}
	for i := range rec.Affected {
		if contains(rec.Affected[i].Database.Categories, "malicious") {
			return true
		}
	}
	return false
}

// moduleOf reads the module stream off the summary of an update for module builds:
// "Important: nodejs:16 security update".
func moduleOf(a Advisory) string {
	if !isUpdate(a.ID) || len(a.Affected) == 0 || !fixesModule(a.Affected[0]) {
		return ""
	}
	_, rest, ok := strings.Cut(a.Summary, ": ")
	if !ok {
		return ""
	}
	word, _, _ := strings.Cut(rest, " ")
	name, stream, ok := strings.Cut(word, ":")
	if !ok || name == "" || stream == "" {
		return ""
	}
	return word
}

func fixesModule(a Affected) bool {
	for _, r := range a.Ranges {
		for _, e := range r.Events {
			if isModular(e.Fixed) {
				return true
			}
		}
	}
	return false
}

// isModular says whether an RPM version is that of a module's build, which carries the
// mark in its release: "1:16.20.2-3.module_el8.8.0+3613+1b78d1d1".
func isModular(version string) bool {
	return strings.Contains(version, ".module_el") || strings.Contains(version, ".module+el") ||
		strings.Contains(version, ".module_f")
}

package policy

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/vuln"
)

// Policy is one set of rules. The zero Policy is the strictest there is: it holds back
// any finding, whether it has a fix or not, and any gap.
type Policy struct {
	Name string `json:"name"`
	// MinSeverity is the least severity that holds an image back; the zero one takes all.
	MinSeverity vuln.Severity `json:"minSeverity"`
	// OnlyFixable lets findings pass for which no fixed version is known.
	OnlyFixable bool `json:"onlyFixable,omitempty"`
	// IgnoreExploited treats a known exploited finding by its severity alone. Otherwise
	// it holds the image back whatever its severity.
	IgnoreExploited bool `json:"ignoreExploited,omitempty"`
	// UnknownCountsAs is what a severity that nobody has stated counts as; zero: High.
	UnknownCountsAs vuln.Severity `json:"unknownCountsAs,omitzero"`
	// Tolerate lists the kinds of gaps that are only remarked on. What makes an image
	// unexamined is not tolerated under any policy.
	Tolerate []inventory.GapKind `json:"tolerate,omitempty"`
	// MaxAdvisoryAge holds images back once the advisories are older; zero: no bound.
	MaxAdvisoryAge time.Duration `json:"maxAdvisoryAge,omitempty"`
}

// staleAfter is the age of advisories from which on a verdict remarks on it.
const staleAfter = 7 * 24 * time.Hour

// Default is the policy of a registry that has set none: an image is held back for any
// critical or known exploited finding that has a fix, for malicious packages, and if it
// could not be examined. Packages that the advisories do not cover, programs of unknown
// origin, single files that could not be read and layers that clients fetch from
// elsewhere (non-distributable ones, which this registry does not serve) are remarked on.
func Default() Policy {
	return Policy{
		Name:        "default",
		MinSeverity: vuln.Critical,
		OnlyFixable: true,
		Tolerate: []inventory.GapKind{
			inventory.GapNoData, inventory.GapNoOS, inventory.GapUnknown,
			inventory.GapUnread, inventory.GapBound, inventory.GapUnusable, inventory.GapVersion,
			inventory.GapForeign, inventory.GapPartial,
		},
	}
}

// Judge gives the verdict on s: that of the strictest of policies, with the reasons of
// all that decide as it does. Without any policy s is held back. Blocking reasons come
// first, then the remarks.
//
// Whatever the policy: what is no image is allowed, for it has no packages to judge;
// malicious packages and an image that could not be examined are held back; and before
// the first advisories are in, an image is Pending.
func Judge(policies []Policy, s Subject, now time.Time) Verdict {
	if len(policies) == 0 {
		return Verdict{Decision: Quarantine, Policy: "none", At: now, Reasons: []Reason{{
			Rule: "no-policy", Message: "no policy readable: nothing is served without one"}}}
	}
	strictest := policies[0].judge(s, now)
	for _, p := range policies[1:] {
		v := p.judge(s, now)
		switch a, b := v.Decision.strictness(), strictest.Decision.strictness(); {
		case a > b:
			v.Until = earlier(v.Until, strictest.Until)
			strictest = v
		case a == b:
			strictest.Reasons = union(strictest.Reasons, v.Reasons)
			strictest.Until = earlier(v.Until, strictest.Until)
		default:
			strictest.Until = earlier(v.Until, strictest.Until)
		}
	}
	slices.SortStableFunc(strictest.Reasons, func(a, b Reason) int { return cmp.Compare(noteRank(a), noteRank(b)) })
	return strictest
}

func noteRank(r Reason) int {
	if r.Note {
		return 1
	}
	return 0
}

func union(a, b []Reason) []Reason {
	seen := make(map[Reason]bool, len(a))
	for _, r := range a {
		seen[r] = true
	}
	for _, r := range b {
		if !seen[r] {
			a = append(a, r)
		}
	}
	return a
}

// earlier of two times, where zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// judge applies one policy.
func (p Policy) judge(s Subject, now time.Time) Verdict {
	v := Verdict{Decision: Allow, Policy: p.Name, At: now}
	if !s.Image {
		v.Reasons = []Reason{{Rule: "not-an-image", Message: "not an image: no packages to judge", Note: true}}
		return v
	}
	blocking := slices.Concat(unexamined(s.Coverage), p.findings(s.Findings), p.gaps(s.Coverage))
	notes := p.notes(s)
	switch {
	case len(blocking) > 0:
		v.Decision = Quarantine
	case s.KnownAsOf.IsZero():
		v.Decision = Pending
	}
	if s.KnownAsOf.IsZero() {
		blocking = append(blocking, Reason{Rule: "no-advisories", Message: "not judged yet: no advisories are loaded"})
	} else {
		old, note := p.age(s.KnownAsOf, now, &v)
		if old != nil {
			v.Decision = Quarantine
			blocking = append(blocking, *old)
		}
		if note != nil {
			notes = append(notes, *note)
		}
	}
	v.Reasons = append(blocking, notes...)
	return v
}

// age judges how old the advisories are, and sets when that must be looked at again.
func (p Policy) age(asOf, now time.Time, v *Verdict) (blocking, note *Reason) {
	age := now.Sub(asOf)
	if p.MaxAdvisoryAge > 0 {
		if age > p.MaxAdvisoryAge {
			return &Reason{Rule: "old-advisories", Message: fmt.Sprintf("the advisories are of %s, older than the policy %s allows",
				asOf.Format(time.DateOnly), p.Name)}, nil
		}
		v.Until = asOf.Add(p.MaxAdvisoryAge)
	}
	if age > staleAfter {
		return nil, &Reason{Rule: "old-advisories", Note: true, Message: fmt.Sprintf(
			"the advisories are of %s: flaws published since are not in them", asOf.Format(time.DateOnly))}
	}
	return nil, nil
}

// findings gives a reason for each finding that holds the image back, worst first.
func (p Policy) findings(all []vuln.Finding) []Reason {
	var out []Reason
	for _, f := range slices.SortedFunc(slices.Values(all), vuln.Compare) {
		if rule := p.rule(f); rule != "" {
			out = append(out, Reason{Rule: rule, Message: p.describe(f), Finding: f.ID, Package: f.Package.Name})
		}
	}
	return out
}

// rule names the rule by which f holds an image back; "" if none does.
func (p Policy) rule(f vuln.Finding) string {
	if f.Malicious {
		return "malicious"
	}
	if f.Informs || p.OnlyFixable && f.Fixed == "" {
		return ""
	}
	suffix := ""
	if p.OnlyFixable {
		suffix = "-with-fix"
	}
	counts := p.counted(f.Severity)
	switch {
	case f.Exploited && !p.IgnoreExploited:
		return "known-exploited" + suffix
	case counts >= p.MinSeverity:
		return counts.String() + suffix
	}
	return ""
}

// counted is the severity that a finding counts as.
func (p Policy) counted(s vuln.Severity) vuln.Severity {
	switch {
	case s != vuln.Unknown:
		return s
	case p.UnknownCountsAs != vuln.Unknown:
		return p.UnknownCountsAs
	}
	return vuln.High
}

func (p Policy) describe(f vuln.Finding) string {
	severity := f.Severity.String()
	if f.Severity == vuln.Unknown {
		severity = "unknown, counts as " + p.counted(f.Severity).String()
	}
	if f.Exploited {
		severity += ", known to be exploited"
	}
	if f.Malicious {
		return fmt.Sprintf("%s: %s %s is malicious", f.ID, f.Package.Name, f.Package.Version)
	}
	fix := "no fix known"
	if f.Fixed != "" {
		fix = "fixed in " + f.Fixed
	}
	return fmt.Sprintf("%s (%s) in %s %s, %s", f.ID, severity, f.Package.Name, f.Package.Version, fix)
}

// unexamined gives the gaps that leave an image as good as unseen: a layer whose stream
// broke off or was left at a bound, and a package database that could not be read.
func unexamined(c inventory.Coverage) []Reason {
	var out []Reason
	for _, g := range c.Unknown {
		if blinds(g) {
			out = append(out, Reason{Rule: "unexamined", Message: "could not be examined: " + gapText(g), Package: g.Path})
		}
	}
	return out
}

func blinds(g inventory.Gap) bool {
	switch g.Kind {
	case inventory.GapArchive:
		return true
	case inventory.GapUnread, inventory.GapBound:
		return g.Path == "" || packageDatabase(g.Path)
	}
	return false
}

// packageDatabase says whether a file belongs to the database of an operating
// system's packages, or is the os-release that says which system it is.
func packageDatabase(file string) bool {
	file = strings.TrimPrefix(path.Clean("/"+file), "/")
	switch file {
	case "etc/os-release", "usr/lib/os-release", "var/lib/dpkg/status", "lib/apk/db/installed", "usr/lib/apk/db/installed":
		return true
	}
	for _, folder := range []string{"var/lib/dpkg/status.d/", "var/lib/rpm/", "usr/lib/sysimage/rpm/", "usr/share/rpm/"} {
		if strings.HasPrefix(file, folder) {
			return true
		}
	}
	return false
}

// gaps gives a reason for each other gap that the policy does not tolerate.
func (p Policy) gaps(c inventory.Coverage) []Reason {
	var out []Reason
	for _, g := range c.Unknown {
		if !blinds(g) && !slices.Contains(p.Tolerate, g.Kind) {
			out = append(out, Reason{Rule: "not-seen", Message: "not seen: " + gapText(g), Package: g.Path})
		}
	}
	return out
}

package vuln

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/version"
)

// Match applies advisories to one package version. Of all that name the package it
// gives a finding, or says in Cleared why there is none; advisories of other packages are
// passed over. Records that are aliases of each other make one finding, and an update
// that fixes several flaws makes one for each. Findings come worst first and then by
// id, Cleared by advisory, whatever the order of advisories.
//
// The versions in a record are read by OSV's evaluation (schema 1.7). What cannot be
// decided, since a version has no place in its ecosystem's order, is Cleared with
// Undecided set: it must not pass for clean.
func Match(key inventory.Key, advisories []Advisory) ([]Finding, []Cleared) {
	m := newMatcher(key)
	for i := range advisories {
		m.add(&advisories[i])
	}
	findings := m.findings()
	slices.SortFunc(findings, func(a, b Finding) int { return cmp.Or(compareWorst(a, b), cmp.Compare(a.ID, b.ID)) })
	slices.SortFunc(m.cleared, func(a, b Cleared) int {
		return cmp.Or(cmp.Compare(a.Advisory, b.Advisory), cmp.Compare(a.Rule, b.Rule))
	})
	return findings, m.cleared
}

// compareWorst puts the attack itself first, then what is known to be exploited, then
// by severity, where an unknown one stands just below high.
func compareWorst(a, b Finding) int {
	return cmp.Or(rank(b.Malicious)-rank(a.Malicious), rank(b.Exploited)-rank(a.Exploited),
		cmp.Compare(weight(b.Severity), weight(a.Severity)))
}

func weight(s Severity) int {
	if s == Unknown {
		return 2*int(High) - 1
	}
	return 2 * int(s)
}

// Compare orders findings as Match does, worst first, and findings of the same id by package.
func Compare(a, b Finding) int {
	return cmp.Or(compareWorst(a, b), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Package.Ecosystem, b.Package.Ecosystem),
		cmp.Compare(a.Package.Name, b.Package.Name), cmp.Compare(a.Package.Version, b.Package.Version))
}

// matcher holds what is worked out once per Match.
type matcher struct {
	key        inventory.Key
	ecosystems []string
	installed  version.Version
	parseErr   error // why installed is zero
	modular    bool
	candidates []candidate
	cleared    []Cleared
}

// candidate is a standing advisory that names the package.
type candidate struct {
	*Advisory
	outcome
}

func newMatcher(key inventory.Key) *matcher {
	m := &matcher{key: key, ecosystems: LookupEcosystems(key), modular: isModular(key.Version)}
	m.installed, m.parseErr = version.Parse(key.Ecosystem, installedText(key))
	return m
}

// installedText is the installed version as advisories would write it.
func installedText(key inventory.Key) string {
	switch {
	case key.Ecosystem == "Go" && (key.Name == "stdlib" || key.Name == "toolchain"):
		return goRelease(key.Version)
	case key.Ecosystem == "PyPI" && !strings.ContainsAny(key.Version, "0123456789"):
		return "" // "unknown" and the like had a place in the order before PEP 440
	case key.Ecosystem == "PyPI":
		// "2.6.0+cu124" is somebody's own build of 2.6.0, and "<= 2.6.0" holds for it (PEP 440,
		// "Local version identifiers", "Inclusive ordered comparison").
		public, _, _ := strings.Cut(key.Version, "+")
		return public
	}
	return key.Version
}

// goRelease takes off what toolchains carry beyond the release they were built from:
// "go1.22.5 X:boringcrypto", and the suffixes of vendors' builds, "1.22.5-fips". (Go's own
// release candidates have no hyphen.)
func goRelease(v string) string {
	v, _, _ = strings.Cut(strings.TrimSpace(v), " ")
	v, _, _ = strings.Cut(v, "-")
	return strings.TrimPrefix(v, "go")
}

func (m *matcher) clear(id, rule string) {
	m.cleared = append(m.cleared, Cleared{Advisory: id, Package: m.key, Rule: rule})
}

func (m *matcher) add(a *Advisory) {
	var named []*Affected
	for i := range a.Affected {
		if aff := &a.Affected[i]; aff.Name == m.key.Name && slices.Contains(m.ecosystems, aff.Ecosystem) {
			named = append(named, aff)
		}
	}
	switch {
	case len(named) == 0:
	case a.Withdrawn:
		m.clear(a.ID, "the advisory is withdrawn")
	case isRoutine(a.ID) && len(a.Related) == 0:
		m.clear(a.ID, "a bug fix or enhancement that names no flaw")
	default:
		m.candidates = append(m.candidates, candidate{a, m.evaluate(a, named)})
	}
}

// outcome is what one advisory says of the installed version.
type outcome struct {
	affected    bool
	undecided   bool
	notAffected bool
	status      Status
	why         string // of affected
	rule        string // of all others
	ratings     []Rating
	intervals   []interval
	fixes       []version.Version
	versions    []string
}

// evaluate applies all entries of an advisory that name the package: it is affected
// if one of them says so, and otherwise undecided if one of them is.
func (m *matcher) evaluate(a *Advisory, named []*Affected) outcome {
	var out outcome
	for _, aff := range named {
		if aff.Status == StatusNotAffected {
			out.notAffected = true
			out.rule = sourceOf(a.ID) + " says that this package does not have the flaw"
			return out
		}
		m.entry(a, aff, &out)
		out.ratings = append(out.ratings, aff.Severity...)
	}
	if out.affected {
		out.undecided = false
	} else if out.rule == "" {
		out.rule = fmt.Sprintf("%s is not among the affected versions", m.key.Version)
	}
	return out
}

func (m *matcher) entry(a *Advisory, aff *Affected, out *outcome) {
	out.versions = append(out.versions, aff.Versions...)
	if m.listed(aff) && m.affects(out, aff) {
		out.why = fmt.Sprintf("%s is listed as affected (%s)", m.key.Version, a.ID)
	}
	for _, r := range aff.Ranges {
		m.rangeOf(a, aff, r, out)
	}
}

// affects notes that an entry holds and says whether it is the first to.
func (m *matcher) affects(out *outcome, aff *Affected) bool {
	first := !out.affected
	out.affected = true
	if aff.Status != StatusFixed {
		out.status = aff.Status
	}
	return first
}

// listed says whether the installed version is one of those an entry lists. Where there
// are no ranges beside the list, versions of equal rank count as the same.
func (m *matcher) listed(aff *Affected) bool {
	if slices.Contains(aff.Versions, m.key.Version) || slices.Contains(aff.Versions, m.installed.String()) {
		return true
	}
	if len(aff.Ranges) > 0 || m.installed.IsZero() {
		return false
	}
	return slices.ContainsFunc(aff.Versions, func(text string) bool {
		v, err := version.Parse(m.key.Ecosystem, text)
		if err != nil {
			return false
		}
		c, err := m.installed.Compare(v)
		return err == nil && c == 0
	})
}

// rangeOf applies one range.
func (m *matcher) rangeOf(a *Advisory, aff *Affected, r Range, out *outcome) {
	if rule := m.otherBuild(a, r); rule != "" {
		if out.rule == "" {
			out.rule = rule
		}
		return
	}
	if alwaysAffected(r) && m.affects(out, aff) {
		out.why = fmt.Sprintf("all versions are affected, and no fixed one is known (%s)", a.ID)
	}
	if m.parseErr != nil {
		if !alwaysAffected(r) {
			out.undecided = true
			out.rule = fmt.Sprintf("cannot tell: %v", m.parseErr)
		}
		return
	}
	intervals, err := compile(m.key.Ecosystem, r.Events)
	if err != nil {
		out.undecided = true
		out.rule = fmt.Sprintf("cannot tell: %v", err)
		return
	}
	out.intervals = append(out.intervals, intervals...)
	for _, e := range r.Events {
		if e.Fixed != "" {
			if v, err := version.Parse(m.key.Ecosystem, e.Fixed); err == nil {
				out.fixes = append(out.fixes, v)
			}
		}
	}
	m.place(a, aff, intervals, out)
}

// place finds the installed version among a range's intervals, and the words for it.
func (m *matcher) place(a *Advisory, aff *Affected, intervals []interval, out *outcome) {
	for _, iv := range intervals {
		in, err := iv.has(m.installed)
		if err != nil {
			out.undecided = true
			out.rule = fmt.Sprintf("cannot tell: %v", err)
			return
		}
		if in {
			if m.affects(out, aff) || out.why == "" {
				out.why = m.whyIn(iv, a.ID)
			}
			return
		}
	}
	if out.undecided {
		return
	}
	out.rule = m.whyOut(intervals)
}

func (m *matcher) whyIn(iv interval, id string) string {
	switch {
	case iv.high.IsZero() && iv.low.IsZero():
		return fmt.Sprintf("all versions are affected, and no fixed one is known (%s)", id)
	case iv.high.IsZero():
		return fmt.Sprintf("%s is not below %s, the first affected version, and no fixed one is known (%s)", m.key.Version, iv.low, id)
	case iv.through:
		return fmt.Sprintf("%s is not above %s, the last affected version (%s)", m.key.Version, iv.high, id)
	}
	return fmt.Sprintf("%s is below %s, the version that fixes it (%s)", m.key.Version, iv.high, id)
}

func (m *matcher) whyOut(intervals []interval) string {
	rule := ""
	for _, iv := range intervals {
		if c, err := compareAt(m.installed, iv.low); err == nil && c < 0 {
			if rule == "" {
				rule = fmt.Sprintf("the first affected version is %s, %s is installed", iv.low, m.key.Version)
			}
			break
		}
		if iv.through {
			rule = fmt.Sprintf("the last affected version is %s, %s is installed", iv.high, m.key.Version)
		} else {
			rule = fmt.Sprintf("fixed in %s, %s is installed", iv.high, m.key.Version)
		}
	}
	return rule
}

func alwaysAffected(r Range) bool {
	for _, e := range r.Events {
		if e.Introduced == "" {
			return false
		}
	}
	return slices.ContainsFunc(r.Events, func(e Event) bool { return e.Introduced == "0" })
}

// otherBuild says why a range is not about this build of an RPM package. A module's
// builds and the plain ones are lines of their own, whose versions do not compare;
// and so are the streams of a module, as far as versions show them: an update for
// nodejs:16 to 16.20 is not about nodejs 14.
func (m *matcher) otherBuild(a *Advisory, r Range) string {
	for _, e := range r.Events {
		if e.Fixed == "" {
			continue
		}
		switch {
		case isModular(e.Fixed) && !m.modular:
			return "the update is for a module's build, and this package is none"
		case !isModular(e.Fixed) && m.modular:
			return "the update is not for a module's build, as this package is"
		case m.modular && otherStream(a.Module, e.Fixed, m.key.Version):
			return fmt.Sprintf("the update is for the module stream %s, %s is of another", a.Module, m.key.Version)
		}
	}
	return ""
}

// otherStream says whether fixed follows the number of a module's stream and installed
// does not.
func otherStream(module, fixed, installed string) bool {
	_, stream, ok := strings.Cut(module, ":")
	return ok && followsStream(stream, fixed) && !followsStream(stream, installed)
}

func followsStream(stream, rpmVersion string) bool {
	if _, rest, ok := strings.Cut(rpmVersion, ":"); ok {
		rpmVersion = rest
	}
	rest, ok := strings.CutPrefix(rpmVersion, stream)
	return ok && strings.ContainsAny(stream, "0123456789") && (rest == "" || rest[0] == '.' || rest[0] == '-')
}

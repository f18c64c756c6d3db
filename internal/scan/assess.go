package scan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/remediation"
	"pratique.dev/pratique/internal/report"
	"pratique.dev/pratique/internal/vuln"
)

// assessment is what is known of one image before it is judged.
type assessment struct {
	image    inventory.Image
	artifact bool // no image: nothing to find
	matched  []vuln.Finding
	findings []report.Finding
	coverage inventory.Coverage
	covered  map[string]time.Time // of the ecosystems in the image, those with advisories, and as of when
	asOf     time.Time            // newest of all advisories, zero: there are none
}

// newAssessment puts findings in their places in the image. undecided are the candidates
// of which it could not be told whether they are findings; covered says which ecosystems
// have advisories and how far those reach.
func newAssessment(img inventory.Image, found []vuln.Finding, undecided []vuln.Cleared, covered map[string]vuln.Coverage) assessment {
	a := assessment{image: img, coverage: img.Coverage, covered: map[string]time.Time{}}
	for _, c := range covered {
		if c.AsOf.After(a.asOf) {
			a.asOf = c.AsOf
		}
	}
	a.coverage.Unknown = slices.Clone(img.Coverage.Unknown)
	a.uncovered(covered)
	a.unapplied(undecided)
	a.place(found)
	return a
}

// uncovered adds a gap for each ecosystem of the image that has no advisories, or has
// them for a part of its packages only.
func (a *assessment) uncovered(covered map[string]vuln.Coverage) {
	missing, packages := map[string]int{}, map[string]int{}
	partial := map[string]string{}
	for _, p := range a.image.Packages {
		if isOwned(p.Package) {
			continue
		}
		packages[p.Ecosystem]++
		c, ok := covers(covered, p.Key)
		if !ok {
			missing[p.Ecosystem]++
			continue
		}
		a.covered[p.Ecosystem] = c.AsOf
		if c.Partial != "" {
			partial[p.Ecosystem] = c.Partial
		}
	}
	for _, eco := range slices.Sorted(maps.Keys(missing)) {
		name := eco
		if name == "" {
			name = "an unknown distribution"
		}
		a.coverage.Unknown = append(a.coverage.Unknown, inventory.Gap{Kind: inventory.GapNoData, Count: missing[eco],
			Reason: fmt.Sprintf("no advisories for %s: its packages were listed but not matched", name)})
	}
	for _, eco := range slices.Sorted(maps.Keys(partial)) {
		a.coverage.Unknown = append(a.coverage.Unknown, inventory.Gap{Kind: inventory.GapPartial, Count: packages[eco],
			Reason: fmt.Sprintf("the advisories for %s cover a part of it only (%s); import its whole dump", eco, partial[eco])})
	}
}

// unapplied adds a gap for each package to which an advisory could not be applied,
// because a version is none.
func (a *assessment) unapplied(undecided []vuln.Cleared) {
	seen := map[inventory.Key]int{} // index of the gap
	for _, c := range undecided {
		if !c.Undecided {
			continue
		}
		if i, ok := seen[c.Package]; ok {
			a.coverage.Unknown[i].Count++
			continue
		}
		seen[c.Package] = len(a.coverage.Unknown)
		a.coverage.Unknown = append(a.coverage.Unknown, inventory.Gap{Kind: inventory.GapVersion, Count: 1,
			Reason: fmt.Sprintf("%s %s: %s could not be applied: %s", c.Package.Name, c.Package.Version, c.Advisory, c.Rule)})
	}
}

func covers(covered map[string]vuln.Coverage, k inventory.Key) (vuln.Coverage, bool) {
	for _, eco := range vuln.LookupEcosystems(k) {
		if c, ok := covered[eco]; ok {
			return c, true
		}
	}
	return vuln.Coverage{}, false
}

// knownAsOf is when the advisories end that are the oldest of those for this image's
// ecosystems.
func (a *assessment) knownAsOf() time.Time {
	oldest := a.asOf
	for _, t := range a.covered {
		if t.Before(oldest) {
			oldest = t
		}
	}
	return oldest
}

// isOwned says whether a package of a language was installed by the operating
// system's package manager, whose advisories alone then speak for it.
func isOwned(p inventory.Package) bool { return p.OwnedBy != "" && !isOS(p) }

func isOS(p inventory.Package) bool {
	return p.Type == "deb" || p.Type == "apk" || p.Type == "rpm"
}

// where is all places of one package version in one layer.
type where struct {
	key   inventory.Key
	layer oci.Digest
}

// place turns findings of package versions into findings of the image: one for each
// layer that brought the package.
func (a *assessment) place(found []vuln.Finding) {
	places := map[inventory.Key][]where{}
	at := map[where][]inventory.Placed{}
	for _, p := range a.image.Packages {
		if isOwned(p.Package) {
			continue
		}
		w := where{p.Key, p.Layer}
		if at[w] == nil {
			places[p.Key] = append(places[p.Key], w)
		}
		at[w] = append(at[w], p)
	}
	for _, f := range found {
		first := true
		for _, w := range places[f.Package] {
			pkgs := ofModule(at[w], f.Modules)
			if len(pkgs) == 0 {
				continue
			}
			here := f
			if headersOnly(pkgs) {
				here.Informs = true
				here.Why += "; only the kernel's headers are installed, none of its code runs from here"
			}
			if first {
				a.matched = append(a.matched, here)
				first = false
			}
			a.findings = append(a.findings, placed(here, pkgs))
		}
	}
	report.SortFindings(a.findings)
}

// ofModule leaves out the packages that are known to be of another RPM module stream
// than the updates are for.
func ofModule(pkgs []inventory.Placed, modules []string) []inventory.Placed {
	if len(modules) == 0 {
		return pkgs
	}
	var out []inventory.Placed
	for _, p := range pkgs {
		name, rest, _ := strings.Cut(p.Module, ":")
		stream, _, _ := strings.Cut(rest, ":")
		if p.Module == "" || slices.Contains(modules, name+":"+stream) {
			out = append(out, p)
		}
	}
	return out
}

// headersOnly says whether the packages hold nothing but kernel headers.
func headersOnly(pkgs []inventory.Placed) bool {
	return !slices.ContainsFunc(pkgs, func(p inventory.Placed) bool { return !vuln.KernelHeaders(p.Package) })
}

func placed(f vuln.Finding, pkgs []inventory.Placed) report.Finding {
	out := report.Finding{
		ID: f.ID, Aliases: f.Aliases, Ecosystem: f.Package.Ecosystem, Package: f.Package.Name, Version: f.Package.Version,
		Fixed: f.Fixed, Severity: f.Severity, SeveritySource: f.SeveritySource, Layer: pkgs[0].Layer,
		Instruction: pkgs[0].Instruction, Fix: remediation.Command(pkgs, f), Why: f.Why, Summary: f.Summary, URL: f.URL,
		Exploited: f.Exploited, EPSS: f.EPSS, Malicious: f.Malicious, Ratings: f.Ratings, Status: f.Status, Informs: f.Informs,
	}
	if out.Aliases == nil {
		out.Aliases = []string{}
	}
	for _, p := range pkgs {
		if isOS(p.Package) {
			out.Binaries = append(out.Binaries, p.Binary)
		}
		for _, path := range p.Paths {
			if !slices.Contains(out.Paths, path) {
				out.Paths = append(out.Paths, path)
			}
		}
	}
	slices.Sort(out.Binaries)
	out.Binaries = slices.Compact(out.Binaries)
	return out
}

func (a *assessment) subject(d oci.Digest) policy.Subject {
	return policy.Subject{Manifest: d, Image: !a.artifact, Distro: a.image.Distro, Findings: a.matched,
		Packages: len(a.image.Packages), Coverage: a.coverage, KnownAsOf: a.knownAsOf()}
}

// report puts an assessment and its verdict into the form that is shown.
func (a *assessment) report(target string, m oci.Manifest, v policy.Verdict) report.Report {
	r := report.Report{Target: target, Digest: m.Digest, Decision: v.Decision, Policy: v.Policy, Reasons: v.Reasons, JudgedAt: v.At,
		Counts: report.Count(a.findings), Distro: a.image.Distro, Findings: a.findings, Coverage: a.coverage,
		Packages: []report.Package{}, Fixes: []report.Fix{},
		Advisories: report.Advisories{AsOf: a.asOf, Ecosystems: a.covered}}
	perLayer := map[oci.Digest]int{}
	for _, p := range a.image.Packages {
		perLayer[p.Layer]++
		r.Packages = append(r.Packages, report.Package{Ecosystem: p.Ecosystem, Name: p.Binary, Version: p.BinaryVersion,
			Source: p.Source, SourceVersion: p.SourceVersion, PURL: p.PURL, Paths: p.Paths, Layer: p.Layer,
			Arch: p.Arch, Module: p.Module, OwnedBy: p.OwnedBy})
	}
	for i, l := range m.Layers {
		layer := report.Layer{Digest: l.Digest, Packages: perLayer[l.Digest]}
		if i < len(a.image.Instructions) {
			layer.Instruction = a.image.Instructions[i]
		}
		r.Layers = append(r.Layers, layer)
	}
	for _, s := range remediation.Plan(a.image, a.matched) {
		r.Fixes = append(r.Fixes, report.Fix{Layer: s.Layer, Command: s.Command, Note: s.Note, Findings: s.Findings})
	}
	if r.Advisories.Ecosystems == nil {
		r.Advisories.Ecosystems = map[string]time.Time{}
	}
	if r.Reasons == nil {
		r.Reasons = []policy.Reason{}
	}
	if r.Findings == nil {
		r.Findings = []report.Finding{}
	}
	if r.Coverage.Examined == nil {
		r.Coverage.Examined = []string{}
	}
	if r.Coverage.Unknown == nil {
		r.Coverage.Unknown = []inventory.Gap{}
	}
	return r
}

package report

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/version"
	"pratique.dev/pratique/internal/vuln"
)

// TextOptions says how WriteText lays a report out.
type TextOptions struct {
	Color    bool // ANSI colours, for a terminal
	Packages bool // list every package too
}

// WriteText writes r for people: the decision and why, the findings by layer and
// package with their fixes, what to run, and what could not be seen.
func WriteText(w io.Writer, r Report, o TextOptions) error {
	t := &text{w: bufio.NewWriter(w), TextOptions: o}
	t.report(r)
	return t.w.Flush()
}

// text carries the writer through the sections; its first write error stays in w.
type text struct {
	w *bufio.Writer
	TextOptions
}

func (t *text) line(format string, args ...any) {
	fmt.Fprintln(t.w, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

func (t *text) report(r Report) {
	head := []string{clean(r.Target)}
	if !r.Digest.IsZero() {
		head = append(head, r.Digest.String())
	}
	if r.Platform != "" {
		head = append(head, clean(r.Platform))
	}
	t.line("%s", strings.Join(head, "  "))
	t.line("%s  %s", t.decision(r.Decision), summary(r))
	t.reasons(r.Reasons)
	if len(r.Platforms) > 0 {
		for _, p := range r.Platforms {
			t.line("")
			t.report(p)
		}
		return
	}
	t.findings(r)
	t.fixes(r.Fixes)
	t.coverage(r.Coverage)
	if t.Packages {
		t.packages(r.Packages)
	}
}

func (t *text) decision(d policy.Decision) string {
	switch d {
	case policy.Allow:
		return t.paint("32;1", "ALLOW")
	case policy.Quarantine:
		return t.paint("31;1", "QUARANTINE")
	}
	return t.paint("33;1", "PENDING")
}

func summary(r Report) string {
	if len(r.Platforms) > 0 {
		return fmt.Sprintf("%d platforms, the worst governs", len(r.Platforms))
	}
	parts := []string{}
	if name := r.Distro.PrettyName; name != "" {
		parts = append(parts, clean(name))
	} else if r.Distro.ID != "" {
		parts = append(parts, clean(r.Distro.ID+" "+r.Distro.VersionID))
	}
	parts = append(parts, plural(len(r.Packages), "package"), CountsText(r.Counts))
	if asOf := reach(r.Advisories); asOf.IsZero() {
		parts = append(parts, "no advisories")
	} else {
		parts = append(parts, "advisories of "+asOf.UTC().Format(time.DateOnly))
	}
	return strings.Join(parts, ", ")
}

// reach is the day to which all advisories reach that the image needs.
func reach(a Advisories) time.Time {
	oldest := a.AsOf
	for _, t := range a.Ecosystems {
		if t.Before(oldest) {
			oldest = t
		}
	}
	return oldest
}

// CountsText says the numbers in one line, "2 critical, 1 high (2 with a fix)".
func CountsText(c Counts) string {
	var parts []string
	for _, p := range []struct {
		n    int
		name string
	}{{c.Critical, "critical"}, {c.High, "high"}, {c.Unknown, "of unknown severity"}, {c.Medium, "medium"}, {c.Low, "low"}, {c.None, "informational"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.name))
		}
	}
	if len(parts) == 0 {
		return "no findings"
	}
	s := strings.Join(parts, ", ")
	if c.Fixable > 0 {
		s += fmt.Sprintf(" (%d with a fix)", c.Fixable)
	}
	return s
}

func (t *text) reasons(reasons []policy.Reason) {
	for _, r := range reasons {
		mark := t.paint("31", "✗")
		if r.Note {
			mark = "·"
		}
		t.line("  %s %s", mark, clean(r.Message))
	}
}

// group is what one package in one layer has.
type group struct{ findings []Finding }

func (t *text) findings(r Report) {
	if len(r.Findings) == 0 {
		return
	}
	t.line("")
	t.line("%s", t.paint("1", "Findings"))
	for _, l := range layersOf(r) {
		groups := groupByPackage(r.Findings, l.Digest)
		if len(groups) == 0 {
			continue
		}
		t.line("  layer %s  %s", shortLayer(l), t.paint("2", clip(clean(l.Instruction), 100)))
		for _, g := range groups {
			t.group(g)
		}
	}
}

func (t *text) group(g group) {
	f := g.findings[0]
	name := f.Package + " " + f.Version
	if len(f.Binaries) > 0 && !(len(f.Binaries) == 1 && f.Binaries[0] == f.Package) {
		name += " (" + clip(strings.Join(f.Binaries, ", "), 80) + ")"
	}
	t.line("    %s", t.paint("1", clean(name)))
	if len(f.Paths) > 0 && len(f.Binaries) == 0 {
		t.line("      %s", t.paint("2", clip(clean("/"+strings.Join(f.Paths, ", /")), 120)))
	}
	for _, f := range g.findings {
		t.finding(f)
	}
	if fix := highestFix(g.findings); fix != "" {
		t.line("      fix: %s", clean(fix))
	}
}

func (t *text) finding(f Finding) {
	fixed := "no fix yet"
	switch {
	case f.Fixed != "":
		fixed = "fixed in " + f.Fixed
	case f.Status == vuln.StatusWontFix:
		fixed = "will not be fixed"
	}
	extra := ""
	if f.Exploited {
		extra += "  " + t.paint("31", "exploited")
	}
	if f.Malicious {
		extra += "  " + t.paint("31", "malicious")
	}
	t.line("      %s %-20s %-28s %s%s", t.severity(f), clean(f.ID), clean(fixed), t.paint("2", clip(clean(f.Summary), 80)), extra)
}

// highestFix is the command that mends all findings of one package that can be mended.
func highestFix(fs []Finding) string {
	var best Finding
	for _, f := range fs {
		if f.Fix == "" {
			continue
		}
		if c, err := version.Compare(f.Ecosystem, f.Fixed, best.Fixed); best.Fix == "" || err == nil && c > 0 {
			best = f
		}
	}
	return best.Fix
}

func (t *text) severity(f Finding) string {
	name := fmt.Sprintf("%-9s", f.Severity.String())
	switch f.Severity {
	case vuln.Critical:
		return t.paint("31;1", name)
	case vuln.High, vuln.Unknown:
		return t.paint("31", name)
	case vuln.Medium:
		return t.paint("33", name)
	}
	return name
}

// layersOf lists the report's layers, and last a stand-in for findings of none.
func layersOf(r Report) []Layer {
	out := slices.Clone(r.Layers)
	for _, f := range r.Findings {
		if !slices.ContainsFunc(out, func(l Layer) bool { return l.Digest == f.Layer }) {
			out = append(out, Layer{Digest: f.Layer, Instruction: f.Instruction})
		}
	}
	return out
}

func groupByPackage(findings []Finding, layer oci.Digest) []group {
	var out []group
	index := map[string]int{}
	for _, f := range findings {
		if f.Layer != layer {
			continue
		}
		key := f.Ecosystem + "\x00" + f.Package + "\x00" + f.Version
		i, ok := index[key]
		if !ok {
			i = len(out)
			index[key] = i
			out = append(out, group{})
		}
		out[i].findings = append(out[i].findings, f)
	}
	return out
}

func shortLayer(l Layer) string {
	if l.Digest.IsZero() {
		return "(root folder)"
	}
	return l.Digest.Short()
}

func (t *text) fixes(fixes []Fix) {
	if len(fixes) == 0 {
		return
	}
	t.line("")
	t.line("%s", t.paint("1", "What to run"))
	for _, f := range fixes {
		if f.Command != "" {
			t.line("  %s", clean(f.Command))
		}
		if f.Note != "" {
			t.line("    # %s", clean(f.Note))
		}
	}
}

func (t *text) coverage(c inventory.Coverage) {
	t.line("")
	seen := "nothing"
	if len(c.Examined) > 0 {
		seen = strings.Join(c.Examined, ", ")
	}
	t.line("%s %s", t.paint("1", "Examined"), seen)
	if len(c.Unknown) == 0 {
		return
	}
	t.line("%s", t.paint("1", "Not seen"))
	for _, g := range c.Unknown {
		line := clean(g.Reason)
		if g.Path != "" {
			line = "/" + clean(g.Path) + ": " + line
		}
		if g.Count > 1 {
			line += fmt.Sprintf(" (%d like this)", g.Count)
		}
		t.line("  · %s  %s", line, t.paint("2", string(g.Kind)))
	}
}

func (t *text) packages(pkgs []Package) {
	t.line("")
	t.line("%s", t.paint("1", "Packages"))
	for _, p := range pkgs {
		t.line("  %-14s %-40s %-30s %s", clean(p.Ecosystem), clean(p.Name), clean(p.Version), p.Layer.Short())
	}
}

func (t *text) paint(code, s string) string {
	if !t.Color || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// clean takes out what could steer a terminal: image content is nobody's friend.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// clip shortens s to at most n characters.
func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

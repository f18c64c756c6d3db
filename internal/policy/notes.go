package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/vuln"
)

// maxGapNotes bounds the remarks on gaps of one kind; the rest is counted.
const maxGapNotes = 5

// notes gives what must be known with the verdict though it holds nothing back.
func (p Policy) notes(s Subject) []Reason {
	out := p.findingNotes(s.Findings)
	out = append(out, p.gapNotes(s.Coverage)...)
	if s.Packages == 0 {
		out = append(out, note("no-packages", "no packages were found, so there was nothing to match"))
	}
	return out
}

func note(rule, format string, args ...any) Reason {
	return Reason{Rule: rule, Note: true, Message: fmt.Sprintf(format, args...)}
}

// findingNotes counts the findings that pass for another cause than their severity.
func (p Policy) findingNotes(findings []vuln.Finding) (out []Reason) {
	unknown, unfixed, informs := 0, 0, 0
	for _, f := range findings {
		if f.Severity == vuln.Unknown {
			unknown++
		}
		switch {
		case f.Malicious:
		case f.Informs:
			informs++
		case p.OnlyFixable && f.Fixed == "" && (f.Exploited && !p.IgnoreExploited || p.counted(f.Severity) >= p.MinSeverity):
			unfixed++
		}
	}
	if unknown > 0 {
		out = append(out, note("unknown-severity", "%s of unknown severity, which counts as %s", findingsText(unknown), p.counted(vuln.Unknown)))
	}
	if unfixed > 0 {
		out = append(out, note("without-fix", "%s would hold this back if a fixed version were known", findingsText(unfixed)))
	}
	if informs > 0 {
		out = append(out, note("kernel-headers", "%s of the kernel in packages that hold none of its code", findingsText(informs)))
	}
	return out
}

func findingsText(n int) string {
	if n == 1 {
		return "1 finding"
	}
	return fmt.Sprintf("%d findings", n)
}

// gapNotes remarks on the tolerated gaps, the first of each kind in words.
func (p Policy) gapNotes(c inventory.Coverage) []Reason {
	byKind := map[inventory.GapKind][]inventory.Gap{}
	for _, g := range c.Unknown {
		if !blinds(g) && slices.Contains(p.Tolerate, g.Kind) {
			byKind[g.Kind] = append(byKind[g.Kind], g)
		}
	}
	var out []Reason
	for _, kind := range p.Tolerate {
		gaps := byKind[kind]
		delete(byKind, kind)
		more := 0
		for i, g := range gaps {
			if i >= maxGapNotes {
				more += max(g.Count, 1)
				continue
			}
			r := note(ruleOf(kind), "not seen: %s", gapText(g))
			r.Package = g.Path
			out = append(out, r)
		}
		if more > 0 {
			out = append(out, note(ruleOf(kind), "not seen: %d more of this kind", more))
		}
	}
	return out
}

func ruleOf(kind inventory.GapKind) string {
	switch kind {
	case inventory.GapNoData, inventory.GapNoOS:
		return "not-covered"
	}
	return "not-seen"
}

func gapText(g inventory.Gap) string {
	text := cmp.Or(g.Reason, string(g.Kind))
	if g.Path != "" && !strings.Contains(text, g.Path) {
		text = g.Path + ": " + text
	}
	if g.Count > 1 {
		text += fmt.Sprintf(" (%d of these)", g.Count)
	}
	return text
}

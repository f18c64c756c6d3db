// Package report is what people and programs are told of an image: the document
// that `pratique scan` and `pratique show` print and that the server's interface
// answers with, and its form as text. It renders; what it says was decided elsewhere.
package report

import (
	"cmp"
	"slices"
	"time"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/vuln"
)

// Report is the one documented schema of a judged image (docs/report.md). Field
// names are stable; fields are added, never renamed.
type Report struct {
	Target   string          `json:"target"`             // as the user named it
	Digest   oci.Digest      `json:"digest"`             // of the manifest; empty for a root folder
	Platform string          `json:"platform,omitempty"` // "linux/amd64", within an index
	Decision policy.Decision `json:"decision"`
	Policy   string          `json:"policy,omitempty"`
	Reasons  []policy.Reason `json:"reasons"`
	// Counts has the number of findings per severity, and of those with a fix or known to be exploited.
	Counts     Counts             `json:"counts"`
	Distro     inventory.Distro   `json:"distro"`
	Packages   []Package          `json:"packages"`
	Findings   []Finding          `json:"findings"`
	Fixes      []Fix              `json:"fixes"` // the fewest commands that fix what can be fixed
	Coverage   inventory.Coverage `json:"coverage"`
	Advisories Advisories         `json:"advisories"`
	Layers     []Layer            `json:"layers,omitempty"`
	JudgedAt   time.Time          `json:"judgedAt,omitzero"`
	// Platforms holds the images of an index; the index's own decision is the worst of theirs.
	Platforms []Report `json:"platforms,omitempty"`
}

// Package is one installed package.
type Package struct {
	Ecosystem     string     `json:"ecosystem"`
	Name          string     `json:"name"` // as its package manager calls it
	Version       string     `json:"version"`
	Source        string     `json:"source"` // of operating system packages; else ""
	SourceVersion string     `json:"sourceVersion"`
	PURL          string     `json:"purl"`
	Paths         []string   `json:"paths"`
	Layer         oci.Digest `json:"layer"` // "" in a root folder
	Arch          string     `json:"arch,omitempty"`
	Module        string     `json:"module,omitempty"`
	OwnedBy       string     `json:"ownedBy,omitempty"`
}

// Finding is one flaw of one package in one layer.
type Finding struct {
	ID             string        `json:"id"`
	Aliases        []string      `json:"aliases"`
	Ecosystem      string        `json:"ecosystem"`
	Package        string        `json:"package"` // the name that the advisory uses
	Version        string        `json:"version"` // the installed version that was compared
	Fixed          string        `json:"fixed"`   // "" where no fix is known
	Severity       vuln.Severity `json:"severity"`
	SeveritySource string        `json:"severitySource"`
	Layer          oci.Digest    `json:"layer"`
	Instruction    string        `json:"instruction"`
	Fix            string        `json:"fix"` // the exact command, "" where there is none
	Why            string        `json:"why"`
	Binaries       []string      `json:"binaries,omitempty"` // installed packages built from Package
	Paths          []string      `json:"paths,omitempty"`
	Summary        string        `json:"summary,omitempty"`
	URL            string        `json:"url,omitempty"`
	Exploited      bool          `json:"exploited,omitempty"`
	EPSS           float32       `json:"epss,omitempty"`
	Malicious      bool          `json:"malicious,omitempty"`
	Informs        bool          `json:"informs,omitempty"` // listed, and holds nothing back: a kernel's flaw in its headers
	Ratings        []vuln.Rating `json:"ratings,omitempty"`
	Status         vuln.Status   `json:"status,omitempty"`
}

// Fix is one step that mends several findings at once.
type Fix struct {
	Layer    oci.Digest `json:"layer,omitzero"`
	Command  string     `json:"command"`
	Note     string     `json:"note,omitempty"`
	Findings int        `json:"findings"` // how many it mends
}

// Layer is one layer of the image, lowest first.
type Layer struct {
	Digest      oci.Digest `json:"digest"`
	Instruction string     `json:"instruction,omitempty"`
	Packages    int        `json:"packages"`
}

// Advisories says what the findings were looked up in.
type Advisories struct {
	AsOf       time.Time            `json:"asOf,omitzero"` // the newest of the sources; zero: there are none
	Ecosystems map[string]time.Time `json:"ecosystems"`    // of this image's packages, those that are covered
}

// Counts are numbers of findings.
type Counts struct {
	Critical  int `json:"critical"`
	High      int `json:"high"`
	Medium    int `json:"medium"`
	Low       int `json:"low"`
	None      int `json:"none"`
	Unknown   int `json:"unknown"`
	Fixable   int `json:"fixable"`
	Exploited int `json:"exploited"`
}

// Total is the number of all findings.
func (c Counts) Total() int {
	return c.Critical + c.High + c.Medium + c.Low + c.None + c.Unknown
}

// Add returns the sum of both.
func (c Counts) Add(o Counts) Counts {
	return Counts{c.Critical + o.Critical, c.High + o.High, c.Medium + o.Medium, c.Low + o.Low,
		c.None + o.None, c.Unknown + o.Unknown, c.Fixable + o.Fixable, c.Exploited + o.Exploited}
}

// Count adds up findings, one of several layers once. What only informs counts as
// none, whatever its severity.
func Count(findings []Finding) Counts {
	var c Counts
	type flaw struct{ id, ecosystem, pkg, version string }
	seen := make(map[flaw]bool, len(findings))
	for _, f := range findings {
		k := flaw{f.ID, f.Ecosystem, f.Package, f.Version}
		if seen[k] {
			continue
		}
		seen[k] = true
		if f.Informs {
			c.None++
			continue
		}
		switch f.Severity {
		case vuln.Critical:
			c.Critical++
		case vuln.High:
			c.High++
		case vuln.Medium:
			c.Medium++
		case vuln.Low:
			c.Low++
		case vuln.None:
			c.None++
		default:
			c.Unknown++
		}
		if f.Fixed != "" {
			c.Fixable++
		}
		if f.Exploited {
			c.Exploited++
		}
	}
	return c
}

// Rank orders severities by how much they ask for attention; unknown counts as high,
// as the default policy has it.
func Rank(s vuln.Severity) int {
	if s == vuln.Unknown {
		s = vuln.High
	}
	return int(s)
}

// SortFindings puts what matters first: malicious, exploited, severity, then what has
// a fix, then package and id.
func SortFindings(fs []Finding) {
	slices.SortStableFunc(fs, func(a, b Finding) int {
		return cmp.Or(
			first(a.Malicious, b.Malicious), first(b.Informs, a.Informs), first(a.Exploited, b.Exploited),
			cmp.Compare(Rank(b.Severity), Rank(a.Severity)), cmp.Compare(b.Severity, a.Severity), first(a.Fixed != "", b.Fixed != ""),
			cmp.Compare(a.Package, b.Package), cmp.Compare(a.ID, b.ID))
	})
}

// first orders a before b if only a holds.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// report is the documented JSON of `scan` and `show`, as a script would read it.
type report struct {
	Target   string `json:"target"`
	Digest   string `json:"digest"`
	Platform string `json:"platform"`
	Decision string `json:"decision"`
	Reasons  []struct {
		Rule    string `json:"rule"`
		Message string `json:"message"`
		Finding string `json:"finding"`
		Package string `json:"package"`
	} `json:"reasons"`
	Distro struct {
		ID string `json:"id"`
	} `json:"distro"`
	Packages []struct {
		Ecosystem     string   `json:"ecosystem"`
		Name          string   `json:"name"`
		Version       string   `json:"version"`
		Source        string   `json:"source"`
		SourceVersion string   `json:"sourceVersion"`
		PURL          string   `json:"purl"`
		Paths         []string `json:"paths"`
		Layer         string   `json:"layer"`
	} `json:"packages"`
	Findings []finding `json:"findings"`
	Coverage struct {
		Examined []string `json:"examined"`
		Unknown  []struct {
			Kind   string `json:"kind"`
			Path   string `json:"path"`
			Reason string `json:"reason"`
		} `json:"unknown"`
	} `json:"coverage"`
	Advisories struct {
		AsOf string `json:"asOf"`
	} `json:"advisories"`
	Platforms []report `json:"platforms"`
}

type finding struct {
	ID             string   `json:"id"`
	Aliases        []string `json:"aliases"`
	Ecosystem      string   `json:"ecosystem"`
	Package        string   `json:"package"`
	Version        string   `json:"version"`
	Fixed          string   `json:"fixed"`
	Severity       string   `json:"severity"`
	SeveritySource string   `json:"severitySource"`
	Layer          string   `json:"layer"`
	Instruction    string   `json:"instruction"`
	Fix            string   `json:"fix"`
	Why            string   `json:"why"`
}

// parseReport reads the JSON that a command printed.
func parseReport(t *testing.T, r result) report {
	t.Helper()
	var out report
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil {
		t.Fatalf("not the JSON of a report (exit code %d): %v\n%s\n%s", r.code, err, r.stdout, r.stderr)
	}
	return out
}

// show asks the server for the report of an image.
func (s *server) show(t *testing.T, ref string) report {
	t.Helper()
	return parseReport(t, s.pratique("show", ref, "-o", "json").mustRun(t))
}

// find returns the finding of a package that goes by an id or an alias.
func (r report) find(t *testing.T, pkg, id string) finding {
	t.Helper()
	for _, f := range r.Findings {
		if f.Package == pkg && (f.ID == id || slices.Contains(f.Aliases, id)) {
			return f
		}
	}
	t.Fatalf("%s has no finding %s of %s; it has %s", r.Target, id, pkg, r.summary())
	return finding{}
}

// summary is a report for the message of a failed test.
func (r report) summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "decision %s, %d packages, findings", r.Decision, len(r.Packages))
	for _, f := range r.Findings {
		if f.Severity == "critical" || len(r.Findings) < 30 {
			fmt.Fprintf(&b, " %s(%s %s)", f.ID, f.Package, f.Version)
		}
	}
	fmt.Fprintf(&b, ", reasons %v, unknown %v", r.Reasons, r.Coverage.Unknown)
	return b.String()
}

// gap says whether something of this kind could not be seen.
func (r report) gap(kind string) bool {
	for _, g := range r.Coverage.Unknown {
		if g.Kind == kind {
			return true
		}
	}
	return false
}

// wantDecision fails the test unless the report decides so.
func (r report) wantDecision(t *testing.T, want string) {
	t.Helper()
	if r.Decision != want {
		t.Fatalf("decision of %s is %q, want %q: %s", r.Target, r.Decision, want, r.summary())
	}
}

// advisoriesLoaded reads the JSON of `advisories status`.
func advisoriesLoaded(out []byte) (bool, error) {
	var status struct {
		Ecosystems []struct {
			Ecosystem string `json:"ecosystem"`
			Records   int    `json:"records"`
		} `json:"ecosystems"`
		Loading *struct{} `json:"loading"`
	}
	if err := json.Unmarshal(out, &status); err != nil {
		return false, fmt.Errorf("advisories status: %w: %s", err, out)
	}
	records := map[string]int{}
	for _, e := range status.Ecosystems {
		records[e.Ecosystem] = e.Records
	}
	for _, want := range []string{"AlmaLinux", "Alpine", "Debian", "Go", "Maven", "PyPI", "crates.io", "npm"} {
		if records[want] == 0 {
			return false, nil
		}
	}
	return status.Loading == nil, nil
}

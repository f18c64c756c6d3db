// Package policy decides whether an image may be served: it takes what is known of
// an image and the rules that apply, and gives a Verdict with its reasons. It does no
// I/O and reads no clock.
package policy

import (
	"time"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/vuln"
)

// Decision is whether an image is served. The zero Decision serves nothing.
type Decision int

// The decisions.
const (
	Pending    Decision = iota // not yet judged
	Allow                      // may be served
	Quarantine                 // judged, and held back
)

// Subject is what is known of a manifest when it is judged.
type Subject struct {
	Repository oci.Repository
	Manifest   oci.Digest
	Image      bool // false: an artifact without a root file system
	Distro     inventory.Distro
	Findings   []vuln.Finding
	Packages   int
	Coverage   inventory.Coverage
	Created    time.Time
	// KnownAsOf is when the advisories were last brought in; zero: there are none.
	KnownAsOf time.Time
}

// Reason is one rule that held, and on what.
type Reason struct {
	Rule    string `json:"rule"`    // "critical-with-fix", "known-exploited-with-fix", "not-judged", "no-advisories", …
	Message string `json:"message"` // for people, one line
	Finding string `json:"finding,omitempty"`
	Package string `json:"package,omitempty"`
	// Note marks a remark that held nothing back by itself: what was not seen, an
	// unknown severity.
	Note bool `json:"note,omitempty"`
}

// Verdict is what was decided, why, and how long that holds.
type Verdict struct {
	Decision Decision  `json:"decision"`
	Platform string    `json:"platform,omitempty"` // "linux/amd64", where it is one of an index; set by the caller
	Policy   string    `json:"policy"`             // the policy's name
	Reasons  []Reason  `json:"reasons"`
	At       time.Time `json:"at"`
	Until    time.Time `json:"until,omitzero"` // judge again then, though nothing is new; zero: no need
}

// Package vuln holds advisories and what comes of applying them to packages: Match
// turns one package version and the advisories that name it into findings, and says
// of every candidate that is no finding why it is none. It does no I/O.
package vuln

import (
	"time"

	"pratique.dev/pratique/internal/inventory"
)

// Rating is one party's statement of severity.
type Rating struct {
	Source   string   `json:"source"`           // who says so: "Debian", "GHSA", "NVD", "AlmaLinux", …
	Severity Severity `json:"severity"`         // as stated, or from the score
	Vector   string   `json:"vector,omitempty"` // CVSS vector, where there is one
	Score    float64  `json:"score,omitempty"`  // CVSS base score, where there is one
}

// Status is what an advisory says of a package beyond its ranges.
type Status string

// The statuses.
const (
	StatusFixed       Status = ""            // ranges with fixes tell all
	StatusUnfixed     Status = "unfixed"     // affected, no fix yet
	StatusWontFix     Status = "wontfix"     // affected, the vendor will not fix it
	StatusNotAffected Status = "notaffected" // the vendor says that this package does not have the flaw
)

// Advisory is one record, brought to the same form from whatever source it came. It is
// about one flaw, whose other ids are its Aliases, or it is an update of a package
// that fixes the flaws of Related, each of which becomes a finding of its own.
type Advisory struct {
	ID      string   `json:"id"`
	Aliases []string `json:"aliases,omitempty"` // other ids of the same flaw, upstream CVEs included
	Related []string `json:"related,omitempty"` // the flaws that an update advisory fixes (AlmaLinux names its CVEs here)
	Summary string   `json:"summary,omitempty"`
	URL     string   `json:"url,omitempty"` // where to read on
	Source  string   `json:"source"`        // the feed it came by
	// Severity lists every rating, in no order; Rate picks one.
	Severity  []Rating `json:"severity,omitempty"`
	Exploited bool     `json:"exploited,omitempty"` // in CISA's Known Exploited Vulnerabilities
	EPSS      float32  `json:"epss,omitempty"`      // probability of exploitation, 0 to 1 (FIRST)
	Withdrawn bool     `json:"withdrawn,omitempty"`
	Malicious bool     `json:"malicious,omitempty"` // the package itself is the attack (OSV MAL-)
	// Module is the RPM module stream that the update is for, "nodejs:16".
	Module    string     `json:"module,omitempty"`
	Affected  []Affected `json:"affected"`
	Published time.Time  `json:"published,omitzero"`
	Modified  time.Time  `json:"modified,omitzero"`
}

// Affected says which versions of one package an advisory is about.
type Affected struct {
	Ecosystem string   `json:"ecosystem"` // "Debian:12", "npm"; as in inventory.Key
	Name      string   `json:"name"`
	Ranges    []Range  `json:"ranges,omitempty"`
	Versions  []string `json:"versions,omitempty"` // affected too, whatever the ranges say
	Status    Status   `json:"status,omitempty"`
	Severity  []Rating `json:"severity,omitempty"` // of this package, where it differs
}

// Range is OSV's list of events on a line of versions, in ascending order. (OSV
// schema 1.7, "affected[].ranges[]"; ranges of type GIT are not kept.)
type Range struct {
	Events []Event `json:"events"`
}

// Event is one point of a Range; one of its fields is set.
type Event struct {
	Introduced   string `json:"introduced,omitempty"` // affected from here on; "0" sorts before all
	Fixed        string `json:"fixed,omitempty"`      // not affected from here on
	LastAffected string `json:"last_affected,omitempty"`
	Limit        string `json:"limit,omitempty"`
}

// Coverage says how far the advisories of an ecosystem reach.
type Coverage struct {
	AsOf    time.Time `json:"asOf"`              // flaws published since are not among them
	Partial string    `json:"partial,omitempty"` // what they are about, where that is not the whole ecosystem
}

// Finding is one flaw of one package version. All records that are aliases of each other
// make one Finding.
type Finding struct {
	ID       string        `json:"id"`       // the id people know: a CVE where there is one, else the record's
	Advisory string        `json:"advisory"` // the record that decided
	Aliases  []string      `json:"aliases,omitempty"`
	Package  inventory.Key `json:"package"`
	Fixed    string        `json:"fixed,omitempty"` // the lowest version above the installed one that has the fix; "" if none is known
	Status   Status        `json:"status,omitempty"`
	Severity Severity      `json:"severity"`
	// SeveritySource says whose rating Severity is, "" for Unknown.
	SeveritySource string   `json:"severitySource,omitempty"`
	Ratings        []Rating `json:"ratings,omitempty"`
	Exploited      bool     `json:"exploited,omitempty"`
	EPSS           float32  `json:"epss,omitempty"`
	Malicious      bool     `json:"malicious,omitempty"`
	// Modules are the RPM module streams that the deciding updates are for, if they say.
	Modules []string `json:"modules,omitempty"`
	// Informs marks what is listed and holds nothing back: a flaw of the kernel in a
	// package of its headers. Match does not set it, for a Key does not tell.
	Informs bool   `json:"informs,omitempty"`
	Summary string `json:"summary,omitempty"`
	URL     string `json:"url,omitempty"`
	Why     string `json:"why"` // "1.2.3 is below 1.2.9, the version that fixes it (DSA-1234-1)"
}

// Cleared is a candidate that is no finding.
type Cleared struct {
	Advisory string        `json:"advisory"`
	Package  inventory.Key `json:"package"`
	Rule     string        `json:"rule"` // in words: "fixed in 1.2.9, 1.3.0 is installed"
	// Undecided says that the candidate could not be ruled out: a version that has no
	// place in the order. It is a gap of the examination and not a clean bill.
	Undecided bool `json:"undecided,omitempty"`
}

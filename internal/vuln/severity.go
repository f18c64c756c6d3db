package vuln

import (
	"fmt"
	"strings"

	"pratique.dev/pratique/internal/inventory"
)

// Severity is how bad a flaw is. The zero value means that nobody has said.
type Severity int

// Severities in rising order.
const (
	Unknown Severity = iota
	None
	Low
	Medium
	High
	Critical
)

var severityNames = [...]string{"unknown", "none", "low", "medium", "high", "critical"}

// String is the severity's name: "critical", "high", "medium", "low", "none", "unknown".
func (s Severity) String() string {
	if s < Unknown || s > Critical {
		return severityNames[Unknown]
	}
	return severityNames[s]
}

// ParseSeverity reads what String writes, in any case.
func ParseSeverity(text string) (Severity, error) {
	for i, name := range severityNames {
		if strings.EqualFold(text, name) {
			return Severity(i), nil
		}
	}
	return Unknown, fmt.Errorf("severity %.20q is none of %s", text, strings.Join(severityNames[:], ", "))
}

// MarshalText writes the severity's name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Severity) UnmarshalText(text []byte) error {
	got, err := ParseSeverity(string(text))
	if err != nil {
		return err
	}
	*s = got
	return nil
}

// wordSeverity reads a vendor's own word. A word that is not known is Unknown.
func wordSeverity(word string) Severity {
	switch strings.ToLower(strings.TrimRight(strings.TrimSpace(word), "*")) {
	case "critical":
		return Critical
	case "high", "important":
		return High
	case "medium", "moderate":
		return Medium
	case "low", "minor":
		return Low
	case "none", "negligible", "unimportant", "informational":
		return None
	}
	return Unknown
}

// Rate picks the rating that counts for a package of ecosystem, and says whose it is:
// the distribution's own word, then GHSA's, then another database's, then the CVSS
// score of the newest version of CVSS, the highest where there are several. Nobody's
// is Unknown and "".
func Rate(ecosystem string, ratings []Rating) (Severity, string) {
	vendor := vendorOf(ecosystem)
	best, rank := Rating{}, 0
	for _, r := range ratings {
		n := rateRank(r, vendor)
		if r.Severity == Unknown || n < rank || n == rank && !outranks(r, best) {
			continue
		}
		best, rank = r, n
	}
	if rank == 0 {
		return Unknown, ""
	}
	if best.Vector == "" {
		return best.Severity, best.Source
	}
	return best.Severity, best.Source + ", " + vectorName(best.Vector)
}

// outranks orders ratings of the same rank, so that the choice does not hang on theirs.
func outranks(r, s Rating) bool {
	if r.Severity != s.Severity {
		return r.Severity > s.Severity
	}
	if r.Score != s.Score {
		return r.Score > s.Score
	}
	return r.Source < s.Source
}

func rateRank(r Rating, vendor string) int {
	switch {
	case r.Vector == "" && r.Source == vendor:
		return 8
	case r.Vector == "" && r.Source == "GHSA":
		return 7
	case r.Vector == "":
		return 6
	}
	switch vectorName(r.Vector) {
	case "CVSS 4.0":
		return 5
	case "CVSS 3.1":
		return 4
	case "CVSS 3.0":
		return 3
	}
	return 2
}

// vendorOf names the party whose word counts first for an ecosystem, as sourceOf names it.
func vendorOf(ecosystem string) string {
	head, _, _ := strings.Cut(ecosystem, ":")
	switch head {
	case "openSUSE":
		return "SUSE"
	case "npm", "PyPI", "Go", "Maven", "crates.io", "RubyGems", "NuGet", "Packagist":
		return "GHSA"
	}
	return head
}

// sourceOf names the party that wrote a record, by the prefix of its id (OSV schema
// 1.7, "id").
func sourceOf(id string) string {
	prefix, _, _ := strings.Cut(id, "-")
	switch prefix {
	case "DSA", "DLA", "DTSA", "DEBIAN":
		return "Debian"
	case "USN", "LSN", "UBUNTU":
		return "Ubuntu"
	case "ALPINE":
		return "Alpine"
	case "ALSA", "ALBA", "ALEA":
		return "AlmaLinux"
	case "RHSA", "RHBA", "RHEA":
		return "Red Hat"
	case "RLSA", "RXSA", "RLBA", "RLEA":
		return "Rocky Linux"
	case "SUSE", "openSUSE":
		return "SUSE"
	case "AZL":
		return "Azure Linux"
	case "CGA":
		return "Chainguard"
	case "GO":
		return "Go"
	case "PYSEC", "PSF":
		return "PyPA"
	case "RUSTSEC":
		return "RustSec"
	case "NSWG":
		return "Node.js"
	case "RETIREJS":
		return "Retire.js"
	case "MAL":
		return "OpenSSF"
	case "CVE":
		return "NVD"
	}
	return prefix
}

// KernelHeaders says whether an installed package holds the kernel's headers or its
// documentation and none of its code: the kernel's flaws are listed for it and hold
// nothing back, since a container runs its host's kernel.
func KernelHeaders(p inventory.Package) bool {
	switch p.Type {
	case "deb":
		return p.Binary == "linux-libc-dev" || strings.HasPrefix(p.Binary, "linux-libc-dev-") ||
			strings.HasPrefix(p.Binary, "linux-headers-") || strings.HasPrefix(p.Binary, "linux-kbuild-") ||
			strings.HasPrefix(p.Binary, "linux-doc")
	case "rpm":
		return p.Binary == "kernel-headers" || p.Binary == "kernel-devel" || p.Binary == "kernel-doc" ||
			strings.HasPrefix(p.Binary, "linux-glibc-devel")
	case "apk":
		return p.Binary == "linux-headers"
	}
	return false
}

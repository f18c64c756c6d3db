package vuln

import (
	"strings"

	"pratique.dev/pratique/internal/inventory"
)

// LookupEcosystems lists the Affected.Ecosystem under which an advisory for key can
// stand, the exact one first: a distribution's record may name its release or leave
// it out, and Ubuntu's long-term releases are written with and without ":LTS".
func LookupEcosystems(key inventory.Key) []string {
	out := []string{key.Ecosystem}
	head, release, ok := strings.Cut(key.Ecosystem, ":")
	if !ok {
		return out
	}
	switch head {
	case "Ubuntu":
		if plain, found := strings.CutSuffix(key.Ecosystem, ":LTS"); found {
			out = append(out, plain)
		} else if !strings.HasPrefix(release, "Pro:") {
			out = append(out, key.Ecosystem+":LTS")
		}
	case "wolfi": // these two have no releases
		return append(out, "Wolfi")
	case "chainguard":
		return append(out, "Chainguard")
	}
	return append(out, head)
}

// NormalName brings a package's name to the form of inventory.Key: PyPI's as PEP 503
// has it, all others unchanged.
func NormalName(ecosystem, name string) string {
	if ecosystem != "PyPI" {
		return name
	}
	normal := true
	for i := 0; i < len(name) && normal; i++ {
		c := name[i]
		normal = 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' && i > 0 && name[i-1] != '-'
	}
	if normal {
		return name
	}
	out := make([]byte, 0, len(name))
	for i := range len(name) {
		c := name[i]
		switch {
		case c == '-' || c == '_' || c == '.':
			if n := len(out); n == 0 || out[n-1] != '-' {
				out = append(out, '-')
			}
		case 'A' <= c && c <= 'Z':
			out = append(out, c|0x20)
		default:
			out = append(out, c)
		}
	}
	return string(out)
}

// flawOf reduces a distribution's id for a CVE ("DEBIAN-CVE-2024-1") to the CVE's.
func flawOf(id string) string {
	if i := strings.Index(id, "-CVE-"); i > 0 {
		return id[i+1:]
	}
	return id
}

func isCVE(id string) bool { return strings.HasPrefix(id, "CVE-") }

// isUpdate says whether records with this id's prefix are updates, which fix several flaws
// at once, and not records of one flaw.
func isUpdate(id string) bool {
	prefix, _, _ := strings.Cut(id, "-")
	switch prefix {
	case "DSA", "DLA", "DTSA", "USN", "LSN", "ALSA", "RHSA", "RLSA", "RXSA", "SUSE", "openSUSE", "ELSA", "ALAS",
		"ALAS2", "MGASA", "FEDORA", "OESA", "openEuler":
		return true
	}
	return isRoutine(id)
}

// isRoutine says whether records with this id's prefix are bug fixes and enhancements.
// They are of interest where they name a CVE, and no security matter else.
func isRoutine(id string) bool {
	prefix, _, _ := strings.Cut(id, "-")
	switch prefix {
	case "ALBA", "ALEA", "RHBA", "RHEA", "RLBA", "RLEA", "ELBA", "ELEA":
		return true
	}
	return false
}

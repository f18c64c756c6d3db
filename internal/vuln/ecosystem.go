package vuln

import (
	"strings"

	"pratique.dev/pratique/internal/inventory"
)

// LookupEcosystems lists the Affected.Ecosystem under which an advisory for key can
// stand, the exact one first: a distribution's record may name its release or leave
// it out, and Ubuntu's long-term releases are written with and without ":LTS". Red Hat
// and SUSE publish by product, and one system holds packages of several.
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
	case "Red Hat":
		out = append(out, redHatProducts(release)...)
	case "SUSE":
		out = append(out, suseModules(release)...)
	}
	if name, found := systemNames[head]; found { // the ID of os-release
		major, _, _ := strings.Cut(release, ".")
		return append(out, name+":"+release, name+":"+major, name)
	}
	return append(out, head)
}

// systemNames are the names of systems whose Key.Ecosystem is the ID of os-release.
var systemNames = map[string]string{
	"wolfi": "Wolfi", "chainguard": "Chainguard", "amzn": "Amazon Linux", "ol": "Oracle Linux", "fedora": "Fedora",
	"centos": "CentOS", "photon": "Photon OS",
}

// redHatProducts lists the repositories of a release of Red Hat Enterprise Linux, which
// OSV keeps apart as CPEs do: os-release names only one of them,
// "enterprise_linux:9::baseos".
func redHatProducts(release string) []string {
	product, rest, _ := strings.Cut(release, ":")
	major, _, _ := strings.Cut(rest, ":")
	if product != "enterprise_linux" || major == "" {
		return nil
	}
	base := "Red Hat:" + product + ":" + major
	out := []string{base}
	for _, repository := range []string{"baseos", "appstream", "crb", "highavailability", "nfv", "realtime",
		"resilientstorage", "sap", "sap_hana", "supplementary", "server", "client", "workstation", "computenode"} {
		out = append(out, base+"::"+repository)
	}
	return out
}

// suseModules lists the modules of a SUSE Linux Enterprise Server, which its advisories
// are published for: "Linux Enterprise Module for Basesystem 15 SP5".
func suseModules(release string) []string {
	level, ok := strings.CutPrefix(release, "Linux Enterprise Server ")
	if !ok {
		return nil
	}
	out := []string{"SUSE:" + release + "-LTSS"}
	for _, module := range []string{"Basesystem", "Server Applications", "Development Tools", "Python 3", "Web and Scripting",
		"Containers", "Desktop Applications", "Legacy"} {
		out = append(out, "SUSE:Linux Enterprise Module for "+module+" "+level)
	}
	return out
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
// They are of interest where they name a CVE, and no security matter else: of
// AlmaLinux's 1,200 in OSV three do, and people who label findings by hand name none
// of the others (testdata/accuracy/labels-almalinux8).
func isRoutine(id string) bool {
	prefix, _, _ := strings.Cut(id, "-")
	switch prefix {
	case "ALBA", "ALEA", "RHBA", "RHEA", "RLBA", "RLEA", "ELBA", "ELEA":
		return true
	}
	return false
}

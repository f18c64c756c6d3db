package inventory

import "strings"

// The Types of packages that an operating system's package manager installs.
const (
	TypeDeb = "deb"
	TypeAPK = "apk"
	TypeRPM = "rpm"
)

// IsOS says whether p was installed by an operating system's package manager.
func (p *Package) IsOS() bool {
	return p.Type == TypeDeb || p.Type == TypeAPK || p.Type == TypeRPM
}

// ecosystem is how OSV names the packages of a distribution (OSV schema,
// "Defined ecosystems": https://ossf.github.io/osv-schema/#defined-ecosystems).
type ecosystem struct {
	packages string // the Type that its packages have
	name     string
	release  func(Distro) string // the part after the colon, "" for none
}

// ecosystems maps os-release IDs to ecosystems. What is not in it gets ID:VERSION_ID.
var ecosystems = map[string]ecosystem{
	"debian":              {TypeDeb, "Debian", debianRelease},
	"ubuntu":              {TypeDeb, "Ubuntu", ubuntuRelease},
	"alpine":              {TypeAPK, "Alpine", alpineRelease},
	"wolfi":               {TypeAPK, "Wolfi", noRelease},
	"chainguard":          {TypeAPK, "Chainguard", noRelease},
	"minimos":             {TypeAPK, "MinimOS", noRelease},
	"alpaquita":           {TypeAPK, "Alpaquita", versionID},
	"almalinux":           {TypeRPM, "AlmaLinux", major},
	"rocky":               {TypeRPM, "Rocky Linux", major},
	"rhel":                {TypeRPM, "Red Hat", redHatCPE},
	"sles":                {TypeRPM, "SUSE", slesRelease},
	"opensuse-leap":       {TypeRPM, "openSUSE", func(d Distro) string { return "Leap " + d.VersionID }},
	"opensuse-tumbleweed": {TypeRPM, "openSUSE", func(Distro) string { return "Tumbleweed" }},
	"azurelinux":          {TypeRPM, "Azure Linux", major},
	"mariner":             {TypeRPM, "Azure Linux", major},
	"photon":              {TypeRPM, "Photon OS", versionID},
	"openEuler":           {TypeRPM, "openEuler", versionID},
	"mageia":              {TypeRPM, "Mageia", versionID},
}

// EcosystemOf returns the Key.Ecosystem of packages of the given Type on d. A
// package of another manager than the distribution's own (an rpm database on Debian)
// does not get the distribution's name, and neither does one of an unknown
// distribution: no advisories cover it, and that must show.
func (d Distro) EcosystemOf(packageType string) string {
	if d.IsZero() {
		return packageType
	}
	e, known := ecosystems[d.ID]
	switch {
	case !known && d.VersionID == "":
		return d.ID
	case !known:
		return d.ID + ":" + d.VersionID
	case e.packages != packageType:
		return packageType
	}
	if r := e.release(d); r != "" {
		return e.name + ":" + r
	}
	return e.name
}

// ownEcosystem is the ecosystem of the distribution's own packages.
func (d Distro) ownEcosystem() string {
	if e, known := ecosystems[d.ID]; known {
		return d.EcosystemOf(e.packages)
	}
	return d.EcosystemOf("")
}

func noRelease(Distro) string   { return "" }
func versionID(d Distro) string { return d.VersionID }

func major(d Distro) string {
	m, _, _ := strings.Cut(d.VersionID, ".")
	return m
}

// debianRelease takes the codename of a release without a number (testing, sid), so
// that it is seen as not covered.
func debianRelease(d Distro) string {
	if d.VersionID == "" {
		return d.Codename
	}
	return major(d)
}

// ubuntuRelease marks the long term releases, April's of the even years.
func ubuntuRelease(d Distro) string {
	year, month, ok := strings.Cut(d.VersionID, ".")
	if ok && strings.HasPrefix(month, "04") && year != "" && (year[len(year)-1]-'0')%2 == 0 {
		return d.VersionID + ":LTS"
	}
	return d.VersionID
}

// alpineRelease turns 3.18.4 into v3.18 and 3.19_alpha20230901, as edge calls itself, into edge.
func alpineRelease(d Distro) string {
	if d.VersionID == "" || strings.ContainsAny(d.VersionID, "_-") {
		return "edge"
	}
	parts := strings.SplitN(d.VersionID, ".", 3)
	if len(parts) == 1 {
		return "v" + parts[0]
	}
	return "v" + parts[0] + "." + parts[1]
}

// redHatCPE takes "enterprise_linux:9::baseos" out of "cpe:/o:redhat:enterprise_linux:9::baseos".
func redHatCPE(d Distro) string {
	if _, product, ok := strings.Cut(d.CPE, ":redhat:"); ok {
		return product
	}
	return "enterprise_linux:" + major(d)
}

// slesRelease turns 15.5 into "Linux Enterprise Server 15 SP5".
func slesRelease(d Distro) string {
	version, pack, ok := strings.Cut(d.VersionID, ".")
	if !ok || pack == "0" {
		return "Linux Enterprise Server " + version
	}
	return "Linux Enterprise Server " + version + " SP" + pack
}

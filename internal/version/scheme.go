package version

import (
	"fmt"
	"strings"

	"github.com/google/osv-scalibr/semantic"
)

// scheme is one way to order versions.
type scheme int

const (
	schemeDpkg scheme = iota + 1
	schemeRPM
	schemeApk
	schemeSemver
	schemeGo
	schemePyPI
	schemeMaven
	schemeRubyGems
	schemeNuGet
	schemePackagist
)

// schemeOf finds the order by the part of the ecosystem before the release: OSV's
// names (OSV schema 1.7, "Defined Ecosystems") and, for systems that OSV has no
// advisories for, the ID of os-release.
func schemeOf(ecosystem string) (scheme, bool) {
	head, _, _ := strings.Cut(ecosystem, ":")
	switch head {
	case "Debian", "Ubuntu", "debian", "ubuntu", "raspbian", "kali", "devuan", "linuxmint", "pop":
		return schemeDpkg, true
	case "AlmaLinux", "Rocky Linux", "Red Hat", "openSUSE", "SUSE", "Azure Linux", "openEuler", "Mageia",
		"Mariner", "Amazon Linux", "Amazon", "Oracle Linux", "Oracle", "Photon OS", "Photon", "Fedora", "CentOS",
		"almalinux", "rocky", "rhel", "centos", "fedora", "amzn", "ol", "photon", "mariner", "azurelinux",
		"opensuse-leap", "opensuse-tumbleweed", "sles", "sled", "mageia":
		return schemeRPM, true
	case "Alpine", "Wolfi", "Chainguard", "MinimOS", "Alpaquita", "alpine", "wolfi", "chainguard", "minimos",
		"alpaquita", "postmarketos":
		return schemeApk, true
	case "npm", "crates.io":
		return schemeSemver, true
	case "Go":
		return schemeGo, true
	case "PyPI":
		return schemePyPI, true
	case "Maven":
		return schemeMaven, true
	case "RubyGems":
		return schemeRubyGems, true
	case "NuGet":
		return schemeNuGet, true
	case "Packagist":
		return schemePackagist, true
	}
	return 0, false
}

func (s scheme) parse(text string) (form, error) {
	switch s {
	case schemeDpkg:
		return parseDpkg(text)
	case schemeRPM:
		return parseRPM(text)
	case schemeApk:
		return parseApk(text)
	case schemeSemver:
		return parseSemver(text)
	case schemeGo:
		return parseGo(text)
	}
	return s.parseOther(text)
}

// other is a version of an order that comes from a library.
type other struct{ semantic.Version }

func (v other) compare(w form) (int, error) {
	return v.Version.Compare(w.(other).Version)
}

// parseOther parses the schemes whose order comes from osv-scalibr. Its parsers take
// anything as a version; what has no digit is refused where it has no place in the
// order. (PyPI has had versions without any, and Packagist has branches, "dev-main".)
func (s scheme) parseOther(text string) (form, error) {
	if s != schemePyPI && s != schemePackagist && !strings.ContainsAny(text, "0123456789") {
		return nil, fmt.Errorf("%w: no number in it", ErrInvalid)
	}
	switch s {
	case schemePyPI:
		v, err := semantic.ParsePyPIVersion(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		return other{v}, nil
	case schemeMaven:
		return other{semantic.ParseMavenVersion(text)}, nil
	case schemeRubyGems:
		return other{semantic.ParseRubyGemsVersion(text)}, nil
	case schemeNuGet:
		return other{semantic.ParseNuGetVersion(text)}, nil
	case schemePackagist:
		return other{semantic.ParsePackagistVersion(text)}, nil
	}
	return nil, fmt.Errorf("%w: scheme %d", ErrEcosystem, s)
}

package inventory

import (
	"strings"

	packageurl "github.com/package-url/packageurl-go"
)

// PackageURL returns the package URL of p on d (https://github.com/package-url/purl-spec,
// PURL-TYPES.rst). For operating system packages it names the binary package; d gives
// the namespace and the distro qualifier, and may be zero.
func PackageURL(p *Package, d Distro) string {
	if p.IsOS() {
		return osPackageURL(p, d)
	}
	var namespace, name, version = "", p.Name, p.Version
	switch p.Type {
	case packageurl.TypeMaven:
		if group, artifact, ok := strings.Cut(p.Name, ":"); ok {
			namespace, name = group, artifact
		}
	case packageurl.TypeGolang:
		if i := strings.LastIndexByte(p.Name, '/'); i >= 0 {
			namespace, name = p.Name[:i], p.Name[i+1:]
		}
		if p.Name != "stdlib" && version != "" {
			version = "v" + version
		}
	case packageurl.TypeNPM:
		if scope, rest, ok := strings.Cut(p.Name, "/"); ok {
			namespace, name = scope, rest
		}
	}
	return canonical(packageurl.NewPackageURL(p.Type, namespace, name, version, nil, ""))
}

func osPackageURL(p *Package, d Distro) string {
	version := p.BinaryVersion
	var qualifiers packageurl.Qualifiers
	add := func(key, value string) {
		if value != "" {
			qualifiers = append(qualifiers, packageurl.Qualifier{Key: key, Value: value})
		}
	}
	add("arch", p.Arch)
	if !d.IsZero() {
		add("distro", strings.TrimSuffix(d.ID+"-"+d.VersionID, "-"))
	}
	if p.Type == TypeRPM {
		// The rpm type keeps the epoch out of the version.
		if epoch, rest, ok := strings.Cut(version, ":"); ok {
			add("epoch", epoch)
			version = rest
		}
		add("rpmmod", p.Module)
	}
	return canonical(packageurl.NewPackageURL(p.Type, d.ID, p.Binary, version, qualifiers, ""))
}

// canonical writes u as its type wants it: Go's modules, for one, in small letters.
func canonical(u *packageurl.PackageURL) string {
	if n := *u; n.Normalize() == nil {
		return n.ToString()
	}
	return u.ToString()
}

package remediation

import (
	"strings"

	"pratique.dev/pratique/internal/inventory"
)

// tool is a package manager, or what stands for one where packages are built in.
type tool string

const (
	toolNone     tool = ""
	toolApt      tool = "apt-get"
	toolApk      tool = "apk"
	toolDnf      tool = "dnf"
	toolMicrodnf tool = "microdnf"
	toolYum      tool = "yum"
	toolTdnf     tool = "tdnf"
	toolZypper   tool = "zypper"
	toolNpm      tool = "npm"
	toolPip      tool = "pip"
	toolGo       tool = "go"
	toolGoBuild  tool = "go toolchain"
	toolMaven    tool = "maven"
	toolCargo    tool = "cargo"
	toolGem      tool = "gem"
	toolComposer tool = "composer"
	toolNuGet    tool = "dotnet"
)

// toolOf finds the package manager of an installed package.
func toolOf(p inventory.Placed) tool {
	switch p.Type {
	case inventory.TypeDeb:
		return toolApt
	case inventory.TypeAPK:
		return toolApk
	case inventory.TypeRPM:
		return rpmTool(p.Ecosystem)
	}
	switch p.Ecosystem {
	case "npm":
		return toolNpm
	case "PyPI":
		return toolPip
	case "Go":
		if p.Key.Name == "stdlib" || p.Key.Name == "toolchain" {
			return toolGoBuild
		}
		return toolGo
	case "Maven":
		return toolMaven
	case "crates.io":
		return toolCargo
	case "RubyGems":
		return toolGem
	case "Packagist":
		return toolComposer
	case "NuGet":
		return toolNuGet
	}
	return toolNone
}

// rpmTool goes by the distribution.
func rpmTool(ecosystem string) tool {
	head, release, _ := strings.Cut(ecosystem, ":")
	switch head {
	case "SUSE", "openSUSE", "sles", "sled", "opensuse-leap", "opensuse-tumbleweed":
		return toolZypper
	case "Azure Linux", "Mariner", "azurelinux", "mariner", "Photon OS", "Photon", "photon":
		return toolTdnf
	case "amzn", "Amazon Linux":
		if release == "2" {
			return toolYum
		}
	case "centos", "CentOS", "rhel", "ol", "Oracle Linux":
		if release == "7" || release == "6" || strings.HasPrefix(release, "7.") || strings.HasPrefix(release, "6.") {
			return toolYum
		}
	case "Red Hat":
		if strings.HasPrefix(release, "enterprise_linux:7") || strings.HasPrefix(release, "enterprise_linux:6") {
			return toolYum
		}
	}
	return toolDnf
}

// known says whether a command can be given for the tool at all.
func (t tool) known() bool { return t != toolNone }

// render writes the command that brings in wants, which are sensible, of one tool and
// not empty.
func (t tool) render(wants []want) string {
	switch t {
	case toolApt:
		return renderApt(wants)
	case toolApk:
		return "apk add --upgrade " + words(wants, func(w want) string { return "'" + w.Binary + ">=" + w.fixed + "'" })
	case toolDnf, toolMicrodnf, toolYum, toolTdnf:
		return string(t) + " upgrade " + words(wants, func(w want) string {
			return shellQuote(w.Binary + "-" + strings.TrimPrefix(w.fixed, "0:"))
		})
	case toolZypper:
		return "zypper install " + words(wants, func(w want) string { return "'" + w.Binary + ">=" + w.fixed + "'" })
	case toolNpm:
		return "npm install " + words(wants, func(w want) string { return shellQuote(w.Key.Name + "@" + w.fixed) })
	case toolPip:
		return "pip install " + words(wants, func(w want) string { return "'" + w.Key.Name + "==" + w.fixed + "'" })
	case toolGo:
		return "go get " + words(wants, func(w want) string {
			return shellQuote(w.Key.Name + "@v" + strings.TrimPrefix(w.fixed, "v"))
		})
	case toolGoBuild:
		return "rebuild with Go " + goRelease(wants)
	case toolMaven:
		return "set " + strings.Join(each(wants, func(w want) string { return w.Key.Name + " to " + w.fixed }), ", ")
	case toolCargo:
		return joined(wants, func(w want) string { return "cargo update -p " + w.Key.Name + " --precise " + shellQuote(w.fixed) })
	case toolGem:
		return joined(wants, func(w want) string { return "gem install " + w.Key.Name + " -v " + shellQuote(w.fixed) })
	case toolComposer:
		return "composer require " + words(wants, func(w want) string { return shellQuote(w.Key.Name + ":" + w.fixed) })
	case toolNuGet:
		return joined(wants, func(w want) string { return "dotnet add package " + w.Key.Name + " --version " + shellQuote(w.fixed) })
	}
	return ""
}

// renderApt names the fixed version only for binaries that carry their source's. The
// advisories tell the source's version; that of another binary can only be guessed.
func renderApt(wants []want) string {
	exact := true
	list := words(wants, func(w want) string {
		if w.BinaryVersion != w.Version {
			exact = false
			return w.Binary
		}
		return shellQuote(w.Binary + "=" + w.fixed)
	})
	if exact {
		return "apt-get install " + list
	}
	return "apt-get update && apt-get install --only-upgrade " + list
}

func each(wants []want, text func(want) string) []string {
	out := make([]string, len(wants))
	for i, w := range wants {
		out[i] = text(w)
	}
	return out
}

func words(wants []want, text func(want) string) string { return strings.Join(each(wants, text), " ") }

func joined(wants []want, text func(want) string) string {
	return strings.Join(each(wants, text), " && ")
}

// goRelease is the newest release among the fixes, as the Go project writes it: the
// advisories' "1.21.0-rc.3" is Go 1.21rc3, and "1.22.0-0" is the beginning of 1.22.
func goRelease(wants []want) string {
	newest := wants[0].fixed
	for _, w := range wants[1:] {
		if less("Go", newest, w.fixed) {
			newest = w.fixed
		}
	}
	release, pre, _ := strings.Cut(newest, "-")
	if number, ok := strings.CutPrefix(pre, "rc."); ok {
		return strings.TrimSuffix(release, ".0") + "rc" + number
	}
	return release
}

// validName says whether a package manager would take name for the name of a package.
// npm and pip install from addresses and files as well, all of them read a leading
// hyphen as an option: such names get no command.
func (t tool) validName(name string) bool {
	if name == "" || len(name) > 256 {
		return false
	}
	switch t {
	case toolNpm:
		scope, rest, scoped := strings.Cut(strings.TrimPrefix(name, "@"), "/")
		if strings.HasPrefix(name, "@") {
			return scoped && plain(scope, "._~-") && plain(rest, "._~-")
		}
		return plain(name, "._~-")
	case toolGo, toolGoBuild:
		return plain(name, "._~/+-") && !strings.Contains(name, "..")
	case toolMaven:
		group, artifact, ok := strings.Cut(name, ":")
		return ok && plain(group, "._-") && plain(artifact, "._-")
	case toolComposer:
		vendor, rest, ok := strings.Cut(name, "/")
		return ok && plain(vendor, "._-") && plain(rest, "._-")
	case toolNone:
		return false
	}
	return plain(name, "._+-")
}

func validVersion(v string) bool { return len(v) <= 256 && plain(v, ".+~:^_!-") }

// plain says whether s is made of ASCII letters, digits and the bytes of more, and begins
// with a letter or digit.
func plain(s, more string) bool {
	for i := range len(s) {
		c := s[i]
		word := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if !word && (i == 0 || strings.IndexByte(more, c) < 0) {
			return false
		}
	}
	return s != ""
}

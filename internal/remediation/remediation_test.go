package remediation_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/remediation"
	"pratique.dev/pratique/internal/vuln"
)

func osPackage(typ, ecosystem, source, version, binary string) inventory.Placed {
	return inventory.Placed{Package: inventory.Package{
		Key:  inventory.Key{Ecosystem: ecosystem, Name: source, Version: version},
		Type: typ, Binary: binary, BinaryVersion: version,
	}}
}

func language(typ, ecosystem, name, version string, paths ...string) inventory.Placed {
	return inventory.Placed{Package: inventory.Package{
		Key:  inventory.Key{Ecosystem: ecosystem, Name: name, Version: version},
		Type: typ, Binary: name, BinaryVersion: version, Paths: paths,
	}}
}

func fixed(p inventory.Placed, version string) vuln.Finding {
	return vuln.Finding{ID: "CVE-2024-1", Package: p.Key, Fixed: version}
}

func TestNoCommand(t *testing.T) {
	ssl := osPackage("deb", "Debian:12", "openssl", "3.0.1-1", "openssl")
	for _, tc := range []struct {
		name   string
		pkg    inventory.Placed
		f      vuln.Finding
		advice string
	}{
		{"no fix", ssl, fixed(ssl, ""), "No fixed version"},
		{"will not be fixed", ssl, vuln.Finding{Package: ssl.Key, Status: vuln.StatusWontFix}, "will not fix"},
		{"malicious", ssl, vuln.Finding{Package: ssl.Key, Malicious: true}, "Remove"},
		{"a version that is a command", ssl, fixed(ssl, "1; rm -rf /"), "no command"},
		{"a version that is an option", ssl, fixed(ssl, "-oAPT::Update=x"), "no command"},
		{"a binary that is an option", osPackage("deb", "Debian:12", "x", "1", "-oDPkg::Pre-Invoke=x"),
			fixed(osPackage("deb", "Debian:12", "x", "1", ""), "2"), "no command"},
		{"a binary with a newline", osPackage("apk", "Alpine:v3.18", "x", "1", "a\nb"),
			fixed(osPackage("apk", "Alpine:v3.18", "x", "1", ""), "2"), "no command"},
		{"a binary with a quote", osPackage("apk", "Alpine:v3.18", "x", "1", "a'b"),
			fixed(osPackage("apk", "Alpine:v3.18", "x", "1", ""), "2"), "no command"},
		{"an npm name that is an address", language("npm", "npm", "git+https://evil.test/x", "1"),
			fixed(language("npm", "npm", "git+https://evil.test/x", "1"), "2"), "no command"},
		{"an npm name that is a folder", language("npm", "npm", "../x", "1"), fixed(language("npm", "npm", "../x", "1"), "2"), "no command"},
		{"an npm scope alone", language("npm", "npm", "@scope", "1"), fixed(language("npm", "npm", "@scope", "1"), "2"), "no command"},
		{"a Go path upwards", language("golang", "Go", "a/../../b", "1"), fixed(language("golang", "Go", "a/../../b", "1"), "2"), "no command"},
		{"a Maven name without a group", language("maven", "Maven", "x", "1"), fixed(language("maven", "Maven", "x", "1"), "2"), "no command"},
		{"a type that nobody installs", language("swift", "SwiftURL", "x", "1"), fixed(language("swift", "SwiftURL", "x", "1"), "2"), "no command"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pkgs := []inventory.Placed{tc.pkg}
			if got := remediation.Command(pkgs, tc.f); got != "" {
				t.Errorf("Command = %q; want none", got)
			}
			if got := remediation.Advice(pkgs, tc.f); !strings.Contains(got, tc.advice) || strings.Contains(got, "\n") {
				t.Errorf("Advice = %q; want one line with %q", got, tc.advice)
			}
		})
	}
	if got := remediation.Command(nil, fixed(ssl, "2")); got != "" {
		t.Errorf("Command of no packages = %q", got)
	}
}

func TestCommand(t *testing.T) {
	rebuilt := osPackage("deb", "Debian:12", "util-linux", "2.38.1-5", "bsdutils")
	rebuilt.BinaryVersion = "1:2.38.1-5"
	deb := func(binary string) inventory.Placed {
		return osPackage("deb", "Debian:12", "openssl", "3.0.1-1", binary)
	}
	rpm := func(ecosystem string) []inventory.Placed {
		return []inventory.Placed{osPackage("rpm", ecosystem, "openssl", "1:3.0.1-1.el9", "openssl")}
	}
	one := func(p inventory.Placed) []inventory.Placed { return []inventory.Placed{p} }
	for _, tc := range []struct {
		name  string
		pkgs  []inventory.Placed
		fixed string
		want  string
	}{
		{"Debian", one(deb("openssl")), "3.0.17-1~deb12u3", "apt-get install openssl=3.0.17-1~deb12u3"},
		{"Debian, all binaries, the known name first", []inventory.Placed{deb("libssl3"), deb("openssl"), deb("libssl3")}, "3.0.17-1~deb12u3",
			"apt-get install openssl=3.0.17-1~deb12u3 libssl3=3.0.17-1~deb12u3"},
		{"Debian with an epoch", one(osPackage("deb", "Debian:12", "vim", "2:9.0.1378-2", "vim-tiny")), "2:9.0.1378-2+deb12u1",
			"apt-get install vim-tiny=2:9.0.1378-2+deb12u1"},
		{"Debian, a binary with a version of its own", one(rebuilt), "2.38.1-5+deb12u1",
			"apt-get update && apt-get install --only-upgrade bsdutils"},
		{"Alpine", one(osPackage("apk", "Alpine:v3.18", "openssl", "3.1.0-r0", "libssl3")), "3.1.4-r1", "apk add --upgrade 'libssl3>=3.1.4-r1'"},
		{"AlmaLinux", rpm("AlmaLinux:9"), "1:3.0.7-27.el9", "dnf upgrade openssl-1:3.0.7-27.el9"},
		{"no epoch", rpm("Rocky Linux:9"), "0:3.0.7-27.el9", "dnf upgrade openssl-3.0.7-27.el9"},
		{"caret", rpm("Fedora:39"), "3.0.7^git1-2", "dnf upgrade 'openssl-3.0.7^git1-2'"},
		{"openSUSE", rpm("openSUSE:Leap 15.5"), "3.0.8-150500.5.1", "zypper install 'openssl>=3.0.8-150500.5.1'"},
		{"Azure Linux", rpm("Azure Linux:3"), "3.3.0-2.azl3", "tdnf upgrade openssl-3.3.0-2.azl3"},
		{"Amazon Linux 2", rpm("amzn:2"), "1.0.2k-24.amzn2", "yum upgrade openssl-1.0.2k-24.amzn2"},
		{"npm", one(language("npm", "npm", "lodash", "4.17.20")), "4.17.21", "npm install lodash@4.17.21"},
		{"npm scope", one(language("npm", "npm", "@babel/traverse", "7.0.0")), "7.23.2", "npm install @babel/traverse@7.23.2"},
		{"PyPI", one(language("pypi", "PyPI", "requests", "2.30.0")), "2.31.0", "pip install 'requests==2.31.0'"},
		{"PyPI epoch", one(language("pypi", "PyPI", "x", "1!1")), "1!2", "pip install 'x==1!2'"},
		{"Go", one(language("golang", "Go", "golang.org/x/net", "v0.1.0")), "0.38.0", "go get golang.org/x/net@v0.38.0"},
		{"Go standard library", one(language("golang", "Go", "stdlib", "1.22.0")), "1.22.5", "rebuild with Go 1.22.5"},
		{"Go candidate", one(language("golang", "Go", "stdlib", "1.20")), "1.21.0-rc.3", "rebuild with Go 1.21rc3"},
		{"Maven", one(language("maven", "Maven", "org.apache.logging.log4j:log4j-core", "2.14.1")), "2.17.1",
			"set org.apache.logging.log4j:log4j-core to 2.17.1"},
		{"crates.io", one(language("cargo", "crates.io", "time", "0.1.0")), "0.2.23", "cargo update -p time --precise 0.2.23"},
		{"RubyGems", one(language("gem", "RubyGems", "rack", "2.2.3")), "2.2.8", "gem install rack -v 2.2.8"},
		{"Packagist", one(language("composer", "Packagist", "twig/twig", "3.0.0")), "3.4.3", "composer require twig/twig:3.4.3"},
		{"NuGet", one(language("nuget", "NuGet", "Newtonsoft.Json", "12.0.1")), "13.0.1", "dotnet add package Newtonsoft.Json --version 13.0.1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := fixed(tc.pkgs[0], tc.fixed)
			if got := remediation.Command(tc.pkgs, f); got != tc.want {
				t.Errorf("Command = %s; want %s", got, tc.want)
			}
			if got := remediation.Advice(tc.pkgs, f); got != "Run: "+tc.want {
				t.Errorf("Advice = %s", got)
			}
		})
	}
}

func in(p inventory.Placed, layer byte, instruction string) inventory.Placed {
	d, err := oci.ParseDigest("sha256:" + strings.Repeat(string(layer), 64))
	if err != nil {
		panic(err) // a test's own constant
	}
	p.Layer, p.Instruction = d, instruction
	return p
}

func TestPlan(t *testing.T) {
	base := "/bin/sh -c #(nop) ADD file:3b1 in / "
	ssl := in(osPackage("deb", "Debian:12", "openssl", "3.0.1-1", "libssl3"), 'a', base)
	sslTool := in(osPackage("deb", "Debian:12", "openssl", "3.0.1-1", "openssl"), 'b', "RUN apt-get install openssl")
	zlib := in(osPackage("deb", "Debian:12", "zlib", "1:1.2-1", "zlib1g"), 'a', base)
	headers := in(osPackage("deb", "Debian:12", "linux", "6.1.1-1", "linux-libc-dev"), 'b', "")
	apt := in(osPackage("deb", "Debian:12", "apt", "2.6.1", "apt"), 'a', base)
	lodash := in(language("npm", "npm", "lodash", "4.17.20", "srv/app/node_modules/lodash/package.json"), 'c', "COPY")
	nested := in(language("npm", "npm", "qs", "6.0.0", "srv/app/node_modules/express/node_modules/qs/package.json"), 'c', "COPY")
	odd := in(language("npm", "npm", "semver", "5.0.0", "srv/o'dd app/node_modules/semver/package.json"), 'c', "COPY")
	tar := in(language("npm", "npm", "tar", "4.0.0", "usr/local/lib/node_modules/npm/node_modules/tar/package.json"), 'a', base)
	requests := in(language("pypi", "PyPI", "requests", "2.0.0", "opt/venv/lib/python3.11/site-packages/requests-2.0.0.dist-info/METADATA"), 'c', "")
	jinja := in(language("pypi", "PyPI", "jinja2", "2.0.0", "usr/local/lib/python3.11/site-packages/jinja2-2.0.0.dist-info/METADATA"), 'c', "")
	netMod := in(language("golang", "Go", "golang.org/x/net", "v0.1.0", "app/server"), 'd', "")
	cryptoMod := in(language("golang", "Go", "golang.org/x/crypto", "v0.1.0", "app/server"), 'd', "")
	std := in(language("golang", "Go", "stdlib", "1.20.1", "app/server"), 'd', "")
	evil := in(language("npm", "npm", "$(reboot)", "1.0.0", "x/node_modules/y/package.json"), 'd', "")
	img := inventory.Image{Packages: []inventory.Placed{
		ssl, sslTool, zlib, headers, apt, lodash, nested, odd, tar, requests, jinja, netMod, cryptoMod, std, evil}}
	kernel := fixed(headers, "6.1.9-1")
	kernel.Informs = true
	findings := []vuln.Finding{
		fixed(ssl, "3.0.9-1"), fixed(ssl, "3.0.17-1~deb12u3"), fixed(ssl, "3.0.11-1"), fixed(ssl, ""), kernel,
		fixed(zlib, "1:1.3-1"), fixed(lodash, "4.17.21"), fixed(nested, "6.5.3"), fixed(odd, "5.7.2"), fixed(tar, "6.2.1"),
		fixed(requests, "2.31.0"), fixed(jinja, "3.1.3"), fixed(netMod, "0.38.0"), fixed(cryptoMod, "0.35.0"),
		fixed(std, "1.20.12"), fixed(std, "1.21.3"), fixed(evil, "2.0.0"),
	}
	got := remediation.Plan(img, findings)
	want := []remediation.Step{
		{Findings: 4, Note: "or rebuild on a newer base: the packages come with it",
			Command: "apt-get update && apt-get install libssl3=3.0.17-1~deb12u3 openssl=3.0.17-1~deb12u3 zlib1g=1:1.3-1"},
		{Findings: 2, Layer: netMod.Layer, Note: `then build anew: "/app/server"`,
			Command: "go get golang.org/x/crypto@v0.35.0 golang.org/x/net@v0.38.0"},
		{Findings: 2, Layer: netMod.Layer, Note: `then build anew: "/app/server"`, Command: "rebuild with Go 1.21.3"},
		{Findings: 2, Layer: lodash.Layer, Note: `qs comes with "express": update what brings it, or set it under "overrides" in package.json`,
			Command: "cd /srv/app && npm install lodash@4.17.21 qs@6.5.3"},
		{Findings: 1, Layer: odd.Layer, Command: `cd '/srv/o'\''dd app' && npm install semver@5.7.2`},
		{Findings: 1, Layer: tar.Layer, Note: `tar comes with "npm": update what brings it, or set it under "overrides" in package.json`,
			Command: "npm install --global tar@6.2.1"},
		{Findings: 1, Layer: jinja.Layer, Command: "pip install 'jinja2==3.1.3'"},
		{Findings: 1, Layer: requests.Layer, Command: "/opt/venv/bin/pip install 'requests==2.31.0'"},
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b oci.Digest) bool { return a == b })); d != "" {
		t.Errorf("Plan (-want +got):\n%s", d)
	}
}

func TestPlanByManager(t *testing.T) {
	for _, tc := range []struct{ name, typ, ecosystem, manager, want, note string }{
		{"distroless", "deb", "Debian:12", "base-files", "apt-get install x=2", "the image has no apt-get of its own: rebuild it on a newer base"},
		{"Alpine", "apk", "Alpine:v3.18", "apk-tools", "apk add --upgrade 'x>=2'", ""},
		{"minimal RHEL", "rpm", "AlmaLinux:9", "microdnf", "microdnf upgrade x-2", ""},
		{"full RHEL", "rpm", "AlmaLinux:9", "dnf", "dnf upgrade x-2", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := osPackage(tc.typ, tc.ecosystem, "x", "1", "x")
			img := inventory.Image{Packages: []inventory.Placed{x, osPackage(tc.typ, tc.ecosystem, tc.manager, "1", tc.manager)}}
			got := remediation.Plan(img, []vuln.Finding{fixed(x, "2")})
			if len(got) != 1 || got[0].Command != tc.want || got[0].Note != tc.note {
				t.Errorf("Plan = %+v; want %s (%s)", got, tc.want, tc.note)
			}
		})
	}
}

// FuzzCommand looks for a name or version that a shell would not read as one plain word.
func FuzzCommand(f *testing.F) {
	f.Add("openssl", "1.2-3~deb12")
	f.Add("a'b", "$(id)")
	f.Add("-x", "--y")
	f.Fuzz(func(t *testing.T, name, version string) {
		for _, p := range []inventory.Placed{
			osPackage("deb", "Debian:12", name, "1", name), osPackage("apk", "Alpine:v3.18", name, "1", name),
			osPackage("rpm", "AlmaLinux:9", name, "1", name), language("npm", "npm", name, "1"),
			language("pypi", "PyPI", name, "1"), language("golang", "Go", name, "1"), language("cargo", "crates.io", name, "1"),
			language("maven", "Maven", name, "1"), language("gem", "RubyGems", name, "1"),
		} {
			command := remediation.Command([]inventory.Placed{p}, fixed(p, version))
			bare := command
			for {
				before, rest, ok := strings.Cut(bare, "'")
				if !ok {
					break
				}
				_, after, closed := strings.Cut(rest, "'")
				if !closed {
					t.Fatalf("an open quote: %q", command)
				}
				bare = before + after
			}
			if strings.ContainsAny(bare, "\n\r\t\x00;|$`<>(){}*?!\\\"#[]") || strings.Contains(command, "\n") {
				t.Errorf("%q, %q give %q", name, version, command)
			}
		}
	})
}

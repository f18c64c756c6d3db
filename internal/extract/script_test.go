package extract

import (
	"slices"
	"testing"

	"pratique.dev/pratique/internal/inventory"
)

func TestLanguages(t *testing.T) {
	for _, tc := range []struct {
		name, path, body string
		want             []string
		gap              string
	}{
		{"npm", "app/node_modules/lodash/package.json", `{"name":"lodash","version":"4.17.20"}`, []string{"lodash 4.17.20"}, ""},
		{"npm with a scope", "usr/lib/node_modules/@a/b/package.json", `{"name":"@a/b","version":"v1.0.0"}`, []string{"@a/b 1.0.0"}, ""},
		{"npm of Debian", "usr/share/nodejs/semver/package.json", `{"name":"semver","version":"7.3.5"}`, []string{"semver 7.3.5"}, ""},
		{"an application's own", "app/package.json", `{"name":"app","version":"1.0.0"}`, nil, ""},
		{"a fixture of a package", "app/node_modules/resolve/test/x/package.json", `{"name":"x","version":"1.0.0"}`, nil, ""},
		{"npm with a byte order mark", "app/node_modules/a/package.json", "\ufeff{\"name\":\"a\",\"version\":\"1.0.0\"}", []string{"a 1.0.0"}, ""},
		{"a mark for the loader", "app/node_modules/a/package.json", `{"type":"module"}`, nil, ""},
		{"broken JSON", "app/node_modules/a/package.json", `{"name":`, nil, "unread app/node_modules/a/package.json: package.json: unexpected end of JSON input"},
		{"a wheel", "usr/lib/python3.11/site-packages/Flask_Login-0.5.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: Flask_Login\nVersion: 0.5.0\n\nVersion: 9\n", []string{"flask-login 0.5.0"}, ""},
		{"an egg", "x/zope.interface-5.0.egg-info/PKG-INFO", "Name: zope.interface\nVersion: 5.0\n", []string{"zope-interface 5.0"}, ""},
		{"an egg of one file", "x/six-1.16.0.egg-info", "Metadata-Version: 1.2\nName: six\nVersion: 1.16.0\n", []string{"six 1.16.0"}, ""},
		{"an egg that is zipped", "x/a.egg", zipFile(t, member{name: "EGG-INFO/PKG-INFO", body: "Name: a\nVersion: 1\n"}), []string{"a 1"}, ""},
		{"an egg without metadata", "x/a.egg", zipFile(t, member{name: "a.py"}), nil, "unread x/a.egg: an egg without metadata"},
		{"no version", "x/a-1.dist-info/METADATA", "Name: a\n\nVersion: 1\n", nil, "unread x/a-1.dist-info/METADATA: Python metadata without a name or a version"},
		{"a gem", "usr/lib/ruby/gems/3.1.0/specifications/rack-2.2.4.gemspec", "Gem::Specification.new do |s|\n  s.name = \"rack\".freeze\n  s.version = \"2.2.4\"\n  s.required_ruby_version = Gem::Requirement.new(\"> 1\")\n", []string{"rack 2.2.4"}, ""},
		{"a gem with a version object", "x/specifications/default/json-2.6.1.gemspec", "  s.name = 'json'\n  s.version = Gem::Version.new(\"2.6.1\")\n", []string{"json 2.6.1"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := read(t, Limits{}, archive(t, file{name: tc.path, body: tc.body}))
			if got := keys(l); !slices.Equal(got, tc.want) {
				t.Errorf("packages %q, want %q", got, tc.want)
			}
			wantGaps(t, l, tc.gap)
			for _, p := range l.Packages {
				if p.PURL == "" || !slices.Equal(p.Paths, []string{tc.path}) {
					t.Errorf("package URL %q, paths %q", p.PURL, p.Paths)
				}
			}
		})
	}
}

// TestOwned gives a language's package to the one that installed its file.
func TestOwned(t *testing.T) {
	l := read(t, Limits{}, archive(t,
		file{name: "usr/lib/python3/dist-packages/six-1.16.0.egg-info", body: "Name: six\nVersion: 1.16.0\n"},
		file{name: "srv/six-1.16.0.egg-info", body: "Name: six\nVersion: 1.16.0\n"},
		file{name: "lib/apk/db/installed", body: "P:py3-six\nV:1.16.0-r1\nF:usr/lib/python3/dist-packages\nR:six-1.16.0.egg-info\n"}))
	got := map[string]string{}
	for _, p := range l.Packages {
		if p.Type == "pypi" {
			got[p.Paths[0]] = p.OwnedBy
		}
	}
	if len(got) != 2 || got["usr/lib/python3/dist-packages/six-1.16.0.egg-info"] != "py3-six" || got["srv/six-1.16.0.egg-info"] != "" {
		t.Errorf("owners %v", got)
	}
}

// TestHardLinks reads a file by each of its names.
func TestHardLinks(t *testing.T) {
	body := `{"name":"a","version":"1.0.0"}`
	l := read(t, Limits{}, archive(t,
		file{name: "a/node_modules/a/package.json", body: body},
		file{name: "b/node_modules/a/package.json", kind: '1', link: "a/node_modules/a/package.json"},
		file{name: "store/x", body: body},
		file{name: "c/node_modules/a/package.json", kind: '1', link: "store/x"}))
	if len(l.Packages) != 1 || !slices.Equal(l.Packages[0].Paths, []string{"a/node_modules/a/package.json", "b/node_modules/a/package.json"}) {
		t.Errorf("packages %+v", l.Packages)
	}
	wantGaps(t, l, "unread c/node_modules/a/package.json: a hard link to store/x, which does not tell by its name what it is")
}

func TestWhiteouts(t *testing.T) {
	l := read(t, Limits{}, archive(t, file{name: "a/.wh.b"}, file{name: "./c/.wh..wh..opq"}, file{name: ".wh..wh..opq"}, file{name: ".wh..wh.plnk"}, file{name: ".wh.d"}))
	if want := []string{"a/b", "c/", "/", "d"}; !slices.Equal(l.Removed, want) {
		t.Errorf("removed %q, want %q", l.Removed, want)
	}
	wantGaps(t, l)
}

func TestOSRelease(t *testing.T) {
	for _, tc := range []struct {
		fixture string
		want    inventory.Distro
	}{
		{"Alpine", inventory.Distro{ID: "alpine", VersionID: "3.10.2", PrettyName: "Alpine Linux v3.10"}},
		{"Bionic", inventory.Distro{ID: "ubuntu", VersionID: "18.04", Codename: "bionic", PrettyName: "Ubuntu 18.04.3 LTS", IDLike: "debian"}},
		{"Buster", inventory.Distro{ID: "debian", VersionID: "10", Codename: "buster", PrettyName: "Debian GNU/Linux 10 (buster)"}},
		{"EmptyKey", inventory.Distro{ID: "fedora", VersionID: "30", PrettyName: "Fedora 30 (Container Image)", CPE: "cpe:/o:fedoraproject:fedora:30"}},
		{"OpenSUSe", inventory.Distro{ID: "opensuse-leap", VersionID: "15.1", PrettyName: "openSUSE Leap 15.1", IDLike: "suse opensuse", CPE: "cpe:/o:opensuse:leap:15.1"}},
		{"Ubi8", inventory.Distro{ID: "rhel", VersionID: "8.0", PrettyName: "Red Hat Enterprise Linux 8.0 (Ootpa)", IDLike: "fedora", CPE: "cpe:/o:redhat:enterprise_linux:8.0:GA"}},
		{"DistrolessCorrupt", inventory.Distro{ID: "debian", VersionID: "12", PrettyName: "Distroless"}},
	} {
		t.Run(tc.fixture, func(t *testing.T) {
			if got := parseOSRelease(fixture(t, "os-release/"+tc.fixture+".txtar")); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
	if got := parseOSRelease(`ID='a"b'` + "\nPRETTY_NAME=\"x\\\"y\\$\\z\"\n# ID=c\n").PrettyName; got != `x"y$\z` {
		t.Errorf("unquoted %q", got)
	}
	for _, tc := range []struct {
		name  string
		files []file
		want  string
	}{
		{"a link to the other", []file{{name: "etc/os-release", kind: '2', link: "../usr/lib/os-release"}, {name: "usr/lib/os-release", body: "ID=b\n"}}, "usr/lib/os-release"},
		{"both", []file{{name: "usr/lib/os-release", body: "ID=b\n"}, {name: "etc/os-release", body: "ID=a\n"}}, "etc/os-release"},
		{"a link to a third", []file{{name: "etc/os-release", kind: '2', link: "/usr/lib/os-release"}, {name: "usr/lib/os-release", kind: '2', link: "os.release.d/os-release-container"}, {name: "usr/lib/os.release.d/os-release-container", body: "ID=c\n"}}, "usr/lib/os.release.d/os-release-container"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := read(t, Limits{}, archive(t, tc.files...)).Distro.Path; got != tc.want {
				t.Errorf("read from %q, want %q", got, tc.want)
			}
		})
	}
	wantGaps(t, read(t, Limits{}, archive(t, file{name: "etc/os-release", body: "NAME=x\n"})), "unread etc/os-release: an os-release without an ID")
}

package inventory

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/oci"
)

const status = "var/lib/dpkg/status"

// layer makes the nth layer, with the paths of its packages and programs written.
func layer(n int, l Layer) Layer {
	l.Digest = oci.DigestOf(oci.SHA256, []byte{byte(n)})
	written := slices.Clone([]uint64(l.Written))
	for _, p := range l.Packages {
		for _, path := range p.Paths {
			written = append(written, PathHash(outer(path)))
		}
	}
	for _, p := range l.Programs {
		written = append(written, PathHash(p.Path))
	}
	if !l.Distro.IsZero() {
		written = append(written, PathHash(l.Distro.Path))
	}
	l.Written = NewPathSet(written)
	return l
}

func deb(nameVersion string) Package {
	name, version, _ := strings.Cut(nameVersion, " ")
	return Package{Key: Key{Name: name, Version: version}, Type: TypeDeb, Binary: name, BinaryVersion: version, Paths: []string{status}}
}

func pkg(nameVersion string, owner string, paths ...string) Package {
	name, version, _ := strings.Cut(nameVersion, " ")
	return Package{Key: Key{Ecosystem: "npm", Name: name, Version: version}, Type: "npm", Binary: name, BinaryVersion: version, Paths: paths, OwnedBy: owner}
}

func paths(p ...string) PathSet {
	var h []uint64
	for _, s := range p {
		h = append(h, PathHash(s))
	}
	return NewPathSet(h)
}

var debian = Distro{ID: "debian", VersionID: "12", PrettyName: "Debian 12", Path: "usr/lib/os-release"}

// Two packages' files.
const (
	fileA = "app/node_modules/a/package.json"
	fileB = "app/node_modules/b/package.json"
)

func program(path, content string) Program {
	return Program{path, ProgramSum(path, sha256.Sum256([]byte(content)))}
}

var assembleCases = []struct {
	name   string
	layers []Layer
	want   []string // name, version, index of the layer, owner
	gaps   []string
}{
	{"no layers", nil, nil, []string{"noos"}},
	{"a new database repeats what was there", []Layer{
		{Distro: debian, Packages: []Package{deb("libc 1"), deb("ssl 1")}},
		{Packages: []Package{deb("curl 1"), deb("libc 1"), deb("ssl 2")}},
		{Packages: []Package{deb("curl 1"), deb("libc 1"), deb("ssl 2"), deb("zip 1")}},
	}, []string{"curl 1 @1", "libc 1 @0", "ssl 2 @1", "zip 1 @2"}, nil},
	{"a package that comes back", []Layer{
		{Distro: debian, Packages: []Package{deb("ssl 1"), deb("x 1")}},
		{Packages: []Package{deb("ssl 2"), deb("x 1")}},
		{Packages: []Package{deb("ssl 1"), deb("x 1")}},
	}, []string{"ssl 1 @2", "x 1 @0"}, nil},
	{"a database that is removed", []Layer{
		{Distro: debian, Packages: []Package{deb("ssl 1")}},
		{Removed: []string{"var/lib/dpkg"}},
	}, nil, []string{"unread"}},
	{"a database removed and written anew", []Layer{
		{Distro: debian, Packages: []Package{deb("ssl 1")}},
		{Removed: []string{status}},
		{Packages: []Package{deb("ssl 1")}},
	}, []string{"ssl 1 @2"}, nil},
	{"a folder made opaque", []Layer{
		{Distro: debian, Packages: []Package{deb("x 1"), pkg("a 1", "", fileA), pkg("b 1", "", fileB, "srv/b/package.json")}},
		{Removed: []string{"app/"}, Packages: []Package{pkg("b 2", "", fileB)}},
	}, []string{"x 1 @0", "b 1 @0", "b 2 @1"}, nil},
	{"the root made opaque", []Layer{
		{Distro: debian, Packages: []Package{deb("x 1"), pkg("a 1", "", fileA)}},
		{Removed: []string{"/"}, Packages: []Package{pkg("b 2", "", fileB)}},
	}, []string{"b 2 @1"}, []string{"noos"}},
	{"a folder replaced by a file", []Layer{
		{Distro: debian, Packages: []Package{deb("x 1"), pkg("a 1", "", fileA)}},
		{Written: paths("app/node_modules")},
	}, []string{"x 1 @0"}, nil},
	{"a file replaced by a folder", []Layer{
		{Distro: debian, Packages: []Package{deb("x 1"), pkg("j 1", "", "a.jar"), pkg("k 1", "", "a.jar!/k.jar"), pkg("l 1", "", "b.egg/l")}},
		{Folders: paths("a.jar", "b.egg")},
	}, []string{"x 1 @0", "l 1 @0"}, nil},
	{"a whiteout of one's own layer does nothing to it", []Layer{
		{Distro: debian, Removed: []string{"app", status}, Packages: []Package{deb("x 1"), pkg("a 1", "", fileA)}},
	}, []string{"x 1 @0", "a 1 @0"}, nil},
	{"a copied-up file keeps layer and owner", []Layer{
		{Distro: debian, Packages: []Package{deb("node-a 1"), pkg("a 1", "node-a", fileA)}},
		{Packages: []Package{pkg("a 1", "", fileA)}},
	}, []string{"node-a 1 @0", "a 1 @0 node-a"}, nil},
	{"an owned file written over has no owner", []Layer{
		{Distro: debian, Packages: []Package{deb("node-a 1"), pkg("a 1", "node-a", fileA)}},
		{Packages: []Package{pkg("a 2", "", fileA)}},
	}, []string{"node-a 1 @0", "a 2 @1"}, nil},
	{"a file that outlives its package has no owner", []Layer{
		{Distro: debian, Packages: []Package{deb("node-a 1"), deb("x 1"), pkg("a 1", "node-a", fileA)}},
		{Packages: []Package{deb("x 1")}},
	}, []string{"x 1 @0", "a 1 @0"}, nil},
	{"a database in a layer above the files", []Layer{
		{Distro: debian, Packages: []Package{pkg("a 1", "", fileA)}, Programs: []Program{program("usr/bin/ls", "ls")}},
		{Packages: []Package{deb("node-a 1")}, Claims: []Claim{{"node-a", paths(fileA)}, {"coreutils", paths("usr/bin/ls")}}},
	}, []string{"node-a 1 @1", "a 1 @0 node-a"}, nil},
	{"a database does not answer for what was written over", []Layer{
		{Distro: debian, Packages: []Package{deb("x 1")}, Written: paths("usr/bin/ls", fileA)},
		{Packages: []Package{pkg("a 1", "", fileA)}, Programs: []Program{program("usr/bin/ls", "mine")}},
		{Packages: []Package{deb("x 1"), deb("y 1")}, Claims: []Claim{{"node-a", paths(fileA)}, {"coreutils", paths("usr/bin/ls")}}},
	}, []string{"x 1 @0", "y 1 @2", "a 1 @1"}, []string{"unknown usr/bin/ls"}},
	{"programs copied up, replaced and removed", []Layer{
		{Distro: debian, Packages: []Package{deb("x 1")}, Vouched: NewPathSet([]uint64{program("bin/a", "a").Sum, program("bin/b", "b").Sum}), Programs: []Program{program("bin/c", "c"), program("bin/d", "d")}},
		{Programs: []Program{program("bin/a", "a"), program("bin/b", "other")}, Removed: []string{"bin/c"}},
	}, []string{"x 1 @0"}, []string{"unknown bin/d", "unknown bin/b"}},
	{"what could not be read is written over", []Layer{
		{Distro: debian, Packages: []Package{deb("x 1")}, Coverage: Coverage{Unknown: []Gap{{Kind: GapUnread, Path: status}, {Kind: GapUnread, Path: "a.jar!/b.jar"}, {Kind: GapArchive}, {Kind: GapUnusable, Path: "../x"}}}},
		{Packages: []Package{deb("y 1")}, Removed: []string{"a.jar"}},
	}, []string{"y 1 @1"}, []string{"archive", "unusable ../x"}},
	{"the same layer twice", []Layer{
		{Distro: debian, Packages: []Package{deb("x 1")}}, {}, {},
	}, []string{"x 1 @0"}, nil},
	{"an os-release that is removed", []Layer{
		{Distro: debian, Packages: []Package{deb("x 1")}}, {Removed: []string{"usr/lib/os-release"}},
	}, []string{"x 1 @0"}, []string{"noos"}},
}

func TestAssemble(t *testing.T) {
	for _, tc := range assembleCases {
		t.Run(tc.name, func(t *testing.T) {
			var layers []Layer
			at := map[oci.Digest]int{}
			for i, l := range tc.layers {
				l = layer(i, l)
				at[l.Digest] = i
				layers = append(layers, l)
			}
			img := Assemble(oci.Digest{}, layers)
			var got, gaps []string
			for _, p := range img.Packages {
				got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s @%d %s", p.Name, p.Version, at[p.Layer], p.OwnedBy)))
			}
			for _, g := range img.Coverage.Unknown {
				gaps = append(gaps, strings.TrimSpace(string(g.Kind)+" "+g.Path))
			}
			slices.Sort(got)
			slices.Sort(tc.want)
			if !slices.Equal(got, tc.want) {
				t.Errorf("packages %q, want %q", got, tc.want)
			}
			if !slices.Equal(gaps, tc.gaps) {
				t.Errorf("gaps %q, want %q", gaps, tc.gaps)
			}
		})
	}
}

func TestManyPrograms(t *testing.T) {
	l := Layer{Distro: debian}
	for i := range 30 {
		l.Programs = append(l.Programs, Program{fmt.Sprintf("bin/%02d", i), uint64(i)})
	}
	gaps := Assemble(oci.Digest{}, []Layer{layer(0, l)}).Coverage.Unknown
	if len(gaps) != listedPrograms+2 || gaps[listedPrograms].Count != 10 || gaps[0].Path != "bin/00" {
		t.Errorf("%d gaps, %+v; want %d programs, then how many more", len(gaps), gaps, listedPrograms)
	}
}

// TestOSReleases picks the one that a process in the image would read.
func TestOSReleases(t *testing.T) {
	etc := func(id string) Layer { return Layer{Distro: Distro{ID: id, Path: "etc/os-release"}} }
	lib := func(id string) Layer { return Layer{Distro: Distro{ID: id, Path: "usr/lib/os-release"}} }
	for _, tc := range []struct {
		name   string
		layers []Layer
		want   string
	}{
		{"the upper one", []Layer{lib("a"), lib("b")}, "b"},
		{"etc before usr/lib, also below it", []Layer{etc("a"), lib("b")}, "a"},
		{"etc replaced by a link", []Layer{etc("a"), {Distro: lib("b").Distro, Written: paths("etc/os-release")}}, "b"},
		{"etc removed", []Layer{lib("a"), etc("b"), {Removed: []string{"etc/os-release"}}}, "a"},
		{"all removed", []Layer{etc("b"), {Removed: []string{"etc/"}}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var layers []Layer
			for i, l := range tc.layers {
				layers = append(layers, layer(i, l))
			}
			if got := Assemble(oci.Digest{}, layers).Distro.ID; got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestEcosystems(t *testing.T) {
	for _, tc := range []struct {
		id, version, more string // codename or CPE
		kind, want        string
	}{
		{"debian", "12", "bookworm", TypeDeb, "Debian:12"},
		{"debian", "12.5", "", TypeDeb, "Debian:12"},
		{"debian", "", "sid", TypeDeb, "Debian:sid"},
		{"debian", "12", "", TypeRPM, "rpm"},
		{"ubuntu", "22.04", "", TypeDeb, "Ubuntu:22.04:LTS"},
		{"ubuntu", "23.04", "", TypeDeb, "Ubuntu:23.04"},
		{"ubuntu", "23.10", "", TypeDeb, "Ubuntu:23.10"},
		{"alpine", "3.18.4", "", TypeAPK, "Alpine:v3.18"},
		{"alpine", "3.20", "", TypeAPK, "Alpine:v3.20"},
		{"alpine", "3.19_alpha20230901", "", TypeAPK, "Alpine:edge"},
		{"alpine", "", "", TypeAPK, "Alpine:edge"},
		{"wolfi", "20230201", "", TypeAPK, "Wolfi"},
		{"chainguard", "20230214", "", TypeAPK, "Chainguard"},
		{"almalinux", "9.3", "", TypeRPM, "AlmaLinux:9"},
		{"rocky", "8.9", "", TypeRPM, "Rocky Linux:8"},
		{"rhel", "9.2", "cpe:/o:redhat:enterprise_linux:9::baseos", TypeRPM, "Red Hat:enterprise_linux:9::baseos"},
		{"opensuse-leap", "15.5", "", TypeRPM, "openSUSE:Leap 15.5"},
		{"opensuse-tumbleweed", "20240101", "", TypeRPM, "openSUSE:Tumbleweed"},
		{"sles", "15.5", "", TypeRPM, "SUSE:Linux Enterprise Server 15 SP5"},
		{"azurelinux", "3.0", "", TypeRPM, "Azure Linux:3"},
		{"mariner", "2.0", "", TypeRPM, "Azure Linux:2"},
		{"photon", "5.0", "", TypeRPM, "Photon OS:5.0"},
		{"amzn", "2023", "", TypeRPM, "amzn:2023"},
		{"ol", "9.1", "", TypeRPM, "ol:9.1"},
		{"arch", "", "", TypeRPM, "arch"},
		{"", "", "", TypeDeb, "deb"},
	} {
		t.Run(tc.id+tc.version, func(t *testing.T) {
			d := Distro{ID: tc.id, VersionID: tc.version, Codename: tc.more, CPE: tc.more}
			if got := d.EcosystemOf(tc.kind); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestPackageURL(t *testing.T) {
	for _, tc := range []struct {
		p    Package
		d    Distro
		want string
	}{
		{Package{Type: TypeDeb, Binary: "libssl3", BinaryVersion: "1:3.0+b1", Arch: "amd64"}, debian, "pkg:deb/debian/libssl3@1:3.0%2Bb1?arch=amd64&distro=debian-12"},
		{Package{Type: TypeRPM, Binary: "vim", BinaryVersion: "2:8.2-1.el9", Arch: "x86_64"}, Distro{ID: "almalinux", VersionID: "9.3"}, "pkg:rpm/almalinux/vim@8.2-1.el9?arch=x86_64&distro=almalinux-9.3&epoch=2"},
		{Package{Type: TypeAPK, Binary: "musl", BinaryVersion: "1.2-r0"}, Distro{}, "pkg:apk/musl@1.2-r0"},
		{Package{Type: "maven", Key: Key{Name: "org.a:b", Version: "1"}}, debian, "pkg:maven/org.a/b@1"},
		{Package{Type: "golang", Key: Key{Name: "golang.org/x/net", Version: "0.1.0"}}, debian, "pkg:golang/golang.org/x/net@v0.1.0"},
		{Package{Type: "golang", Key: Key{Name: "github.com/BurntSushi/toml", Version: "1.2.0"}}, debian, "pkg:golang/github.com/burntsushi/toml@v1.2.0"},
		{Package{Type: "golang", Key: Key{Name: "stdlib", Version: "1.21.3"}}, debian, "pkg:golang/stdlib@1.21.3"},
		{Package{Type: "npm", Key: Key{Name: "@a/b", Version: "1.0.0"}}, debian, "pkg:npm/%40a/b@1.0.0"},
	} {
		if got := PackageURL(&tc.p, tc.d); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
}

func TestLayerJSON(t *testing.T) {
	want := layer(1, Layer{Distro: debian, Packages: []Package{deb("x 1")}, Written: paths("a", "b"), Folders: paths("c"),
		Programs: []Program{{"bin/x", 1<<63 + 1}}, Vouched: NewPathSet([]uint64{1<<64 - 1, 0}), Claims: []Claim{{"p", paths("d")}}})
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Layer
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(got)
	if err != nil || string(again) != string(b) || got.Programs[0] != want.Programs[0] || !got.Written.HasOrBelow("a/x") || got.Written.HasOrBelow("ab") {
		t.Errorf("%s became %s, %v", b, again, err)
	}
}

// BenchmarkAssemble puts sixty layers together, of which the lowest is large.
func BenchmarkAssemble(b *testing.B) {
	base := Layer{Distro: debian}
	for i := range 400 {
		base.Packages = append(base.Packages, deb(fmt.Sprintf("p%d 1", i)))
	}
	for i := range 2000 {
		base.Packages = append(base.Packages, pkg(fmt.Sprintf("n%d 1", i), "", fmt.Sprintf("usr/lib/node_modules/n%d/package.json", i)))
	}
	var files []uint64
	for i := range 50_000 {
		files = append(files, PathHash(fmt.Sprint("f", i)))
	}
	base.Written = NewPathSet(files)
	layers := []Layer{layer(0, base)}
	for i := 1; i < 60; i++ {
		var more []uint64
		for k := range 500 {
			more = append(more, PathHash(fmt.Sprint("l", i, "/", k)))
		}
		layers = append(layers, layer(i, Layer{Written: NewPathSet(more)}))
	}
	for b.Loop() {
		Assemble(oci.Digest{}, layers)
	}
}

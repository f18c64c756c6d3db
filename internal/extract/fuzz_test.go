package extract

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
)

// small keeps a fuzzing run quick.
var small = Limits{Unpacked: 8 << 20, Entries: 1000, Spool: 1 << 20, Memory: 64 << 10, JarBytes: 1 << 20}

// whole checks what holds for each inventory, whatever was read.
func whole(t *testing.T, l inventory.Layer) {
	t.Helper()
	if _, err := json.Marshal(l); err != nil {
		t.Fatal(err)
	}
	for _, p := range l.Packages {
		if p.PURL == "" || len(p.Paths) == 0 || p.Name == "" || p.Version == "" || p.Type == "" {
			t.Fatalf("half a package: %+v", p)
		}
	}
	img := inventory.Assemble(oci.Digest{}, []inventory.Layer{l})
	if len(img.Coverage.Unknown) == 0 && img.Distro.IsZero() {
		t.Fatal("looks clean without an os-release")
	}
}

func FuzzLayer(f *testing.F) {
	tars, err := filepath.Glob("testdata/*-tars/*.tar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range tars {
		f.Add([]byte(fixture(f, strings.TrimPrefix(name, "testdata/"))))
	}
	jar := zipFile(f, pom("g", "a", "1"), member{name: "x.jar", body: zipFile(f, pom("g", "b", "1"))})
	f.Add(archive(f, file{name: "a.jar", body: jar}, file{name: "etc/os-release", body: "ID=a\n"}, file{name: "x/.wh.y"}))
	f.Add(archive(f, file{name: "bin/x", body: fixture(f, "elf/notgo.gz"), mode: 0o755}))
	f.Fuzz(func(t *testing.T, blob []byte) { whole(t, read(t, small, blob)) })
}

func FuzzDpkg(f *testing.F) {
	for _, name := range []string{"multiple", "corrupt", "deinstall", "doc-examples"} {
		f.Add([]byte(fixture(f, "dpkg/syft/"+name+".status")))
	}
	fuzzFile(f, "var/lib/dpkg/status")
}

func FuzzAPK(f *testing.F) {
	f.Add([]byte(fixture(f, "apk/syft-corrupt/lib/apk/db/installed")))
	f.Add([]byte(fixture(f, "apk/syft-multiple-1/lib/apk/db/installed")))
	fuzzFile(f, "lib/apk/db/installed")
}

func FuzzOSRelease(f *testing.F) {
	f.Add([]byte(fixture(f, "os-release/Ubi8.txtar")))
	f.Add([]byte("ID=\"a\\\"b\"\nVERSION_ID='1'\n"))
	fuzzFile(f, "etc/os-release")
}

func FuzzRPM(f *testing.F) {
	f.Add([]byte(fixture(f, "rpm/bdb-libuuid/Packages")))
	f.Add([]byte(fixture(f, "rpm/sqlite-no-packages/rpmdb.sqlite")))
	f.Add([]byte(fixture(f, "rpm/ndb-sle15-bci/Packages.db.gz"))[:64<<10])
	fuzzFile(f, "var/lib/rpm/Packages")
}

func FuzzJar(f *testing.F) {
	f.Add([]byte(zipFile(f, pom("g", "a", "1"), member{name: "x.jar", body: zipFile(f, pom("g", "b", "1"))})))
	f.Add([]byte(zipFile(f, member{name: "META-INF/MANIFEST.MF", body: fixture(f, "jar/manifest-only/jna-5.6.0.jar")})))
	fuzzFile(f, "a.jar")
}

// FuzzRPMHeader fuzzes one package's header, which the databases above hold behind pages
// that a fuzzer seldom leaves whole.
func FuzzRPMHeader(f *testing.F) {
	for _, name := range []string{"rpm/bdb-libuuid/Packages", "rpm/ndb-sle15-bci/Packages.db.gz"} {
		for n, h := range rpmHeaders(f, name) {
			if n == 3 {
				break
			}
			f.Add(h)
		}
	}
	f.Fuzz(func(t *testing.T, blob []byte) {
		h, err := parseRPMHeader(blob)
		if err != nil {
			return
		}
		s := New(Options{TempDir: t.TempDir(), Limits: small}).scan()
		file := &File{Path: "var/lib/rpm/Packages", s: s}
		found := &Found{s: s, file: file, read: true}
		if err := h.report(found); err != nil {
			return
		}
		if _, err := h.files(); err != nil {
			return
		}
		whole(t, s.finish())
	})
}

// rpmHeaders are those that a database holds.
func rpmHeaders(f *testing.F, name string) [][]byte {
	f.Helper()
	body := []byte(fixture(f, name))
	db := &rpmFile{ReaderAt: bytes.NewReader(body), size: int64(len(body)), budget: 64 << 20, record: 64 << 20}
	walk, err := rpmFormat(db)
	if err != nil {
		f.Fatal(err)
	}
	var out [][]byte
	if err := walk(db, func(h []byte) error { out = append(out, bytes.Clone(h)); return nil }); err != nil || len(out) == 0 {
		f.Fatalf("%s: %d headers, %v", name, len(out), err)
	}
	return out
}

func FuzzNPM(f *testing.F) {
	f.Add([]byte(`{"name":"a","version":"v1.0.0","dependencies":{"b":"^1"}}`))
	f.Add([]byte("\xef\xbb\xbf{\"name\":\"@s/a\",\"version\":\"1\"}"))
	fuzzFile(f, "usr/lib/node_modules/a/package.json")
}

func FuzzPython(f *testing.F) {
	f.Add([]byte("Metadata-Version: 2.1\nName: Py_Thing.x\nVersion: 1.0\nDescription: a\n  b\n\nbody: 1\n"))
	fuzzFile(f, "usr/lib/python3/dist-packages/a-1.dist-info/METADATA")
}

func FuzzEgg(f *testing.F) {
	f.Add([]byte(zipFile(f, member{name: "EGG-INFO/PKG-INFO", body: "Name: a\nVersion: 1\n"})))
	fuzzFile(f, "usr/lib/python3/a.egg")
}

func FuzzGem(f *testing.F) {
	f.Add([]byte("Gem::Specification.new do |s|\n  s.name = \"rake\".freeze\n  s.version = \"13.0.6\"\nend\n"))
	f.Add([]byte("s.name='a'\ns.version = Gem::Version.new('1')"))
	fuzzFile(f, "usr/share/gems/specifications/a-1.gemspec")
}

func FuzzDpkgList(f *testing.F) {
	f.Add([]byte("/.\n/usr/bin/x\n/usr/share/../bin/y\n"))
	fuzzFile(f, "var/lib/dpkg/info/a.list")
}

func FuzzDpkgDiversions(f *testing.F) {
	f.Add([]byte("/bin/sh\n/bin/sh.distrib\ndash\n"))
	fuzzFile(f, "var/lib/dpkg/diversions")
}

// FuzzProgram fuzzes whole program files.
func FuzzProgram(f *testing.F) {
	f.Add([]byte(fixture(f, "elf/notgo.gz")))
	f.Add(elfWith(rustDeps, deflated(f, `{"packages":[{"name":"a","version":"1","source":"crates.io","kind":"runtime"}]}`)))
	f.Add(elfWith(".go.buildinfo", goInfo("go1.20", "path\tx\nmod\tx\t(devel)\t\n")))
	f.Fuzz(fuzzProgram)
}

// FuzzGoInfo fuzzes the text of a program's build information.
func FuzzGoInfo(f *testing.F) {
	f.Add("go1.20.1", "path\texample.com/x\nmod\texample.com/x\tv1.0.0\th1:a=\ndep\tgolang.org/x/net\tv0.16.0\th1:b=\n=>\t../net\t\t\n")
	f.Add("devel go1.22-abc", "mod\tx\t(devel)\t\nbuild\t-ldflags=\"-X a=b\"\n")
	f.Fuzz(func(t *testing.T, version, modules string) {
		fuzzProgram(t, elfWith(".go.buildinfo", goInfo(version, modules)))
	})
}

// goInfo writes build information as the linker does (debug/buildinfo, Go 1.18 and later).
func goInfo(version, modules string) []byte {
	out := append([]byte("\xff Go buildinf:\x08\x02"), make([]byte, 16)...)
	mark := strings.Repeat("0", 16)
	for _, s := range []string{version, mark + modules + mark} {
		out = binary.AppendUvarint(out, uint64(len(s)))
		out = append(out, s...)
	}
	return out
}

// FuzzRustInfo fuzzes the list of crates that is linked into a program.
func FuzzRustInfo(f *testing.F) {
	f.Add(`{"packages":[{"name":"smallvec","version":"1.6.0","source":"crates.io","kind":"runtime"},{"name":"cc","version":"1.0.0","kind":"build"}]}`)
	f.Fuzz(func(t *testing.T, list string) { fuzzProgram(t, elfWith(rustDeps, deflated(t, list))) })
}

func fuzzProgram(t *testing.T, body []byte) {
	s := New(Options{TempDir: t.TempDir(), Limits: small}).scan()
	s.regular(t.Context(), &File{Path: "usr/bin/x", Mode: 0o755, Size: int64(len(body)), Reader: bytes.NewReader(body)})
	if s.fatal != nil {
		t.Fatal(s.fatal)
	}
	whole(t, s.finish())
}

// fuzzFile fuzzes the content of one file, without an archive around it.
func fuzzFile(f *testing.F, path string) {
	f.Fuzz(func(t *testing.T, body []byte) {
		s := New(Options{TempDir: t.TempDir(), Limits: small}).scan()
		s.regular(t.Context(), &File{Path: path, Size: int64(len(body)), Reader: bytes.NewReader(body)})
		if s.fatal != nil {
			t.Fatal(s.fatal)
		}
		whole(t, s.finish())
	})
}

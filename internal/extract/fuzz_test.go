package extract

import (
	"bytes"
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

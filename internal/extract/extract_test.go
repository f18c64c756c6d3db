package extract

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// file is an entry of a layer.
type file struct {
	name, body string
	kind       byte // a regular file if 0
	link       string
	mode       int64
}

// archive makes a tar stream.
func archive(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Typeflag: cmp.Or(f.kind, tar.TypeReg), Linkname: f.link,
			Mode: cmp.Or(f.mode, 0o644), Size: int64(len(f.body)), Format: tar.FormatPAX}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// read gives what a set with the given limits reads from a blob.
func read(t testing.TB, limits Limits, blob []byte) inventory.Layer {
	t.Helper()
	dir := t.TempDir()
	d := oci.DigestOf(oci.SHA256, blob)
	l, err := New(Options{TempDir: dir, Limits: limits}).Layer(t.Context(), d, "", bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	if l.Digest != d || l.ExtractedBy != version {
		t.Errorf("layer %s by %s; want %s by %s", l.Digest, l.ExtractedBy, d, version)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary folder: %v, %v", left, err)
	}
	return l
}

// fixture reads a file of testdata, unpacked.
func fixture(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, ".gz") {
		r, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if b, err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	return string(b)
}

// text writes a layer's findings, one on each line.
func text(l inventory.Layer) string {
	var b strings.Builder
	for _, p := range l.Packages {
		fmt.Fprintf(&b, "%s %s %s", p.Type, p.Name, p.Version)
		if p.IsOS() {
			fmt.Fprintf(&b, " binary=%s %s arch=%s source=%s %s", p.Binary, p.BinaryVersion, p.Arch, p.Source, p.SourceVersion)
		}
		if p.Module+p.Vendor != "" {
			fmt.Fprintf(&b, " module=%s vendor=%s", p.Module, p.Vendor)
		}
		if p.OwnedBy != "" {
			fmt.Fprintf(&b, " owned=%s", p.OwnedBy)
		}
		fmt.Fprintf(&b, " %s %s\n", p.PURL, strings.Join(p.Paths, " "))
	}
	claimed := 0
	for _, c := range l.Claims {
		claimed += len(c.Paths)
	}
	fmt.Fprintf(&b, "distro %+v\nclaims %d files of %d packages\nexamined %v\n", l.Distro, claimed, len(l.Claims), l.Coverage.Examined)
	for _, p := range l.Programs {
		fmt.Fprintf(&b, "program %s\n", p.Path)
	}
	for _, g := range l.Coverage.Unknown {
		fmt.Fprintf(&b, "gap %s %s: %s (%d)\n", g.Kind, g.Path, g.Reason, g.Count)
	}
	return b.String()
}

// TestFixtures reads real databases and compares with what was read before.
func TestFixtures(t *testing.T) {
	status := "var/lib/dpkg/status"
	for _, tc := range []struct {
		name  string
		files map[string]string // place in the layer: fixture
	}{
		{"dpkg-debian", map[string]string{status: "dpkg/claircore-debian-only.status"}},
		{"dpkg-postgresql", map[string]string{status: "dpkg/claircore-postgresql.status"}},
		{"dpkg-texlive", map[string]string{status: "dpkg/claircore-texlive.status.gz"}},
		{"dpkg-deinstall", map[string]string{status: "dpkg/syft/deinstall.status"}},
		{"dpkg-corrupt", map[string]string{status: "dpkg/syft/corrupt.status"}},
		{"dpkg-empty", map[string]string{status: "dpkg/syft/empty.status"}},
		{"dpkg-multiple", map[string]string{status: "dpkg/syft/multiple.status"}},
		{"dpkg-long", map[string]string{status: "dpkg/syft/installed-size-4KB.status"}},
		{"dpkg-doc", map[string]string{status: "dpkg/syft/doc-examples.status"}},
		{"distroless", map[string]string{
			"etc/os-release":                               "dpkg/distroless/etc/os-release",
			"var/lib/dpkg/status.d/dash":                   "dpkg/distroless/var/lib/dpkg/status.d/dash",
			"var/lib/dpkg/status.d/libsqlite3-0":           "dpkg/distroless/var/lib/dpkg/status.d/libsqlite3-0",
			"var/lib/dpkg/status.d/libsqlite3-0.md5sums":   "dpkg/distroless/var/lib/dpkg/status.d/libsqlite3-0.md5sums",
			"usr/lib/x86_64-linux-gnu/libsqlite3.so.0.8.6": "dpkg/syft/empty.status",
			"var/lib/dpkg/status.d/netbase":                "dpkg/distroless/var/lib/dpkg/status.d/netbase",
		}},
		{"apk-3.10", map[string]string{"lib/apk/db/installed": "apk/alpine-3.10-image/lib/apk/db/installed", "etc/os-release": "apk/alpine-3.10-image/etc/os-release"}},
		{"apk-3.11", map[string]string{"lib/apk/db/installed": "apk/alpine-3.11-image/lib/apk/db/installed", "usr/lib/os-release": "apk/alpine-3.11-image/etc/os-release"}},
		{"apk-scalibr", map[string]string{"usr/lib/apk/db/installed": "apk/scalibr/lib/apk/db/installed"}},
		{"apk-corrupt", map[string]string{"lib/apk/db/installed": "apk/syft-corrupt/lib/apk/db/installed"}},
		{"apk-multiple", map[string]string{"lib/apk/db/installed": "apk/syft-multiple-1/lib/apk/db/installed"}},
		{"rpm-bdb", map[string]string{"var/lib/rpm/Packages": "rpm/bdb-libuuid/Packages"}},
		{"rpm-ndb", map[string]string{"usr/lib/sysimage/rpm/Packages.db": "rpm/ndb-sle15-bci/Packages.db.gz"}},
		{"rpm-sqlite", map[string]string{"var/lib/rpm/rpmdb.sqlite": "rpm/sqlite-cbl-mariner-2.0/rpmdb.sqlite.gz"}},
		{"rpm-none", map[string]string{"var/lib/rpm/rpmdb.sqlite": "rpm/sqlite-no-packages/rpmdb.sqlite"}},
		{"elf", map[string]string{"usr/bin/go117": "elf/go117.gz", "usr/bin/notgo": "elf/notgo.gz"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var files []file
			for place, name := range tc.files {
				files = append(files, file{name: place, body: fixture(t, name), mode: 0o755})
			}
			slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.name, b.name) })
			golden(t, tc.name, text(read(t, Limits{}, zipped(t, archive(t, files...)))))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}

// TestCompression reads the same archive in every form that layers have.
func TestCompression(t *testing.T) {
	plain := archive(t, file{name: "etc/os-release", body: "ID=debian\nVERSION_ID=12\n"},
		file{name: "var/lib/dpkg/status", body: fixture(t, "dpkg/syft/multiple.status")})
	half := len(plain) / 2
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	skippable := []byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'x', 'y', 'z'}
	want := read(t, Limits{}, plain)
	for _, tc := range []struct {
		name string
		blob []byte
	}{
		{"gzip", zipped(t, plain)},
		{"gzip in members", append(zipped(t, plain[:half]), zipped(t, plain[half:])...)},
		{"zstd", enc.EncodeAll(plain, nil)},
		{"zstd in frames", append(enc.EncodeAll(plain[:half], nil), enc.EncodeAll(plain[half:], nil)...)},
		{"zstd after a skippable frame", append(skippable, enc.EncodeAll(plain, nil)...)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := read(t, Limits{}, tc.blob)
			got.Digest = want.Digest
			if diff := gocmp.Diff(want, got, gocmp.Comparer(func(a, b oci.Digest) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got.Bytes != int64(len(plain)) {
				t.Errorf("%d bytes, want %d", got.Bytes, len(plain))
			}
		})
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestErrors holds Layer to telling a failing reader or folder from bad content.
func TestErrors(t *testing.T) {
	blob := zipped(t, archive(t, file{name: "a", body: "b"}))
	boom := errors.New("boom")
	t.Run("the reader fails", func(t *testing.T) {
		r := io.MultiReader(bytes.NewReader(blob[:20]), &failing{boom})
		if _, err := New(Options{}).Layer(t.Context(), oci.Digest{}, "", r); !errors.Is(err, boom) {
			t.Errorf("error %v, want boom", err)
		}
	})
	t.Run("the reader fails after the content", func(t *testing.T) {
		r := io.MultiReader(bytes.NewReader(blob), &failing{boom})
		if _, err := New(Options{}).Layer(t.Context(), oci.Digest{}, "", r); !errors.Is(err, boom) {
			t.Errorf("error %v, want boom", err)
		}
	})
	t.Run("ctx has ended", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := New(Options{}).Layer(ctx, oci.Digest{}, "", bytes.NewReader(blob)); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want canceled", err)
		}
	})
	t.Run("no temporary folder", func(t *testing.T) {
		blob := archive(t, file{name: "var/lib/rpm/rpmdb.sqlite", body: fixture(t, "rpm/sqlite-no-packages/rpmdb.sqlite")})
		set := New(Options{TempDir: filepath.Join(t.TempDir(), "none"), Limits: Limits{Memory: 100}})
		if _, err := set.Layer(t.Context(), oci.Digest{}, "", bytes.NewReader(blob)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error %v, want one of the folder", err)
		}
	})
	t.Run("r is read to its end though the content is broken", func(t *testing.T) {
		h := sha256.New()
		all := append(slices.Clone(blob[:30]), bytes.Repeat([]byte("x"), 1<<20)...)
		l, err := New(Options{}).Layer(t.Context(), oci.Digest{}, "", io.TeeReader(bytes.NewReader(all), h))
		if err != nil || len(l.Coverage.Unknown) != 1 || l.Coverage.Unknown[0].Kind != inventory.GapArchive {
			t.Errorf("%v, %v; want a gap of the archive", l.Coverage, err)
		}
		if want := sha256.Sum256(all); !bytes.Equal(h.Sum(nil), want[:]) {
			t.Error("r was not read to its end")
		}
	})
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

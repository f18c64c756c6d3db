package extract

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
)

var blobDigest = oci.DigestOf(oci.SHA256, nil)

// TestHostileArchives holds the reader to surviving what no tool would write, and to saying so.
func TestHostileArchives(t *testing.T) {
	pkg := file{name: "app/node_modules/a/package.json", body: `{"name":"a","version":"1.0.0"}`}
	good := archive(t, pkg)
	for _, tc := range []struct {
		name   string
		limits Limits
		blob   []byte
		want   []string
		still  bool // the package is seen all the same
	}{
		{"a text", Limits{}, []byte(strings.Repeat("no archive\n", 100)), []string{`archive : neither gzip, zstd nor tar, though its media type is ""`}, false},
		{"nothing", Limits{}, nil, nil, false},
		{"gzip broken off", Limits{}, zipped(t, archive(t, pkg, file{name: "b", body: noise(1 << 20)}))[:700<<10], []string{"archive : the gzip stream breaks off after 2 entries"}, true},
		{"tar broken off", Limits{}, archive(t, pkg, file{name: "b", body: noise(1 << 20)})[:5000], []string{"archive : the tar stream breaks off after 2 entries"}, true},
		{"data behind gzip", Limits{}, append(zipped(t, good), "garbage behind it"...), []string{"archive : the gzip stream is broken after 1 entries: gzip: not a gzip header"}, true},
		{"data behind tar", Limits{}, append(slices.Clone(good), good...), []string{"archive : data follows the end of the archive; container runtimes do not unpack it"}, true},
		{"a broken header", Limits{}, append(slices.Clone(good[:1024]), bytes.Repeat([]byte{0xff}, 1024)...), []string{"archive : the tar stream is broken after 1 entries: archive/tar: invalid tar header"}, true},
		{"unpacks to too much", Limits{Unpacked: 1 << 20}, zipped(t, archive(t, pkg, file{name: "b", body: strings.Repeat("\x00", 4<<20)})), []string{"bound : the layer unpacks to more than 1048576 bytes; the rest was not read"}, true},
		{"too many entries", Limits{Entries: 2}, archive(t, pkg, file{name: "b"}, file{name: "c"}), []string{"bound : more than 2 entries; the rest was not read"}, true},
		{"names that leave the root", Limits{}, archive(t, file{name: "../../etc/os-release", body: "ID=a\n"}, file{name: "a/../../b"}, file{name: "x", kind: tar.TypeLink, link: "../../etc/passwd"}, pkg),
			[]string{"unusable ../../etc/os-release: the name leaves the root", "unusable a/../../b: the name leaves the root", "unusable x: a hard link to a name that leaves the root"}, true},
		{"a name that is too long", Limits{PathLength: 10}, archive(t, file{name: strings.Repeat("a", 11)}), []string{"unusable aaaaaaaaaaa: the name is longer than 10 bytes"}, false},
		{"an absolute name and one with dots within", Limits{}, archive(t, file{name: "/./app/x/../node_modules/a/package.json", body: pkg.body}), nil, true},
		{"a link to itself", Limits{}, archive(t, pkg, file{name: "l", kind: tar.TypeLink, link: "l"}), []string{"unusable l: a hard link to itself"}, true},
		{"a circle of links", Limits{}, archive(t, pkg, file{name: "etc/os-release", kind: tar.TypeSymlink, link: "../usr/lib/os-release"}, file{name: "usr/lib/os-release", kind: tar.TypeSymlink, link: "/etc/os-release"}), nil, true},
		{"a whiteout of nothing", Limits{}, archive(t, pkg, file{name: "a/.wh."}, file{name: "a/.wh..."}), []string{"unusable a/.wh.: a whiteout of nothing", "unusable a/.wh...: a whiteout of nothing"}, true},
		{"devices and pipes", Limits{}, archive(t, pkg, file{name: "dev/null", kind: tar.TypeChar}, file{name: "etc/os-release", kind: tar.TypeFifo}), nil, true},
		{"more packages than are kept", Limits{Packages: 1}, archive(t, pkg, file{name: "b/node_modules/b/package.json", body: `{"name":"b","version":"1"}`}), []string{"bound : more than 1 packages in the layer"}, true},
		{"a package.json without end", Limits{Document: 100}, archive(t, pkg, file{name: "b/node_modules/b/package.json", body: strings.Repeat(" ", 200)}), []string{"bound b/node_modules/b/package.json: 200 bytes are more than the 100 that are read of such a file"}, true},
		{"a status file without end", Limits{Database: 100}, archive(t, pkg, file{name: "var/lib/dpkg/status", body: strings.Repeat(" ", 200)}), []string{"bound var/lib/dpkg/status: 200 bytes are more than the 100 that are read of a package database"}, true},
		{"a text that is no print", Limits{}, archive(t, pkg, file{name: "\x1b[31m\n/../../x"}), []string{"unusable ?[31m?/../../x: the name leaves the root"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := read(t, tc.limits, tc.blob)
			wantGaps(t, l, tc.want...)
			if got := len(l.Packages) == 1 && l.Packages[0].Name == "a"; got != tc.still {
				t.Errorf("packages %q", keys(l))
			}
		})
	}
}

// noise is text that does not compress well, the same each time.
func noise(n int) string {
	b := make([]byte, n)
	x := uint64(1)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return string(b)
}

// TestOddTars reads tars that other scanners stumbled over.
func TestOddTars(t *testing.T) {
	for name, files := range map[string]int64{"layer-tars/bad_name.tar": 1, "layer-tars/concat.tar": 11, "layer-tars/oddlayer.tar": 1,
		"image-tars/unpack-escape.tar": 6, "image-tars/symlink-cycle.tar": 7, "image-tars/overwrite-file.tar": 11} {
		t.Run(name, func(t *testing.T) {
			l := read(t, Limits{}, []byte(fixture(t, name)))
			if l.Files != files {
				t.Errorf("%d entries, want %d", l.Files, files)
			}
		})
	}
}

// TestBombs unpacks much out of little, in bounded memory.
func TestBombs(t *testing.T) {
	const size = 300 << 20
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "usr/bin/zeros", Mode: 0o755, Size: size}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	l := read(t, Limits{Unpacked: 200 << 20}, b.Bytes())
	runtime.ReadMemStats(&after)
	wantGaps(t, l, fmt.Sprintf("bound : the layer unpacks to more than %d bytes; the rest was not read", 200<<20))
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
		t.Errorf("took %d MiB of memory in all", used>>20)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestManyEntries reads an archive of nothing but headers.
func TestManyEntries(t *testing.T) {
	const n = 300_000
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		tw := tar.NewWriter(w)
		for i := range n {
			if err := tw.WriteHeader(&tar.Header{Name: fmt.Sprintf("d/%d/package.json", i), Mode: 0o644}); err != nil {
				written <- err
				return
			}
		}
		written <- tw.Close()
		_ = w.Close()
	}()
	l, err := New(Options{}).Layer(t.Context(), blobDigest, "", r)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if err != nil || l.Files != n || len(l.Written) != n {
		t.Errorf("%d entries, %d paths, %v; want %d", l.Files, len(l.Written), err, n)
	}
}

// TestSparse reads a file that claims to be far larger than its archive (GNU, PAX 1.0).
func TestSparse(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	body := "1\n1099511627775\n1\n" // one piece of data at the very end of a tebibyte
	body += strings.Repeat("\x00", 512-len(body)) + "}"
	h := &tar.Header{Name: "app/node_modules/a/package.json", Mode: 0o644, Size: int64(len(body)), Format: tar.FormatPAX,
		PAXRecords: map[string]string{"SOME.key": strings.Repeat("v", 100<<10)}}
	if err := w.WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sparse := sparsePAX(t, body, 1<<40)
	for name, tc := range map[string]struct {
		blob []byte
		want string
	}{
		"large records": {b.Bytes(), "unread app/node_modules/a/package.json: package.json: invalid character '1' after top-level value"},
		"sparse":        {sparse, "bound app/node_modules/a/package.json: 1099511627776 bytes are more than the 4194304 that are read of such a file"},
	} {
		t.Run(name, func(t *testing.T) { wantGaps(t, read(t, Limits{}, tc.blob), tc.want) })
	}
}

// sparsePAX writes a sparse file as GNU tar does, which archive/tar only reads.
func sparsePAX(t *testing.T, body string, size int64) []byte {
	t.Helper()
	records := ""
	for _, kv := range [][2]string{{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"},
		{"GNU.sparse.name", "app/node_modules/a/package.json"}, {"GNU.sparse.realsize", fmt.Sprint(size)}} {
		line := " " + kv[0] + "=" + kv[1] + "\n"
		n := len(line) + 2
		records += fmt.Sprint(n) + line
	}
	blob := archive(t, file{name: "PaxHeaders.0/a", body: records}, file{name: "GNUSparseFile.0/a", body: body})
	retype(blob, 0, 'x')
	return blob
}

// retype changes the type of the header at off and mends its checksum.
func retype(blob []byte, off int, kind byte) {
	h := blob[off : off+512]
	h[156] = kind
	copy(h[148:156], "        ")
	total := 0
	for _, c := range h {
		total += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", total))
}

// TestHostileDatabases damages real rpm databases byte by byte in places that steer the reader.
func TestHostileDatabases(t *testing.T) {
	bdb := []byte(fixture(t, "rpm/bdb-libuuid/Packages"))
	ndb := []byte(fixture(t, "rpm/ndb-sle15-bci/Packages.db.gz"))
	lite := []byte(fixture(t, "rpm/sqlite-cbl-mariner-2.0/rpmdb.sqlite.gz"))
	set := func(b []byte, off int, v uint32, o binary.ByteOrder) []byte {
		out := slices.Clone(b)
		o.PutUint32(out[off:], v)
		return out
	}
	overflow := 0 // a page of the chain that holds the package
	for n := 4096; n < len(bdb); n += 4096 {
		if bdb[n+25] == bdbOverflowPage && binary.LittleEndian.Uint32(bdb[n+16:]) != 0 {
			overflow = n
			break
		}
	}
	le, be := binary.LittleEndian, binary.BigEndian
	for _, tc := range []struct {
		name, path string
		body       []byte
	}{
		{"bdb: page size 0", "Packages", set(bdb, 20, 0, le)},
		{"bdb: more pages than there are", "Packages", set(bdb, 32, 1<<31, le)},
		{"bdb: a chain in a circle", "Packages", set(bdb, overflow+16, uint32(overflow/4096), le)},
		{"bdb: a chain that leaves the file", "Packages", set(bdb, overflow+16, 1<<30, le)},
		{"bdb: cut off", "Packages", bdb[:len(bdb)/2]},
		{"ndb: slots beyond the file", "Packages.db", set(ndb, 12, 1<<20, le)},
		{"ndb: a record beyond the file", "Packages.db", set(ndb, 32+8, 1<<30, le)},
		{"ndb: cut off", "Packages.db", ndb[:len(ndb)/2]},
		{"sqlite: page size 3", "rpmdb.sqlite", set(lite, 16, 0x00030101, be)},
		{"sqlite: cut off", "rpmdb.sqlite", lite[:len(lite)/2]},
		{"sqlite: the schema is its own child", "rpmdb.sqlite", append(slices.Clone(lite[:100]), append([]byte{5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, lite[112:]...)...)},
		{"a log with changes", "rpmdb.sqlite-wal", bytes.Repeat([]byte("x"), 100)},
		{"empty", "rpmdb.sqlite", nil},
		{"something else", "Packages", bytes.Repeat([]byte("x"), 1000)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := read(t, Limits{}, archive(t, file{name: "var/lib/rpm/" + tc.path, body: string(tc.body)}))
			if len(l.Coverage.Unknown) != 1 || l.Coverage.Unknown[0].Kind != inventory.GapUnread {
				t.Errorf("gaps %+v, want one of kind unread", l.Coverage.Unknown)
			}
		})
	}
}

// TestRoot reads a folder and follows no link out of it.
func TestRoot(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write := func(p, body string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(body), mode); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "usr/lib/os-release"), "ID=debian\nVERSION_ID=\"12\"\n", 0o644)
	write(filepath.Join(dir, "var/lib/dpkg/status"), fixture(t, "dpkg/claircore-debian-only.status"), 0o644)
	write(filepath.Join(dir, "usr/bin/go117"), fixture(t, "elf/go117.gz"), 0o755)
	write(filepath.Join(dir, "usr/bin/notgo"), fixture(t, "elf/notgo.gz"), 0o755)
	write(filepath.Join(dir, "proc/1/exe"), fixture(t, "elf/notgo.gz"), 0o755)
	write(filepath.Join(dir, "dev/.wh.null"), "no whiteout here", 0o644)
	write(filepath.Join(outside, "app/node_modules/a/package.json"), `{"name":"a","version":"1"}`, 0o644)
	for from, to := range map[string]string{"etc": outside, "app": filepath.Join(outside, "app"), "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := New(Options{TempDir: t.TempDir()}).Root(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := keys(l), []string{"debian-archive-keyring 2019.1", "stdlib 1.17"}; !slices.Equal(got, want) {
		t.Errorf("packages %q, want %q", got, want)
	}
	if len(l.Programs) != 1 || l.Programs[0].Path != "usr/bin/notgo" || len(l.Removed) != 0 {
		t.Errorf("programs %+v, removed %q", l.Programs, l.Removed)
	}
	wantGaps(t, l)
	if _, err := New(Options{}).Root(t.Context(), filepath.Join(dir, "none")); !os.IsNotExist(errorsCause(err)) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

func errorsCause(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		err = u.Unwrap()
	}
}

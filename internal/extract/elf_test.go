package extract

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/inventory"
)

// elfWith makes an ELF file with one section of the given name.
func elfWith(name string, data []byte) []byte {
	names := "\x00" + name + "\x00.shstrtab\x00"
	const start = 128 // behind the header and one program header
	namesAt := start + len(data)
	sections := (namesAt + len(names) + 7) &^ 7
	out := make([]byte, sections+3*64)
	copy(out, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(out[16:], 3)  // ET_DYN
	le.PutUint16(out[18:], 62) // EM_X86_64
	le.PutUint32(out[20:], 1)
	le.PutUint64(out[40:], uint64(sections))
	le.PutUint64(out[32:], 64) // the program header: a writable segment of the data
	le.PutUint16(out[52:], 64)
	le.PutUint16(out[54:], 56)
	le.PutUint16(out[56:], 1)
	le.PutUint32(out[64:], 1)
	le.PutUint32(out[68:], 6)
	for i, v := range []int{start, start, start, len(data), len(data), 16} {
		le.PutUint64(out[72+8*i:], uint64(v))
	}
	le.PutUint16(out[58:], 64)
	le.PutUint16(out[60:], 3)
	le.PutUint16(out[62:], 2)
	copy(out[start:], data)
	copy(out[namesAt:], names)
	section := func(n, name, kind, off, size int) {
		h := out[sections+64*n:]
		le.PutUint32(h, uint32(name))
		le.PutUint32(h[4:], uint32(kind))
		le.PutUint64(h[16:], uint64(off))
		le.PutUint64(h[24:], uint64(off))
		le.PutUint64(h[32:], uint64(size))
	}
	section(1, 1, 1, start, len(data))
	section(2, 2+len(name), 3, namesAt, len(names))
	return out
}

func deflated(t testing.TB, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestGo reads this very test program, held in memory and on disk, whatever its mode.
func TestGo(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	body, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.TrimPrefix(runtime.Version(), "go")
	for name, tc := range map[string]struct {
		limits Limits
		mode   int64
	}{"in memory": {Limits{Memory: 1 << 30}, 0o755}, "on disk": {Limits{Memory: 1 << 20}, 0o755}, "not executable": {Limits{Memory: 1 << 20}, 0o644}} {
		t.Run(name, func(t *testing.T) {
			l := read(t, tc.limits, archive(t, file{name: "srv/test", body: string(body), mode: tc.mode},
				file{name: "srv/link", kind: '1', link: "srv/test"}))
			got := keys(l)
			if !slices.Equal(got, []string{"stdlib " + want}) { // a test program lists no modules
				t.Errorf("packages %q", got)
			}
			for _, p := range l.Packages {
				if !slices.Equal(p.Paths, []string{"srv/link", "srv/test"}) {
					t.Errorf("%s at %q", p.Name, p.Paths)
				}
			}
			if len(l.Programs) != 0 {
				t.Errorf("programs %v", l.Programs)
			}
		})
	}
}

// TestGoModules reads build information of the form that Go has written since 1.18.
func TestGoModules(t *testing.T) {
	const frame = "0123456789abcdef" // 16 bytes before and after, which readers skip
	mod := frame + "path\texample.test/cmd\nmod\texample.test/cmd\t(devel)\t\n" +
		"dep\tgolang.org/x/net\tv0.17.0\th1:a=\n" +
		"dep\texample.test/old\tv1.0.0\n=>\texample.test/fork\tv1.2.3\th1:b=\n" +
		"dep\texample.test/local\tv0.0.0\n=>\t./local\t\t\n" +
		"dep\tgithub.com/docker/docker\tv20.10.7+incompatible\th1:c=\n" + frame
	info := make([]byte, 32)
	copy(info, goMagic)
	info[14], info[15] = 8, 2
	for _, s := range []string{"go1.22rc2", mod} {
		info = append(binary.AppendUvarint(info, uint64(len(s))), s...)
	}
	l := read(t, Limits{}, archive(t, file{name: "bin/tool", body: string(elfWith(".go.buildinfo", info)), mode: 0o755}))
	want := []string{"example.test/fork 1.2.3", "github.com/docker/docker 20.10.7+incompatible", "golang.org/x/net 0.17.0", "stdlib 1.22.0-rc.2"}
	if got := keys(l); !slices.Equal(got, want) {
		t.Errorf("modules %q, want %q", got, want)
	}
	wantGaps(t, l)
}

func TestGoVersion(t *testing.T) {
	for in, want := range map[string]string{
		"go1.21.3": "1.21.3", "go1.20": "1.20", "go1.22rc2": "1.22.0-rc.2", "go1.9beta1": "1.9.0-beta.1",
		"go1.20.12 X:boringcrypto": "1.20.12", "go1.18.7b7": "1.18.7", "devel go1.27-abc Tue": "", "": "", "unknown": "",
	} {
		if got := goVersion(in); got != want {
			t.Errorf("goVersion(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestRust(t *testing.T) {
	list := `{"packages":[{"name":"smallvec","version":"1.6.0","source":"crates.io","kind":"runtime"},` +
		`{"name":"cc","version":"1.0.0","source":"crates.io","kind":"build"},{"name":"tool","version":"0.1.0","source":"local","root":true}]}`
	for _, tc := range []struct {
		name    string
		section []byte
		want    []string
		gap     string
		unknown bool
	}{
		{"crates", deflated(t, list), []string{"smallvec 1.6.0", "tool 0.1.0"}, "", false},
		{"not compressed", []byte("nothing"), nil, "unread bin/tool: the list of crates: zlib: invalid header", true},
		{"not JSON", deflated(t, "[]"), nil, "unread bin/tool: the list of crates: json: cannot unmarshal array into Go value of type struct { Packages []struct { Name string; Version string; Source string; Kind string } }", true},
		{"a bomb", deflated(t, `{"packages":[`+strings.Repeat(" ", rustLimit)), nil, "unread bin/tool: broken off: not a whole program file", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := read(t, Limits{}, archive(t, file{name: "bin/tool", body: string(elfWith(rustDeps, tc.section)), mode: 0o755}))
			if got := keys(l); !slices.Equal(got, tc.want) {
				t.Errorf("crates %q, want %q", got, tc.want)
			}
			wantGaps(t, l, tc.gap)
			if got := len(l.Programs) == 1; got != tc.unknown {
				t.Errorf("programs %v", l.Programs)
			}
		})
	}
}

// TestPrograms tells programs that somebody answers for from those that nobody does.
func TestPrograms(t *testing.T) {
	notgo := fixture(t, "elf/notgo.gz")
	status := "Package: tool\nStatus: install ok installed\nVersion: 1\n"
	l := read(t, Limits{}, archive(t,
		file{name: "usr/bin/owned", body: notgo, mode: 0o755},
		file{name: "usr/bin/moved.distrib", body: notgo, mode: 0o755},
		file{name: "usr/bin/stray", body: notgo, mode: 0o755},
		file{name: "usr/bin/replaced", body: notgo, mode: 0o755},
		file{name: "usr/bin/replaced", body: "#!/bin/sh\n", mode: 0o755},
		file{name: "usr/lib/libstray.so.1", body: notgo, mode: 0o755},
		file{name: "usr/lib/data", body: notgo},
		file{name: "var/lib/dpkg/status", body: status},
		file{name: "var/lib/dpkg/diversions", body: "/bin/moved\n/bin/moved.distrib\nother\n"},
		file{name: "var/lib/dpkg/info/tool:amd64.list", body: "/.\n/bin\n/bin/owned\n/bin/moved\n/bin/elsewhere\n"}))
	if len(l.Programs) != 1 || l.Programs[0].Path != "usr/bin/stray" {
		t.Errorf("programs %+v, want usr/bin/stray alone", l.Programs)
	}
	if len(l.Vouched) != 2 {
		t.Errorf("%d programs vouched for, want 2", len(l.Vouched))
	}
	if len(l.Claims) != 1 || l.Claims[0].Package != "tool" || !l.Claims[0].Paths.Has("usr/bin/elsewhere") {
		t.Errorf("claims %+v, want one of usr/bin/elsewhere", l.Claims)
	}
	many := []file{}
	for _, name := range []string{"a", "b", "c"} {
		many = append(many, file{name: name, body: notgo, mode: 0o755})
	}
	l = read(t, Limits{Programs: 1}, archive(t, many...))
	if len(l.Programs) != 1 || len(l.Coverage.Unknown) != 1 || l.Coverage.Unknown[0].Count != 2 || l.Coverage.Unknown[0].Kind != inventory.GapUnknown {
		t.Errorf("programs %+v, gaps %+v; want one and two more", l.Programs, l.Coverage.Unknown)
	}
}

package extract

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"regexp"
	"runtime/debug"
	"strings"

	"pratique.dev/pratique/internal/inventory"
)

// elfHead is how much of a program is looked at before it is decided how to read it.
// Go's linker puts its note there, and so does the system's when it links Go.
const elfHead = 4096

const (
	elfMagic  = "\x7fELF"
	goMagic   = "\xff Go buildinf:" // Go, debug/buildinfo
	goNote    = "Go\x00\x00"        // the name of the note with Go's build id
	rustDeps  = ".dep-v0"           // the section of cargo auditable
	needleMax = len(goMagic) + 1    // the longest of what a needles looks for
	rustLimit = 16 << 20            // bytes of that section, and unpacked
	goDevel   = "(devel)"           // a main module without a version
)

// program looks into a file that no extractor wanted, if it is an ELF file: Go's
// build information and cargo auditable's list tell what was linked into it.
//
// A program of up to Limits.Memory is held in memory; a larger one goes to disk if it is
// executable or has Go's note. Large shared objects only pass by: they are watched for
// Go's mark, which costs next to nothing.
func (s *scan) program(f *File) {
	if f.Size < 64 {
		return
	}
	head := s.head[:min(elfHead, f.Size)]
	if _, err := io.ReadFull(f.Reader, head[:20]); err != nil || string(head[:4]) != elfMagic || !linked(head) {
		return // a stream that broke off shows at the next entry
	}
	n, err := io.ReadFull(f.Reader, head[20:])
	head = head[:20+n]
	if err != nil {
		return
	}
	f.Reader = io.MultiReader(bytes.NewReader(head), f.Reader)
	starts := executable(f.Mode) && !sharedObject(f.Path)
	look := &needles{}
	if starts {
		look.sum = sha256.New()
	}
	if !starts && f.at == nil && f.Size > s.set.limits.Memory && !bytes.Contains(head, []byte(goNote)) {
		s.pass(f, look)
		return
	}
	f.Reader = io.TeeReader(f.Reader, look)
	found := &Found{s: s, file: f, read: true}
	explained, err := s.linkedIn(f, look, found)
	if err != nil {
		s.failed(f.Path, "program", err)
	}
	if starts && !explained {
		var content sum
		look.sum.Sum(content[:0])
		s.programs[f.Path] = content
	}
}

// linked says whether head is that of a program or shared object, not of an object file or a core dump.
func linked(head []byte) bool {
	var order binary.ByteOrder = binary.LittleEndian
	if head[elf.EI_DATA] == byte(elf.ELFDATA2MSB) {
		order = binary.BigEndian
	}
	t := elf.Type(order.Uint16(head[16:]))
	return t == elf.ET_EXEC || t == elf.ET_DYN
}

// sharedObject says whether a file is a library by its name; in RPM distributions
// libraries are executable too.
func sharedObject(p string) bool {
	base := path.Base(p)
	return strings.HasSuffix(base, ".so") || strings.Contains(base, ".so.")
}

// pass watches a large library go by.
func (s *scan) pass(f *File, look *needles) {
	if _, err := io.Copy(look, io.LimitReader(f.Reader, s.set.limits.Spool)); err != nil {
		return // the archive is broken, which its reader will say
	}
	if look.goInfo {
		s.gap(inventory.GapBound, f.Path, fmt.Sprintf("a library of %d bytes that may hold Go's build information was not looked into", f.Size))
	}
}

// linkedIn reports what was linked into f, and whether f tells that at all.
func (s *scan) linkedIn(f *File, look *needles, found *Found) (explained bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the program's headers: %v", p)
		}
	}()
	if f.at != nil {
		// On disk nothing has to be held, but what is looked for must pass by.
		if _, err := io.Copy(io.Discard, io.LimitReader(f.Reader, s.set.limits.Spool)); err != nil {
			return false, err
		}
	}
	at, err := f.Random()
	if err != nil {
		return false, err
	}
	if look.goInfo {
		if info, err := buildinfo.Read(at); err == nil {
			s.examined["go"] = true
			reportGo(info, found)
			return true, nil
		}
	}
	if look.rust {
		n, err := reportRust(at, found)
		if n > 0 {
			s.examined["rust"] = true
		}
		return n > 0, err
	}
	return false, nil
}

// needles watches bytes go by for the marks of what can be read from a program.
type needles struct {
	goInfo, rust bool
	sum          hash.Hash // of all bytes, if set
	tail         []byte    // the last bytes seen, for marks that lie across two writes
}

func (n *needles) Write(p []byte) (int, error) {
	if n.sum != nil {
		n.sum.Write(p)
	}
	seam := append(n.tail, p[:min(len(p), needleMax)]...)
	n.look(seam)
	n.look(p)
	if len(p) >= needleMax {
		seam = p
	}
	n.tail = append(n.tail[:0], seam[max(0, len(seam)-needleMax):]...)
	return len(p), nil
}

func (n *needles) look(p []byte) {
	n.goInfo = n.goInfo || bytes.Contains(p, []byte(goMagic))
	n.rust = n.rust || bytes.Contains(p, []byte(rustDeps))
}

// reportGo adds the modules that a Go program was built of, and the standard library.
func reportGo(info *debug.BuildInfo, found *Found) {
	if v := goVersion(info.GoVersion); v != "" {
		found.Package(named("golang", "Go", "stdlib", v))
	}
	add := func(m *debug.Module) {
		if m.Replace != nil {
			m = m.Replace // by a folder, it has no version
		}
		version := strings.TrimPrefix(m.Version, "v")
		if m.Path == "" || version == "" || version == goDevel {
			return
		}
		found.Package(named("golang", "Go", m.Path, version))
	}
	add(&info.Main)
	for _, m := range info.Deps {
		add(m)
	}
}

// goRelease takes apart "go1.21.3", "go1.22rc2", "go1.20.12 X:boringcrypto", "go1.18.7b7".
var goRelease = regexp.MustCompile(`^go(1\.\d+)(\.\d+)?(?:(rc|beta)(\d+))?`)

// goVersion is the version of the standard library as advisories write it: a release as
// it is, "1.22rc2" as "1.22.0-rc.2" (golang.org/x/vuln, internal/semver). A toolchain
// built from a commit has no version.
func goVersion(v string) string {
	m := goRelease.FindStringSubmatch(v)
	if m == nil {
		return ""
	}
	if m[3] == "" {
		return m[1] + m[2]
	}
	patch := m[2]
	if patch == "" {
		patch = ".0"
	}
	return m[1] + patch + "-" + m[3] + "." + m[4]
}

// reportRust adds the crates that cargo auditable has written into a program
// (https://github.com/rust-secure-code/cargo-auditable, PARSING.md): JSON,
// compressed with zlib. Crates that only the build needed are not in the program.
func reportRust(at io.ReaderAt, found *Found) (int, error) {
	file, err := elf.NewFile(at)
	if err != nil {
		return 0, nil // no ELF file that anything would start
	}
	section := file.Section(rustDeps)
	if section == nil {
		return 0, nil
	}
	z, err := zlib.NewReader(io.LimitReader(section.Open(), rustLimit))
	if err != nil {
		return 0, fmt.Errorf("the list of crates: %w", err)
	}
	var list struct {
		Packages []struct{ Name, Version, Source, Kind string }
	}
	if err := json.NewDecoder(io.LimitReader(z, rustLimit)).Decode(&list); err != nil {
		return 0, fmt.Errorf("the list of crates: %w", err)
	}
	n := 0
	for _, p := range list.Packages {
		if p.Name == "" || p.Version == "" {
			return n, errors.New("the list of crates holds one without name or version")
		}
		if p.Kind == "build" {
			continue
		}
		found.Package(named("cargo", "crates.io", p.Name, p.Version))
		n++
	}
	return n, nil
}

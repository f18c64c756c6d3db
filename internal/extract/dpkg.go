package extract

import (
	"context"
	"path"
	"strings"

	"pratique.dev/pratique/internal/inventory"
)

const (
	dpkgDir    = "var/lib/dpkg/"
	dpkgPieces = dpkgDir + "status.d/" // distroless: a file for each package
)

// dpkgStatus reads dpkg's database of installed packages (deb-control(5), dpkg(1)
// "Package states"), whole or in distroless images' pieces.
type dpkgStatus struct{}

func (dpkgStatus) Kind() string { return "dpkg" }

func (dpkgStatus) Wants(p string) bool {
	if p == dpkgDir+"status" {
		return true
	}
	return strings.HasPrefix(p, dpkgPieces) && !strings.HasSuffix(p, ".md5sums") && !strings.HasSuffix(p, ".preinst") &&
		strings.Count(p, "/") == strings.Count(dpkgPieces, "/")
}

// stanza is the fields of one package that count, and the line that it begins at.
type stanza struct {
	pkg, status, source, version, arch string
	line                               int
}

func (dpkgStatus) Extract(_ context.Context, f *File, found *Found) error {
	if err := checkSize(f); err != nil {
		return err
	}
	bad := &faults{what: "status file"}
	var s stanza
	in := newLines(f)
	for in.next() {
		if len(in.line) == 0 {
			s.report(found, bad)
			s = stanza{}
			continue
		}
		if s.line == 0 {
			s.line = in.no
		}
		if in.line[0] == ' ' || in.line[0] == '\t' || in.line[0] == '#' {
			continue // goes on with a field that does not count
		}
		name, value, ok := strings.Cut(string(in.line), ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			bad.at(in.no, "not a field")
			continue
		}
		s.set(name, strings.TrimSpace(value))
	}
	s.report(found, bad)
	if in.err != nil {
		return in.err
	}
	return bad.err()
}

// set takes a field; names do not depend on case (deb-control(5)).
func (s *stanza) set(name, value string) {
	switch strings.ToLower(name) {
	case "package":
		s.pkg = value
	case "status":
		s.status = value
	case "source":
		s.source = value
	case "version":
		s.version = value
	case "architecture":
		s.arch = value
	}
}

// report adds the package, unless it is not installed or its stanza is broken.
func (s *stanza) report(found *Found, bad *faults) {
	if s.line == 0 {
		return
	}
	if state := strings.Fields(s.status); len(state) > 0 {
		switch state[len(state)-1] {
		case "not-installed", "config-files":
			return // its files are gone
		}
	}
	if s.pkg == "" || s.version == "" || strings.ContainsAny(s.pkg+s.version, " \t") {
		bad.at(s.line, "a package without a name or a version")
		return
	}
	source, version := s.pkg, s.version
	if s.source != "" {
		source = s.source
		if name, rest, ok := strings.Cut(s.source, "("); ok {
			// "Source: glibc (2.36-9)": the version where it is not the binary's own
			source, version = strings.TrimSpace(name), strings.TrimSuffix(strings.TrimSpace(rest), ")")
		}
	}
	if source == "" || version == "" {
		bad.at(s.line, "a source package without a name or a version")
		source, version = s.pkg, s.version
	}
	found.Package(inventory.Package{
		Key:  inventory.Key{Name: source, Version: version},
		Type: inventory.TypeDeb, Binary: s.pkg, BinaryVersion: s.version,
		Source: source, SourceVersion: version, Arch: s.arch,
	})
}

// dpkgList reads who owns which file: dpkg's own lists, and the checksums that
// distroless images keep instead.
type dpkgList struct{}

func (dpkgList) Kind() string { return "dpkg" }

func (dpkgList) Wants(p string) bool {
	rest, ok := strings.CutPrefix(p, dpkgDir)
	if !ok {
		return false
	}
	dir, file := path.Split(rest)
	return dir == "info/" && strings.HasSuffix(file, ".list") || dir == "status.d/" && strings.HasSuffix(file, ".md5sums")
}

func (dpkgList) Extract(_ context.Context, f *File, found *Found) error {
	found.Nothing() // a list without the database examines nothing
	if err := checkSize(f); err != nil {
		return err
	}
	ext := path.Ext(f.Path)
	pkg, _, _ := strings.Cut(strings.TrimSuffix(path.Base(f.Path), ext), ":") // libc6:amd64.list
	in := newLines(f)
	for in.next() {
		line := string(in.line)
		if ext == ".md5sums" {
			_, line, _ = strings.Cut(line, "  ")
		}
		if p, ok := clean(line); ok && p != "" {
			found.Owns(pkg, p)
		}
	}
	return in.err
}

// dpkgDiversions reads which packages' files other packages have moved aside
// (dpkg-divert(1)): three lines each, the path, where it went, and by whom.
type dpkgDiversions struct{}

func (dpkgDiversions) Kind() string        { return "dpkg" }
func (dpkgDiversions) Wants(p string) bool { return p == dpkgDir+"diversions" }

func (dpkgDiversions) Extract(_ context.Context, f *File, found *Found) error {
	found.Nothing()
	if err := checkSize(f); err != nil {
		return err
	}
	in := newLines(f)
	var three [3]string
	for n := 0; in.next(); n++ {
		three[n%3] = string(in.line)
		if n%3 != 2 {
			continue
		}
		from, ok1 := clean(three[0])
		to, ok2 := clean(three[1])
		if ok1 && ok2 {
			found.Diverts(three[2], from, to)
		}
	}
	return in.err
}

package extract

import (
	"context"
	"path"

	"pratique.dev/pratique/internal/inventory"
)

// apk reads apk-tools' database of installed packages: a letter, a colon and a value on
// each line, an empty line after each package (apk-tools, doc/apk-v2.5.scd and src/database.c).
type apk struct{}

func (apk) Kind() string { return "apk" }

func (apk) Wants(p string) bool {
	return p == "lib/apk/db/installed" || p == "usr/lib/apk/db/installed"
}

type apkRecord struct {
	name, version, arch, origin string
	line                        int
	files                       []string
}

func (apk) Extract(_ context.Context, f *File, found *Found) error {
	if err := checkSize(f); err != nil {
		return err
	}
	bad := &faults{what: "apk database"}
	var r apkRecord
	dir := ""
	in := newLines(f)
	for in.next() {
		if len(in.line) == 0 {
			r.report(found, bad)
			r, dir = apkRecord{files: r.files[:0]}, ""
			continue
		}
		if r.line == 0 {
			r.line = in.no
		}
		if len(in.line) < 2 || in.line[1] != ':' {
			bad.at(in.no, "not a field")
			continue
		}
		value := in.line[2:]
		switch in.line[0] {
		case 'P':
			r.name = string(value)
		case 'V':
			r.version = string(value)
		case 'A':
			r.arch = string(value)
		case 'o':
			r.origin = string(value)
		case 'F':
			dir = string(value)
		case 'R':
			r.files = append(r.files, path.Join(dir, string(value)))
		}
	}
	r.report(found, bad)
	if in.err != nil {
		return in.err
	}
	return bad.err()
}

func (r *apkRecord) report(found *Found, bad *faults) {
	if r.line == 0 {
		return
	}
	if r.name == "" || r.version == "" {
		bad.at(r.line, "a package without a name or a version")
		return
	}
	origin := r.origin
	if origin == "" {
		origin = r.name
	}
	found.Package(inventory.Package{
		Key:  inventory.Key{Name: origin, Version: r.version},
		Type: inventory.TypeAPK, Binary: r.name, BinaryVersion: r.version,
		Source: origin, SourceVersion: r.version, Arch: r.arch,
	})
	for _, file := range r.files {
		if p, ok := clean(file); ok && p != "" {
			found.Owns(r.name, p)
		}
	}
}

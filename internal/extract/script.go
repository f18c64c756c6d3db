package extract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
)

// npm reads the package.json of installed packages: those right below a node_modules
// folder, or where Debian keeps its own. Others are an application's own, or
// belong to some package's tests.
type npm struct{}

func (npm) Kind() string { return "npm" }

func (npm) Wants(p string) bool {
	dir, ok := strings.CutSuffix(p, "/package.json")
	if !ok {
		return false
	}
	parent, name := path.Split(dir)
	if strings.HasPrefix(path.Base(parent), "@") {
		parent, _ = path.Split(strings.TrimSuffix(parent, "/"))
	}
	parent = strings.TrimSuffix(parent, "/")
	return name != "" && (path.Base(parent) == "node_modules" || parent == "usr/share/nodejs")
}

func (npm) Extract(_ context.Context, f *File, found *Found) error {
	text, err := f.ReadAll(f.limits().Document)
	if err != nil {
		return err
	}
	var p struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // the byte order mark, which npm and Node.js pass over
	if err := json.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("package.json: %w", err)
	}
	version := strings.TrimPrefix(strings.TrimSpace(p.Version), "v")
	if p.Name == "" || version == "" {
		found.Nothing() // marks how a folder is to be loaded, and is not a package
		return nil
	}
	found.Package(named("npm", "npm", p.Name, version))
	return nil
}

// python reads the metadata of installed Python packages: wheels' METADATA and eggs'
// PKG-INFO (https://packaging.python.org/en/latest/specifications/core-metadata/).
type python struct{}

func (python) Kind() string { return "python" }

func (python) Wants(p string) bool {
	return strings.HasSuffix(p, ".dist-info/METADATA") || strings.HasSuffix(p, ".egg-info/PKG-INFO") ||
		strings.HasSuffix(p, ".egg-info") || strings.HasSuffix(p, "EGG-INFO/PKG-INFO")
}

func (python) Extract(_ context.Context, f *File, found *Found) error {
	return pythonMetadata(f, found)
}

// pythonMetadata reads the header fields up to the first empty line.
func pythonMetadata(r io.Reader, found *Found) error {
	var name, version string
	in := newLines(r)
	for in.next() && len(in.line) > 0 {
		key, value, _ := strings.Cut(string(in.line), ":")
		switch strings.ToLower(key) {
		case "name":
			name = strings.TrimSpace(value)
		case "version":
			version = strings.TrimSpace(value)
		}
		if name != "" && version != "" {
			found.Package(named("pypi", "PyPI", normalPython(name), version))
			return nil
		}
	}
	if in.err != nil {
		return in.err
	}
	return errors.New("Python metadata without a name or a version")
}

var pythonSeparators = regexp.MustCompile(`[-_.]+`)

// normalPython is the one spelling of a name that is compared (PEP 503).
func normalPython(name string) string {
	return pythonSeparators.ReplaceAllString(strings.ToLower(name), "-")
}

// pythonEgg reads eggs that are installed as one zip file.
type pythonEgg struct{}

func (pythonEgg) Kind() string        { return "python" }
func (pythonEgg) Wants(p string) bool { return strings.HasSuffix(p, ".egg") }

func (pythonEgg) Extract(_ context.Context, f *File, found *Found) error {
	at, err := f.Random()
	if err != nil {
		return err
	}
	z, err := openZip(at, f.Size, f.limits().JarIndex)
	if err != nil {
		return err
	}
	for _, e := range z.File {
		if e.Name != "EGG-INFO/PKG-INFO" {
			continue
		}
		r, err := e.Open()
		if err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
		defer func() { _ = r.Close() }()
		return pythonMetadata(io.LimitReader(r, f.limits().Document), found)
	}
	return errors.New("an egg without metadata")
}

// gem reads the specifications of installed Ruby gems, which are Ruby programs that
// RubyGems writes in one form (rubygems, lib/rubygems/specification.rb, to_ruby).
type gem struct{}

func (gem) Kind() string { return "gem" }

func (gem) Wants(p string) bool {
	dir, file := path.Split(p)
	return strings.HasSuffix(file, ".gemspec") &&
		(strings.HasSuffix(dir, "/specifications/") || strings.HasSuffix(dir, "/specifications/default/"))
}

var gemField = regexp.MustCompile(`^\s*\w+\.(name|version)\s*=\s*(?:Gem::Version\.new\()?["']([^"']+)["']`)

func (gem) Extract(_ context.Context, f *File, found *Found) error {
	text, err := f.ReadAll(f.limits().Document)
	if err != nil {
		return err
	}
	var name, version string
	for line := range strings.Lines(string(text)) {
		switch m := gemField.FindStringSubmatch(line); {
		case m == nil:
		case m[1] == "name" && name == "":
			name = m[2]
		case m[1] == "version" && version == "":
			version = m[2]
		}
	}
	if name == "" || version == "" {
		return errors.New("a gem specification without a name or a version")
	}
	found.Package(named("gem", "RubyGems", name, version))
	return nil
}

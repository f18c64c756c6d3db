package extract

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// jarsNested is how many jars within one jar are looked into.
const jarsNested = 10_000

// jar reads Java archives, and the archives within them.
type jar struct{}

func (jar) Kind() string        { return "java" }
func (jar) Wants(p string) bool { return isJar(p) }

func isJar(p string) bool {
	switch strings.ToLower(path.Ext(p)) {
	case ".jar", ".war", ".ear", ".par", ".sar", ".nar", ".jpi", ".hpi", ".kar", ".rar":
		return true
	}
	return false
}

func (jar) Extract(ctx context.Context, f *File, found *Found) error {
	if strings.EqualFold(path.Ext(f.Path), ".rar") && !looksLikeZip(f) {
		found.Nothing() // the other kind of rar
		return nil
	}
	at, err := f.Random()
	if err != nil {
		return err
	}
	j := &jarReader{found: found, set: f.s.set, left: f.limits().JarBytes, jars: jarsNested}
	named, err := j.read(ctx, at, f.Size, f.Path, 1)
	if err == nil && !named {
		// Only a program by its content: what it is, somebody else must say.
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(at, 0, f.Size)); err != nil {
			return err
		}
		found.s.programs[f.Path] = sum(h.Sum(nil))
	}
	return err
}

// looksLikeZip peeks at the first bytes.
func looksLikeZip(f *File) bool {
	at, err := f.Random()
	if err != nil {
		return false
	}
	var head [2]byte
	_, err = at.ReadAt(head[:], 0)
	return err == nil && string(head[:]) == "PK"
}

// jarReader reads one jar and what is nested in it, within one allowance of bytes.
type jarReader struct {
	found *Found
	set   *Set
	left  int64 // bytes that may still be unpacked
	jars  int   // nested jars that may still be read
}

// spend takes n bytes off what may be unpacked.
func (j *jarReader) spend(n uint64) error {
	if n > uint64(j.left) {
		return &boundError{fmt.Sprintf("the jar unpacks to more than %d bytes", j.set.limits.JarBytes)}
	}
	j.left -= int64(n)
	return nil
}

// read takes down the jar at name. It reports whether the jar tells what it is, or
// holds no classes.
func (j *jarReader) read(ctx context.Context, at io.ReaderAt, size int64, name string, depth int) (named bool, err error) {
	z, err := openZip(at, size, j.set.limits.JarIndex)
	if err != nil {
		return false, err
	}
	var manifest map[string]string
	var models []*zip.File // pom.xml
	told := map[string]bool{}
	poms, classes := 0, false
	for _, e := range z.File {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		switch {
		case strings.HasSuffix(e.Name, ".class"):
			classes = true
		case strings.HasPrefix(e.Name, "META-INF/maven/") && path.Base(e.Name) == "pom.properties":
			props, err := j.text(e, properties)
			if err != nil {
				return false, err
			}
			if j.maven(name, props["groupId"], props["artifactId"], props["version"]) {
				poms++
				told[path.Dir(e.Name)] = true
			}
		case strings.HasPrefix(e.Name, "META-INF/maven/") && path.Base(e.Name) == "pom.xml":
			models = append(models, e)
		case strings.EqualFold(e.Name, "META-INF/MANIFEST.MF"):
			if manifest, err = j.text(e, manifestHeaders); err != nil {
				return false, err
			}
		case isJar(e.Name):
			if err := j.nested(ctx, at, size, e, name, depth); err != nil {
				return false, err
			}
		}
	}
	for _, e := range models {
		if told[path.Dir(e.Name)] {
			continue
		}
		c, err := j.model(e)
		if err != nil {
			return false, err
		}
		if j.maven(name, c.group, c.artifact, c.version) {
			poms++
		}
	}
	if poms > 0 {
		return true, nil
	}
	id := identify(path.Base(name), manifest)
	return j.maven(name, id.group, id.artifact, id.version) || !classes, nil
}

// maven adds an artifact, if it is one.
func (j *jarReader) maven(jarPath, group, artifact, version string) bool {
	for _, s := range []string{group, artifact, version} {
		if s == "" || strings.ContainsAny(s, " \t${}@:") {
			return false // a template that nobody has filled in
		}
	}
	p := named("maven", "Maven", group+":"+artifact, version)
	p.Paths = []string{jarPath}
	j.found.Package(p)
	return true
}

// document opens a small file in the jar.
func (j *jarReader) document(e *zip.File) (io.ReadCloser, error) {
	limit := uint64(j.set.limits.Document)
	if e.UncompressedSize64 > limit {
		return nil, &boundError{fmt.Sprintf("%s has %d bytes, more than the %d that are read of such a file", e.Name, e.UncompressedSize64, limit)}
	}
	if err := j.spend(e.UncompressedSize64); err != nil {
		return nil, err
	}
	r, err := e.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Name, err)
	}
	return r, nil
}

// text parses a small text in the jar.
func (j *jarReader) text(e *zip.File, parse func(*lines) map[string]string) (map[string]string, error) {
	r, err := j.document(e)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	in := newLines(io.LimitReader(r, j.set.limits.Document))
	out := parse(in)
	if in.err != nil {
		return nil, fmt.Errorf("%s: %w", e.Name, in.err)
	}
	return out, nil
}

// model reads a pom.xml. One that cannot be read tells nothing: it is not needed to run the jar.
func (j *jarReader) model(e *zip.File) (coordinates, error) {
	r, err := j.document(e)
	if err != nil {
		return coordinates{}, err
	}
	defer func() { _ = r.Close() }()
	return pomModel(io.LimitReader(r, j.set.limits.Document)), nil
}

// nested reads the jar e within the jar at name. What is wrong with it is its own
// gap, and does not hide the others.
func (j *jarReader) nested(ctx context.Context, at io.ReaderAt, size int64, e *zip.File, name string, depth int) error {
	inner := name + "!/" + printable(e.Name, 512)
	err := j.open(at, size, e, func(r io.ReaderAt, n int64) error {
		if depth >= j.set.limits.JarDepth {
			return &boundError{fmt.Sprintf("jars are nested more than %d deep", j.set.limits.JarDepth)}
		}
		if j.jars--; j.jars < 0 {
			return &boundError{fmt.Sprintf("more than %d jars are nested in one", jarsNested)}
		}
		_, err := j.read(ctx, r, n, inner, depth+1)
		return err
	})
	var temp *tempError
	if ctx.Err() != nil || errors.As(err, &temp) {
		return err
	}
	j.found.s.failed(inner, "jar", err)
	return nil
}

// open gives random access to an entry: in place if it is stored as it is, else
// unpacked to memory or disk for as long as use runs.
func (j *jarReader) open(at io.ReaderAt, size int64, e *zip.File, use func(io.ReaderAt, int64) error) error {
	n := e.UncompressedSize64
	if err := j.spend(n); err != nil {
		return err
	}
	if e.Method == zip.Store {
		off, err := e.DataOffset()
		if err != nil {
			return err
		}
		if off < 0 || off > size || n > uint64(size-off) {
			return io.ErrUnexpectedEOF
		}
		return use(io.NewSectionReader(at, off, int64(n)), int64(n))
	}
	r, err := e.Open()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	var buf []byte
	sp, err := j.set.newSpool(r, int64(n), &buf)
	if err != nil {
		return err
	}
	defer sp.close()
	return use(sp, sp.size)
}

// openZip reads the central directory of a zip file, of at most limit bytes: the
// archive itself would say how much memory it is to take.
func openZip(at io.ReaderAt, size, limit int64) (*zip.Reader, error) {
	if size < 22 {
		return nil, errors.New("not a zip archive")
	}
	// The end of the directory is looked for in the last 64 KiB; the rest is the directory.
	b := &boundedAt{r: at, left: limit + 128<<10}
	z, err := zip.NewReader(b, min(size, 1<<40))
	switch {
	case b.over:
		return nil, &boundError{fmt.Sprintf("the directory of the archive is longer than %d bytes", limit)}
	case errors.Is(err, zip.ErrFormat):
		return nil, errors.New("not a zip archive")
	case err != nil && !errors.Is(err, zip.ErrInsecurePath): // nothing is unpacked to a path
		return nil, err
	}
	b.open = true
	return z, nil
}

// boundedAt lets only so many bytes be read until open.
type boundedAt struct {
	r    io.ReaderAt
	left int64
	over bool
	open bool
}

func (b *boundedAt) ReadAt(p []byte, off int64) (int, error) {
	if !b.open {
		if b.left -= int64(len(p)); b.left < 0 {
			b.over = true
			return 0, io.ErrUnexpectedEOF
		}
	}
	return b.r.ReadAt(p, off)
}

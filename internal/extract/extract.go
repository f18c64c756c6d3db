// Package extract reads the layers of images as they stream by: it unpacks, takes
// down the packages that it finds with the places they lie in, and says what it
// could not read. It writes nothing but bounded temporary files, runs nothing of what
// it reads, and leaves putting layers together to inventory and judging to others.
//
// The readers of package formats are this package's own, each behind Extractor.
// osv-scalibr's were weighed one by one and not taken: its jar reader unpacks nested archives whole into memory, going by sizes
// that the archive itself states, its line readers give up at 64 KiB, and its dpkg, apk
// and rpm readers drop the file lists that tell who owns a file. go-rpmdb reads in a
// goroutine of its own, where a panic cannot be caught, follows page chains without
// end and allocates what a length field says; the tests hold rpm's reader to its
// answers all the same.
package extract

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
)

// version names the extractor set. It changes whenever a layer that was read before
// would now read differently.
const version = "2"

// Limits bounds what one layer can cost. What lies beyond a limit is a gap in the
// layer's coverage. The zero of a field stands for its default.
type Limits struct {
	Unpacked   int64 // unpacked bytes of a layer (32 GiB)
	Ratio      int64 // unpacked bytes for each packed one, once 2 GiB are unpacked (250)
	Entries    int   // entries of the tar stream (2,000,000)
	PathLength int   // bytes of an entry's path (4096, as Linux has it)
	Memory     int64 // a file up to this size is held in memory, a larger one goes to disk (4 MiB)
	Spool      int64 // bytes of one file that go to disk (512 MiB)
	Document   int64 // size of a file that is parsed as a whole: package.json, METADATA (4 MiB)
	Database   int64 // size of a package database that is read line by line (256 MiB)
	Record     int64 // one package's record in an rpm database (32 MiB)
	JarDepth   int   // jars within jars (5)
	JarBytes   int64 // bytes unpacked out of one jar, all that it nests included (1 GiB)
	JarIndex   int64 // bytes of a jar's central directory, its local headers not counted (16 MiB)
	Packages   int   // packages of a layer, each counted once for each path (200,000)
	Owned      int   // files that the package databases of a layer list (2,000,000)
	Programs   int   // programs of unknown origin that are listed (1,000)
	Gaps       int   // gaps of one kind that are listed; of the rest the number is kept (50)
}

// withDefaults fills the zero fields.
func (l Limits) withDefaults() Limits {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	num := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.Unpacked, 32<<30)
	def(&l.Ratio, 250)
	num(&l.Entries, 2_000_000)
	num(&l.PathLength, 4096)
	def(&l.Memory, 4<<20)
	def(&l.Spool, 512<<20)
	def(&l.Document, 4<<20)
	def(&l.Database, 256<<20)
	def(&l.Record, 32<<20)
	num(&l.JarDepth, 5)
	def(&l.JarBytes, 1<<30)
	def(&l.JarIndex, 16<<20)
	num(&l.Packages, 200_000)
	num(&l.Owned, 2_000_000)
	num(&l.Programs, 1_000)
	num(&l.Gaps, 50)
	return l
}

// Options are the needs of a Set.
type Options struct {
	TempDir string // where files that need random access go; the system's own if empty
	Limits  Limits
}

// Extractor reads the packages out of one kind of file, chosen by its path.
type Extractor interface {
	// Kind is the name under which the coverage says that such a file was read.
	Kind() string
	// Wants says whether a file of this path, clean and without a leading slash, is of the kind.
	Wants(path string) bool
	// Extract reports what f holds. An error says why f could not be read, wholly or
	// from some point on; what was reported before stands.
	Extract(ctx context.Context, f *File, found *Found) error
}

// Set reads layers with every extractor there is. It holds no state: any number of
// goroutines may use it at once.
type Set struct {
	temp       string
	limits     Limits
	extractors []Extractor
}

// New makes the set of all extractors.
func New(o Options) *Set {
	return &Set{
		temp:   o.TempDir,
		limits: o.Limits.withDefaults(),
		extractors: []Extractor{
			osRelease{}, dpkgStatus{}, dpkgList{}, dpkgDiversions{}, apk{}, rpm{}, rpmLog{},
			npm{}, python{}, pythonEgg{}, gem{}, jar{},
		},
	}
}

// Version names the extractor set: a layer read by another version is read anew.
func (s *Set) Version() string { return version }

// Layer reads the blob of a layer: a tar stream, plain or compressed with gzip or
// zstd, which its first bytes tell and not mediaType. It reads r to its end, also
// where it has stopped to look, so that a caller can hash what it passes in.
//
// What is wrong with the content is a gap in the layer's coverage and never an
// error. An error says that reading r failed, that the temporary folder did, or that
// ctx ended; r must then let go of a Read that waits.
func (s *Set) Layer(ctx context.Context, d oci.Digest, mediaType string, r io.Reader) (inventory.Layer, error) {
	src := &source{r: r, stopped: ctx.Err}
	sc := s.scan()
	st := unpack(src, s.limits)
	contentErr := sc.tar(ctx, st)
	st.close()
	if src.err == nil {
		_, _ = io.Copy(io.Discard, src) // src keeps the error
	}
	switch {
	case ctx.Err() != nil:
		return inventory.Layer{}, fmt.Errorf("read layer %s: %w", d, ctx.Err())
	case src.err != nil:
		return inventory.Layer{}, fmt.Errorf("read layer %s: %w", d, src.err)
	case sc.fatal != nil:
		return inventory.Layer{}, fmt.Errorf("read layer %s: %w", d, sc.fatal)
	}
	if contentErr != nil {
		sc.broken(contentErr, st.format, mediaType)
	}
	l := sc.finish()
	l.Digest, l.Bytes, l.Text = d, st.total, st.text
	return l, nil
}

// Root reads a root file system that lies in a folder, as one layer without a digest. It
// follows no link out of dir. The folders proc and sys at its top are left
// out: what is mounted there is not content. An error says that dir could not be
// opened, that the temporary folder failed, or that ctx ended; a file that cannot be
// read is a gap.
func (s *Set) Root(ctx context.Context, dir string) (inventory.Layer, error) {
	sc := s.scan()
	if err := sc.folder(ctx, dir); err != nil {
		return inventory.Layer{}, fmt.Errorf("read root folder %s: %w", dir, err)
	}
	if sc.fatal != nil {
		return inventory.Layer{}, fmt.Errorf("read root folder %s: %w", dir, sc.fatal)
	}
	return sc.finish(), nil
}

// Found takes what an Extractor has to say of one file.
type Found struct {
	s    *scan
	file *File
	read bool
}

// Package reports a package. Its Paths are the file's path if it names none.
func (f *Found) Package(p inventory.Package) {
	if len(p.Paths) == 0 {
		p.Paths = []string{f.file.Path}
	}
	f.s.addPackage(f.file.Path, p)
}

// Owns reports that the operating system package pkg installed path.
func (f *Found) Owns(pkg, path string) { f.s.own(pkg, path) }

// Diverts reports that what pkg did not install at path lies at to instead (dpkg-divert(1)).
func (f *Found) Diverts(pkg, path, to string) {
	f.s.diversions = append(f.s.diversions, diversion{pkg, path, to})
}

// Distro reports an os-release.
func (f *Found) Distro(d inventory.Distro) {
	d.Path = f.file.Path
	f.s.distros[f.file.Path] = d
}

// Nothing says that the file, though it has the right name, is not of the extractor's kind.
func (f *Found) Nothing() { f.read = false }

// File is one file of a layer. It is read once, as a stream or at random.
type File struct {
	Path string
	Mode fs.FileMode
	Size int64
	io.Reader

	at    io.ReaderAt // set if the file can be read at random as it is
	s     *scan
	spool *spool
}

// sum is the content's hash.
type sum = [sha256.Size]byte

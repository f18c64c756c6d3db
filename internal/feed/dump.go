package feed

import (
	"archive/zip"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/flate"
)

// dump is one file's worth of records, and what is stored in one transaction: a zip, or
// the .json files of one folder.
type dump struct {
	name string // as it is shown: "Debian/all.zip"
	// ecosystem is whose dump the layout says that this is; "" where it says nothing.
	ecosystem string
	entries   []entry
	err       error                  // why it cannot be used; the others still can
	hash      func() (string, error) // of the bytes it is read from
	close     func() error
}

// entry is one record in its file.
type entry struct {
	name string
	size int64 // as the file states it, for sharing out the work; not to be trusted
	open func() (io.ReadCloser, error)
}

// opener collects the dumps that a path holds.
type opener struct {
	ctx   context.Context
	dumps []*dump
	lists []string // files of known exploited vulnerabilities and of EPSS scores
	inner int64    // bytes spooled so far
}

// openDumps finds the dumps at a path. It returns an error if there are none at all; a
// dump that cannot be used carries its own. The caller closes the dumps.
func openDumps(ctx context.Context, name string) ([]*dump, []string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, nil, fmt.Errorf("open advisories: %w", err)
	}
	o := &opener{ctx: ctx}
	switch {
	case info.IsDir():
		err = o.folder(name)
	case strings.EqualFold(filepath.Ext(name), ".zip"):
		o.zipFile(name, filepath.Base(name), filepath.Base(filepath.Dir(absolute(name))))
	case isList(name):
		o.lists = append(o.lists, name)
	case strings.EqualFold(filepath.Ext(name), ".json"):
		o.loose(filepath.Base(name), "", []string{name})
	default:
		err = fmt.Errorf("%s is no folder, no .zip and no .json: name a folder of OSV dumps (Debian/all.zip, …) or one of its files", name)
	}
	if err == nil && len(o.dumps) > maxParts {
		err = fmt.Errorf("%s holds more than %d files of advisories", name, maxParts)
	}
	if err == nil && len(o.dumps) == 0 && len(o.lists) == 0 {
		err = fmt.Errorf("%w in %s: expected folders named by ecosystem that hold all.zip or .json files, or such a file", ErrNoAdvisories, name)
	}
	if err != nil {
		closeAll(o.dumps)
		return nil, nil, err
	}
	slices.SortFunc(o.dumps, func(a, b *dump) int { return cmp.Compare(a.name, b.name) })
	return o.dumps, o.lists, nil
}

func closeAll(dumps []*dump) error {
	var errs []error
	for _, d := range dumps {
		if d.close != nil {
			errs = append(errs, d.close())
		}
	}
	return errors.Join(errs...)
}

// absolute makes a relative name's folder visible; a name that cannot be resolved stays.
func absolute(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return name
}

// stated takes the name of a folder for an ecosystem if it is one.
func stated(folder string) string {
	if knownEcosystem(folder) {
		return folder
	}
	return ""
}

// isList says whether a file holds known exploited vulnerabilities or EPSS scores, by the
// names that CISA and FIRST publish them under.
func isList(name string) bool {
	b := filepath.Base(name)
	return b == kevFile || strings.HasPrefix(b, "epss_scores-") && strings.HasSuffix(b, ".csv.gz")
}

const (
	kevFile   = "known_exploited_vulnerabilities.json"
	kevSchema = "known_exploited_vulnerabilities_schema.json" // CISA publishes it beside the list
)

// folder takes what lies in the top folder and in the folders named by ecosystem below
// it. Other files are no concern of ours; other folders are a mistake if they hold dumps.
func (o *opener) folder(name string) error {
	err := o.files(name, "", stated(filepath.Base(absolute(name))))
	if err != nil {
		return err
	}
	list, err := os.ReadDir(name)
	if err != nil {
		return fmt.Errorf("open advisories: %w", err)
	}
	for _, e := range list {
		sub := filepath.Join(name, e.Name())
		if info, err := os.Stat(sub); err != nil || !info.IsDir() {
			continue
		}
		before := len(o.dumps)
		if err := o.files(sub, e.Name()+"/", stated(e.Name())); err != nil {
			return err
		}
		found := o.dumps[before:]
		switch {
		case knownEcosystem(e.Name()) && len(found) == 0:
			o.dumps = append(o.dumps, &dump{name: e.Name(), ecosystem: e.Name(),
				err: fmt.Errorf("%w: the folder holds neither all.zip nor .json files", ErrNoAdvisories)})
		case !knownEcosystem(e.Name()):
			for _, d := range found {
				d.err = fmt.Errorf("%q is no ecosystem that OSV knows: name the folder as OSV does (Debian, Alpine, npm, PyPI, Go, …) or move it away", e.Name())
			}
		}
	}
	return nil
}

// files takes the dumps that lie in one folder itself. Where there is an all.zip, single
// files beside it say the same once more, as in OSV's own bucket.
func (o *opener) files(folder, prefix, ecosystem string) error {
	list, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("open advisories: %w", err)
	}
	var loose []string
	whole := slices.ContainsFunc(list, func(e os.DirEntry) bool { return e.Name() == wholeDump })
	for _, e := range list {
		name := filepath.Join(folder, e.Name())
		ext := strings.ToLower(filepath.Ext(name))
		if ext != ".zip" && ext != ".json" && !isList(name) {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return fmt.Errorf("open advisories: %w", err)
		}
		switch {
		case !info.Mode().IsRegular():
		case isList(name):
			o.lists = append(o.lists, name)
		case ext == ".zip":
			o.zipFile(name, prefix+e.Name(), ecosystem)
		case !whole && e.Name() != kevSchema:
			loose = append(loose, name)
		}
	}
	if len(loose) > 0 {
		o.loose(cmp.Or(strings.TrimSuffix(prefix, "/"), filepath.Base(absolute(folder))), ecosystem, loose)
	}
	return o.ctx.Err()
}

// loose makes one dump of single .json files.
func (o *opener) loose(shown, ecosystem string, names []string) {
	d := &dump{name: shown, ecosystem: ecosystem}
	o.dumps = append(o.dumps, d)
	if len(names) > maxEntries {
		d.err = fmt.Errorf("%d files are more than %d", len(names), maxEntries)
		return
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			d.err = err
			return
		}
		d.entries = append(d.entries, entry{name: filepath.Base(name), size: info.Size(),
			open: func() (io.ReadCloser, error) { return os.Open(name) }})
	}
	d.hash = func() (string, error) { return hashEntries(o.ctx, d.entries) }
}

// wholeDump is the name under which OSV publishes all records of an ecosystem.
const wholeDump = "all.zip"

// zipFile opens a zip of records, or of all.zip files. A zip of another name does not claim
// to be all there is of the ecosystem that its folder is named for.
func (o *opener) zipFile(name, shown, folder string) {
	d := &dump{name: shown}
	if filepath.Base(name) == wholeDump {
		d.ecosystem = stated(folder)
	}
	f, err := os.Open(name)
	if err != nil {
		d.err = err
		o.dumps = append(o.dumps, d)
		return
	}
	if !o.zipReader(d, f) {
		f.Close()
	}
}

// zipReader takes a zip's records, or the zips inside it, and says whether a dump that
// is kept reads from f from now on.
func (o *opener) zipReader(d *dump, f *os.File) (kept bool) {
	z, err := readZip(o.ctx, f, d)
	if err != nil {
		d.err = err
		o.dumps = append(o.dumps, d)
		return false
	}
	for _, e := range z.File {
		if path.Base(e.Name) == wholeDump && path.Dir(e.Name) != "." {
			o.innerZip(d, e)
		}
	}
	if len(d.entries) == 0 && slices.ContainsFunc(o.dumps, func(x *dump) bool { return strings.HasPrefix(x.name, d.name+"!") }) {
		return false
	}
	if len(d.entries) == 0 {
		d.err = fmt.Errorf("%w: the zip holds no .json files", ErrNoAdvisories)
	}
	d.close = f.Close
	o.dumps = append(o.dumps, d)
	return true
}

// readZip opens f and lists the records in it.
func readZip(ctx context.Context, f *os.File, d *dump) (*zip.Reader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	z, err := zip.NewReader(f, info.Size())
	if err != nil {
		return nil, zipFault(f, info.Size(), err)
	}
	if len(z.File) > maxEntries {
		return nil, fmt.Errorf("%d entries are more than %d", len(z.File), maxEntries)
	}
	z.RegisterDecompressor(zip.Deflate, inflate)
	var total uint64
	seen := make(map[string]bool, len(z.File))
	for _, e := range z.File {
		name := strings.TrimSuffix(e.Name, "/")
		if !fs.ValidPath(name) || strings.Contains(name, `\`) {
			return nil, fmt.Errorf("entry %q: its name leaves the archive: this is no dump of OSV's", e.Name)
		}
		if !strings.HasSuffix(name, ".json") || !e.Mode().IsRegular() {
			continue
		}
		if seen[name] {
			return nil, fmt.Errorf("entry %q comes twice", e.Name)
		}
		seen[name] = true
		if total += e.UncompressedSize64; total > maxTotal || e.UncompressedSize64 > maxRecord {
			return nil, &RecordError{d.name, e.Name, fmt.Errorf("unpacks to %d bytes, %d in all so far: more than the bounds of %d and %d", e.UncompressedSize64, total, maxRecord, int64(maxTotal))}
		}
		d.entries = append(d.entries, entry{name: name, size: int64(e.UncompressedSize64), open: e.Open})
	}
	d.hash = func() (string, error) { return hashFile(ctx, f) }
	return z, nil
}

// zipFault says what is wrong with a file that does not open as a zip.
func zipFault(f io.ReaderAt, size int64, err error) error {
	var head [4]byte
	n, rerr := f.ReadAt(head[:], 0)
	switch {
	case rerr != nil && !errors.Is(rerr, io.EOF):
		return rerr
	case size == 0:
		return errors.New("the file is empty: fetch it again")
	case n == 4 && string(head[:]) == "PK\x03\x04":
		return fmt.Errorf("a zip that is cut off or damaged (%d bytes): fetch it again: %w", size, err)
	}
	return fmt.Errorf("no zip: it begins with %q: expected a dump as OSV exports it: %w", head[:n], err)
}

// innerZip spools a zip inside a zip to a temporary file, because a zip is read from its end.
func (o *opener) innerZip(outer *dump, e *zip.File) {
	folder := path.Base(path.Dir(e.Name))
	d := &dump{name: outer.name + "!" + e.Name, ecosystem: stated(folder)}
	fail := func(err error) { d.err = err; o.dumps = append(o.dumps, d) }
	switch {
	case d.ecosystem == "":
		fail(fmt.Errorf("%q is no ecosystem that OSV knows: expected <Ecosystem>/all.zip", folder))
		return
	case len(o.dumps) > maxParts:
		return
	}
	f, n, err := spool(o.ctx, e, maxInner-o.inner)
	if err != nil {
		fail(err)
		return
	}
	o.inner += n
	if _, err := readZip(o.ctx, f, d); err != nil {
		f.Close()
		fail(err)
		return
	}
	if len(d.entries) == 0 {
		d.err = fmt.Errorf("%w: the zip holds no .json files", ErrNoAdvisories)
	}
	d.close = f.Close
	o.dumps = append(o.dumps, d)
}

// spool unpacks at most limit bytes of e to a temporary file that is gone when it is closed.
func spool(ctx context.Context, e *zip.File, limit int64) (f *os.File, n int64, err error) {
	f, err = os.CreateTemp("", "pratique-advisories-*.zip")
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return nil, 0, err
	}
	r, err := e.Open()
	if err != nil {
		return nil, 0, err
	}
	defer r.Close()
	n, err = io.Copy(f, &contextReader{ctx, io.LimitReader(r, limit+1)})
	if err != nil {
		return nil, 0, fmt.Errorf("unpack %s: %w", e.Name, err)
	}
	if n > limit {
		return nil, 0, fmt.Errorf("the zips inside unpack to more than %d bytes", int64(maxInner))
	}
	return f, n, nil
}

// hashFile returns the SHA-256 of a file from its start.
func hashFile(ctx context.Context, f *os.File) (string, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, &contextReader{ctx, io.NewSectionReader(f, 0, 1<<62)}); err != nil {
		return "", fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// hashEntries returns the SHA-256 of all entries with their names and lengths.
func hashEntries(ctx context.Context, entries []entry) (string, error) {
	sum := sha256.New()
	for _, e := range entries {
		r, err := e.open()
		if err != nil {
			return "", err
		}
		n, err := io.Copy(sum, &contextReader{ctx, io.LimitReader(r, maxRecord+1)})
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return "", fmt.Errorf("read %s: %w", e.name, err)
		}
		fmt.Fprintf(sum, "\x00%s\x00%d\x00", e.name, n)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// contextReader ends when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// inflaters keeps decompressors, which are large, between entries.
var inflaters = sync.Pool{New: func() any { return flate.NewReader(nil) }}

type inflater struct {
	r io.ReadCloser
}

// inflate is a zip.Decompressor over pooled readers.
func inflate(r io.Reader) io.ReadCloser {
	f := inflaters.Get().(io.ReadCloser)
	if rs, ok := f.(flate.Resetter); !ok || rs.Reset(r, nil) != nil {
		f = flate.NewReader(r)
	}
	return &inflater{f}
}

func (i *inflater) Read(p []byte) (int, error) {
	if i.r == nil {
		return 0, fs.ErrClosed
	}
	return i.r.Read(p)
}

func (i *inflater) Close() error {
	if i.r == nil {
		return nil
	}
	err := i.r.Close()
	inflaters.Put(i.r)
	i.r = nil
	return err
}

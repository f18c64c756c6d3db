package fileblob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/oci"
)

// memDisk is a disk that can lose power. It keeps apart what is seen while it runs and
// what was synced; crash keeps of the rest whatever chance wants. It promises no more
// than POSIX does: fsync of a file keeps its bytes and not its name, fsync of a folder
// keeps its names.
type memDisk struct {
	files   map[string]*node // what is seen: regular files
	dirs    map[string]bool
	pending []change         // names that no fsync of their folder has kept yet, in order
	stable  map[string]*node // what is kept
	kept    map[string]bool  // folders that are kept
	left    int              // operations until the power goes; negative: it stays
}

// node is a file's content as it is seen and as it was last synced.
type node struct{ now, synced []byte }

// change is a change of names: a folder made, a file made, removed or renamed.
type change struct {
	dir, from, to string
	node          *node
}

var errPower = &fs.PathError{Op: "power", Path: "disk", Err: syscall.EIO}

func newMemDisk() *memDisk {
	return &memDisk{files: map[string]*node{}, dirs: map[string]bool{".": true},
		stable: map[string]*node{}, kept: map[string]bool{".": true}, left: -1}
}

// step takes one operation; from when the power is gone all fail.
func (d *memDisk) step() error {
	if d.left == 0 {
		return errPower
	}
	d.left--
	return nil
}

func notExist(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

func (d *memDisk) OpenFile(name string, flag int, _ fs.FileMode) (file, error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	if d.dirs[name] {
		return &memFile{disk: d, name: name}, nil
	}
	n := d.files[name]
	if n == nil {
		if flag&os.O_CREATE == 0 || !d.dirs[path.Dir(name)] {
			return nil, notExist("open", name)
		}
		n = &node{}
		d.files[name] = n
		d.pending = append(d.pending, change{to: name, node: n})
	}
	if flag&os.O_TRUNC != 0 {
		n.now = nil
	}
	return &memFile{disk: d, name: name, node: n}, nil
}

func (d *memDisk) MkdirAll(name string, _ fs.FileMode) error {
	if err := d.step(); err != nil {
		return err
	}
	var missing []string
	for dir := name; !d.dirs[dir]; dir = path.Dir(dir) {
		missing = append(missing, dir)
	}
	for _, dir := range slices.Backward(missing) {
		d.dirs[dir] = true
		d.pending = append(d.pending, change{dir: dir})
	}
	return nil
}

func (d *memDisk) Rename(from, to string) error {
	if err := d.step(); err != nil {
		return err
	}
	n := d.files[from]
	if n == nil || !d.dirs[path.Dir(to)] {
		return notExist("rename", from)
	}
	delete(d.files, from)
	d.files[to] = n
	d.pending = append(d.pending, change{from: from, to: to, node: n})
	return nil
}

func (d *memDisk) Remove(name string) error {
	if err := d.step(); err != nil {
		return err
	}
	if d.files[name] == nil {
		return notExist("remove", name)
	}
	delete(d.files, name)
	d.pending = append(d.pending, change{from: name})
	return nil
}

func (d *memDisk) Stat(name string) (fs.FileInfo, error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	return fs.Stat(d.FS(), name)
}

func (d *memDisk) FS() fs.FS {
	m := fstest.MapFS{}
	for name := range d.dirs {
		m[name] = &fstest.MapFile{Mode: fs.ModeDir | 0o700}
	}
	for name, n := range d.files {
		m[name] = &fstest.MapFile{Data: n.now, Mode: 0o600}
	}
	return m
}

func (d *memDisk) Close() error { return nil }

// keep makes a change of names last.
func (d *memDisk) keep(c change) {
	if c.dir != "" {
		d.kept[c.dir] = true
		return
	}
	delete(d.stable, c.from)
	if c.to != "" {
		d.stable[c.to] = c.node
	}
}

// syncNames keeps the changes in one folder. A rename between folders is kept by
// either's fsync, whole; what came before it in the same names is kept with it.
func (d *memDisk) syncNames(dir string) {
	var rest []change
	for _, c := range d.pending {
		if c.dir != "" && path.Dir(c.dir) == dir || c.from != "" && path.Dir(c.from) == dir || c.to != "" && path.Dir(c.to) == dir {
			d.keep(c)
		} else {
			rest = append(rest, c)
		}
	}
	d.pending = rest
}

// crash gives what a start after the power cut finds: each unsynced change of names was
// kept or not; of bytes that were not synced, pages hold what was written, what was there
// before, or nothing.
func (d *memDisk) crash(r *rand.Rand) *memDisk {
	for _, c := range d.pending {
		if r.IntN(2) == 0 {
			d.keep(c)
		}
	}
	next := newMemDisk()
	next.dirs, next.kept = maps.Clone(d.kept), maps.Clone(d.kept)
	for name, n := range d.stable {
		if !reachable(d.kept, path.Dir(name)) {
			continue
		}
		left := n.torn(r)
		next.files[name] = &node{left, bytes.Clone(left)}
		next.stable[name] = next.files[name]
	}
	maps.DeleteFunc(next.dirs, func(dir string, _ bool) bool { return !reachable(d.kept, dir) })
	next.kept = maps.Clone(next.dirs)
	return next
}

func reachable(kept map[string]bool, dir string) bool {
	for ; dir != "."; dir = path.Dir(dir) {
		if !kept[dir] {
			return false
		}
	}
	return true
}

// torn is what may be left of a file's bytes.
func (n *node) torn(r *rand.Rand) []byte {
	size := len(n.synced)
	if len(n.now) != size && r.IntN(2) == 0 {
		size = len(n.now)
	}
	const page = 512
	out := make([]byte, size)
	for at := 0; at < size; at += page {
		to := min(at+page, size)
		same := to <= len(n.synced) && to <= len(n.now) && bytes.Equal(n.now[at:to], n.synced[at:to])
		switch from := r.IntN(3); {
		case same || from == 0:
			copy(out[at:to], n.synced[min(at, len(n.synced)):])
		case from == 1:
			copy(out[at:to], n.now[min(at, len(n.now)):])
		}
		// Bytes that were synced and not written since stay, whatever page they share.
		for i := at; i < min(to, len(n.synced), len(n.now)) && n.synced[i] == n.now[i]; i++ {
			out[i] = n.synced[i]
		}
	}
	return out
}

// memFile is an open file or folder of a memDisk.
type memFile struct {
	disk *memDisk
	name string
	node *node // nil: a folder
	at   int64
}

func (f *memFile) Write(p []byte) (int, error) {
	if err := f.disk.step(); err != nil {
		return 0, err
	}
	f.node.now = append(f.node.now[:f.at:f.at], p...)
	f.at += int64(len(p))
	return len(p), nil
}

func (f *memFile) Read(p []byte) (int, error) {
	if err := f.disk.step(); err != nil {
		return 0, err
	}
	if f.at >= int64(len(f.node.now)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.now[f.at:])
	f.at += int64(n)
	return n, nil
}

func (f *memFile) Seek(offset int64, _ int) (int64, error) {
	f.at = offset // the store seeks from the start alone
	return offset, f.disk.step()
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	if err := f.disk.step(); err != nil {
		return nil, err
	}
	return fs.Stat(fstest.MapFS{"f": {Data: f.node.now}}, "f")
}

func (f *memFile) Truncate(size int64) error {
	if err := f.disk.step(); err != nil {
		return err
	}
	f.node.now = bytes.Clone(f.node.now[:size])
	return nil
}

func (f *memFile) Sync() error {
	if err := f.disk.step(); err != nil {
		return err
	}
	if f.node == nil {
		f.disk.syncNames(f.name)
		return nil
	}
	f.node.synced = bytes.Clone(f.node.now)
	return nil
}

func (f *memFile) Close() error { return f.disk.step() }

// promise is what a store owes for an upload.
type promise struct {
	up    blob.Upload
	body  []byte // all of it
	size  int    // of it written
	state []byte // of the last Save
	saved int    // bytes that it promised
}

// powerModel is a store on a disk that loses power, and what the store has promised.
type powerModel struct {
	disk    *memDisk
	store   *Store
	uploads []*promise
	blobs   map[oci.Digest]bool // committed and not deleted
	record  []string            // what the record may hold: the last content kept, and one under way
}

func startPower(d *memDisk) (*powerModel, error) {
	s, err := newStore(d, "disk")
	return &powerModel{disk: d, store: s, blobs: map[oci.Digest]bool{}, record: []string{""}}, err
}

func (m *powerModel) begin(t *rapid.T) error {
	seed := rapid.Uint64Range(1, 6).Draw(t, "content")
	r := rand.New(rand.NewPCG(seed, 0))
	p := &promise{body: make([]byte, r.IntN(6000))}
	for i := range p.body {
		p.body[i] = byte(r.Uint32()) | 1 // never 0, which is what a torn page holds
	}
	var err error
	if p.up, err = m.store.Begin(context.Background(), oci.SHA256); err == nil {
		m.uploads = append(m.uploads, p)
	}
	return err
}

// one does one thing to an upload, or deletes a blob.
func (m *powerModel) one(t *rapid.T) error {
	ctx := context.Background()
	if len(m.uploads) == 0 {
		return m.begin(t)
	}
	i := rapid.IntRange(0, len(m.uploads)-1).Draw(t, "upload")
	p := m.uploads[i]
	switch rapid.SampledFrom([]string{"begin", "write", "write", "save", "resume", "commit", "commit", "abort", "delete", "keep", "bulk"}).Draw(t, "do") {
	case "begin":
		return m.begin(t)
	case "write":
		n := rapid.IntRange(0, len(p.body)-p.size).Draw(t, "bytes")
		got, err := p.up.Write(p.body[p.size : p.size+n])
		p.size += got
		return err
	case "save":
		state, err := p.up.Save(ctx)
		if err == nil {
			p.state, p.saved = state, p.size
		}
		return err
	case "resume":
		return m.resume(p)
	case "commit":
		return m.commit(i)
	case "abort":
		m.uploads = slices.Delete(m.uploads, i, i+1)
		return p.up.Abort(ctx)
	case "bulk":
		var all []blob.Whole
		for range rapid.IntRange(1, 4).Draw(t, "blobs") {
			content := bytes.Repeat([]byte{rapid.Byte().Draw(t, "of") | 1}, 5000)
			all = append(all, blob.Whole{Digest: oci.DigestOf(oci.SHA256, content), Content: content})
		}
		if err := m.store.PutAll(ctx, all); err != nil {
			return err
		}
		for _, w := range all {
			m.blobs[w.Digest] = true
		}
	case "keep":
		next := strings.Repeat("x", 1+len(m.record[0]))
		m.record = []string{m.record[0], next}
		if err := m.store.Keep(ctx, "record", []byte(next)); err != nil {
			return err
		}
		m.record = []string{next}
	case "delete":
		if len(m.blobs) > 0 {
			d := slices.MinFunc(slices.Collect(maps.Keys(m.blobs)), func(a, b oci.Digest) int { return strings.Compare(a.Hex(), b.Hex()) })
			delete(m.blobs, d)
			return m.store.Delete(ctx, d)
		}
	}
	return nil
}

func (m *powerModel) resume(p *promise) error {
	if p.state == nil {
		return nil
	}
	if err := p.up.(*upload).rest(); err != nil {
		return err
	}
	up, err := m.store.Resume(context.Background(), p.state)
	if err == nil {
		p.up, p.size = up, p.saved
	}
	return err
}

// commit ends an upload with what it lacks.
func (m *powerModel) commit(i int) error {
	p := m.uploads[i]
	if err := writeAll(p.up, p.body[p.size:]); err != nil {
		return err
	}
	// While the rename is under way the upload may be found under either name.
	m.uploads = slices.Delete(m.uploads, i, i+1)
	d := oci.DigestOf(oci.SHA256, p.body)
	if err := p.up.Commit(context.Background(), d); err != nil {
		return err
	}
	m.blobs[d] = true
	return nil
}

// owed checks what is left after a power cut against what was promised.
func (m *powerModel) owed(disk *memDisk) error {
	s, err := newStore(disk, "disk")
	if err != nil {
		return fmt.Errorf("the next start: %w", err)
	}
	seen := map[oci.Digest]bool{}
	for d, err := range s.List(context.Background()) {
		if err != nil {
			return err
		}
		seen[d] = true
		if b, err := read(s, d, 0); err != nil || oci.DigestOf(oci.SHA256, b) != d {
			return fmt.Errorf("%s is visible and torn: %d bytes, %w", d.Short(), len(b), err)
		}
	}
	for d := range m.blobs {
		if !seen[d] {
			return fmt.Errorf("%s was committed and is gone", d.Short())
		}
	}
	got, err := s.Record(context.Background(), "record")
	if err != nil && !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	if !slices.Contains(m.record, string(got)) {
		return fmt.Errorf("the record holds %q, and %q was kept", got, m.record)
	}
	for _, p := range m.uploads {
		if p.saved == 0 {
			continue // without a byte nothing is lost
		}
		up, err := s.Resume(context.Background(), p.state)
		if err != nil {
			return fmt.Errorf("%d bytes were saved and cannot be resumed: %w", p.saved, err)
		}
		if err := errors.Join(writeAll(up, p.body[p.saved:]), up.Commit(context.Background(), oci.DigestOf(oci.SHA256, p.body))); err != nil {
			return fmt.Errorf("resumed after %d bytes: %w", p.saved, err)
		}
		if b, err := read(s, oci.DigestOf(oci.SHA256, p.body), 0); err != nil || !bytes.Equal(b, p.body) {
			return fmt.Errorf("resumed after %d bytes, it came back otherwise: %w", p.saved, err)
		}
	}
	return nil
}

// TestPowerLoss: whenever the power goes, also within an operation, what Commit and Save
// had promised is there, and nothing torn is visible.
func TestPowerLoss(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		disk := newMemDisk()
		m, err := startPower(disk)
		if err != nil {
			t.Fatal(err)
		}
		disk.left = rapid.IntRange(0, 120).Draw(t, "operations until the power goes")
		for err == nil {
			err = m.one(t)
		}
		if !errors.Is(err, errPower) {
			t.Fatalf("an operation with power: %v", err)
		}
		seed := rapid.Uint64().Draw(t, "what is left")
		if err := m.owed(disk.crash(rand.New(rand.NewPCG(seed, 0)))); err != nil {
			t.Fatal(err)
		}
	})
}

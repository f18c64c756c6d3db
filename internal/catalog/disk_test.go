package catalog_test

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// disk lies between SQLite and its files. It can let an operation go wrong, and keeps
// what was synced apart from what was only written, to say what a power cut leaves.
type disk struct {
	vfs.VFSFilename

	mu    sync.Mutex
	n     int              // operations that change something
	at    int              // the one that goes wrong; 0: none
	stuck bool             // and all after it
	full  bool             // as on a full disk
	hits  int              // operations that went wrong
	files map[string]*page // by path
}

// page is a file's bytes as they were last synced, and what was done since.
type page struct {
	synced  []byte
	pending []edit
}

// edit is a write, or where body is nil a change of size.
type edit struct {
	off  int64
	body []byte
}

func (e edit) apply(b []byte) []byte {
	end := int(e.off) + len(e.body)
	if e.body == nil {
		if end <= len(b) {
			return b[:end]
		}
		return append(b, make([]byte, end-len(b))...)
	}
	if end > len(b) {
		b = append(b, make([]byte, end-len(b))...)
	}
	copy(b[e.off:], e.body)
	return b
}

// newDisk is a disk registered under the test's name until its end.
func newDisk(t *testing.T) (d *disk, name string) {
	t.Helper()
	d = &disk{VFSFilename: vfs.Find("os").(vfs.VFSFilename), files: map[string]*page{}}
	name = "disk" + t.Name()
	vfs.Register(name, d)
	t.Cleanup(func() { vfs.Unregister(name) })
	return d, name
}

// forget leaves the files of a run behind.
func (d *disk) forget() {
	d.arm(0, false, false)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files = map[string]*page{}
}

// arm has the operation at go wrong, counted from now on.
func (d *disk) arm(at int, stuck, full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n, d.at, d.stuck, d.full, d.hits = 0, at, stuck, full, 0
}

func (d *disk) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	f, flags, err := d.VFSFilename.OpenFilename(name, flags)
	if err != nil || name == nil {
		return f, flags, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.files[name.String()]
	if p == nil {
		p = &page{}
		if p.synced, err = os.ReadFile(name.String()); err != nil {
			return nil, flags, err
		}
		d.files[name.String()] = p
	}
	return &diskFile{f, d, p}, flags, nil
}

// do counts an operation, and does it unless it is to go wrong.
func (d *disk) do(code error, op func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n++
	if d.at > 0 && (d.n == d.at || d.n > d.at && d.stuck) {
		d.hits++
		if d.full {
			return sqlite3.FULL
		}
		return code
	}
	return op()
}

// crash writes what a power cut leaves to a folder: what was synced, and of the rest
// whatever chance wants, down to parts of one write.
func (d *disk) crash(t *testing.T, r *rand.Rand, dir string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		p := d.files[name]
		left := bytes.Clone(p.synced)
		for _, e := range p.pending {
			switch r.IntN(3) {
			case 0:
				left = e.apply(left)
			case 1:
				if n := len(e.body) &^ 511; n > 0 {
					left = edit{e.off, e.body[:r.IntN(n/512+1)*512]}.apply(left)
				}
			}
		}
		ok(t, os.WriteFile(filepath.Join(dir, filepath.Base(name)), left, 0o600))
	}
}

// diskFile is an open file of a disk.
type diskFile struct {
	vfs.File
	disk *disk
	page *page
}

func (f *diskFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.disk.do(sqlite3.IOERR_WRITE, func() error {
		f.page.pending = append(f.page.pending, edit{off, bytes.Clone(p)})
		n, err = f.File.WriteAt(p, off)
		return err
	})
	return n, err
}

func (f *diskFile) Truncate(size int64) error {
	return f.disk.do(sqlite3.IOERR_TRUNCATE, func() error {
		f.page.pending = append(f.page.pending, edit{off: size})
		return f.File.Truncate(size)
	})
}

func (f *diskFile) Sync(flags vfs.SyncFlag) error {
	return f.disk.do(sqlite3.IOERR_FSYNC, func() error {
		for _, e := range f.page.pending {
			f.page.synced = e.apply(f.page.synced)
		}
		f.page.pending = nil
		return nil // no test reads what the real disk would keep
	})
}

// SharedMemory is the write-ahead log's index, which is not kept on a disk.
func (f *diskFile) SharedMemory() vfs.SharedMemory {
	return f.File.(vfs.FileSharedMemory).SharedMemory()
}

package fileblob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/oci"
)

// fault says which operation of a faultDisk goes wrong, and how.
type fault struct {
	at    int  // the operation's number, from 1; 0: none
	stuck bool // all that follow go wrong too
	errno syscall.Errno
	late  bool // the operation is done, and then reported as failed
}

// faultDisk is a real folder whose operations are counted and can go wrong.
type faultDisk struct {
	folder
	mu    sync.Mutex
	n     int
	done  []string // what each operation was
	fault fault
	hits  int
}

// next counts an operation; fail is nil where it goes well, late where it is done nevertheless.
func (d *faultDisk) next(op string) (fail error, late bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n++
	d.done = append(d.done, op)
	if d.fault.at == 0 || d.n < d.fault.at || d.n > d.fault.at && !d.fault.stuck {
		return nil, false
	}
	d.hits++
	return &fs.PathError{Op: op, Path: "disk", Err: d.fault.errno}, d.fault.late
}

// arm sets the fault and begins to count anew.
func (d *faultDisk) arm(f fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault, d.n, d.done, d.hits = f, 0, nil, 0
}

func (d *faultDisk) OpenFile(name string, flag int, perm fs.FileMode) (file, error) {
	if fail, _ := d.next("open " + name); fail != nil {
		return nil, fail
	}
	f, err := d.folder.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultFile{f, d, name}, nil
}

func (d *faultDisk) MkdirAll(name string, perm fs.FileMode) error {
	return d.around("mkdir "+name, func() error { return d.folder.MkdirAll(name, perm) })
}

func (d *faultDisk) Rename(from, to string) error {
	return d.around("rename "+from, func() error { return d.folder.Rename(from, to) })
}

func (d *faultDisk) Remove(name string) error {
	return d.around("remove "+name, func() error { return d.folder.Remove(name) })
}

func (d *faultDisk) Stat(name string) (fs.FileInfo, error) {
	if fail, _ := d.next("stat " + name); fail != nil {
		return nil, fail
	}
	return d.folder.Stat(name)
}

func (d *faultDisk) around(op string, do func() error) error {
	fail, late := d.next(op)
	if fail != nil && !late {
		return fail
	}
	return errors.Join(do(), fail)
}

// faultFile is an open file of a faultDisk.
type faultFile struct {
	file
	disk *faultDisk
	name string
}

// Write goes wrong as disks do: half of it may have been written.
func (f *faultFile) Write(p []byte) (int, error) {
	fail, late := f.disk.next("write " + f.name)
	if fail == nil {
		return f.file.Write(p)
	}
	if !late {
		return 0, fail
	}
	n, err := f.file.Write(p[:len(p)/2])
	return n, errors.Join(fail, err)
}

func (f *faultFile) Read(p []byte) (int, error) {
	if fail, _ := f.disk.next("read " + f.name); fail != nil {
		return 0, fail
	}
	return f.file.Read(p)
}

func (f *faultFile) Seek(offset int64, whence int) (int64, error) {
	if fail, _ := f.disk.next("seek " + f.name); fail != nil {
		return 0, fail
	}
	return f.file.Seek(offset, whence)
}

func (f *faultFile) Stat() (fs.FileInfo, error) {
	if fail, _ := f.disk.next("fstat " + f.name); fail != nil {
		return nil, fail
	}
	return f.file.Stat()
}

func (f *faultFile) Truncate(size int64) error {
	return f.disk.around("truncate "+f.name, func() error { return f.file.Truncate(size) })
}

// Sync waits for no disk: what a power cut leaves is for TestPowerLoss.
func (f *faultFile) Sync() error {
	fail, _ := f.disk.next("sync " + f.name)
	return fail
}

// Close always closes: the kernel gives the descriptor back also with an error.
func (f *faultFile) Close() error {
	fail, _ := f.disk.next("close " + f.name)
	return errors.Join(f.file.Close(), fail)
}

// sample is what the scenario pushes; two blobs by both algorithms.
var (
	sample  = bytes.Repeat([]byte("whole or absent; "), 500)
	sample2 = bytes.Repeat([]byte("never torn; "), 300)
)

// scenario goes through every operation of a store once. It ends at the first error, and
// returns the blobs whose Commit had returned nil.
func scenario(s *Store) (kept map[oci.Digest][]byte, err error) {
	ctx, kept := context.Background(), map[oci.Digest][]byte{}
	u, err := s.Begin(ctx, oci.SHA256)
	if err != nil {
		return kept, err
	}
	// As the registry does: an upload that went wrong is aborted. Commit does so itself.
	committing := false
	defer func() {
		if err != nil && !committing {
			err = errors.Join(err, u.Abort(ctx))
		}
	}()
	if err := writeAll(u, sample[:3000]); err != nil {
		return kept, err
	}
	state, err := u.Save(ctx)
	if err != nil {
		return kept, err
	}
	if err := writeAll(u, []byte("not saved")); err != nil {
		return kept, err
	}
	if err := u.(*upload).rest(); err != nil { // another request's upload value ends
		return kept, err
	}
	if u, err = resume(s, u, state); err != nil {
		return kept, err
	}
	if err := writeAll(u, sample[3000:]); err != nil {
		return kept, err
	}
	d := oci.DigestOf(oci.SHA256, sample)
	committing = true
	if err := u.Commit(ctx, d); err != nil {
		return kept, err
	}
	kept[d] = sample
	if err := second(s, kept); err != nil {
		return kept, err
	}
	if err := bulk(s, kept); err != nil {
		return kept, err
	}
	return kept, records(s)
}

// bulk puts three blobs at once, one of them twice.
func bulk(s *Store, kept map[oci.Digest][]byte) error {
	var all []blob.Whole
	for _, content := range []string{"one", "two", "one", ""} {
		all = append(all, blob.Whole{Digest: oci.DigestOf(oci.SHA256, []byte(content)), Content: []byte(content)})
	}
	if err := s.PutAll(context.Background(), all); err != nil {
		return err
	}
	for _, w := range all {
		kept[w.Digest] = w.Content
	}
	return nil
}

// records keeps a record in place of another, reads it and forgets it.
func records(s *Store) error {
	ctx := context.Background()
	for _, content := range []string{"old", "new"} {
		if err := s.Keep(ctx, "record", []byte(content)); err != nil {
			return err
		}
	}
	got, err := s.Record(ctx, "record")
	if err != nil {
		return err
	}
	if string(got) != "new" {
		return fmt.Errorf("the record came back as %q", got)
	}
	return s.Forget(ctx, "record")
}

// resume is Store.Resume that leaves the old value where it fails, for the abort.
func resume(s *Store, old blob.Upload, state []byte) (blob.Upload, error) {
	u, err := s.Resume(context.Background(), state)
	if err != nil {
		return old, err
	}
	return u, nil
}

// second pushes a blob under a digest of the other algorithm, reads both back and
// deletes the first.
func second(s *Store, kept map[oci.Digest][]byte) error {
	ctx := context.Background()
	u, err := s.Begin(ctx, oci.SHA256)
	if err != nil {
		return err
	}
	if err := writeAll(u, sample2); err != nil {
		return errors.Join(err, u.Abort(ctx))
	}
	d2 := oci.DigestOf(oci.SHA512, sample2)
	if err := u.Commit(ctx, d2); err != nil {
		return err
	}
	kept[d2] = sample2
	for d, want := range kept {
		if n, err := s.Stat(ctx, d); err != nil || n != int64(len(want)) {
			return errors.Join(err, fmt.Errorf("%s has %d bytes", d, n))
		}
		got, err := read(s, d, 5)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want[5:]) {
			return fmt.Errorf("%s came back otherwise", d)
		}
	}
	for d := range kept {
		delete(kept, d) // gone or not, if it goes wrong
		if err := s.Delete(ctx, d); err != nil {
			return err
		}
		break
	}
	return nil
}

func writeAll(u blob.Upload, p []byte) error {
	for len(p) > 0 {
		n, err := u.Write(p[:min(len(p), 2048)])
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func read(s *Store, d oci.Digest, offset int64) ([]byte, error) {
	r, err := s.Open(context.Background(), d, offset)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

// faultStore is a store on a disk whose faults begin after New.
func faultStore(t *testing.T, f fault) (*Store, *faultDisk, string) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := &faultDisk{folder: folder{root}}
	s, err := newStore(d, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	d.arm(f)
	return s, d, dir
}

// TestFaults lets every file operation of the scenario go wrong in turn, in every way.
func TestFaults(t *testing.T) {
	s, d, _ := faultStore(t, fault{})
	if _, err := scenario(s); err != nil {
		t.Fatal(err)
	}
	operations := slices.Clone(d.done)
	if len(operations) < 30 {
		t.Fatalf("the scenario has but %d operations: %q", len(operations), operations)
	}
	for _, f := range []fault{
		{errno: syscall.EIO}, {errno: syscall.EIO, stuck: true}, {errno: syscall.EIO, late: true}, {errno: syscall.ENOSPC, late: true},
	} {
		for i, op := range operations {
			f.at = i + 1
			failAt(t, f, op)
		}
	}
}

// failAt runs the scenario with one fault and looks at what it leaves behind.
func failAt(t *testing.T, f fault, op string) {
	t.Helper()
	s, d, dir := faultStore(t, f)
	what := fmt.Sprintf("operation %d (%s), %v, late %v, stuck %v", f.at, op, f.errno, f.late, f.stuck)
	kept, err := scenario(s)
	if d.hits == 0 {
		t.Fatalf("%s: never came", what)
	}
	if err == nil {
		t.Errorf("%s: no error", what)
	}
	if err != nil && !errors.Is(err, f.errno) {
		t.Errorf("%s: the error does not say why: %v", what, err)
	}
	if f.errno == syscall.ENOSPC && strings.HasPrefix(op, "write") && !errors.Is(err, blob.ErrNoSpace) {
		t.Errorf("%s: %v is not ErrNoSpace", what, err)
	}
	d.arm(fault{})
	whole(t, what, s, kept)
	if left, err := fs.Glob(os.DirFS(dir), journalDir+"/"+unfinished+"*"); err != nil || len(left) > 0 && !f.stuck && !strings.HasPrefix(op, "remove") {
		t.Errorf("%s: half a record is left: %v, %v", what, left, err)
	}
	if _, err := scenario(s); err != nil {
		t.Errorf("%s: the retry: %v", what, err)
	}
	if _, err := s.Sweep(context.Background(), func(string) bool { return false }, time.Now().Add(time.Hour)); err != nil {
		t.Errorf("%s: sweep: %v", what, err)
	}
	if left, err := fs.ReadDir(os.DirFS(dir), uploadsDir); err != nil || len(left) > 0 {
		t.Errorf("%s: after a sweep there are %v, %v", what, left, err)
	}
	if left, err := s.Names(context.Background()); err != nil || len(left) > 0 {
		t.Errorf("%s: records %v, %v", what, left, err)
	}
	if len(s.feeds) > 0 {
		t.Errorf("%s: %d uploads are still followed", what, len(s.feeds))
	}
	whole(t, what, s, nil)
}

// whole checks that every blob that can be seen has its content, and all of kept are there.
func whole(t *testing.T, what string, s *Store, kept map[oci.Digest][]byte) {
	t.Helper()
	seen := map[oci.Digest]bool{}
	for d, err := range s.List(context.Background()) {
		if err != nil {
			t.Errorf("%s: list: %v", what, err)
			return
		}
		seen[d] = true
		if b, err := read(s, d, 0); err != nil || oci.DigestOf(d.Algorithm(), b) != d {
			t.Errorf("%s: %s is visible and torn: %d bytes, %v", what, d.Short(), len(b), err)
		}
	}
	for d := range kept {
		if !seen[d] {
			t.Errorf("%s: %s was committed and is gone", what, d.Short())
		}
	}
}

// TestFaultyStart lets every operation of New go wrong.
func TestFaultyStart(t *testing.T) {
	for at := 1; ; at++ {
		dir := t.TempDir()
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		d := &faultDisk{folder: folder{root}, fault: fault{at: at, errno: syscall.EIO}}
		s, err := newStore(d, dir)
		if d.hits == 0 {
			if err != nil || at < 10 {
				t.Fatalf("New with %d operations: %v", d.n, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			return
		}
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("operation %d (%s): New = %v", at, d.done[at-1], err)
		}
		if s, err = New(dir); err != nil {
			t.Fatalf("operation %d: the next New: %v", at, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestNoSecondSync: after an fsync that failed nobody knows what reached the disk, and a
// second one would say that all is well (the kernel has dropped the pages). Such an
// upload can only be given up.
func TestNoSecondSync(t *testing.T) {
	ctx := context.Background()
	for name, try := range map[string]func(blob.Upload) error{
		"Save":   func(u blob.Upload) error { _, err := u.Save(ctx); return err },
		"Commit": func(u blob.Upload) error { return u.Commit(ctx, oci.DigestOf(oci.SHA256, sample)) },
		"Write":  func(u blob.Upload) error { return writeAll(u, sample) },
	} {
		s, d, _ := faultStore(t, fault{})
		u, err := s.Begin(ctx, oci.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeAll(u, sample); err != nil {
			t.Fatal(err)
		}
		d.arm(fault{at: 1, errno: syscall.EIO})
		if _, err := u.Save(ctx); !errors.Is(err, syscall.EIO) || !strings.HasPrefix(d.done[0], "sync") {
			t.Fatalf("Save = %v after %q", err, d.done)
		}
		if err := try(u); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s after a failed fsync = %v, want that failure", name, err)
		}
		if err := u.Abort(ctx); err != nil {
			t.Error(err)
		}
		whole(t, name, s, nil)
	}
}

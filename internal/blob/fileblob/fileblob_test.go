package fileblob_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/blob/blobtest"
	"pratique.dev/pratique/internal/blob/fileblob"
	"pratique.dev/pratique/internal/oci"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var bg = context.Background()

func open(t *testing.T, dir string) *fileblob.Store {
	t.Helper()
	s, err := fileblob.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	fresh := func(t *testing.T) blobtest.Pair {
		dir := t.TempDir()
		return blobtest.Pair{Store: open(t, dir), Other: open(t, dir)}
	}
	blobtest.Run(t, fresh)
	blobtest.RunFollow(t, fresh)
}

// files lists the regular files under dir, relative to it.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all = append(all, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestLayout(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	u, err := s.Begin(bg, oci.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got) != 1 || !strings.HasPrefix(got[0], "uploads/") {
		t.Errorf("an upload under way: files %v, want one under uploads", got)
	}
	d := oci.DigestOf(oci.SHA256, []byte("hello"))
	if err := u.Commit(bg, d); err != nil {
		t.Fatal(err)
	}
	want := "blobs/sha256/2c/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	if got := files(t, dir); len(got) != 1 || got[0] != want {
		t.Errorf("after Commit: files %v, want only %s", got, want)
	}
	r, err := s.Open(bg, d, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := r.(*os.File); !ok {
		t.Errorf("Open returns %T, want *os.File for sendfile", r)
	}
	if b, err := io.ReadAll(r); string(b) != "llo" || err != nil {
		t.Errorf("read at 2: %q, %v", b, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestMismatchLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	u, err := s.Begin(bg, oci.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(bytes.Repeat([]byte("x"), 100_000)); err != nil {
		t.Fatal(err)
	}
	if err := u.Commit(bg, oci.DigestOf(oci.SHA256, nil)); !errors.Is(err, blob.ErrMismatch) {
		t.Fatalf("Commit = %v, want ErrMismatch", err)
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("files left: %v", got)
	}
}

func TestPutAll(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	good := blob.Whole{Digest: oci.DigestOf(oci.SHA512, []byte("good")), Content: []byte("good")}
	bad := blob.Whole{Digest: good.Digest, Content: []byte("bad")}
	for _, all := range [][]blob.Whole{{good, bad}, {good, {}}} {
		if err := s.PutAll(bg, all); !errors.Is(err, blob.ErrMismatch) {
			t.Errorf("PutAll = %v, want ErrMismatch", err)
		}
	}
	ended, end := context.WithCancel(bg)
	end()
	if err := s.PutAll(ended, []blob.Whole{good}); !errors.Is(err, context.Canceled) {
		t.Errorf("PutAll = %v, want that it was cancelled", err)
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("files left: %v", got)
	}
	if err := s.PutAll(bg, []blob.Whole{good}); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Stat(bg, good.Digest); n != 4 || err != nil {
		t.Errorf("Stat = %d, %v", n, err)
	}
	if err := s.PutAll(bg, nil); err != nil {
		t.Errorf("PutAll of nothing = %v", err)
	}
}

// TestDamagedBlobHeals: a push of a blob whose file the disk has damaged repairs it.
func TestDamagedBlobHeals(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	d := oci.DigestOf(oci.SHA256, []byte("hello"))
	push := func() {
		u, err := s.Begin(bg, oci.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := u.Commit(bg, d); err != nil {
			t.Fatal(err)
		}
	}
	push()
	name := filepath.Join(dir, "blobs/sha256", d.Hex()[:2], d.Hex())
	if err := os.WriteFile(name, []byte("hexlo"), 0o600); err != nil {
		t.Fatal(err)
	}
	push()
	if b, err := os.ReadFile(name); string(b) != "hello" || err != nil {
		t.Errorf("after the second push the file holds %q, %v", b, err)
	}
}

// TestLostTail: what Save promised is not there any more, as after a restore from a
// backup that missed it.
func TestLostTail(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	u, err := s.Begin(bg, oci.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	st, err := u.Save(bg)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, files(t, dir)[0]), 3); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resume(bg, st); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Resume of a shortened upload = %v, want ErrNotFound", err)
	}
}

func TestSymlinkDoesNotLeadOut(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	s := open(t, dir)
	d := oci.DigestOf(oci.SHA256, []byte("secret"))
	if err := os.WriteFile(filepath.Join(out, d.Hex()), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(out, filepath.Join(dir, "blobs/sha256", d.Hex()[:2])); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Open(bg, d, 0); err == nil {
		t.Error("Open follows a link out of the folder")
		_ = r.Close()
	}
}

func TestForeignFilesAreNotBlobs(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for _, name := range []string{"blobs/README", "blobs/sha256/x", "blobs/sha256/ab/short", "blobs/sha256/ab/" + strings.Repeat("cd", 32)} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for d, err := range s.List(bg) {
		t.Errorf("List yields %s, %v; want nothing", d, err)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	type identified interface{ ID() string }
	var ids []string
	var uploads []blob.Upload
	for range 4 {
		u, err := s.Begin(bg, oci.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = u.Abort(bg) })
		uploads, ids = append(uploads, u), append(ids, u.(identified).ID())
	}
	kept, orphan, writing, young := ids[0], ids[1], ids[2], ids[3]
	for i, u := range uploads {
		if _, err := u.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if ids[i] == writing {
			continue
		}
		if _, err := u.Save(bg); err != nil {
			t.Fatal(err)
		}
	}
	r, err := uploads[1].(blob.Follower).Follow(bg)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, id := range []string{kept, orphan, writing} {
		if err := os.Chtimes(filepath.Join(dir, "uploads", id), now.Add(-2*time.Hour), now.Add(-2*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	n, err := s.Sweep(bg, func(id string) bool { return id == kept }, now.Add(-time.Hour))
	if n != 1 || err != nil {
		t.Errorf("Sweep = %d, %v; want 1", n, err)
	}
	left := strings.Join(files(t, dir), " ")
	for _, id := range []string{kept, writing, young} {
		if !strings.Contains(left, id) {
			t.Errorf("Sweep removed %s; left %s", id, left)
		}
	}
	if strings.Contains(left, orphan) {
		t.Errorf("Sweep left %s", orphan)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, blob.ErrClosed) {
		t.Errorf("follower of a swept upload: %v, want ErrClosed", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestFileInTheWay(t *testing.T) {
	for _, name := range []string{"data", "data/blobs", "data/blobs/sha256", "data/uploads"} {
		dir := t.TempDir()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := fileblob.New(filepath.Join(dir, "data"))
		if err == nil || !strings.Contains(err.Error(), "a file stands where a folder is needed") || !strings.Contains(err.Error(), filepath.Join(dir, "data")) {
			t.Errorf("file at %s: New = %v; want an error that says so", name, err)
		}
	}
}

// asNobody runs f with the file system rights of a user who owns nothing, so that
// the test means something also when root runs it.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with its goroutine
		if err := syscall.Setfsuid(65534); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

func TestNoPermission(t *testing.T) {
	dir, err := os.MkdirTemp("", "fileblob")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o555); err != nil { //nolint:gosec // readable by all, on purpose
		t.Fatal(err)
	}
	asNobody(t, func() {
		_, err = fileblob.New(dir)
	})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "give the folder to the user") {
		t.Errorf("New of a folder without write permission = %v; want an error that says what to do", err)
	}
}

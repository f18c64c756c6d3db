package fileblob

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/oci"
)

// TestFullDisk writes an upload to the kernel's own full device.
func TestFullDisk(t *testing.T) {
	s, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	up, err := s.Begin(context.Background(), oci.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	u := up.(*upload)
	if err := u.file.Close(); err != nil {
		t.Fatal(err)
	}
	if u.file, err = os.OpenFile("/dev/full", os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	}
	if n, err := u.Write([]byte("x")); n != 0 || !errors.Is(err, blob.ErrNoSpace) {
		t.Errorf("Write to a full disk = %d, %v; want 0, ErrNoSpace", n, err)
	}
	if u.Size() != 0 {
		t.Errorf("Size = %d after a write that failed", u.Size())
	}
	if err := u.Abort(context.Background()); err != nil {
		t.Errorf("Abort = %v", err)
	}
}

func TestExplain(t *testing.T) {
	for _, tc := range []struct {
		errno syscall.Errno
		want  string
	}{
		{syscall.EROFS, "read-only"},
		{syscall.EACCES, "no permission"},
		{syscall.EDQUOT, blob.ErrNoSpace.Error()},
		{syscall.ENOTDIR, "a file stands"},
		{syscall.EIO, "input/output error"},
	} {
		err := explain(fmt.Errorf("op: %w", tc.errno))
		if !errors.Is(err, tc.errno) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("explain(%v) = %q; want it to say %q and wrap the cause", tc.errno, err, tc.want)
		}
	}
	if explain(nil) != nil {
		t.Error("explain(nil) is an error")
	}
}

// FuzzResume: the state of an upload comes back from a catalog that may be damaged, or
// another's; it names no file but an upload's.
func FuzzResume(f *testing.F) {
	s, err := New(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := s.Close(); err != nil {
			f.Error(err)
		}
	})
	u, err := s.Begin(context.Background(), oci.SHA256)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := u.Write([]byte("hello")); err != nil {
		f.Fatal(err)
	}
	state, err := u.Save(context.Background())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(state)
	f.Add([]byte(`{"id":"../blobs/sha256/2c","offset":0,"algorithm":"sha512","hash":""}`))
	f.Fuzz(func(t *testing.T, state []byte) {
		u, err := s.Resume(context.Background(), state)
		if err != nil {
			return
		}
		if u.(*upload).id != u.(*upload).feed.id || u.Size() < 0 || u.Size() > 5 {
			t.Fatalf("%q is resumed at %d", state, u.Size())
		}
		if err := u.(*upload).rest(); err != nil {
			t.Fatal(err)
		}
	})
}

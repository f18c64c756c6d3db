// Package blobtest holds every blob.Store to the contract that package blob states.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/oci"
)

// Pair is a Store and another value of it over the same content, as a second process
// would have it. A Store that lives in one process alone gives itself twice.
type Pair struct{ Store, Other blob.Store }

// Run holds the Stores that fresh makes, each empty, to the contract.
func Run(t *testing.T, fresh func(t *testing.T) Pair) {
	t.Helper()
	for _, tc := range []struct {
		name string
		test func(*testing.T, Pair)
	}{
		{"commit, stat, open", testCommit},
		{"ranges", testRanges},
		{"empty blob", testEmpty},
		{"what is not there", testMissing},
		{"wrong digest keeps nothing", testMismatch},
		{"sha512, begun with either algorithm", testAlgorithms},
		{"the same blob twice", testTwice},
		{"nothing is visible before commit", testInvisible},
		{"abort", testAbort},
		{"save and go on", testSaveOn},
		{"resume in another process", testResume},
		{"resume drops what was not saved", testResumeCuts},
		{"resume of what is no more", testResumeGone},
		{"broken state", testBrokenState},
		{"delete", testDelete},
		{"delete while open", testDeleteOpen},
		{"list", testList},
		{"age", testAge},
		{"set aside", testShelf},
		{"records", testRecords},
		{"cancelled context", testCancelled},
		{"many at once", testConcurrent},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, fresh(t)) })
	}
}

var bg = context.Background()

// content returns n reproducible bytes.
func content(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b) // never fails
	return b
}

func sum(b []byte) oci.Digest { return oci.DigestOf(oci.SHA256, b) }

func begin(t *testing.T, s blob.Store) blob.Upload {
	t.Helper()
	u, err := s.Begin(bg, oci.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.Abort(bg); err != nil {
			t.Errorf("Abort at the end: %v", err)
		}
	})
	return u
}

func write(t *testing.T, u blob.Upload, b []byte) {
	t.Helper()
	if n, err := u.Write(b); n != len(b) || err != nil {
		t.Fatalf("Write of %d bytes = %d, %v", len(b), n, err)
	}
}

func commit(t *testing.T, u blob.Upload, d oci.Digest) {
	t.Helper()
	if err := u.Commit(bg, d); err != nil {
		t.Fatal(err)
	}
}

func save(t *testing.T, u blob.Upload) []byte {
	t.Helper()
	st, err := u.Save(bg)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// put stores b under its SHA-256.
func put(t *testing.T, s blob.Store, b []byte) oci.Digest {
	t.Helper()
	u := begin(t, s)
	write(t, u, b)
	commit(t, u, sum(b))
	return sum(b)
}

func read(t *testing.T, s blob.Store, d oci.Digest, offset int64) []byte {
	t.Helper()
	r, err := s.Open(bg, d, offset)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

func wantAbsent(t *testing.T, s blob.Store, d oci.Digest) {
	t.Helper()
	if _, err := s.Stat(bg, d); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Stat = %v, want ErrNotFound", err)
	}
	if r, err := s.Open(bg, d, 0); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Open = %v, want ErrNotFound", err)
		if err == nil {
			_ = r.Close()
		}
	}
	if n := len(list(t, s)); n != 0 {
		t.Errorf("List yields %d blobs, want none", n)
	}
}

func list(t *testing.T, s blob.Store) map[oci.Digest]bool {
	t.Helper()
	all := map[oci.Digest]bool{}
	for d, err := range s.List(bg) {
		if err != nil {
			t.Fatal(err)
		}
		if all[d] {
			t.Errorf("List yields %s twice", d)
		}
		all[d] = true
	}
	return all
}

func testCommit(t *testing.T, p Pair) {
	b := content(3<<20+17, 1)
	u := begin(t, p.Store)
	for rest := b; len(rest) > 0; {
		n := min(len(rest), 100_001)
		write(t, u, rest[:n])
		rest = rest[n:]
	}
	if u.Size() != int64(len(b)) {
		t.Errorf("Size = %d, want %d", u.Size(), len(b))
	}
	commit(t, u, sum(b))
	for _, s := range []blob.Store{p.Store, p.Other} {
		if n, err := s.Stat(bg, sum(b)); n != int64(len(b)) || err != nil {
			t.Errorf("Stat = %d, %v; want %d", n, err, len(b))
		}
		if !bytes.Equal(read(t, s, sum(b), 0), b) {
			t.Error("Open reads other bytes than were written")
		}
	}
	if _, err := u.Write([]byte("x")); !errors.Is(err, blob.ErrClosed) {
		t.Errorf("Write after Commit = %v, want ErrClosed", err)
	}
	if err := u.Commit(bg, sum(b)); !errors.Is(err, blob.ErrClosed) {
		t.Errorf("Commit after Commit = %v, want ErrClosed", err)
	}
	if _, err := u.Save(bg); !errors.Is(err, blob.ErrClosed) {
		t.Errorf("Save after Commit = %v, want ErrClosed", err)
	}
	if err := u.Abort(bg); err != nil {
		t.Errorf("Abort after Commit = %v, want no-op", err)
	}
	if !bytes.Equal(read(t, p.Store, sum(b), 0), b) {
		t.Error("Abort after Commit took the blob away")
	}
}

func testRanges(t *testing.T, p Pair) {
	b := content(10_000, 2)
	d := put(t, p.Store, b)
	for _, off := range []int64{0, 1, 4096, 9_999, 10_000, 10_001} {
		want := b[min(off, int64(len(b))):]
		if got := read(t, p.Store, d, off); !bytes.Equal(got, want) {
			t.Errorf("Open at %d reads %d bytes, want %d", off, len(got), len(want))
		}
	}
	if r, err := p.Store.Open(bg, d, -1); err == nil {
		t.Error("Open at -1 succeeds")
		_ = r.Close()
	}
}

func testEmpty(t *testing.T, p Pair) {
	d := put(t, p.Store, nil)
	if n, err := p.Store.Stat(bg, d); n != 0 || err != nil {
		t.Errorf("Stat = %d, %v; want 0", n, err)
	}
	if b := read(t, p.Store, d, 0); len(b) != 0 {
		t.Errorf("Open reads %d bytes, want none", len(b))
	}
}

func testMissing(t *testing.T, p Pair) {
	wantAbsent(t, p.Store, sum([]byte("never stored")))
	wantAbsent(t, p.Store, oci.Digest{})
	if err := p.Store.Delete(bg, oci.Digest{}); err != nil {
		t.Errorf("Delete of the zero digest = %v", err)
	}
}

func testMismatch(t *testing.T, p Pair) {
	b := content(5000, 3)
	for _, d := range []oci.Digest{sum([]byte("another")), oci.DigestOf(oci.SHA512, []byte("another"))} {
		u := begin(t, p.Store)
		write(t, u, b)
		if err := u.Commit(bg, d); !errors.Is(err, blob.ErrMismatch) {
			t.Errorf("Commit under a wrong digest = %v, want ErrMismatch", err)
		}
		wantAbsent(t, p.Store, d)
		wantAbsent(t, p.Store, sum(b))
		if err := u.Commit(bg, sum(b)); !errors.Is(err, blob.ErrClosed) {
			t.Errorf("Commit after a mismatch = %v, want ErrClosed", err)
		}
	}
	u := begin(t, p.Store)
	if err := u.Commit(bg, oci.Digest{}); err == nil {
		t.Error("Commit under the zero digest succeeds")
	}
}

func testAlgorithms(t *testing.T, p Pair) {
	for i, begun := range []oci.Algorithm{oci.SHA256, oci.SHA512} {
		for j, as := range []oci.Algorithm{oci.SHA256, oci.SHA512} {
			b := content(70_000, uint64(10+2*i+j))
			u, err := p.Store.Begin(bg, begun)
			if err != nil {
				t.Fatal(err)
			}
			write(t, u, b[:30_000])
			if u, err = p.Other.Resume(bg, save(t, u)); err != nil {
				t.Fatal(err)
			}
			write(t, u, b[30_000:])
			d := oci.DigestOf(as, b)
			commit(t, u, d)
			if !bytes.Equal(read(t, p.Store, d, 0), b) {
				t.Errorf("begun with %s, stored under %s: other bytes come back", begun, as)
			}
		}
	}
	if _, err := p.Store.Begin(bg, "md5"); !errors.Is(err, oci.ErrDigest) {
		t.Errorf("Begin with md5 = %v, want ErrDigest", err)
	}
}

func testTwice(t *testing.T, p Pair) {
	b := content(9000, 4)
	put(t, p.Store, b)
	d := put(t, p.Other, b)
	if n := len(list(t, p.Store)); n != 1 {
		t.Errorf("List yields %d blobs, want 1", n)
	}
	if !bytes.Equal(read(t, p.Store, d, 0), b) {
		t.Error("other bytes come back")
	}
}

func testInvisible(t *testing.T, p Pair) {
	b := content(9000, 5)
	u := begin(t, p.Store)
	write(t, u, b)
	wantAbsent(t, p.Store, sum(b))
	save(t, u)
	wantAbsent(t, p.Other, sum(b))
}

func testAbort(t *testing.T, p Pair) {
	b := content(100, 6)
	u := begin(t, p.Store)
	write(t, u, b)
	st := save(t, u)
	if err := u.Abort(bg); err != nil {
		t.Fatal(err)
	}
	if err := u.Abort(bg); err != nil {
		t.Errorf("second Abort = %v", err)
	}
	if _, err := u.Write(b); !errors.Is(err, blob.ErrClosed) {
		t.Errorf("Write after Abort = %v, want ErrClosed", err)
	}
	if _, err := p.Store.Resume(bg, st); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Resume after Abort = %v, want ErrNotFound", err)
	}
	wantAbsent(t, p.Store, sum(b))
}

// testSaveOn goes on with the same value after Save.
func testSaveOn(t *testing.T, p Pair) {
	b := content(4000, 7)
	u := begin(t, p.Store)
	for i := 0; i < len(b); i += 1000 {
		write(t, u, b[i:i+1000])
		save(t, u)
	}
	commit(t, u, sum(b))
	if !bytes.Equal(read(t, p.Store, sum(b), 0), b) {
		t.Error("other bytes come back")
	}
}

func testResume(t *testing.T, p Pair) {
	b := content(1<<20, 8)
	u := begin(t, p.Store)
	stores := []blob.Store{p.Other, p.Store}
	for i, at := 0, 0; at < len(b); i++ {
		n := min(len(b)-at, 1+i*33_333)
		write(t, u, b[at:at+n])
		at += n
		next, err := stores[i%2].Resume(bg, save(t, u))
		if err != nil {
			t.Fatal(err)
		}
		if next.Size() != int64(at) {
			t.Fatalf("Size after Resume = %d, want %d", next.Size(), at)
		}
		u = next
	}
	commit(t, u, sum(b))
	if !bytes.Equal(read(t, p.Store, sum(b), 0), b) {
		t.Error("other bytes come back")
	}
}

func testResumeCuts(t *testing.T, p Pair) {
	b := content(2000, 9)
	u := begin(t, p.Store)
	write(t, u, b[:1000])
	st := save(t, u)
	write(t, u, []byte("lost with its process"))
	u2, err := p.Other.Resume(bg, st)
	if err != nil {
		t.Fatal(err)
	}
	if u2.Size() != 1000 {
		t.Fatalf("Size after Resume = %d, want 1000", u2.Size())
	}
	write(t, u2, b[1000:])
	commit(t, u2, sum(b))
	if !bytes.Equal(read(t, p.Store, sum(b), 0), b) {
		t.Error("other bytes come back")
	}
}

func testResumeGone(t *testing.T, p Pair) {
	b := content(100, 20)
	u := begin(t, p.Store)
	write(t, u, b)
	st := save(t, u)
	commit(t, u, sum(b))
	if _, err := p.Other.Resume(bg, st); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Resume after Commit = %v, want ErrNotFound", err)
	}
}

func testBrokenState(t *testing.T, p Pair) {
	for _, st := range []string{"", "{}", "null", "x", `{"id":"../../etc/passwd","offset":0,"algorithm":"sha256","hash":"AA=="}`,
		`{"id":"00000000000000000000000000000000","offset":-1,"algorithm":"sha256"}`} {
		if _, err := p.Store.Resume(bg, []byte(st)); err == nil {
			t.Errorf("Resume(%q) succeeds", st)
		}
	}
}

func testDelete(t *testing.T, p Pair) {
	d := put(t, p.Store, content(50, 21))
	for range 2 {
		if err := p.Other.Delete(bg, d); err != nil {
			t.Fatal(err)
		}
		wantAbsent(t, p.Store, d)
	}
}

func testDeleteOpen(t *testing.T, p Pair) {
	b := content(300_000, 22)
	d := put(t, p.Store, b)
	r, err := p.Store.Open(bg, d, 0)
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 1000)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	if err := p.Other.Delete(bg, d); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(append(head, rest...), b) {
		t.Error("a reader that was open before the deletion reads other bytes")
	}
	wantAbsent(t, p.Store, d)
}

func testList(t *testing.T, p Pair) {
	want := map[oci.Digest]bool{}
	for i := range 20 {
		want[put(t, p.Store, content(10, uint64(100+i)))] = true
	}
	begin(t, p.Store) // an upload under way is not listed
	got := list(t, p.Other)
	if len(got) != len(want) {
		t.Errorf("List yields %d blobs, want %d", len(got), len(want))
	}
	for d := range want {
		if !got[d] {
			t.Errorf("List lacks %s", d)
		}
	}
	for range p.Store.List(bg) {
		break // a caller may stop early
	}
}

func testCancelled(t *testing.T, p Pair) {
	d := put(t, p.Store, []byte("x"))
	u := begin(t, p.Store)
	write(t, u, []byte("y"))
	st := save(t, u)
	ctx, cancel := context.WithCancel(bg)
	cancel()
	_, errBegin := p.Store.Begin(ctx, oci.SHA256)
	_, errResume := p.Store.Resume(ctx, st)
	_, errOpen := p.Store.Open(ctx, d, 0)
	_, errStat := p.Store.Stat(ctx, d)
	_, errSave := u.Save(ctx)
	var errList error
	for _, errList = range p.Store.List(ctx) {
		break
	}
	for name, err := range map[string]error{"Begin": errBegin, "Resume": errResume, "Open": errOpen, "Stat": errStat,
		"Save": errSave, "List": errList, "Delete": p.Store.Delete(ctx, d), "Commit": u.Commit(ctx, sum([]byte("y")))} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context = %v, want context.Canceled", name, err)
		}
	}
	if _, err := p.Store.Stat(bg, d); err != nil {
		t.Errorf("a cancelled Delete took the blob away: %v", err)
	}
	if _, err := p.Store.Resume(bg, st); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Resume after a cancelled Commit = %v, want ErrNotFound: on any error the upload is over", err)
	}
}

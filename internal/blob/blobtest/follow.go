package blobtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"pratique.dev/pratique/internal/blob"
)

// RunFollow holds Stores whose uploads are blob.Followers to that contract too.
func RunFollow(t *testing.T, fresh func(t *testing.T) Pair) {
	t.Helper()
	for _, tc := range []struct {
		name string
		test func(*testing.T, Pair)
	}{
		{"follow a growing upload", testFollow},
		{"follow across save and resume", testFollowResume},
		{"follow begun after commit", testFollowLate},
		{"follow ends with abort", testFollowAbort},
		{"follow ends with its context", testFollowContext},
		{"follow of an upload that was set back", testFollowCut},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, fresh(t)) })
	}
}

// follow returns a follower's reader of u.
func follow(t *testing.T, ctx context.Context, u blob.Upload) io.ReadCloser {
	t.Helper()
	r, err := u.(blob.Follower).Follow(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

type result struct {
	b   []byte
	err error
}

// collect reads r to its end in the background.
func collect(r io.ReadCloser) <-chan result {
	c := make(chan result, 1)
	go func() {
		b, err := io.ReadAll(r)
		c <- result{b, errors.Join(err, r.Close())}
	}()
	return c
}

func testFollow(t *testing.T, p Pair) {
	b := content(2<<20, 30)
	u := begin(t, p.Store)
	early, twin := collect(follow(t, bg, u)), collect(follow(t, bg, u))
	write(t, u, b[:1<<20])
	// One reader is stepped by hand: it must get bytes before the upload ends.
	step := follow(t, bg, u)
	head := make([]byte, 1<<20)
	if _, err := io.ReadFull(step, head); err != nil || !bytes.Equal(head, b[:1<<20]) {
		t.Fatalf("reading the first half before the second was written: %v", err)
	}
	write(t, u, b[1<<20:])
	commit(t, u, sum(b))
	for _, c := range []<-chan result{early, twin} {
		if r := <-c; r.err != nil || !bytes.Equal(r.b, b) {
			t.Errorf("follower read %d bytes, %v; want %d", len(r.b), r.err, len(b))
		}
	}
	rest, err := io.ReadAll(step)
	if err := errors.Join(err, step.Close(), step.Close()); err != nil || !bytes.Equal(rest, b[1<<20:]) {
		t.Errorf("follower read %d bytes after Commit, %v; want %d", len(rest), err, 1<<20)
	}
}

func testFollowResume(t *testing.T, p Pair) {
	b := content(300_000, 31)
	u := begin(t, p.Store)
	c := collect(follow(t, bg, u))
	for at := 0; at < len(b); at += 100_000 {
		write(t, u, b[at:at+100_000])
		next, err := p.Store.Resume(bg, save(t, u))
		if err != nil {
			t.Fatal(err)
		}
		u = next
	}
	late := collect(follow(t, bg, u))
	commit(t, u, sum(b))
	for _, c := range []<-chan result{c, late} {
		if r := <-c; r.err != nil || !bytes.Equal(r.b, b) {
			t.Errorf("follower read %d bytes, %v; want %d", len(r.b), r.err, len(b))
		}
	}
}

func testFollowLate(t *testing.T, p Pair) {
	b := content(1000, 32)
	u := begin(t, p.Store)
	write(t, u, b)
	commit(t, u, sum(b))
	if r := <-collect(follow(t, bg, u)); r.err != nil || !bytes.Equal(r.b, b) {
		t.Errorf("follower begun after Commit read %d bytes, %v; want %d", len(r.b), r.err, len(b))
	}
}

func testFollowAbort(t *testing.T, p Pair) {
	u := begin(t, p.Store)
	write(t, u, []byte("some"))
	c := collect(follow(t, bg, u))
	if err := u.Abort(bg); err != nil {
		t.Fatal(err)
	}
	if r := <-c; !errors.Is(r.err, blob.ErrClosed) {
		t.Errorf("follower of an aborted upload: %v, want ErrClosed", r.err)
	}
	if _, err := u.(blob.Follower).Follow(bg); !errors.Is(err, blob.ErrClosed) {
		t.Errorf("Follow after Abort = %v, want ErrClosed", err)
	}
	u = begin(t, p.Store)
	c = collect(follow(t, bg, u))
	if err := u.Commit(bg, sum([]byte("another"))); !errors.Is(err, blob.ErrMismatch) {
		t.Fatalf("Commit = %v, want ErrMismatch", err)
	}
	if r := <-c; !errors.Is(r.err, blob.ErrClosed) {
		t.Errorf("follower of a mismatched upload: %v, want ErrClosed", r.err)
	}
}

func testFollowContext(t *testing.T, p Pair) {
	u := begin(t, p.Store)
	ctx, cancel := context.WithCancel(bg)
	c := collect(follow(t, ctx, u))
	cancel()
	if r := <-c; !errors.Is(r.err, context.Canceled) {
		t.Errorf("blocked Read after cancel: %v, want context.Canceled", r.err)
	}
}

// testFollowCut: who has read bytes that a Resume took back must not go on as if
// nothing had been.
func testFollowCut(t *testing.T, p Pair) {
	u := begin(t, p.Store)
	write(t, u, []byte("kept"))
	st := save(t, u)
	write(t, u, []byte("gone"))
	r := follow(t, bg, u)
	if _, err := io.ReadFull(r, make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	u2, err := p.Store.Resume(bg, st)
	if err != nil {
		t.Fatal(err)
	}
	write(t, u2, []byte("more than before"))
	if n, err := r.Read(make([]byte, 100)); n != 0 || !errors.Is(err, blob.ErrClosed) {
		t.Errorf("Read after the upload was set back = %d, %v; want ErrClosed", n, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	commit(t, u2, sum([]byte("keptmore than before")))
}

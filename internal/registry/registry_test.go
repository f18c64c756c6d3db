package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/blob/fileblob"
	"pratique.dev/pratique/internal/blob/memblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	bg   = context.Background()
	app  = must(oci.ParseRepository("team/app"))
	mine = must(oci.ParseRepository("mine"))
	now  = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func sum(s string) oci.Digest { return oci.DigestOf(oci.SHA256, []byte(s)) }

// allowed is a caller with permissions everywhere.
func allowed(ps ...access.Permission) Caller {
	return Caller{Name: "test", Access: access.NewGrants(access.Assignment{Role: access.Role{Permissions: ps}})}
}

var pusher = allowed(access.RepositoryPull, access.RepositoryPush)

// judgeFunc is a Judge.
type judgeFunc func(ctx context.Context, d oci.Digest) (policy.Verdict, catalog.Counts, error)

func (f judgeFunc) Judge(ctx context.Context, d oci.Digest) (policy.Verdict, catalog.Counts, error) {
	return f(ctx, d)
}

func (f judgeFunc) JudgeNew(ctx context.Context, m oci.Manifest) (policy.Verdict, catalog.Counts, error) {
	return f(ctx, m.Digest)
}

// decide keeps the same decision for every manifest.
func decide(cat *catalog.Catalog, v policy.Verdict) Judge {
	return judgeFunc(func(ctx context.Context, d oci.Digest) (policy.Verdict, catalog.Counts, error) {
		return v, catalog.Counts{}, catalogtest.Judge(ctx, cat, d, v, catalog.Counts{})
	})
}

// examiner reads along, as the real one does, and takes down what it heard.
type examiner struct {
	running sync.WaitGroup
	mu      sync.Mutex
	begun   map[string]bool
	read    map[string]string // by upload id: what was read, or the error
	events  []string
}

func newExaminer() *examiner { return &examiner{begun: map[string]bool{}, read: map[string]string{}} }

func (e *examiner) Begin(id string, open func(context.Context) (io.ReadCloser, error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.begun[id] {
		return
	}
	e.begun[id] = true
	e.running.Go(func() {
		var b []byte
		r, err := open(bg)
		if err == nil {
			b, err = io.ReadAll(r)
			err = errors.Join(err, r.Close())
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.read[id] = string(b); err != nil {
			e.read[id] = err.Error()
		}
	})
}

func (e *examiner) note(s string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = append(e.events, s)
}

func (e *examiner) Commit(_ string, d oci.Digest) { e.note("commit " + d.Short()) }
func (e *examiner) Abort(string)                  { e.note("abort") }

func fileStore(t *testing.T, dir string) blob.Store {
	t.Helper()
	s, err := fileblob.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func begin(t *testing.T, r *Registry) string {
	t.Helper()
	st, err := r.BeginUpload(bg, pusher, app, oci.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return st.ID
}

func chunk(at int64, s string) Chunk {
	return Chunk{At: at, Size: int64(len(s)), Body: strings.NewReader(s)}
}

func push(t *testing.T, r *Registry, repo oci.Repository, content string) oci.Digest {
	t.Helper()
	if err := r.PutBlob(bg, repo, chunk(0, content), sum(content)); err != nil {
		t.Fatal(err)
	}
	return sum(content)
}

func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	if !errors.Is(err, &oci.Error{Code: code}) {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

func readBlob(t *testing.T, r *Registry, by Caller, repo oci.Repository, d oci.Digest) (string, error) {
	t.Helper()
	c, err := r.Blob(bg, by, repo, d)
	if err != nil {
		return "", err
	}
	f, err := c.Open(bg, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	return string(b), err
}

func TestUploadOverRestarts(t *testing.T) {
	cat, dir := catalogtest.Open(t), t.TempDir()
	r := New(cat, fileStore(t, dir), Options{})
	id := begin(t, r)
	var content string
	for i := range 5 {
		part := strings.Repeat(fmt.Sprint(i), 1000)
		st, err := r.Append(bg, app, id, chunk(int64(len(content)), part))
		if err != nil {
			t.Fatal(err)
		}
		if content += part; st.Offset != int64(len(content)) {
			t.Fatalf("offset %d, want %d", st.Offset, len(content))
		}
		r = New(cat, fileStore(t, dir), Options{}) // the process is another one
	}
	if err := r.FinishUpload(bg, app, id, Chunk{At: -1, Body: strings.NewReader("")}, sum(content)); err != nil {
		t.Fatal(err)
	}
	if got, err := readBlob(t, r, pusher, app, sum(content)); got != content || err != nil {
		t.Errorf("%d bytes come back, %v; want %d", len(got), err, len(content))
	}
}

func TestBrokenConnection(t *testing.T) {
	e := newExaminer()
	r := New(catalogtest.Open(t), fileStore(t, t.TempDir()), Options{Examiner: e})
	id := begin(t, r)
	cut := io.MultiReader(strings.NewReader("12345"), iotest.ErrReader(io.ErrUnexpectedEOF))
	st, err := r.Append(bg, app, id, Chunk{At: 0, Size: 10, Body: cut})
	wantCode(t, "a chunk that breaks off", err, oci.CodeBlobUploadInvalid)
	if st.Offset != 5 {
		t.Errorf("offset %d, want the 5 bytes that came", st.Offset)
	}
	st, err = r.Append(bg, app, id, Chunk{At: 5, Size: 10, Body: strings.NewReader("678")})
	wantCode(t, "a chunk that is too short", err, oci.CodeSizeInvalid)
	if now, e := r.UploadStatus(bg, app, id); now != st || st.Offset != 8 || e != nil {
		t.Errorf("status %+v, %v; want %+v", now, e, st)
	}
	err = r.FinishUpload(bg, app, id, Chunk{At: -1, Size: -1, Body: io.MultiReader(strings.NewReader("9"), iotest.ErrReader(io.ErrClosedPipe))}, sum("1234567890"))
	wantCode(t, "a last chunk that breaks off", err, oci.CodeBlobUploadInvalid)
	if err := r.FinishUpload(bg, app, id, Chunk{At: 9, Size: -1, Body: iotest.OneByteReader(strings.NewReader("0"))}, sum("1234567890")); err != nil {
		t.Fatal(err)
	}
	e.running.Wait()
	if e.read[id] != "1234567890" || !slices.Equal(e.events, []string{"commit " + sum("1234567890").Short()}) {
		t.Errorf("the examiner read %q and heard %v", e.read[id], e.events)
	}
}

func TestExaminerHearsOfEachEnd(t *testing.T) {
	e := newExaminer()
	r := New(catalogtest.Open(t), fileStore(t, t.TempDir()), Options{Examiner: e})
	push(t, r, app, "in one request")
	wantCode(t, "wrong digest", r.PutBlob(bg, app, chunk(0, "x"), sum("y")), oci.CodeDigestInvalid)
	id := begin(t, r)
	if _, err := r.Append(bg, app, id, chunk(0, "some")); err != nil {
		t.Fatal(err)
	}
	if err := r.CancelUpload(bg, app, id); err != nil {
		t.Fatal(err)
	}
	e.running.Wait()
	if want := []string{"commit " + sum("in one request").Short(), "abort", "abort"}; !slices.Equal(e.events, want) {
		t.Errorf("heard %v, want %v", e.events, want)
	}
	if !strings.Contains(e.read[id], blob.ErrClosed.Error()) {
		t.Errorf("a cancelled upload read as %q", e.read[id])
	}
}

// TestOneWriter: two requests never write to an upload at once; with offsets, one of
// them is refused, and the content is whole.
func TestOneWriter(t *testing.T) {
	r := New(catalogtest.Open(t), fileStore(t, t.TempDir()), Options{})
	id := begin(t, r)
	part := strings.Repeat("x", 100_000)
	var wg sync.WaitGroup
	var mu sync.Mutex
	taken := 0
	for range 8 {
		wg.Go(func() {
			_, err := r.Append(bg, app, id, chunk(0, part))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				taken++
			} else if !errors.Is(err, &oci.Error{Code: oci.CodeRangeInvalid}) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if taken != 1 {
		t.Errorf("%d requests wrote the first chunk, want 1", taken)
	}
	if err := r.FinishUpload(bg, app, id, Chunk{At: -1}, sum(part)); err != nil {
		t.Error(err)
	}
	if len(r.locks.held) != 0 {
		t.Errorf("%d locks are left", len(r.locks.held))
	}
}

func TestTooManyTransfers(t *testing.T) {
	r := New(catalogtest.Open(t), memblob.New(), Options{MaxTransfers: 1})
	pr, pw := io.Pipe()
	done := make(chan error)
	go func() { done <- r.PutBlob(bg, app, Chunk{At: 0, Size: -1, Body: pr}, sum("slow")) }()
	if _, err := pw.Write([]byte("slow")); err != nil { // it is being received
		t.Fatal(err)
	}
	wantCode(t, "a second transfer", r.PutBlob(bg, app, chunk(0, "x"), sum("x")), oci.CodeTooManyRequests)
	if err := pw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	push(t, r, app, "x")
}

func TestFullStore(t *testing.T) {
	store, e := memblob.New(), newExaminer()
	store.Limit = 4
	cat := catalogtest.Open(t)
	r := New(cat, store, Options{Examiner: e})
	wantCode(t, "PutBlob", r.PutBlob(bg, app, chunk(0, "12345"), sum("12345")), oci.CodeUnavailable)
	id := begin(t, r)
	_, err := r.Append(bg, app, id, chunk(0, "12345"))
	wantCode(t, "Append", err, oci.CodeUnavailable)
	if err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("message %v", err)
	}
	_, err = r.UploadStatus(bg, app, id)
	wantCode(t, "an upload that met a full disk", err, oci.CodeBlobUploadUnknown)
	id = begin(t, r)
	wantCode(t, "FinishUpload", r.FinishUpload(bg, app, id, chunk(0, "12345"), sum("12345")), oci.CodeUnavailable)
	push(t, r, app, "1234") // the room is free again
	e.running.Wait()
}

func TestSweep(t *testing.T) {
	cat, dir, clock := catalogtest.Open(t), t.TempDir(), now
	store := fileStore(t, dir)
	r := New(cat, store, Options{Now: func() time.Time { return clock }})
	stale := begin(t, r)
	clock = now.Add(time.Hour)
	young := begin(t, r)
	if err := r.Sweep(bg, now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	_, err := r.UploadStatus(bg, app, stale)
	wantCode(t, "an abandoned upload", err, oci.CodeBlobUploadUnknown)
	if _, err := r.Append(bg, app, young, chunk(0, "goes on")); err != nil {
		t.Errorf("an upload that goes on: %v", err)
	}
	// A file without a row, as a crash leaves it, goes when it is old enough.
	up, err := store.Begin(bg, oci.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	state, err := up.Save(bg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Sweep(bg, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Resume(bg, state); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a file without a row: %v, want it gone", err)
	}
	if err := New(cat, memblob.New(), Options{}).Sweep(bg, now); err != nil {
		t.Errorf("a store that cannot sweep: %v", err)
	}
}

// TestSweepGoesOn: neither an upload that is being written nor one that cannot be read keeps
// the others from being swept.
func TestSweepGoesOn(t *testing.T) {
	cat, clock := catalogtest.Open(t), now
	r := New(cat, fileStore(t, t.TempDir()), Options{Now: func() time.Time { return clock }})
	busy := begin(t, r)
	clock = clock.Add(time.Second)
	unreadable := begin(t, r)
	if err := cat.SaveUpload(bg, unreadable, []byte("of another version"), 0, clock); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(time.Second)
	abandoned := begin(t, r)
	release, err := r.locks.take(bg, busy)
	if err != nil {
		t.Fatal(err)
	}
	err = r.Sweep(bg, clock.Add(time.Minute))
	release()
	if err != nil {
		t.Errorf("Sweep: %v", err)
	}
	for _, id := range []string{unreadable, abandoned} {
		_, err := r.UploadStatus(bg, app, id)
		wantCode(t, "a swept upload", err, oci.CodeBlobUploadUnknown)
	}
	if _, err := r.Append(bg, app, busy, chunk(0, "goes on")); err != nil {
		t.Errorf("an upload that goes on: %v", err)
	}
	if len(r.locks.held) != 0 {
		t.Errorf("locks left: %v", r.locks.held)
	}
}

func TestManifestsAreParsedFewAtATime(t *testing.T) {
	r := New(catalogtest.Open(t), memblob.New(), Options{})
	for range maxParsed {
		r.parsing <- struct{}{}
	}
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if _, err := r.PutManifest(ctx, pusher, Push{Repo: app, Reference: oci.Reference{Tag: "1"}, Raw: []byte("{}")}); !errors.Is(err, context.Canceled) {
		t.Errorf("PutManifest beside %d others: %v", maxParsed, err)
	}
	<-r.parsing
	_, err := r.PutManifest(bg, pusher, Push{Repo: app, Reference: oci.Reference{Tag: "1"}, Raw: []byte("{}")})
	wantCode(t, "with a place", err, oci.CodeManifestInvalid)
	if len(r.parsing) != maxParsed-1 {
		t.Errorf("%d places are taken", len(r.parsing))
	}
}

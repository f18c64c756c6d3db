package registry

import (
	"bytes"
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

// decide keeps the same decision for every manifest.
func decide(cat *catalog.Catalog, v policy.Verdict) Judge {
	return judgeFunc(func(ctx context.Context, d oci.Digest) (policy.Verdict, catalog.Counts, error) {
		return v, catalog.Counts{}, cat.PutVerdict(ctx, d, v, catalog.Counts{})
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

func manifestOf(config, layer string) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"mediaType":"x/y","digest":%q,"size":%d}]}`,
		oci.MediaTypeImageManifest, oci.MediaTypeImageConfig, sum(config), len(config), sum(layer), len(layer))
}

func putImage(t *testing.T, r *Registry, repo oci.Repository, tag, layer string) Pushed {
	t.Helper()
	push(t, r, repo, "config")
	push(t, r, repo, layer)
	p, err := r.PutManifest(bg, pusher, Push{Repo: repo, Reference: oci.Reference{Tag: tag}, Raw: manifestOf("config", layer)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestFailClosed: whatever goes wrong between a push and its verdict, nothing is served.
func TestFailClosed(t *testing.T) {
	forever := func(ctx context.Context, _ oci.Digest) (policy.Verdict, catalog.Counts, error) {
		<-ctx.Done()
		return policy.Verdict{Decision: policy.Allow}, catalog.Counts{}, ctx.Err()
	}
	for name, judge := range map[string]Judge{
		"no judge": nil,
		"a judge that fails": judgeFunc(func(context.Context, oci.Digest) (policy.Verdict, catalog.Counts, error) {
			return policy.Verdict{Decision: policy.Allow}, catalog.Counts{High: 1}, errors.New("no")
		}),
		"a judge that takes forever": judgeFunc(forever),
	} {
		t.Run(name, func(t *testing.T) {
			cat := catalogtest.Open(t)
			r := New(cat, memblob.New(), Options{Judge: judge, JudgeWait: time.Millisecond})
			p := putImage(t, r, app, "1", "layer")
			if p.Decision != policy.Pending || p.Counts != (catalog.Counts{}) || !p.Created {
				t.Errorf("PutManifest = %+v, want pending", p)
			}
			_, err := r.Manifest(bg, pusher, app, oci.Reference{Tag: "1"})
			wantCode(t, "Manifest", err, oci.CodeDenied)
			if err == nil || !strings.Contains(err.Error(), "pending") {
				t.Errorf("message %v", err)
			}
			_, err = readBlob(t, r, pusher, app, sum("layer"))
			wantCode(t, "Blob", err, oci.CodeDenied)
			if due, err := cat.Due(bg, time.Now(), time.Minute, 10); len(due) != 1 || err != nil {
				t.Errorf("due: %v, %v; want a worker to find it", due, err)
			}
		})
	}
}

// TestVerdictStands: the same manifest once more is not judged once more.
func TestVerdictStands(t *testing.T) {
	cat, judged := catalogtest.Open(t), 0
	r := New(cat, memblob.New(), Options{Judge: judgeFunc(func(ctx context.Context, d oci.Digest) (policy.Verdict, catalog.Counts, error) {
		judged++
		return decide(cat, policy.Verdict{Decision: policy.Quarantine}).Judge(ctx, d)
	})})
	putImage(t, r, app, "1", "layer")
	if p := putImage(t, r, app, "2", "layer"); p.Decision != policy.Quarantine || p.Created || judged != 1 {
		t.Errorf("second push: %+v after %d judgements; want the first verdict", p, judged)
	}
}

func TestWhoMayRead(t *testing.T) {
	pull, both := allowed(access.RepositoryPull), pusher
	special := allowed(access.RepositoryPull, access.QuarantinePull)
	token := Caller{Name: "token", Access: pull.Access, Granted: func(context.Context) (Allower, error) { return both.Access, nil }}
	broken := Caller{Name: "token", Access: pull.Access, Granted: func(context.Context) (Allower, error) { return nil, errors.New("no database") }}
	for _, tc := range []struct {
		decision policy.Decision
		named    bool // by a manifest
		who      string
		by       Caller
		get, ask bool
	}{
		{policy.Allow, true, "puller", pull, true, true},
		{policy.Allow, true, "a token whose grants cannot be read", broken, true, false},
		{policy.Quarantine, true, "puller", pull, false, false},
		{policy.Quarantine, true, "pusher", both, false, true},
		{policy.Quarantine, true, "pusher with a token to pull", token, false, true},
		{policy.Quarantine, true, "quarantine puller", special, true, true},
		{policy.Pending, true, "pusher", both, false, true},
		{policy.Pending, true, "nobody", Caller{}, false, false},
		{policy.Pending, true, "quarantine puller", special, true, true},
		{policy.Allow, false, "puller", pull, false, false},
		{policy.Allow, false, "pusher", both, true, true},
		{policy.Allow, false, "pusher with a token to pull", token, true, true},
		{policy.Allow, false, "a token whose grants cannot be read", broken, false, false},
	} {
		t.Run(fmt.Sprintf("%s, named %v, %s", tc.decision, tc.named, tc.who), func(t *testing.T) {
			cat := catalogtest.Open(t)
			r := New(cat, memblob.New(), Options{Judge: decide(cat, policy.Verdict{Decision: tc.decision})})
			if tc.named {
				putImage(t, r, app, "1", "layer")
			} else {
				push(t, r, app, "layer")
			}
			if _, err := readBlob(t, r, tc.by, app, sum("layer")); (err == nil) != tc.get {
				t.Errorf("read: %v, want %v", err, tc.get)
			}
			if _, err := r.StatBlob(bg, tc.by, app, sum("layer")); (err == nil) != tc.ask {
				t.Errorf("stat: %v, want %v", err, tc.ask)
			}
			if ok, err := r.Mount(bg, tc.by, mine, app, sum("layer")); ok != tc.get || err != nil && tc.get {
				t.Errorf("mount: %v, %v; want %v", ok, err, tc.get)
			}
		})
	}
}

// explain is an Explainer.
type explain struct {
	findings []ExplainedFinding
	err      error
}

func (e explain) Explain(context.Context, oci.Digest) ([]ExplainedFinding, error) {
	return e.findings, e.err
}

func TestRefusal(t *testing.T) {
	held := policy.Verdict{Decision: policy.Quarantine, Policy: "default", Reasons: []policy.Reason{
		{Rule: "note", Message: "some programs are unknown", Note: true},
		{Rule: "critical-with-fix", Message: "CVE-9 in z 1 is critical", Finding: "CVE-9", Package: "z"},
		{Rule: "critical-with-fix", Message: "CVE-8 in y 1 is critical", Finding: "CVE-8", Package: "y"}}}
	var many []ExplainedFinding
	for i := range 30 {
		many = append(many, ExplainedFinding{ID: fmt.Sprintf("CVE-%d", i), Package: string(rune('q' + i%10)), Version: "1", Severity: "high"})
	}
	many[9].Fixed, many[9].Fix = "2", "npm install z@2"
	for name, tc := range map[string]struct {
		explainer Explainer
		findings  int
		says      []string
		not       []string
	}{
		"findings that hold it back come first": {explain{findings: many}, 20,
			[]string{"team/app:1 is quarantined: CVE-8 (high) in y 1, no fix yet; CVE-9 (high) in z 1 -> 2, fix: npm install z@2; CVE-0 ", "and 27 more", "pratique show team/app:1 --server https://r.example"}, nil},
		"no explainer":            {nil, 0, []string{"CVE-9 in z 1 is critical; CVE-8 in y 1 is critical"}, []string{"unknown", "more"}},
		"an explainer that fails": {explain{err: errors.New("database is gone")}, 0, []string{"CVE-9 in z 1 is critical"}, []string{"database"}},
		"nothing to explain":      {explain{}, 0, []string{"CVE-9 in z 1 is critical"}, nil},
		"a hostile package name": {explain{findings: []ExplainedFinding{{ID: "CVE-9", Package: "z\x1b[2J\r\nAllowed\u202e", Version: strings.Repeat("9", 5000)}}}, 1,
			[]string{"pratique show team/app:1 --server https://r.example"}, []string{"\x1b", "\n", "\r", "\u202e"}},
	} {
		t.Run(name, func(t *testing.T) {
			cat := catalogtest.Open(t)
			r := New(cat, memblob.New(), Options{Judge: decide(cat, held), Explainer: tc.explainer, URL: "https://r.example"})
			p := putImage(t, r, app, "1", "layer")
			_, err := r.Manifest(bg, pusher, app, oci.Reference{Tag: "1"})
			var e *oci.Error
			if !errors.As(err, &e) || e.Code != oci.CodeDenied {
				t.Fatalf("Manifest: %v, want DENIED", err)
			}
			for _, s := range tc.says {
				if !strings.Contains(e.Message, s) {
					t.Errorf("message %q lacks %q", e.Message, s)
				}
			}
			for _, s := range tc.not {
				if strings.Contains(e.Message, s) {
					t.Errorf("message %q has %q", e.Message, s)
				}
			}
			if len(e.Message) > maxMessage+10 {
				t.Errorf("message has %d bytes", len(e.Message))
			}
			d, ok := e.Detail.(Refusal)
			if !ok || len(d.Findings) != tc.findings || d.Digest != p.Digest || d.Decision != policy.Quarantine || len(d.Reasons) != 3 {
				t.Errorf("detail %+v", e.Detail)
			}
			_, err = readBlob(t, r, pusher, app, sum("layer"))
			if !errors.As(err, &e) || e.Code != oci.CodeDenied || !strings.Contains(e.Message, "team/app:1") {
				t.Errorf("Blob: %v, want DENIED that names the image", err)
			}
		})
	}
}

func TestPutManifestKeepsBytes(t *testing.T) {
	cat, store := catalogtest.Open(t), memblob.New()
	r := New(cat, store, Options{Judge: decide(cat, policy.Verdict{Decision: policy.Allow})})
	p := putImage(t, r, app, "1", "layer")
	f, err := store.Open(bg, p.Digest, 0)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(f); err != nil || !bytes.Equal(b, manifestOf("config", "layer")) {
		t.Errorf("the store has %q, %v", b, err)
	}
	// But it is no blob of the repository.
	_, err = readBlob(t, r, pusher, app, p.Digest)
	wantCode(t, "a manifest as a blob", err, oci.CodeBlobUnknown)
	// A manifest that is refused leaves nothing in the store.
	_, err = r.PutManifest(bg, pusher, Push{Repo: app, Reference: oci.Reference{Tag: "2"}, Raw: manifestOf("config", "not there")})
	wantCode(t, "an unknown layer", err, oci.CodeManifestBlobUnknown)
	if _, err := store.Stat(bg, oci.DigestOf(oci.SHA256, manifestOf("config", "not there"))); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a refused manifest's bytes: %v", err)
	}
}

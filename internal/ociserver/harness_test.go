package ociserver_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/blob/fileblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/ociserver"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var bg = context.Background()

// judge decides as told, and keeps the verdict in the catalog as the real one does.
type judge struct {
	cat *catalog.Catalog

	mu     sync.Mutex
	decide func(m oci.Manifest) policy.Verdict
	counts catalog.Counts
}

func (j *judge) JudgeNew(ctx context.Context, m oci.Manifest) (policy.Verdict, catalog.Counts, error) {
	return j.Judge(ctx, m.Digest)
}

func (j *judge) Judge(ctx context.Context, d oci.Digest) (policy.Verdict, catalog.Counts, error) {
	m, err := j.cat.ManifestByDigest(ctx, d)
	if err != nil {
		return policy.Verdict{}, catalog.Counts{}, err
	}
	j.mu.Lock()
	v, n := j.decide(m.Manifest), j.counts
	j.mu.Unlock()
	return v, n, catalogtest.Judge(ctx, j.cat, d, v, n)
}

func (j *judge) set(decide func(m oci.Manifest) policy.Verdict) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.decide = decide
}

func allowAll(oci.Manifest) policy.Verdict {
	return policy.Verdict{Decision: policy.Allow, Policy: "test"}
}

func quarantineAll(oci.Manifest) policy.Verdict {
	return policy.Verdict{Decision: policy.Quarantine, Policy: "test", Reasons: []policy.Reason{
		{Rule: "critical-with-fix", Message: "CVE-2021-44228 is critical and has a fix", Finding: "CVE-2021-44228", Package: "log4j-core"}}}
}

// explainer tells of the same findings for each manifest.
type explainer []registry.ExplainedFinding

func (e explainer) Explain(context.Context, oci.Digest) ([]registry.ExplainedFinding, error) {
	return e, nil
}

const secret = "correct horse battery"

// world is a registry behind a real listener.
type world struct {
	t     testing.TB
	url   string
	cat   *catalog.Catalog
	dir   string
	store *fileblob.Store
	reg   *registry.Registry
	ident *identity.Identity
	judge *judge
	log   *syncBuffer
	http  *http.Client
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldBy(t, httptest.NewServer, ociserver.Options{})
}

// newWorldBy is newWorld with a server of another sort.
func newWorldBy(t testing.TB, serve func(http.Handler) *httptest.Server, o ociserver.Options) *world {
	t.Helper()
	w := &world{t: t, cat: catalogtest.Open(t), dir: t.TempDir(), log: &syncBuffer{}}
	store, err := fileblob.New(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	w.store = store
	w.judge = &judge{cat: w.cat, decide: allowAll}
	log := slog.New(slog.NewTextHandler(w.log, nil))
	w.ident = identity.New(w.cat, identity.Options{Log: log})
	if _, _, _, err := w.ident.Bootstrap(bg, secret); err != nil {
		t.Fatal(err)
	}
	w.reg = registry.New(w.cat, store, registry.Options{Judge: w.judge, URL: "https://registry.example", Log: log,
		Explainer: explainer{{ID: "CVE-2021-44228", Package: "log4j-core", Version: "2.14.1", Fixed: "2.17.1", Severity: "critical",
			Exploited: true, Fix: "mvn versions:use-dep-version -Dincludes=org.apache.logging.log4j:log4j-core -DdepVersion=2.17.1"}}})
	o.Log = log
	srv := serve(ociserver.New(w.reg, w.ident, o))
	t.Cleanup(srv.Close)
	w.url, w.http = srv.URL, srv.Client()
	return w
}

// principal makes someone with a role of the given permissions in repo, and returns
// credentials.
func (w *world) principal(name, role, pattern string) string {
	w.t.Helper()
	p := access.Principal{ID: "id-" + name, Kind: access.KindService, Name: name}
	if err := w.cat.CreatePrincipal(bg, catalog.Account{Principal: p}, catalog.Act{Now: testTime}); err != nil {
		w.t.Fatal(err)
	}
	if role != "" {
		if err := w.cat.Assign(bg, catalog.Assigned{Principal: p.ID, Role: role, Scope: access.Scope{Pattern: pattern}}, catalog.Act{}); err != nil {
			w.t.Fatal(err)
		}
	}
	return name
}

// in is the same world with failures reported to a subtest.
func (w *world) in(t testing.TB) *world {
	c := *w
	c.t = t
	return &c
}

// answer is a response, read to its end.
type answer struct {
	*http.Response
	body []byte
}

// request is one recorded request.
type request struct {
	method, path string
	header       map[string]string
	body         string
	anonymous    bool
	token        string
}

func (w *world) do(r request) answer {
	w.t.Helper()
	target := r.path
	if !strings.HasPrefix(target, "http") {
		target = w.url + r.path
	}
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(bg, r.method, target, body)
	if err != nil {
		w.t.Fatal(err)
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	switch {
	case r.token != "":
		req.Header.Set("Authorization", "Bearer "+r.token)
	case !r.anonymous:
		req.SetBasicAuth("admin", secret)
	}
	res, err := w.http.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{res, b}
}

// want checks status and, where it is not "", the error's code.
func (w *world) want(a answer, status int, code string) answer {
	w.t.Helper()
	if a.StatusCode != status {
		w.t.Fatalf("%s %s: status %d, want %d; %s", a.Request.Method, a.Request.URL, a.StatusCode, status, a.body)
	}
	if code != "" {
		if got := a.errorOf(w.t); got.Code != code {
			w.t.Errorf("%s %s: code %s, want %s", a.Request.Method, a.Request.URL, got.Code, code)
		}
	}
	return a
}

type wireError struct {
	Code    string          `json:"code"`
	Message string          `json:"message"`
	Detail  json.RawMessage `json:"detail"`
}

func (a answer) errorOf(t testing.TB) wireError {
	t.Helper()
	var doc struct {
		Errors []wireError `json:"errors"`
	}
	if err := json.Unmarshal(a.body, &doc); err != nil || len(doc.Errors) != 1 {
		t.Fatalf("%s %s: %q is no error document: %v", a.Request.Method, a.Request.URL, a.body, err)
	}
	return doc.Errors[0]
}

func sum(s string) oci.Digest { return oci.DigestOf(oci.SHA256, []byte(s)) }

func (w *world) putBlob(repo, content string) oci.Digest {
	w.t.Helper()
	d := sum(content)
	w.want(w.do(request{method: "POST", path: "/v2/" + repo + "/blobs/uploads/?digest=" + d.String(), body: content}), 201, "")
	return d
}

// manifestOf is an image manifest over two blobs that putImage pushes.
func manifestOf(config, layer, extra string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]%s}`,
		oci.MediaTypeImageManifest, oci.MediaTypeImageConfig, sum(config), len(config), sum(layer), len(layer), extra)
}

func (w *world) putManifest(repo, ref, raw string) answer {
	w.t.Helper()
	return w.do(request{method: "PUT", path: "/v2/" + repo + "/manifests/" + ref, body: raw,
		header: map[string]string{"Content-Type": oci.MediaTypeImageManifest}})
}

// putImage pushes an image of two blobs and returns its manifest.
func (w *world) putImage(repo, tag, layer string) (raw string) {
	w.t.Helper()
	config := `{"architecture":"amd64","os":"linux"}`
	w.putBlob(repo, config)
	w.putBlob(repo, layer)
	raw = manifestOf(config, layer, "")
	w.want(w.putManifest(repo, tag, raw), 201, "")
	return raw
}

func basicAuth(name, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+secret))
}

package ociserver_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/edge"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/ociserver"
)

var testTime = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// everyRequest has one of each kind, as they come in.
var everyRequest = []request{
	{method: "GET", path: "/v2/"},
	{method: "GET", path: "/v2/_catalog"},
	{method: "GET", path: "/v2/app/tags/list"},
	{method: "GET", path: "/v2/app/referrers/" + someDigest},
	{method: "GET", path: "/v2/app/manifests/1"},
	{method: "HEAD", path: "/v2/app/manifests/1"},
	{method: "PUT", path: "/v2/app/manifests/1"},
	{method: "DELETE", path: "/v2/app/manifests/1"},
	{method: "GET", path: "/v2/app/blobs/" + someDigest},
	{method: "HEAD", path: "/v2/app/blobs/" + someDigest},
	{method: "DELETE", path: "/v2/app/blobs/" + someDigest},
	{method: "POST", path: "/v2/app/blobs/uploads/"},
	{method: "POST", path: "/v2/app/blobs/uploads/?digest=" + someDigest},
	{method: "POST", path: "/v2/app/blobs/uploads/?mount=" + someDigest + "&from=other"},
	{method: "GET", path: "/v2/app/blobs/uploads/x"},
	{method: "PATCH", path: "/v2/app/blobs/uploads/x"},
	{method: "PUT", path: "/v2/app/blobs/uploads/x?digest=" + someDigest},
	{method: "DELETE", path: "/v2/app/blobs/uploads/x"},
	{method: "GET", path: "/acr/v1/_catalog"},
	{method: "GET", path: "/acr/v1/app"},
	{method: "PATCH", path: "/acr/v1/app"},
	{method: "DELETE", path: "/acr/v1/app"},
	{method: "GET", path: "/acr/v1/app/_tags"},
	{method: "GET", path: "/acr/v1/app/_tags/1"},
	{method: "PATCH", path: "/acr/v1/app/_tags/1"},
	{method: "DELETE", path: "/acr/v1/app/_tags/1"},
	{method: "GET", path: "/acr/v1/app/_manifests"},
	{method: "GET", path: "/acr/v1/app/_manifests/" + someDigest},
	{method: "PATCH", path: "/acr/v1/app/_manifests/" + someDigest},
}

// TestNothingIsOpen: without credentials, with wrong ones and with a broken token
// every request is refused alike, also one that makes no sense.
func TestNothingIsOpen(t *testing.T) {
	w := newWorld(t)
	w.putImage("app", "1", "layer")
	nonsense := []request{{method: "GET", path: "/v2/nothing"}, {method: "BREW", path: "/v2/"}, {method: "GET", path: "/v2/UPPER/manifests/x"}}
	for _, r := range append(nonsense, everyRequest...) {
		for _, header := range []map[string]string{nil, {"Authorization": "Basic " + "YWRtaW46d3Jvbmc="}, {"Authorization": "Bearer x.y.z"},
			{"Authorization": "Basic ???"}, {"Authorization": "Negotiate abc"}, {"Authorization": ""}} {
			r.anonymous, r.header = true, header
			a := w.do(r)
			if a.StatusCode != 401 || !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), `Bearer realm="`+w.url+`/v2/token",service="pratique"`) {
				t.Errorf("%s %s %v: status %d, challenge %q; want 401 and where to log in", r.method, r.path, header, a.StatusCode, a.Header.Get("WWW-Authenticate"))
			}
		}
	}
}

// TestNobodyWithoutGrant: who is known but was granted nothing gets nothing but the ping.
func TestNobodyWithoutGrant(t *testing.T) {
	w := newWorld(t)
	w.putImage("app", "1", "layer")
	token := w.tokenFor(w.principal("robot", "", ""), "repository:app:pull,push,delete", "registry:catalog:*")
	for _, r := range everyRequest {
		r.token = token
		a := w.do(r)
		if r.path == "/v2/" {
			w.want(a, 200, "")
			continue
		}
		if strings.HasSuffix(r.path, "/_catalog") {
			if w.want(a, 200, ""); string(a.body) != `{"repositories":[]}`+"\n" {
				t.Errorf("the list shows %s", a.body)
			}
			continue
		}
		if a.StatusCode != 403 {
			t.Errorf("%s %s: status %d, want 403; %s", r.method, r.path, a.StatusCode, a.body)
		}
	}
}

// tokenFor issues a token to a principal that principal made.
func (w *world) tokenFor(name string, scopes ...string) string {
	w.t.Helper()
	asked, err := identity.ParseScopes(scopes)
	if err != nil {
		w.t.Fatal(err)
	}
	t, err := w.ident.Issue(bg, identity.Login{Principal: access.Principal{ID: "id-" + name, Kind: access.KindService, Name: name}}, access.Request{}, asked)
	if err != nil {
		w.t.Fatal(err)
	}
	return t.Text
}

func TestInsufficientToken(t *testing.T) {
	w := newWorld(t)
	token := w.tokenFor(w.principal("deployer", "Owner", "team/*"), "repository:team/app:pull")
	for _, tc := range []struct {
		path   string
		status int
		scope  string
	}{
		{"/v2/team/app/blobs/uploads/", 401, `scope="repository:team/app:pull,push"`},
		{"/v2/team/app/blobs/uploads/?mount=" + someDigest + "&from=team/base", 401, `scope="repository:team/app:pull,push repository:team/base:pull"`},
		{"/v2/other/app/blobs/uploads/", 403, ""}, // asking again would not help
	} {
		a := w.want(w.do(request{method: "POST", path: tc.path, token: token}), tc.status, "")
		if got := a.Header.Get("WWW-Authenticate"); !strings.Contains(got, tc.scope) || tc.scope != "" && !strings.Contains(got, `error="insufficient_scope"`) {
			t.Errorf("%s: challenge %q; want %s", tc.path, got, tc.scope)
		}
	}
}

func TestTokenEndpoint(t *testing.T) {
	w := newWorld(t)
	form := func(kv ...string) string {
		v := url.Values{}
		for i := 0; i < len(kv); i += 2 {
			v.Add(kv[i], kv[i+1])
		}
		return v.Encode()
	}
	isForm := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	for name, r := range map[string]request{
		"GET": {method: "GET", path: "/v2/token?service=pratique&scope=repository:app:pull,push&scope=registry:catalog:*"},
		"POST": {method: "POST", path: "/v2/token", anonymous: true, header: isForm, body: form("grant_type", "password", "username", "admin", "password", secret,
			"client_id", "test", "service", "pratique", "scope", "repository:app:pull,push registry:catalog:*")},
	} {
		a := w.want(w.do(r), 200, "")
		var doc struct {
			Token       string    `json:"token"`
			AccessToken string    `json:"access_token"`
			ExpiresIn   int       `json:"expires_in"`
			IssuedAt    time.Time `json:"issued_at"`
		}
		if err := json.Unmarshal(a.body, &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Token == "" || doc.Token != doc.AccessToken || doc.ExpiresIn != 300 || doc.IssuedAt.IsZero() || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s", name, a.body)
		}
		w.want(w.do(request{method: "GET", path: "/v2/_catalog", token: doc.Token}), 200, "")
		w.want(w.do(request{method: "POST", path: "/v2/app/blobs/uploads/", token: doc.Token}), 202, "")
		w.want(w.do(request{method: "POST", path: "/v2/other/blobs/uploads/", token: doc.Token}), 401, "UNAUTHORIZED")
	}
	for name, tc := range map[string]struct {
		r      request
		status int
	}{
		"nobody":         {request{method: "GET", path: "/v2/token", anonymous: true}, 401},
		"wrong secret":   {request{method: "GET", path: "/v2/token", header: map[string]string{"Authorization": "Basic YWRtaW46d3Jvbmc="}, anonymous: true}, 401},
		"wrong password": {request{method: "POST", path: "/v2/token", anonymous: true, header: isForm, body: form("grant_type", "password", "username", "admin", "password", "wrong")}, 401},
		"no token":       {request{method: "POST", path: "/v2/token", anonymous: true, header: isForm, body: form("grant_type", "refresh_token", "refresh_token", "x")}, 401},
		"unknown grant":  {request{method: "POST", path: "/v2/token", anonymous: true, header: isForm, body: form("grant_type", "implicit")}, 400},
		"broken scope":   {request{method: "GET", path: "/v2/token?scope=nonsense"}, 400},
		"huge form":      {request{method: "POST", path: "/v2/token", anonymous: true, header: isForm, body: form("grant_type", "password", "x", strings.Repeat("y", 70_000))}, 400},
		"wrong method":   {request{method: "DELETE", path: "/v2/token"}, 405},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.in(t)
			w.want(w.do(tc.r), tc.status, "")
		})
	}
}

func TestExternalURL(t *testing.T) {
	w := newWorld(t)
	a := w.do(request{method: "GET", path: "/v2/", anonymous: true, header: map[string]string{"X-Forwarded-Proto": "https"}})
	if got := a.Header.Get("WWW-Authenticate"); !strings.Contains(got, `realm="http://127.`) {
		t.Errorf("a client that calls itself a proxy is believed: %q", got)
	}
	// Behind a proxy that is trusted.
	trusted, err := edge.ParseProxies("127.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(trusted.Handler(ociserver.New(w.reg, w.ident, ociserver.Options{})))
	defer srv.Close()
	a = w.do(request{method: "GET", path: srv.URL + "/v2/", anonymous: true, header: map[string]string{
		"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "registry.example:8443"}})
	if got := a.Header.Get("WWW-Authenticate"); !strings.Contains(got, `realm="https://registry.example:8443/v2/token"`) {
		t.Errorf("behind a proxy that ends TLS: %q", got)
	}
}

func TestUploads(t *testing.T) {
	w := newWorld(t)
	content := strings.Repeat("0123456789", 100)
	d := sum(content)
	begin := func() string {
		a := w.want(w.do(request{method: "POST", path: "/v2/app/blobs/uploads/"}), 202, "")
		if a.Header.Get("Range") != "0-0" || a.Header.Get("Docker-Upload-UUID") == "" {
			t.Errorf("begin: %v", a.Header)
		}
		return a.Header.Get("Location")
	}
	chunk := func(loc, rng, body string) answer {
		h := map[string]string{"Content-Type": "application/octet-stream"}
		if rng != "" {
			h["Content-Range"] = rng
		}
		return w.do(request{method: "PATCH", path: loc, header: h, body: body})
	}
	loc := begin()
	a := w.want(chunk(loc, "0-299", content[:300]), 202, "")
	if a.Header.Get("Range") != "0-299" || a.Header.Get("Location") == "" {
		t.Errorf("after a chunk: %v", a.Header)
	}
	// Out of order, repeated, and lying about its length.
	for _, rng := range []string{"0-299", "400-699", "299-598"} {
		a := w.want(chunk(loc, rng, content[300:600]), 416, "RANGE_INVALID")
		if a.Header.Get("Range") != "0-299" || a.Header.Get("Location") != loc {
			t.Errorf("refused chunk %s: %v; want to hear where to go on", rng, a.Header)
		}
	}
	w.want(chunk(loc, "300-400", content[300:600]), 400, "SIZE_INVALID")
	w.want(chunk(loc, "600-300", content[300:600]), 400, "BLOB_UPLOAD_INVALID")
	w.want(chunk(loc, "300-599", content[300:600]), 202, "")
	a = w.want(w.do(request{method: "GET", path: loc}), 204, "")
	if a.Header.Get("Range") != "0-599" {
		t.Errorf("status: %v", a.Header)
	}
	w.want(w.do(request{method: "PUT", path: loc, body: content[600:]}), 400, "DIGEST_INVALID")
	w.want(w.do(request{method: "PUT", path: loc + "?digest=md5:abc", body: content[600:]}), 400, "DIGEST_INVALID")
	w.want(w.do(request{method: "PUT", path: loc + "?digest=" + d.String(), header: map[string]string{"Content-Range": "0-399"}, body: content[600:]}), 416, "RANGE_INVALID")
	a = w.want(w.do(request{method: "PUT", path: loc + "?digest=" + d.String(), header: map[string]string{"Content-Range": "600-999"}, body: content[600:]}), 201, "")
	if a.Header.Get("Location") != "/v2/app/blobs/"+d.String() || a.Header.Get("Docker-Content-Digest") != d.String() {
		t.Errorf("created: %v", a.Header)
	}
	w.want(w.do(request{method: "PUT", path: loc + "?digest=" + d.String()}), 404, "BLOB_UPLOAD_UNKNOWN")

	// A wrong digest keeps nothing, and the upload is over.
	loc = begin()
	w.want(w.do(request{method: "PUT", path: loc + "?digest=" + d.String(), body: "other"}), 400, "DIGEST_INVALID")
	w.want(w.do(request{method: "GET", path: loc}), 404, "BLOB_UPLOAD_UNKNOWN")
	w.want(w.do(request{method: "POST", path: "/v2/app/blobs/uploads/?digest=" + d.String(), body: "other"}), 400, "DIGEST_INVALID")

	loc = begin()
	w.want(chunk(loc, "", "some"), 202, "")
	w.want(w.do(request{method: "DELETE", path: loc}), 204, "")
	w.want(w.do(request{method: "DELETE", path: loc}), 404, "BLOB_UPLOAD_UNKNOWN")
	// Of another repository, an upload is not known.
	loc = strings.Replace(begin(), "/app/", "/other/", 1)
	w.want(chunk(loc, "", "some"), 404, "BLOB_UPLOAD_UNKNOWN")
	w.want(w.do(request{method: "POST", path: "/v2/app/blobs/uploads/?digest-algorithm=md5"}), 400, "DIGEST_INVALID")
	if left := files(t, filepath.Join(w.dir, "uploads")); len(left) != 1 { // the last one that was begun
		t.Errorf("left in uploads: %v", left)
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestBlobRange(t *testing.T) {
	w := newWorld(t)
	d := w.putBlob("app", "0123456789")
	path := "/v2/app/blobs/" + d.String()
	for _, tc := range []struct {
		rng, want string
		status    int
	}{
		{"", "0123456789", 200},
		{"bytes=0-3", "0123", 206},
		{"bytes=8-", "89", 206},
		{"bytes=-2", "89", 206},
		{"bytes=5-100", "56789", 206},
		{"bytes=10-", "", 416},
		{"nonsense", "", 416},
	} {
		a := w.do(request{method: "GET", path: path, header: map[string]string{"Range": tc.rng}})
		if a.StatusCode != tc.status || tc.status < 300 && string(a.body) != tc.want {
			t.Errorf("Range %q: %d %q; want %d %q", tc.rng, a.StatusCode, a.body, tc.status, tc.want)
		}
	}
	a := w.want(w.do(request{method: "HEAD", path: path}), 200, "")
	if a.ContentLength != 10 || a.Header.Get("Docker-Content-Digest") != d.String() || len(a.body) != 0 {
		t.Errorf("HEAD: %v", a.Header)
	}
	w.want(w.do(request{method: "GET", path: path, header: map[string]string{"If-None-Match": `"` + d.String() + `"`}}), 304, "")
	w.want(w.do(request{method: "GET", path: "/v2/app/blobs/" + someDigest}), 404, "BLOB_UNKNOWN")
	w.want(w.do(request{method: "HEAD", path: "/v2/app/blobs/" + someDigest}), 404, "")
	w.want(w.do(request{method: "GET", path: "/v2/other/blobs/" + d.String()}), 404, "BLOB_UNKNOWN")
}

func TestManifests(t *testing.T) {
	w := newWorld(t)
	raw := w.putImage("app", "1", "layer")
	d := sum(raw)
	for _, ref := range []string{"1", d.String()} {
		for _, method := range []string{"GET", "HEAD"} {
			a := w.want(w.do(request{method: method, path: "/v2/app/manifests/" + ref}), 200, "")
			if a.Header.Get("Docker-Content-Digest") != d.String() || a.Header.Get("Content-Type") != oci.MediaTypeImageManifest ||
				a.ContentLength != int64(len(raw)) || a.Header.Get("Pratique-Decision") != "allow" || method == "GET" && string(a.body) != raw {
				t.Errorf("%s %s: %v %q", method, ref, a.Header, a.body)
			}
		}
	}
	w.want(w.do(request{method: "GET", path: "/v2/app/manifests/1", header: map[string]string{"If-None-Match": `"` + d.String() + `"`}}), 304, "")
	w.want(w.do(request{method: "GET", path: "/v2/app/manifests/2"}), 404, "MANIFEST_UNKNOWN")
	w.want(w.do(request{method: "GET", path: "/v2/nothing/manifests/1"}), 404, "NAME_UNKNOWN")
	w.want(w.do(request{method: "DELETE", path: "/v2/app/blobs/" + sum("layer").String()}), 405, "UNSUPPORTED") // a manifest needs it
	w.want(w.do(request{method: "DELETE", path: "/v2/app/manifests/1"}), 202, "")
	w.want(w.do(request{method: "GET", path: "/v2/app/manifests/1"}), 404, "MANIFEST_UNKNOWN")
	w.want(w.do(request{method: "GET", path: "/v2/app/manifests/" + d.String()}), 200, "")
	w.want(w.do(request{method: "DELETE", path: "/v2/app/manifests/" + d.String()}), 202, "")
	w.want(w.do(request{method: "DELETE", path: "/v2/app/manifests/" + d.String()}), 404, "MANIFEST_UNKNOWN")
	w.want(w.do(request{method: "DELETE", path: "/v2/app/blobs/" + sum("layer").String()}), 202, "")
	w.want(w.do(request{method: "DELETE", path: "/v2/app/blobs/" + sum("layer").String()}), 404, "BLOB_UNKNOWN")
}

func TestBadManifests(t *testing.T) {
	w := newWorld(t)
	w.putBlob("app", "config")
	w.putBlob("app", "layer")
	good := manifestOf("config", "layer", "")
	for name, tc := range map[string]struct {
		ref, raw, mediaType string
		status              int
		code, says          string
	}{
		"not JSON":           {"1", "{", "", 400, "MANIFEST_INVALID", "JSON"},
		"empty":              {"1", "", "", 400, "MANIFEST_INVALID", ""},
		"unknown layer":      {"1", manifestOf("config", "elsewhere", ""), "", 400, "MANIFEST_BLOB_UNKNOWN", sum("elsewhere").String()},
		"wrong size":         {"1", strings.Replace(good, `"size":5`, `"size":6`, 1), "", 400, "MANIFEST_INVALID", "has 5 bytes"},
		"wrong digest":       {someDigest, good, "", 400, "DIGEST_INVALID", sum(good).String()},
		"other media type":   {"1", good, oci.MediaTypeImageIndex, 400, "MANIFEST_INVALID", "mediaType"},
		"no media type":      {"1", good, "text/html", 400, "MANIFEST_INVALID", "text/html"},
		"both an index":      {"1", strings.Replace(good, `"layers"`, `"manifests":[],"layers"`, 1), "", 400, "MANIFEST_INVALID", "manifests"},
		"5 MB":               {"1", good + strings.Repeat(" ", 5<<20), "", 413, "MANIFEST_INVALID", "4194304"},
		"a key twice":        {"1", strings.Replace(good, `"layers"`, `"layers":[],"layers"`, 1), "", 400, "MANIFEST_INVALID", "layers"},
		"a key in capitals":  {"1", strings.Replace(good, `"layers"`, `"LAYERS":[],"layers"`, 1), "", 400, "MANIFEST_INVALID", "LAYERS"},
		"schema 1":           {"1", `{"schemaVersion":1,"fsLayers":[]}`, "application/vnd.docker.distribution.manifest.v1+json", 400, "MANIFEST_INVALID", ""},
		"a broken subject":   {"1", manifestOf("config", "layer", `,"subject":{"mediaType":"x","digest":"sha256:abc","size":1}`), "", 400, "MANIFEST_INVALID", "digest"},
		"something after it": {"1", good + "{}", "", 400, "MANIFEST_INVALID", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.in(t)
			mt := tc.mediaType
			if mt == "" {
				mt = oci.MediaTypeImageManifest
			}
			a := w.do(request{method: "PUT", path: "/v2/app/manifests/" + tc.ref, body: tc.raw, header: map[string]string{"Content-Type": mt}})
			w.want(a, tc.status, tc.code)
			if e := a.errorOf(t); !strings.Contains(e.Message+string(e.Detail), tc.says) {
				t.Errorf("message %q does not say %q", e.Message, tc.says)
			}
		})
	}
	w.want(w.do(request{method: "GET", path: "/v2/app/tags/list"}), 200, "")
	for _, dir := range []string{"uploads"} {
		if left := files(t, filepath.Join(w.dir, dir)); len(left) != 0 {
			t.Errorf("left in %s: %v", dir, left)
		}
	}
	if _, err := os.Stat(filepath.Join(w.dir, "blobs/sha256", sum(good).Hex()[:2], sum(good).Hex())); err == nil {
		t.Error("a refused manifest's bytes were kept")
	}
}

func TestPutManifestHeaders(t *testing.T) {
	w := newWorld(t)
	w.putBlob("app", "config")
	w.putBlob("app", "layer")
	w.judge.counts.Critical, w.judge.counts.High, w.judge.counts.Fixable = 1, 3, 2
	subject := sum("elsewhere")
	raw := manifestOf("config", "layer", fmt.Sprintf(`,"subject":{"mediaType":%q,"digest":%q,"size":9}`, oci.MediaTypeImageManifest, subject))
	a := w.want(w.putManifest("app", "1", raw), 201, "")
	for k, want := range map[string]string{
		"Location":              "/v2/app/manifests/" + sum(raw).String(),
		"Docker-Content-Digest": sum(raw).String(),
		"OCI-Subject":           subject.String(),
		"Pratique-Decision":     "allow",
		"Pratique-Findings":     "critical=1, high=3, medium=0, low=0, none=0, unknown=0, fixable=2, exploited=0",
	} {
		if got := a.Header.Get(k); got != want {
			t.Errorf("%s is %q, want %q", k, got, want)
		}
	}
	a = w.want(w.do(request{method: "GET", path: "/v2/app/referrers/" + subject.String() + "?artifactType=none"}), 200, "")
	if a.Header.Get("OCI-Filters-Applied") != "artifactType" || !strings.Contains(string(a.body), `"manifests":[]`) {
		t.Errorf("filtered referrers: %v %s", a.Header, a.body)
	}
	a = w.want(w.do(request{method: "GET", path: "/v2/app/referrers/" + subject.String()}), 200, "")
	if a.Header.Get("Content-Type") != oci.MediaTypeImageIndex || !strings.Contains(string(a.body), sum(raw).String()) {
		t.Errorf("referrers: %v %s", a.Header, a.body)
	}
}

func TestPaging(t *testing.T) {
	w := newWorld(t)
	raw := w.putImage("app", "t0", "layer")
	want := []string{"t0"}
	for i := 1; i < 5; i++ {
		tag := fmt.Sprintf("t%d", i)
		want = append(want, tag)
		w.want(w.putManifest("app", tag, raw), 201, "")
	}
	var got []string
	path := "/v2/app/tags/list?n=2"
	for pages := 0; path != ""; pages++ {
		a := w.want(w.do(request{method: "GET", path: path}), 200, "")
		var doc struct {
			Name string
			Tags []string
		}
		if err := json.Unmarshal(a.body, &doc); err != nil || doc.Name != "app" || len(doc.Tags) > 2 || pages > 3 {
			t.Fatalf("%s: %s, %v", path, a.body, err)
		}
		got = append(got, doc.Tags...)
		link, isNext := strings.CutSuffix(a.Header.Get("Link"), `>; rel="next"`)
		if path = strings.TrimPrefix(link, "<"); (path != "") != isNext {
			t.Fatalf("Link %q", a.Header.Get("Link"))
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("pages have %v, want %v", got, want)
	}
	for q, want := range map[string]string{"n=0": `"tags":[]`, "n=100000": `"t4"`, "last=t3": `["t4"]`, "last=zzz": `"tags":[]`} {
		a := w.want(w.do(request{method: "GET", path: "/v2/app/tags/list?" + q}), 200, "")
		if !strings.Contains(string(a.body), want) || a.Header.Get("Link") != "" {
			t.Errorf("%s: %s, Link %q; want %s", q, a.body, a.Header.Get("Link"), want)
		}
	}
	w.want(w.do(request{method: "GET", path: "/v2/app/tags/list?n=-1"}), 400, "PAGINATION_NUMBER_INVALID")
	w.want(w.do(request{method: "GET", path: "/v2/_catalog?n=x"}), 400, "PAGINATION_NUMBER_INVALID")
	w.want(w.do(request{method: "GET", path: "/v2/none/tags/list"}), 404, "NAME_UNKNOWN")
	w.putImage("zeta", "1", "layer")
	a := w.want(w.do(request{method: "GET", path: "/v2/_catalog?n=1"}), 200, "")
	if !strings.Contains(string(a.body), `["app"]`) || !strings.Contains(a.Header.Get("Link"), "/v2/_catalog?last=app&n=1") {
		t.Errorf("catalog: %s, Link %q", a.body, a.Header.Get("Link"))
	}
}

func TestInternalErrorsStayInside(t *testing.T) {
	w := newWorld(t)
	raw := w.putImage("app", "1", "layer")
	d := sum("layer")
	name := filepath.Join(w.dir, "blobs/sha256", d.Hex()[:2], d.Hex())
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", name); err != nil {
		t.Fatal(err)
	}
	a := w.want(w.do(request{method: "GET", path: "/v2/app/blobs/" + d.String()}), 500, "UNKNOWN")
	e := a.errorOf(t)
	if strings.Contains(string(a.body), w.dir) || strings.Contains(string(a.body), "path") || !strings.Contains(e.Message, "internal error") {
		t.Errorf("the client hears %q", a.body)
	}
	id := e.Message[strings.LastIndex(e.Message, " ")+1:]
	if log := w.log.String(); !strings.Contains(log, "request="+id) || !strings.Contains(log, "err=") || strings.Contains(log, secret) {
		t.Errorf("the log has %q; want request %s", log, id)
	}
	w.want(w.do(request{method: "GET", path: "/v2/app/manifests/" + sum(raw).String()}), 200, "")
}

func TestMethodNotAllowed(t *testing.T) {
	w := newWorld(t)
	a := w.want(w.do(request{method: "POST", path: "/v2/app/manifests/1"}), 405, "UNSUPPORTED")
	if got := a.Header.Get("Allow"); got != "GET, HEAD, PUT, DELETE" {
		t.Errorf("Allow %q", got)
	}
	w.want(w.do(request{method: "GET", path: "/v2/UPPER/tags/list"}), 400, "NAME_INVALID")
	w.want(w.do(request{method: "GET", path: "/v2/app/else"}), 404, "NAME_UNKNOWN")
	if got := w.do(request{method: "GET", path: "/v2/"}).Header.Get("Docker-Distribution-Api-Version"); got != "registry/2.0" {
		t.Errorf("version %q", got)
	}
}

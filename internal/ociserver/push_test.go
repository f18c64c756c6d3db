package ociserver_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/oci"
)

// putWith puts a manifest with further headers.
func (w *world) putWith(path, raw string, header map[string]string) answer {
	w.t.Helper()
	h := map[string]string{"Content-Type": oci.MediaTypeImageManifest}
	for k, v := range header {
		h[k] = v
	}
	return w.do(request{method: "PUT", path: path, body: raw, header: h})
}

func TestPushManyTags(t *testing.T) {
	w := newWorld(t)
	w.putBlob("app", "config")
	w.putBlob("app", "layer")
	raw := manifestOf("config", "layer", "")
	for _, alg := range []oci.Algorithm{oci.SHA256, oci.SHA512} {
		d := oci.DigestOf(alg, []byte(raw))
		one, two := string(alg)+"-1", string(alg)+"-2"
		a := w.want(w.putWith("/v2/app/manifests/"+d.String()+"?tag="+one+"&tag="+two+"&tag="+one, raw, nil), 201, "")
		if got := a.Header.Values("OCI-Tag"); !slices.Equal(got, []string{one, two}) {
			t.Errorf("%s: OCI-Tag %q", alg, got)
		}
		for _, tag := range []string{one, two} {
			a := w.want(w.do(request{method: "HEAD", path: "/v2/app/manifests/" + tag}), 200, "")
			if got := a.Header.Get("Docker-Content-Digest"); got != d.String() {
				t.Errorf("%s is %s, want %s", tag, got, d)
			}
		}
	}
	// By tag, under a digest of the client's choice.
	d := oci.DigestOf(oci.SHA512, []byte(raw))
	a := w.want(w.putWith("/v2/app/manifests/long?tag=longer&digest="+d.String(), raw, nil), 201, "")
	if a.Header.Get("Docker-Content-Digest") != d.String() || !strings.HasSuffix(a.Header.Get("Location"), d.String()) || a.Header.Get("OCI-Tag") != "longer" {
		t.Errorf("%v", a.Header)
	}
	many := url.Values{}
	for i := range 101 {
		many.Add("tag", fmt.Sprintf("t%d", i))
	}
	for path, want := range map[string]struct {
		status int
		code   string
	}{
		sum(raw).String() + "?" + many.Encode():     {414, "TAG_INVALID"},
		sum(raw).String() + "?tag=a%20b":            {400, "TAG_INVALID"},
		sum(raw).String() + "?tag=":                 {400, "TAG_INVALID"},
		sum(raw).String() + "?tag=" + someDigest:    {400, "TAG_INVALID"},
		sum(raw).String() + "?digest=" + d.String(): {400, "DIGEST_INVALID"},
		"x?digest=sha512:short":                     {400, "DIGEST_INVALID"},
		"x?digest=" + someDigest:                    {400, "DIGEST_INVALID"},
	} {
		w.want(w.putWith("/v2/app/manifests/"+path, raw, nil), want.status, want.code)
	}
	w.want(w.do(request{method: "GET", path: "/v2/app/manifests/x"}), 404, "MANIFEST_UNKNOWN")
}

func TestConditionalPush(t *testing.T) {
	w := newWorld(t)
	first := w.putImage("app", "1", "first")
	w.putBlob("app", "second")
	second := manifestOf(`{"architecture":"amd64","os":"linux"}`, "second", "")
	put := func(ref, header, value string) answer {
		return w.putWith("/v2/app/manifests/"+ref, second, map[string]string{header: value})
	}
	etag := func(raw string) string { return `"` + sum(raw).String() + `"` }
	w.want(put("1", "If-None-Match", "*"), 412, "PRECONDITION_FAILED")
	w.want(put("1", "If-None-Match", etag("else")+", "+etag(first)), 412, "PRECONDITION_FAILED")
	w.want(put("1", "If-Match", etag(second)), 412, "PRECONDITION_FAILED")
	w.want(put("none", "If-Match", "*"), 412, "PRECONDITION_FAILED")
	w.want(put("1", "If-Match", "nonsense"), 400, "UNSUPPORTED")
	w.want(put(sum(second).String(), "If-Match", "*"), 412, "PRECONDITION_FAILED")
	if a := w.do(request{method: "GET", path: "/v2/app/manifests/1"}); string(a.body) != first {
		t.Fatalf("a push whose condition does not hold changed the tag: %s", a.body)
	}
	w.want(w.do(request{method: "GET", path: "/v2/app/manifests/" + sum(second).String()}), 404, "MANIFEST_UNKNOWN")
	w.want(put("2", "If-None-Match", "*"), 201, "")
	w.want(put("1", "If-Match", etag(first)), 201, "")
	if a := w.do(request{method: "GET", path: "/v2/app/manifests/1"}); string(a.body) != second {
		t.Errorf("the tag was not moved: %s", a.body)
	}
	// Reading.
	a := w.want(w.do(request{method: "GET", path: "/v2/app/manifests/1", header: map[string]string{"If-None-Match": etag(second)}}), 304, "")
	if len(a.body) != 0 || a.Header.Get("ETag") != etag(second) {
		t.Errorf("304 with %v %s", a.Header, a.body)
	}
	w.want(w.do(request{method: "GET", path: "/v2/app/manifests/1", header: map[string]string{"If-None-Match": etag(first)}}), 200, "")
	w.want(w.do(request{method: "GET", path: "/v2/app/blobs/" + sum("second").String(), header: map[string]string{"If-None-Match": etag("second")}}), 304, "")
}

func TestWarnings(t *testing.T) {
	w := newWorld(t)
	w.judge.set(quarantineAll)
	raw := w.putImage("team/app", "1", "layer")
	foreign := strings.Replace(raw, "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.nondistributable.v1.tar", 1)
	if got := w.want(w.putManifest("team/app", "1", raw), 201, "").Header.Values("Warning"); len(got) != 1 ||
		got[0] != `299 - "team/app:1 is quarantined: CVE-2021-44228 is critical and has a fix. Read on: pratique show team/app:1 --server https://registry.example"` {
		t.Errorf("Warning %q", got)
	}
	w.judge.set(allowAll)
	if got := w.want(w.putManifest("team/app", "2", foreign), 201, "").Header.Values("Warning"); len(got) != 1 || !strings.Contains(got[0], "deprecated") {
		t.Errorf("Warning %q", got)
	}
	w.putImage("fine", "1", "other")
	if got := w.want(w.do(request{method: "GET", path: "/v2/fine/manifests/1"}), 200, "").Header.Values("Warning"); got != nil {
		t.Errorf("Warning %q", got)
	}
}

func TestReferrerPages(t *testing.T) {
	w := newWorld(t)
	w.putBlob("app", "config")
	w.putBlob("app", "layer")
	// Three of 1 MiB do not fit into what clients read.
	filler := strings.Repeat("x", 1<<20)
	want := map[string]bool{}
	for i := range 3 {
		raw := manifestOf("config", "layer", fmt.Sprintf(`,"artifactType":"a/b","subject":{"mediaType":"m","digest":%q,"size":1},"annotations":{"n":"%d%s"}`, sum("s"), i, filler))
		w.want(w.putManifest("app", sum(raw).String(), raw), 201, "")
		want[sum(raw).String()] = true
	}
	pages := 0
	for path := "/v2/app/referrers/" + sum("s").String() + "?artifactType=a%2Fb"; path != ""; pages++ {
		a := w.want(w.do(request{method: "GET", path: path}), 200, "")
		if len(a.body) > oci.MaxManifestSize || a.Header.Get("OCI-Filters-Applied") != "artifactType" {
			t.Errorf("a page of %d bytes, %v", len(a.body), a.Header)
		}
		var doc struct{ Manifests []oci.Descriptor }
		if err := json.Unmarshal(a.body, &doc); err != nil {
			t.Fatal(err)
		}
		for _, d := range doc.Manifests {
			if !want[d.Digest.String()] {
				t.Errorf("%s came twice", d.Digest)
			}
			delete(want, d.Digest.String())
		}
		path = strings.TrimSuffix(strings.TrimPrefix(a.Header.Get("Link"), "<"), `>; rel="next"`)
	}
	if len(want) != 0 || pages != 2 {
		t.Errorf("%d pages lack %v", pages, want)
	}
	w.want(w.do(request{method: "GET", path: "/v2/app/referrers/" + sum("s").String() + "?after=x"}), 400, "PAGINATION_NUMBER_INVALID")
}

// TestConditionalDelete: who deletes on a condition does not delete what somebody else has pushed since.
func TestConditionalDelete(t *testing.T) {
	w := newWorld(t)
	first := w.putImage("app", "1", "first")
	second := w.putImage("app", "1", "second")
	del := func(ref, header, value string) answer {
		return w.do(request{method: "DELETE", path: "/v2/app/manifests/" + ref, header: map[string]string{header: value}})
	}
	etag := func(raw string) string { return `"` + sum(raw).String() + `"` }
	w.want(del("1", "If-Match", etag(first)), 412, "PRECONDITION_FAILED")
	w.want(del("1", "If-None-Match", etag(second)), 412, "PRECONDITION_FAILED")
	w.want(del("1", "If-Match", "nonsense"), 400, "UNSUPPORTED")
	w.want(del(sum(second).String(), "If-Match", etag(first)), 412, "PRECONDITION_FAILED")
	if a := w.do(request{method: "GET", path: "/v2/app/manifests/1"}); string(a.body) != second {
		t.Fatalf("a deletion whose condition does not hold changed the tag: %s", a.body)
	}
	w.want(del("1", "If-Match", etag(first)+", "+etag(second)), 202, "")
	w.want(del("1", "If-Match", "*"), 404, "MANIFEST_UNKNOWN")
	w.want(del(sum(second).String(), "If-Match", "*"), 202, "")
	w.want(w.do(request{method: "GET", path: "/v2/app/manifests/" + sum(second).String()}), 404, "MANIFEST_UNKNOWN")
}

// TestBrokenQuery: a parameter that cannot be read is not passed over.
func TestBrokenQuery(t *testing.T) {
	w := newWorld(t)
	raw := w.putImage("app", "1", "layer")
	for _, r := range []request{
		{method: "PUT", path: "/v2/app/manifests/2?tag=3;tag=4", body: raw},
		{method: "PUT", path: "/v2/app/manifests/2?digest=%zz", body: raw},
		{method: "GET", path: "/v2/app/tags/list?n=1;last=x"},
		{method: "POST", path: "/v2/app/blobs/uploads/?mount=%"},
	} {
		w.want(w.do(r), 400, "QUERY_INVALID")
	}
	w.want(w.do(request{method: "GET", path: "/v2/app/manifests/2"}), 404, "MANIFEST_UNKNOWN")
	w.want(w.do(request{method: "GET", path: "/v2/app/tags/list?n=%", anonymous: true}), 401, "UNAUTHORIZED")
}

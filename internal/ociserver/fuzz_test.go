package ociserver_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/blob/memblob"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/ociserver"
	"pratique.dev/pratique/internal/registry"
)

// FuzzRequest sends whole requests as they come from the net: no such may be a fault of the
// server's, and nothing is served without credentials.
func FuzzRequest(f *testing.F) {
	cat := catalogtest.Open(f)
	ident := identity.New(cat, identity.Options{})
	if _, _, _, err := ident.Bootstrap(bg, secret); err != nil {
		f.Fatal(err)
	}
	j := &judge{cat: cat, decide: allowAll}
	h := ociserver.New(registry.New(cat, memblob.New(), registry.Options{Judge: j}), ident, ociserver.Options{})
	blob := oci.DigestOf(oci.SHA256, []byte("{}")).String()
	image := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[]}`,
		oci.MediaTypeImageManifest, oci.MediaTypeImageConfig, blob)
	for _, s := range []string{
		"GET /v2/ HTTP/1.1", "GET /v2/_catalog?n=2&last=a HTTP/1.1",
		"GET /v2/token?service=a&scope=repository:a:pull,push&scope=b HTTP/1.1",
		"POST /v2/a/blobs/uploads/?digest=" + blob + " HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
		"POST /v2/b/blobs/uploads/?mount=" + blob + "&from=a HTTP/1.1",
		"POST /v2/a/blobs/uploads/?digest-algorithm=sha512 HTTP/1.1",
		"PATCH /v2/a/blobs/uploads/x HTTP/1.1\r\nContent-Range: 0-1\r\nContent-Length: 2\r\n\r\n{}",
		"PUT /v2/a/blobs/uploads/x?digest=sha512:00 HTTP/1.1",
		fmt.Sprintf("PUT /v2/a/manifests/t?tag=u HTTP/1.1\r\nContent-Type: %s\r\nIf-None-Match: *\r\nContent-Length: %d\r\n\r\n%s", oci.MediaTypeImageManifest, len(image), image),
		"GET /v2/a/manifests/t HTTP/1.1\r\nAccept: */*\r\nIf-None-Match: W/\"" + blob + "\"",
		"GET /v2/a/blobs/" + blob + " HTTP/1.1\r\nRange: bytes=0-0,1-\r\nIf-Range: x",
		"GET /v2/a/referrers/" + blob + "?artifactType=x HTTP/1.1", "GET /v2/a/tags/list?n=0&last=%00 HTTP/1.1",
		"DELETE /v2/a/manifests/t HTTP/1.1", "HEAD /v2/a/manifests/" + blob + " HTTP/1.1\r\nAuthorization: Basic !!",
		"GET /v2/a/manifests/t HTTP/1.1\r\nAuthorization: Bearer a.b.c",
	} {
		if !strings.Contains(s, "\r\n\r\n") {
			s += "\r\n\r\n"
		}
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			return
		}
		req.Body = http.MaxBytesReader(nil, req.Body, 1<<16)
		known := req.Header.Get("Authorization") == ""
		if known {
			req.SetBasicAuth("admin", secret)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code >= 500 {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
		if !known && w.Code < 400 && bytes.Contains(w.Body.Bytes(), []byte("schemaVersion")) {
			t.Errorf("served to somebody unknown: %s", w.Body)
		}
	})
}

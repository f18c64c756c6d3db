package ociserver_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/ociserver"
)

// halting is a body and a ResponseWriter that tells when it has come so far, and waits then.
type halting struct {
	*httptest.ResponseRecorder
	before io.Reader
	there  chan struct{}
	goOn   chan struct{}
}

func newHalting(before string) *halting {
	return &halting{httptest.NewRecorder(), strings.NewReader(before), make(chan struct{}), make(chan struct{})}
}

func (h *halting) halt() {
	close(h.there)
	<-h.goOn
}

func (h *halting) Read(p []byte) (int, error) {
	n, err := h.before.Read(p)
	if err == io.EOF {
		h.halt()
	}
	return n, err
}

func (h *halting) Write(p []byte) (int, error) {
	if h.Body.Len() == 0 {
		h.halt()
	}
	return h.ResponseRecorder.Write(p)
}

// TestLargeManifests: they are held in memory for as long as a client likes, so there are few at
// the same time; small ones are not held up by them.
func TestLargeManifests(t *testing.T) {
	w := newWorld(t)
	small := w.putImage("app", "small", "layer")
	large := manifestOf(`{"architecture":"amd64","os":"linux"}`, "layer", `,"annotations":{"a":"`+strings.Repeat("x", 100<<10)+`"}`)
	w.want(w.putManifest("app", "large", large), 201, "")
	h := ociserver.New(w.reg, w.ident, ociserver.Options{LargeManifests: 1})
	run := func(rw http.ResponseWriter, method, ref string, body io.Reader) {
		req := httptest.NewRequest(method, "/v2/app/manifests/"+ref, body)
		req.Header.Set("Content-Type", oci.MediaTypeImageManifest)
		req.SetBasicAuth("admin", secret)
		h.ServeHTTP(rw, req)
	}
	want := func(status int, method, ref, body string) {
		t.Helper()
		rec := httptest.NewRecorder()
		run(rec, method, ref, strings.NewReader(body))
		if rec.Code != status || status == http.StatusTooManyRequests && (rec.Header().Get("Retry-After") == "" || !strings.Contains(rec.Body.String(), "TOOMANYREQUESTS")) {
			t.Errorf("%s of %s: %d %v %.200s, want %d", method, ref, rec.Code, rec.Header(), rec.Body, status)
		}
	}
	for _, tc := range []struct{ method, body string }{{"PUT", large}, {"GET", ""}} {
		slow := newHalting(tc.body)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if tc.body == "" {
				run(slow, "GET", "large", http.NoBody)
				return
			}
			run(slow.ResponseRecorder, "PUT", "large", slow)
		}()
		<-slow.there
		want(http.StatusTooManyRequests, tc.method, "large", tc.body)
		want(http.StatusCreated, "PUT", "small", small)
		want(http.StatusOK, "GET", "small", "")
		want(http.StatusOK, "HEAD", "large", "")
		close(slow.goOn)
		<-ended
		if slow.Code >= 300 {
			t.Errorf("the slow %s: %d %s", tc.method, slow.Code, slow.Body)
		}
		want(map[string]int{"PUT": 201, "GET": 200}[tc.method], tc.method, "large", tc.body)
	}
}

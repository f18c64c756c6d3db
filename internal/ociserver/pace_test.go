package ociserver_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/ociserver"
)

// TestSlowBody: bytes that drip in hold no place among the uploads, and are kept.
func TestSlowBody(t *testing.T) {
	w := newWorld(t)
	srv := httptest.NewServer(ociserver.New(w.reg, w.ident, ociserver.Options{BodyTimeout: 50 * time.Millisecond}))
	defer srv.Close()
	loc := w.want(w.do(request{method: "POST", path: "/v2/app/blobs/uploads/"}), 202, "").Header.Get("Location")
	req := httptest.NewRequest("PATCH", loc, nil)
	req.SetBasicAuth("admin", secret)
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: 1000000\r\n\r\n", loc, req.Header.Get("Authorization")); err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{})
	dripped := make(chan struct{})
	go func() { // ends with the answer
		defer close(dripped)
		drip := time.NewTicker(5 * time.Millisecond)
		defer drip.Stop()
		for {
			select {
			case <-answered:
				return
			case <-drip.C:
				_, _ = c.Write([]byte("x")) // the answer says how it went
			}
		}
	}()
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), req)
	close(answered)
	<-dripped
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 400 {
		t.Errorf("status %d", res.StatusCode)
	}
	if got := w.want(w.do(request{method: "GET", path: loc}), 204, "").Header.Get("Range"); got == "0-0" {
		t.Error("nothing was kept")
	}
}

// paced is a ResponseWriter that hears of deadlines.
type paced struct {
	*httptest.ResponseRecorder
	deadline time.Time
	unbound  bool // something was written without a deadline
}

func (p *paced) SetWriteDeadline(t time.Time) error { p.deadline = t; return nil }
func (p *paced) SetReadDeadline(time.Time) error    { return nil }

func (p *paced) Write(b []byte) (int, error) {
	p.unbound = p.unbound || p.deadline.IsZero()
	return p.ResponseRecorder.Write(b)
}

// TestAnswersAreBound: no answer, whatever it is, waits forever for a client to take it.
func TestAnswersAreBound(t *testing.T) {
	w := newWorld(t)
	d := w.putBlob("app", "0123456789")
	raw := w.putImage("app", "1", "layer")
	for _, r := range []struct{ method, path, body string }{
		{"GET", "/v2/", ""},
		{"GET", "/v2/nowhere", ""},
		{"GET", "/v2/token", ""},
		{"GET", "/v2/_catalog", ""},
		{"GET", "/v2/app/tags/list", ""},
		{"GET", "/v2/app/referrers/" + d.String(), ""},
		{"GET", "/v2/app/blobs/" + d.String(), ""},
		{"HEAD", "/v2/app/blobs/" + d.String(), ""},
		{"GET", "/v2/app/manifests/1", ""},
		{"GET", "/v2/app/manifests/none", ""},
		{"PUT", "/v2/app/manifests/2", raw},
		{"POST", "/v2/app/blobs/uploads/", ""},
		{"POST", "/v2/app/blobs/uploads/?digest=" + oci.DigestOf(oci.SHA256, []byte("x")).String(), "x"},
	} {
		req := httptest.NewRequest(r.method, r.path, strings.NewReader(r.body))
		req.SetBasicAuth("admin", secret)
		p := &paced{ResponseRecorder: httptest.NewRecorder(), deadline: time.Now().Add(-time.Hour)}
		ociserver.New(w.reg, w.ident, ociserver.Options{}).ServeHTTP(p, req)
		if p.unbound || time.Until(p.deadline) < time.Minute {
			t.Errorf("%s %s: %d, deadline %v, written without one: %v", r.method, r.path, p.Code, p.deadline, p.unbound)
		}
	}
}

// TestBrokenOffIsNoSuccess: a client that closed its half of the connection, so that the
// request's context ends, may still read the answer.
func TestBrokenOffIsNoSuccess(t *testing.T) {
	w := newWorld(t)
	w.putImage("app", "1", "layer")
	ctx, cancel := context.WithCancel(bg)
	cancel()
	for _, path := range []string{"/v2/app/manifests/1", "/v2/app/blobs/" + sum("layer").String(), "/v2/app/tags/list"} {
		for _, method := range []string{"GET", "HEAD"} {
			req := httptest.NewRequestWithContext(ctx, method, path, nil)
			req.SetBasicAuth("admin", secret)
			rec := httptest.NewRecorder()
			ociserver.New(w.reg, w.ident, ociserver.Options{Log: slog.New(slog.NewTextHandler(w.log, nil))}).ServeHTTP(rec, req)
			if rec.Code < 400 {
				t.Errorf("%s %s: %d", method, path, rec.Code)
			}
		}
	}
	if log := w.log.String(); strings.Contains(log, "request failed") {
		t.Errorf("log: %s", log)
	}
}

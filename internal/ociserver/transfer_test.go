package ociserver_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/ociserver"
)

// handing is a ResponseWriter that can take a file as a connection does.
type handing struct {
	*httptest.ResponseRecorder
	from io.Reader
}

func (h *handing) ReadFrom(r io.Reader) (int64, error) {
	h.from = r
	return io.Copy(h.ResponseRecorder, r)
}

// TestFileReachesConnection: nothing stands between the blob's file and the
// connection, so that the kernel can send it.
func TestFileReachesConnection(t *testing.T) {
	w := newWorld(t)
	d := w.putBlob("app", "0123456789")
	r := httptest.NewRequest(http.MethodGet, "/v2/app/blobs/"+d.String(), nil)
	r.SetBasicAuth("admin", secret)
	r.Header.Set("Range", "bytes=2-5")
	h := &handing{ResponseRecorder: httptest.NewRecorder()}
	ociserver.New(w.reg, w.ident, ociserver.Options{}).ServeHTTP(h, r)
	if h.Code != 206 || h.Body.String() != "2345" {
		t.Fatalf("%d %q", h.Code, h.Body)
	}
	l, ok := h.from.(*io.LimitedReader)
	if !ok {
		t.Fatalf("the connection was handed a %T, want an io.LimitedReader, which net takes apart", h.from)
	}
	if _, ok := l.R.(*os.File); !ok {
		t.Errorf("the connection was handed a %T, want *os.File", l.R)
	}
}

// TestStalledBody: a client that sends nothing more is given up, and what it sent is kept.
func TestStalledBody(t *testing.T) {
	w := newWorld(t)
	srv := httptest.NewServer(ociserver.New(w.reg, w.ident, ociserver.Options{BodyTimeout: 30 * time.Millisecond}))
	defer srv.Close()
	loc := w.want(w.do(request{method: "POST", path: "/v2/app/blobs/uploads/"}), 202, "").Header.Get("Location")
	stall := func(method, path string, known bool) (int, string) {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		req := httptest.NewRequest(method, path, nil)
		if known {
			req.SetBasicAuth("admin", secret)
		}
		if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: 1000\r\n\r\nsome bytes", method, path, req.Header.Get("Authorization")); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	if status, b := stall("PATCH", loc, true); status != 400 || !strings.Contains(b, "broke off after 10 bytes") {
		t.Errorf("PATCH: %d %s; want to hear how far it came", status, b)
	}
	if status, b := stall("PUT", "/v2/app/manifests/1", true); status != 400 || !strings.Contains(b, "broke off after 10 bytes") {
		t.Errorf("PUT of a manifest: %d %s; want to hear how far it came", status, b)
	}
	// Nor does who is refused, or a body that nobody wants, hold a connection.
	if status, _ := stall("PATCH", loc, false); status != 401 {
		t.Errorf("without credentials: %d", status)
	}
	if status, _ := stall("GET", "/v2/", true); status != 200 {
		t.Errorf("GET: %d", status)
	}
	if status, _ := stall("POST", "/v2/token", false); status != 400 {
		t.Errorf("POST of a form: %d", status)
	}
	if got := w.want(w.do(request{method: "GET", path: loc}), 204, "").Header.Get("Range"); got != "0-9" {
		t.Errorf("Range %q, want what was sent", got)
	}
	rest := oci.DigestOf(oci.SHA256, []byte("some bytes and the rest"))
	w.want(w.do(request{method: "PATCH", path: loc, header: map[string]string{"Content-Range": "10-22"}, body: " and the rest"}), 202, "")
	w.want(w.do(request{method: "PUT", path: loc + "?digest=" + rest.String()}), 201, "")
}

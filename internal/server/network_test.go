package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/oci"
)

// selfSigned writes a certificate for 127.0.0.1 and its key, and returns who trusts it.
func selfSigned(t *testing.T) (cert, key string, trust *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "tls.crt"), filepath.Join(t.TempDir(), "tls.key")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	trust = x509.NewCertPool()
	trust.AddCert(parsed)
	return cert, key, trust
}

func TestTLS(t *testing.T) {
	cert, key, trust := selfSigned(t)
	s, end := running(t, Config{Data: t.TempDir(), TLSCert: cert, TLSKey: key})
	if !s.TLS || !strings.HasPrefix(s.URL, "https://127.0.0.1:") {
		t.Errorf("%+v", s)
	}
	for _, h2 := range []bool{true, false} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust}, ForceAttemptHTTP2: h2}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := (&http.Client{Transport: tr}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
		want := 1
		if h2 {
			want = 2
		}
		if res.ProtoMajor != want || res.StatusCode != http.StatusUnauthorized || !strings.Contains(res.Header.Get("WWW-Authenticate"), `realm="https://`) {
			t.Errorf("%s %d %v", res.Proto, res.StatusCode, res.Header)
		}
		tr.CloseIdleConnections()
	}
	d := tls.Dialer{Config: &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}}
	if c, err := d.DialContext(t.Context(), "tcp", s.Listen); err == nil {
		_ = c.Close()
		t.Error("TLS 1.1 is spoken")
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if err := Run(t.Context(), Config{Data: t.TempDir(), Listen: "127.0.0.1:0", TLSCert: cert}); err == nil || !strings.Contains(err.Error(), "--tls-key") {
		t.Errorf("a certificate without a key: %v", err)
	}
}

// TestSlowHeader: who never ends a request's header is cut off.
func TestSlowHeader(t *testing.T) {
	s, end := running(t, Config{Data: t.TempDir(), Limits: Limits{HeaderTimeout: 20 * time.Millisecond}})
	c, err := net.Dial("tcp", s.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow:"); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil { // ends with the connection
		t.Error(err)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

// TestEndKeepsUploads ends the server in the middle of a chunk: what came of it is there
// after the next start, and the upload can be gone on with from there.
func TestEndKeepsUploads(t *testing.T) {
	const secret = "correct horse battery"
	cfg := Config{Data: t.TempDir(), AdminSecret: secret, Limits: Limits{ShutdownTimeout: time.Millisecond}}
	s, end := running(t, cfg)
	res := send(t, http.MethodPost, s.URL+"/v2/app/blobs/uploads/", secret, nil)
	if res.StatusCode != http.StatusAccepted {
		t.Fatalf("begin: %s", res.Status)
	}
	location := res.Header.Get("Location")
	content := bytes.Repeat([]byte("what is pushed, in 32 bytes ... "), 1<<20)
	c, err := net.Dial("tcp", s.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	auth := base64.StdEncoding.EncodeToString([]byte("admin:" + secret))
	if _, err := fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %s\r\nContent-Length: %d\r\n\r\n", location, auth, len(content)); err != nil {
		t.Fatal(err)
	}
	// Far more than the kernel holds: most of it has been received once it is all sent.
	if _, err := c.Write(content[:len(content)*3/4]); err != nil {
		t.Fatal(err)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	s, end = running(t, cfg)
	res = send(t, http.MethodGet, s.URL+location, secret, nil)
	var first, last int
	if _, err := fmt.Sscanf(res.Header.Get("Range"), "%d-%d", &first, &last); err != nil || last < len(content)/4 || last >= len(content)*3/4 {
		t.Fatalf("after the restart: %s, Range %q, %v", res.Status, res.Header.Get("Range"), err)
	}
	digest := oci.DigestOf(oci.SHA256, content)
	if res := send(t, http.MethodPut, s.URL+location+"?digest="+digest.String(), secret, content[last+1:]); res.StatusCode != http.StatusCreated {
		t.Errorf("the rest from byte %d on: %s", last+1, res.Status)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

func send(t *testing.T, method, url, secret string, body []byte) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", secret)
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return res
}

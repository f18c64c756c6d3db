package edge

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writePair writes a self-signed certificate of a name, and its key.
func writePair(t *testing.T, cert, key, name string, at time.Time) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: at.Add(-time.Hour), NotAfter: at.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), at)
	writeFile(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), at)
}

func writeFile(t *testing.T, name string, content []byte, at time.Time) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	var log bytes.Buffer
	if _, err := LoadCertificate(cert, key, nil); err == nil {
		t.Error("files that are not there are taken")
	}
	at := time.Now()
	writePair(t, cert, key, "one", at)
	c, err := LoadCertificate(cert, key, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	name := func() string {
		t.Helper()
		got, err := c.Config().GetCertificate(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		return got.Leaf.Subject.CommonName
	}
	step := func(what, want, said string, do func(at time.Time)) {
		t.Helper()
		at = at.Add(time.Minute)
		log.Reset()
		do(at)
		c.check(t.Context())
		if got := name(); got != want || !strings.Contains(log.String(), said) || said == "" && log.Len() > 0 {
			t.Errorf("%s: %s in use, want %s; log %q", what, got, want, log.String())
		}
	}
	step("nothing changed", "one", "", func(time.Time) {})
	step("replaced", "two", "in use", func(at time.Time) { writePair(t, cert, key, "two", at) })
	step("the key of another", "two", "not usable", func(at time.Time) {
		writePair(t, filepath.Join(dir, "other.crt"), key, "other", at)
	})
	step("looked at again", "two", "", func(time.Time) {})
	step("broken", "two", "not usable", func(at time.Time) { writeFile(t, cert, []byte("no PEM"), at) })
	step("gone", "two", "cannot be read", func(time.Time) { _ = os.Remove(cert) })
	step("whole again", "three", "in use", func(at time.Time) { writePair(t, cert, key, "three", at) })
	if c.Config().MinVersion != tls.VersionTLS12 {
		t.Error("TLS before 1.2 is spoken")
	}
}

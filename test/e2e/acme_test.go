package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// authority is a certificate authority that speaks ACME and asks for names where their
// server is, on this machine.
type authority struct {
	directory string // its URL
	roots     string // PEM file by which its own server is believed
	issued    *x509.CertPool
}

// newAuthority starts one that proves names at an address.
func newAuthority(t *testing.T, addr string) authority {
	t.Helper()
	free := func() string {
		a, err := freeAddr()
		check(t, err)
		return a
	}
	dir, listen, manage, dns, dnsManage := t.TempDir(), free(), free(), free(), free()
	_, port, err := net.SplitHostPort(addr)
	check(t, err)
	a := authority{directory: "https://" + listen + "/dir", roots: filepath.Join(dir, "cert.pem"), issued: x509.NewCertPool()}
	own := selfSigned(t, a.roots, filepath.Join(dir, "key.pem"))
	config := `{"pebble": {"listenAddress": "` + listen + `", "managementListenAddress": "` + manage + `", "certificate": "` + a.roots +
		`", "privateKey": "` + dir + `/key.pem", "httpPort": 1, "tlsPort": ` + port + `, "keyAlgorithm": "ecdsa", "retryAfter": {"authz": 1, "order": 1},
		"profiles": {"default": {"description": "the only one", "validityPeriod": 7776000}}}}`
	check(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600))
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	daemon(t, dnsManage, program(t, "pebble-challtestsrv"), "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dnsserver", dns, "-management", dnsManage,
		"-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "")
	daemon(t, listen, program(t, "pebble"), "-config", filepath.Join(dir, "config.json"), "-dnsserver", dns, "-strict")
	res, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: own}}}).Get("https://" + manage + "/roots/0")
	check(t, err)
	defer res.Body.Close()
	root, err := io.ReadAll(res.Body)
	check(t, err)
	if !a.issued.AppendCertsFromPEM(root) {
		t.Fatalf("the authority's root is %q", root)
	}
	return a
}

// selfSigned writes a certificate for 127.0.0.1 and its key, and returns who believes it.
func selfSigned(t *testing.T, cert, key string) *x509.CertPool {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	check(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	check(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	check(t, os.WriteFile(cert, text, 0o600))
	check(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600))
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(text)
	return trust
}

// askAs asks a server by one of its names.
func (s *server) askAs(name string, trust *x509.CertPool) (*http.Response, error) {
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust, ServerName: name}, ForceAttemptHTTP2: true, DisableKeepAlives: true}
	req, err := http.NewRequest(http.MethodGet, "https://"+s.addr+"/v2/", nil)
	if err != nil {
		return nil, err
	}
	req.Host = name
	res, err := (&http.Client{Transport: tr, Timeout: time.Minute}).Do(req)
	if err != nil {
		return nil, err
	}
	return res, res.Body.Close()
}

// TestACME: an authority makes the server's certificate, which outlives a restart without the authority.
func TestACME(t *testing.T) {
	const name = "registry.e2e.example"
	addr, err := freeAddr()
	check(t, err)
	a := newAuthority(t, addr)
	data := filepath.Join(t.TempDir(), "data")
	up := func(directory string) (*server, string) {
		s, err := spawnAt(addr, data, "--acme-hosts", name+",second."+name, "--acme-directory", directory, "--acme-roots", a.roots)
		check(t, err)
		var serial string
		check(t, s.await(2*time.Minute, "answering with a certificate", func() (bool, error) {
			res, err := s.askAs(name, a.issued)
			if err != nil {
				return false, nil // not yet
			}
			serial = res.TLS.PeerCertificates[0].SerialNumber.String()
			if res.ProtoMajor != 2 || res.StatusCode != http.StatusUnauthorized || !strings.Contains(res.Header.Get("WWW-Authenticate"), `realm="https://`+name) {
				t.Errorf("%s %d %v", res.Proto, res.StatusCode, res.Header)
			}
			return true, nil
		}))
		return s, serial
	}
	s, first := up(a.directory)
	if _, err := s.askAs("second."+name, a.issued); err != nil {
		t.Errorf("the second name: %v", err)
	}
	for _, other := range []string{"other.example", "third." + name} {
		if _, err := s.askAs(other, a.issued); err == nil {
			t.Errorf("there is a certificate for %s", other)
		}
	}
	wantWords(t, "the log", s.log.String(), "TLS certificate of an authority in use", name)
	check(t, s.stop())
	s, second := up("https://127.0.0.1:1/nobody")
	if first != second {
		t.Errorf("certificate %s, after a restart %s", first, second)
	}
	check(t, s.end(syscall.SIGTERM))
	info, err := os.Stat(filepath.Join(data, "acme"))
	check(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the folder of keys has mode %v", info.Mode())
	}
}

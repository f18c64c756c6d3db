package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestACMERefuses(t *testing.T) {
	noRoots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(noRoots, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		o    ACMEOptions
		says string
	}{
		{ACMEOptions{}, "no name"},
		{ACMEOptions{Hosts: []string{"127.0.0.1"}}, `"127.0.0.1"`},
		{ACMEOptions{Hosts: []string{"registry.example", "localhost"}}, `"localhost"`},
		{ACMEOptions{Hosts: []string{"registry.example:443"}}, `"registry.example:443"`},
		{ACMEOptions{Hosts: []string{"*.example"}}, `"*.example"`},
		{ACMEOptions{Hosts: []string{" registry.example"}}, `" registry.example"`},
		{ACMEOptions{Hosts: []string{"registry.example"}, Roots: noRoots}, "no certificate in PEM"},
		{ACMEOptions{Hosts: []string{"registry.example"}, Roots: noRoots + "x"}, "no such file"},
	} {
		if _, err := NewACME(tc.o, nil); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%+v: %v, want %q in it", tc.o, err, tc.says)
		}
	}
}

// said hands on the first line that is logged.
type said struct {
	once sync.Once
	line chan string
}

func (s *said) Write(p []byte) (int, error) {
	s.once.Do(func() { s.line <- string(bytes.Clone(p)) })
	return len(p), nil
}

// TestACMEWithoutAuthority: an authority that cannot be reached is told of in the log, and
// keeps neither handshakes nor the end waiting.
func TestACMEWithoutAuthority(t *testing.T) {
	log := &said{line: make(chan string, 1)}
	a, err := NewACME(ACMEOptions{Hosts: []string{"registry.example"}, Directory: "https://127.0.0.1:0/dir", Folder: t.TempDir()},
		slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.Watch(ctx)
	}()
	if line := <-log.line; !strings.Contains(line, "no TLS certificate") || !strings.Contains(line, "registry.example") {
		t.Errorf("it says %q", line)
	}
	cancel()
	<-ended
	c := a.Config()
	for _, name := range []string{"registry.example", "other.example", ""} {
		if _, err := c.GetCertificate(&tls.ClientHelloInfo{ServerName: name}); err == nil {
			t.Errorf("there is a certificate for %q", name)
		}
	}
	if c.MinVersion != tls.VersionTLS12 {
		t.Error("TLS before 1.2 is spoken")
	}
}

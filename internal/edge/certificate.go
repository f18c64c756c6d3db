package edge

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// Certificate is a certificate and key in files, which may be replaced while it is in use.
type Certificate struct {
	cert, key string
	log       *slog.Logger
	current   atomic.Pointer[tls.Certificate]
	seen      [2]stamp // of the files that were last looked at; of check alone
}

// stamp tells whether a file has changed.
type stamp struct {
	size int64
	at   time.Time
}

// LoadCertificate reads a certificate with its chain, and its key, from PEM files.
func LoadCertificate(cert, key string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{cert: cert, key: key, log: log}
	seen, err := c.look()
	if err != nil {
		return nil, fmt.Errorf("TLS certificate: %w", err)
	}
	if err := c.load(); err != nil {
		return nil, err
	}
	c.seen = seen
	return c, nil
}

func (c *Certificate) look() (seen [2]stamp, err error) {
	for i, name := range []string{c.cert, c.key} {
		info, err := os.Stat(name)
		if err != nil {
			return seen, err
		}
		seen[i] = stamp{info.Size(), info.ModTime()}
	}
	return seen, nil
}

func (c *Certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("TLS certificate %s with key %s: %w", c.cert, c.key, err)
	}
	c.current.Store(&pair)
	return nil
}

// check takes files that have changed. A pair that cannot be used leaves the old one in use;
// it is looked at again once the files change again.
func (c *Certificate) check(ctx context.Context) {
	seen, err := c.look()
	if err != nil {
		// In the middle of being replaced, perhaps.
		if c.seen != seen {
			c.log.WarnContext(ctx, "TLS certificate cannot be read; the one before stays in use", "err", err)
			c.seen = seen
		}
		return
	}
	if seen == c.seen {
		return
	}
	c.seen = seen
	if err := c.load(); err != nil {
		c.log.ErrorContext(ctx, "new TLS certificate is not usable; the one before stays in use", "err", err)
		return
	}
	c.log.InfoContext(ctx, "new TLS certificate in use", "until", c.current.Load().Leaf.NotAfter)
}

// certificateEvery is how often the files are looked at.
const certificateEvery = 10 * time.Second

// Watch looks for changed files until ctx ends.
func (c *Certificate) Watch(ctx context.Context) {
	tick := time.NewTicker(certificateEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.check(ctx)
		}
	}
}

// Config is TLS from version 1.2 on by this certificate, with HTTP/2.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current.Load(), nil
		},
	}
}

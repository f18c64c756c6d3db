package edge

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// ACMEOptions say from whom certificates are had, and for which names. Hosts and Folder are required.
type ACMEOptions struct {
	Hosts     []string // names of this server, as in "registry.example"
	Directory string   // URL of the authority's directory; "" is Let's Encrypt
	Email     string   // by which the authority reaches whoever runs this server; "" tells none
	Roots     string   // PEM file of the roots by which the authority's own server is believed; "" takes the system's
	Folder    string   // keeps keys and certificates
}

// ACME are certificates that an authority makes by itself (RFC 8555) and that are renewed in
// time. The authority proves by TLS that a name is this server's (RFC 8737), at port 443.
type ACME struct {
	manager *autocert.Manager
	hosts   []string
	log     *slog.Logger
}

// acmeTimeout is how long one request to an authority may take.
const acmeTimeout = 30 * time.Second

// NewACME asks nobody yet. Whoever calls it accepts the authority's terms.
func NewACME(o ACMEOptions, log *slog.Logger) (*ACME, error) {
	if len(o.Hosts) == 0 {
		return nil, errors.New("certificates of an authority: no name is given")
	}
	for _, h := range o.Hosts {
		if _, err := netip.ParseAddr(h); err == nil || !isHost(h) || strings.Contains(h, ":") || !strings.Contains(strings.Trim(h, "."), ".") {
			return nil, fmt.Errorf("certificates of an authority: %q is no name that one is made for; expected one as in registry.example", h)
		}
	}
	trust, err := readRoots(o.Roots)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS12}
	return &ACME{hosts: o.Hosts, log: log, manager: &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		Cache:      autocert.DirCache(o.Folder),
		HostPolicy: autocert.HostWhitelist(o.Hosts...),
		Email:      o.Email,
		Client: &acme.Client{DirectoryURL: cmp.Or(o.Directory, autocert.DefaultACMEDirectory), UserAgent: "pratique",
			HTTPClient: &http.Client{Transport: transport, Timeout: acmeTimeout}},
	}}, nil
}

// readRoots reads certificates; nil, which stands for the system's, where there is no file.
func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("roots of the certificate authority: %w", err)
	}
	trust := x509.NewCertPool()
	if !trust.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("roots of the certificate authority: %s holds no certificate in PEM", file)
	}
	return trust, nil
}

// Config is TLS from version 1.2 on, with HTTP/2. Who asks for another name than the hosts', or
// for none, gets no certificate.
func (a *ACME) Config() *tls.Config {
	c := a.manager.TLSConfig()
	c.MinVersion = tls.VersionTLS12
	return c
}

// Times between looks at a certificate that is there, and tries to have one that is not.
const (
	acmeEvery       = time.Hour
	acmeRetry       = 90 * time.Second // autocert forgets a failure after a minute
	acmeRetryAtMost = time.Hour        // authorities count failures
)

// Watch has certificates made before a client asks for one, and tells in the log what
// becomes of them, until ctx ends. The server answers meanwhile: the authority asks it.
func (a *ACME) Watch(ctx context.Context) {
	until := make(map[string]time.Time, len(a.hosts))
	for retry := acmeRetry; ; {
		wait := acmeEvery
		for _, h := range a.hosts {
			end, err := a.have(ctx, h)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				a.log.ErrorContext(ctx, "no TLS certificate from the authority; it must reach this server by its name at port 443", "host", h, "again", retry, "err", err)
				wait = retry
			case !end.Equal(until[h]):
				a.log.InfoContext(ctx, "TLS certificate of an authority in use", "host", h, "until", end)
				until[h] = end
			}
		}
		if wait == acmeEvery {
			retry = acmeRetry
		} else {
			retry = min(2*retry, acmeRetryAtMost)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// have returns until when the certificate for a host is valid, once there is one.
func (a *ACME) have(ctx context.Context, host string) (until time.Time, err error) {
	type answer struct {
		cert *tls.Certificate
		err  error
	}
	got := make(chan answer, 1)
	// It takes no context. It ends by itself after five minutes at most; at the end of the server
	// nobody waits for it.
	go func() {
		cert, err := a.manager.GetCertificate(&tls.ClientHelloInfo{ServerName: host,
			CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}) // else it would be one by RSA
		got <- answer{cert, err}
	}()
	select {
	case g := <-got:
		if g.err != nil {
			return time.Time{}, g.err
		}
		return g.cert.Leaf.NotAfter, nil
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	}
}

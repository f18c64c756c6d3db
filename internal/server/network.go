package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"pratique.dev/pratique/internal/edge"
)

// maxStreams bounds the requests of one HTTP/2 connection at the same time.
const maxStreams = 128

// listen opens the address, and says what to do if it cannot be had.
func listen(cfg Config) (net.Listener, error) {
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w; end what uses the address, or choose another with --listen", cfg.Listen, err)
	}
	return edge.Limit(l, edge.ConnLimits{Total: cfg.Limits.Connections, PerAddr: cfg.Limits.ConnectionsPerAddr,
		Exempt: cfg.TrustedProxies, TLS: cfg.TLSCert != "" || len(cfg.ACME.Hosts) > 0}), nil
}

// certificate is what the server is answered by under TLS: files, or what an authority makes.
type certificate interface {
	Config() *tls.Config
	// Watch keeps it up to date until ctx ends.
	Watch(ctx context.Context)
}

// certificateOf reads the certificate, nil if there is to be no TLS.
func certificateOf(cfg Config) (certificate, error) {
	files, authority := cfg.TLSCert != "" || cfg.TLSKey != "", len(cfg.ACME.Hosts) > 0
	switch {
	case files && authority:
		return nil, errors.New("--tls-cert and --acme-hosts exclude each other: the certificate is in files, or an authority makes it")
	case authority:
		o := cfg.ACME
		o.Folder = filepath.Join(cfg.Data, "acme")
		return edge.NewACME(o, cfg.Log)
	case !files:
		return nil, nil
	case cfg.TLSCert == "" || cfg.TLSKey == "":
		return nil, errors.New("--tls-cert and --tls-key go together: one of them is missing")
	}
	return edge.LoadCertificate(cfg.TLSCert, cfg.TLSKey, cfg.Log)
}

// requests are those under way.
type requests struct {
	mu    sync.Mutex
	n     int
	quiet chan struct{} // closed while there is none, once waited for
}

func (r *requests) begin() (end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.n--; r.n == 0 && r.quiet != nil {
			close(r.quiet)
			r.quiet = nil
		}
	}
}

// wait returns once there is none, or ctx ends.
func (r *requests) wait(ctx context.Context) {
	r.mu.Lock()
	if r.n == 0 {
		r.mu.Unlock()
		return
	}
	if r.quiet == nil {
		r.quiet = make(chan struct{})
	}
	quiet := r.quiet
	r.mu.Unlock()
	select {
	case <-quiet:
	case <-ctx.Done():
	}
}

// httpServer answers by the doors.
func (p *parts) httpServer() *http.Server {
	l := p.cfg.Limits
	srv := &http.Server{ReadHeaderTimeout: l.HeaderTimeout, IdleTimeout: l.IdleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(p.cfg.Log.Handler(), slog.LevelDebug),
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: maxStreams}}
	doors := p.cfg.TrustedProxies.Handler(p.handler())
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer p.requests.begin()()
		doors.ServeHTTP(w, r)
	})
	if p.cert != nil {
		srv.TLSConfig = p.cert.Config()
	}
	return srv
}

// savingTime is how long requests that were cut off have to keep what came of their bodies.
const savingTime = 10 * time.Second

// finish lets requests under way come to their end, for as long as they may; then it cuts them
// off, and waits until what has come of each upload is kept.
func (p *parts) finish(ctx context.Context, srv *http.Server) {
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.Limits.ShutdownTimeout)
	defer cancel()
	if srv.Shutdown(end) == nil {
		return
	}
	_ = srv.Close() // the connections are gone either way
	save, cancel := context.WithTimeout(context.WithoutCancel(ctx), savingTime)
	defer cancel()
	p.requests.wait(save)
}

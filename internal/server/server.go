// Package server puts the parts together: it alone knows the configuration, opens the
// stores, wires services to doors, listens, runs the workers and ends all of it in
// good order.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"pratique.dev/pratique/internal/admin"
	"pratique.dev/pratique/internal/apiserver"
	"pratique.dev/pratique/internal/audit"
	"pratique.dev/pratique/internal/blob/fileblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/edge"
	"pratique.dev/pratique/internal/extract"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/ociserver"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/registry"
	"pratique.dev/pratique/internal/scan"
	"pratique.dev/pratique/internal/upkeep"
	"pratique.dev/pratique/internal/web"
)

// DefaultJudgeWait is how long a push waits for its verdict unless configured.
const DefaultJudgeWait = 2 * time.Minute

// Config is all that can be set. Data and Listen are required.
type Config struct {
	Data        string        // folder for blobs, catalog and temporary files; made if missing
	Listen      string        // HOST:PORT
	ExternalURL string        // by which clients reach the registry; "" takes it from Listen
	AdminSecret string        // of the first administrator; "" makes one up
	JudgeWait   time.Duration // how long a push waits for its verdict; 0: DefaultJudgeWait
	// CollectEvery is how long it is from one collection of garbage to the next; 0:
	// DefaultCollectEvery, below 0: it is collected on demand alone.
	CollectEvery time.Duration
	Grace        time.Duration // how long what nothing needs is spared; 0: registry.DefaultGrace
	// TLSCert and TLSKey are files with a certificate and its chain, and its key, in PEM. They are
	// read again when they change. "" serves plain HTTP.
	TLSCert, TLSKey string
	// ACME names the hosts whose certificates an authority makes instead; without any none does.
	// Its Folder is not used: they are kept under Data.
	ACME           edge.ACMEOptions
	TrustedProxies edge.Proxies // whose forwarding headers are believed
	Limits         Limits
	Entra          identity.Entra  // whose service principals log in by their own secrets; zero: nobody's
	SignIn         identity.SignIn // where people sign in with a browser; zero: nowhere
	Version        string
	Log            *slog.Logger
	Started        func(Started) // called once, when the address is listened on and before the first answer
	Audit          Audit
}

// Started says what there is to know of a server that has come up.
type Started struct {
	URL, Host string // "http://127.0.0.1:5000", "127.0.0.1:5000": where clients reach it
	Listen    string // the address that is listened on, "127.0.0.1:5000"
	Data      string
	Admin     string // the administrator's name
	Created   bool   // this start made the administrator
	Secret    string // made up by this start, to be shown once; else ""
	TLS       bool   // Listen speaks HTTPS
}

// Times of the server.
const (
	plainTimeout = 15 * time.Second // for a request to no door, as from a prober, and its answer
	maxHeader    = 64 << 10         // bytes of a request's header
	sweepEvery   = time.Hour
)

// parts are the opened stores and the services over them.
type parts struct {
	cfg      Config
	store    *fileblob.Store
	cat      *catalog.Catalog
	set      *extract.Set
	scanner  *scan.Service
	identity *identity.Identity
	registry *registry.Registry
	loader   *loader
	journal  *upkeep.Journal
	audit    *audit.Log
	api      *apiserver.Server
	oci      http.Handler
	web      http.Handler
	url      *url.URL
	tempDir  string
	cert     certificate // nil: plain HTTP
	requests requests
}

// Run serves until ctx ends, then lets requests under way finish. It returns nil after
// an end in good order; an error says what to do about it.
func Run(ctx context.Context, cfg Config) (err error) {
	if cfg.JudgeWait <= 0 {
		cfg.JudgeWait = DefaultJudgeWait
	}
	if cfg.CollectEvery == 0 {
		cfg.CollectEvery = DefaultCollectEvery
	}
	cfg.Limits = cfg.Limits.orDefault()
	if err := cfg.SignIn.Check(); err != nil {
		return fmt.Errorf("--oidc: %w", err)
	}
	if err := cfg.Entra.Check(); err != nil {
		return fmt.Errorf("--entra: %w", err)
	}
	cert, err := certificateOf(cfg)
	if err != nil {
		return err
	}
	unlock, err := upkeep.Lock(cfg.Data)
	if err != nil {
		return err
	}
	defer unlock()
	listener, err := listen(cfg)
	if err != nil {
		return err
	}
	defer listener.Close()
	p, err := open(ctx, cfg, cert, listener.Addr())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.cat.Close(), p.store.Close()) }()
	if err := p.registry.Recover(ctx); err != nil {
		return fmt.Errorf("data folder %s: %w", cfg.Data, err)
	}
	started, err := p.bootstrap(ctx)
	if err != nil {
		return err
	}
	return p.serve(ctx, listener, started)
}

// open makes all parts.
func open(ctx context.Context, cfg Config, cert certificate, addr net.Addr) (_ *parts, err error) {
	p := &parts{cfg: cfg, cert: cert, tempDir: filepath.Join(cfg.Data, "tmp")}
	scheme := "http"
	if cert != nil {
		scheme = "https"
	}
	if p.url, err = externalURL(cfg.ExternalURL, scheme, cfg.ACME.Hosts, addr); err != nil {
		return nil, err
	}
	// What an earlier run left half-read is of no use.
	if err := os.RemoveAll(p.tempDir); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := os.MkdirAll(p.tempDir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if p.store, err = fileblob.New(cfg.Data); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	p.cat, err = catalog.Open(ctx, "sqlite:"+filepath.Join(cfg.Data, upkeep.CatalogFile), catalog.WithLog(cfg.Log))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("data folder %s: %w", cfg.Data, err), p.store.Close())
	}
	p.set = extract.New(extract.Options{TempDir: p.tempDir})
	p.scanner = scan.New(p.cat, p.store, p.set, scan.Options{Policies: []policy.Policy{policy.Default()}, Log: cfg.Log})
	p.loader = &loader{cat: p.cat, log: cfg.Log, wake: p.scanner.Wake}
	if err := p.doors(); err != nil {
		return nil, errors.Join(err, p.cat.Close(), p.store.Close())
	}
	return p, nil
}

// externalURL is the address by which clients reach the server. Of a server that listens on
// every address and was not told its name, only those on this machine know one.
func externalURL(configured, scheme string, names []string, addr net.Addr) (*url.URL, error) {
	if configured == "" {
		host := addr.String()
		if len(names) > 0 {
			host = names[0] // its certificate is for no address
			if a, ok := addr.(*net.TCPAddr); ok && a.Port != 443 {
				host = net.JoinHostPort(host, strconv.Itoa(a.Port))
			}
		} else if a, ok := addr.(*net.TCPAddr); ok && a.IP.IsUnspecified() {
			host = net.JoinHostPort("127.0.0.1", strconv.Itoa(a.Port))
		}
		return &url.URL{Scheme: scheme, Host: host}, nil
	}
	u, err := url.Parse(configured)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("--external-url %q: expected https://HOST or http://HOST:PORT", configured)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// bootstrap makes the administrator at the first start.
func (p *parts) bootstrap(ctx context.Context) (Started, error) {
	name, secret, created, err := p.identity.Bootstrap(ctx, p.cfg.AdminSecret)
	if err != nil {
		return Started{}, fmt.Errorf("first administrator: %w", err)
	}
	return Started{URL: p.url.String(), Host: p.url.Host, Data: p.cfg.Data, TLS: p.cert != nil, Admin: name, Created: created, Secret: secret}, nil
}

// serve answers requests and runs the workers until ctx ends.
func (p *parts) serve(ctx context.Context, l net.Listener, started Started) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	var workers sync.WaitGroup
	workers.Go(func() { p.scanner.Run(work) })
	workers.Go(func() { p.load(work) })
	workers.Go(func() { p.sweep(work) })
	workers.Go(func() { p.collect(work) })
	workers.Go(func() { p.retain(work) })
	workers.Go(func() { p.registry.KeepPulls(work) })
	workers.Go(func() { p.journal.Run(work) })
	workers.Go(func() { p.audit.Run(work) })
	workers.Go(func() { p.warn(work) })
	if p.cert != nil {
		workers.Go(func() { p.cert.Watch(work) })
	}
	srv := p.httpServer()
	// The first answer comes after what the start says of itself; until then connections wait.
	if p.cfg.Started != nil {
		started.Listen = l.Addr().String()
		p.cfg.Started(started)
	}
	failed := make(chan error, 1)
	go func() { // ends with Shutdown or Close
		if p.cert != nil {
			failed <- srv.ServeTLS(l, "", "")
			return
		}
		failed <- srv.Serve(l)
	}()
	p.cfg.Log.InfoContext(ctx, "registry started", "url", p.url, "data", p.cfg.Data, "version", p.cfg.Version)
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		p.finish(ctx, srv)
		<-failed
	}
	stop()
	workers.Wait()
	p.scanner.Close()
	p.audit.Close()
	p.cfg.Log.InfoContext(ctx, "registry ended")
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// load brings the embedded advisories in, then lets images be judged.
func (p *parts) load(ctx context.Context) {
	if err := p.loader.embedded(ctx); err != nil {
		if ctx.Err() == nil {
			p.cfg.Log.ErrorContext(ctx, "embedded advisories not loaded: nothing is judged until they are; start again", "err", err)
		}
		return
	}
	if err := p.catchUp(ctx); err != nil {
		if ctx.Err() == nil {
			p.cfg.Log.ErrorContext(ctx, "images of an earlier version not made due: nothing is judged; start again", "err", err)
		}
		return
	}
	// Nobody else works on this folder, so what is claimed was an earlier run's.
	if _, err := p.cat.Unclaim(ctx, time.Now()); err != nil && ctx.Err() == nil {
		p.cfg.Log.ErrorContext(ctx, "what an earlier run was judging waits for some minutes", "err", err)
	}
	p.scanner.Ready()
	// The load was the largest thing this process will do for a long time.
	debug.FreeOSMemory()
}

// judgedBy is the setting that names the program and the extractor set that the verdicts are by.
const judgedBy = "scan.judged-by"

// catchUp makes all that an earlier version of the program judged due again: this one
// may read layers, match or judge otherwise. Verdicts stand until they are judged anew.
func (p *parts) catchUp(ctx context.Context) error {
	now := p.cfg.Version + "/" + p.set.Version()
	before, err := p.cat.Setting(ctx, judgedBy)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	if string(before) == now {
		return nil
	}
	if _, err := p.cat.Rematch(ctx); err != nil {
		return err
	}
	n, err := p.cat.MakeDue(ctx)
	if err != nil {
		return err
	}
	p.cfg.Log.InfoContext(ctx, "images of an earlier version are judged anew", "images", n, "by", now)
	return p.cat.PutSetting(ctx, judgedBy, []byte(now))
}

// sweep drops uploads that nobody continues, now and then.
func (p *parts) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := p.registry.Sweep(ctx, time.Now().Add(-p.cfg.Limits.UploadExpiry)); err != nil && ctx.Err() == nil {
			p.cfg.Log.ErrorContext(ctx, "sweeping abandoned uploads", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// doors makes what answers requests.
func (p *parts) doors() (err error) {
	if p.journal, err = upkeep.NewJournal(p.cat, p.store, p.cfg.Log); err != nil {
		return err
	}
	if p.audit, err = p.cfg.Audit.open(p.cat, p.cfg.Log); err != nil {
		return err
	}
	rates := p.cfg.Limits.rates()
	p.identity = identity.New(p.cat, identity.Options{Rates: rates, Log: p.cfg.Log, Entra: p.cfg.Entra, SignIn: p.cfg.SignIn})
	p.registry = registry.New(p.cat, p.store, registry.Options{Examiner: p.scanner, Judge: p.scanner, Explainer: explainer{p.scanner}, Audit: p.audit,
		MaxTransfers: p.cfg.Limits.Transfers, MaxOpenUploads: p.cfg.Limits.OpenUploads, JudgeWait: p.cfg.JudgeWait, Grace: p.cfg.Grace, URL: p.url.String(), Log: p.cfg.Log})
	p.oci = ociserver.New(p.registry, p.identity, ociserver.Options{ExternalURL: p.cfg.ExternalURL,
		BodyTimeout: p.cfg.Limits.BodyTimeout, Rates: rates, Audit: p.audit, Log: p.cfg.Log})
	admins := admin.New(p.cat, admin.Options{NewSecret: identity.NewHashedSecret, ParseKey: identity.ParseKey, Reserved: []string{identity.RefreshUser, identity.FederatedUser}})
	p.api = apiserver.New(apiserver.Options{Catalog: p.cat, Audit: p.audit, Registry: p.registry, Identity: p.identity, Admin: admins, Reports: p.scanner,
		Import: p.loader.imported, Collect: p.collectNow, Retain: p.retainNow, Loading: p.loader.progress, Ready: p.loader.isLoaded, TempDir: p.tempDir,
		Version: p.cfg.Version, Now: time.Now, Log: p.cfg.Log, Rates: rates})
	p.web = web.New(web.Options{Audit: p.audit, Catalog: p.cat, Identity: p.identity, ExternalURL: p.cfg.ExternalURL, Issuer: p.cfg.SignIn.Issuer, Rates: rates, Log: p.cfg.Log})
	return nil
}

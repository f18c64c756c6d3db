package cli

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/audit"
	"pratique.dev/pratique/internal/edge"
	"pratique.dev/pratique/internal/registry"
	"pratique.dev/pratique/internal/server"
)

type serveFlags struct {
	data, listen, external string
	adminSecretFile        string
	logFormat, logLevel    string
	judgeWait              time.Duration
	gcEvery, gcGrace       time.Duration
	tlsCert, tlsKey        string
	acme                   edge.ACMEOptions
	trustedProxies         string
	limits                 server.Limits
	audit                  server.Audit
	issuers                issuerFlags
}

func newServe() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the registry",
		Long: `Serve runs the registry on one data folder: blobs as files and the catalog in SQLite.
The first start makes the folder, prints the administrator's name and its secret, once,
and loads the embedded advisories in the background; images that are pushed meanwhile are
accepted and judged as soon as the advisories are in.

For unattended starts the administrator's secret is taken from --admin-secret-file or
from PRATIQUE_ADMIN_SECRET. GET /readyz answers 200 once pushes are taken; "ready" in its
answer says whether images are judged yet.

Exit codes: 0 ended by a signal, in good order; 2 it could not start or had to stop.`,
		Example: `  pratique serve --data ./data --listen 127.0.0.1:5000
  PRATIQUE_ADMIN_SECRET=… pratique serve --data /var/lib/pratique --listen :443 --external-url https://registry.example`,
		Args: takesNone,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	c.Flags().StringVar(&f.data, "data", "", "folder for blobs and catalog (PRATIQUE_DATA; default ./data)")
	c.Flags().StringVar(&f.listen, "listen", "", "address to listen on, HOST:PORT (PRATIQUE_LISTEN; default 127.0.0.1:5000)")
	c.Flags().StringVar(&f.external, "external-url", "", "address by which clients reach the registry, where it differs from --listen (PRATIQUE_EXTERNAL_URL)")
	c.Flags().StringVar(&f.adminSecretFile, "admin-secret-file", "", "file with the first administrator's secret (or the secret itself in PRATIQUE_ADMIN_SECRET)")
	c.Flags().StringVar(&f.logFormat, "log-format", "text", "text or json")
	c.Flags().StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	c.Flags().DurationVar(&f.judgeWait, "judge-wait", server.DefaultJudgeWait, "how long a push waits for its verdict before it is answered with pending")
	c.Flags().DurationVar(&f.gcEvery, "gc-every", server.DefaultCollectEvery, "how long it is from one collection of garbage to the next; -1s: only by 'pratique gc'")
	c.Flags().DurationVar(&f.gcGrace, "gc-grace", registry.DefaultGrace, "how long content that no manifest needs is spared")
	f.network(c)
	f.auditing(c)
	f.issuers.register(c)
	return c
}

// auditing has the flags of the audit log.
func (f *serveFlags) auditing(c *cobra.Command) {
	a, fs := &f.audit, c.Flags()
	fs.DurationVar(&a.Keep, "audit-keep", audit.DefaultKeep, "how long audit records are kept (-1s: for ever)")
	fs.Int64Var(&a.MaxRecords, "audit-max", audit.DefaultMaxRecords, "how many audit records are kept at most")
	fs.BoolVar(&a.Pulls, "audit-pulls", false, "record pulls too; those alike within a minute are one record")
	fs.StringVar(&a.Syslog, "audit-syslog", "", "where audit records are handed on to in the form of RFC 5424: udp://HOST:PORT, tcp://HOST:PORT or unix:///dev/log (PRATIQUE_AUDIT_SYSLOG)")
}

// network has the flags of what stands between the network and the registry.
func (f *serveFlags) network(c *cobra.Command) {
	d, l, fs := server.DefaultLimits, &f.limits, c.Flags()
	fs.StringVar(&f.tlsCert, "tls-cert", "", "PEM file with the certificate and its chain; serves HTTPS and HTTP/2, and is read again when it changes (PRATIQUE_TLS_CERT)")
	fs.StringVar(&f.tlsKey, "tls-key", "", "PEM file with the certificate's key (PRATIQUE_TLS_KEY)")
	fs.StringSliceVar(&f.acme.Hosts, "acme-hosts", nil, "names of this server, for which an authority makes the certificates by ACME; accepts its terms, and needs to be reached at port 443 (PRATIQUE_ACME_HOSTS)")
	fs.StringVar(&f.acme.Directory, "acme-directory", "", "URL of the authority's ACME directory (PRATIQUE_ACME_DIRECTORY; default Let's Encrypt)")
	fs.StringVar(&f.acme.Email, "acme-email", "", "where the authority writes to when something is wrong (PRATIQUE_ACME_EMAIL)")
	fs.StringVar(&f.acme.Roots, "acme-roots", "", "PEM file of the roots by which the authority's own server is believed (PRATIQUE_ACME_ROOTS; default those of the system)")
	fs.StringVar(&f.trustedProxies, "trusted-proxies", "", "networks of proxies whose Forwarded or X-Forwarded-For, -Proto and -Host are believed, as in 10.0.0.0/8,192.0.2.7 (PRATIQUE_TRUSTED_PROXIES; default none)")
	fs.IntVar(&l.Connections, "max-connections", d.Connections, "connections that are open at the same time; others are answered 503 (-1: no limit)")
	fs.IntVar(&l.ConnectionsPerAddr, "max-connections-per-address", d.ConnectionsPerAddr, "of them from one address, or network /64, that is no trusted proxy (-1: no limit)")
	fs.IntVar(&l.Transfers, "max-transfers", d.Transfers, "requests that bring blob bytes at the same time; others are answered 429")
	fs.IntVar(&l.OpenUploads, "max-open-uploads", d.OpenUploads, "uploads that one principal has begun and not ended; more are answered 429")
	fs.DurationVar(&l.UploadExpiry, "upload-expiry", d.UploadExpiry, "when an upload that nobody continues is given up")
	fs.DurationVar(&l.HeaderTimeout, "header-timeout", d.HeaderTimeout, "how long a request's header may take")
	fs.DurationVar(&l.BodyTimeout, "body-timeout", d.BodyTimeout, "how long a request's body may bring nothing; twice as long it may come at less than 4 KiB/s")
	fs.DurationVar(&l.IdleTimeout, "idle-timeout", d.IdleTimeout, "how long a connection may rest between requests")
	fs.DurationVar(&l.ShutdownTimeout, "shutdown-timeout", d.ShutdownTimeout, "how long requests under way may take to end when the server does; what came of an upload is kept")
	fs.Float64Var(&l.Rate, "rate", d.Rate, "requests a second of each principal, five seconds' worth at once; more are answered 429 (-1: no limit)")
	fs.Float64Var(&l.AnonymousRate, "anonymous-rate", d.AnonymousRate, "requests a second without credentials of each address, or network /64; five seconds' worth at once (-1: no limit)")
}

func (f *serveFlags) run(cmd *cobra.Command) error {
	log, err := f.logger(cmd)
	if err != nil {
		return err
	}
	secret := os.Getenv("PRATIQUE_ADMIN_SECRET")
	if f.adminSecretFile != "" {
		if secret, err = readSecret(f.adminSecretFile); err != nil {
			return err
		}
	}
	proxies, err := edge.ParseProxies(cmp.Or(f.trustedProxies, os.Getenv("PRATIQUE_TRUSTED_PROXIES")))
	if err != nil {
		return fmt.Errorf("--trusted-proxies: %w; expected networks and addresses with commas between", err)
	}
	f.audit.Syslog = cmp.Or(f.audit.Syslog, os.Getenv("PRATIQUE_AUDIT_SYSLOG"))
	entra, signIn, err := f.issuers.read()
	if err != nil {
		return err
	}
	cfg := server.Config{
		Entra:          entra,
		SignIn:         signIn,
		TLSCert:        cmp.Or(f.tlsCert, os.Getenv("PRATIQUE_TLS_CERT")),
		TLSKey:         cmp.Or(f.tlsKey, os.Getenv("PRATIQUE_TLS_KEY")),
		ACME:           f.authority(),
		TrustedProxies: proxies,
		Limits:         f.limits,
		Audit:          f.audit,
		Data:           cmp.Or(f.data, os.Getenv("PRATIQUE_DATA"), "data"),
		Listen:         cmp.Or(f.listen, os.Getenv("PRATIQUE_LISTEN"), "127.0.0.1:5000"),
		ExternalURL:    cmp.Or(f.external, os.Getenv("PRATIQUE_EXTERNAL_URL")),
		AdminSecret:    secret,
		JudgeWait:      f.judgeWait,
		CollectEvery:   f.gcEvery,
		Grace:          f.gcGrace,
		Version:        Version,
		Log:            log,
		Started:        func(s server.Started) { greet(cmd, s) },
	}
	return server.Run(cmd.Context(), cfg)
}

// authority is who makes the certificates, where somebody does.
func (f *serveFlags) authority() edge.ACMEOptions {
	o := f.acme
	if env := os.Getenv("PRATIQUE_ACME_HOSTS"); len(o.Hosts) == 0 && env != "" {
		o.Hosts = strings.Split(env, ",")
	}
	o.Directory = cmp.Or(o.Directory, os.Getenv("PRATIQUE_ACME_DIRECTORY"))
	o.Email = cmp.Or(o.Email, os.Getenv("PRATIQUE_ACME_EMAIL"))
	o.Roots = cmp.Or(o.Roots, os.Getenv("PRATIQUE_ACME_ROOTS"))
	return o
}

func (f *serveFlags) logger(cmd *cobra.Command) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level %q: expected debug, info, warn or error", f.logLevel)
	}
	o := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), o)), nil
	}
	return nil, fmt.Errorf("--log-format %q: expected text or json", f.logFormat)
}

// greet prints what someone needs to push a first image.
func greet(cmd *cobra.Command, s server.Started) {
	w := cmd.OutOrStdout()
	scheme := "http"
	if s.TLS {
		scheme = "https"
	}
	fmt.Fprintf(w, "Pratique %s listens on %s://%s\n", Version, scheme, s.Listen)
	if s.Host != s.Listen {
		fmt.Fprintf(w, "  reached at  %s\n", s.URL)
	}
	data := s.Data
	if abs, err := filepath.Abs(data); err == nil {
		data = abs
	}
	fmt.Fprintf(w, "  data        %s\n", data)
	if s.Created {
		fmt.Fprintf(w, "  user        %s\n", s.Admin)
		if s.Secret != "" {
			fmt.Fprintf(w, "  secret      %s   (shown this once)\n", s.Secret)
		} else {
			fmt.Fprintln(w, "  secret      as given")
		}
	}
	fmt.Fprintf(w, `
Push a first image:
  docker login %[1]s -u %[2]s
  docker tag IMAGE %[1]s/team/app:1.0
  docker push %[1]s/team/app:1.0
See what came of it:
  PRATIQUE_USER=%[2]s PRATIQUE_PASSWORD=… pratique show team/app:1.0 --server %[3]s

`, s.Host, s.Admin, s.URL)
}

package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"pratique.dev/pratique/internal/oci"
)

// Bounds of what is asked of issuers. Their discovery documents and keys are asked for again once they
// are issuerAge old, and when a token names a key that is not known, but at most every
// issuerAgain. While an issuer cannot be reached, what it last said counts until it is
// issuerStale old.
const (
	issuerTimeout  = 10 * time.Second
	issuerDocument = 512 << 10 // bytes of any answer
	issuerKeys     = 200       // of one issuer
	issuerAge      = 10 * time.Minute
	issuerAgain    = 5 * time.Second
	issuerStale    = time.Hour
	issuerHops     = 3
	maxIssuers     = 1000
)

// ErrIssuer says that an address cannot be an issuer's.
var ErrIssuer = errors.New("expected https://HOST with or without a path, without query and fragment; http is for loopback alone")

// CheckIssuer refuses what cannot be an issuer's address (OpenID Connect Discovery 1.0, section 2).
// Plain http is accepted for this machine alone.
func CheckIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || len(issuer) > maxName || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !mayAsk(u) {
		return fmt.Errorf("issuer %.100q: %w", issuer, ErrIssuer)
	}
	return nil
}

// mayAsk says whether an address is https, or http on this machine.
func mayAsk(u *url.URL) bool { return u.Scheme == "https" || u.Scheme == "http" && isLoopback(u) }

// isLoopback says whether an address is this machine's by its text alone.
func isLoopback(u *url.URL) bool {
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && ip.Unmap().IsLoopback() || u.Hostname() == "localhost"
}

// issuerClient is a client that asks nobody but by https, follows no redirect to another host, and
// reads no more than issuerDocument bytes. base sends the requests; nil is one with timeouts.
func issuerClient(base http.RoundTripper) *http.Client {
	if base == nil {
		base = &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: issuerTimeout}).DialContext,
			TLSHandshakeTimeout: issuerTimeout, ResponseHeaderTimeout: issuerTimeout, MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConns: 16, MaxConnsPerHost: 8, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true}
	}
	return &http.Client{Transport: boundedAnswers{base}, Timeout: issuerTimeout, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		first := via[0].URL
		if len(via) > issuerHops || r.URL.Host != first.Host || r.URL.Scheme != first.Scheme {
			return fmt.Errorf("it redirects to %s://%s, which is not followed", r.URL.Scheme, r.URL.Host)
		}
		return nil
	}}
}

// boundedAnswers is a RoundTripper whose answers end with an error behind issuerDocument bytes.
type boundedAnswers struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b boundedAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	if !mayAsk(r.URL) {
		return nil, fmt.Errorf("%s is not asked: %w", r.URL.Redacted(), ErrIssuer)
	}
	resp, err := b.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &boundedBody{resp.Body, issuerDocument}
	return resp, nil
}

type boundedBody struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("the answer has more than %d bytes", issuerDocument)
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return n, fmt.Errorf("the answer has more than %d bytes", issuerDocument)
	}
	return n, err
}

// issuers knows the issuers that were asked. Its methods may be called at once.
type issuers struct {
	client *http.Client
	now    func() time.Time
	log    *slog.Logger

	mu sync.Mutex
	m  map[string]*issuer
}

func newIssuers(base http.RoundTripper, now func() time.Time, log *slog.Logger) *issuers {
	return &issuers{client: issuerClient(base), now: now, log: log, m: map[string]*issuer{}}
}

// issuer is what one issuer said of itself. The zero issuer has said nothing.
type issuer struct {
	asking sync.Mutex // held by who asks it

	mu    sync.Mutex
	known issuerState
}

type issuerState struct {
	provider *oidc.Provider // nil: it has not answered yet
	keys     []jose.JSONWebKey
	read     time.Time // when both were
	tried    time.Time
	failed   error // of the last try
}

func (i *issuer) state() issuerState {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.known
}

// of returns the entry of an issuer, which the caller has found to be a trusted one.
func (s *issuers) of(name string) *issuer {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.m[name]
	if !ok {
		if len(s.m) >= maxIssuers {
			clear(s.m) // they are asked again
		}
		i = &issuer{}
		s.m[name] = i
	}
	return i
}

// provider returns an issuer's discovery document. The error is an *oci.Error that names it.
func (s *issuers) provider(ctx context.Context, name string) (*oidc.Provider, error) {
	st, err := s.current(ctx, name, false)
	return st.provider, err
}

// keysFor returns the keys by which a token may be signed that names a key and an algorithm. None is no
// error. The error is an *oci.Error that names the issuer.
func (s *issuers) keysFor(ctx context.Context, name, kid, algorithm string) ([]crypto.PublicKey, error) {
	for _, atOnce := range []bool{false, true} {
		st, err := s.current(ctx, name, atOnce)
		if err != nil {
			return nil, err
		}
		if found := st.matching(kid, algorithm); len(found) > 0 {
			return found, nil
		}
	}
	return nil, nil
}

func (st issuerState) matching(kid, algorithm string) []crypto.PublicKey {
	var out []crypto.PublicKey
	for _, k := range st.keys {
		if (kid == "" || k.KeyID == kid) && (k.Algorithm == "" || k.Algorithm == algorithm) {
			out = append(out, k.Key)
		}
	}
	return out
}

// current returns what an issuer says of itself, and asks it where what is known is too old, or atOnce.
// One asks at a time; who could do with what is known does not wait for them.
func (s *issuers) current(ctx context.Context, name string, atOnce bool) (issuerState, error) {
	i := s.of(name)
	st, now := i.state(), s.now()
	if st.within(issuerAge, now) && !atOnce {
		return st, nil
	}
	if st.within(issuerStale, now) && !atOnce {
		if !i.asking.TryLock() {
			return st, nil
		}
	} else {
		i.asking.Lock()
	}
	defer i.asking.Unlock()
	if st = i.state(); now.Sub(st.tried) >= issuerAgain {
		st = s.renew(ctx, i, st, name)
	}
	if st.within(issuerStale, now) {
		return st, nil
	}
	said := "it did not answer as it should"
	var mismatch *oidc.IssuerMismatchError
	if errors.As(st.failed, &mismatch) {
		said = fmt.Sprintf("it says that it is another, %.100q", mismatch.Discovered)
	}
	return issuerState{}, oci.Errorf(oci.CodeUnavailable, "the issuer %s cannot be asked for its keys: %s; nobody can log in by its tokens until it does, and the server's log has more", name, said)
}

func (st issuerState) within(age time.Duration, now time.Time) bool {
	return st.provider != nil && now.Sub(st.read) < age
}

// renew asks an issuer. The caller holds i.asking.
func (s *issuers) renew(ctx context.Context, i *issuer, st issuerState, name string) issuerState {
	// Whoever came first may leave; the others still want to know.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*issuerTimeout)
	defer cancel()
	p, keys, err := s.ask(ctx, name)
	if st.tried, st.failed = s.now(), err; err == nil {
		st.provider, st.keys, st.read = p, keys, st.tried
	} else {
		s.log.WarnContext(ctx, "an issuer of identities does not answer as it should", "issuer", name, "err", fmt.Sprintf("%.500s", err))
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.known = st
	return st
}

// ask reads an issuer's discovery document, and its keys.
func (s *issuers) ask(ctx context.Context, name string) (*oidc.Provider, []jose.JSONWebKey, error) {
	if err := CheckIssuer(name); err != nil {
		return nil, nil, err
	}
	p, err := oidc.NewProvider(oidc.ClientContext(ctx, s.client), name)
	if err != nil {
		return nil, nil, err
	}
	var doc struct {
		Keys string `json:"jwks_uri"`
	}
	if err := p.Claims(&doc); err != nil {
		return nil, nil, fmt.Errorf("discovery: %w", err)
	}
	if err := besideIssuer(name, doc.Keys); err != nil {
		return nil, nil, fmt.Errorf("jwks_uri: %w", err)
	}
	raw, err := s.get(ctx, doc.Keys)
	if err != nil {
		return nil, nil, err
	}
	keys, err := readIssuerKeys(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("keys at %s: %w", doc.Keys, err)
	}
	return p, keys, nil
}

// besideIssuer refuses an address that an issuer names and that it may not: this machine's, unless the
// issuer is on it, or one without https.
func besideIssuer(issuer, address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || !mayAsk(u) {
		return fmt.Errorf("%.100q: %w", address, ErrIssuer)
	}
	if i, err := url.Parse(issuer); err != nil || isLoopback(u) && !isLoopback(i) {
		return fmt.Errorf("%.100q is on this machine, and the issuer is not", address)
	}
	return nil
}

func (s *issuers) get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", address, resp.Status)
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	return raw, nil
}

// readIssuerKeys reads a JWK set (RFC 7517). Keys that sign nothing we would accept are left out, among
// them every secret one: by an oct key anybody who reads the set could sign.
func readIssuerKeys(raw []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, err
	}
	if len(set.Keys) > issuerKeys {
		return nil, fmt.Errorf("it has %d keys, at most %d are read", len(set.Keys), issuerKeys)
	}
	var out []jose.JSONWebKey
	for _, one := range set.Keys {
		var k jose.JSONWebKey
		// A key of a kind that is not known is no fault of the others.
		if json.Unmarshal(one, &k) != nil || !k.Valid() || k.Use != "" && k.Use != "sig" {
			continue
		}
		if k.Algorithm != "" && !slices.Contains(assertionAlgorithms, jose.SignatureAlgorithm(k.Algorithm)) {
			continue
		}
		switch key := k.Key.(type) {
		case *rsa.PublicKey:
			if key.N.BitLen() < minRSA {
				continue
			}
		case *ecdsa.PublicKey, ed25519.PublicKey:
		default:
			continue
		}
		out = append(out, k)
	}
	if len(out) == 0 {
		return nil, errors.New("there is none that a token could be verified by")
	}
	return out, nil
}

// verified returns the claims of a token that an issuer signed and that holds now; whom it is for is
// the caller's to check. ErrUnauthenticated with the reason, or an *oci.Error if the issuer cannot
// be asked.
func (s *issuers) verified(ctx context.Context, issuer, token string) (*oidc.IDToken, map[string]any, error) {
	parsed, err := jose.ParseSignedCompact(token, assertionAlgorithms) // refuses "none", and HS256 by a public key
	if err != nil {
		return nil, nil, unproven("it is no token signed by a public-key algorithm: %v", err)
	}
	h := parsed.Signatures[0].Header
	keys, err := s.keysFor(ctx, issuer, h.KeyID, h.Algorithm)
	if err != nil {
		return nil, nil, err
	}
	if len(keys) == 0 {
		return nil, nil, unproven("key %.80q is none of the issuer's", h.KeyID)
	}
	now := s.now()
	algorithms := make([]string, len(assertionAlgorithms))
	for n, a := range assertionAlgorithms {
		algorithms[n] = string(a)
	}
	t, err := oidc.NewVerifier(issuer, &oidc.StaticKeySet{PublicKeys: keys}, &oidc.Config{SkipClientIDCheck: true, SupportedSigningAlgs: algorithms,
		Now: s.now}).Verify(ctx, token)
	if err != nil {
		return nil, nil, unproven("%s", strings.TrimPrefix(err.Error(), "oidc: "))
	}
	var claims map[string]any
	var times struct {
		NotBefore float64 `json:"nbf"`
		IssuedAt  float64 `json:"iat"`
	}
	if err := errors.Join(t.Claims(&claims), t.Claims(&times)); err != nil {
		return nil, nil, unproven("its claims cannot be read: %v", err)
	}
	latest := float64(now.Add(issuerSkew).Unix())
	if t.Issuer != issuer || times.NotBefore > latest || times.IssuedAt > latest {
		return nil, nil, unproven("it is not valid yet, or of another issuer than it was verified by")
	}
	return t, claims, nil
}

// issuerSkew is how far an issuer's clock may be ahead.
const issuerSkew = time.Minute

// unproven is ErrUnauthenticated with a reason, for the log and for administrators; the doors do not
// tell it.
func unproven(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnauthenticated, fmt.Sprintf(format, args...))
}

package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/edge"
	"pratique.dev/pratique/internal/identity/issuertest"
	"pratique.dev/pratique/internal/oci"
)

const audience = "https://registry.example"

// federated is a registry that trusts one issuer.
type federated struct {
	*Identity
	cat    *catalog.Catalog
	clock  *clock
	issuer *issuertest.Issuer
}

func newFederated(t *testing.T, o Options) federated {
	t.Helper()
	f := federated{cat: catalogtest.Open(t), clock: newClock(), issuer: issuertest.New(t)}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	o.Now, o.Issuers = f.clock.now, transport
	f.Identity = New(f.cat, o)
	f.principal(t, "ci", access.KindWorkload)
	return f
}

func (f federated) principal(t *testing.T, name string, kind access.Kind) {
	t.Helper()
	p := catalog.Account{Principal: access.Principal{ID: "id-" + name, Kind: kind, Name: name}}
	if err := f.cat.CreatePrincipal(bg, p, catalog.Act{By: "test"}); err != nil {
		t.Fatal(err)
	}
}

func (f federated) trust(t *testing.T, fed catalog.Federation) {
	t.Helper()
	if fed.Issuer == "" {
		fed.Issuer = f.issuer.URL
	}
	if fed.Audience == "" {
		fed.Audience = audience
	}
	if fed.Principal == "" {
		fed.Principal = "id-ci"
	}
	if err := f.cat.PutFederation(bg, fed, catalog.Act{By: "test"}); err != nil {
		t.Fatal(err)
	}
}

func TestExchange(t *testing.T) {
	f := newFederated(t, Options{})
	f.trust(t, catalog.Federation{Name: "github", Rule: `claims.repository == "octo-org/octo-repo" && claims.ref == "refs/heads/main" && claims.environment == "prod"`})
	l, err := f.Exchange(bg, f.issuer.Sign(f.issuer.GitHub(audience, f.clock.now())), nowhere)
	if err != nil || l.Name != "ci" || l.Credential != "federation github" || l.Claims["repository"] != "octo-org/octo-repo" {
		t.Fatalf("Exchange = %+v, %v; want ci by federation github with its claims", l, err)
	}
	fresh, err := f.IssueRefresh(bg, l)
	if err != nil {
		t.Fatal(err)
	}
	again, err := f.Authenticate(bg, RefreshUser, fresh.Text, nowhere)
	if err != nil || again.Name != "ci" || again.Claims["ref"] != "refs/heads/main" {
		t.Errorf("the refresh token of an exchange gives %+v, %v", again, err)
	}
	if err := f.cat.DeleteFederation(bg, "github", catalog.Act{By: "test"}); err != nil {
		t.Fatal(err)
	}
	if l, err := f.Authenticate(bg, RefreshUser, fresh.Text, nowhere); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("after its federation is gone the refresh token gives %+v, %v", l, err)
	}
}

func TestExchangeKubernetes(t *testing.T) {
	f := newFederated(t, Options{})
	f.trust(t, catalog.Federation{Name: "cluster", Rule: `claims.sub == "system:serviceaccount:build:kaniko" && claims["kubernetes.io"].namespace == "build"`})
	if l, err := f.Exchange(bg, f.issuer.Sign(f.issuer.Kubernetes(audience, f.clock.now())), nowhere); err != nil || l.Name != "ci" {
		t.Errorf("Exchange = %+v, %v; want ci", l, err)
	}
}

// forgeParts makes a token with a header and claims of a forger's choice.
func forgeParts(header, claims map[string]any, signature string) string {
	part := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	return part(header) + "." + part(claims) + "." + signature
}

// badToken is a token that proves nothing, and what its refusal says.
type badToken struct{ name, token, says string }

// TestExchangeRefuses: each kind of token that proves nothing is refused, and says why to who may hear it.
func TestExchangeRefuses(t *testing.T) {
	f := newFederated(t, Options{})
	f.trust(t, catalog.Federation{Name: "github", Rule: `claims.repository_owner == "octo-org"`})
	other := issuertest.New(t)
	elsewhere := other.GitHub(audience, f.clock.now())
	elsewhere["iss"] = f.issuer.URL
	bad := append(badSignatures(t, f), badClaims(f)...)
	bad = append(bad, badToken{"an issuer that nobody trusts", other.Sign(other.GitHub(audience, f.clock.now())), "no federation trusts its issuer"},
		badToken{"another issuer's signature", other.Sign(elsewhere), "none of the issuer's"},
		badToken{"no token", "eyJhbGciOiJFUzI1NiJ9", "public-key algorithm"}, badToken{"nothing", "", ""}, badToken{"our own refresh token", ownRefresh(t, f), ""})
	for _, tc := range bad {
		l, err := f.Exchange(bg, tc.token, nowhere)
		if !errors.Is(err, ErrUnauthenticated) || !l.IsZero() || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: Exchange = %+v, %v; want ErrUnauthenticated with %q", tc.name, l, err, tc.says)
		}
		if l, err := f.Authenticate(bg, FederatedUser, tc.token, nowhere); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%s, as a password: %+v, %v", tc.name, l, err)
		}
	}
	if l, err := f.Exchange(bg, f.issuer.Sign(f.issuer.GitHub(audience, f.clock.now())), nowhere); err != nil || l.Name != "ci" {
		t.Errorf("the good token: %+v, %v", l, err)
	}
	if n := other.Asks.Load(); n != 0 {
		t.Errorf("an issuer that nobody trusts was asked %d times", n)
	}
}

// badClaims are tokens that the issuer has signed.
func badClaims(f federated) []badToken {
	now := f.clock.now()
	with := func(changes map[string]any) string {
		c := f.issuer.GitHub(audience, now)
		for k, v := range changes {
			if c[k] = v; v == nil {
				delete(c, k)
			}
		}
		return f.issuer.Sign(c)
	}
	return []badToken{
		{"wrong audience", with(map[string]any{"aud": "https://other.example"}), "not for"},
		{"no audience", with(map[string]any{"aud": nil}), "not for"},
		{"no issuer", with(map[string]any{"iss": nil}), "names no issuer"},
		{"the issuer with a slash", with(map[string]any{"iss": f.issuer.URL + "/"}), "no federation trusts"},
		{"expired", with(map[string]any{"exp": now.Unix() - 1}), "expired"},
		{"without an end", with(map[string]any{"exp": nil}), "expired"},
		{"not valid yet", with(map[string]any{"nbf": now.Unix() + 120}), "not valid yet"},
		{"issued in the future", with(map[string]any{"iat": now.Unix() + 120}), "not valid yet"},
		{"the rule is false", with(map[string]any{"repository_owner": "evil-org"}), "rule does not hold"},
		{"the rule cannot be told", with(map[string]any{"repository_owner": nil}), "rule cannot be told"},
		{"claims of another type", with(map[string]any{"repository_owner": 7}), "rule"},
		{"oversized", with(map[string]any{"pad": strings.Repeat("x", maxToken)}), "at most"},
		{"claims too large to carry", with(map[string]any{"pad": strings.Repeat("x", maxClaims)}), "claims have more than"},
	}
}

// badSignatures are tokens that it has not signed.
func badSignatures(t *testing.T, f federated) []badToken {
	t.Helper()
	claims := f.issuer.GitHub(audience, f.clock.now())
	key, kid := f.issuer.Key()
	signed := func(k jose.SigningKey, o *jose.SignerOptions) string {
		s, err := jose.NewSigner(k, o)
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.Signed(s).Claims(claims).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	symmetric := func(secret []byte) string {
		return signed(jose.SigningKey{Algorithm: jose.HS256, Key: secret}, (&jose.SignerOptions{}).WithHeader("kid", kid))
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(f.issuer.Sign(claims), ".")
	tampered := maps.Clone(claims)
	tampered["ref"] = "refs/heads/evil"
	return []badToken{
		{"HS256 by the public key, DER", symmetric(der), "public-key algorithm"},
		{"HS256 by the public key, PEM", symmetric(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), "public-key algorithm"},
		{"alg none", forgeParts(map[string]any{"alg": "none", "typ": "JWT"}, claims, ""), "public-key algorithm"},
		{"alg NONE with a signature", forgeParts(map[string]any{"alg": "NONE", "kid": kid}, claims, parts[2]), "public-key algorithm"},
		{"unsigned", parts[0] + "." + parts[1] + ".", ""},
		{"a key that the token brings itself", signed(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: stranger, KeyID: kid}}, &jose.SignerOptions{EmbedJWK: true}), "signature"},
		{"tampered", parts[0] + "." + strings.Split(forgeParts(nil, tampered, ""), ".")[1] + "." + parts[2], "signature"},
	}
}

func ownRefresh(t *testing.T, f federated) string {
	t.Helper()
	t0, err := f.IssueRefresh(bg, Login{Principal: access.Principal{ID: "gone", Kind: access.KindUser, Name: "gone"}})
	if err != nil {
		t.Fatal(err)
	}
	return t0.Text
}

// TestWrongTenant: the tenant is part of Entra ID's issuer, and a rule may ask for it besides.
func TestWrongTenant(t *testing.T) {
	f := newFederated(t, Options{})
	f.trust(t, catalog.Federation{Name: "entra", Rule: `claims.tid == "72f988bf-86f1-41af-91ab-2d7cd011db47" && claims.azp == "11111111-2222-3333-4444-555555555555"`})
	c := f.issuer.GitHub(audience, f.clock.now())
	c["azp"], c["tid"] = "11111111-2222-3333-4444-555555555555", "99999999-86f1-41af-91ab-2d7cd011db47"
	if l, err := f.Exchange(bg, f.issuer.Sign(c), nowhere); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("of another tenant: %+v, %v", l, err)
	}
	c["tid"] = "72f988bf-86f1-41af-91ab-2d7cd011db47"
	if l, err := f.Exchange(bg, f.issuer.Sign(c), nowhere); err != nil || l.Name != "ci" {
		t.Errorf("of the tenant: %+v, %v", l, err)
	}
}

func TestOnce(t *testing.T) {
	f := newFederated(t, Options{})
	f.trust(t, catalog.Federation{Name: "github", Once: true, Rule: `claims.ref == "refs/heads/main"`})
	claims := f.issuer.GitHub(audience, f.clock.now())
	token := f.issuer.Sign(claims)
	if _, err := f.Examine(bg, token); err != nil {
		t.Fatal(err)
	}
	if l, err := f.Exchange(bg, token, nowhere); err != nil || l.Name != "ci" {
		t.Fatalf("the first time: %+v, %v; to examine it uses nothing up", l, err)
	}
	again := maps.Clone(claims) // signed anew, it is the same token
	for name, token := range map[string]string{"replayed": token, "signed anew": f.issuer.Sign(again)} {
		if l, err := f.Exchange(bg, token, nowhere); !errors.Is(err, ErrUnauthenticated) || !strings.Contains(err.Error(), "used before") {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	delete(again, "jti")
	first, second := f.issuer.Sign(again), f.issuer.Sign(again) // two signatures of the same content
	if _, err := f.Exchange(bg, first, nowhere); err != nil {
		t.Fatal(err)
	}
	if l, err := f.Exchange(bg, second, nowhere); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("without jti, with another signature: %+v, %v", l, err)
	}
}

// TestSeveralFederations: the first by name is taken, unless the user name says whose it shall be.
func TestSeveralFederations(t *testing.T) {
	f := newFederated(t, Options{})
	f.principal(t, "releaser", access.KindService)
	f.trust(t, catalog.Federation{Name: "b-all", Rule: `claims.repository_owner == "octo-org"`})
	f.trust(t, catalog.Federation{Name: "a-prod", Rule: `claims.environment == "prod"`, Principal: "id-releaser"})
	token := f.issuer.Sign(f.issuer.GitHub(audience, f.clock.now()))
	for range 20 {
		if l, err := f.Exchange(bg, token, nowhere); err != nil || l.Credential != "federation a-prod" {
			t.Fatalf("Exchange = %+v, %v; want the first by name", l, err)
		}
	}
	for _, tc := range []struct{ user, want string }{
		{FederatedUser, "releaser"}, {RefreshUser, "releaser"}, {"releaser", "releaser"}, {"ci", "ci"}, {"admin", ""}, {"a-prod", ""},
	} {
		l, err := f.Authenticate(bg, tc.user, token, nowhere)
		if (err == nil) != (tc.want != "") || l.Name != tc.want {
			t.Errorf("as %q: %+v, %v; want %q", tc.user, l, err, tc.want)
		}
	}
	if _, _, _, err := f.Bootstrap(bg, ""); err != nil { // somebody has to be an owner
		t.Fatal(err)
	}
	if err := f.cat.DisablePrincipal(bg, "id-releaser", catalog.Act{By: "test"}); err != nil {
		t.Fatal(err)
	}
	if l, err := f.Authenticate(bg, "releaser", token, nowhere); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("as a principal that is disabled: %+v, %v", l, err)
	}
}

// TestBrokenPipeline: wrong tokens of one subject hold up no other behind the same address.
func TestBrokenPipeline(t *testing.T) {
	clock := newClock()
	f := newFederated(t, Options{Rates: edge.NewRates(edge.RateLimits{}, clock.now)})
	f.trust(t, catalog.Federation{Name: "github", Rule: `claims.ref == "refs/heads/main"`})
	from := netip.MustParseAddr("192.0.2.1")
	broken := f.issuer.GitHub(audience, f.clock.now())
	broken["sub"], broken["ref"] = "repo:octo-org/broken", "refs/heads/evil"
	var often *edge.Limited
	for n := range 20 {
		_, err := f.Authenticate(bg, FederatedUser, f.issuer.Sign(broken), from)
		if n == 19 && !errors.As(err, &often) {
			t.Errorf("after %d wrong tokens: %v; want a *edge.Limited", n, err)
		}
	}
	if l, err := f.Authenticate(bg, FederatedUser, f.issuer.Sign(f.issuer.GitHub(audience, f.clock.now())), from); err != nil {
		t.Errorf("another pipeline: %+v, %v", l, err)
	}
}

// unavailable says whether an error is that of an issuer that cannot be asked, and names it.
func unavailable(err error, name string) bool {
	var e *oci.Error
	return errors.As(err, &e) && e.Code == oci.CodeUnavailable && strings.Contains(e.Message, name)
}

// TestIssuerLies: what an issuer says of itself is not believed where it could not be right.
func TestIssuerLies(t *testing.T) {
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	defer elsewhere.Close()
	for name, answer := range map[string]func(i *issuertest.Issuer, w http.ResponseWriter, r *http.Request) bool{
		"another issuer": func(_ *issuertest.Issuer, w http.ResponseWriter, r *http.Request) bool {
			_ = json.NewEncoder(w).Encode(map[string]any{"issuer": "https://evil.example", "jwks_uri": "https://evil.example/jwks"})
			return true
		},
		"the issuer with a slash": func(i *issuertest.Issuer, w http.ResponseWriter, r *http.Request) bool {
			_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL + "/", "jwks_uri": i.URL + "/jwks"})
			return true
		},
		"keys over plain http elsewhere": func(i *issuertest.Issuer, w http.ResponseWriter, r *http.Request) bool {
			_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": "http://192.0.2.1/jwks"})
			return true
		},
		"a redirect to another host": func(_ *issuertest.Issuer, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
			return true
		},
		"a discovery document without an end": func(_ *issuertest.Issuer, w http.ResponseWriter, r *http.Request) bool {
			for n := 0; n < 2*issuerDocument; n += 1024 {
				if _, err := w.Write(make([]byte, 1024)); err != nil {
					return true
				}
			}
			return true
		},
		"too many keys": func(_ *issuertest.Issuer, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/jwks" {
				return false
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"keys": make([]map[string]string, issuerKeys+1)})
			return true
		},
		"keys that are too large": func(_ *issuertest.Issuer, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/jwks" {
				return false
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"pad": strings.Repeat("x", 2*issuerDocument), "keys": []any{}})
			return true
		},
		"a secret key among public ones": func(_ *issuertest.Issuer, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/jwks" {
				return false
			}
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: []byte("everybody reads this"), KeyID: "1", Algorithm: "HS256"}}})
			return true
		},
		"an error": func(_ *issuertest.Issuer, w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusInternalServerError)
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFederated(t, Options{})
			f.trust(t, catalog.Federation{Name: "github", Rule: `true`})
			f.issuer.Answer(func(w http.ResponseWriter, r *http.Request) bool { return answer(f.issuer, w, r) })
			l, err := f.Exchange(bg, f.issuer.Sign(f.issuer.GitHub(audience, f.clock.now())), nowhere)
			if !unavailable(err, f.issuer.URL) || !l.IsZero() {
				t.Errorf("Exchange = %+v, %v; want it unavailable, with the issuer's name", l, err)
			}
		})
	}
}

// TestIssuerRotates: a new key is asked for when a token names it, old ones count no more once they are
// not published, and who names keys that there are not has the issuer asked once in five seconds.
func TestIssuerRotates(t *testing.T) {
	f := newFederated(t, Options{})
	f.trust(t, catalog.Federation{Name: "github", Rule: `true`})
	sign := func() string { return f.issuer.Sign(f.issuer.GitHub(audience, f.clock.now())) }
	exchange := func(token string) error {
		_, err := f.Exchange(bg, token, nowhere)
		return err
	}
	for range 10 {
		if err := exchange(sign()); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.issuer.Asks.Load(); n != 1 {
		t.Errorf("the keys were asked for %d times; want once", n)
	}
	old := sign()
	f.issuer.Rotate()
	for range 10 {
		if err := exchange(sign()); !errors.Is(err, ErrUnauthenticated) || !strings.Contains(err.Error(), "none of the issuer's") {
			t.Fatalf("a key that came a moment after the last answer: %v", err)
		}
	}
	f.clock.advance(issuerAgain)
	if err := exchange(sign()); err != nil {
		t.Errorf("after the keys were rotated: %v", err)
	}
	if err := exchange(old); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("by a key that is published no more: %v", err)
	}
	if n := f.issuer.Asks.Load(); n != 2 {
		t.Errorf("the keys were asked for %d times; want twice", n)
	}
}

// TestIssuerDown: what an issuer last said counts for an hour, then its tokens are refused.
func TestIssuerDown(t *testing.T) {
	f := newFederated(t, Options{})
	f.trust(t, catalog.Federation{Name: "github", Rule: `true`})
	exchange := func() error {
		_, err := f.Exchange(bg, f.issuer.Sign(f.issuer.GitHub(audience, f.clock.now())), nowhere)
		return err
	}
	if err := exchange(); err != nil {
		t.Fatal(err)
	}
	f.issuer.Answer(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	f.clock.advance(issuerStale - time.Second)
	if err := exchange(); err != nil {
		t.Errorf("shortly after it went down: %v", err)
	}
	f.clock.advance(2 * time.Second)
	if err := exchange(); !unavailable(err, f.issuer.URL) {
		t.Errorf("an hour after it went down: %v; want it unavailable", err)
	}
	f.issuer.Answer(nil)
	f.clock.advance(issuerAgain)
	if err := exchange(); err != nil {
		t.Errorf("once it is back: %v", err)
	}
}

func TestCheckIssuer(t *testing.T) {
	for issuer, ok := range map[string]bool{
		"https://token.actions.githubusercontent.com": true,
		"https://login.microsoftonline.com/t/v2.0":    true,
		"http://127.0.0.1:8080":                       true,
		"http://localhost:8080/x":                     true,
		"http://issuer.example":                       false,
		"http://127.0.0.1.evil.example":               false,
		"http://localhost.evil.example":               false,
		"https://user:secret@issuer.example":          false,
		"https://issuer.example/?a=b":                 false,
		"https://issuer.example/#a":                   false,
		"issuer.example":                              false,
		"file:///etc/passwd":                          false,
		"":                                            false,
	} {
		if err := CheckIssuer(issuer); (err == nil) != ok {
			t.Errorf("CheckIssuer(%q) = %v", issuer, err)
		}
	}
}

package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
)

const door = "https://registry.example/v2/token"

// assertion signs claims with a key.
func assertion(t *testing.T, alg jose.SignatureAlgorithm, key any, c jwt.Claims) string {
	t.Helper()
	return forge(t, alg, key, "", claims{Claims: c})
}

func jwk(t *testing.T, key any) []byte {
	t.Helper()
	raw, err := json.Marshal(jose.JSONWebKey{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestAsserted(t *testing.T) {
	w := newWorld(t)
	w.principal("ci", "AcrPull", "", "")
	w.principal("other", "AcrPull", "", "")
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.ok(err)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.ok(err)
	public, err := ParseKey(jwk(t, &private.PublicKey))
	w.ok(err)
	w.ok(w.cat.AddSecret(bg, catalog.Secret{ID: "k", Principal: "ci", Kind: catalog.SecretKey, Hash: public, Expires: w.clock.now().Add(time.Hour)}, catalog.Act{Now: w.clock.now()}))
	n := 0
	base := func(change func(*jwt.Claims)) jwt.Claims {
		n++
		c := jwt.Claims{Issuer: "ci", Subject: "ci", Audience: jwt.Audience{door}, ID: strings.Repeat("j", n),
			Expiry: jwt.NewNumericDate(w.clock.now().Add(time.Minute)), IssuedAt: jwt.NewNumericDate(w.clock.now())}
		if change != nil {
			change(&c)
		}
		return c
	}
	sign := func(change func(*jwt.Claims)) string { return assertion(t, jose.ES256, private, base(change)) }
	good := sign(nil)
	parts, other := strings.Split(good, "."), strings.Split(sign(func(c *jwt.Claims) { c.Subject, c.Issuer = "admin", "admin" }), ".")
	for what, text := range map[string]string{
		"nothing": "", "no token": "a.b.c", "too long": strings.Repeat("a", maxToken+1),
		"unsigned":                   "eyJhbGciOiJub25lIn0." + parts[1] + ".",
		"a password for a key":       assertion(t, jose.HS256, public, base(nil)),
		"another key":                assertion(t, jose.ES256, stranger, base(nil)),
		"claims of another":          parts[0] + "." + other[1] + "." + parts[2],
		"a key of another":           sign(func(c *jwt.Claims) { c.Subject, c.Issuer = "other", "other" }),
		"nobody":                     sign(func(c *jwt.Claims) { c.Subject, c.Issuer = "nobody", "nobody" }),
		"issued by another":          sign(func(c *jwt.Claims) { c.Issuer = "other" }),
		"for another audience":       sign(func(c *jwt.Claims) { c.Audience = jwt.Audience{"https://elsewhere.example"} }),
		"for no audience":            sign(func(c *jwt.Claims) { c.Audience = nil }),
		"run out":                    sign(func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(w.clock.now().Add(-time.Minute)) }),
		"without an end":             sign(func(c *jwt.Claims) { c.Expiry = nil }),
		"with an end that is far":    sign(func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(w.clock.now().Add(time.Hour)) }),
		"not valid yet":              sign(func(c *jwt.Claims) { c.NotBefore = jwt.NewNumericDate(w.clock.now().Add(time.Minute)) }),
		"issued in the future":       sign(func(c *jwt.Claims) { c.IssuedAt = jwt.NewNumericDate(w.clock.now().Add(time.Minute)) }),
		"without an ID":              sign(func(c *jwt.Claims) { c.ID = "" }),
		"with an ID without measure": sign(func(c *jwt.Claims) { c.ID = strings.Repeat("j", 1000) }),
	} {
		if l, err := w.Asserted(bg, text, []string{door}, nowhere); !errors.Is(err, ErrUnauthenticated) || !l.IsZero() {
			t.Errorf("%s: %+v, %v; want ErrUnauthenticated", what, l, err)
		}
	}
	l, err := w.Asserted(bg, good, []string{"x", door}, nowhere)
	if err != nil || l.Name != "ci" || l.Credential != "key k" {
		t.Fatalf("%+v, %v", l, err)
	}
	if _, err := w.Asserted(bg, good, []string{door}, nowhere); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("once more: %v", err)
	}
	token := w.token(l)
	w.clock.advance(time.Hour)
	if _, err := w.Asserted(bg, sign(nil), []string{door}, nowhere); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("a key that has run out: %v", err)
	}
	w.refuses("a token by it", "Bearer "+token)
}

// TestParseKey: public keys of some strength alone.
func TestParseKey(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	strong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	weak := rsa.PublicKey{N: strong.N, E: strong.E}
	weak.N = weak.N.Rsh(weak.N, 1025) // as of 1023 bits; strong is not used after this
	for what, raw := range map[string][]byte{"nothing": nil, "no JSON": []byte("x"), "another document": []byte(`{"a":1}`), "a private key": jwk(t, private),
		"a private key of another kind": jwk(t, edPrivate), "a password": jwk(t, []byte("secret secret secret")), "a weak key": jwk(t, &weak)} {
		if k, err := ParseKey(raw); err == nil {
			t.Errorf("%s is taken: %s", what, k)
		}
	}
	for what, key := range map[string]any{"P-384": &private.PublicKey, "Ed25519": edPublic} {
		if k, err := ParseKey(jwk(t, key)); err != nil || strings.Contains(string(k), `"d"`) {
			t.Errorf("%s: %s, %v", what, k, err)
		}
	}
}

// FuzzAsserted: no text proves anybody but what was signed.
func FuzzAsserted(f *testing.F) {
	i := New(catalogtest.Open(f), Options{})
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJjaSIsInN1YiI6ImNpIn0.AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		if l, err := i.Asserted(bg, text, []string{door}, nowhere); !errors.Is(err, ErrUnauthenticated) || !l.IsZero() {
			t.Fatalf("%q: %+v, %v", text, l, err)
		}
	})
}

package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"pratique.dev/pratique/internal/catalog"
)

// AssertionType is the client_assertion_type of a signed JWT (RFC 7523, section 2.2).
const AssertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// maxAssertion is how long an assertion may hold, and minRSA the bits of an RSA key that are accepted.
const (
	maxAssertion = 10 * time.Minute
	minRSA       = 2048
)

// assertionAlgorithms are those that an assertion may be signed with: public keys alone.
var assertionAlgorithms = []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.ES512, jose.EdDSA, jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}

// ParseKey reads a public key that a principal shall prove itself with: a JWK (RFC 7517). The result
// is the key as it is kept. A private key is refused.
func ParseKey(raw []byte) ([]byte, error) {
	var k jose.JSONWebKey
	if err := json.Unmarshal(raw, &k); err != nil || !k.Valid() {
		return nil, errors.New("it is no JSON Web Key (RFC 7517)")
	}
	switch key := k.Key.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < minRSA {
			return nil, fmt.Errorf("the RSA key has %d bits, at least %d are needed", n, minRSA)
		}
	default:
		return nil, errors.New("expected the public part of an RSA, EC or Ed25519 key; keep the private one to yourself")
	}
	return json.Marshal(jose.JSONWebKey{Key: k.Key, KeyID: k.KeyID, Use: "sig"})
}

// Asserted returns the principal that a signed JWT proves (RFC 7523, section 3): its issuer and
// subject are the principal's name, its audience one of audiences, it holds for no longer than ten minutes, and its jti
// was not seen before. ErrUnauthenticated if it proves nobody, and an *edge.Limited as Authenticate.
func (i *Identity) Asserted(ctx context.Context, assertion string, audiences []string, from netip.Addr) (Login, error) {
	name, err := assertedName(assertion)
	if err != nil {
		return Login{}, err
	}
	return i.try(name, from, func() (Login, error) { return i.asserted(ctx, name, assertion, audiences) })
}

// assertedName is who an assertion says it is of, which proves nothing yet.
func assertedName(assertion string) (string, error) {
	if len(assertion) > maxToken {
		return "", ErrUnauthenticated
	}
	t, err := jwt.ParseSigned(assertion, assertionAlgorithms)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	var c jwt.Claims
	if err := t.UnsafeClaimsWithoutVerification(&c); err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	if c.Issuer == "" || c.Issuer != c.Subject || len(c.Issuer) > maxName {
		return "", fmt.Errorf("%w: iss and sub are not the name of one principal", ErrUnauthenticated)
	}
	return c.Issuer, nil
}

func (i *Identity) asserted(ctx context.Context, name, assertion string, audiences []string) (Login, error) {
	p, err := i.cat.PrincipalByName(ctx, name)
	if errors.Is(err, catalog.ErrNotFound) {
		return Login{}, ErrUnauthenticated
	}
	if err != nil {
		return Login{}, fmt.Errorf("assertion: %w", err)
	}
	kept, err := i.cat.Secrets(ctx, p.ID)
	if err != nil {
		return Login{}, fmt.Errorf("assertion: %w", err)
	}
	now := i.o.Now()
	t, err := jwt.ParseSigned(assertion, assertionAlgorithms)
	if err != nil {
		return Login{}, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	for _, s := range kept {
		if s.Kind != catalog.SecretKey || s.Ended(now) || !p.Disabled.IsZero() {
			continue
		}
		var key jose.JSONWebKey
		var c jwt.Claims
		if err := json.Unmarshal(s.Hash, &key); err != nil {
			return Login{}, fmt.Errorf("key %q, as kept in the catalog: %w", s.ID, err)
		}
		if t.Claims(key.Key, &c) != nil {
			continue // another key's
		}
		if err := checkAssertion(c, audiences, now); err != nil {
			return Login{}, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
		}
		err := i.cat.UseToken(ctx, "assertion "+p.ID+" "+c.ID, c.Expiry.Time().Add(clockSkew), now)
		if errors.Is(err, catalog.ErrConflict) {
			return Login{}, fmt.Errorf("%w: it was used before", ErrUnauthenticated)
		}
		return Login{Principal: p.Principal, Credential: "key " + s.ID, Ends: s.Expires}, err
	}
	return Login{}, ErrUnauthenticated
}

func checkAssertion(c jwt.Claims, audiences []string, now time.Time) error {
	switch {
	case c.Expiry == nil || c.ID == "" || len(c.ID) > maxName:
		return errors.New("exp or jti is missing")
	case !now.Before(c.Expiry.Time().Add(clockSkew)):
		return jwt.ErrExpired
	case c.Expiry.Time().After(now.Add(maxAssertion)):
		return fmt.Errorf("it holds for longer than %s", maxAssertion)
	}
	return c.ValidateWithLeeway(jwt.Expected{AnyAudience: audiences, Time: now}, clockSkew)
}

package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"pratique.dev/pratique/internal/access"
)

const (
	signingKeys = "identity.signing-keys" // setting: a JWK set (RFC 7517), the first key signs
	algorithm   = jose.ES256
	// clockSkew is how far the clocks of replicas may be apart.
	clockSkew = 5 * time.Second
)

// Token is what a client shows instead of a secret.
type Token struct {
	Text    string
	Issued  time.Time
	Expires time.Time
	Granted []Access
}

// claims are those of RFC 7519 and the ones of Docker's tokens.
type claims struct {
	jwt.Claims
	Name   string      `json:"name"`
	Kind   access.Kind `json:"kind"`
	Access []Access    `json:"access"`
}

// verified is what is remembered of a token that was verified.
type verified struct {
	principal access.Principal
	granted   Granted
}

type keys struct {
	signer jose.Signer
	public map[string]*ecdsa.PublicKey // by key id
}

// Issue makes a token that holds what was asked and is granted to p, nothing else. A
// token without any access still proves who its bearer is (a login).
func (i *Identity) Issue(ctx context.Context, p access.Principal, asked []Access) (Token, error) {
	if p.IsZero() {
		return Token{}, ErrUnauthenticated
	}
	grants, err := i.Grants(ctx, p)
	if err != nil {
		return Token{}, fmt.Errorf("issue token to %q: %w", p.Name, err)
	}
	k, err := i.loadKeys(ctx)
	if err != nil {
		return Token{}, fmt.Errorf("issue token to %q: %w", p.Name, err)
	}
	now := i.o.Now().Truncate(time.Second)
	t := Token{Issued: now, Expires: now.Add(i.o.Lifetime), Granted: grant(asked, grants)}
	c := claims{Name: p.Name, Kind: p.Kind, Access: t.Granted, Claims: jwt.Claims{
		Issuer: i.o.Issuer, Subject: p.ID, Audience: jwt.Audience{i.o.Service}, ID: newID(),
		Expiry: jwt.NewNumericDate(t.Expires), NotBefore: jwt.NewNumericDate(now), IssuedAt: jwt.NewNumericDate(now)}}
	if t.Text, err = jwt.Signed(k.signer).Claims(c).Serialize(); err != nil {
		return Token{}, fmt.Errorf("issue token to %q: %w", p.Name, err)
	}
	return t, nil
}

// Verify returns whose token it is and what it grants. ErrUnauthenticated if it is
// not one of ours, or not valid now. It asks no database: what was granted within the
// lifetime of a token stays granted for as long.
func (i *Identity) Verify(ctx context.Context, token string) (access.Principal, Granted, error) {
	if len(token) > maxToken {
		return access.Principal{}, nil, ErrUnauthenticated
	}
	now := i.o.Now()
	sum := sha256.Sum256([]byte(token))
	if v, ok := i.tokens.get(string(sum[:]), now); ok {
		return v.principal, v.granted, nil
	}
	k, err := i.loadKeys(ctx)
	if err != nil {
		return access.Principal{}, nil, fmt.Errorf("verify token: %w", err)
	}
	c, err := i.verify(k, token, now)
	if err != nil {
		return access.Principal{}, nil, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	v := verified{access.Principal{ID: c.Subject, Kind: c.Kind, Name: c.Name}, c.Access}
	i.tokens.put(string(sum[:]), v, now, c.Expiry.Time())
	return v.principal, v.granted, nil
}

func (i *Identity) verify(k *keys, token string, now time.Time) (claims, error) {
	t, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{algorithm}) // refuses "none" and all others
	if err != nil {
		return claims{}, err
	}
	if len(t.Headers) != 1 {
		return claims{}, fmt.Errorf("%d signatures", len(t.Headers))
	}
	key := k.public[t.Headers[0].KeyID]
	if key == nil {
		return claims{}, fmt.Errorf("key %.64q is not known", t.Headers[0].KeyID)
	}
	var c claims
	if err := t.Claims(key, &c); err != nil {
		return claims{}, err
	}
	if c.Expiry == nil || c.NotBefore == nil || c.Subject == "" {
		return claims{}, fmt.Errorf("exp, nbf or sub is missing") // go-jose lets that pass
	}
	if !now.Before(c.Expiry.Time()) {
		return claims{}, jwt.ErrExpired
	}
	expected := jwt.Expected{Issuer: i.o.Issuer, AnyAudience: jwt.Audience{i.o.Service}, Time: now}
	return c, c.ValidateWithLeeway(expected, clockSkew)
}

// loadKeys returns the signing keys, making them the first time that any process of
// this catalog needs them.
func (i *Identity) loadKeys(ctx context.Context) (*keys, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.keys != nil {
		return i.keys, nil
	}
	fresh, err := newKeySet()
	if err != nil {
		return nil, fmt.Errorf("signing keys: %w", err)
	}
	stored, err := i.cat.PutSettingOnce(ctx, signingKeys, fresh)
	if err != nil {
		return nil, fmt.Errorf("signing keys: %w", err)
	}
	if i.keys, err = readKeySet(stored); err != nil {
		return nil, fmt.Errorf("signing keys, as kept in the catalog: %w", err)
	}
	return i.keys, nil
}

func newKeySet() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: key, KeyID: newID(), Algorithm: string(algorithm), Use: "sig"}}})
}

func readKeySet(b []byte) (*keys, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, err
	}
	k := &keys{public: map[string]*ecdsa.PublicKey{}}
	for _, j := range set.Keys {
		private, ok := j.Key.(*ecdsa.PrivateKey)
		if !ok || private.Curve != elliptic.P256() || j.KeyID == "" {
			return nil, fmt.Errorf("key %q is no private key on P-256 with an id", j.KeyID)
		}
		k.public[j.KeyID] = &private.PublicKey
		if k.signer != nil {
			continue
		}
		options := (&jose.SignerOptions{}).WithType("JWT")
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: private, KeyID: j.KeyID}}, options)
		if err != nil {
			return nil, err
		}
		k.signer = signer
	}
	if k.signer == nil {
		return nil, fmt.Errorf("there is none")
	}
	return k, nil
}

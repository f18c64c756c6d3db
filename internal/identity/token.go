package identity

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"pratique.dev/pratique/internal/access"
)

// clockSkew is how far the clocks of replicas may be apart.
const clockSkew = 5 * time.Second

// maxClaims bounds what of an issuer's claims goes into our tokens, in bytes of JSON.
const maxClaims = 4 << 10

// Token is what a client shows instead of a secret.
type Token struct {
	Text    string
	Issued  time.Time
	Expires time.Time
	Granted []Access // of an access token
}

// claims are those of RFC 7519, the ones of Docker's tokens, and what the login was.
type claims struct {
	jwt.Claims
	Name       string         `json:"name"`
	Kind       access.Kind    `json:"kind"`
	Access     []Access       `json:"access"`
	Credential string         `json:"cred,omitempty"`
	Ends       int64          `json:"cred_exp,omitempty"` // seconds since 1970
	Groups     []string       `json:"groups,omitempty"`
	From       map[string]any `json:"from,omitempty"` // the issuer's claims
}

func (c claims) login() Login {
	l := Login{Principal: access.Principal{ID: c.Subject, Kind: c.Kind, Name: c.Name}, Credential: c.Credential, Groups: c.Groups, Claims: c.From}
	if c.Ends != 0 {
		l.Ends = time.Unix(c.Ends, 0).UTC()
	}
	return l
}

// verified is what is remembered of a token that was verified.
type verified struct {
	Login
	granted Granted
}

// Issue makes an access token that holds what was asked and is granted to the login for such
// a request, nothing else. A token without any access still proves who its bearer is.
// Conditions that ask for a tag are left to the request that it is used in.
func (i *Identity) Issue(ctx context.Context, l Login, r access.Request, asked []Access) (Token, error) {
	if l.IsZero() {
		return Token{}, ErrUnauthenticated
	}
	s, err := i.standing(ctx, l)
	if err != nil {
		return Token{}, fmt.Errorf("issue token to %q: %w", l.Name, err)
	}
	r.Principal, r.Claims, r.Later = l.Principal, l.Claims, true
	granted := grant(asked, s.Grants.For(r))
	t, err := i.sign(ctx, l, i.o.Service, i.o.Lifetime, granted)
	t.Granted = granted
	return t, err
}

// IssueRefresh makes a refresh token, which gives access tokens for as long as it holds and
// what it was got with does.
func (i *Identity) IssueRefresh(ctx context.Context, l Login) (Token, error) {
	if l.IsZero() || l.Kind == access.KindAnonymous {
		return Token{}, ErrUnauthenticated
	}
	return i.sign(ctx, l, i.refreshService(), i.o.RefreshLifetime, nil)
}

// refreshService is the audience of refresh tokens, so that none is taken for an access token.
func (i *Identity) refreshService() string { return i.o.Service + "#refresh" }

func (i *Identity) sign(ctx context.Context, l Login, audience string, lifetime time.Duration, granted []Access) (Token, error) {
	now := i.o.Now().Truncate(time.Second)
	t := Token{Issued: now, Expires: now.Add(lifetime)}
	c := claims{Name: l.Name, Kind: l.Kind, Access: granted, Credential: l.Credential, Groups: l.Groups, From: bounded(l.Claims), Claims: jwt.Claims{
		Issuer: i.o.Issuer, Subject: l.ID, Audience: jwt.Audience{audience}, ID: newID(),
		Expiry: jwt.NewNumericDate(t.Expires), NotBefore: jwt.NewNumericDate(now), IssuedAt: jwt.NewNumericDate(now)}}
	if !l.Ends.IsZero() {
		c.Ends = l.Ends.Unix()
	}
	k, err := i.signingKey(ctx)
	if err != nil {
		return Token{}, fmt.Errorf("sign token of %q: %w", l.Name, err)
	}
	if t.Text, err = serialize(k, c); err != nil {
		return Token{}, fmt.Errorf("sign token of %q: %w", l.Name, err)
	}
	return t, nil
}

// serialize signs claims. Their JSON is in ASCII, and without what would give "-" or "_" in
// base64url: Azure's SDK for Go reads the end of a refresh token with the other alphabet
// (azcontainerregistry, getJWTExpireTime).
func serialize(k jose.Signer, c claims) (string, error) {
	raw, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, r := range string(raw) {
		if r > 0xffff {
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		} else if r >= 0x7e || r == '?' || r == '>' {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	signed, err := k.Sign([]byte(b.String()))
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// bounded leaves out claims that are too large to be carried; conditions that ask for them
// do not hold then.
func bounded(claims map[string]any) map[string]any {
	if raw, err := json.Marshal(claims); err != nil || len(raw) > maxClaims {
		return nil
	}
	return claims
}

// Verify returns whose access token it is and what it holds. ErrUnauthenticated if it is
// not one of ours, or not valid now. What of it still stands is standing's to say.
func (i *Identity) Verify(ctx context.Context, token string) (Login, Granted, error) {
	if len(token) > maxToken {
		return Login{}, nil, ErrUnauthenticated
	}
	now := i.o.Now()
	sum := sha256.Sum256([]byte(token))
	if v, ok := i.tokens.get(string(sum[:]), now); ok {
		return v.Login, v.granted, nil
	}
	c, err := i.verify(ctx, token, i.o.Service, now)
	if err != nil {
		return Login{}, nil, err
	}
	v := verified{c.login(), c.Access}
	i.tokens.put(string(sum[:]), v, now, c.Expiry.Time())
	return v.Login, v.granted, nil
}

// Refreshed returns whose refresh token it is. ErrUnauthenticated if it is not one of ours, not
// valid now, or if its owner or what it was got with is gone.
func (i *Identity) Refreshed(ctx context.Context, token string) (Login, error) {
	if len(token) > maxToken {
		return Login{}, ErrUnauthenticated
	}
	c, err := i.verify(ctx, token, i.refreshService(), i.o.Now())
	if err != nil {
		return Login{}, err
	}
	l := c.login()
	s, err := i.standing(ctx, l)
	l.Principal, l.Again = s.Principal, true
	return l, err
}

func (i *Identity) verify(ctx context.Context, token, audience string, now time.Time) (claims, error) {
	t, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{algorithm}) // refuses "none" and all others
	if err != nil {
		return claims{}, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	if len(t.Headers) != 1 {
		return claims{}, fmt.Errorf("%w: %d signatures", ErrUnauthenticated, len(t.Headers))
	}
	key, err := i.verifyingKey(ctx, t.Headers[0].KeyID)
	if err != nil {
		return claims{}, err
	}
	var c claims
	if err := t.Claims(key, &c); err != nil {
		return claims{}, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	if err := c.valid(i.o.Issuer, audience, now); err != nil {
		return claims{}, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	return c, nil
}

func (c claims) valid(issuer, audience string, now time.Time) error {
	if c.Expiry == nil || c.NotBefore == nil || c.Subject == "" {
		return errors.New("exp, nbf or sub is missing") // go-jose lets that pass
	}
	if !now.Before(c.Expiry.Time()) {
		return jwt.ErrExpired
	}
	return c.ValidateWithLeeway(jwt.Expected{Issuer: issuer, AnyAudience: jwt.Audience{audience}, Time: now}, clockSkew)
}

// isJWT says whether a secret looks like a token in the compact form of RFC 7515.
func isJWT(s string) bool { return strings.HasPrefix(s, "eyJ") && strings.Count(s, ".") == 2 }

// isOurs says whether a token says that it is one of this registry's, which proves nothing yet.
func (i *Identity) isOurs(token string) bool {
	t, err := jwt.ParseSigned(token, assertionAlgorithms)
	if err != nil {
		return false
	}
	var c jwt.Claims
	return t.UnsafeClaimsWithoutVerification(&c) == nil && c.Issuer == i.o.Issuer
}

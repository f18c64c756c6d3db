package identity

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
)

// Lifetimes of what browsers carry.
const (
	SessionLifetime = 8 * time.Hour
	codeLifetime    = time.Minute
)

// OwnSecrets are how many days a secret may hold that a user makes for itself, the usual first.
var OwnSecrets = []int{30, 7, 1, 90}

// ownSecret is the name of such a secret; a new one takes the place of the one before.
const ownSecret = "made by the user"

// seal signs a ticket for a purpose. No token for one purpose is taken for another.
func (i *Identity) seal(ctx context.Context, purpose string, lifetime time.Duration, t ticket) (string, error) {
	now := i.o.Now().Truncate(time.Second)
	if t.Subject == "" {
		t.Subject = purpose
	}
	t.Issuer, t.Audience, t.ID = i.o.Issuer, jwt.Audience{i.o.Service + "#" + purpose}, newID()
	t.Expiry, t.NotBefore, t.IssuedAt = jwt.NewNumericDate(now.Add(lifetime)), jwt.NewNumericDate(now), jwt.NewNumericDate(now)
	k, err := i.signingKey(ctx)
	if err != nil {
		return "", fmt.Errorf("%s: %w", purpose, err)
	}
	return jwt.Signed(k).Claims(t).Serialize()
}

// unseal reads a ticket for a purpose. ErrUnauthenticated if it is none, or not valid now.
func (i *Identity) unseal(ctx context.Context, token, purpose string, t *ticket) error {
	if len(token) > maxToken {
		return ErrUnauthenticated
	}
	if _, err := i.verify(ctx, token, i.o.Service+"#"+purpose, i.o.Now()); err != nil {
		return err
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil || json.Unmarshal(raw, t) != nil {
		return ErrUnauthenticated
	}
	return nil
}

// once refuses a ticket that was used before.
func (i *Identity) once(ctx context.Context, t ticket) error {
	err := i.cat.UseToken(ctx, "ticket "+t.ID, t.Expiry.Time().Add(clockSkew), i.o.Now())
	if errors.Is(err, catalog.ErrConflict) {
		return unproven("it was used before")
	}
	return err
}

// IssueSession makes the token that a browser keeps. Who uses it stands as the catalog says each
// time.
func (i *Identity) IssueSession(ctx context.Context, l Login) (Token, error) {
	if l.IsZero() || l.Kind == access.KindAnonymous {
		return Token{}, ErrUnauthenticated
	}
	return i.sign(ctx, Login{Principal: l.Principal, Credential: l.Credential, Ends: l.Ends}, i.o.Service+"#session", SessionLifetime, nil)
}

// Session returns whose session a token is. ErrUnauthenticated if it is none, has ended, or its
// owner or what it was got with is gone.
func (i *Identity) Session(ctx context.Context, token string) (Login, error) {
	var t ticket
	if err := i.unseal(ctx, token, "session", &t); err != nil {
		return Login{}, err
	}
	ended, err := i.cat.TokenUsed(ctx, "ticket "+t.ID)
	if err != nil {
		return Login{}, fmt.Errorf("session: %w", err)
	}
	if ended {
		return Login{}, unproven("the session was ended")
	}
	l := t.login()
	s, err := i.standing(ctx, l)
	l.Principal = s.Principal
	return l, err
}

// EndSession ends a session, on all replicas. One that is none is ended already.
func (i *Identity) EndSession(ctx context.Context, token string) error {
	var t ticket
	err := i.unseal(ctx, token, "session", &t)
	if err == nil {
		err = i.once(ctx, t)
	}
	if errors.Is(err, ErrUnauthenticated) {
		return nil
	}
	return err
}

// FormToken is what forms carry that a session was shown, so that no other site can send them.
func FormToken(session string) string {
	sum := sha256.Sum256([]byte("form " + session))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// IsFormToken says whether token is FormToken(session), in constant time.
func IsFormToken(token, session string) bool {
	return session != "" && subtle.ConstantTimeCompare([]byte(token), []byte(FormToken(session))) == 1
}

// CheckLoopback refuses an address that a code may not be sent to: a program on the user's own machine
// alone may have one (RFC 8252, section 7.3).
func CheckLoopback(redirect string) error {
	u, err := url.Parse(redirect)
	if err == nil && len(redirect) <= maxName && u.Scheme == "http" && u.User == nil && u.Fragment == "" && u.Port() != "" {
		if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.IsLoopback() {
			return nil
		}
	}
	return fmt.Errorf("redirect_uri %.100q: expected http://127.0.0.1:PORT/PATH", redirect)
}

// IssueCode makes the code by which a program on the machine of whoever is signed in gets a token, once
// and within a minute (RFC 6749, section 4.1, with PKCE, RFC 7636). challenge is that of S256.
func (i *Identity) IssueCode(ctx context.Context, l Login, challenge, redirect string) (string, error) {
	if l.IsZero() {
		return "", ErrUnauthenticated
	}
	if err := CheckLoopback(redirect); err != nil {
		return "", err
	}
	if raw, err := base64.RawURLEncoding.DecodeString(challenge); err != nil || len(raw) != sha256.Size {
		return "", errors.New("code_challenge: expected the SHA-256 of the verifier (RFC 7636, section 4.2)")
	}
	t := ticket{claims: claims{Claims: jwt.Claims{Subject: l.ID}, Name: l.Name, Kind: l.Kind, Credential: l.Credential}, Challenge: challenge, Redirect: redirect}
	if !l.Ends.IsZero() {
		t.Ends = l.Ends.Unix()
	}
	return i.seal(ctx, "code", codeLifetime, t)
}

// RedeemCode returns whom a code of IssueCode was made for. ErrUnauthenticated if it is none, was used
// before, or the verifier or the address is another's.
func (i *Identity) RedeemCode(ctx context.Context, code, verifier, redirect string, from netip.Addr) (Login, error) {
	return i.try("code", from, func() (Login, error) {
		var t ticket
		if err := i.unseal(ctx, code, "code", &t); err != nil {
			return Login{}, err
		}
		sum := sha256.Sum256([]byte(verifier))
		if subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(t.Challenge)) != 1 || redirect != t.Redirect {
			return Login{}, unproven("the verifier or the address is another's")
		}
		if err := i.once(ctx, t); err != nil {
			return Login{}, err
		}
		l := t.login()
		s, err := i.standing(ctx, l)
		l.Principal = s.Principal
		return l, err
	})
}

// MakeOwnSecret makes a secret for whoever is signed in, in place of the one they made before, and
// returns it to be shown once. days is one of OwnSecrets. catalog.ErrTooMany if they have as many by others
// as they may.
func (i *Identity) MakeOwnSecret(ctx context.Context, l Login, days int, t catalog.Trace) (shown string, ends time.Time, err error) {
	if !l.Kind.HasSecrets() || days < 1 || days > 90 {
		return "", time.Time{}, ErrUnauthenticated
	}
	act := catalog.Act{By: l.Name, Now: i.o.Now(), Trace: t}
	kept, err := i.cat.Secrets(ctx, l.ID)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("own secret: %w", err)
	}
	for _, s := range kept {
		if s.Name == ownSecret {
			if err := i.cat.DeleteSecret(ctx, l.ID, s.ID, act); err != nil && !errors.Is(err, catalog.ErrNotFound) {
				return "", time.Time{}, fmt.Errorf("own secret: %w", err)
			}
		}
	}
	shown, ends = NewSecret(), act.Now.AddDate(0, 0, days)
	err = i.cat.AddSecret(ctx, catalog.Secret{ID: newID(), Principal: l.ID, Name: ownSecret, Hash: hashGenerated(shown), Expires: ends}, act)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("own secret: %w", err)
	}
	return shown, ends, nil
}

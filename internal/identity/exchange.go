package identity

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/condition"
)

// FederatedUser is the user name that goes with an issuer's token in the place of a password,
// where no principal's name is given.
const FederatedUser = "federated"

// Exchange returns the principal that an issuer's token proves: of the federations with its issuer,
// the first by name for whose audience it is and whose rule holds of its claims. Only issuers
// of federations are asked for keys. ErrUnauthenticated if it proves nobody, with the reason; an *oci.Error
// if the issuer cannot be asked; an *edge.Limited as Authenticate.
func (i *Identity) Exchange(ctx context.Context, token string, from netip.Addr) (Login, error) {
	return i.try(countedAs(FederatedUser, token), from, func() (Login, error) { return i.exchange(ctx, "", token) })
}

// countedAs is the name that wrong logins are counted by. The user names that go with tokens are
// everybody's, so that there it is the issuer and subject that the token says it is of: one broken
// pipeline does not hold up the others behind its address.
func countedAs(name, secret string) string {
	if !isJWT(secret) || len(secret) > maxToken {
		return name
	}
	var c jwt.Claims
	t, err := jwt.ParseSigned(secret, assertionAlgorithms)
	if err != nil || t.UnsafeClaimsWithoutVerification(&c) != nil {
		return name
	}
	sum := sha256.Sum256([]byte(c.Issuer + " " + c.Subject))
	return name + " " + base64.RawStdEncoding.EncodeToString(sum[:])
}

// Examination is what there is to say of an issuer's token.
type Examination struct {
	Issuer, Subject string
	Audience        []string
	Expires         time.Time
	Claims          map[string]any
	Federations     []Fit // those of its issuer, by name
	Chosen          int   // which of them it proves the principal of; -1: none
}

// Fit says how a federation and a token go together.
type Fit struct {
	catalog.Federation
	Owner catalog.Account // the principal
	Err   error           // why the token proves nothing; nil if it does
}

// Examine says which federation an issuer's token would be taken by, or why by none. It uses
// nothing up. Errors are those of Exchange.
func (i *Identity) Examine(ctx context.Context, token string) (Examination, error) {
	return i.examine(ctx, "", token)
}

// examine is Examine for those federations alone whose principal has a name, if that is given.
func (i *Identity) examine(ctx context.Context, name, token string) (Examination, error) {
	x := Examination{Chosen: -1}
	if len(token) > maxToken {
		return x, unproven("it has %d bytes, at most %d are read", len(token), maxToken)
	}
	parsed, err := jwt.ParseSigned(token, assertionAlgorithms)
	if err != nil {
		return x, unproven("it is no token signed by a public-key algorithm: %v", err)
	}
	var says jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&says); err != nil {
		return x, unproven("its claims cannot be read: %v", err)
	}
	if says.Issuer == "" {
		return x, unproven("it names no issuer")
	}
	trusted, err := i.cat.FederationsBy(ctx, says.Issuer)
	if err != nil {
		return x, fmt.Errorf("exchange: %w", err)
	}
	if len(trusted) == 0 {
		return x, unproven("no federation trusts its issuer %.200q", says.Issuer)
	}
	t, claims, err := i.issuers.verified(ctx, says.Issuer, token)
	if err != nil {
		return x, err
	}
	x.Issuer, x.Subject, x.Audience, x.Expires, x.Claims = t.Issuer, t.Subject, t.Audience, t.Expiry, claims
	for _, f := range trusted {
		fit := Fit{Federation: f}
		fit.Owner, fit.Err = i.fits(ctx, f, name, x)
		if fit.Err != nil && !errors.Is(fit.Err, ErrUnauthenticated) {
			return x, fmt.Errorf("exchange: %w", fit.Err)
		}
		if x.Federations = append(x.Federations, fit); fit.Err == nil && x.Chosen < 0 {
			x.Chosen = len(x.Federations) - 1
		}
	}
	return x, nil
}

// fits returns the principal of a federation that a verified token fits. ErrUnauthenticated with
// the reason if it does not.
func (i *Identity) fits(ctx context.Context, f catalog.Federation, name string, x Examination) (catalog.Account, error) {
	p, err := i.cat.Principal(ctx, f.Principal)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return p, unproven("its principal is gone")
	case err != nil:
		return p, err
	case name != "" && p.Name != name:
		return p, unproven("its principal is %s, not %.200q", p.Name, name)
	case f.Audience == "" || !slices.Contains(x.Audience, f.Audience):
		return p, unproven("the token is for %.200q, not for %q", x.Audience, f.Audience)
	case !p.Disabled.IsZero():
		return p, unproven("its principal %s is disabled", p.Name)
	}
	rule, err := condition.ParseRule(f.Rule)
	if err != nil {
		return p, unproven("its rule cannot be read: %v", err)
	}
	switch holds, err := rule.Holds(x.Claims); {
	case err != nil:
		return p, unproven("its rule cannot be told: %v", err)
	case !holds:
		return p, unproven("its rule does not hold: %s", f.Rule)
	}
	return p, nil
}

// exchange is Exchange; name, if given, is that of the principal.
func (i *Identity) exchange(ctx context.Context, name, token string) (Login, error) {
	x, err := i.examine(ctx, name, token)
	if err != nil {
		return Login{}, err
	}
	if x.Chosen < 0 {
		return Login{}, unproven("no federation takes it: %s", x.reasons())
	}
	claims, err := carried(x.Claims)
	if err != nil {
		return Login{}, err
	}
	f := x.Federations[x.Chosen]
	if f.Once {
		if err := i.useOnce(ctx, x, token); err != nil {
			return Login{}, err
		}
	}
	return Login{Principal: f.Owner.Principal, Credential: "federation " + f.Name, Claims: claims}, nil
}

// reasons says why no federation takes a token.
func (x Examination) reasons() string {
	var out []string
	for _, f := range x.Federations {
		out = append(out, f.Name+": "+strings.TrimPrefix(f.Err.Error(), ErrUnauthenticated.Error()+": "))
	}
	return fmt.Sprintf("%.1000s", strings.Join(out, "; "))
}

// useOnce refuses a token that was used before: by its jti, or where it has none by what is signed of
// it, for a signature can often be written in several ways.
func (i *Identity) useOnce(ctx context.Context, x Examination, token string) error {
	id, _ := x.Claims["jti"].(string)
	if id == "" {
		id = token[:strings.LastIndexByte(token, '.')]
	}
	sum := sha256.Sum256([]byte(x.Issuer + " " + id))
	err := i.cat.UseToken(ctx, "federation "+base64.RawStdEncoding.EncodeToString(sum[:]), x.Expires.Add(issuerSkew), i.o.Now())
	if errors.Is(err, catalog.ErrConflict) {
		return unproven("it was used before")
	}
	return err
}

// carried is what of an issuer's claims goes into our tokens, where conditions ask for them. Lists of
// groups are left out where they are too long. What is too large all the same is refused: a
// condition that asks whether a claim is missing would hold without it.
func carried(claims map[string]any) (map[string]any, error) {
	out := map[string]any{}
	for k, v := range claims {
		out[k] = v
	}
	for _, long := range []string{"", "groups", "wids"} {
		delete(out, long)
		raw, err := json.Marshal(out)
		if err != nil {
			return nil, unproven("its claims cannot be carried: %v", err)
		}
		if len(raw) <= maxClaims {
			return out, nil
		}
	}
	return nil, unproven("its claims have more than %d bytes", maxClaims)
}

package identity

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/condition"
	"pratique.dev/pratique/internal/oci"
)

// SignIn says at which issuer people sign in with a browser (OpenID Connect Core 1.0, section 3.1).
type SignIn struct {
	Issuer       string // "": people cannot sign in with a browser
	ClientID     string
	ClientSecret string   // "" for a public client
	Scopes       []string // default openid, profile and email
	NameClaim    string   // what a user is called by at first; default preferred_username
	GroupsClaim  string   // default groups
	Allow        string   // rule over the claims that must hold; "": all that the issuer signs in may
}

// signInAge is how long somebody may take to sign in, and maxIssuerGroups how many groups they may be in.
const (
	signInAge       = 15 * time.Minute
	maxIssuerGroups = 200
)

// ErrNoSignIn says that people cannot sign in with a browser here; it is an *oci.Error.
var ErrNoSignIn error = oci.Errorf(oci.CodeUnsupported, "signing in with a browser is not set up here; give 'pratique serve' --oidc-issuer and --oidc-client-id")

// ErrNotAllowed says that somebody has signed in at the issuer, and may not here; it is an *oci.Error.
var ErrNotAllowed error = oci.Errorf(oci.CodeDenied, "you have signed in, but may not use this registry; its administrator can let you")

// Check refuses what nobody could sign in by.
func (s SignIn) Check() error {
	if s.Issuer == "" {
		return nil
	}
	if err := CheckIssuer(s.Issuer); err != nil {
		return err
	}
	if s.ClientID == "" {
		return errors.New("a client ID is needed, by which the issuer knows this registry")
	}
	if s.Allow != "" {
		if _, err := condition.ParseRule(s.Allow); err != nil {
			return err
		}
	}
	return nil
}

// ticket is a token of ours that carries what we tell ourselves across a browser.
type ticket struct {
	claims
	State     string `json:"state,omitempty"`
	Nonce     string `json:"nonce,omitempty"`
	Verifier  string `json:"verifier,omitempty"`
	Next      string `json:"next,omitempty"`
	Challenge string `json:"challenge,omitempty"`
	Redirect  string `json:"redirect,omitempty"`
}

func (i *Identity) oauth(ctx context.Context, redirect string) (context.Context, *oauth2.Config, error) {
	s := i.o.SignIn
	if s.Issuer == "" {
		return ctx, nil, ErrNoSignIn
	}
	p, err := i.issuers.provider(ctx, s.Issuer)
	if err != nil {
		return ctx, nil, err
	}
	ends := p.Endpoint()
	if err := errors.Join(besideIssuer(s.Issuer, ends.AuthURL), besideIssuer(s.Issuer, ends.TokenURL)); err != nil {
		return ctx, nil, fmt.Errorf("sign in: what %s says of itself: %w", s.Issuer, err)
	}
	scopes := s.Scopes
	if len(scopes) == 0 {
		scopes = []string{"profile", "email"}
	}
	if !slices.Contains(scopes, oidc.ScopeOpenID) {
		scopes = append([]string{oidc.ScopeOpenID}, scopes...)
	}
	return oidc.ClientContext(ctx, i.issuers.client), &oauth2.Config{ClientID: s.ClientID, ClientSecret: s.ClientSecret, Endpoint: ends, RedirectURL: redirect, Scopes: scopes}, nil
}

// BeginSignIn returns the address to send a browser to, and what it has to keep until it comes back
// to redirect. next is where it wants to go then.
func (i *Identity) BeginSignIn(ctx context.Context, redirect, next string) (address, kept string, err error) {
	_, o, err := i.oauth(ctx, redirect)
	if err != nil {
		return "", "", err
	}
	t := ticket{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Next: next, Redirect: redirect}
	if kept, err = i.seal(ctx, "signin", signInAge, t); err != nil {
		return "", "", err
	}
	return o.AuthCodeURL(t.State, oidc.Nonce(t.Nonce), oauth2.S256ChallengeOption(t.Verifier)), kept, nil
}

// SignedIn is who has signed in with a browser.
type SignedIn struct {
	Login
	Next    string // where they wanted to go
	Warning string // for them to read; "" for none
}

// EndSignIn returns who has signed in: a user that is made at the first time, with nothing granted but to
// its groups. kept is what BeginSignIn gave; it counts once. ErrUnauthenticated if the answer
// of the issuer proves nobody, ErrNotAllowed if they may not, another *oci.Error if the issuer cannot be asked.
func (i *Identity) EndSignIn(ctx context.Context, kept, state, code string) (SignedIn, error) {
	var t ticket
	if err := i.unseal(ctx, kept, "signin", &t); err != nil {
		return SignedIn{}, err
	}
	if code == "" || t.State == "" || subtle.ConstantTimeCompare([]byte(state), []byte(t.State)) != 1 {
		return SignedIn{}, unproven("the state is not the one that the sign-in began with")
	}
	if err := i.once(ctx, t); err != nil {
		return SignedIn{}, err
	}
	ctx, o, err := i.oauth(ctx, t.Redirect)
	if err != nil {
		return SignedIn{}, err
	}
	answer, err := o.Exchange(ctx, code, oauth2.VerifierOption(t.Verifier))
	var refused *oauth2.RetrieveError
	switch {
	case errors.As(err, &refused) && refused.ErrorCode == "invalid_grant":
		return SignedIn{}, unproven("the issuer does not take the code: %.200s", refused.ErrorDescription)
	case err != nil:
		i.o.Log.WarnContext(ctx, "an issuer of identities does not answer as it should", "issuer", i.o.SignIn.Issuer, "err", fmt.Sprintf("%.500s", err))
		return SignedIn{}, oci.Errorf(oci.CodeUnavailable, "the issuer %s does not say who has signed in; try again, and the server's log has more", i.o.SignIn.Issuer)
	}
	id, _ := answer.Extra("id_token").(string)
	claims, err := i.idToken(ctx, id, t.Nonce)
	if err != nil {
		return SignedIn{}, err
	}
	l, warning, err := i.signedIn(ctx, claims)
	return SignedIn{l, t.Next, warning}, err
}

// idToken returns the claims of an ID token (OpenID Connect Core 1.0, section 3.1.3.7).
func (i *Identity) idToken(ctx context.Context, token, nonce string) (map[string]any, error) {
	if token == "" || len(token) > issuerDocument {
		return nil, unproven("the issuer gave no ID token; is the scope openid granted?")
	}
	t, claims, err := i.issuers.verified(ctx, i.o.SignIn.Issuer, token)
	if err != nil {
		return nil, err
	}
	azp, named := claims["azp"].(string)
	switch {
	case !slices.Contains(t.Audience, i.o.SignIn.ClientID), named && azp != i.o.SignIn.ClientID, !named && len(t.Audience) > 1:
		return nil, unproven("the ID token is for %.200q", t.Audience)
	case subtle.ConstantTimeCompare([]byte(t.Nonce), []byte(nonce)) != 1:
		return nil, unproven("the ID token's nonce is not the one that the sign-in began with")
	case t.Subject == "" || len(t.Subject) > maxName:
		return nil, unproven("the ID token's sub is missing or longer than %d bytes", maxName)
	}
	return claims, nil
}

// signedIn returns the user of an ID token's claims, and has it in the groups that they name.
func (i *Identity) signedIn(ctx context.Context, claims map[string]any) (Login, string, error) {
	s := i.o.SignIn
	if s.Allow != "" {
		rule, err := condition.ParseRule(s.Allow)
		if err != nil {
			return Login{}, "", err
		}
		if holds, err := rule.Holds(claims); err != nil || !holds {
			i.o.Log.InfoContext(ctx, "sign-in refused by --oidc-allow", "sub", claims["sub"], "err", err)
			return Login{}, "", ErrNotAllowed
		}
	}
	external := s.Issuer + " " + claims["sub"].(string)
	p, err := i.cat.PrincipalByExternal(ctx, external)
	if errors.Is(err, catalog.ErrNotFound) {
		p, err = i.newUser(ctx, external, claims)
	}
	if err != nil {
		return Login{}, "", fmt.Errorf("sign in: %w", err)
	}
	if p.Kind != access.KindUser || !p.Disabled.IsZero() {
		return Login{}, "", ErrNotAllowed
	}
	groups, warning := groupsOf(claims, cmp.Or(s.GroupsClaim, "groups"))
	if warning != "" {
		i.o.Log.WarnContext(ctx, "groups of a user not told", "user", p.Name, "why", warning)
	}
	if err := i.cat.SetGroups(ctx, p.ID, s.Issuer, groups, i.itself()); err != nil {
		return Login{}, "", fmt.Errorf("sign in: %w", err)
	}
	return Login{Principal: p.Principal, Credential: "oidc"}, warning, nil
}

// newUser makes the user of whoever signs in for the first time. A name that somebody has already gets
// an end of its own: nobody becomes another by what the issuer lets them call themselves.
func (i *Identity) newUser(ctx context.Context, external string, claims map[string]any) (catalog.Account, error) {
	name := ""
	for _, claim := range []string{cmp.Or(i.o.SignIn.NameClaim, "preferred_username"), "email"} {
		if text, ok := claims[claim].(string); ok && name == "" {
			name = asName(text)
		}
	}
	sum := sha256.Sum256([]byte(external))
	unique := cmp.Or(name, "user") + "-" + hex.EncodeToString(sum[:6])
	if name == "" || name == FederatedUser || isGUID(name) {
		name = unique // FederatedUser and applications' IDs are names of others
	}
	for _, name := range []string{name, unique} {
		p := catalog.Account{Principal: access.Principal{ID: newID(), Kind: access.KindUser, Name: name}, External: external, Description: "signed in at " + i.o.SignIn.Issuer}
		err := i.cat.CreatePrincipal(ctx, p, i.itself())
		if err == nil {
			i.o.Log.InfoContext(ctx, "user made at its first sign-in", "user", name, "issuer", i.o.SignIn.Issuer)
			return p, nil
		}
		if !errors.Is(err, catalog.ErrConflict) {
			return p, err
		}
		if p, err = i.cat.PrincipalByExternal(ctx, external); !errors.Is(err, catalog.ErrNotFound) {
			return p, err // made by another request meanwhile
		}
	}
	return catalog.Account{}, fmt.Errorf("user %q: %w", unique, catalog.ErrConflict)
}

// asName leaves of text what a name may have (access.CheckName), with room for an end.
func asName(text string) string {
	out := strings.Map(func(r rune) rune {
		if access.CheckName("a"+string(r)) == nil {
			return r
		}
		return '-'
	}, text[:min(len(text), 200)])
	return strings.TrimLeft(out, "._-@+/")
}

// groupsOf reads the groups that claims name. Where the issuer leaves them out because they are too
// many (Entra ID, "groups overage claim"), nobody knows them: then there are none.
func groupsOf(claims map[string]any, claim string) (groups []string, warning string) {
	if left, ok := claims["_claim_names"].(map[string]any); ok && left[claim] != nil || claims["hasgroups"] != nil {
		return nil, "you are in more groups than the issuer names, so that you are taken to be in none; have the issuer name only groups that are assigned to this application"
	}
	switch list := claims[claim].(type) {
	case string:
		return []string{list}, ""
	case []any:
		for _, g := range list {
			if name, ok := g.(string); ok && name != "" && len(name) <= maxName {
				groups = append(groups, name)
			}
		}
	}
	if len(groups) > maxIssuerGroups {
		return nil, fmt.Sprintf("you are in %d groups, and at most %d are read, so that you are taken to be in none", len(groups), maxIssuerGroups)
	}
	return groups, ""
}

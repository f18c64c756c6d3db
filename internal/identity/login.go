package identity

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
)

// RefreshUser is the user name that goes with a refresh token in the place of a password, as in
// Azure Container Registry.
const RefreshUser = "00000000-0000-0000-0000-000000000000"

// Login is who has proved who they are, and by what. The zero Login is nobody.
type Login struct {
	access.Principal
	// Credential names what it was proved by: "secret ID", "key ID" or "federation NAME". Once that
	// is gone, so is what was got with it.
	Credential string
	Ends       time.Time      // of the credential; zero: it does not end
	Groups     []string       // IDs of groups, as an issuer's token says
	Claims     map[string]any // of the issuer's token
	Again      bool           // it was proved by a refresh token that was got with the credential
}

// Warning is a hint for people whose credential ends soon; "" for all others.
func (l Login) Warning(now time.Time) string {
	last := catalog.WarnDays[len(catalog.WarnDays)-1]
	if l.Ends.IsZero() || l.Ends.After(now.AddDate(0, 0, last)) {
		return ""
	}
	return fmt.Sprintf("the %s of %s ends on %s; add another before: pratique secret add %s", strings.ReplaceAll(l.Credential, " ", " with id "), l.Name,
		l.Ends.UTC().Format(time.DateTime+" MST"), l.Name)
}

// Authenticate returns who a name and secret prove, from an address. ErrUnauthenticated
// if they prove nobody, an *edge.Limited if too many from there were wrong; any other
// error, ErrBusy among them, means that it could not be told. A secret may be a refresh
// token too, with RefreshUser or its owner as the name, or a token of a federation's issuer, with
// FederatedUser, RefreshUser or the principal as the name.
//
// Which work is done depends on what was presented and not on what is kept, so that
// the time of a refusal does not tell whether the name exists.
func (i *Identity) Authenticate(ctx context.Context, name, secret string, from netip.Addr) (Login, error) {
	if name == "" || len(name) > maxName || secret == "" || len(secret) > maxToken {
		return Login{}, ErrUnauthenticated
	}
	if l, ok, err := i.recall(ctx, name, secret); ok || err != nil {
		return l, err
	}
	return i.try(countedAs(name, secret), from, func() (Login, error) { return i.authenticate(ctx, name, secret) })
}

// try proves a name from an address, unless too much from there was wrong, and counts what came of it.
func (i *Identity) try(name string, from netip.Addr, prove func() (Login, error)) (Login, error) {
	if err := i.o.Rates.MayTry(from, name); err != nil {
		return Login{}, err
	}
	l, err := prove()
	switch {
	case err == nil:
		i.o.Rates.Succeeded(from, name)
	case errors.Is(err, ErrUnauthenticated):
		i.o.Rates.Failed(from, name)
	}
	return l, err
}

func (i *Identity) authenticate(ctx context.Context, name, secret string) (Login, error) {
	if isJWT(secret) {
		return i.byToken(ctx, name, secret)
	}
	if len(secret) > maxSecret {
		return Login{}, ErrUnauthenticated
	}
	version, err := i.cat.AccessVersion(ctx)
	if err != nil {
		return Login{}, fmt.Errorf("authenticate: %w", err)
	}
	elsewhere, err := i.isEntras(ctx, name)
	if err != nil {
		return Login{}, fmt.Errorf("authenticate: %w", err)
	}
	key := i.rememberedAs(name, secret)
	prove := func() (any, error) { return i.prove(context.WithoutCancel(ctx), key, name, secret, version) }
	if elsewhere {
		prove = func() (any, error) { return i.proveByEntra(context.WithoutCancel(ctx), key, name, secret, version) }
	} else if isGenerated(secret) {
		v, err := prove()
		l, _ := v.(Login)
		return l, err
	}
	// Clients send the same credentials in many requests at once; one check is enough.
	select {
	case <-ctx.Done():
		return Login{}, ctx.Err()
	case r := <-i.checks.DoChan(key, prove):
		l, _ := r.Val.(Login)
		return l, r.Err
	}
}

// byToken returns who a token proves that came as a secret: one of ours to refresh, or an issuer's.
func (i *Identity) byToken(ctx context.Context, name, token string) (Login, error) {
	if !i.isOurs(token) {
		if name == FederatedUser || name == RefreshUser {
			name = ""
		}
		return i.exchange(ctx, name, token)
	}
	l, err := i.Refreshed(ctx, token)
	if err == nil && name != RefreshUser && name != l.Name {
		return Login{}, ErrUnauthenticated
	}
	return l, err
}

// recall returns what is remembered of a name and secret, false if nothing is. What was
// remembered for long is checked again, beside the request that it came with.
func (i *Identity) recall(ctx context.Context, name, secret string) (Login, bool, error) {
	if len(secret) > maxSecret {
		return Login{}, false, nil
	}
	version, err := i.cat.AccessVersion(ctx)
	if err != nil {
		return Login{}, false, fmt.Errorf("authenticate: %w", err)
	}
	key := i.rememberedAs(name, secret)
	p, ok := i.secrets.get(key, i.o.Now())
	if !ok || p.version != version {
		return Login{}, false, nil
	}
	if i.o.Now().Before(p.renew) {
		return p.Login, true, nil
	}
	if isGenerated(secret) {
		return Login{}, false, nil // to check it costs nothing
	}
	i.checks.DoChan(key, func() (any, error) { return i.prove(context.WithoutCancel(ctx), key, name, secret, version) })
	return p.Login, true, nil
}

// proven is what is remembered of a checked secret.
type proven struct {
	Login
	version int64
	renew   time.Time
}

// prove checks a secret and remembers, or forgets, what came of it. version is what access
// stood at before.
func (i *Identity) prove(ctx context.Context, key, name, secret string, version int64) (Login, error) {
	begun := i.o.Now()
	l, err := i.check(ctx, name, secret)
	switch {
	case err == nil:
		until := begun.Add(rememberSecret)
		if !l.Ends.IsZero() && l.Ends.Before(until) {
			until = l.Ends
		}
		i.secrets.put(key, proven{l, version, begun.Add(renewSecret)}, begun, until)
	case errors.Is(err, ErrUnauthenticated):
		i.secrets.forget(key)
	}
	return l, err
}

// check returns whom a secret proves.
func (i *Identity) check(ctx context.Context, name, secret string) (Login, error) {
	p, err := i.cat.PrincipalByName(ctx, name)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return Login{}, fmt.Errorf("authenticate: %w", err)
	}
	// Asked for a principal that does not exist as well: equal work.
	kept, err := i.cat.Secrets(ctx, p.ID)
	if err != nil {
		return Login{}, fmt.Errorf("authenticate: %w", err)
	}
	now := i.o.Now()
	var live []catalog.Secret
	for _, s := range kept {
		if s.Kind == catalog.SecretPassword && !s.Ended(now) {
			live = append(live, s)
		}
	}
	n, err := i.matches(ctx, secret, live)
	if err != nil {
		return Login{}, fmt.Errorf("authenticate: %w", err)
	}
	if n < 0 || p.IsZero() || !p.Kind.HasSecrets() || !p.Disabled.IsZero() {
		return Login{}, ErrUnauthenticated
	}
	return Login{Principal: p.Principal, Credential: "secret " + live[n].ID, Ends: live[n].Expires}, nil
}

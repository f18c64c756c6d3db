package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
)

// Request is what conditions may ask of the caller's request.
func (c Caller) Request() access.Request { return c.request }

// Grants is all that was given to the caller, whatever its token holds.
func (c Caller) Grants() access.Grants { return c.grants }

// Fresh says whether the caller has shown a secret of its own with this very request, rather than what
// was once got with one.
func (c Caller) Fresh() bool {
	kind, _, _ := strings.Cut(c.Credential, " ")
	return !c.token && !c.Again && kind == "secret"
}

// NewHashedSecret makes a secret as NewSecret does, and the hash that the catalog keeps of it.
func NewHashedSecret() (secret string, hash []byte) {
	secret = NewSecret()
	return secret, hashGenerated(secret)
}

// ErrNoSuchOwner says that there is no user or service principal of a name to recover.
var ErrNoSuchOwner = errors.New("there is no user and no service principal of this name")

// Recover makes a user or service principal an owner who can log in: it is enabled, owns the
// whole registry and has a fresh secret, which is returned to be shown once. Where there is no room for one more, the
// oldest secret ends now. The principal that the first start makes is made again if it is
// gone; ErrNoSuchOwner for any other. Whoever can call it has the catalog in hand anyway.
func (i *Identity) Recover(ctx context.Context, name string) (secret string, err error) {
	p, err := i.recovered(ctx, name)
	if err != nil {
		return "", fmt.Errorf("recover %q: %w", name, err)
	}
	act := i.itself()
	if err := i.cat.EnablePrincipal(ctx, p.ID, act); err != nil {
		return "", fmt.Errorf("recover %q: %w", name, err)
	}
	if err := i.cat.Assign(ctx, catalog.Assigned{Principal: p.ID, Role: access.Owner.Name}, act); err != nil {
		return "", fmt.Errorf("recover %q: %w", name, err)
	}
	secret, hash := NewHashedSecret()
	add := func() error {
		return i.cat.AddSecret(ctx, catalog.Secret{ID: newID(), Principal: p.ID, Name: "recovered", Hash: hash}, act)
	}
	err = add()
	if errors.Is(err, catalog.ErrTooMany) {
		if err = i.endOldest(ctx, p.ID, act.Now); err == nil {
			err = add()
		}
	}
	if err != nil {
		return "", fmt.Errorf("recover %q: %w", name, err)
	}
	return secret, nil
}

// recovered is the principal that Recover is asked for.
func (i *Identity) recovered(ctx context.Context, name string) (access.Principal, error) {
	p, err := i.cat.PrincipalByName(ctx, name)
	switch {
	case errors.Is(err, catalog.ErrNotFound) && name == adminName:
		return i.firstPrincipal(ctx)
	case errors.Is(err, catalog.ErrNotFound), err == nil && p.Kind != access.KindUser && p.Kind != access.KindService:
		return access.Principal{}, ErrNoSuchOwner
	}
	return p.Principal, err
}

func (i *Identity) endOldest(ctx context.Context, principal string, now time.Time) error {
	kept, err := i.cat.Secrets(ctx, principal)
	if err != nil {
		return err
	}
	for _, s := range kept {
		if s.Kind == catalog.SecretPassword && !s.Ended(now) {
			return i.cat.ExpireSecret(ctx, principal, s.ID, now, i.itself())
		}
	}
	return nil
}

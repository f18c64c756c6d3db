package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// DefaultLifetime is how long a secret of a program is valid unless said otherwise, and the longest
// that a program can give itself.
const DefaultLifetime = 180 * 24 * time.Hour

// DefaultGrace is how long the secret that is replaced goes on being valid unless said otherwise.
const DefaultGrace = 24 * time.Hour

// NewSecret is a secret to be made, or a public key to be kept.
type NewSecret struct {
	Name    string    // for people
	Expires time.Time // zero: as is usual for the kind of principal
	Forever bool      // it does not end
	Key     []byte    // a public key, a JWK; nil: a secret is made
	// Rotate has the secret that the principal has had so far end after Grace.
	Rotate bool
	Grace  time.Duration
}

// MadeSecret is a secret that was made. Text is shown once.
type MadeSecret struct {
	catalog.Secret
	Text     string          // "" for a key
	Replaced *catalog.Secret // the one that ends, with its end; nil: none does
}

// until is when a new secret ends. self says that the principal makes it for itself.
func (s *Service) until(p catalog.Account, n NewSecret, self bool) (time.Time, error) {
	now := s.o.Now()
	program := p.Kind == access.KindService || p.Kind == access.KindToken
	until := n.Expires
	if until.IsZero() && !n.Forever && program {
		until = now.Add(DefaultLifetime)
	}
	switch {
	case !until.IsZero() && n.Forever:
		return until, oci.Errorf(oci.CodeInvalid, "a secret that ends cannot be one that does not")
	case !until.IsZero() && !until.After(now):
		return until, oci.Errorf(oci.CodeInvalid, "expires %s: expected a time to come", until.UTC().Format(time.RFC3339))
	case self && program && (until.IsZero() || until.After(now.Add(DefaultLifetime+time.Minute))):
		return until, oci.Errorf(oci.CodeDenied, "%s can give itself a secret for %d days at most; ask who may manage principals", p.Name, DefaultLifetime/(24*time.Hour))
	}
	return until, nil
}

// mayManage says whether the actor manages principals. One that does not changes its own secrets alone,
// and those with the last one that it was given: one that is being replaced, maybe because it
// leaked, must not undo that.
func (s *Service) mayManage(ctx context.Context, by Actor, p catalog.Account) (manages bool, err error) {
	if by.May != nil && by.May(access.PrincipalsManage) {
		return true, nil
	}
	if by.ID == "" || by.ID != p.ID {
		return false, oci.Errorf(oci.CodeDenied, "%s has not been granted %s", by.Name, access.PrincipalsManage)
	}
	live, err := s.live(ctx, p.ID, catalog.SecretPassword)
	if err != nil {
		return false, err
	}
	if len(live) == 0 || live[len(live)-1].ID != by.Secret {
		return false, oci.Errorf(oci.CodeDenied, "%s can change its secrets only with the newest of them; ask who may manage principals", p.Name)
	}
	return false, nil
}

// AddSecret makes a secret of a principal, or keeps a public key. A principal may always make itself one,
// with the newest secret that it has.
func (s *Service) AddSecret(ctx context.Context, by Actor, name string, n NewSecret) (MadeSecret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.account(ctx, name)
	if err != nil {
		return MadeSecret{}, err
	}
	if !p.Kind.HasSecrets() {
		return MadeSecret{}, oci.Errorf(oci.CodeInvalid, "%s is of kind %s, which has no secrets", p.Name, p.Kind)
	}
	if err := s.mayTouch(ctx, by, p); err != nil {
		return MadeSecret{}, err
	}
	manages, err := s.mayManage(ctx, by, p)
	if err != nil {
		return MadeSecret{}, err
	}
	until, err := s.until(p, n, !manages)
	if err != nil {
		return MadeSecret{}, err
	}
	return s.addSecret(ctx, by, p, n, until)
}

func (s *Service) addSecret(ctx context.Context, by Actor, p catalog.Account, n NewSecret, until time.Time) (MadeSecret, error) {
	if err := checkDescription(n.Name); err != nil {
		return MadeSecret{}, err
	}
	if n.Grace < 0 {
		return MadeSecret{}, oci.Errorf(oci.CodeInvalid, "the secret that is replaced cannot end before now")
	}
	m := MadeSecret{Secret: catalog.Secret{ID: newID(), Principal: p.ID, Kind: catalog.SecretPassword, Name: n.Name, Expires: until.UTC().Truncate(time.Second), Created: s.o.Now().UTC(), CreatedBy: by.Name}}
	if until.IsZero() {
		m.Expires = time.Time{}
	}
	if n.Key != nil {
		key, err := s.o.ParseKey(n.Key)
		if err != nil {
			return MadeSecret{}, oci.Errorf(oci.CodeInvalid, "key: %v", err)
		}
		m.Kind, m.Hash = catalog.SecretKey, key
	} else {
		m.Text, m.Hash = s.o.NewSecret()
	}
	err := s.cat.AddSecret(ctx, m.Secret, by.Act)
	if errors.Is(err, catalog.ErrTooMany) {
		return MadeSecret{}, s.tooMany(ctx, p, m.Kind)
	}
	if err != nil {
		return MadeSecret{}, err
	}
	if n.Rotate {
		if m.Replaced, err = s.replace(ctx, by, m.Secret, n.Grace); err != nil {
			return MadeSecret{}, errors.Join(err, s.cat.DeleteSecret(context.WithoutCancel(ctx), p.ID, m.ID, by.Act))
		}
	}
	return m, nil
}

// replace has the secret beside a new one end. There is one at most: two may overlap.
func (s *Service) replace(ctx context.Context, by Actor, made catalog.Secret, grace time.Duration) (*catalog.Secret, error) {
	live, err := s.live(ctx, made.Principal, made.Kind)
	if err != nil {
		return nil, err
	}
	end := s.o.Now().Add(grace).UTC().Truncate(time.Second)
	for _, old := range live {
		if old.ID == made.ID {
			continue
		}
		if old.Expires.IsZero() || old.Expires.After(end) {
			old.Expires = end
			if err := s.cat.ExpireSecret(ctx, made.Principal, old.ID, end, by.Act); err != nil {
				return nil, err
			}
		}
		return &old, nil
	}
	return nil, nil
}

// live returns the secrets of a kind that have not ended, the oldest first.
func (s *Service) live(ctx context.Context, principal string, kind catalog.SecretKind) ([]catalog.Secret, error) {
	all, err := s.cat.Secrets(ctx, principal)
	if err != nil {
		return nil, err
	}
	var out []catalog.Secret
	for _, x := range all {
		if x.Kind == kind && !x.Ended(s.o.Now()) {
			out = append(out, x)
		}
	}
	return out, nil
}

// tooMany says which secrets there are and how to make room.
func (s *Service) tooMany(ctx context.Context, p catalog.Account, kind catalog.SecretKind) error {
	live, err := s.live(ctx, p.ID, kind)
	if err != nil {
		return err
	}
	var said []string
	for _, x := range live {
		end := "does not end"
		if !x.Expires.IsZero() {
			end = "ends " + x.Expires.UTC().Format(time.DateTime+" MST")
		}
		said = append(said, fmt.Sprintf("%s (%s)", x.ID, end))
	}
	return oci.Errorf(oci.CodeConflict, "%s has %d %ss that have not ended, as many as it may: %s; end one first: pratique secret expire %s ID", p.Name, len(live), kind, strings.Join(said, ", "), p.Name)
}

// ExpireSecret sets when a secret ends; the zero time ends it now.
func (s *Service) ExpireSecret(ctx context.Context, by Actor, name, id string, at time.Time) (time.Time, error) {
	if now := s.o.Now(); at.IsZero() || at.Before(now) {
		at = now
	}
	at = at.UTC().Truncate(time.Second)
	return at, s.withSecret(ctx, by, name, id, func(p catalog.Account, x catalog.Secret, manages bool) error {
		if !manages && !x.Expires.IsZero() && at.After(x.Expires) {
			return oci.Errorf(oci.CodeDenied, "%s cannot put off the end of its own secret; 'pratique secret add %s --rotate' makes another", p.Name, p.Name)
		}
		return s.cat.ExpireSecret(ctx, p.ID, x.ID, at, by.Act)
	})
}

// DeleteSecret forgets a secret or a key, with which nobody can log in any more.
func (s *Service) DeleteSecret(ctx context.Context, by Actor, name, id string) error {
	return s.withSecret(ctx, by, name, id, func(p catalog.Account, x catalog.Secret, _ bool) error {
		return s.cat.DeleteSecret(ctx, p.ID, x.ID, by.Act)
	})
}

// withSecret does something to a secret of a principal that the actor may change.
func (s *Service) withSecret(ctx context.Context, by Actor, name, id string, do func(p catalog.Account, x catalog.Secret, manages bool) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.account(ctx, name)
	if err != nil {
		return err
	}
	if err := s.mayTouch(ctx, by, p); err != nil {
		return err
	}
	manages, err := s.mayManage(ctx, by, p)
	if err != nil {
		return err
	}
	all, err := s.cat.Secrets(ctx, p.ID)
	if err != nil {
		return err
	}
	for _, x := range all {
		if x.ID == id {
			return do(p, x, manages)
		}
	}
	return oci.Errorf(oci.CodeNameUnknown, "%s has no secret %.64q; 'pratique secret list %s' shows those that it has", p.Name, id, p.Name)
}

package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrTooMany says that a principal has as many secrets of a kind as it may.
var ErrTooMany = errors.New("it has as many as it may")

// SecretKind is what a principal proves itself with.
type SecretKind string

// The kinds of secrets.
const (
	SecretPassword SecretKind = "secret" // Hash is a hash of it
	SecretKey      SecretKind = "key"    // Hash is the public key, a JWK (RFC 7517)
)

// maxOfKind is how many of a kind a principal may have that have not run out. Two passwords overlap, so
// that one can be replaced without a gap.
var maxOfKind = map[SecretKind]int{SecretPassword: 2, SecretKey: 10}

// maxEnded is how many secrets and keys of a principal that have run out are remembered.
const maxEnded = 20

// Secret is what a principal proves itself with; the catalog has its hash, or public part, alone.
type Secret struct {
	ID        string
	Principal string // access.Principal.ID
	Kind      SecretKind
	Name      string // for people
	Hash      []byte
	Created   time.Time
	CreatedBy string
	Expires   time.Time // zero: never
}

// Ended says whether a secret has run out.
func (s Secret) Ended(now time.Time) bool { return !s.Expires.IsZero() && !now.Before(s.Expires) }

// AddSecret keeps a secret, and forgets all but the last of those that have run out. ErrConflict if its ID is taken or there is no such principal,
// ErrTooMany if the principal has as many that have not run out as it may.
func (c *Catalog) AddSecret(ctx context.Context, s Secret, a Act) error {
	a = c.actNow(a)
	if s.Kind == "" {
		s.Kind = SecretPassword
	}
	err := c.txAccess(ctx, a, deed{action: string(s.Kind) + "-add", of: s.Principal, detail: secretDetail(s.ID, s.Name, s.Expires)}, func(t *tx) error {
		// The principal's row is held, so that two additions at once do not both find room.
		if _, err := t.exec(ctx, `update principals set kind = kind where id = $1`, s.Principal); err != nil {
			return err
		}
		var n int
		if err := t.row(ctx, `select count(*) from secrets where principal_id = $1 and kind = $2 and (expires_at is null or expires_at > $3)`,
			s.Principal, string(s.Kind), a.Now.UnixMicro()).Scan(&n); err != nil {
			return err
		}
		if n >= maxOfKind[s.Kind] {
			return ErrTooMany
		}
		if _, err := t.exec(ctx, `delete from secrets where principal_id = $1 and expires_at <= $2 and id not in
			(select id from secrets where principal_id = $1 and expires_at <= $2 order by expires_at desc, id limit $3)`, s.Principal, a.Now.UnixMicro(), maxEnded); err != nil {
			return err
		}
		_, err := t.exec(ctx, `insert into secrets (id, principal_id, kind, name, hash, created_at, created_by, expires_at) values ($1, $2, $3, $4, $5, $6, $7, $8)`,
			s.ID, s.Principal, string(s.Kind), s.Name, notNil(s.Hash), a.Now.UnixMicro(), a.By, micros(s.Expires))
		return err
	})
	if err != nil {
		return fmt.Errorf("add secret %q: %w", s.ID, err)
	}
	return nil
}

// secretDetail is what the audit log tells of a secret.
func secretDetail(id, name string, expires time.Time) any {
	return struct {
		ID      string    `json:"id"`
		Name    string    `json:"name,omitempty"`
		Expires time.Time `json:"expires,omitzero"`
	}{id, name, expires.UTC()}
}

const secretColumns = `select s.id, s.principal_id, s.kind, s.name, s.hash, s.created_at, s.created_by, s.expires_at from secrets s `

func scanSecret(r *sql.Rows) (Secret, error) {
	var s Secret
	var kind string
	var created int64
	var expires *int64
	err := r.Scan(&s.ID, &s.Principal, &kind, &s.Name, &s.Hash, &created, &s.CreatedBy, &expires)
	s.Kind, s.Created, s.Expires = SecretKind(kind), fromMicros(&created), fromMicros(expires)
	return s, err
}

// Secrets returns a principal's secrets and keys, the expired ones too, oldest first.
func (c *Catalog) Secrets(ctx context.Context, principal string) ([]Secret, error) {
	rows, err := c.read.query(ctx, secretColumns+`where s.principal_id = $1 order by s.created_at, s.id limit $2`, principal, maxPage)
	out, err := collect(rows, err, scanSecret)
	if err != nil {
		return nil, fmt.Errorf("secrets of %q: %w", principal, err)
	}
	return out, nil
}

// ExpireSecret sets when a secret ends; a time that is over ends it at once. It is warned of as of a
// new one, but for what whoever set the end knows. ErrNotFound if the principal has none by this ID.
func (c *Catalog) ExpireSecret(ctx context.Context, principal, id string, at time.Time, a Act) error {
	a = c.actNow(a)
	warned := 0
	for _, days := range slices.Backward(WarnDays) {
		if !at.IsZero() && !at.After(a.Now.AddDate(0, 0, days)) {
			warned = days
		}
	}
	err := c.txAccess(ctx, a, deed{action: "secret-expire", of: principal, detail: secretDetail(id, "", at)}, func(t *tx) error {
		return one(t.exec(ctx, `update secrets set expires_at = $3, warned = $4 where id = $1 and principal_id = $2`, id, principal, micros(at), warned))
	})
	if err != nil {
		return fmt.Errorf("expire secret %q: %w", id, err)
	}
	return nil
}

// DeleteSecret forgets a secret. ErrNotFound if the principal has none by this ID.
func (c *Catalog) DeleteSecret(ctx context.Context, principal, id string, a Act) error {
	err := c.txAccess(ctx, a, deed{action: "secret-delete", of: principal, detail: secretDetail(id, "", time.Time{})}, func(t *tx) error {
		return one(t.exec(ctx, `delete from secrets where id = $1 and principal_id = $2`, id, principal))
	})
	if err != nil {
		return fmt.Errorf("delete secret %q: %w", id, err)
	}
	return nil
}

// Expiring is a secret that ends soon.
type Expiring struct {
	Secret
	Owner string // the principal's name
	Days  int    // of warning: it ends within so many
}

// WarnDays are how many days before a secret's end is warned of it, the last first.
var WarnDays = []int{1, 7, 30}

// ExpiringSecrets returns those secrets of which is to be warned by now: that end within some
// WarnDays of which was not warned yet.
func (c *Catalog) ExpiringSecrets(ctx context.Context, now time.Time, limit int) ([]Expiring, error) {
	var out []Expiring
	for i, days := range WarnDays {
		from := now
		if i > 0 {
			from = now.AddDate(0, 0, WarnDays[i-1])
		}
		rows, err := c.read.query(ctx, secretColumns+`where s.expires_at > $1 and s.expires_at <= $2 and (s.warned = 0 or s.warned > $3) order by s.expires_at limit $4`,
			from.UnixMicro(), now.AddDate(0, 0, days).UnixMicro(), days, page(limit))
		found, err := collect(rows, err, scanSecret)
		if err != nil {
			return nil, fmt.Errorf("secrets that expire: %w", err)
		}
		for _, s := range found {
			p, err := c.Principal(ctx, s.Principal)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			out = append(out, Expiring{s, p.Name, days})
		}
	}
	return out, nil
}

// EventSecretExpires is the kind of the event of a secret that ends soon.
const EventSecretExpires = "secret-expires"

// MarkWarned writes down that was warned of a secret, with an event. detail is JSON.
func (c *Catalog) MarkWarned(ctx context.Context, e Expiring, detail []byte, now time.Time) error {
	err := c.tx(ctx, func(t *tx) error {
		n, err := t.exec(ctx, `update secrets set warned = $2 where id = $1 and (warned = 0 or warned > $2)`, e.ID, e.Days)
		if err != nil || n == 0 {
			return err // another process was quicker
		}
		return t.writeEvent(ctx, Event{At: now, Kind: EventSecretExpires, By: e.Owner, Detail: detail})
	})
	if err != nil {
		return fmt.Errorf("warn of secret %q: %w", e.ID, err)
	}
	return nil
}

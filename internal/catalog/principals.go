package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"pratique.dev/pratique/internal/access"
)

// txAccess is tx for what changes who may do what.
func (c *Catalog) txAccess(ctx context.Context, do func(*tx) error) error {
	err := c.tx(ctx, func(t *tx) error {
		if err := do(t); err != nil {
			return err
		}
		return one(t.exec(ctx, `update counters set value = value + 1 where name = 'access'`))
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accessAt = time.Time{} // also when it failed: nobody knows how far it came
	return err
}

// accessAge is how long a change of access by another process may go unseen.
const accessAge = 2 * time.Second

// AccessVersion changes with every change of principals, secrets and assignments: at once
// with one made here, within two seconds with one of another process.
func (c *Catalog) AccessVersion(ctx context.Context) (int64, error) {
	c.mu.Lock()
	n, at := c.access, c.accessAt
	c.mu.Unlock()
	now := time.Now()
	if !at.IsZero() && now.Sub(at) < accessAge {
		return n, nil
	}
	if err := c.read.row(ctx, `select value from counters where name = 'access'`).Scan(&n); err != nil {
		return 0, fmt.Errorf("version of access: %w", asKnown(err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.accessAt.Equal(at) { // nothing was changed while it was read
		c.access, c.accessAt = n, now
	}
	return n, nil
}

// CreatePrincipal keeps a new principal. ErrConflict if its ID or name is taken.
func (c *Catalog) CreatePrincipal(ctx context.Context, p access.Principal, now time.Time) error {
	err := c.txAccess(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `insert into principals (id, kind, name, created_at) values ($1, $2, $3, $4)`, p.ID, string(p.Kind), p.Name, now.UnixMicro())
		return err
	})
	if err != nil {
		return fmt.Errorf("create principal %q: %w", p.Name, err)
	}
	return nil
}

func scanPrincipal(row *sql.Row) (access.Principal, error) {
	var p access.Principal
	var kind string
	err := row.Scan(&p.ID, &kind, &p.Name)
	if err != nil {
		return access.Principal{}, asKnown(err)
	}
	p.Kind = access.Kind(kind)
	return p, nil
}

// PrincipalByName returns the principal of a name. ErrNotFound if there is none.
func (c *Catalog) PrincipalByName(ctx context.Context, name string) (access.Principal, error) {
	p, err := scanPrincipal(c.read.row(ctx, `select id, kind, name from principals where name = $1`, name))
	if err != nil {
		return access.Principal{}, fmt.Errorf("principal %q: %w", name, err)
	}
	return p, nil
}

// Principal returns the principal of an ID. ErrNotFound if there is none.
func (c *Catalog) Principal(ctx context.Context, id string) (access.Principal, error) {
	p, err := scanPrincipal(c.read.row(ctx, `select id, kind, name from principals where id = $1`, id))
	if err != nil {
		return access.Principal{}, fmt.Errorf("principal with id %q: %w", id, err)
	}
	return p, nil
}

// PrincipalCount returns how many principals there are: none means that nobody has
// been given access yet.
func (c *Catalog) PrincipalCount(ctx context.Context) (int, error) {
	var n int
	if err := c.read.row(ctx, `select count(*) from principals`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count principals: %w", asKnown(err))
	}
	return n, nil
}

// Secret is what a principal proves itself with; the catalog has its hash alone.
type Secret struct {
	ID        string
	Principal string // access.Principal.ID
	Hash      []byte
	Created   time.Time
	Expires   time.Time // zero: never
}

// AddSecret keeps a secret. ErrConflict if its ID is taken or there is no such principal.
func (c *Catalog) AddSecret(ctx context.Context, s Secret) error {
	err := c.txAccess(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `insert into secrets (id, principal_id, hash, created_at, expires_at) values ($1, $2, $3, $4, $5)`,
			s.ID, s.Principal, notNil(s.Hash), s.Created.UnixMicro(), micros(s.Expires))
		return err
	})
	if err != nil {
		return fmt.Errorf("add secret %q: %w", s.ID, err)
	}
	return nil
}

// Secrets returns a principal's secrets, the expired ones too, oldest first.
func (c *Catalog) Secrets(ctx context.Context, principal string) ([]Secret, error) {
	rows, err := c.read.query(ctx, `select id, principal_id, hash, created_at, expires_at from secrets
		where principal_id = $1 order by created_at, id limit $2`, principal, maxPage)
	out, err := collect(rows, err, func(r *sql.Rows) (Secret, error) {
		var s Secret
		var created int64
		var expires *int64
		err := r.Scan(&s.ID, &s.Principal, &s.Hash, &created, &expires)
		s.Created, s.Expires = fromMicros(&created), fromMicros(expires)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("secrets of %q: %w", principal, err)
	}
	return out, nil
}

// DeleteSecret forgets a secret. ErrNotFound if there is none by this id.
func (c *Catalog) DeleteSecret(ctx context.Context, id string) error {
	err := c.txAccess(ctx, func(t *tx) error { return one(t.exec(ctx, `delete from secrets where id = $1`, id)) })
	if err != nil {
		return fmt.Errorf("delete secret %q: %w", id, err)
	}
	return nil
}

// Assign gives a principal a role where the scope's pattern holds (access.Scope); to
// give it again is no error. ErrConflict if there is no such principal.
func (c *Catalog) Assign(ctx context.Context, principalID, role, scopePattern string) error {
	err := c.txAccess(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `insert into assignments (principal_id, role, scope) values ($1, $2, $3)
			on conflict (principal_id, role, scope) do nothing`, principalID, role, scopePattern)
		return err
	})
	if err != nil {
		return fmt.Errorf("assign %s to %q: %w", role, principalID, err)
	}
	return nil
}

// roles are the roles that there are. What was assigned under another name grants nothing.
var roles = []access.Role{access.Administrator}

// Grants returns all that a principal was given; nothing if there is no such principal.
func (c *Catalog) Grants(ctx context.Context, principalID string) (access.Grants, error) {
	rows, err := c.read.query(ctx, `select role, scope from assignments where principal_id = $1`, principalID)
	given, err := collect(rows, err, func(r *sql.Rows) (access.Assignment, error) {
		a := access.Assignment{Principal: principalID}
		err := r.Scan(&a.Role.Name, &a.Scope.Pattern)
		return a, err
	})
	if err != nil {
		return access.Grants{}, fmt.Errorf("grants of %q: %w", principalID, err)
	}
	var known []access.Assignment
	for _, a := range given {
		if i := slices.IndexFunc(roles, func(r access.Role) bool { return r.Name == a.Role.Name }); i >= 0 {
			a.Role = roles[i]
			known = append(known, a)
		}
	}
	return access.NewGrants(known...), nil
}

package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"pratique.dev/pratique/internal/access"
)

// ErrLastOwner says that nobody would be left who may do everything: an Owner of the whole
// registry, without a condition, who is not disabled.
var ErrLastOwner = errors.New("it is the last owner of the registry")

// Account is a principal as it is kept.
type Account struct {
	access.Principal
	Description string
	ScopeMap    string // of a repository token
	// External is what an issuer of identities calls a user or a group, "ISSUER SUBJECT"; "" for
	// one that is known here alone.
	External  string
	Created   time.Time
	CreatedBy string
	Disabled  time.Time // since when; zero: it is not
}

// deed is what changes who may do what, as the audit log tells of it.
type deed struct {
	action string
	of     string // the ID of the principal that it is about; "": of none
	target string // what it is about else
	detail any
}

// txAccess is tx for what changes who may do what.
func (c *Catalog) txAccess(ctx context.Context, a Act, d deed, do func(*tx) error) error {
	a = c.actNow(a)
	err := c.tx(ctx, func(t *tx) error {
		target := d.target
		if d.of != "" { // looked up before it may be gone
			var name string
			if err := t.row(ctx, `select name from principals where id = $1`, d.of).Scan(&name); err == nil {
				target = strings.TrimSpace(name + " " + target)
			} else if !errors.Is(asKnown(err), ErrNotFound) {
				return err
			}
		}
		if err := do(t); err != nil {
			return err
		}
		if err := t.audit(ctx, a, d.action, target, d.detail); err != nil {
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
	now := c.now()
	if !at.IsZero() && now.Sub(at) < accessAge && !now.Before(at) {
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

// CreatePrincipal keeps a new principal. ErrConflict if its ID, name or External is taken,
// ErrNotFound if there is no such scope map.
func (c *Catalog) CreatePrincipal(ctx context.Context, p Account, a Act) error {
	a = c.actNow(a)
	detail := map[string]string{"id": p.ID, "kind": string(p.Kind), "scopeMap": p.ScopeMap, "external": p.External}
	err := c.txAccess(ctx, a, deed{action: "principal-create", target: p.Name, detail: detail}, func(t *tx) error {
		if err := t.wantScopeMap(ctx, p.ScopeMap); err != nil {
			return err
		}
		var external any
		if p.External != "" {
			external = p.External
		}
		_, err := t.exec(ctx, `insert into principals (id, kind, name, description, scope_map, external, created_at, created_by)
			values ($1, $2, $3, $4, $5, $6, $7, $8)`, p.ID, string(p.Kind), p.Name, p.Description, p.ScopeMap, external, a.Now.UnixMicro(), a.By)
		return err
	})
	if err != nil {
		return fmt.Errorf("create principal %q: %w", p.Name, err)
	}
	return nil
}

const accountColumns = `select id, kind, name, description, scope_map, coalesce(external, ''), created_at, created_by, disabled_at from principals `

func scanAccount(scan func(...any) error) (Account, error) {
	var p Account
	var kind string
	var created int64
	var disabled *int64
	err := scan(&p.ID, &kind, &p.Name, &p.Description, &p.ScopeMap, &p.External, &created, &p.CreatedBy, &disabled)
	p.Kind, p.Created, p.Disabled = access.Kind(kind), fromMicros(&created), fromMicros(disabled)
	return p, err
}

func account(row *sql.Row, what, value string) (Account, error) {
	p, err := scanAccount(row.Scan)
	if err != nil {
		return Account{}, fmt.Errorf("%s %q: %w", what, value, asKnown(err))
	}
	return p, nil
}

// PrincipalByName returns the principal of a name. ErrNotFound if there is none.
func (c *Catalog) PrincipalByName(ctx context.Context, name string) (Account, error) {
	return account(c.read.row(ctx, accountColumns+`where name = $1`, name), "principal", name)
}

// Principal returns the principal of an ID. ErrNotFound if there is none.
func (c *Catalog) Principal(ctx context.Context, id string) (Account, error) {
	return account(c.read.row(ctx, accountColumns+`where id = $1`, id), "principal with id", id)
}

// PrincipalByExternal returns the principal that an issuer calls so (Account.External).
// ErrNotFound if there is none.
func (c *Catalog) PrincipalByExternal(ctx context.Context, external string) (Account, error) {
	return account(c.read.row(ctx, accountColumns+`where external = $1`, external), "principal of", external)
}

// PrincipalCount returns how many principals there are: none means that nobody has
// been given access yet.
func (c *Catalog) PrincipalCount(ctx context.Context) (int, error) {
	var n int
	if err := c.read.row(ctx, `select count(*) from principals where kind <> 'anonymous'`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count principals: %w", asKnown(err))
	}
	return n, nil
}

// Principals returns up to limit principals whose names begin with prefix and sort behind
// after, those of one kind if that is given, and the after of the page that follows, "" at the end.
func (c *Catalog) Principals(ctx context.Context, kind access.Kind, prefix, after string, limit int) (out []Account, next string, err error) {
	limit = page(limit)
	rows, err := c.read.query(ctx, accountColumns+`where name >= $1 and name < $2 and name <> $3 and ($4 = '' or kind = $4) order by name limit $5`,
		max(prefix, after), prefix+"\x7f", after, string(kind), limit+1)
	out, err = collect(rows, err, func(r *sql.Rows) (Account, error) { return scanAccount(r.Scan) })
	if err != nil {
		return nil, "", fmt.Errorf("principals %q: %w", prefix, err)
	}
	if len(out) > limit {
		out = out[:limit]
		next = out[limit-1].Name
	}
	return out, next, nil
}

// DisablePrincipal lets a principal prove nothing until it is enabled again. To do it again is no
// error. ErrNotFound if there is no such principal, ErrLastOwner if nobody would be left.
func (c *Catalog) DisablePrincipal(ctx context.Context, id string, a Act) error {
	a = c.actNow(a)
	err := c.txAccess(ctx, a, deed{action: "principal-disable", of: id}, func(t *tx) error {
		if err := one(t.exec(ctx, `update principals set disabled_at = coalesce(disabled_at, $2) where id = $1`, id, a.Now.UnixMicro())); err != nil {
			return err
		}
		return t.wantOwner(ctx)
	})
	if err != nil {
		return fmt.Errorf("disable principal %q: %w", id, err)
	}
	return nil
}

// EnablePrincipal takes back DisablePrincipal. ErrNotFound if there is no such principal.
func (c *Catalog) EnablePrincipal(ctx context.Context, id string, a Act) error {
	err := c.txAccess(ctx, a, deed{action: "principal-enable", of: id}, func(t *tx) error {
		return one(t.exec(ctx, `update principals set disabled_at = null where id = $1`, id))
	})
	if err != nil {
		return fmt.Errorf("enable principal %q: %w", id, err)
	}
	return nil
}

// SetScopeMap gives a repository token another scope map. ErrNotFound if there is no such
// token or no such map.
func (c *Catalog) SetScopeMap(ctx context.Context, id, scopeMap string, a Act) error {
	err := c.txAccess(ctx, a, deed{action: "principal-scope-map", of: id, detail: map[string]string{"scopeMap": scopeMap}}, func(t *tx) error {
		if err := t.wantScopeMap(ctx, scopeMap); err != nil {
			return err
		}
		return one(t.exec(ctx, `update principals set scope_map = $2 where id = $1 and kind = 'token'`, id, scopeMap))
	})
	if err != nil {
		return fmt.Errorf("scope map %q of %q: %w", scopeMap, id, err)
	}
	return nil
}

// DeletePrincipal forgets a principal with its secrets, assignments and federations.
// ErrNotFound if there is none, ErrLastOwner if nobody would be left.
func (c *Catalog) DeletePrincipal(ctx context.Context, id string, a Act) error {
	err := c.txAccess(ctx, a, deed{action: "principal-delete", of: id, detail: map[string]string{"id": id}}, func(t *tx) error {
		if err := one(t.exec(ctx, `delete from principals where id = $1 and kind <> 'anonymous'`, id)); err != nil {
			return err
		}
		return t.wantOwner(ctx)
	})
	if err != nil {
		return fmt.Errorf("delete principal %q: %w", id, err)
	}
	return nil
}

// wantOwner refuses a change after which nobody may do everything.
func (t *tx) wantOwner(ctx context.Context) error {
	var n int
	err := t.row(ctx, `select count(*) from assignments a join principals p on p.id = a.principal_id
		where a.role in ('Owner', 'Administrator') and a.scope = '' and a.condition = '' and p.disabled_at is null and p.kind <> 'group'`).Scan(&n)
	if err == nil && n == 0 {
		return ErrLastOwner
	}
	return err
}

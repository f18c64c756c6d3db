package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Federation says whose tokens prove a principal.
type Federation struct {
	Name      string
	Principal string // access.Principal.ID
	Issuer    string // the "iss" claim
	Audience  string // one of "aud"
	Rule      string // in CEL over the claims
	Once      bool   // a token counts one time only
	Created   time.Time
	CreatedBy string
}

// PutFederation keeps a federation in place of the one of its name. ErrConflict if there is no
// such principal.
func (c *Catalog) PutFederation(ctx context.Context, f Federation, a Act) error {
	a = c.actNow(a)
	detail := map[string]string{"issuer": f.Issuer, "audience": f.Audience, "rule": f.Rule}
	err := c.txAccess(ctx, a, deed{action: "federation-set", of: f.Principal, target: f.Name, detail: detail}, func(t *tx) error {
		once := 0
		if f.Once {
			once = 1
		}
		_, err := t.exec(ctx, `insert into federations (name, principal_id, issuer, audience, rule, once, created_at, created_by)
			values ($1, $2, $3, $4, $5, $6, $7, $8)
			on conflict (name) do update set principal_id = excluded.principal_id, issuer = excluded.issuer, audience = excluded.audience,
				rule = excluded.rule, once = excluded.once, created_at = excluded.created_at, created_by = excluded.created_by`,
			f.Name, f.Principal, f.Issuer, f.Audience, f.Rule, once, a.Now.UnixMicro(), a.By)
		return err
	})
	if err != nil {
		return fmt.Errorf("put federation %q: %w", f.Name, err)
	}
	return nil
}

// DeleteFederation forgets a federation. ErrNotFound if there is none of this name.
func (c *Catalog) DeleteFederation(ctx context.Context, name string, a Act) error {
	err := c.txAccess(ctx, a, deed{action: "federation-delete", target: name}, func(t *tx) error { return one(t.exec(ctx, `delete from federations where name = $1`, name)) })
	if err != nil {
		return fmt.Errorf("delete federation %q: %w", name, err)
	}
	return nil
}

const federationColumns = `select name, principal_id, issuer, audience, rule, once, created_at, created_by from federations `

// Federations returns all federations, by name.
func (c *Catalog) Federations(ctx context.Context) ([]Federation, error) {
	return c.federations(ctx, federationColumns+`where name > $1 order by name limit $2`, "")
}

// FederationsBy returns the federations with an issuer, by name.
func (c *Catalog) FederationsBy(ctx context.Context, issuer string) ([]Federation, error) {
	return c.federations(ctx, federationColumns+`where issuer = $1 order by name limit $2`, issuer)
}

// FederationsOf returns the federations that prove a principal, by name.
func (c *Catalog) FederationsOf(ctx context.Context, principal string) ([]Federation, error) {
	return c.federations(ctx, federationColumns+`where principal_id = $1 order by name limit $2`, principal)
}

func (c *Catalog) federations(ctx context.Context, text, by string) ([]Federation, error) {
	rows, err := c.read.query(ctx, text, by, maxPage)
	out, err := collect(rows, err, func(r *sql.Rows) (Federation, error) {
		var f Federation
		var once, created int64
		err := r.Scan(&f.Name, &f.Principal, &f.Issuer, &f.Audience, &f.Rule, &once, &created, &f.CreatedBy)
		f.Once, f.Created = once != 0, fromMicros(&created)
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("federations: %w", err)
	}
	return out, nil
}

// UseToken marks a token as used, which is remembered until it has run out. ErrConflict if
// it was used before. Those that have run out by now are forgotten.
func (c *Catalog) UseToken(ctx context.Context, id string, until, now time.Time) error {
	err := c.tx(ctx, func(t *tx) error {
		if _, err := t.exec(ctx, `delete from used_tokens where until <= $1`, now.UnixMicro()); err != nil {
			return err
		}
		n, err := t.exec(ctx, `insert into used_tokens (id, until) values ($1, $2) on conflict (id) do nothing`, id, until.UnixMicro())
		if err == nil && n == 0 {
			return ErrConflict
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("use of a token: %w", err)
	}
	return nil
}

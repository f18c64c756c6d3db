package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"pratique.dev/pratique/internal/access"
)

// SetGroups makes a principal a member of those groups that an issuer has (Account.External) and names,
// and of no other of that issuer's. Names of groups that are not known here mean nothing.
func (c *Catalog) SetGroups(ctx context.Context, principal, issuer string, names []string, a Act) error {
	had, err := c.issuerGroups(ctx, principal, issuer)
	if err != nil {
		return fmt.Errorf("groups of %q: %w", principal, err)
	}
	has := map[string]bool{}
	for _, name := range names[:min(len(names), maxGroups)] {
		g, err := c.PrincipalByExternal(ctx, issuer+" "+name)
		if err == nil && g.Kind == access.KindGroup {
			has[g.ID] = true
		} else if err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("groups of %q: %w", principal, err)
		}
	}
	if len(has) == len(had) && !slices.ContainsFunc(had, func(id string) bool { return !has[id] }) {
		return nil // access has not changed, and what is remembered of it holds
	}
	detail := map[string]any{"issuer": issuer, "had": had, "has": slices.Sorted(maps.Keys(has))}
	err = c.txAccess(ctx, a, deed{action: "groups-set", of: principal, detail: detail}, func(t *tx) error {
		for _, id := range had {
			if !has[id] {
				if _, err := t.exec(ctx, `delete from members where group_id = $1 and principal_id = $2`, id, principal); err != nil {
					return err
				}
			}
		}
		for _, id := range slices.Sorted(maps.Keys(has)) {
			if _, err := t.exec(ctx, `insert into members (group_id, principal_id) values ($1, $2) on conflict (group_id, principal_id) do nothing`, id, principal); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("groups of %q: %w", principal, err)
	}
	return nil
}

// issuerGroups returns the IDs of the groups of an issuer that a principal is a member of.
func (c *Catalog) issuerGroups(ctx context.Context, principal, issuer string) ([]string, error) {
	rows, err := c.read.query(ctx, `select g.id from members m join principals g on g.id = m.group_id
		where m.principal_id = $1 and substr(g.external, 1, length($2)) = $2 order by g.id limit $3`, principal, issuer+" ", maxPage)
	return collect(rows, err, scanText)
}

// TokenUsed says whether UseToken was called with id, for as long as that is remembered.
func (c *Catalog) TokenUsed(ctx context.Context, id string) (bool, error) {
	var n int
	if err := c.read.row(ctx, `select count(*) from used_tokens where id = $1`, id).Scan(&n); err != nil {
		return false, fmt.Errorf("use of a token: %w", asKnown(err))
	}
	return n > 0, nil
}

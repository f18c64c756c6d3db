package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"pratique.dev/pratique/internal/access"
)

// Roles returns the roles that were made here, by name.
func (c *Catalog) Roles(ctx context.Context) ([]access.Role, error) {
	rows, err := c.read.query(ctx, `select name, doc from roles where name > '' order by name limit $1`, maxPage)
	out, err := collect(rows, err, scanDoc[access.Role])
	if err != nil {
		return nil, fmt.Errorf("roles: %w", err)
	}
	return out, nil
}

// scanDoc scans a name, which only orders, and a JSON document.
func scanDoc[T any](r *sql.Rows) (v T, err error) {
	var name, doc string
	if err := r.Scan(&name, &doc); err != nil {
		return v, err
	}
	if err := json.Unmarshal([]byte(doc), &v); err != nil {
		return v, fmt.Errorf("document of %q: %w", name, err)
	}
	return v, nil
}

// Role returns the role of a name, built in or made here. ErrNotFound if there is none.
func (c *Catalog) Role(ctx context.Context, name string) (access.Role, error) {
	if r, ok := access.BuiltInRole(name); ok {
		return r, nil
	}
	return byName[access.Role](ctx, c, "role", `select doc from roles where name = $1`, name)
}

// byName reads a JSON document.
func byName[T any](ctx context.Context, c *Catalog, what, query, name string) (v T, err error) {
	var doc string
	if err = asKnown(c.read.row(ctx, query, name).Scan(&doc)); err == nil {
		err = json.Unmarshal([]byte(doc), &v)
	}
	if err != nil {
		return v, fmt.Errorf("%s %q: %w", what, name, err)
	}
	return v, nil
}

// PutRole keeps a role in place of the one of its name. ErrConflict if a built-in role has it.
func (c *Catalog) PutRole(ctx context.Context, r access.Role, a Act) error {
	doc, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("put role %q: %w", r.Name, err)
	}
	if _, ok := access.BuiltInRole(r.Name); ok {
		return fmt.Errorf("put role %q: it is built in: %w", r.Name, ErrConflict)
	}
	err = c.txAccess(ctx, a, deed{action: "role-set", target: r.Name, detail: r}, func(t *tx) error {
		_, err := t.exec(ctx, `insert into roles (name, doc) values ($1, $2) on conflict (name) do update set doc = excluded.doc`, r.Name, string(doc))
		return err
	})
	if err != nil {
		return fmt.Errorf("put role %q: %w", r.Name, err)
	}
	return nil
}

// DeleteRole forgets a role. ErrNotFound if there is none, ErrConflict if it is assigned.
func (c *Catalog) DeleteRole(ctx context.Context, name string, a Act) error {
	err := c.txAccess(ctx, a, deed{action: "role-delete", target: name}, func(t *tx) error {
		return t.deleteUnused(ctx, `delete from roles where name = $1`, `select count(*) from assignments where role = $1`, name)
	})
	if err != nil {
		return fmt.Errorf("delete role %q: %w", name, err)
	}
	return nil
}

// deleteUnused deletes by name unless users counts any.
func (t *tx) deleteUnused(ctx context.Context, remove, users, name string) error {
	if err := one(t.exec(ctx, remove, name)); err != nil {
		return err
	}
	var n int
	if err := t.row(ctx, users, name).Scan(&n); err != nil {
		return err
	}
	if n > 0 {
		return fmt.Errorf("%d use it: %w", n, ErrConflict)
	}
	return nil
}

// ScopeMaps returns all scope maps, by name.
func (c *Catalog) ScopeMaps(ctx context.Context) ([]access.ScopeMap, error) {
	rows, err := c.read.query(ctx, `select name, doc from scope_maps where name > '' order by name limit $1`, maxPage)
	out, err := collect(rows, err, scanDoc[access.ScopeMap])
	if err != nil {
		return nil, fmt.Errorf("scope maps: %w", err)
	}
	return out, nil
}

// ScopeMap returns the scope map of a name. ErrNotFound if there is none.
func (c *Catalog) ScopeMap(ctx context.Context, name string) (access.ScopeMap, error) {
	return byName[access.ScopeMap](ctx, c, "scope map", `select doc from scope_maps where name = $1`, name)
}

// PutScopeMap keeps a scope map in place of the one of its name.
func (c *Catalog) PutScopeMap(ctx context.Context, m access.ScopeMap, a Act) error {
	doc, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("put scope map %q: %w", m.Name, err)
	}
	err = c.txAccess(ctx, a, deed{action: "scope-map-set", target: m.Name, detail: m}, func(t *tx) error {
		_, err := t.exec(ctx, `insert into scope_maps (name, doc) values ($1, $2) on conflict (name) do update set doc = excluded.doc`, m.Name, string(doc))
		return err
	})
	if err != nil {
		return fmt.Errorf("put scope map %q: %w", m.Name, err)
	}
	return nil
}

// DeleteScopeMap forgets a scope map. ErrNotFound if there is none, ErrConflict if a token has it.
func (c *Catalog) DeleteScopeMap(ctx context.Context, name string, a Act) error {
	err := c.txAccess(ctx, a, deed{action: "scope-map-delete", target: name}, func(t *tx) error {
		return t.deleteUnused(ctx, `delete from scope_maps where name = $1`, `select count(*) from principals where scope_map = $1 and scope_map <> ''`, name)
	})
	if err != nil {
		return fmt.Errorf("delete scope map %q: %w", name, err)
	}
	return nil
}

// wantScopeMap returns ErrNotFound if a scope map is named that is not there.
func (t *tx) wantScopeMap(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	var n int
	if err := t.row(ctx, `select count(*) from scope_maps where name = $1`, name).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("scope map %q: %w", name, ErrNotFound)
	}
	return nil
}

// AddMember makes a principal a member of a group; to do it again is no error. ErrNotFound if
// there is no such group or it is none, ErrConflict if the member is not there or is a group.
func (c *Catalog) AddMember(ctx context.Context, group, member string, a Act) error {
	err := c.txAccess(ctx, a, deed{action: "group-add", of: group, detail: map[string]string{"member": member}}, func(t *tx) error {
		var groups, members int
		if err := t.row(ctx, `select count(*) from principals where id = $1 and kind = 'group'`, group).Scan(&groups); err != nil {
			return err
		}
		if groups == 0 {
			return ErrNotFound
		}
		if err := t.row(ctx, `select count(*) from principals where id = $1 and kind <> 'group'`, member).Scan(&members); err != nil {
			return err
		}
		if members == 0 {
			return fmt.Errorf("%q is no principal, or a group: %w", member, ErrConflict)
		}
		_, err := t.exec(ctx, `insert into members (group_id, principal_id) values ($1, $2) on conflict (group_id, principal_id) do nothing`, group, member)
		return err
	})
	if err != nil {
		return fmt.Errorf("add %q to group %q: %w", member, group, err)
	}
	return nil
}

// RemoveMember takes back AddMember. ErrNotFound if it is no member.
func (c *Catalog) RemoveMember(ctx context.Context, group, member string, a Act) error {
	err := c.txAccess(ctx, a, deed{action: "group-remove", of: group, detail: map[string]string{"member": member}}, func(t *tx) error {
		return one(t.exec(ctx, `delete from members where group_id = $1 and principal_id = $2`, group, member))
	})
	if err != nil {
		return fmt.Errorf("remove %q from group %q: %w", member, group, err)
	}
	return nil
}

// Members returns the names of a group's members, at most limit of them.
func (c *Catalog) Members(ctx context.Context, group string, limit int) ([]string, error) {
	rows, err := c.read.query(ctx, `select p.name from members m join principals p on p.id = m.principal_id where m.group_id = $1 order by p.name limit $2`, group, page(limit))
	out, err := collect(rows, err, scanText)
	if err != nil {
		return nil, fmt.Errorf("members of %q: %w", group, err)
	}
	return out, nil
}

// Groups returns the names of the groups that a principal is a member of.
func (c *Catalog) Groups(ctx context.Context, principal string) ([]string, error) {
	rows, err := c.read.query(ctx, `select p.name from members m join principals p on p.id = m.group_id where m.principal_id = $1 order by p.name limit $2`, principal, maxPage)
	out, err := collect(rows, err, scanText)
	if err != nil {
		return nil, fmt.Errorf("groups of %q: %w", principal, err)
	}
	return out, nil
}

package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/condition"
	"pratique.dev/pratique/internal/oci"
)

// maxAssignments bounds what one principal is given, and maxGroups the groups that an issuer's
// token names.
const (
	maxAssignments = 1000
	maxGroups      = 200
)

// Assigned is an assignment as it is kept.
type Assigned struct {
	Principal string // access.Principal.ID
	Name      string // of the principal
	Role      string
	Scope     access.Scope
	Condition string // "" for none
}

// Assign gives a principal a role within a scope, under a condition; to give it again sets the
// condition anew. ErrNotFound if there is no such role, ErrConflict if there is no such
// principal, ErrTooMany if it has as many as it may.
func (c *Catalog) Assign(ctx context.Context, s Assigned, a Act) error {
	err := c.txAccess(ctx, a, deed{action: "role-assign", of: s.Principal, detail: assignedDetail(s)}, func(t *tx) error {
		if err := t.wantRole(ctx, s.Role); err != nil {
			return err
		}
		var n int
		if err := t.row(ctx, `select count(*) from assignments where principal_id = $1`, s.Principal).Scan(&n); err != nil {
			return err
		}
		if n >= maxAssignments {
			return ErrTooMany
		}
		if _, err := t.exec(ctx, `insert into assignments (principal_id, role, scope, condition) values ($1, $2, $3, $4)
			on conflict (principal_id, role, scope) do update set condition = excluded.condition`, s.Principal, s.Role, s.Scope.Pattern, s.Condition); err != nil {
			return err
		}
		if s.Condition == "" {
			return nil
		}
		return t.wantOwner(ctx) // the condition may be new to the last owner's
	})
	if err != nil {
		return fmt.Errorf("assign %s to %q: %w", s.Role, s.Principal, err)
	}
	return nil
}

// assignedDetail is what the audit log tells of an assignment.
func assignedDetail(s Assigned) any {
	return struct {
		Role      string `json:"role"`
		Scope     string `json:"scope"`
		Condition string `json:"condition,omitempty"`
	}{s.Role, s.Scope.String(), s.Condition}
}

func (t *tx) wantRole(ctx context.Context, name string) error {
	if _, ok := access.BuiltInRole(name); ok {
		return nil
	}
	var n int
	if err := t.row(ctx, `select count(*) from roles where name = $1`, name).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("role %q: %w", name, ErrNotFound)
	}
	return nil
}

// Unassign takes back Assign. ErrNotFound if it was not given, ErrLastOwner if nobody would
// be left.
func (c *Catalog) Unassign(ctx context.Context, s Assigned, a Act) error {
	err := c.txAccess(ctx, a, deed{action: "role-unassign", of: s.Principal, detail: assignedDetail(s)}, func(t *tx) error {
		if err := one(t.exec(ctx, `delete from assignments where principal_id = $1 and role = $2 and scope = $3`, s.Principal, s.Role, s.Scope.Pattern)); err != nil {
			return err
		}
		return t.wantOwner(ctx)
	})
	if err != nil {
		return fmt.Errorf("unassign %s of %q: %w", s.Role, s.Principal, err)
	}
	return nil
}

// AssignmentQuery asks for a page of assignments.
type AssignmentQuery struct {
	Principal string // ID; "": of all
	Role      string // "": any
	After     Assigned
	Limit     int
}

// Assignments returns a page of assignments in the order of principal, role and scope.
func (c *Catalog) Assignments(ctx context.Context, q AssignmentQuery) ([]Assigned, error) {
	rows, err := c.read.query(ctx, `select a.principal_id, p.name, a.role, a.scope, a.condition
		from assignments a join principals p on p.id = a.principal_id
		where ($1 = '' or a.principal_id = $1) and ($2 = '' or a.role = $2) and (a.principal_id, a.role, a.scope) > ($3, $4, $5)
		order by a.principal_id, a.role, a.scope limit $6`, q.Principal, q.Role, q.After.Principal, q.After.Role, q.After.Scope.Pattern, page(q.Limit))
	out, err := collect(rows, err, func(r *sql.Rows) (Assigned, error) {
		var s Assigned
		err := r.Scan(&s.Principal, &s.Name, &s.Role, &s.Scope.Pattern, &s.Condition)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("assignments: %w", err)
	}
	return out, nil
}

// Standing is a principal and all that it was given, be it by itself, by its groups or by its
// scope map.
type Standing struct {
	Account
	Grants access.Grants
}

// Standing returns how a principal stands. ErrNotFound if there is no such principal, or if
// it is disabled: it is nobody then. groups are the IDs of groups that it is in besides
// those it is a member of here, as an issuer's token says.
//
// What cannot be read gives nothing: a role that there is not, a condition that is none.
func (c *Catalog) Standing(ctx context.Context, id string, groups []string) (Standing, error) {
	p, err := c.Principal(ctx, id)
	if err != nil {
		return Standing{}, err
	}
	if !p.Disabled.IsZero() {
		return Standing{}, fmt.Errorf("principal %q is disabled: %w", p.Name, ErrNotFound)
	}
	assigned, err := c.assigned(ctx, p, groups)
	if err != nil {
		return Standing{}, fmt.Errorf("grants of %q: %w", p.Name, err)
	}
	return Standing{p, access.NewGrants(assigned...)}, nil
}

// Given returns all that a principal was given, also while it is disabled; what an issuer's token
// adds is not in it.
func (c *Catalog) Given(ctx context.Context, p Account) (access.Grants, error) {
	assigned, err := c.assigned(ctx, p, nil)
	if err != nil {
		return access.Grants{}, fmt.Errorf("grants of %q: %w", p.Name, err)
	}
	return access.NewGrants(assigned...), nil
}

const assignedText = `select a.role, a.scope, a.condition, coalesce(r.doc, ''), '' from assignments a
	left join roles r on r.name = a.role where a.principal_id = $1`

const assignedByGroupText = `select a.role, a.scope, a.condition, coalesce(r.doc, ''), g.name from assignments a
	join principals g on g.id = a.principal_id left join roles r on r.name = a.role
	where g.disabled_at is null and g.kind = 'group' and a.principal_id = $1`

func (c *Catalog) assigned(ctx context.Context, p Account, groups []string) ([]access.Assignment, error) {
	rows, err := c.read.query(ctx, assignedText, p.ID)
	out, err := collect(rows, err, c.scanAssignment)
	if err != nil {
		return nil, err
	}
	rows, err = c.read.query(ctx, `select group_id from members where principal_id = $1 order by group_id limit $2`, p.ID, maxPage)
	member, err := collect(rows, err, scanText)
	if err != nil {
		return nil, err
	}
	for _, g := range groups[:min(len(groups), maxGroups)] {
		if !slices.Contains(member, g) {
			member = append(member, g)
		}
	}
	for _, g := range member {
		rows, err := c.read.query(ctx, assignedByGroupText, g)
		more, err := collect(rows, err, c.scanAssignment)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	for i := range out {
		out[i].Principal = p.ID
	}
	mapped, err := c.mapped(ctx, p)
	return append(out, mapped...), err
}

// mapped is what a repository token's scope map gives it.
func (c *Catalog) mapped(ctx context.Context, p Account) ([]access.Assignment, error) {
	if p.Kind != access.KindToken || p.ScopeMap == "" {
		return nil, nil
	}
	var doc string
	err := c.read.row(ctx, `select doc from scope_maps where name = $1`, p.ScopeMap).Scan(&doc)
	if errors.Is(asKnown(err), ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, asKnown(err)
	}
	var m access.ScopeMap
	if err := json.Unmarshal([]byte(doc), &m); err != nil {
		return nil, fmt.Errorf("scope map %q: %w", p.ScopeMap, err)
	}
	return m.Assignments(p.ID), nil
}

func (c *Catalog) scanAssignment(r *sql.Rows) (access.Assignment, error) {
	var a access.Assignment
	var text, doc, group string
	if err := r.Scan(&a.Role.Name, &a.Scope.Pattern, &text, &doc, &group); err != nil {
		return a, err
	}
	if group != "" {
		a.Via = "group " + group
	}
	if known, ok := access.BuiltInRole(a.Role.Name); ok {
		a.Role = known
	} else if doc != "" {
		if err := json.Unmarshal([]byte(doc), &a.Role); err != nil {
			return a, fmt.Errorf("role %q: %w", a.Role.Name, err)
		}
	}
	if text != "" {
		a.Condition = c.condition(text)
	}
	return a, nil
}

// maxConditions bounds the conditions that are kept compiled.
const maxConditions = 1000

// condition compiles a condition, or takes it from those that were. One that is none never holds.
func (c *Catalog) condition(text string) access.Condition {
	c.mu.Lock()
	known, ok := c.conditions[text]
	c.mu.Unlock()
	if ok {
		return known
	}
	var out access.Condition
	compiled, err := condition.Parse(text)
	if out = compiled; err != nil {
		out = broken{text, err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conditions == nil || len(c.conditions) >= maxConditions {
		c.conditions = map[string]access.Condition{}
	}
	c.conditions[text] = out
	return out
}

// broken is a condition that cannot be read, as one that a later version of the program wrote.
type broken struct {
	text string
	err  error
}

// Holds implements access.Condition.
func (b broken) Holds(access.Permission, oci.Repository, access.Request) (holds, unknown bool, err error) {
	return false, false, b.err
}

// String implements access.Condition.
func (b broken) String() string { return b.text }

package admin

import (
	"context"
	"errors"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/condition"
	"pratique.dev/pratique/internal/oci"
)

// Assignment gives a principal a role, by its name.
type Assignment struct {
	Role      string
	Scope     access.Scope
	Condition string // in CEL; "" for none
}

// Assign gives a principal a role within a scope.
func (s *Service) Assign(ctx context.Context, by Actor, principal string, a Assignment) (catalog.Assigned, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.account(ctx, principal)
	if err != nil {
		return catalog.Assigned{}, err
	}
	return s.assign(ctx, by, p, a)
}

func (s *Service) assign(ctx context.Context, by Actor, p catalog.Account, a Assignment) (catalog.Assigned, error) {
	r, err := s.checkAssign(ctx, by, p, a)
	if err != nil {
		return catalog.Assigned{}, err
	}
	given := catalog.Assigned{Principal: p.ID, Name: p.Name, Role: r.Name, Scope: a.Scope, Condition: a.Condition}
	err = s.cat.Assign(ctx, given, by.Act)
	if errors.Is(err, catalog.ErrTooMany) {
		return given, oci.Errorf(oci.CodeConflict, "%s has as many assignments as it may; patterns, or a group, need fewer", p.Name)
	}
	return given, lastOwner(err, p.Name)
}

// checkAssign refuses an assignment that is none, or that the actor cannot give.
func (s *Service) checkAssign(ctx context.Context, by Actor, p catalog.Account, a Assignment) (access.Role, error) {
	r, err := s.role(ctx, a.Role)
	if err != nil {
		return r, err
	}
	if a.Condition != "" {
		if _, err := condition.Parse(a.Condition); err != nil {
			return r, oci.Errorf(oci.CodeInvalid, "%v", err)
		}
	}
	switch p.Kind {
	case access.KindToken:
		return r, oci.Errorf(oci.CodeInvalid, "%s is a repository token: what it may do is its scope map's to say; a service principal can have roles", p.Name)
	case access.KindAnonymous:
		if err := access.CheckAnonymous(r, a.Scope); err != nil {
			return r, oci.Errorf(oci.CodeDenied, "%v", err)
		}
	}
	if err := mayGive(by, access.Assignment{Role: r, Scope: a.Scope}); err != nil {
		return r, err
	}
	return r, s.ownersOnly(ctx, by, p, r, a.Scope)
}

// ownersOnly refuses to change what an owner has, and who is one, to all but owners.
func (s *Service) ownersOnly(ctx context.Context, by Actor, p catalog.Account, r access.Role, scope access.Scope) error {
	if by.Grants.Owner() {
		return nil
	}
	if r.BuiltIn && r.Name == access.Owner.Name && scope.Pattern == "" {
		return oci.Errorf(oci.CodeDenied, "only an Owner of the registry says who else is one")
	}
	has, err := s.cat.Given(ctx, p)
	if err == nil && has.OwnerAtTimes() {
		err = oci.Errorf(oci.CodeDenied, "%s is an Owner of the registry: only another one may change it", p.Name)
	}
	return err
}

// role finds a role by its name.
func (s *Service) role(ctx context.Context, name string) (access.Role, error) {
	r, err := s.cat.Role(ctx, name)
	if errors.Is(err, catalog.ErrNotFound) {
		return r, oci.Errorf(oci.CodeNameUnknown, "there is no role %.255q; 'pratique role list' shows those that there are", name)
	}
	return r, err
}

// Unassign takes a role back.
func (s *Service) Unassign(ctx context.Context, by Actor, principal, role string, scope access.Scope) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.account(ctx, principal)
	if err != nil {
		return err
	}
	r, err := s.role(ctx, role)
	if err != nil {
		return err
	}
	if err := mayGive(by, access.Assignment{Role: r, Scope: scope}); err != nil {
		return err
	}
	if err := s.ownersOnly(ctx, by, p, r, scope); err != nil {
		return err
	}
	err = s.cat.Unassign(ctx, catalog.Assigned{Principal: p.ID, Role: r.Name, Scope: scope}, by.Act)
	if errors.Is(err, catalog.ErrNotFound) {
		return oci.Errorf(oci.CodeNameUnknown, "%s does not have %s on %s; 'pratique role assignments --principal %s' shows what it has", p.Name, roleName(r), scope, p.Name)
	}
	return lastOwner(err, p.Name)
}

// PutRole makes a role, or with replace puts it in the place of the one of its name. What a name gives
// is not changed by who could not give it everywhere: others assign roles by what they know of them.
func (s *Service) PutRole(ctx context.Context, by Actor, r access.Role, replace bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(access.CheckName(r.Name), checkDescription(r.Description)); err != nil {
		return oci.Errorf(oci.CodeNameInvalid, "%v", err)
	}
	if _, ok := access.BuiltInRole(r.Name); ok {
		return oci.Errorf(oci.CodeConflict, "role %s is built in, and stays as it is; choose another name", r.Name)
	}
	r.BuiltIn = false
	old, err := s.cat.Role(ctx, r.Name)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		list, err := s.cat.Roles(ctx)
		if err != nil {
			return err
		}
		if len(list) >= maxRoles {
			return oci.Errorf(oci.CodeConflict, "there are %d roles, and no more can be made; delete some first", len(list))
		}
		if p, ok := by.Grants.LacksAnywhere(r.Permissions); ok {
			return oci.Errorf(oci.CodeDenied, "%s was given %s nowhere without a condition, and so cannot make a role of it; ask an Owner", by.Name, p)
		}
	case err != nil:
		return err
	case !replace:
		return oci.Errorf(oci.CodeConflict, "there is a role %s already; --replace puts this one in its place, for all who have it", r.Name)
	default:
		if err := mayGive(by, access.Assignment{Role: old}, access.Assignment{Role: r}); err != nil {
			return err
		}
	}
	return s.cat.PutRole(ctx, r, by.Act)
}

// DeleteRole forgets a role that nobody has.
func (s *Service) DeleteRole(ctx context.Context, by Actor, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.role(ctx, name)
	if err != nil {
		return err
	}
	if r.BuiltIn {
		return oci.Errorf(oci.CodeConflict, "role %s is built in, and stays", r.Name)
	}
	if err := mayGive(by, access.Assignment{Role: r}); err != nil {
		return err
	}
	err = s.cat.DeleteRole(ctx, name, by.Act)
	if errors.Is(err, catalog.ErrConflict) {
		return oci.Errorf(oci.CodeConflict, "role %s is assigned; 'pratique role assignments --role %s' shows to whom, 'pratique role unassign' takes it back", name, name)
	}
	return err
}

// PutScopeMap makes a scope map, or with replace puts it in the place of the one of its name.
func (s *Service) PutScopeMap(ctx context.Context, by Actor, m access.ScopeMap, replace bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := checkDescription(m.Description); err != nil {
		return err
	}
	old, err := s.cat.ScopeMap(ctx, m.Name)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		list, err := s.cat.ScopeMaps(ctx)
		if err != nil {
			return err
		}
		if len(list) >= maxScopeMaps {
			return oci.Errorf(oci.CodeConflict, "there are %d scope maps, and no more can be made; delete some first", len(list))
		}
	case err != nil:
		return err
	case !replace:
		return oci.Errorf(oci.CodeConflict, "there is a scope map %s already; --replace puts this one in its place, for all tokens that have it", m.Name)
	}
	if err := mayGive(by, append(old.Assignments(""), m.Assignments("")...)...); err != nil {
		return err
	}
	return s.cat.PutScopeMap(ctx, m, by.Act)
}

// DeleteScopeMap forgets a scope map that no token has.
func (s *Service) DeleteScopeMap(ctx context.Context, by Actor, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayMap(ctx, by, name); err != nil {
		return err
	}
	err := s.cat.DeleteScopeMap(ctx, name, by.Act)
	if errors.Is(err, catalog.ErrConflict) {
		return oci.Errorf(oci.CodeConflict, "scope map %s is some token's; 'pratique principal list --kind token' shows whose", name)
	}
	return err
}

// AddMember makes a principal a member of a group, which gives it all that the group has.
func (s *Service) AddMember(ctx context.Context, by Actor, group, member string) error {
	return s.membership(ctx, by, group, member, func(g, m catalog.Account) error {
		switch m.Kind {
		case access.KindGroup, access.KindAnonymous, access.KindToken:
			return oci.Errorf(oci.CodeInvalid, "%s is of kind %s, which is in no group", m.Name, m.Kind)
		}
		return s.cat.AddMember(ctx, g.ID, m.ID, by.Act)
	})
}

// RemoveMember takes a principal out of a group.
func (s *Service) RemoveMember(ctx context.Context, by Actor, group, member string) error {
	return s.membership(ctx, by, group, member, func(g, m catalog.Account) error {
		err := s.cat.RemoveMember(ctx, g.ID, m.ID, by.Act)
		if errors.Is(err, catalog.ErrNotFound) {
			return oci.Errorf(oci.CodeNameUnknown, "%s is no member of %s; 'pratique group members %s' shows who is", m.Name, g.Name, g.Name)
		}
		return err
	})
}

func (s *Service) membership(ctx context.Context, by Actor, group, member string, change func(g, m catalog.Account) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.account(ctx, group)
	if err != nil {
		return err
	}
	if g.Kind != access.KindGroup {
		return oci.Errorf(oci.CodeInvalid, "%s is of kind %s, not a group", g.Name, g.Kind)
	}
	m, err := s.account(ctx, member)
	if err != nil {
		return err
	}
	// What the group has is given with it, to owners by owners alone.
	if err := s.mayTouch(ctx, by, g); err != nil {
		return err
	}
	if err := s.ownersOnly(ctx, by, m, access.Role{}, access.Scope{}); err != nil {
		return err
	}
	return change(g, m)
}

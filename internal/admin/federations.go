package admin

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/condition"
	"pratique.dev/pratique/internal/oci"
)

// NewFederation is a federation to be set up. Its issuer was found to be one.
type NewFederation struct {
	Name, Issuer, Audience, Rule string
	Once                         bool
	Principal                    string      // its name; default Name
	Assign                       *Assignment // the principal is made, a workload with this role; nil: it is there
}

// PutFederation sets a federation up, in place of the one of its name, and returns it with its
// principal's name. To let others log in as somebody is to change them.
func (s *Service) PutFederation(ctx context.Context, by Actor, n NewFederation) (catalog.Federation, string, error) {
	f := catalog.Federation{Name: n.Name, Issuer: n.Issuer, Audience: n.Audience, Rule: n.Rule, Once: n.Once, Created: s.o.Now().UTC(), CreatedBy: by.Name}
	if err := checkFederation(f); err != nil {
		return f, "", err
	}
	if _, err := s.federation(ctx, by, n.Name); err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return f, "", err
	}
	p, err := s.federated(ctx, by, n)
	if err != nil {
		return f, "", err
	}
	f.Principal = p.ID
	if err := s.cat.PutFederation(ctx, f, by.Act); err != nil {
		if n.Assign != nil {
			err = errors.Join(err, s.cat.DeletePrincipal(context.WithoutCancel(ctx), p.ID, by.Act))
		}
		return f, "", err
	}
	return f, p.Name, nil
}

func checkFederation(f catalog.Federation) error {
	switch err := access.CheckName(f.Name); {
	case err != nil:
		return oci.Errorf(oci.CodeInvalid, "%v", err)
	case f.Audience == "" || len(f.Audience) > access.MaxName:
		return oci.Errorf(oci.CodeInvalid, "audience: expected what the issuer writes into aud, as in https://registry.example; tokens for others could be taken without one")
	case strings.TrimSpace(f.Rule) == "":
		return oci.Errorf(oci.CodeInvalid, `rule: expected what must hold of the claims, as in claims.sub == "…"; without one every token of the issuer would count`)
	}
	if _, err := condition.ParseRule(f.Rule); err != nil {
		return oci.Errorf(oci.CodeInvalid, "%v", err)
	}
	return nil
}

// federated returns the principal that a federation is to prove, or makes it.
func (s *Service) federated(ctx context.Context, by Actor, n NewFederation) (access.Principal, error) {
	name := cmp.Or(n.Principal, n.Name)
	if n.Assign != nil {
		m, err := s.Create(ctx, by, NewPrincipal{Name: name, Kind: access.KindWorkload, Description: "of federation " + n.Name, Assign: n.Assign})
		return m.Principal, err
	}
	p, err := s.cat.PrincipalByName(ctx, name)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return p.Principal, oci.Errorf(oci.CodeNameUnknown, "there is no principal %.100q; give --role, and --scope, to have a workload of this name made", name)
	case err != nil:
		return p.Principal, err
	case p.Kind == access.KindGroup || p.Kind == access.KindAnonymous || p.Kind == access.KindToken:
		return p.Principal, oci.Errorf(oci.CodeInvalid, "%s is a principal of kind %s, which does not log in by an issuer's tokens", name, p.Kind)
	}
	return p.Principal, s.mayTouch(ctx, by, p)
}

// federation finds a federation that the actor may change. catalog.ErrNotFound if there is none.
func (s *Service) federation(ctx context.Context, by Actor, name string) (catalog.Federation, error) {
	all, err := s.cat.Federations(ctx)
	if err != nil {
		return catalog.Federation{}, err
	}
	for _, f := range all {
		if f.Name != name {
			continue
		}
		p, err := s.cat.Principal(ctx, f.Principal)
		if err != nil {
			return f, err
		}
		return f, s.mayTouch(ctx, by, p)
	}
	return catalog.Federation{}, catalog.ErrNotFound
}

// DeleteFederation takes a federation away: what was got by its tokens holds no more. catalog.ErrNotFound
// if there is none of the name.
func (s *Service) DeleteFederation(ctx context.Context, by Actor, name string) error {
	if _, err := s.federation(ctx, by, name); err != nil {
		return err
	}
	return s.cat.DeleteFederation(ctx, name, by.Act)
}

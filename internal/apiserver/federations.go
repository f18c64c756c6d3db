package apiserver

import (
	"errors"
	"net/http"
	"strings"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/admin"
	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/oci"
)

func (s *Server) federations(w http.ResponseWriter, r *http.Request, _ caller) error {
	all, err := s.o.Catalog.Federations(r.Context())
	if err != nil {
		return err
	}
	name, out := r.URL.Query().Get("name"), api.FederationList{Federations: []api.Federation{}}
	for _, f := range all {
		if name != "" && f.Name != name {
			continue
		}
		p, err := s.o.Catalog.Principal(r.Context(), f.Principal)
		if err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		out.Federations = append(out.Federations, wireFederation(f, p.Name))
	}
	if name != "" && len(out.Federations) == 0 {
		return noFederation(name)
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func noFederation(name string) error {
	return oci.Errorf(oci.CodeNameUnknown, "there is no federation %.100q; 'pratique federation list' shows what there is", name)
}

// wireFederation is one as it goes over the wire, with its principal's name.
func wireFederation(f catalog.Federation, principal string) api.Federation {
	return api.Federation{Name: f.Name, Principal: principal, Issuer: f.Issuer, Audience: f.Audience, Rule: f.Rule, Once: f.Once, Created: f.Created, CreatedBy: f.CreatedBy}
}

// assignment is the role that comes with what is made; nil for none.
func assignment(role, scope string) (*admin.Assignment, error) {
	if role == "" && scope == "" {
		return nil, nil
	}
	if role == "" {
		return nil, oci.Errorf(oci.CodeInvalid, "a scope goes with a role")
	}
	a, err := assignmentOf(api.NewAssignment{Role: role, Scope: scope})
	return &a, err
}

func (s *Server) putFederation(w http.ResponseWriter, r *http.Request, c caller) error {
	var n api.NewFederation
	if err := readBody(w, r, &n); err != nil {
		return err
	}
	if err := identity.CheckIssuer(n.Issuer); err != nil {
		return oci.Errorf(oci.CodeInvalid, "%v", err)
	}
	assign, err := assignment(n.Role, n.Scope)
	if err != nil {
		return err
	}
	f, principal, err := s.o.Admin.PutFederation(r.Context(), c.actor(s), admin.NewFederation{Name: n.Name, Issuer: n.Issuer, Audience: n.Audience,
		Rule: n.Rule, Once: n.Once, Principal: n.Principal, Assign: assign})
	if err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "federation set up", "by", c.Name, "federation", f.Name, "principal", principal, "issuer", f.Issuer, "role", n.Role, "scope", n.Scope)
	writeJSON(w, http.StatusOK, wireFederation(f, principal))
	return nil
}

// issuerGroup makes a group of those whom an issuer says are in one of its own.
func (s *Server) issuerGroup(w http.ResponseWriter, r *http.Request, c caller) error {
	var n api.IssuerGroup
	if err := readBody(w, r, &n); err != nil {
		return err
	}
	if err := identity.CheckIssuer(n.Issuer); err != nil {
		return oci.Errorf(oci.CodeInvalid, "%v", err)
	}
	if n.Group == "" || len(n.Group) > access.MaxName {
		return oci.Errorf(oci.CodeInvalid, "group: expected what the issuer calls it, in Entra ID its object ID")
	}
	assign, err := assignment(n.Role, n.Scope)
	if err != nil {
		return err
	}
	m, err := s.o.Admin.Create(r.Context(), c.actor(s), admin.NewPrincipal{Name: n.Name, Kind: access.KindGroup, Description: "of " + n.Issuer,
		External: n.Issuer + " " + n.Group, Assign: assign})
	if err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "group of an issuer made", "by", c.Name, "group", m.Name, "issuer", n.Issuer, "external", n.Group, "role", n.Role, "scope", n.Scope)
	writeJSON(w, http.StatusOK, n)
	return nil
}

func (s *Server) deleteFederation(w http.ResponseWriter, r *http.Request, c caller) error {
	name, err := queryName(r.URL.Query(), "name")
	if err != nil {
		return err
	}
	err = s.o.Admin.DeleteFederation(r.Context(), c.actor(s), name)
	if errors.Is(err, catalog.ErrNotFound) {
		return noFederation(name)
	}
	if err == nil {
		s.o.Log.InfoContext(r.Context(), "federation deleted", "by", c.Name, "federation", name)
	}
	return done(w, err)
}

// testToken says what would come of a token. That it proves nobody is an answer here.
func (s *Server) testToken(w http.ResponseWriter, r *http.Request, _ caller) error {
	var q api.TokenTest
	if err := readBody(w, r, &q); err != nil {
		return err
	}
	x, err := s.o.Identity.Examine(r.Context(), strings.TrimSpace(q.Token))
	if err != nil && !errors.Is(err, identity.ErrUnauthenticated) {
		return err
	}
	out := api.TokenTested{Issuer: x.Issuer, Subject: x.Subject, Audience: x.Audience, Expires: x.Expires, Claims: x.Claims, Why: reason(err)}
	for _, f := range x.Federations {
		out.Tries = append(out.Tries, api.TokenTry{Federation: f.Name, Principal: f.Owner.Name, Takes: f.Err == nil, Why: reason(f.Err)})
	}
	if x.Chosen >= 0 {
		out.Chosen, out.Principal = x.Federations[x.Chosen].Name, x.Federations[x.Chosen].Owner.Name
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// reason is why a token proves nothing, without what all such errors say.
func reason(err error) string {
	if err == nil {
		return ""
	}
	return strings.TrimPrefix(err.Error(), identity.ErrUnauthenticated.Error()+": ")
}

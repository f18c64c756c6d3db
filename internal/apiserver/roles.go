package apiserver

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/admin"
	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

func (s *Server) roles(w http.ResponseWriter, r *http.Request, _ caller) error {
	made, err := s.o.Catalog.Roles(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, api.RoleList{Roles: append(append([]access.Role{}, access.BuiltIn...), made...)})
	return nil
}

func (s *Server) putRole(w http.ResponseWriter, r *http.Request, c caller) error {
	var n api.NewRole
	if err := readBody(w, r, &n); err != nil {
		return err
	}
	ps, err := access.ParsePermissions(n.Permissions)
	if err != nil {
		return oci.Errorf(oci.CodeInvalid, "%v", err)
	}
	role := access.Role{Name: n.Name, Description: n.Description, Permissions: ps}
	if err := s.o.Admin.PutRole(r.Context(), c.actor(s), role, n.Replace); err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "role set", "by", c.Name, "role", role.Name, "permissions", ps)
	writeJSON(w, http.StatusOK, role)
	return nil
}

func (s *Server) deleteRole(w http.ResponseWriter, r *http.Request, c caller) error {
	name, err := queryName(r.URL.Query(), "role")
	if err != nil {
		return err
	}
	if err := s.o.Admin.DeleteRole(r.Context(), c.actor(s), name); err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "role deleted", "by", c.Name, "role", name)
	return done(w, nil)
}

// assignmentOf reads an assignment.
func assignmentOf(n api.NewAssignment) (admin.Assignment, error) {
	scope, err := access.ParseScope(n.Scope)
	if err != nil {
		return admin.Assignment{}, oci.Errorf(oci.CodeInvalid, "%v", err)
	}
	return admin.Assignment{Role: n.Role, Scope: scope, Condition: n.Condition}, nil
}

// assignments pages by the place of the last one, whose parts stand with line breaks between.
func (s *Server) assignments(w http.ResponseWriter, r *http.Request, _ caller) error {
	q := r.URL.Query()
	limit, err := queryLimit(q)
	if err != nil {
		return err
	}
	ask := catalog.AssignmentQuery{Role: q.Get("role"), Limit: limit + 1}
	if known, ok := access.BuiltInRole(ask.Role); ok {
		ask.Role = known.Name
	}
	if q.Get("principal") != "" {
		p, err := s.account(r, "principal")
		if err != nil {
			return err
		}
		ask.Principal = p.ID
	}
	if t := q.Get("after"); t != "" {
		parts := strings.Split(t, "\n")
		if len(parts) != 3 {
			return oci.Errorf(oci.CodePaginationInvalid, "after %.40q: expected the next of the page before", t)
		}
		ask.After = catalog.Assigned{Principal: parts[0], Role: parts[1], Scope: access.Scope{Pattern: parts[2]}}
	}
	list, err := s.o.Catalog.Assignments(r.Context(), ask)
	if err != nil {
		return err
	}
	out := api.AssignmentList{Assignments: []api.Assignment{}}
	if len(list) > limit {
		list = list[:limit]
		last := list[limit-1]
		out.Next = strings.Join([]string{last.Principal, last.Role, last.Scope.Pattern}, "\n")
	}
	for _, a := range list {
		out.Assignments = append(out.Assignments, assignedOf(a))
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func assignedOf(a catalog.Assigned) api.Assignment {
	return api.Assignment{Principal: a.Name, Role: a.Role, Scope: a.Scope.String(), Condition: a.Condition}
}

func (s *Server) assign(w http.ResponseWriter, r *http.Request, c caller) error {
	var n api.NewAssignment
	if err := readBody(w, r, &n); err != nil {
		return err
	}
	want, err := assignmentOf(n)
	if err != nil {
		return err
	}
	got, err := s.o.Admin.Assign(r.Context(), c.actor(s), n.Principal, want)
	if err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "role assigned", "by", c.Name, "principal", got.Name, "role", got.Role, "scope", got.Scope, "condition", got.Condition)
	writeJSON(w, http.StatusOK, assignedOf(got))
	return nil
}

func (s *Server) unassign(w http.ResponseWriter, r *http.Request, c caller) error {
	q := r.URL.Query()
	scope, err := access.ParseScope(q.Get("scope"))
	if err != nil {
		return oci.Errorf(oci.CodeInvalid, "%v", err)
	}
	principal, role := q.Get("principal"), q.Get("role")
	if err := s.o.Admin.Unassign(r.Context(), c.actor(s), principal, role, scope); err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "role taken back", "by", c.Name, "principal", principal, "role", role, "scope", scope)
	return done(w, nil)
}

func (s *Server) scopeMaps(w http.ResponseWriter, r *http.Request, _ caller) error {
	list, err := s.o.Catalog.ScopeMaps(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, api.ScopeMapList{ScopeMaps: append([]access.ScopeMap{}, list...)})
	return nil
}

func (s *Server) putScopeMap(w http.ResponseWriter, r *http.Request, c caller) error {
	var n api.NewScopeMap
	if err := readBody(w, r, &n); err != nil {
		return err
	}
	m, err := access.ParseScopeMap(n.Name, n.Description, n.Actions)
	if err != nil {
		return oci.Errorf(oci.CodeInvalid, "%v", err)
	}
	if err := s.o.Admin.PutScopeMap(r.Context(), c.actor(s), m, n.Replace); err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "scope map set", "by", c.Name, "scopeMap", m.Name)
	writeJSON(w, http.StatusOK, m)
	return nil
}

func (s *Server) deleteScopeMap(w http.ResponseWriter, r *http.Request, c caller) error {
	name, err := queryName(r.URL.Query(), "scopeMap")
	if err != nil {
		return err
	}
	if err := s.o.Admin.DeleteScopeMap(r.Context(), c.actor(s), name); err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "scope map deleted", "by", c.Name, "scopeMap", name)
	return done(w, nil)
}

func (s *Server) members(w http.ResponseWriter, r *http.Request, _ caller) error {
	g, err := s.account(r, "group")
	if err != nil {
		return err
	}
	if g.Kind != access.KindGroup {
		return oci.Errorf(oci.CodeInvalid, "%s is of kind %s, not a group", g.Name, g.Kind)
	}
	list, err := s.o.Catalog.Members(r.Context(), g.ID, 0)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, api.Members{Group: g.Name, Members: append([]string{}, list...)})
	return nil
}

func (s *Server) addMember(w http.ResponseWriter, r *http.Request, c caller) error {
	q := r.URL.Query()
	group, member := q.Get("group"), q.Get("member")
	if err := s.o.Admin.AddMember(r.Context(), c.actor(s), group, member); err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "member added", "by", c.Name, "group", group, "principal", member)
	return done(w, nil)
}

func (s *Server) removeMember(w http.ResponseWriter, r *http.Request, c caller) error {
	q := r.URL.Query()
	group, member := q.Get("group"), q.Get("member")
	if err := s.o.Admin.RemoveMember(r.Context(), c.actor(s), group, member); err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "member removed", "by", c.Name, "group", group, "principal", member)
	return done(w, nil)
}

func (s *Server) keys(w http.ResponseWriter, r *http.Request, _ caller) error {
	set, err := s.o.Identity.PublicKeys(r.Context())
	if err != nil {
		return err
	}
	out := api.KeyList{Keys: []api.Key{}}
	for _, k := range set.Keys {
		raw, err := json.Marshal(k)
		if err != nil {
			return err
		}
		out.Keys = append(out.Keys, api.Key{ID: k.KeyID, Algorithm: k.Algorithm, Public: raw})
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// rotateEvery is how often keys can be rotated: each stays until its tokens have run out.
const rotateEvery = time.Minute

func (s *Server) rotateKeys(w http.ResponseWriter, r *http.Request, c caller) error {
	s.rotating.Lock()
	defer s.rotating.Unlock()
	now := s.o.Now()
	if wait := s.rotated.Add(rotateEvery).Sub(now); wait > 0 {
		return oci.Errorf(oci.CodeTooManyRequests, "the keys were rotated just now; again in %s", wait.Round(time.Second))
	}
	if err := s.o.Identity.RotateKeys(r.Context()); err != nil {
		return err
	}
	s.rotated = now
	s.o.Log.InfoContext(r.Context(), "signing keys rotated", "by", c.Name)
	return s.keys(w, r, c)
}

package apiserver

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/admin"
	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/oci"
)

// maxBody bounds a document of this interface but the rules, in bytes; a scope map of 500
// repositories is the largest.
const maxBody = 256 << 10

// maxSeconds keeps a number of seconds within what a time can be put off by.
const maxSeconds = 10 * 365 * 24 * 3600

// readBody reads a request's document. One that is not understood changes nothing.
func readBody(w http.ResponseWriter, r *http.Request, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more behind the document")
		}
	}
	if err != nil {
		return oci.Errorf(oci.CodeInvalid, "the request's document: %v; nothing was changed", err)
	}
	return nil
}

// done answers a change that there is nothing to say of.
func done(w http.ResponseWriter, err error) error {
	if err == nil {
		writeJSON(w, http.StatusOK, struct{}{})
	}
	return err
}

// queryName is a name that a request must give.
func queryName(q url.Values, key string) (string, error) {
	name := q.Get(key)
	if name == "" || len(name) > access.MaxName {
		return "", oci.Errorf(oci.CodeNameInvalid, "%s: expected a name", key)
	}
	return name, nil
}

// account finds the principal that a request names.
func (s *Server) account(r *http.Request, key string) (catalog.Account, error) {
	name, err := queryName(r.URL.Query(), key)
	if err != nil {
		return catalog.Account{}, err
	}
	p, err := s.o.Catalog.PrincipalByName(r.Context(), name)
	if errors.Is(err, catalog.ErrNotFound) {
		return p, oci.Errorf(oci.CodeNameUnknown, "there is no principal %.255q; 'pratique principal list' shows those that there are", name)
	}
	return p, err
}

func principalOf(p catalog.Account) api.Principal {
	return api.Principal{Name: p.Name, Kind: p.Kind, ID: p.ID, Description: p.Description, ScopeMap: p.ScopeMap, External: p.External,
		Created: p.Created, CreatedBy: p.CreatedBy, Disabled: p.Disabled}
}

func givenOf(g access.Grants) []api.Given {
	out := []api.Given{}
	for _, a := range g.Assigned() {
		x := api.Given{Role: a.Role.Name, Permissions: append([]access.Permission{}, a.Role.Permissions...), Scope: a.Scope.String(), Via: a.Via}
		if a.Condition != nil {
			x.Condition = a.Condition.String()
		}
		out = append(out, x)
	}
	return out
}

func (s *Server) whoami(w http.ResponseWriter, r *http.Request, c caller) error {
	p, err := s.o.Catalog.Principal(r.Context(), c.ID)
	if err != nil {
		return err
	}
	groups, err := s.o.Catalog.Groups(r.Context(), c.ID)
	if err != nil {
		return err
	}
	out := api.Self{Principal: principalOf(p), Credential: c.Credential, Ends: c.Ends, Groups: append([]string{}, groups...), Given: givenOf(c.Grants())}
	if a := c.Request().Address; a.IsValid() {
		out.Address = a.String()
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (s *Server) principals(w http.ResponseWriter, r *http.Request, _ caller) error {
	q := r.URL.Query()
	limit, err := queryLimit(q)
	if err != nil {
		return err
	}
	var kind access.Kind
	if t := q.Get("kind"); t != "" && t != string(access.KindAnonymous) {
		if kind, err = access.ParseKind(t); err != nil {
			return oci.Errorf(oci.CodeInvalid, "%v", err)
		}
	}
	list, next, err := s.o.Catalog.Principals(r.Context(), kind, q.Get("prefix"), q.Get("after"), limit)
	if err != nil {
		return err
	}
	out := api.PrincipalList{Principals: []api.Principal{}, Next: next}
	for _, p := range list {
		out.Principals = append(out.Principals, principalOf(p))
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (s *Server) principal(w http.ResponseWriter, r *http.Request, _ caller) error {
	p, err := s.account(r, "principal")
	if err != nil {
		return err
	}
	given, err := s.o.Catalog.Given(r.Context(), p)
	if err != nil {
		return err
	}
	groups, err := s.o.Catalog.Groups(r.Context(), p.ID)
	if err != nil {
		return err
	}
	secrets, err := s.secretsOf(r, p)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, api.PrincipalDetail{Principal: principalOf(p), Groups: append([]string{}, groups...), Secrets: secrets, Given: givenOf(given)})
	return nil
}

func (s *Server) createPrincipal(w http.ResponseWriter, r *http.Request, c caller) error {
	var n api.NewPrincipal
	if err := readBody(w, r, &n); err != nil {
		return err
	}
	want := admin.NewPrincipal{Name: n.Name, Kind: n.Kind, Description: n.Description, ScopeMap: n.ScopeMap, NoSecret: n.NoSecret}
	if n.Secret != nil {
		want.Secret = admin.NewSecret{Name: n.Secret.Name, Expires: n.Secret.Expires, Forever: n.Secret.Forever}
	}
	if n.Assign != nil {
		a, err := assignmentOf(*n.Assign)
		if err != nil {
			return err
		}
		want.Assign = &a
	}
	m, err := s.o.Admin.Create(r.Context(), c.actor(s), want)
	if err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "principal made", "by", c.Name, "principal", m.Name, "kind", m.Kind)
	out := api.PrincipalMade{Principal: principalOf(m.Account)}
	if m.Secret != nil {
		x := s.secretMade(*m.Secret)
		out.Secret = &x
	}
	writeJSON(w, http.StatusCreated, out)
	return nil
}

// changePrincipal does something to the principal that a request names.
func (s *Server) changePrincipal(w http.ResponseWriter, r *http.Request, c caller, said string, do func(name string) error) error {
	name, err := queryName(r.URL.Query(), "principal")
	if err != nil {
		return err
	}
	if err := do(name); err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), said, "by", c.Name, "principal", name)
	return done(w, nil)
}

func (s *Server) deletePrincipal(w http.ResponseWriter, r *http.Request, c caller) error {
	return s.changePrincipal(w, r, c, "principal deleted", func(name string) error { return s.o.Admin.Delete(r.Context(), c.actor(s), name) })
}

func (s *Server) enablePrincipal(w http.ResponseWriter, r *http.Request, c caller) error {
	return s.changePrincipal(w, r, c, "principal enabled", func(name string) error { return s.o.Admin.SetDisabled(r.Context(), c.actor(s), name, false) })
}

func (s *Server) disablePrincipal(w http.ResponseWriter, r *http.Request, c caller) error {
	return s.changePrincipal(w, r, c, "principal disabled", func(name string) error { return s.o.Admin.SetDisabled(r.Context(), c.actor(s), name, true) })
}

func (s *Server) setScopeMap(w http.ResponseWriter, r *http.Request, c caller) error {
	m, err := queryName(r.URL.Query(), "scopeMap")
	if err != nil {
		return err
	}
	return s.changePrincipal(w, r, c, "scope map of a token set", func(name string) error { return s.o.Admin.SetScopeMap(r.Context(), c.actor(s), name, m) })
}

func (s *Server) secretOf(x catalog.Secret) api.Secret {
	out := api.Secret{ID: x.ID, Kind: string(x.Kind), Name: x.Name, Created: x.Created, CreatedBy: x.CreatedBy, Expires: x.Expires, Ended: x.Ended(s.o.Now())}
	if x.Kind == catalog.SecretKey {
		out.Key = json.RawMessage(x.Hash) // its public part
	}
	return out
}

func (s *Server) secretMade(m admin.MadeSecret) api.SecretMade {
	out := api.SecretMade{Secret: s.secretOf(m.Secret), Text: m.Text}
	if m.Replaced != nil {
		x := s.secretOf(*m.Replaced)
		out.Replaced = &x
	}
	return out
}

func (s *Server) secretsOf(r *http.Request, p catalog.Account) ([]api.Secret, error) {
	list, err := s.o.Catalog.Secrets(r.Context(), p.ID)
	out := []api.Secret{}
	for _, x := range list {
		out = append(out, s.secretOf(x))
	}
	return out, err
}

func (s *Server) secrets(w http.ResponseWriter, r *http.Request, _ caller) error {
	p, err := s.account(r, "principal")
	if err != nil {
		return err
	}
	list, err := s.secretsOf(r, p)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, api.SecretList{Secrets: list})
	return nil
}

func (s *Server) addSecret(w http.ResponseWriter, r *http.Request, c caller) error {
	name, err := queryName(r.URL.Query(), "principal")
	if err != nil {
		return err
	}
	var n api.NewSecret
	if err := readBody(w, r, &n); err != nil {
		return err
	}
	if n.GraceSeconds < 0 || n.GraceSeconds > maxSeconds {
		return oci.Errorf(oci.CodeInvalid, "graceSeconds %d: expected 0 to %d", n.GraceSeconds, maxSeconds)
	}
	m, err := s.o.Admin.AddSecret(r.Context(), c.actor(s), name, admin.NewSecret{Name: n.Name, Expires: n.Expires, Forever: n.Forever, Key: n.Key,
		Rotate: n.Rotate, Grace: time.Duration(n.GraceSeconds) * time.Second})
	if err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "secret added", "by", c.Name, "principal", name, "secret", m.ID, "kind", m.Kind, "expires", m.Expires, "rotated", n.Rotate)
	writeJSON(w, http.StatusCreated, s.secretMade(m))
	return nil
}

func (s *Server) expireSecret(w http.ResponseWriter, r *http.Request, c caller) error {
	q := r.URL.Query()
	name, err := queryName(q, "principal")
	if err != nil {
		return err
	}
	at, err := queryTime(q, "at")
	if err != nil {
		return err
	}
	id := q.Get("id")
	if at, err = s.o.Admin.ExpireSecret(r.Context(), c.actor(s), name, id, at); err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "end of a secret set", "by", c.Name, "principal", name, "secret", id, "expires", at)
	writeJSON(w, http.StatusOK, api.Secret{ID: id, Expires: at, Ended: !s.o.Now().Before(at)})
	return nil
}

func (s *Server) deleteSecret(w http.ResponseWriter, r *http.Request, c caller) error {
	id := r.URL.Query().Get("id")
	return s.changePrincipal(w, r, c, "secret deleted", func(name string) error { return s.o.Admin.DeleteSecret(r.Context(), c.actor(s), name, id) })
}

// queryTime reads a time; none is the zero one.
func queryTime(q url.Values, key string) (time.Time, error) {
	if q.Get(key) == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, q.Get(key))
	if err != nil {
		return t, oci.Errorf(oci.CodeInvalid, "%s %.40q: expected a time as in 2026-01-02T15:04:05Z", key, q.Get(key))
	}
	return t, nil
}

// checkAccess explains what a principal may do. Of itself it asks with all that it came with: the
// groups and claims of an issuer, and its address.
func (s *Server) checkAccess(w http.ResponseWriter, r *http.Request, c caller) error {
	p, err := s.account(r, "principal")
	if err != nil {
		return err
	}
	q := r.URL.Query()
	perm, repo, err := queryAccess(q)
	if err != nil {
		return err
	}
	login, req := identity.Login{Principal: p.Principal}, access.Request{Time: s.o.Now()}
	if p.ID == c.ID {
		login, req = c.Login, c.Request()
	}
	if t := q.Get("address"); t != "" {
		if req.Address, err = netip.ParseAddr(t); err != nil {
			return oci.Errorf(oci.CodeInvalid, "address %.40q: expected one as in 192.0.2.1", t)
		}
	}
	if at, err := queryTime(q, "at"); err != nil {
		return err
	} else if !at.IsZero() {
		req.Time = at
	}
	req.Principal, req.Tag = p.Principal, q.Get("tag")
	out := api.Check{Principal: p.Name, Permission: perm, Repository: repo.String(), Disabled: !p.Disabled.IsZero()}
	grants, err := s.o.Identity.Grants(r.Context(), login)
	if err != nil && !(out.Disabled && errors.Is(err, identity.ErrUnauthenticated)) {
		return err
	}
	out.Explanation = grants.For(req).Explain(perm, repo)
	writeJSON(w, http.StatusOK, out)
	return nil
}

// queryAccess is what a request asks of: a permission, on a repository or the registry as a whole.
func queryAccess(q url.Values) (p access.Permission, repo oci.Repository, err error) {
	if p, err = access.ParsePermission(q.Get("permission")); err != nil {
		return p, repo, oci.Errorf(oci.CodeInvalid, "%v", err)
	}
	if t := q.Get("repository"); t != "" {
		if repo, err = oci.ParseRepository(t); err != nil {
			return p, repo, oci.Errorf(oci.CodeNameInvalid, "%v", err)
		}
	}
	if p.OfRegistry() {
		repo = oci.Repository{} // whatever was named
	}
	return p, repo, nil
}

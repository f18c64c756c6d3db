package apiserver

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/admin"
	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/edge"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/registry"
)

// also is who may send a request without its permission.
type also int

const (
	nobody  also = iota
	anyone       // whoever has proved who they are
	listing      // they too, with a token for lists if it is one; they are shown what they may see
	// oneself is whoever asks of themselves (?principal=), and not by a token. What changes something they
	// ask with a secret of theirs: a stolen token must not become a secret.
	oneself
)

// also in words.
var alsoText = map[also]string{anyone: "whoever is logged in", listing: "whoever is logged in sees what they may", oneself: "everyone of themselves"}

// route is one kind of request: what it needs and who answers it. scope gives the
// repository that the permission is asked for; nil asks for the whole registry.
type route struct {
	pattern    string
	permission access.Permission
	scope      func(url.Values) (oci.Repository, error)
	also       also
	handle     func(*Server, http.ResponseWriter, *http.Request, caller) error
}

var routes = []route{
	{"GET " + api.PathReport, access.RepositoryList, queryRepository, nobody, (*Server).report},
	{"GET " + api.PathImages, access.CatalogList, nil, listing, (*Server).images},
	{"GET " + api.PathAdvisories, access.AdvisoriesRead, nil, nobody, (*Server).advisories},
	{"POST " + api.PathImport, access.AdvisoriesWrite, nil, nobody, (*Server).importAdvisories},
	{"GET " + api.PathStatus, access.AdvisoriesRead, nil, nobody, (*Server).status},
	{"GET " + api.PathTagHistory, access.RepositoryList, queryRepository, nobody, (*Server).tagHistory},
	{"POST " + api.PathTagUndo, access.RepositoryPush, queryRepository, nobody, (*Server).undoTag},
	{"GET " + api.PathTrash, access.CatalogList, nil, listing, (*Server).trash},
	{"POST " + api.PathRestore, access.RepositoryPush, queryRepository, nobody, (*Server).restore},
	{"POST " + api.PathPurge, access.RepositoryDelete, queryRepository, nobody, (*Server).purge},
	{"POST " + api.PathLocks, access.RepositoryLock, queryRepository, nobody, (*Server).lock},
	{"POST " + api.PathGC, access.RegistryConfigure, nil, nobody, (*Server).collect},
	{"POST " + api.PathRetention, access.RegistryConfigure, nil, nobody, (*Server).retain},
	{"GET " + api.PathRules, access.PolicyRead, nil, nobody, (*Server).rules},
	{"PUT " + api.PathRules, access.PolicyWrite, nil, nobody, (*Server).setRules},

	{"GET " + api.PathWhoami, "", nil, anyone, (*Server).whoami},
	{"GET " + api.PathPrincipals, access.PrincipalsRead, nil, nobody, (*Server).principals},
	{"POST " + api.PathPrincipals, access.PrincipalsManage, nil, nobody, (*Server).createPrincipal},
	{"DELETE " + api.PathPrincipals, access.PrincipalsManage, nil, nobody, (*Server).deletePrincipal},
	{"GET " + api.PathPrincipal, access.PrincipalsRead, nil, oneself, (*Server).principal},
	{"POST " + api.PathPrincipalEnable, access.PrincipalsManage, nil, nobody, (*Server).enablePrincipal},
	{"POST " + api.PathPrincipalDisable, access.PrincipalsManage, nil, nobody, (*Server).disablePrincipal},
	{"POST " + api.PathPrincipalMap, access.PrincipalsManage, nil, nobody, (*Server).setScopeMap},
	{"GET " + api.PathSecrets, access.PrincipalsRead, nil, oneself, (*Server).secrets},
	{"POST " + api.PathSecrets, access.PrincipalsManage, nil, oneself, (*Server).addSecret},
	{"POST " + api.PathSecretExpire, access.PrincipalsManage, nil, oneself, (*Server).expireSecret},
	{"DELETE " + api.PathSecrets, access.PrincipalsManage, nil, oneself, (*Server).deleteSecret},
	{"GET " + api.PathRoles, "", nil, anyone, (*Server).roles},
	{"PUT " + api.PathRoles, access.RolesManage, nil, nobody, (*Server).putRole},
	{"DELETE " + api.PathRoles, access.RolesManage, nil, nobody, (*Server).deleteRole},
	{"GET " + api.PathAssignments, access.PrincipalsRead, nil, oneself, (*Server).assignments},
	{"POST " + api.PathAssignments, access.RolesManage, nil, nobody, (*Server).assign},
	{"DELETE " + api.PathAssignments, access.RolesManage, nil, nobody, (*Server).unassign},
	{"GET " + api.PathScopeMaps, access.PrincipalsRead, nil, nobody, (*Server).scopeMaps},
	{"PUT " + api.PathScopeMaps, access.RolesManage, nil, nobody, (*Server).putScopeMap},
	{"DELETE " + api.PathScopeMaps, access.RolesManage, nil, nobody, (*Server).deleteScopeMap},
	{"GET " + api.PathMembers, access.PrincipalsRead, nil, nobody, (*Server).members},
	{"POST " + api.PathMembers, access.RolesManage, nil, nobody, (*Server).addMember},
	{"DELETE " + api.PathMembers, access.RolesManage, nil, nobody, (*Server).removeMember},
	{"GET " + api.PathAccessCheck, access.PrincipalsRead, nil, oneself, (*Server).checkAccess},
	{"GET " + api.PathKeys, access.PrincipalsRead, nil, nobody, (*Server).keys},
	{"POST " + api.PathKeysRotate, access.PrincipalsManage, nil, nobody, (*Server).rotateKeys},
	{"GET " + api.PathAudit, access.AuditRead, nil, nobody, (*Server).audit},
	{"GET " + api.PathAuditExport, access.AuditRead, nil, nobody, (*Server).exportAudit},
	{"GET " + api.PathAuditVerify, access.AuditRead, nil, nobody, (*Server).verifyAudit},
	{"GET " + api.PathFederations, access.PrincipalsRead, nil, nobody, (*Server).federations},
	{"PUT " + api.PathFederations, access.PrincipalsManage, nil, nobody, (*Server).putFederation},
	{"DELETE " + api.PathFederations, access.PrincipalsManage, nil, nobody, (*Server).deleteFederation},
	{"POST " + api.PathIssuerGroups, access.PrincipalsManage, nil, nobody, (*Server).issuerGroup},
	{"POST " + api.PathFederationTest, access.PrincipalsRead, nil, nobody, (*Server).testToken},
}

// Needs lists what each kind of request needs.
func Needs() []access.Need {
	var out []access.Need
	for _, rt := range routes {
		n := access.Need{Request: rt.pattern, OnRepository: rt.scope != nil, Else: alsoText[rt.also]}
		if rt.permission != "" {
			n.AnyOf = []access.Permission{rt.permission}
		}
		out = append(out, n)
	}
	return out
}

// caller is who sent a request that the guard let through.
type caller struct {
	identity.Caller
	trace catalog.Trace // of the request
}

// by is the caller as the registry knows one.
func (c caller) by() registry.Caller {
	return registry.Caller{Name: c.Name, Access: c.Caller, Granted: c.All(), Trace: c.trace}
}

// actor is the caller as admin knows one.
func (c caller) actor(s *Server) admin.Actor {
	a := admin.Actor{Principal: c.Principal, Grants: c.Grants(), Act: c.act(s),
		May: func(p access.Permission) bool { return c.Allows(p, oci.Repository{}) }}
	if c.Fresh() {
		_, a.Secret, _ = strings.Cut(c.Credential, " ")
	}
	return a
}

// act is something that the caller does now.
func (c caller) act(s *Server) catalog.Act {
	return catalog.Act{By: c.Name, Now: s.o.Now(), Trace: c.trace}
}

// sees says which repositories lists show to the caller; nil: all of them.
func (c caller) sees() func(name string) bool {
	if c.Was(access.CatalogList, oci.Repository{}) {
		return nil
	}
	return func(name string) bool {
		repo, err := oci.ParseRepository(name)
		return err == nil && c.Was(access.RepositoryList, repo)
	}
}

// guard refuses whoever is not known or may not; only then the handler runs.
func (s *Server) guard(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := s.o.Identity.Caller(r)
		if err == nil && who.Anonymous() {
			err = identity.ErrUnauthenticated // they may pull alone, and that through the other door
		}
		if err != nil && !errors.Is(err, identity.ErrUnauthenticated) {
			if rec, ok := identity.FailedLogin(r, err); ok && errors.As(err, new(*edge.Limited)) {
				s.o.Audit.Note(rec)
			}
			s.fail(w, r, err)
			return
		}
		often := s.o.Rates.Principal(who.Name)
		if err != nil {
			often = s.o.Rates.Anonymous(edge.OriginOf(r).Addr)
		}
		if often != nil {
			s.fail(w, r, often)
			return
		}
		if err != nil {
			if rec, ok := identity.FailedLogin(r, err); ok {
				s.o.Audit.Note(rec)
			}
			s.challenge(w, r)
			return
		}
		if hint := who.Warning(s.o.Now()); hint != "" {
			w.Header().Set("Warning", "299 - "+strconv.QuoteToASCII(hint))
		}
		c := caller{who, identity.TraceOf(who.Login, r)}
		if err := s.admit(rt, r, c); err != nil {
			if errors.Is(err, &oci.Error{Code: oci.CodeDenied}) {
				s.note(c, "request", strings.TrimSpace(rt.pattern+" "+target(r)), catalog.AuditDenied, err)
			}
			s.fail(w, r, err)
			return
		}
		err = rt.handle(s, w, r, c)
		action, deed := deeds[rt.pattern]
		var said *oci.Error
		switch {
		case errors.As(err, &said) && said.Status() == http.StatusForbidden:
			// As a lock or a rule does, or that nobody gives what they do not have.
			s.note(c, "request", strings.TrimSpace(rt.pattern+" "+target(r)), catalog.AuditDenied, err)
		case deed:
			if dry, err := strconv.ParseBool(r.URL.Query().Get("dryRun")); err == nil && dry {
				action += "-dry-run"
			}
			s.note(c, action, target(r), catalog.AuditAllowed, err)
		case err != nil && said == nil && !errors.Is(err, catalog.ErrNotFound) && r.Method != http.MethodGet && r.Method != http.MethodHead && r.Context().Err() == nil:
			s.note(c, "request", strings.TrimSpace(rt.pattern+" "+target(r)), catalog.AuditFailed, errFault)
		}
		if err != nil && !errors.As(err, new(answered)) {
			s.fail(w, r, err)
		}
	})
}

// answered is an error of which the client has been told, in the midst of an answer.
type answered struct{ error }

// Unwrap implements what errors.As asks for.
func (a answered) Unwrap() error { return a.error }

// deeds are the audit log's names of what requests do that leaves no record by itself, as what
// changes the catalog does.
var deeds = map[string]string{
	"POST " + api.PathImport:     "advisories-import",
	"POST " + api.PathGC:         "gc",
	"POST " + api.PathRetention:  "retention",
	"POST " + api.PathKeysRotate: "keys-rotate",
}

// errFault stands in the records for what only the server's log tells.
var errFault = errors.New("internal error; the server's log has more under the request's id")

// note tells the audit log of a request. One that was allowed and came to nothing has failed.
func (s *Server) note(c caller, action, target, decision string, err error) {
	rec := catalog.Record{At: s.o.Now(), Actor: c.Name, ActorID: c.ID, Kind: string(c.Kind), Action: action, Target: target, Decision: decision, Address: c.trace.Address, Request: c.trace.Request}
	if err != nil {
		rec.Why = err.Error()
		if decision == catalog.AuditAllowed {
			rec.Decision = catalog.AuditFailed
		}
	}
	s.o.Audit.Note(rec)
}

// target is what a request is about, as its query says.
func target(r *http.Request) string {
	q := r.URL.Query()
	for _, name := range []string{"repository", "principal", "name", "ecosystem"} {
		if v := q.Get(name); v != "" {
			return v
		}
	}
	return ""
}

// challenge asks for credentials, or for others.
func (s *Server) challenge(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("WWW-Authenticate", `Basic realm="pratique"`)
	said := "authentication is required"
	if r.Header.Get("Authorization") != "" {
		said = "the name or the secret is wrong, or the token has run out"
	}
	writeError(w, http.StatusUnauthorized, oci.Errorf(oci.CodeUnauthorized, "%s", said))
}

// admit says why a caller who has proved who they are may not send a request. What is there and
// what is not is not asked before: both are refused alike.
func (s *Server) admit(rt route, r *http.Request, c caller) error {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil { // what cannot be read would be passed over
		return oci.Errorf(oci.CodeQueryInvalid, "the query: %.200s", err)
	}
	var repo oci.Repository
	if rt.scope != nil {
		if repo, err = rt.scope(q); err != nil {
			return oci.Errorf(oci.CodeNameInvalid, "%v", err)
		}
	}
	if rt.permission != "" && c.Allows(rt.permission, repo) {
		return nil
	}
	needs := string(rt.permission)
	switch rt.also {
	case anyone:
		return nil
	case listing:
		if c.MayList() {
			return nil
		}
		return oci.Errorf(oci.CodeDenied, "the token was not asked for with registry:catalog:*")
	case oneself:
		if r.URL.Query().Get("principal") != c.Name || c.ByToken() {
			break
		}
		if c.Fresh() || r.Method == http.MethodGet {
			return nil
		}
		needs += "; what becomes of its own secrets it may say only with one of them, not with a token"
	}
	where := ""
	if !repo.IsZero() {
		where = " on " + repo.String()
	}
	return oci.Errorf(oci.CodeDenied, "%s has not been granted %s%s", c.Name, strings.TrimSpace(needs), where)
}

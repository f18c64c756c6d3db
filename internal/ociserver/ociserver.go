// Package ociserver speaks the OCI distribution protocol (distribution-spec 1.1) under
// /v2/, with Docker's token endpoint at /v2/token, and what Azure Container Registry's
// clients ask besides: /oauth2/token, /oauth2/exchange and the attributes under /acr/v1/. It
// translates requests to calls of registry and identity, and their errors to the
// specification's codes; it holds no rules of its own beyond which permission a kind of
// request needs.
//
// # Headers of this registry
//
// The answer to a manifest's PUT, GET and HEAD has
//
//	Pratique-Decision: allow | quarantine | pending
//
// and that to a PUT, once judged, the number of findings of each severity and kind, in this
// order and always all of them:
//
//	Pratique-Findings: critical=1, high=3, medium=0, low=2, none=0, unknown=1, fixable=4, exploited=0
//
// # Bounds
//
// A manifest has at most oci.MaxManifestSize bytes (413), a list at most 1000 entries a
// page, a form at the token endpoint 64 KiB. A body that brings nothing for
// Options.BodyTimeout is given up, as is one that after twice that time came at less than
// 4 KiB/s on average. An answer must be taken at 32 KiB/s on average, after two minutes'
// grace. How many uploads are received at once is
// registry.Options.MaxTransfers, how many may be open registry.Options.MaxOpenUploads,
// how many large manifests are held at once Options.LargeManifests, how often one may ask
// Options.Rates (429). A push names at most 100 tags (414). A change of attributes has at most
// 4 KiB (413), a page of manifests with theirs 100 entries.
package ociserver

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/edge"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/registry"
)

// Options are the needs of the handler. The zero value of each has a usable meaning.
type Options struct {
	// ExternalURL is the address by which clients reach the registry, "https://HOST".
	// Empty: taken from each request's Host.
	ExternalURL string
	BodyTimeout time.Duration // default one minute
	Rates       *edge.Rates   // how often one may ask; nil: as often as they like
	// LargeManifests bounds the manifests of more than 64 KiB that are taken in, and those that are
	// given out, at the same time; beyond it clients are told to come again. Default 64.
	LargeManifests int
	Log            *slog.Logger // default: discard
	Audit          Auditor      // hears of what is refused; nil: nobody does
}

// Auditor takes in records of what is refused. It must not wait.
type Auditor interface{ Note(catalog.Record) }

type noAuditor struct{}

func (noAuditor) Note(catalog.Record) {}

type server struct {
	reg     *registry.Registry
	ident   *identity.Identity
	o       Options
	in, out places // of large manifests
}

// New returns the handler of everything under /v2/ and /acr/, and of /oauth2/token and
// /oauth2/exchange. It must get the path as the client
// sent it: a mux that cleans paths would redirect.
func New(reg *registry.Registry, ident *identity.Identity, o Options) http.Handler {
	if o.BodyTimeout <= 0 {
		o.BodyTimeout = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Audit == nil {
		o.Audit = noAuditor{}
	}
	o.ExternalURL = strings.TrimSuffix(o.ExternalURL, "/")
	if o.LargeManifests <= 0 {
		o.LargeManifests = 64
	}
	return &server{reg, ident, o, make(places, o.LargeManifests), make(places, o.LargeManifests)}
}

// kind is what sort of request it is. The zero kind is refused.
type kind int

// All kinds of requests.
const (
	kindUnknown kind = iota
	kindPing
	kindToken
	kindCatalog
	kindTags
	kindReferrers
	kindManifestGet
	kindManifestHead
	kindManifestPut
	kindManifestDelete
	kindBlobGet
	kindBlobHead
	kindBlobDelete
	kindUploadBegin
	kindUploadStatus
	kindUploadAppend
	kindUploadFinish
	kindUploadCancel
	kindExchange
	kindACRCatalog
	kindACRRepositoryGet
	kindACRRepositoryPatch
	kindACRRepositoryDelete
	kindACRTags
	kindACRTagGet
	kindACRTagPatch
	kindACRTagDelete
	kindACRManifests
	kindACRManifestGet
	kindACRManifestPatch
	kinds // how many there are
)

// rule is who may send a kind of request, and what answers it. Without any of
// permissions, public, anyone or listing, nobody may.
type rule struct {
	permissions []access.Permission // any of these; the first is what a client is told to ask for
	public      bool                // the handler proves by itself who asks
	anyone      bool                // whoever has proved who they are
	listing     bool                // who has proved who they are, with a token for lists if it is one; they are shown what they may see
	handle      func(*server, http.ResponseWriter, *http.Request, call) error
}

// rules has a rule for each kind. What is not in it is refused, which a test makes
// sure of.
var rules = [kinds]rule{
	kindPing:           {anyone: true, handle: (*server).ping},
	kindToken:          {public: true, handle: (*server).token},
	kindCatalog:        {listing: true, handle: (*server).catalog},
	kindTags:           {permissions: []access.Permission{access.RepositoryList}, handle: (*server).tags},
	kindReferrers:      {permissions: []access.Permission{access.RepositoryPull, access.RepositoryList}, handle: (*server).referrers},
	kindManifestGet:    {permissions: []access.Permission{access.RepositoryPull}, handle: (*server).manifestGet},
	kindManifestHead:   {permissions: []access.Permission{access.RepositoryPull, access.RepositoryPush}, handle: (*server).manifestHead},
	kindManifestPut:    {permissions: []access.Permission{access.RepositoryPush, access.RepositorySign}, handle: (*server).manifestPut},
	kindManifestDelete: {permissions: []access.Permission{access.RepositoryDelete}, handle: (*server).manifestDelete},
	kindBlobGet:        {permissions: []access.Permission{access.RepositoryPull}, handle: (*server).blobGet},
	kindBlobHead:       {permissions: []access.Permission{access.RepositoryPull, access.RepositoryPush}, handle: (*server).blobHead},
	kindBlobDelete:     {permissions: []access.Permission{access.RepositoryDelete}, handle: (*server).blobDelete},
	kindUploadBegin:    {permissions: []access.Permission{access.RepositoryPush, access.RepositorySign}, handle: (*server).uploadBegin},
	kindUploadStatus:   {permissions: []access.Permission{access.RepositoryPush, access.RepositorySign}, handle: (*server).uploadStatus},
	kindUploadAppend:   {permissions: []access.Permission{access.RepositoryPush, access.RepositorySign}, handle: (*server).uploadAppend},
	kindUploadFinish:   {permissions: []access.Permission{access.RepositoryPush, access.RepositorySign}, handle: (*server).uploadFinish},
	kindUploadCancel:   {permissions: []access.Permission{access.RepositoryPush, access.RepositorySign}, handle: (*server).uploadCancel},

	kindExchange:            {public: true, handle: (*server).acrExchange},
	kindACRCatalog:          {listing: true, handle: (*server).acrCatalog},
	kindACRRepositoryGet:    {permissions: []access.Permission{access.RepositoryList}, handle: (*server).acrRepository},
	kindACRRepositoryPatch:  {permissions: []access.Permission{access.RepositoryLock}, handle: (*server).acrRepositoryPatch},
	kindACRRepositoryDelete: {permissions: []access.Permission{access.RepositoryDelete}, handle: (*server).acrRepositoryDelete},
	kindACRTags:             {permissions: []access.Permission{access.RepositoryList}, handle: (*server).acrTags},
	kindACRTagGet:           {permissions: []access.Permission{access.RepositoryList}, handle: (*server).acrTag},
	kindACRTagPatch:         {permissions: []access.Permission{access.RepositoryLock}, handle: (*server).acrTagPatch},
	kindACRTagDelete:        {permissions: []access.Permission{access.RepositoryDelete}, handle: (*server).manifestDelete},
	kindACRManifests:        {permissions: []access.Permission{access.RepositoryList}, handle: (*server).acrManifests},
	kindACRManifestGet:      {permissions: []access.Permission{access.RepositoryList}, handle: (*server).acrManifest},
	kindACRManifestPatch:    {permissions: []access.Permission{access.RepositoryLock}, handle: (*server).acrManifestPatch},
}

// call is a parsed request and who sent it.
type call struct {
	target
	by registry.Caller
}

// ServeHTTP implements http.Handler. The ResponseWriter is handed on as it is: wrapped,
// it would lose io.ReaderFrom and with it the kernel's way of sending files.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	s.timed(w, r)
	t, bad := parse(r.Method, r.URL.Path)
	if _, err := url.ParseQuery(r.URL.RawQuery); err != nil && bad == nil {
		// What cannot be read would be passed over: a tag that was asked for, a digest to check.
		bad = oci.Errorf(oci.CodeQueryInvalid, "the query: %.200s", err)
	}
	by, err := s.admit(w, r, t, bad != nil)
	if err == nil && bad != nil {
		err = bad
		if len(t.allow) > 0 {
			w.Header().Set("Allow", strings.Join(t.allow, ", "))
		}
	}
	if err == nil {
		if err = rules[t.kind].handle(s, w, r, call{t, by}); err != nil {
			s.cameToNothing(r, t, by, err)
		}
	}
	if err != nil {
		s.fail(w, r, err)
	}
	bound(w, 0) // what is not sent yet is a header, or the end of a body that was bound
}

// admit says who sends the request, or why it is refused: first whether they are
// known at all, then whether they may.
func (s *server) admit(w http.ResponseWriter, r *http.Request, t target, unparsed bool) (registry.Caller, error) {
	ru := rules[t.kind]
	if !unparsed && ru.public {
		return registry.Caller{}, nil
	}
	c, err := s.ident.Caller(r)
	if err != nil && !errors.Is(err, identity.ErrUnauthenticated) {
		s.limitedLogin(r, err)
		return registry.Caller{}, err
	}
	if err != nil || c.Anonymous() {
		if err := s.o.Rates.Anonymous(edge.OriginOf(r).Addr); err != nil {
			return registry.Caller{}, err
		}
	} else if err := s.o.Rates.Principal(c.Name); err != nil {
		return registry.Caller{}, err
	}
	proved := err == nil && !c.Anonymous()
	if proved && (unparsed || ru.anyone || ru.listing && c.MayList()) {
		return callerOf(c, r), nil
	}
	if err == nil && !unparsed && s.may(r, c, t) {
		return callerOf(c, r), nil
	}
	s.refused(r, c, t, err, proved)
	switch {
	case !proved:
		s.challenge(w, r, t, err)
		return registry.Caller{}, oci.Errorf(oci.CodeUnauthorized, "authentication is required; log in to this registry first")
	case c.ByToken() && (ru.listing || ru.allowsAll(r, t, func(tag string) identity.Allower { return c.Tagged(tag).All() })):
		// A token holds only what was asked for. Who was granted more shall ask for it.
		s.challenge(w, r, t, errScope)
		return registry.Caller{}, oci.Errorf(oci.CodeUnauthorized, "the token was not asked for with this access; ask for one that has it")
	}
	what, where := "this request", "the registry"
	if len(ru.permissions) > 0 {
		what = string(ru.permissions[0])
	}
	if !t.repo.IsZero() {
		where = t.repo.String()
	}
	return registry.Caller{}, oci.Errorf(oci.CodeDenied, "%s has not been granted %s on %s", c.Name, what, where)
}

// refused tells the audit log of a request that is not admitted, unless it only has to come again with
// credentials, or with a token that holds more.
func (s *server) refused(r *http.Request, c identity.Caller, t target, err error, proved bool) {
	switch {
	case err != nil:
		s.failedLogin(r, err)
	case proved && !rules[t.kind].listing && !rules[t.kind].allowsAll(r, t, func(tag string) identity.Allower { return c.Tagged(tag).All() }):
		rec := catalog.Record{Actor: c.Name, Action: "request", Target: t.what(), Decision: catalog.AuditDenied}
		rec.Why = "it needs one of " + permissionsText(rules[t.kind].permissions)
		trace := identity.TraceOf(c.Login, r)
		rec.ActorID, rec.Kind, rec.Address, rec.Request = trace.ByID, trace.ByKind, trace.Address, trace.Request
		s.o.Audit.Note(rec)
	}
}

// changing are the kinds of requests of which is told when they fail by fault of the house.
var changing = map[kind]string{kindManifestPut: "push", kindManifestDelete: "delete", kindBlobDelete: "blob-delete",
	kindACRRepositoryDelete: "delete", kindACRTagDelete: "untag", kindACRRepositoryPatch: "lock", kindACRTagPatch: "lock", kindACRManifestPatch: "lock"}

// cameToNothing tells the audit log of what was admitted and was refused by the gate, a lock or a rule, and of a
// change that failed.
func (s *server) cameToNothing(r *http.Request, t target, by registry.Caller, err error) {
	rec := catalog.Record{Actor: by.Name, ActorID: by.ByID, Kind: by.ByKind, Action: "request", Target: t.what(), Decision: catalog.AuditDenied,
		Why: err.Error(), Address: by.Address, Request: by.Request}
	if action, ok := changing[t.kind]; ok {
		rec.Action = action
	} else if t.kind == kindManifestGet || t.kind == kindManifestHead || t.kind == kindBlobGet || t.kind == kindBlobHead {
		rec.Action = "pull"
	}
	var said *oci.Error
	switch {
	case errors.As(err, &said) && said.Status() == http.StatusForbidden && by.Name != "":
	case said == nil && changing[t.kind] != "" && r.Context().Err() == nil:
		rec.Decision, rec.Why = catalog.AuditFailed, "" // the server's log has it, under the request's id
	default:
		return
	}
	s.o.Audit.Note(rec)
}

// what is the image or blob that a request names, as records have it.
func (t target) what() string {
	switch {
	case t.ref.Tag != "":
		return t.repo.String() + ":" + t.ref.Tag
	case !t.ref.Digest.IsZero():
		return t.repo.String() + "@" + t.ref.Digest.String()
	case !t.digest.IsZero():
		return t.repo.String() + "@" + t.digest.String()
	}
	return t.repo.String()
}

// failedLogin tells the audit log of credentials that prove nobody.
func (s *server) failedLogin(r *http.Request, err error) {
	if rec, ok := identity.FailedLogin(r, err); ok {
		s.o.Audit.Note(rec)
	}
}

// limitedLogin tells the audit log of credentials that are not looked at.
func (s *server) limitedLogin(r *http.Request, err error) {
	if errors.As(err, new(*edge.Limited)) {
		s.failedLogin(r, err)
	}
}

func permissionsText(ps []access.Permission) string {
	var out []string
	for _, p := range ps {
		out = append(out, string(p))
	}
	return strings.Join(out, ", ")
}

// may says whether the caller may send the request as it stands. Who was granted to read what a mount
// is from, but has a token without it, shall ask for one that has it; who was not may upload
// the bytes instead.
func (s *server) may(r *http.Request, c identity.Caller, t target) bool {
	if !rules[t.kind].allowsAll(r, t, func(tag string) identity.Allower { return c.Tagged(tag) }) {
		return false
	}
	from := mountSource(r, t)
	return from.IsZero() || !c.ByToken() || c.Allows(access.RepositoryPull, from) || !c.Was(access.RepositoryPull, from)
}

// allowsAll says whether one of the permissions that the rule wants is there for each tag that a
// request is about; it is asked of "" where there is none.
func (ru rule) allowsAll(r *http.Request, t target, of func(tag string) identity.Allower) bool {
	tags := []string{t.ref.Tag}
	if t.kind == kindManifestPut {
		tags = append(tags, r.URL.Query()["tag"]...)
	}
	return !slices.ContainsFunc(tags, func(tag string) bool {
		a := of(tag)
		return !slices.ContainsFunc(ru.permissions, func(p access.Permission) bool { return a.Allows(p, t.repo) })
	})
}

// callerOf is what the registry hears of a caller.
func callerOf(c identity.Caller, r *http.Request) registry.Caller {
	return registry.Caller{Name: c.Name, Access: c, Granted: c.All(), Trace: identity.TraceOf(c.Login, r)}
}

// challenge tells a client where to get a token and what to ask for (RFC 6750;
// distribution, "Token Authentication Specification").
func (s *server) challenge(w http.ResponseWriter, r *http.Request, t target, why error) {
	c := `Bearer realm="` + quotable(s.base(r)+"/v2/token") + `",service="` + quotable(s.ident.Service()) + `"`
	ps := rules[t.kind].permissions
	if rules[t.kind].listing {
		ps = []access.Permission{access.CatalogList}
	}
	if len(ps) > 0 {
		scope := identity.ScopeOf(ps[0], t.repo)
		if from := mountSource(r, t); !from.IsZero() {
			scope += " " + identity.ScopeOf(access.RepositoryPull, from)
		}
		if scope != "" {
			c += `,scope="` + quotable(scope) + `"`
		}
	}
	if errors.Is(why, errScope) {
		c += `,error="insufficient_scope"`
	} else if r.Header.Get("Authorization") != "" {
		c += `,error="invalid_token"`
	}
	w.Header().Set("WWW-Authenticate", c)
}

var errScope = errors.New("insufficient_scope")

// mountSource is the repository that a request asks to mount a blob from, if it does.
func mountSource(r *http.Request, t target) oci.Repository {
	q := r.URL.Query()
	if t.kind != kindUploadBegin || !q.Has("mount") {
		return oci.Repository{}
	}
	from, err := oci.ParseRepository(q.Get("from"))
	if err != nil {
		return oci.Repository{}
	}
	return from
}

// base is the registry's address as the client knows it.
func (s *server) base(r *http.Request) string {
	if s.o.ExternalURL != "" {
		return s.o.ExternalURL
	}
	o := edge.OriginOf(r)
	u := url.URL{Scheme: o.Scheme, Host: o.Host}
	return u.String()
}

// quotable leaves out what would end a quoted-string (RFC 9110, section 5.6.4).
func quotable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '"' || r == '\\' || r < ' ' || r >= 0x7f {
			return -1
		}
		return r
	}, s)
}

// statusError is an error of the specification with another status than its code's.
type statusError struct {
	refusal *oci.Error
	status  int
}

func (e statusError) Error() string { return e.refusal.Error() }
func (e statusError) Unwrap() error { return e.refusal }

// fail answers with an error. What is not one of the specification's stays in the log.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var e *oci.Error
	var st statusError
	var often *edge.Limited
	status := http.StatusInternalServerError
	switch {
	case errors.As(err, &st):
		e, status = st.refusal, st.status
	case errors.As(err, &often):
		e, status = oci.Errorf(oci.CodeTooManyRequests, "%v", often), http.StatusTooManyRequests
		w.Header().Set("Retry-After", often.RetryAfter())
	case errors.As(err, &e):
		status = e.Status()
	case r.Context().Err() != nil:
		// The client has most likely left, whatever the error is then. But it may have closed
		// its half alone, and no answer would be a 200.
		e, status = oci.Errorf(oci.CodeUnavailable, "the request was broken off"), http.StatusServiceUnavailable
	default:
		id := edge.OriginOf(r).Request
		s.o.Log.ErrorContext(r.Context(), "request failed", "request", id, "method", r.Method, "path", r.URL.Path, "err", err)
		e = oci.Errorf(oci.CodeUnknown, "internal error; the server's log has more under request %s", id)
	}
	if often == nil && (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) {
		w.Header().Set("Retry-After", "5")
	}
	writeJSON(w, r, status, "application/json", map[string][]*oci.Error{"errors": {e}})
}

// writeJSON sends a document; to a HEAD its header alone.
func writeJSON(w http.ResponseWriter, r *http.Request, status int, contentType string, v any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	bound(w, maxDocument)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // a client that is gone cannot be told
}

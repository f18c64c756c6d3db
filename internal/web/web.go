// Package web answers browsers: it has the pages by which people sign in at an issuer of identities,
// see who they are here and what they may do, make themselves a secret, and let the command line
// in. It holds no rules of its own; identity proves who they are.
//
// A session is a token in a cookie that scripts cannot read and other sites' forms do not send; each
// form carries a token of the session besides. Nothing that a page loads comes from elsewhere.
package web

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/edge"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/oci"
)

//go:embed page
var files embed.FS

// Bounds of a request: its form in bytes, and how long it and its answer may take. A sign-in asks the
// issuer in between.
const (
	maxForm = 16 << 10
	timeout = 45 * time.Second
)

// Options are the needs of the pages. Catalog and Identity are required.
type Options struct {
	Catalog  *catalog.Catalog
	Identity *identity.Identity
	// ExternalURL is the address by which browsers reach the registry; "" takes it from each request.
	ExternalURL string
	Issuer      string // at which people sign in; "": they cannot
	Rates       *edge.Rates
	Audit       Auditor      // hears of sign-ins; nil: nobody does
	Log         *slog.Logger // default: discard
}

// Auditor takes in records. It must not wait.
type Auditor interface{ Note(catalog.Record) }

type noAuditor struct{}

func (noAuditor) Note(catalog.Record) {}

type server struct {
	o     Options
	mux   *http.ServeMux
	pages map[string]*template.Template
	style []byte
}

// Serves says whether a path is of a page that the handler of New answers.
func Serves(path string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return first == "login" || first == "logout" || first == "account"
}

// New makes the handler of all paths that Serves says.
func New(o Options) http.Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Audit == nil {
		o.Audit = noAuditor{}
	}
	o.ExternalURL = strings.TrimSuffix(o.ExternalURL, "/")
	s := &server{o: o, mux: http.NewServeMux(), pages: map[string]*template.Template{}}
	for _, name := range []string{"login", "account", "authorize", "error"} {
		// They are part of the program, so that one that cannot be read is a fault of its making.
		s.pages[name] = template.Must(template.ParseFS(files, "page/frame.html", "page/"+name+".html"))
	}
	s.style, _ = files.ReadFile("page/style.css")
	for _, r := range []struct {
		pattern string
		handle  func(http.ResponseWriter, *http.Request, visitor) error
	}{
		{"GET /login", s.login},
		{"GET /login/start", s.start},
		{"GET /login/callback", s.callback},
		{"GET /login/authorize", s.signed(s.authorize)},
		{"POST /login/authorize", s.signed(s.form(s.allow))},
		{"POST /logout", s.form(s.logout)},
		{"GET /account", s.signed(s.account)},
		{"POST /account/secret", s.signed(s.form(s.makeSecret))},
	} {
		s.mux.HandleFunc(r.pattern, func(w http.ResponseWriter, req *http.Request) { s.answer(w, req, r.handle) })
	}
	s.mux.HandleFunc("GET /login/style.css", s.stylesheet)
	return s
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	// A writer without deadlines is one of a test.
	_ = errors.Join(rc.SetReadDeadline(time.Now().Add(timeout)), rc.SetWriteDeadline(time.Now().Add(timeout)))
	h := w.Header()
	h.Set("Content-Security-Policy", policy("'self'"))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	s.mux.ServeHTTP(w, r)
}

// policy lets pages load what is from here alone, and forms go to targets alone.
func policy(targets string) string {
	return "default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; form-action " + targets
}

func (s *server) stylesheet(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "max-age=300")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.style))
}

// visitor is who sends a request. The zero Login is nobody.
type visitor struct {
	identity.Login
	session string // its token
}

// answer finds out who asks and has the request handled.
func (s *server) answer(w http.ResponseWriter, r *http.Request, handle func(http.ResponseWriter, *http.Request, visitor) error) {
	var v visitor
	if c, err := r.Cookie(s.cookieName(r, sessionCookie)); err == nil {
		l, err := s.o.Identity.Session(r.Context(), c.Value)
		switch {
		case err == nil:
			v = visitor{l, c.Value}
		case !errors.Is(err, identity.ErrUnauthenticated):
			s.fail(w, r, v, err)
			return
		}
	}
	often := s.o.Rates.Principal(v.Name)
	if v.IsZero() {
		often = s.o.Rates.Anonymous(edge.OriginOf(r).Addr)
	}
	if often == nil {
		often = handle(w, r, v)
	}
	if often != nil {
		s.fail(w, r, v, often)
	}
}

// signed sends whoever is not signed in to do so, and back then.
func (s *server) signed(handle func(http.ResponseWriter, *http.Request, visitor) error) func(http.ResponseWriter, *http.Request, visitor) error {
	return func(w http.ResponseWriter, r *http.Request, v visitor) error {
		if !v.IsZero() {
			return handle(w, r, v)
		}
		next := "/account"
		if r.Method == http.MethodGet {
			next = r.URL.RequestURI()
		}
		http.Redirect(w, r, "/login?next="+url.QueryEscape(next), http.StatusSeeOther)
		return nil
	}
}

// form refuses forms that this session was not shown.
func (s *server) form(handle func(http.ResponseWriter, *http.Request, visitor) error) func(http.ResponseWriter, *http.Request, visitor) error {
	return func(w http.ResponseWriter, r *http.Request, v visitor) error {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			return refusal{http.StatusBadRequest, "The form cannot be read."}
		}
		if !identity.IsFormToken(r.PostForm.Get("form"), v.session) {
			return refusal{http.StatusForbidden, "The form was not made for this session. Go back, load the page again, and send it once more."}
		}
		return handle(w, r, v)
	}
}

// refusal is an error with its status, for people to read.
type refusal struct {
	status int
	said   string
}

// Error implements error.
func (f refusal) Error() string { return f.said }

// note tells the audit log of a sign-in.
func (s *server) note(r *http.Request, l identity.Login, decision, why string) {
	t := identity.TraceOf(l, r)
	s.o.Audit.Note(catalog.Record{Actor: l.Name, ActorID: l.ID, Kind: string(l.Kind), Action: "sign-in", Decision: decision, Why: why, Address: t.Address, Request: t.Request})
}

// fail answers with an error. What is not meant for people stays in the log.
func (s *server) fail(w http.ResponseWriter, r *http.Request, v visitor, err error) {
	var f refusal
	var e *oci.Error
	var often *edge.Limited
	switch {
	case errors.As(err, &f):
	case errors.As(err, &often):
		w.Header().Set("Retry-After", often.RetryAfter())
		f = refusal{http.StatusTooManyRequests, "Too many requests: try again in " + often.RetryAfter() + " s."}
	case errors.As(err, &e):
		f = refusal{e.Status(), strings.ToUpper(e.Message[:1]) + e.Message[1:] + "."} // the program's own words, in ASCII
	case errors.Is(err, identity.ErrUnauthenticated):
		s.o.Log.InfoContext(r.Context(), "sign-in refused", "address", edge.OriginOf(r).Addr, "err", err)
		s.note(r, v.Login, catalog.AuditDenied, "the sign-in was not completed, or took too long, or was used before")
		f = refusal{http.StatusUnauthorized, "The sign-in was not completed, or took too long, or was used before. Begin again."}
	case r.Context().Err() != nil:
		f = refusal{http.StatusServiceUnavailable, "The request was broken off."}
	default:
		id := edge.OriginOf(r).Request
		s.o.Log.ErrorContext(r.Context(), "page failed", "request", id, "method", r.Method, "path", r.URL.Path, "err", err)
		f = refusal{http.StatusInternalServerError, "This is a fault of the registry; its log has more under request " + id + "."}
	}
	s.show(w, r, v, f.status, "error", page{Title: "That did not work", Said: f.said})
}

// page is what the templates show.
type page struct {
	Title, Host, User, Form    string
	Notes                      []string
	Issuer, Next, Said         string
	Redirect, State, Challenge string
	Groups                     []string
	Grants                     []grant
	Days                       []int
	Secret                     *secret
}

type grant struct{ Role, Description, Where, Via, Condition string }

type secret struct{ Text, Ends string }

// show writes a page.
func (s *server) show(w http.ResponseWriter, r *http.Request, v visitor, status int, name string, p page) {
	p.Host, p.User = s.base(r).Host, v.Name
	if v.session != "" {
		p.Form = identity.FormToken(v.session)
	}
	var b bytes.Buffer
	if err := s.pages[name].ExecuteTemplate(&b, "frame", p); err != nil {
		s.o.Log.ErrorContext(r.Context(), "page not made", "page", name, "err", err)
		http.Error(w, "internal error; the server's log has more", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a client that is gone cannot be told
}

// base is the registry's address as the browser knows it.
func (s *server) base(r *http.Request) *url.URL {
	if u, err := url.Parse(s.o.ExternalURL); err == nil && u.Host != "" {
		return &url.URL{Scheme: u.Scheme, Host: u.Host}
	}
	o := edge.OriginOf(r)
	return &url.URL{Scheme: o.Scheme, Host: o.Host}
}

// Cookies. Behind https their names tell the browser to take them from this host alone (RFC 6265bis,
// section 4.1.3.2).
const (
	sessionCookie = "pratique-session"
	signInCookie  = "pratique-signin"
)

func (s *server) cookieName(r *http.Request, name string) string {
	if s.base(r).Scheme == "https" {
		return "__Host-" + name
	}
	return name
}

// setCookie has the browser keep a value; "" makes it forget.
func (s *server) setCookie(w http.ResponseWriter, r *http.Request, name, value string, age time.Duration) {
	c := &http.Cookie{Name: s.cookieName(r, name), Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: s.base(r).Scheme == "https", MaxAge: int(age.Seconds())}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// groups returns the names of who is signed in's groups.
func (s *server) groups(ctx context.Context, v visitor) ([]string, error) {
	return s.o.Catalog.Groups(ctx, v.ID)
}

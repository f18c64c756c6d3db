package web

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/identity"
)

// signInAge is how long the browser keeps what a sign-in began with.
const signInAge = 15 * time.Minute

// maxNext bounds the address that somebody wanted to go to.
const maxNext = 1024

// next is where somebody wants to go once they are signed in: to a page of ours, and nowhere else.
func next(r *http.Request) string {
	to := r.URL.Query().Get("next")
	if len(to) > maxNext || to != "/account" && !strings.HasPrefix(to, "/login/authorize?") {
		return "/account"
	}
	return to
}

func (s *server) login(w http.ResponseWriter, r *http.Request, v visitor) error {
	if !v.IsZero() {
		http.Redirect(w, r, next(r), http.StatusSeeOther)
		return nil
	}
	p := page{Title: "Sign in", Issuer: s.o.Issuer, Next: next(r)}
	if r.URL.Query().Has("out") {
		p.Notes = []string{"You are signed out here. At the issuer you may still be signed in."}
	}
	s.show(w, r, v, http.StatusOK, "login", p)
	return nil
}

// start sends the browser to the issuer.
func (s *server) start(w http.ResponseWriter, r *http.Request, _ visitor) error {
	to, kept, err := s.o.Identity.BeginSignIn(r.Context(), s.base(r).String()+"/login/callback", next(r))
	if err != nil {
		return err
	}
	s.setCookie(w, r, signInCookie, kept, signInAge)
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// callback takes the browser back from the issuer (RFC 6749, section 4.1.2).
func (s *server) callback(w http.ResponseWriter, r *http.Request, _ visitor) error {
	q := r.URL.Query()
	c, err := r.Cookie(s.cookieName(r, signInCookie))
	if err != nil {
		return refusal{http.StatusBadRequest, "This browser has not begun to sign in here, or took too long. Begin again."}
	}
	s.setCookie(w, r, signInCookie, "", 0)
	if e := q.Get("error"); e != "" {
		s.o.Log.InfoContext(r.Context(), "the issuer refused a sign-in", "error", clip(e, 80), "description", clip(q.Get("error_description"), 200))
		s.note(r, identity.Login{}, catalog.AuditDenied, "the issuer refused: "+clip(e, 80))
		return refusal{http.StatusForbidden, "The issuer did not sign you in (" + clip(e, 80) + ")."}
	}
	in, err := s.o.Identity.EndSignIn(r.Context(), c.Value, q.Get("state"), q.Get("code"))
	if err != nil {
		return err
	}
	t, err := s.o.Identity.IssueSession(r.Context(), in.Login)
	if err != nil {
		return err
	}
	s.setCookie(w, r, sessionCookie, t.Text, identity.SessionLifetime)
	s.note(r, in.Login, catalog.AuditAllowed, "")
	if in.Warning != "" {
		// Shown at once: the next page does not know of it any more.
		v := visitor{in.Login, t.Text}
		return s.showAccount(w, r, v, page{Notes: []string{"Your groups are not known: " + in.Warning + "."}})
	}
	http.Redirect(w, r, cmp.Or(in.Next, "/account"), http.StatusSeeOther)
	return nil
}

func clip(s string, n int) string { return s[:min(len(s), n)] }

func (s *server) logout(w http.ResponseWriter, r *http.Request, v visitor) error {
	if err := s.o.Identity.EndSession(r.Context(), v.session); err != nil {
		return err
	}
	s.setCookie(w, r, sessionCookie, "", 0)
	http.Redirect(w, r, "/login?out", http.StatusSeeOther)
	return nil
}

func (s *server) account(w http.ResponseWriter, r *http.Request, v visitor) error {
	return s.showAccount(w, r, v, page{})
}

func (s *server) showAccount(w http.ResponseWriter, r *http.Request, v visitor, p page) (err error) {
	if p.Groups, err = s.groups(r.Context(), v); err != nil {
		return err
	}
	granted, err := s.o.Identity.Grants(r.Context(), v.Login)
	if err != nil {
		return err
	}
	for _, a := range granted.Assigned() {
		g := grant{Role: a.Role.Name, Description: a.Role.Description, Where: cmp.Or(a.Scope.Pattern, "the whole registry"), Via: cmp.Or(a.Via, "yourself")}
		if a.Condition != nil {
			g.Condition = a.Condition.String()
		}
		p.Grants = append(p.Grants, g)
	}
	p.Title, p.Days = "Account", identity.OwnSecrets
	s.show(w, r, v, http.StatusOK, "account", p)
	return nil
}

func (s *server) makeSecret(w http.ResponseWriter, r *http.Request, v visitor) error {
	days, err := strconv.Atoi(r.PostForm.Get("days"))
	if err != nil {
		return refusal{http.StatusBadRequest, "Choose how long the secret shall hold."}
	}
	text, ends, err := s.o.Identity.MakeOwnSecret(r.Context(), v.Login, days, identity.TraceOf(v.Login, r))
	if errors.Is(err, catalog.ErrTooMany) {
		return refusal{http.StatusConflict, "You have two secrets that an administrator made. One of them has to be deleted first: pratique secret list " + v.Name}
	}
	if err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "own secret made", "user", v.Name, "ends", ends)
	return s.showAccount(w, r, v, page{Secret: &secret{text, ends.UTC().Format("2 January 2006, 15:04 MST")}})
}

// authorize asks whether a program on the user's machine shall be let in.
func (s *server) authorize(w http.ResponseWriter, r *http.Request, v visitor) error {
	q := r.URL.Query()
	if q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("state") == "" {
		return refusal{http.StatusBadRequest, "The program asks in a way that is not understood; is it as new as this registry?"}
	}
	to := q.Get("redirect_uri")
	if err := identity.CheckLoopback(to); err != nil {
		return refusal{http.StatusBadRequest, "The program is not on this computer, so that nothing is sent to it."}
	}
	s.mayGoTo(w, to)
	s.show(w, r, v, http.StatusOK, "authorize", page{Title: "Let the command line in?", Redirect: to, State: q.Get("state"), Challenge: q.Get("code_challenge")})
	return nil
}

// mayGoTo lets the page's form lead to a program's address: browsers hold redirects to it as well.
func (s *server) mayGoTo(w http.ResponseWriter, address string) {
	if u, err := url.Parse(address); err == nil {
		w.Header().Set("Content-Security-Policy", policy("'self' "+u.Scheme+"://"+u.Host))
	}
}

// allow sends the program a code.
func (s *server) allow(w http.ResponseWriter, r *http.Request, v visitor) error {
	to := r.PostForm.Get("redirect_uri")
	code, err := s.o.Identity.IssueCode(r.Context(), v.Login, r.PostForm.Get("code_challenge"), to)
	if err != nil {
		return refusal{http.StatusBadRequest, "The program asks in a way that is not understood."}
	}
	u, err := url.Parse(to)
	if err != nil {
		return err
	}
	q := u.Query()
	q.Set("code", code)
	q.Set("state", r.PostForm.Get("state"))
	u.RawQuery = q.Encode()
	http.Redirect(w, r, u.String(), http.StatusSeeOther)
	return nil
}

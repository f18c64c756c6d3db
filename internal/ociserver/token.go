package ociserver

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/oci"
)

// maxForm bounds the body of a POST to the token endpoint, in bytes.
const maxForm = 64 << 10

// tokenAnswer is what both forms of the token endpoint answer with (distribution, "Token
// Authentication Specification" and "OAuth2 Token Authentication").
type tokenAnswer struct {
	Token       string    `json:"token"`
	AccessToken string    `json:"access_token"`
	TokenType   string    `json:"token_type"`
	Scope       string    `json:"scope,omitempty"`
	ExpiresIn   int       `json:"expires_in"`
	IssuedAt    time.Time `json:"issued_at"`
}

// token gives a token for a name and secret: by GET with Basic credentials, or by POST
// with the OAuth2 grant "password". Nothing is given to nobody.
func (s *server) token(w http.ResponseWriter, r *http.Request, _ call) error {
	w.Header().Set("Cache-Control", "no-store")
	p, scopes, err := s.tokenAsker(w, r)
	if errors.Is(err, identity.ErrUnauthenticated) {
		w.Header().Set("WWW-Authenticate", `Basic realm="pratique", charset="UTF-8"`)
		return oci.Errorf(oci.CodeUnauthorized, "the name or the secret is wrong")
	}
	if err != nil {
		return err
	}
	asked, err := identity.ParseScopes(scopes)
	if err != nil {
		return statusError{oci.Errorf(oci.CodeUnsupported, "%v", err), http.StatusBadRequest}
	}
	t, err := s.ident.Issue(r.Context(), p, asked)
	if err != nil {
		return err
	}
	writeJSON(w, r, http.StatusOK, "application/json", tokenAnswer{Token: t.Text, AccessToken: t.Text, TokenType: "Bearer",
		Scope: scopeText(t.Granted), ExpiresIn: int(t.Expires.Sub(t.Issued).Seconds()), IssuedAt: t.Issued.UTC()})
	return nil
}

// tokenAsker says who asks for a token, and for which scopes.
func (s *server) tokenAsker(w http.ResponseWriter, r *http.Request) (p access.Principal, scopes []string, err error) {
	name, secret, basic := r.BasicAuth()
	if r.Method == http.MethodGet {
		scopes = r.URL.Query()["scope"]
	} else {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			return access.Principal{}, nil, statusError{oci.Errorf(oci.CodeUnsupported, "the form cannot be read, or has more than %d bytes", maxForm), http.StatusBadRequest}
		}
		scopes = r.PostForm["scope"]
		if g := r.PostForm.Get("grant_type"); g != "password" {
			return access.Principal{}, nil, statusError{oci.Errorf(oci.CodeUnsupported, "grant_type %.40q is not supported; use password", g), http.StatusBadRequest}
		}
		if !basic {
			name, secret, basic = r.PostForm.Get("username"), r.PostForm.Get("password"), true
		}
	}
	if !basic {
		return access.Principal{}, nil, identity.ErrUnauthenticated
	}
	p, err = s.prove(r, name, secret)
	if err == nil {
		err = s.o.Rates.Principal(p.Name)
	}
	return p, scopes, err
}

// scopeText writes what a token holds as scopes are written.
func scopeText(granted []identity.Access) string {
	var out []string
	for _, a := range granted {
		out = append(out, a.Type+":"+a.Name+":"+strings.Join(a.Actions, ","))
	}
	return strings.Join(out, " ")
}

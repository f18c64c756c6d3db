package ociserver

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/edge"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/oci"
)

// maxForm bounds the body of a POST to the token endpoint, in bytes.
const maxForm = 64 << 10

// tokenAnswer is what both forms of the token endpoint answer with (distribution, "Token
// Authentication Specification" and "OAuth2 Token Authentication").
type tokenAnswer struct {
	Token        string    `json:"token"`
	AccessToken  string    `json:"access_token"`
	TokenType    string    `json:"token_type"`
	Scope        string    `json:"scope,omitempty"`
	ExpiresIn    int       `json:"expires_in"`
	IssuedAt     time.Time `json:"issued_at"`
	RefreshToken string    `json:"refresh_token,omitempty"`
	IssuedType   string    `json:"issued_token_type,omitempty"` // of a token exchange (RFC 8693, section 2.2.1)
}

// The grant of RFC 8693, and the types of tokens that it knows here.
const (
	grantExchange   = "urn:ietf:params:oauth:grant-type:token-exchange"
	typeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
)

var subjectTypes = []string{"", "urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token", typeAccessToken}

// tokenRequest is what the token endpoint is asked.
type tokenRequest struct {
	login   identity.Login
	scopes  []string
	offline bool   // a refresh token is wanted too
	refresh string // that the request came with, and that it is answered with again
	issued  string // the type that a token exchange is answered with
}

// token gives an access token for credentials: by GET with Basic ones, or by POST with one of
// the OAuth2 grants password, refresh_token, client_credentials, authorization_code and
// token-exchange. Without credentials it gives what the anonymous have been granted, if that is anything.
func (s *server) token(w http.ResponseWriter, r *http.Request, _ call) error {
	w.Header().Set("Cache-Control", "no-store")
	q, err := s.tokenAsked(w, r)
	if errors.Is(err, identity.ErrUnauthenticated) {
		s.failedLogin(r, err)
		return wrongCredentials(w)
	}
	if err != nil {
		if q.login.IsZero() { // else it is the rate of who proved who they are
			s.limitedLogin(r, err)
		}
		return err
	}
	asked, err := identity.ParseScopes(q.scopes)
	if err != nil {
		return statusError{oci.Errorf(oci.CodeUnsupported, "%v", err), http.StatusBadRequest}
	}
	t, err := s.ident.Issue(r.Context(), q.login, access.Request{Address: edge.OriginOf(r).Addr, Time: time.Now()}, asked)
	if q.login.Kind == access.KindAnonymous && (err != nil && errors.Is(err, identity.ErrUnauthenticated) || err == nil && len(t.Granted) == 0) {
		return wrongCredentials(w)
	}
	if errors.Is(err, identity.ErrUnauthenticated) {
		return wrongCredentials(w)
	}
	if err != nil {
		return err
	}
	answer := tokenAnswer{Token: t.Text, AccessToken: t.Text, TokenType: "Bearer", Scope: scopeText(t.Granted),
		ExpiresIn: int(t.Expires.Sub(t.Issued).Seconds()), IssuedAt: t.Issued.UTC(), RefreshToken: q.refresh, IssuedType: q.issued}
	if q.offline && q.refresh == "" && q.login.Kind != access.KindAnonymous {
		fresh, err := s.ident.IssueRefresh(r.Context(), q.login)
		if err != nil {
			return err
		}
		answer.RefreshToken = fresh.Text
	}
	if hint := q.login.Warning(time.Now()); hint != "" {
		warn(w.Header(), []string{hint})
	}
	writeJSON(w, r, http.StatusOK, "application/json", answer)
	return nil
}

func wrongCredentials(w http.ResponseWriter) error {
	w.Header().Set("WWW-Authenticate", `Basic realm="pratique", charset="UTF-8"`)
	return oci.Errorf(oci.CodeUnauthorized, "the name or the secret is wrong, or has run out")
}

// tokenAsked says who asks for a token, and for what.
func (s *server) tokenAsked(w http.ResponseWriter, r *http.Request) (tokenRequest, error) {
	var q tokenRequest
	var err error
	if r.Method == http.MethodGet {
		query := r.URL.Query()
		q.scopes, q.offline = query["scope"], query.Get("offline_token") == "true"
		q.login, err = s.basic(r)
	} else {
		q, err = s.tokenForm(w, r)
	}
	if err == nil && q.login.Kind == access.KindAnonymous {
		return q, s.o.Rates.Anonymous(edge.OriginOf(r).Addr)
	}
	if err == nil {
		err = s.o.Rates.Principal(q.login.Name)
	}
	return q, err
}

// basic is who a request proves by Basic credentials; the anonymous, without any.
func (s *server) basic(r *http.Request) (identity.Login, error) {
	if r.Header.Get("Authorization") == "" {
		return identity.Login{Principal: access.Anonymous}, nil
	}
	name, secret, ok := r.BasicAuth()
	if !ok {
		return identity.Login{}, identity.ErrUnauthenticated
	}
	return s.ident.Authenticate(r.Context(), name, secret, edge.OriginOf(r).Addr)
}

// tokenForm reads a POST to the token endpoint.
func (s *server) tokenForm(w http.ResponseWriter, r *http.Request) (tokenRequest, error) {
	form, err := readForm(w, r)
	if err != nil {
		return tokenRequest{}, err
	}
	q := tokenRequest{scopes: form["scope"], offline: form.Get("access_type") == "offline"}
	ctx, from := r.Context(), edge.OriginOf(r).Addr
	switch grant := form.Get("grant_type"); grant {
	case "password":
		if r.Header.Get("Authorization") != "" {
			q.login, err = s.basic(r)
			break
		}
		if form.Get("username") == "" && form.Get("password") == "" {
			q.login = identity.Login{Principal: access.Anonymous} // as Azure's clients ask without credentials
			break
		}
		q.login, err = s.ident.Authenticate(ctx, form.Get("username"), form.Get("password"), from)
	case "refresh_token":
		q.refresh = form.Get("refresh_token")
		q.login, err = s.ident.Authenticate(ctx, identity.RefreshUser, q.refresh, from)
	case "client_credentials":
		q.login, err = s.clientCredentials(r, form)
	case "authorization_code":
		q.offline = true
		q.login, err = s.ident.RedeemCode(ctx, form.Get("code"), form.Get("code_verifier"), form.Get("redirect_uri"), from)
	case grantExchange:
		q.offline, q.issued = true, typeAccessToken
		q.login, err = s.exchange(r, form)
	default:
		return q, statusError{oci.Errorf(oci.CodeUnsupported, "grant_type %.80q is not supported; use password, refresh_token, client_credentials, authorization_code or %s", grant, grantExchange), http.StatusBadRequest}
	}
	return q, err
}

// clientCredentials is who proves themselves by a signed JWT (RFC 7523, section 2.2), or by a
// name and secret (RFC 6749, section 4.4).
func (s *server) clientCredentials(r *http.Request, form url.Values) (identity.Login, error) {
	from := edge.OriginOf(r).Addr
	if t := form.Get("client_assertion_type"); t != "" {
		if t != identity.AssertionType {
			return identity.Login{}, statusError{oci.Errorf(oci.CodeUnsupported, "client_assertion_type %.80q is not supported; use %s", t, identity.AssertionType), http.StatusBadRequest}
		}
		return s.ident.Asserted(r.Context(), form.Get("client_assertion"), []string{s.ident.Service(), s.base(r), s.base(r) + "/v2/token"}, from)
	}
	if r.Header.Get("Authorization") != "" {
		return s.basic(r)
	}
	return s.ident.Authenticate(r.Context(), form.Get("client_id"), form.Get("client_secret"), from)
}

// exchange is whom an issuer's token proves (RFC 8693, section 2.1).
func (s *server) exchange(r *http.Request, form url.Values) (identity.Login, error) {
	if t := form.Get("subject_token_type"); !slices.Contains(subjectTypes, t) {
		return identity.Login{}, statusError{oci.Errorf(oci.CodeUnsupported, "subject_token_type %.80q is not supported; use %s", t, strings.Join(subjectTypes[1:], ", ")), http.StatusBadRequest}
	}
	if form.Has("actor_token") {
		return identity.Login{}, statusError{oci.Errorf(oci.CodeUnsupported, "actor_token is not supported: nobody acts for another here"), http.StatusBadRequest}
	}
	return s.ident.Exchange(r.Context(), form.Get("subject_token"), edge.OriginOf(r).Addr)
}

func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return nil, statusError{oci.Errorf(oci.CodeUnsupported, "the form cannot be read, or has more than %d bytes", maxForm), http.StatusBadRequest}
	}
	return r.PostForm, nil
}

// scopeText writes what a token holds as scopes are written.
func scopeText(granted []identity.Access) string {
	var out []string
	for _, a := range granted {
		out = append(out, a.Type+":"+a.Name+":"+strings.Join(a.Actions, ","))
	}
	return strings.Join(out, " ")
}

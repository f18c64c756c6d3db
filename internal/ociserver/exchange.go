package ociserver

import (
	"errors"
	"net/http"
	"time"

	"pratique.dev/pratique/internal/edge"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/oci"
)

// acrExchange gives a refresh token for an access token of Entra ID, or of whatever issuer is
// trusted (Azure Container Registry, "Authentication": POST /oauth2/exchange). service and
// tenant say nothing that the token does not prove.
func (s *server) acrExchange(w http.ResponseWriter, r *http.Request, _ call) error {
	w.Header().Set("Cache-Control", "no-store")
	form, err := readForm(w, r)
	if err != nil {
		return err
	}
	token := form.Get("access_token")
	switch grant := form.Get("grant_type"); {
	case grant == "refresh_token":
		return badRequest("grant_type refresh_token is not supported here: a refresh token of Entra ID proves nothing without Entra ID; send an access token with grant_type access_token")
	case grant != "access_token" && grant != "access_token_refresh_token":
		return badRequest("grant_type %.40q is not supported; use access_token", grant)
	case token == "":
		return badRequest("access_token is missing")
	}
	l, err := s.ident.Exchange(r.Context(), token, edge.OriginOf(r).Addr)
	if errors.Is(err, identity.ErrUnauthenticated) {
		s.failedLogin(r, err)
		return oci.Errorf(oci.CodeUnauthorized, "the access token proves nobody who may log in here: it has run out, is for another audience, or no federation trusts it")
	}
	if err != nil {
		return err
	}
	if err := s.o.Rates.Principal(l.Name); err != nil {
		return err
	}
	t, err := s.ident.IssueRefresh(r.Context(), l)
	if errors.Is(err, identity.ErrUnauthenticated) {
		return oci.Errorf(oci.CodeUnauthorized, "the access token proves nobody who may log in here")
	}
	if err != nil {
		return err
	}
	if hint := l.Warning(time.Now()); hint != "" {
		warn(w.Header(), []string{hint})
	}
	writeJSON(w, r, http.StatusOK, "application/json", struct {
		RefreshToken string `json:"refresh_token"`
	}{t.Text})
	return nil
}

// badRequest is a refusal of what the client sent.
func badRequest(format string, args ...any) error {
	return statusError{oci.Errorf(oci.CodeUnsupported, format, args...), http.StatusBadRequest}
}

package identity

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// Defaults of Entra.
const (
	DefaultEntraAuthority = "https://login.microsoftonline.com"
	DefaultEntraAudience  = "https://containerregistry.azure.net"
)

// entraV1 is the issuer of version 1.0 tokens in Azure's public cloud.
const entraV1 = "https://sts.windows.net/"

// entraAtOnce bounds how many secrets are asked Entra ID about at the same time.
const entraAtOnce = 16

// Entra says which Entra ID tenant's service principals may log in by name and secret.
type Entra struct {
	Tenant    string // its ID, a GUID; "": nobody
	Authority string // default DefaultEntraAuthority; of a sovereign cloud another
	Audience  string // of the tokens that a secret is checked by; default DefaultEntraAudience
}

// Check refuses what cannot be a tenant.
func (e Entra) Check() error {
	if e.Tenant == "" {
		return nil
	}
	if !isGUID(e.Tenant) {
		return fmt.Errorf("tenant %.60q: expected its ID, as in 72f988bf-86f1-41af-91ab-2d7cd011db47; a name could come to be another's", e.Tenant)
	}
	return CheckIssuer(e.authority())
}

func (e Entra) authority() string {
	return strings.TrimSuffix(cmp.Or(e.Authority, DefaultEntraAuthority), "/")
}

// Issuers are the tenant's, of tokens of version 2.0 and 1.0.
func (e Entra) issuers() []string {
	return []string{e.authority() + "/" + e.Tenant + "/v2.0", e.authority() + "/" + e.Tenant + "/", entraV1 + e.Tenant + "/"}
}

// isGUID says whether s has the form of RFC 9562, section 4.
func isGUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for n, c := range []byte(s) {
		hyphen := n == 8 || n == 13 || n == 18 || n == 23
		if hyphen != (c == '-') || !hyphen && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
			return false
		}
	}
	return true
}

// isEntras says whether a name is for Entra ID to prove: the ID of an application that no principal
// of ours is called by, unless that is known to be Entra ID's.
func (i *Identity) isEntras(ctx context.Context, name string) (bool, error) {
	if i.o.Entra.Tenant == "" || !isGUID(name) || name == RefreshUser {
		return false, nil
	}
	p, err := i.cat.PrincipalByName(ctx, name)
	if errors.Is(err, catalog.ErrNotFound) {
		return true, nil
	}
	return err == nil && slices.ContainsFunc(i.o.Entra.issuers(), func(issuer string) bool { return p.External == issuer+" "+name }), err
}

// proveByEntra checks an application's secret at Entra ID and remembers, for a minute at most, or
// forgets, what came of it.
func (i *Identity) proveByEntra(ctx context.Context, key, name, secret string, version int64) (Login, error) {
	begun := i.o.Now()
	l, err := i.checkByEntra(ctx, name, secret)
	switch {
	case err == nil:
		until := begun.Add(rememberSecret)
		i.secrets.put(key, proven{l, version, until}, begun, until)
	case errors.Is(err, ErrUnauthenticated):
		i.secrets.forget(key)
	}
	return l, err
}

// checkByEntra returns the principal of the federation that takes the token which Entra ID gives for
// an application's ID and secret.
func (i *Identity) checkByEntra(ctx context.Context, name, secret string) (Login, error) {
	select {
	case i.entra <- struct{}{}:
		defer func() { <-i.entra }()
	default:
		return Login{}, ErrBusy
	}
	token, err := i.askEntra(ctx, name, secret)
	if err != nil {
		return Login{}, err
	}
	x, err := i.examine(ctx, "", token)
	if err != nil {
		return Login{}, err
	}
	e := i.o.Entra
	app, _ := x.Claims["azp"].(string) // of version 2.0
	if app == "" {
		app, _ = x.Claims["appid"].(string)
	}
	tenant, _ := x.Claims["tid"].(string)
	audience := cmp.Or(e.Audience, DefaultEntraAudience)
	switch {
	case !slices.Contains(e.issuers(), x.Issuer):
		return Login{}, unproven("the token that Entra ID gave is of %.200q", x.Issuer)
	case !strings.EqualFold(tenant, e.Tenant):
		return Login{}, unproven("the token that Entra ID gave is of tenant %.60q", tenant)
	case !strings.EqualFold(app, name):
		return Login{}, unproven("the token that Entra ID gave is of application %.60q", app)
	case !slices.Contains(x.Audience, audience) && !slices.Contains(x.Audience, strings.TrimPrefix(audience, "api://")):
		return Login{}, unproven("the token that Entra ID gave is for %.200q", x.Audience)
	case x.Chosen < 0:
		return Login{}, unproven("no federation takes the token that Entra ID gave: %s", x.reasons())
	}
	claims, err := carried(x.Claims)
	f := x.Federations[x.Chosen]
	return Login{Principal: f.Owner.Principal, Credential: "federation " + f.Name, Claims: claims}, err
}

// entraDenies are the errors (RFC 6749, section 5.2) by which Entra ID says that the application or
// its secret is wrong. Every other is no answer to that question.
var entraDenies = []string{"invalid_client", "unauthorized_client", "invalid_grant", "access_denied"}

// askEntra asks for a token by the client-credentials flow (RFC 6749, section 4.4). ErrUnauthenticated
// if the secret is wrong, an *oci.Error if it cannot be told.
func (i *Identity) askEntra(ctx context.Context, name, secret string) (string, error) {
	e := i.o.Entra
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {name}, "client_secret": {secret},
		"scope": {cmp.Or(e.Audience, DefaultEntraAudience) + "/.default"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.authority()+"/"+e.Tenant+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	status, answer, err := i.tokenAnswer(req)
	switch {
	case err == nil && status == http.StatusOK && answer.Access != "":
		return answer.Access, nil
	case err == nil && (status == http.StatusBadRequest || status == http.StatusUnauthorized) && slices.Contains(entraDenies, answer.Error):
		return "", unproven("Entra ID says %s: %.200s", answer.Error, answer.Description)
	}
	i.o.Log.WarnContext(ctx, "Entra ID does not say whether a secret is right", "authority", e.authority(), "status", status,
		"error", answer.Error, "description", fmt.Sprintf("%.200s", answer.Description), "err", err)
	return "", oci.Errorf(oci.CodeUnavailable, "the authority %s does not say whether the secret is right; nobody can log in by an Entra ID secret until it does, and the server's log has more", e.authority())
}

// oauthAnswer is that of a token endpoint (RFC 6749, sections 5.1 and 5.2).
type oauthAnswer struct {
	Access      string `json:"access_token"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// tokenAnswer sends a request to a token endpoint.
func (i *Identity) tokenAnswer(req *http.Request) (status int, a oauthAnswer, err error) {
	req.Header.Set("Accept", "application/json")
	resp, err := i.issuers.client.Do(req)
	if err != nil {
		return 0, a, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, a, err
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return resp.StatusCode, oauthAnswer{}, fmt.Errorf("its answer cannot be read: %w", err)
	}
	return resp.StatusCode, a, nil
}

package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// PathToken is Docker's token endpoint, and PathAuthorize the page by which a program asks whoever
// sits at the browser to be let in.
const (
	PathToken     = "/v2/token"
	PathAuthorize = "/login/authorize"
)

// Ticket is what a login gave: a refresh token, which stands in the place of a secret.
type Ticket struct {
	Token   string
	Name    string // of the principal
	Expires time.Time
}

// LoginByToken exchanges an issuer's token (RFC 8693).
func (c *Client) LoginByToken(ctx context.Context, token string) (Ticket, error) {
	return c.login(ctx, url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {token},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"}})
}

// LoginByCode redeems a code that PathAuthorize sent to redirect.
func (c *Client) LoginByCode(ctx context.Context, code, verifier, redirect string) (Ticket, error) {
	return c.login(ctx, url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier}, "redirect_uri": {redirect}})
}

// CheckSecret says whether a name and secret are right, by their being answered with a token.
func (c *Client) CheckSecret(ctx context.Context, name, secret string) (Ticket, error) {
	return c.login(ctx, url.Values{"grant_type": {"password"}, "username": {name}, "password": {secret}, "access_type": {"offline"}})
}

func (c *Client) login(ctx context.Context, form url.Values) (Ticket, error) {
	form.Set("client_id", "pratique")
	form.Set("service", "pratique")
	req, err := c.request(ctx, http.MethodPost, PathToken, nil, strings.NewReader(form.Encode()))
	if err != nil {
		return Ticket{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.do(req)
	if err != nil {
		return Ticket{}, err
	}
	defer resp.Body.Close()
	var answer struct {
		Refresh string `json:"refresh_token"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil || answer.Refresh == "" {
		return Ticket{}, fmt.Errorf("%s%s: the answer has no refresh token; is it a Pratique registry? (%v)", c.base, PathToken, err)
	}
	return readTicket(answer.Refresh)
}

// readTicket reads from a refresh token whose it is and how long it holds. Nothing is verified: it came from the
// registry that it is for.
func readTicket(token string) (Ticket, error) {
	t := Ticket{Token: token}
	parts := strings.Split(token, ".")
	var claims struct {
		Name    string `json:"name"`
		Expires int64  `json:"exp"`
	}
	if len(parts) == 3 {
		if raw, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil && json.Unmarshal(raw, &claims) == nil && claims.Expires > 0 {
			t.Name, t.Expires = claims.Name, time.Unix(claims.Expires, 0).UTC()
			return t, nil
		}
	}
	return t, fmt.Errorf("the refresh token does not say how long it holds; is it a Pratique registry?")
}

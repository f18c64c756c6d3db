package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Paths of federations.
const (
	PathFederations    = "/api/v1/federations"        // GET ?name= -> FederationList, PUT a NewFederation -> Federation, DELETE ?name=
	PathFederationTest = "/api/v1/federations/test"   // POST a TokenTest -> TokenTested
	PathIssuerGroups   = "/api/v1/federations/groups" // POST an IssuerGroup -> the same
)

// Federation says whose tokens prove a principal.
type Federation struct {
	Name      string    `json:"name"`
	Principal string    `json:"principal"` // its name
	Issuer    string    `json:"issuer"`
	Audience  string    `json:"audience"`
	Rule      string    `json:"rule"` // in CEL over claims
	Once      bool      `json:"once"` // a token counts one time only
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"createdBy"`
}

// NewFederation is what is set up. With a role, the principal is made, a workload that has that role.
type NewFederation struct {
	Name      string `json:"name"`
	Principal string `json:"principal,omitempty"` // default the federation's name
	Issuer    string `json:"issuer"`
	Audience  string `json:"audience"`
	Rule      string `json:"rule"`
	Once      bool   `json:"once,omitempty"`
	Role      string `json:"role,omitempty"`
	Scope     string `json:"scope,omitempty"` // of the role; "": the whole registry
}

// IssuerGroup is a group to be made, of those whom an issuer says are in one of its own when they sign in
// with a browser.
type IssuerGroup struct {
	Name   string `json:"name"`
	Issuer string `json:"issuer"`
	Group  string `json:"group"` // what the issuer calls it
	Role   string `json:"role,omitempty"`
	Scope  string `json:"scope,omitempty"`
}

// FederationList is all federations, or one.
type FederationList struct {
	Federations []Federation `json:"federations"`
}

// TokenTest asks what would come of a token.
type TokenTest struct {
	Token string `json:"token"`
}

// TokenTested says what would come of a token: of its issuer's federations the first that takes it is
// chosen. It does not use the token up.
type TokenTested struct {
	Issuer    string         `json:"issuer,omitempty"`
	Subject   string         `json:"subject,omitempty"`
	Audience  []string       `json:"audience,omitempty"`
	Expires   time.Time      `json:"expires,omitzero"`
	Claims    map[string]any `json:"claims,omitempty"`
	Chosen    string         `json:"chosen,omitempty"`    // name of the federation; "": it proves nobody
	Principal string         `json:"principal,omitempty"` // that it proves
	Why       string         `json:"why,omitempty"`       // it does not come to be looked at by federations
	Tries     []TokenTry     `json:"tries,omitempty"`
}

// TokenTry is what one federation says to a token.
type TokenTry struct {
	Federation string `json:"federation"`
	Principal  string `json:"principal"`
	Takes      bool   `json:"takes"`
	Why        string `json:"why,omitempty"` // it does not
}

// Federations fetches all federations, or the one of a name.
func (c *Client) Federations(ctx context.Context, name string) ([]Federation, error) {
	q := url.Values{}
	if name != "" {
		q.Set("name", name)
	}
	var l FederationList
	err := c.get(ctx, PathFederations, q, &l)
	return l.Federations, err
}

// PutFederation sets a federation up, in place of the one of its name.
func (c *Client) PutFederation(ctx context.Context, f NewFederation) (Federation, error) {
	var out Federation
	err := c.send(ctx, http.MethodPut, PathFederations, nil, f, &out)
	return out, err
}

// DeleteFederation takes a federation away: what was got by it holds no more.
func (c *Client) DeleteFederation(ctx context.Context, name string) error {
	return c.send(ctx, http.MethodDelete, PathFederations, url.Values{"name": {name}}, nil, nil)
}

// MakeIssuerGroup makes a group of an issuer's.
func (c *Client) MakeIssuerGroup(ctx context.Context, g IssuerGroup) error {
	return c.send(ctx, http.MethodPost, PathIssuerGroups, nil, g, nil)
}

// TestToken asks what would come of a token.
func (c *Client) TestToken(ctx context.Context, token string) (TokenTested, error) {
	var out TokenTested
	err := c.send(ctx, http.MethodPost, PathFederationTest, nil, TokenTest{token}, &out)
	return out, err
}

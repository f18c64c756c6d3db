package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"pratique.dev/pratique/internal/access"
)

// Paths of who may do what. Names are query parameters, since they may hold slashes.
const (
	PathWhoami           = "/api/v1/whoami"             // GET -> Self
	PathPrincipals       = "/api/v1/principals"         // GET ?kind=&prefix=&after=&limit= -> PrincipalList; POST NewPrincipal -> PrincipalMade; DELETE ?principal=
	PathPrincipal        = "/api/v1/principals/show"    // GET ?principal= -> PrincipalDetail
	PathPrincipalEnable  = "/api/v1/principals/enable"  // POST ?principal=
	PathPrincipalDisable = "/api/v1/principals/disable" // POST ?principal=
	PathPrincipalMap     = "/api/v1/principals/map"     // POST ?principal=&scopeMap=
	PathSecrets          = "/api/v1/secrets"            // GET ?principal= -> SecretList; POST ?principal=, NewSecret -> SecretMade; DELETE ?principal=&id=
	PathSecretExpire     = "/api/v1/secrets/expire"     // POST ?principal=&id=&at= -> Secret
	PathRoles            = "/api/v1/roles"              // GET -> RoleList; PUT NewRole; DELETE ?role=
	PathAssignments      = "/api/v1/assignments"        // GET ?principal=&role=&after=&limit= -> AssignmentList; POST NewAssignment -> Assignment; DELETE ?principal=&role=&scope=
	PathScopeMaps        = "/api/v1/scope-maps"         // GET -> ScopeMapList; PUT NewScopeMap; DELETE ?scopeMap=
	PathMembers          = "/api/v1/members"            // GET ?group= -> Members; POST, DELETE ?group=&member=
	PathAccessCheck      = "/api/v1/access/check"       // GET ?principal=&permission=&repository=&tag=&address=&at= -> Check
	PathKeys             = "/api/v1/keys"               // GET -> KeyList
	PathKeysRotate       = "/api/v1/keys/rotate"        // POST -> KeyList
	PathJWKS             = "/.well-known/jwks.json"     // GET, by anybody
)

// Principal is someone who can be given something.
type Principal struct {
	Name        string      `json:"name"`
	Kind        access.Kind `json:"kind"`
	ID          string      `json:"id"`
	Description string      `json:"description,omitempty"`
	ScopeMap    string      `json:"scopeMap,omitempty"` // of a repository token
	External    string      `json:"external,omitempty"` // "ISSUER SUBJECT", of one that an issuer of identities knows
	Created     time.Time   `json:"created,omitzero"`
	CreatedBy   string      `json:"createdBy,omitempty"`
	Disabled    time.Time   `json:"disabled,omitzero"` // since when; absent: it is not
}

// PrincipalList is a page of principals in the order of their names.
type PrincipalList struct {
	Principals []Principal `json:"principals"`
	Next       string      `json:"next,omitempty"` // if not empty, the after of the next page
}

// PrincipalDetail is a principal with what it has.
type PrincipalDetail struct {
	Principal
	Groups  []string `json:"groups"`
	Secrets []Secret `json:"secrets"`
	Given   []Given  `json:"given"`
}

// Given is something that a principal may do, and how it came by it.
type Given struct {
	Role        string              `json:"role"`
	Permissions []access.Permission `json:"permissions"`
	Scope       string              `json:"scope"` // "/" for the whole registry
	Condition   string              `json:"condition,omitempty"`
	Via         string              `json:"via,omitempty"` // "group NAME" or "scope map NAME"
}

// NewPrincipal is a principal to be made.
type NewPrincipal struct {
	Name        string         `json:"name"`
	Kind        access.Kind    `json:"kind"`
	Description string         `json:"description,omitempty"`
	ScopeMap    string         `json:"scopeMap,omitempty"`
	NoSecret    bool           `json:"noSecret,omitempty"`
	Secret      *NewSecret     `json:"secret,omitempty"` // of the first secret; its key and rotation do not count
	Assign      *NewAssignment `json:"assign,omitempty"` // its first role; its principal does not count
}

// PrincipalMade is a principal that was made, with its secret, shown this once.
type PrincipalMade struct {
	Principal
	Secret *SecretMade `json:"secret,omitempty"`
}

// Secret is what is known of a secret or a key: never the secret.
type Secret struct {
	ID        string          `json:"id"`
	Kind      string          `json:"kind"` // secret or key
	Name      string          `json:"name,omitempty"`
	Created   time.Time       `json:"created"`
	CreatedBy string          `json:"createdBy,omitempty"`
	Expires   time.Time       `json:"expires,omitzero"` // absent: it does not end
	Ended     bool            `json:"ended,omitempty"`
	Key       json.RawMessage `json:"key,omitempty"` // the public key, a JWK
}

// SecretList is what a principal proves itself with.
type SecretList struct {
	Secrets []Secret `json:"secrets"`
}

// NewSecret is a secret to be made, or a public key to be kept.
type NewSecret struct {
	Name    string          `json:"name,omitempty"`
	Expires time.Time       `json:"expires,omitzero"` // absent: as is usual for the kind of principal
	Forever bool            `json:"forever,omitempty"`
	Key     json.RawMessage `json:"key,omitempty"` // a JWK (RFC 7517); absent: a secret is made
	// Rotate has the secret that there has been end after GraceSeconds.
	Rotate       bool  `json:"rotate,omitempty"`
	GraceSeconds int64 `json:"graceSeconds,omitempty"`
}

// SecretMade is a new secret. Text is in no other answer.
type SecretMade struct {
	Secret
	Text     string  `json:"secret,omitempty"` // absent where a key was kept
	Replaced *Secret `json:"replaced,omitempty"`
}

// RoleList is all roles: those that are built in, and behind them those that were made here.
type RoleList struct {
	Roles []access.Role `json:"roles"`
}

// NewRole is a role to be made.
type NewRole struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Permissions []string `json:"permissions"`       // ours, or Azure's actions
	Replace     bool     `json:"replace,omitempty"` // in place of the one of that name
}

// Assignment is a role that a principal has.
type Assignment struct {
	Principal string `json:"principal"` // its name
	Role      string `json:"role"`
	Scope     string `json:"scope"` // "/" for the whole registry
	Condition string `json:"condition,omitempty"`
}

// NewAssignment is an assignment to be made.
type NewAssignment = Assignment

// AssignmentList is a page of assignments.
type AssignmentList struct {
	Assignments []Assignment `json:"assignments"`
	Next        string       `json:"next,omitempty"` // if not empty, the after of the next page
}

// ScopeMapList is all scope maps.
type ScopeMapList struct {
	ScopeMaps []access.ScopeMap `json:"scopeMaps"`
}

// NewScopeMap is a scope map to be made.
type NewScopeMap struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Actions     []string `json:"actions"` // as in team/app:content/read, or repositories/team/app/content/read
	Replace     bool     `json:"replace,omitempty"`
}

// Members are the names of a group's members.
type Members struct {
	Group   string   `json:"group"`
	Members []string `json:"members"`
}

// Self is what a registry says to whoever asks who they are.
type Self struct {
	Principal
	// Credential is what the request was proved by: "secret ID", "key ID", "federation NAME" or "oidc".
	Credential string    `json:"credential,omitempty"`
	Ends       time.Time `json:"ends,omitzero"` // of the credential
	Groups     []string  `json:"groups"`
	Given      []Given   `json:"given"`
	Address    string    `json:"address,omitempty"` // where the request comes from
}

// Check is whether something may be done, and why.
type Check struct {
	access.Explanation
	Principal  string            `json:"principal"`
	Permission access.Permission `json:"permission"`
	Repository string            `json:"repository,omitempty"`
	Disabled   bool              `json:"disabled,omitempty"` // the principal is, and may nothing
}

// Question asks for a Check.
type Question struct {
	Principal, Permission string
	Repository, Tag       string
	Address               netip.Addr // zero: unknown, or the own one
	At                    time.Time  // zero: now
}

// Key is a public key by which the registry's tokens can be verified.
type Key struct {
	ID        string          `json:"id"`
	Algorithm string          `json:"algorithm"`
	Public    json.RawMessage `json:"public"` // a JWK
}

// KeyList is the keys, that which signs or will soon first.
type KeyList struct {
	Keys []Key `json:"keys"`
}

// Whoami says who the client is for the registry.
func (c *Client) Whoami(ctx context.Context) (s Self, err error) {
	err = c.get(ctx, PathWhoami, nil, &s)
	return s, err
}

// Principals fetches a page of principals.
func (c *Client) Principals(ctx context.Context, kind access.Kind, prefix, after string, limit int) (l PrincipalList, err error) {
	err = c.get(ctx, PathPrincipals, url.Values{"kind": {string(kind)}, "prefix": {prefix}, "after": {after}, "limit": {strconv.Itoa(limit)}}, &l)
	return l, err
}

// Principal fetches a principal with what it has.
func (c *Client) Principal(ctx context.Context, name string) (p PrincipalDetail, err error) {
	err = c.get(ctx, PathPrincipal, url.Values{"principal": {name}}, &p)
	return p, err
}

// CreatePrincipal makes a principal.
func (c *Client) CreatePrincipal(ctx context.Context, n NewPrincipal) (m PrincipalMade, err error) {
	err = c.send(ctx, http.MethodPost, PathPrincipals, nil, n, &m)
	return m, err
}

// EnablePrincipal lets a principal log in again, DisablePrincipal lets it no more.
func (c *Client) EnablePrincipal(ctx context.Context, name string) error {
	return c.send(ctx, http.MethodPost, PathPrincipalEnable, url.Values{"principal": {name}}, nil, nil)
}

// DisablePrincipal has a principal prove nothing until it is enabled again.
func (c *Client) DisablePrincipal(ctx context.Context, name string) error {
	return c.send(ctx, http.MethodPost, PathPrincipalDisable, url.Values{"principal": {name}}, nil, nil)
}

// SetScopeMap gives a repository token another scope map.
func (c *Client) SetScopeMap(ctx context.Context, name, scopeMap string) error {
	return c.send(ctx, http.MethodPost, PathPrincipalMap, url.Values{"principal": {name}, "scopeMap": {scopeMap}}, nil, nil)
}

// DeletePrincipal forgets a principal with all that it has.
func (c *Client) DeletePrincipal(ctx context.Context, name string) error {
	return c.send(ctx, http.MethodDelete, PathPrincipals, url.Values{"principal": {name}}, nil, nil)
}

// Secrets fetches what is known of a principal's secrets.
func (c *Client) Secrets(ctx context.Context, principal string) (l SecretList, err error) {
	err = c.get(ctx, PathSecrets, url.Values{"principal": {principal}}, &l)
	return l, err
}

// AddSecret makes a secret.
func (c *Client) AddSecret(ctx context.Context, principal string, n NewSecret) (m SecretMade, err error) {
	err = c.send(ctx, http.MethodPost, PathSecrets, url.Values{"principal": {principal}}, n, &m)
	return m, err
}

// ExpireSecret sets when a secret ends; the zero time ends it now.
func (c *Client) ExpireSecret(ctx context.Context, principal, id string, at time.Time) (s Secret, err error) {
	q := url.Values{"principal": {principal}, "id": {id}}
	if !at.IsZero() {
		q.Set("at", at.UTC().Format(time.RFC3339))
	}
	err = c.send(ctx, http.MethodPost, PathSecretExpire, q, nil, &s)
	return s, err
}

// DeleteSecret forgets a secret.
func (c *Client) DeleteSecret(ctx context.Context, principal, id string) error {
	return c.send(ctx, http.MethodDelete, PathSecrets, url.Values{"principal": {principal}, "id": {id}}, nil, nil)
}

// Roles fetches all roles.
func (c *Client) Roles(ctx context.Context) (l RoleList, err error) {
	err = c.get(ctx, PathRoles, nil, &l)
	return l, err
}

// PutRole makes a role.
func (c *Client) PutRole(ctx context.Context, n NewRole) (r access.Role, err error) {
	err = c.send(ctx, http.MethodPut, PathRoles, nil, n, &r)
	return r, err
}

// DeleteRole forgets a role.
func (c *Client) DeleteRole(ctx context.Context, name string) error {
	return c.send(ctx, http.MethodDelete, PathRoles, url.Values{"role": {name}}, nil, nil)
}

// Assignments fetches a page of assignments, of one principal or role where they are named.
func (c *Client) Assignments(ctx context.Context, principal, role, after string, limit int) (l AssignmentList, err error) {
	err = c.get(ctx, PathAssignments, url.Values{"principal": {principal}, "role": {role}, "after": {after}, "limit": {strconv.Itoa(limit)}}, &l)
	return l, err
}

// Assign gives a principal a role.
func (c *Client) Assign(ctx context.Context, n NewAssignment) (a Assignment, err error) {
	err = c.send(ctx, http.MethodPost, PathAssignments, nil, n, &a)
	return a, err
}

// Unassign takes a role back.
func (c *Client) Unassign(ctx context.Context, principal, role, scope string) error {
	return c.send(ctx, http.MethodDelete, PathAssignments, url.Values{"principal": {principal}, "role": {role}, "scope": {scope}}, nil, nil)
}

// ScopeMaps fetches all scope maps.
func (c *Client) ScopeMaps(ctx context.Context) (l ScopeMapList, err error) {
	err = c.get(ctx, PathScopeMaps, nil, &l)
	return l, err
}

// PutScopeMap makes a scope map.
func (c *Client) PutScopeMap(ctx context.Context, n NewScopeMap) (m access.ScopeMap, err error) {
	err = c.send(ctx, http.MethodPut, PathScopeMaps, nil, n, &m)
	return m, err
}

// DeleteScopeMap forgets a scope map.
func (c *Client) DeleteScopeMap(ctx context.Context, name string) error {
	return c.send(ctx, http.MethodDelete, PathScopeMaps, url.Values{"scopeMap": {name}}, nil, nil)
}

// Members fetches who is in a group.
func (c *Client) Members(ctx context.Context, group string) (m Members, err error) {
	err = c.get(ctx, PathMembers, url.Values{"group": {group}}, &m)
	return m, err
}

// AddMember makes a principal a member of a group.
func (c *Client) AddMember(ctx context.Context, group, member string) error {
	return c.send(ctx, http.MethodPost, PathMembers, url.Values{"group": {group}, "member": {member}}, nil, nil)
}

// RemoveMember takes a principal out of a group.
func (c *Client) RemoveMember(ctx context.Context, group, member string) error {
	return c.send(ctx, http.MethodDelete, PathMembers, url.Values{"group": {group}, "member": {member}}, nil, nil)
}

// CheckAccess asks whether something may be done.
func (c *Client) CheckAccess(ctx context.Context, q Question) (out Check, err error) {
	v := url.Values{"principal": {q.Principal}, "permission": {q.Permission}}
	for key, text := range map[string]string{"repository": q.Repository, "tag": q.Tag} {
		if text != "" {
			v.Set(key, text)
		}
	}
	if q.Address.IsValid() {
		v.Set("address", q.Address.String())
	}
	if !q.At.IsZero() {
		v.Set("at", q.At.UTC().Format(time.RFC3339))
	}
	err = c.get(ctx, PathAccessCheck, v, &out)
	return out, err
}

// Keys fetches the keys by which the registry's tokens can be verified.
func (c *Client) Keys(ctx context.Context) (l KeyList, err error) {
	err = c.get(ctx, PathKeys, nil, &l)
	return l, err
}

// RotateKeys has a new key sign.
func (c *Client) RotateKeys(ctx context.Context) (l KeyList, err error) {
	err = c.send(ctx, http.MethodPost, PathKeysRotate, nil, nil, &l)
	return l, err
}

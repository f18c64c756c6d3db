// Package access says who may do what: principals, roles, permissions and the scopes
// they are given for. Allows is the one question it answers; proving who asks is
// identity's, and remembering who was given what is the catalog's.
package access

import (
	"path"
	"slices"
	"strings"

	"pratique.dev/pratique/internal/oci"
)

// Kind is what sort of principal asks.
type Kind string

// The kinds of principals.
const (
	KindUser    Kind = "user"
	KindService Kind = "service"
)

// Principal is someone who has proved who they are. The zero Principal is nobody.
type Principal struct {
	ID   string `json:"id"`
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
}

// IsZero says whether p is nobody.
func (p Principal) IsZero() bool { return p.ID == "" }

// Permission is one kind of thing that can be done. The empty Permission is granted to nobody.
type Permission string

// All permissions. A request kind that has none of these is refused.
const (
	RepositoryPull    Permission = "repository.pull"   // read content that the gate lets through
	RepositoryPush    Permission = "repository.push"   // write content and tags
	RepositoryDelete  Permission = "repository.delete" // delete tags, manifests, blobs
	RepositoryList    Permission = "repository.list"   // see names, tags and verdicts
	QuarantinePull    Permission = "quarantine.pull"   // read content that the gate holds back
	CatalogList       Permission = "catalog.list"      // list repositories
	AdvisoriesRead    Permission = "advisories.read"
	AdvisoriesWrite   Permission = "advisories.write"
	PolicyRead        Permission = "policy.read"
	PolicyWrite       Permission = "policy.write"
	PrincipalsManage  Permission = "principals.manage"
	RegistryConfigure Permission = "registry.configure"
)

// Permissions lists every Permission there is.
var Permissions = []Permission{RepositoryPull, RepositoryPush, RepositoryDelete, RepositoryList, QuarantinePull,
	CatalogList, AdvisoriesRead, AdvisoriesWrite, PolicyRead, PolicyWrite, PrincipalsManage, RegistryConfigure}

// Role is a named set of permissions.
type Role struct {
	Name        string
	Permissions []Permission
}

// Administrator may do everything but pull what is held back: not even the
// administrator runs a quarantined image by accident.
var Administrator = Role{Name: "Administrator", Permissions: slices.DeleteFunc(slices.Clone(Permissions),
	func(p Permission) bool { return p == QuarantinePull })}

// Scope is where an assignment holds: the whole registry (zero value), one
// repository ("team/app"), or the repositories that a pattern matches ("team/*",
// where * stands for any text, slashes included).
type Scope struct{ Pattern string }

// Covers says whether the scope holds for repo. The zero Repository stands for the
// registry as a whole, which only the registry's scope covers.
func (s Scope) Covers(repo oci.Repository) bool {
	switch {
	case s.Pattern == "":
		return true
	case repo.IsZero():
		return false
	}
	if !strings.ContainsRune(s.Pattern, '*') {
		return s.Pattern == repo.String()
	}
	// path.Match's * stops at slashes; a scope's does not.
	ok, err := path.Match(strings.ReplaceAll(s.Pattern, "/", "\x00"), strings.ReplaceAll(repo.String(), "/", "\x00"))
	return err == nil && ok
}

// Assignment gives a principal a role within a scope.
type Assignment struct {
	Principal string // Principal.ID
	Role      Role
	Scope     Scope
}

// Grants is all that one principal was given. The zero Grants allows nothing.
type Grants struct{ assigned []Assignment }

// NewGrants collects assignments of one principal.
func NewGrants(assigned ...Assignment) Grants { return Grants{assigned} }

// Allows says whether p may be done to repo; the zero Repository stands for the
// registry as a whole.
func (g Grants) Allows(p Permission, repo oci.Repository) bool {
	if p == "" {
		return false
	}
	for _, a := range g.assigned {
		if a.Scope.Covers(repo) && slices.Contains(a.Role.Permissions, p) {
			return true
		}
	}
	return false
}

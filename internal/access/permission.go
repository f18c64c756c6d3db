package access

import (
	"fmt"
	"slices"
	"strings"
)

// Permission is one kind of thing that can be done. The empty Permission is granted to nobody.
type Permission string

// All permissions. A request kind that has none of these is refused.
const (
	RepositoryPull    Permission = "repository.pull"   // read content that the gate lets through
	RepositoryPush    Permission = "repository.push"   // write content and tags
	RepositoryDelete  Permission = "repository.delete" // delete tags, manifests, blobs
	RepositorySign    Permission = "repository.sign"   // write signatures of what is there, nothing else
	RepositoryList    Permission = "repository.list"   // see names, tags, verdicts and other metadata
	RepositoryLock    Permission = "repository.lock"   // change metadata: locks
	QuarantinePull    Permission = "quarantine.pull"   // read content that the gate holds back
	QuarantineWrite   Permission = "quarantine.write"  // let through what the gate holds back
	CatalogList       Permission = "catalog.list"      // list repositories
	AdvisoriesRead    Permission = "advisories.read"
	AdvisoriesWrite   Permission = "advisories.write"
	PolicyRead        Permission = "policy.read" // the registry's rules
	PolicyWrite       Permission = "policy.write"
	PrincipalsRead    Permission = "principals.read"   // principals, what they have and what they may do
	PrincipalsManage  Permission = "principals.manage" // make, change and delete principals and their secrets
	RolesManage       Permission = "roles.manage"      // make roles and scope maps, and assign them
	AuditRead         Permission = "audit.read"
	RegistryConfigure Permission = "registry.configure" // collections, retention
)

// Permissions lists every Permission there is.
var Permissions = []Permission{RepositoryPull, RepositoryPush, RepositoryDelete, RepositorySign, RepositoryList, RepositoryLock,
	QuarantinePull, QuarantineWrite, CatalogList, AdvisoriesRead, AdvisoriesWrite, PolicyRead, PolicyWrite,
	PrincipalsRead, PrincipalsManage, RolesManage, AuditRead, RegistryConfigure}

// azureActions are the actions of Azure Container Registry's scope maps and tokens, and the
// permissions that they stand for ("Token-based repository permissions in Azure Container
// Registry").
var azureActions = map[string]Permission{
	"content/read":   RepositoryPull,
	"content/write":  RepositoryPush,
	"content/delete": RepositoryDelete,
	"metadata/read":  RepositoryList,
	"metadata/write": RepositoryLock,
	"catalog/read":   CatalogList,
}

// ParsePermission reads a Permission, or the name that Azure Container Registry has for it.
func ParsePermission(s string) (Permission, error) {
	if p := Permission(s); slices.Contains(Permissions, p) {
		return p, nil
	}
	if p, ok := azureActions[strings.ToLower(s)]; ok {
		return p, nil
	}
	return "", fmt.Errorf("permission %.60q: expected one of %s, or Azure's content/read, content/write, content/delete, metadata/read, metadata/write", s, joined(Permissions))
}

// ParsePermissions reads a list. The result has each once.
func ParsePermissions(list []string) ([]Permission, error) {
	var out []Permission
	for _, s := range list {
		p, err := ParsePermission(strings.TrimSpace(s))
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no permissions: expected at least one")
	}
	return out, nil
}

// OfRegistry says whether a permission is for the registry as a whole, so that to grant it
// for some repositories grants nothing.
func (p Permission) OfRegistry() bool {
	switch p {
	case CatalogList, AdvisoriesRead, AdvisoriesWrite, PolicyRead, PolicyWrite, PrincipalsRead, PrincipalsManage,
		RolesManage, AuditRead, RegistryConfigure:
		return true
	}
	return false
}

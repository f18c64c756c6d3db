package access

import "slices"

// Role is a named set of permissions.
type Role struct {
	Name        string       `json:"name"`
	Permissions []Permission `json:"permissions"`
	Description string       `json:"description,omitempty"`
	BuiltIn     bool         `json:"builtIn,omitempty"`
}

// Owner may do everything but pull what is held back: not even the owner runs a
// quarantined image by accident.
var Owner = Role{Name: "Owner", BuiltIn: true, Description: "everything but to pull what is quarantined",
	Permissions: without(Permissions, QuarantinePull)}

// BuiltIn lists the roles that are there from the start. Those that Azure Container Registry
// has too bear its names and mean the same ("Azure Container Registry roles and permissions").
var BuiltIn = []Role{
	builtIn("AcrPull", "pull what the gate lets through", RepositoryPull, RepositoryList),
	builtIn("AcrPush", "push and pull", RepositoryPull, RepositoryPush, RepositoryList),
	builtIn("AcrDelete", "delete tags, manifests and blobs", RepositoryDelete, RepositoryList),
	builtIn("AcrImageSigner", "push signatures of images", RepositorySign, RepositoryPull, RepositoryList),
	builtIn("AcrQuarantineReader", "pull what is quarantined", QuarantinePull, RepositoryPull, RepositoryList),
	builtIn("AcrQuarantineWriter", "pull what is quarantined, and let it through", QuarantinePull, QuarantineWrite, RepositoryPull, RepositoryList),
	builtIn("Container Registry Repository Reader", "read content and metadata", RepositoryPull, RepositoryList),
	builtIn("Container Registry Repository Writer", "read and write content and metadata", RepositoryPull, RepositoryPush, RepositoryList, RepositoryLock),
	builtIn("Container Registry Repository Contributor", "read, write and delete content and metadata",
		RepositoryPull, RepositoryPush, RepositoryDelete, RepositoryList, RepositoryLock),
	builtIn("Container Registry Repository Catalog Lister", "list all repositories", CatalogList),
	builtIn("Reader", "pull, and see all but principals and the audit log", RepositoryPull, RepositoryList, CatalogList, AdvisoriesRead, PolicyRead),
	builtIn("Contributor", "everything but principals, roles, audit, signing and quarantine",
		without(Permissions, RepositorySign, QuarantinePull, QuarantineWrite, PrincipalsRead, PrincipalsManage, RolesManage, AuditRead)...),
	builtIn("Auditor", "see everything, change and pull nothing", RepositoryList, CatalogList, AdvisoriesRead, PolicyRead, PrincipalsRead, AuditRead),
	Owner,
}

// formerOwner is what Owner was called in the first release.
const formerOwner = "Administrator"

// BuiltInRole returns the built-in role of a name.
func BuiltInRole(name string) (Role, bool) {
	if name == formerOwner {
		return Owner, true
	}
	i := slices.IndexFunc(BuiltIn, func(r Role) bool { return r.Name == name })
	if i < 0 {
		return Role{}, false
	}
	return BuiltIn[i], true
}

func builtIn(name, description string, permissions ...Permission) Role {
	return Role{Name: name, Permissions: permissions, Description: description, BuiltIn: true}
}

func without(all []Permission, left ...Permission) []Permission {
	return slices.DeleteFunc(slices.Clone(all), func(p Permission) bool { return slices.Contains(left, p) })
}

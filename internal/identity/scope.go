package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/oci"
)

// ErrScope says that a scope cannot be understood.
var ErrScope = errors.New("invalid scope")

// maxScopes bounds the resources that one token is asked for.
const maxScopes = 64

// Access is what may be done to one resource, in the form of the "access" claim of
// Docker's tokens (distribution, "Token Authentication Implementation").
type Access struct {
	Type    string   `json:"type"` // "repository" or "registry"
	Name    string   `json:"name"` // of the repository, or "catalog"
	Actions []string `json:"actions"`
}

// The resource types.
const (
	typeRepository = "repository"
	typeRegistry   = "registry"
	nameCatalog    = "catalog"
)

// The actions in tokens and what they stand for. Docker's clients know pull, push,
// delete and *, Azure's metadata_read and metadata_write. Those that clients need not know
// of come with what they ask for, where they are granted.
var repositoryActions = []struct {
	action     string
	permission access.Permission
	askedBy    []string
}{
	{"pull", access.RepositoryPull, []string{"pull", "*"}},
	{"push", access.RepositoryPush, []string{"push", "*"}},
	{"delete", access.RepositoryDelete, []string{"delete", "*"}},
	{"metadata_read", access.RepositoryList, []string{"metadata_read", "pull", "*"}},
	{"metadata_write", access.RepositoryLock, []string{"metadata_write", "*"}},
	{"sign", access.RepositorySign, []string{"sign", "push", "*"}},
	{"quarantine", access.QuarantinePull, []string{"quarantine", "pull", "*"}},
}

// ParseScopes reads the values of "scope" parameters, each of which may hold several
// scopes divided by spaces (distribution, "Token Scope Documentation":
// type[(class)]:name:action[,action]). Resources of unknown types are left out, as they
// are of no use here. The error wraps ErrScope.
func ParseScopes(params []string) ([]Access, error) {
	var out []Access
	for _, p := range params {
		for s := range strings.FieldsSeq(p) {
			a, ok, err := parseScope(s)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			if out = append(out, a); len(out) > maxScopes {
				return nil, fmt.Errorf("%w: more than %d resources", ErrScope, maxScopes)
			}
		}
	}
	return out, nil
}

// parseScope cuts at the first and the last colon: a name may hold a host with a port.
func parseScope(s string) (a Access, ok bool, err error) {
	typ, rest, ok1 := strings.Cut(s, ":")
	i := strings.LastIndexByte(rest, ':')
	if !ok1 || i < 0 {
		return Access{}, false, fmt.Errorf("%w %.300q: expected TYPE:NAME:ACTION[,ACTION], as in repository:team/app:pull", ErrScope, s)
	}
	typ, _, _ = strings.Cut(typ, "(") // repository(plugin)
	a = Access{Type: typ, Name: rest[:i]}
	for action := range strings.SplitSeq(rest[i+1:], ",") {
		if action != "" && !slices.Contains(a.Actions, action) && len(a.Actions) < 16 {
			a.Actions = append(a.Actions, action)
		}
	}
	switch {
	case typ == typeRepository:
		if _, err := oci.ParseRepository(a.Name); err != nil {
			return Access{}, false, fmt.Errorf("%w %.300q: %w", ErrScope, s, err)
		}
		return a, true, nil
	case typ == typeRegistry && a.Name == nameCatalog:
		return a, true, nil
	}
	return Access{}, false, nil
}

// ScopeOf is the scope by which a client asks for a permission; "" if no token can
// give it.
func ScopeOf(p access.Permission, repo oci.Repository) string {
	if p == access.CatalogList {
		return "registry:catalog:*"
	}
	if repo.IsZero() {
		return ""
	}
	switch p {
	case access.RepositoryPush, access.RepositorySign:
		return "repository:" + repo.String() + ":pull,push"
	case access.RepositoryList:
		return "repository:" + repo.String() + ":pull"
	}
	for _, a := range repositoryActions {
		if a.permission == p {
			return "repository:" + repo.String() + ":" + a.action
		}
	}
	return ""
}

// Allower says whether something may be done: access.Grants, or what a token holds.
type Allower interface {
	Allows(p access.Permission, repo oci.Repository) bool
}

// grant leaves of what was asked what is granted.
func grant(asked []Access, g Allower) []Access {
	out := []Access{}
	for _, a := range asked {
		actions := []string{}
		if a.Type == typeRegistry {
			// Everyone may ask for a list, which shows them what they may see.
			if a.Name == nameCatalog && slices.Contains(a.Actions, "*") {
				actions = append(actions, "*")
			}
		} else if repo, err := oci.ParseRepository(a.Name); err == nil {
			for _, r := range repositoryActions {
				asks := func(action string) bool { return slices.Contains(r.askedBy, action) }
				if slices.ContainsFunc(a.Actions, asks) && g.Allows(r.permission, repo) {
					actions = append(actions, r.action)
				}
			}
		}
		if len(actions) > 0 {
			out = append(out, Access{a.Type, a.Name, actions})
		}
	}
	return out
}

// Granted is what a verified token holds.
type Granted []Access

// Allows implements Allower. What a token does not name, it does not give.
func (g Granted) Allows(p access.Permission, repo oci.Repository) bool {
	if p == "" {
		return false
	}
	if p == access.CatalogList {
		return slices.ContainsFunc(g, func(a Access) bool {
			return a.Type == typeRegistry && a.Name == nameCatalog && slices.Contains(a.Actions, "*")
		})
	}
	if repo.IsZero() {
		return false
	}
	for _, r := range repositoryActions {
		if r.permission != p {
			continue
		}
		for _, a := range g {
			if a.Type == typeRepository && a.Name == repo.String() && slices.Contains(a.Actions, r.action) {
				return true
			}
		}
	}
	return false
}

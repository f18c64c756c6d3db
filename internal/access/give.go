package access

import (
	"fmt"
	"slices"

	"pratique.dev/pratique/internal/oci"
)

// Contains says whether a scope covers all that other covers.
func (s Scope) Contains(other Scope) bool {
	switch {
	case s.Pattern == "":
		return true
	case other.Pattern == "":
		return false
	}
	// A * of the other pattern is matched by a * of this one alone, which then takes whatever
	// stands in its place.
	return matches(s.Pattern, other.Pattern)
}

// Lack is what someone would give without having it.
type Lack struct {
	Permission Permission
	Scope      Scope
}

// Error implements error.
func (l *Lack) Error() string { return fmt.Sprintf("%s on %s", l.Permission, l.Scope) }

// MayGive returns a *Lack unless all that is given was given to the giver, within at least
// the same scope and without any condition: whoever gave what they have under one could rid it
// of that. An owner may give everything, also what an owner does not have. Permissions for
// the registry as a whole are nothing within a part of it, and are not asked for there.
func (g Grants) MayGive(given ...Assignment) error {
	if g.Owner() {
		return nil
	}
	for _, a := range given {
		for _, p := range a.Role.Permissions {
			if p.OfRegistry() && a.Scope.Pattern != "" {
				continue
			}
			if !g.has(p, a.Scope) {
				return &Lack{p, a.Scope}
			}
		}
	}
	return nil
}

func (g Grants) has(p Permission, within Scope) bool {
	return slices.ContainsFunc(g.assigned, func(a Assignment) bool {
		return a.Condition == nil && a.Scope.Contains(within) && slices.Contains(a.Role.Permissions, p)
	})
}

// LacksAnywhere returns a permission that the principal was given nowhere without a condition.
func (g Grants) LacksAnywhere(ps []Permission) (p Permission, ok bool) {
	if g.Owner() {
		return "", false
	}
	for _, p := range ps {
		if !slices.ContainsFunc(g.assigned, func(a Assignment) bool { return a.Condition == nil && slices.Contains(a.Role.Permissions, p) }) {
			return p, true
		}
	}
	return "", false
}

// Owner says whether the principal owns the whole registry, without a condition.
func (g Grants) Owner() bool {
	return slices.ContainsFunc(g.assigned, func(a Assignment) bool { return a.owns() && a.Condition == nil })
}

// OwnerAtTimes says whether the principal owns the whole registry, be it under a condition.
func (g Grants) OwnerAtTimes() bool { return slices.ContainsFunc(g.assigned, Assignment.owns) }

func (a Assignment) owns() bool {
	return a.Role.BuiltIn && a.Role.Name == Owner.Name && a.Scope.Pattern == ""
}

// CheckAnonymous refuses what cannot be assigned to Anonymous: anything but to pull and to see, and
// that without saying where.
func CheckAnonymous(r Role, s Scope) error {
	for _, p := range r.Permissions {
		if p != RepositoryPull && p != RepositoryList {
			return fmt.Errorf("role %s has %s, and whoever brings no credentials may pull alone; expected AcrPull, or another role of %s and %s",
				r.Name, p, RepositoryPull, RepositoryList)
		}
	}
	if s.Pattern == "" {
		return fmt.Errorf("which repositories may everybody pull from? Expected a scope, as in public/*")
	}
	return nil
}

// Need is what a kind of request needs of whoever sends it; doors list theirs for the documents
// and for tests.
type Need struct {
	Request string // "GET /api/v1/report"
	// AnyOf are the permissions of which one is enough; in the repository that the request
	// names, if OnRepository, else for the whole registry.
	AnyOf        []Permission
	OnRepository bool
	// Else says in words who else may send it, as "whoever is logged in"; "" for nobody.
	Else string
}

// MetBy says whether a role for the whole registry is enough.
func (n Need) MetBy(r Role) bool {
	g := NewGrants(Assignment{Role: r})
	return slices.ContainsFunc(n.AnyOf, func(p Permission) bool { return g.Allows(p, oci.Repository{}) })
}

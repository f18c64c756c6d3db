package access

import (
	"net/netip"
	"slices"
	"time"

	"pratique.dev/pratique/internal/oci"
)

// Request is what a condition may ask of, beside the permission and the repository.
type Request struct {
	Principal Principal
	Claims    map[string]any // of the issuer's token that the principal proved itself by
	Address   netip.Addr     // of the client
	Time      time.Time
	Tag       string // "" where the request names none
	// Later says that the tag is not known yet: a token is issued for requests to come.
	Later bool
}

// Condition is what must hold of a request besides for an assignment to count.
type Condition interface {
	// Holds says whether it does; unknown, that it depends on what Request.Later leaves open. An error
	// means that it does not hold.
	Holds(p Permission, repo oci.Repository, r Request) (holds, unknown bool, err error)
	String() string
}

// Assignment gives a principal a role within a scope.
type Assignment struct {
	Principal string // Principal.ID
	Role      Role
	Scope     Scope
	Condition Condition // nil: none
	Via       string    // "group NAME" or "scope map NAME" that the principal has it by; "" where it is its own
}

// Grants is all that one principal was given. The zero Grants allows nothing.
type Grants struct{ assigned []Assignment }

// NewGrants collects assignments of one principal.
func NewGrants(assigned ...Assignment) Grants { return Grants{assigned} }

// Assigned lists what was given.
func (g Grants) Assigned() []Assignment { return slices.Clone(g.assigned) }

// Allows says whether p may be done to repo by a request that nothing is known of: what
// was given under a condition does not count. The zero Repository stands for the registry
// as a whole.
func (g Grants) Allows(p Permission, repo oci.Repository) bool {
	return g.allows(p, repo, func(a Assignment) bool { return a.Condition == nil })
}

// For says what may be done by a request.
func (g Grants) For(r Request) Bound { return Bound{g, r} }

func (g Grants) allows(p Permission, repo oci.Repository, holds func(Assignment) bool) bool {
	if p == "" {
		return false
	}
	for _, a := range g.assigned {
		if a.covers(p, repo) && holds(a) {
			return true
		}
	}
	return false
}

// covers says whether the assignment is about p and repo, whatever its condition.
func (a Assignment) covers(p Permission, repo oci.Repository) bool {
	return a.Scope.Covers(repo) && slices.Contains(a.Role.Permissions, p)
}

// Bound is what one request may do.
type Bound struct {
	grants  Grants
	request Request
}

// Allows says whether p may be done to repo; the zero Repository stands for the registry
// as a whole. A condition that fails, or that cannot be told, does not hold; but where
// Request.Later is set, one that waits for what is not known yet does.
func (b Bound) Allows(p Permission, repo oci.Repository) bool {
	return b.grants.allows(p, repo, func(a Assignment) bool {
		if a.Condition == nil {
			return true
		}
		holds, unknown, err := a.Condition.Holds(p, repo, b.request)
		return err == nil && (holds || unknown && b.request.Later)
	})
}

// Reason is what one assignment had to do with a decision.
type Reason struct {
	Role      string `json:"role"`
	Scope     string `json:"scope"`
	Via       string `json:"via,omitempty"`
	Condition string `json:"condition,omitempty"`
	Granted   bool   `json:"granted"`
	Unknown   bool   `json:"unknown,omitempty"` // its condition could not be told: it does not count, and might
	Why       string `json:"why"`
}

// Explanation is a decision and how it came about.
type Explanation struct {
	Allowed bool     `json:"allowed"`
	Reasons []Reason `json:"reasons"`
}

// Unknown says whether nothing grants what was asked for, but something might if more were known of
// the request.
func (e Explanation) Unknown() bool {
	return !e.Allowed && slices.ContainsFunc(e.Reasons, func(r Reason) bool { return r.Unknown })
}

// Explain is Allows with the part that each assignment had in it.
func (b Bound) Explain(p Permission, repo oci.Repository) Explanation {
	e := Explanation{Reasons: []Reason{}}
	for _, a := range b.grants.assigned {
		r := Reason{Role: a.Role.Name, Scope: a.Scope.String(), Via: a.Via}
		if a.Condition != nil {
			r.Condition = a.Condition.String()
		}
		r.Granted, r.Unknown, r.Why = a.explain(p, repo, b.request)
		e.Allowed = e.Allowed || r.Granted
		e.Reasons = append(e.Reasons, r)
	}
	return e
}

func (a Assignment) explain(p Permission, repo oci.Repository, r Request) (granted, unknown bool, why string) {
	switch {
	case len(a.Role.Permissions) == 0:
		return false, false, "there is no such role any more"
	case !slices.Contains(a.Role.Permissions, p):
		return false, false, "the role does not have " + string(p)
	case !a.Scope.Covers(repo) && repo.IsZero():
		return false, false, string(p) + " is for the registry as a whole, the scope is a part of it"
	case !a.Scope.Covers(repo):
		return false, false, "the scope does not cover " + repo.String()
	case a.Condition == nil:
		return true, false, "the role has " + string(p) + " and the scope covers it"
	}
	holds, open, err := a.Condition.Holds(p, repo, r)
	switch {
	case err != nil:
		return false, true, "the condition could not be evaluated: " + err.Error()
	case open:
		return false, true, "the condition depends on what is not known"
	case !holds:
		return false, false, "the condition does not hold"
	}
	return true, false, "the role has " + string(p) + ", the scope covers it and the condition holds"
}

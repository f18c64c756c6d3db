package access

import (
	"fmt"
	"slices"
	"strings"
)

// ScopeMap is what repository tokens may do: permissions for each of some repositories.
type ScopeMap struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Actions     []Rule `json:"actions"`
}

// Rule gives permissions within a scope.
type Rule struct {
	Scope       string       `json:"scope"` // a repository, or a pattern as in team/*
	Permissions []Permission `json:"permissions"`
}

// maxRules bounds the repositories that one scope map names.
const maxRules = 500

// ParseScopeMap reads actions. Each is in the form of Azure Container Registry,
// "repositories/team/app/content/read", or REPOSITORY:PERMISSION[,PERMISSION] as in
// "team/app:content/read,metadata/read". Permissions for the registry as a whole are none of
// a scope map's, and neither is to pull what is quarantined.
func ParseScopeMap(name, description string, actions []string) (ScopeMap, error) {
	m := ScopeMap{Name: name, Description: description}
	if err := CheckName(name); err != nil {
		return m, err
	}
	for _, text := range actions {
		if err := m.add(text); err != nil {
			return m, err
		}
	}
	if len(m.Actions) == 0 {
		return m, fmt.Errorf("scope map %q has no actions: expected at least one, as in team/app:content/read", name)
	}
	return m, nil
}

func (m *ScopeMap) add(text string) error {
	where, what, ok := strings.Cut(text, ":")
	if !ok {
		where, what, ok = cutAzure(text)
	}
	if !ok {
		return fmt.Errorf("action %.80q: expected REPOSITORY:PERMISSION[,PERMISSION], as in team/app:content/read, or repositories/team/app/content/read", text)
	}
	scope, err := ParseScope(where)
	if err != nil {
		return err
	}
	if scope == (Scope{}) {
		return fmt.Errorf("action %.80q: a scope map is for repositories; expected a name or a pattern as in team/*", text)
	}
	ps, err := ParsePermissions(strings.Split(what, ","))
	if err != nil {
		return err
	}
	for _, p := range ps {
		if p.OfRegistry() || p == QuarantinePull || p == QuarantineWrite {
			return fmt.Errorf("action %.80q: %s cannot be given to a repository token", text, p)
		}
		m.grant(scope.Pattern, p)
	}
	if len(m.Actions) > maxRules {
		return fmt.Errorf("scope map %q names more than %d repositories; use a pattern as in team/*", m.Name, maxRules)
	}
	return nil
}

func (m *ScopeMap) grant(scope string, p Permission) {
	i := slices.IndexFunc(m.Actions, func(r Rule) bool { return r.Scope == scope })
	if i < 0 {
		m.Actions = append(m.Actions, Rule{Scope: scope})
		i = len(m.Actions) - 1
	}
	if !slices.Contains(m.Actions[i].Permissions, p) {
		m.Actions[i].Permissions = append(m.Actions[i].Permissions, p)
	}
}

// cutAzure cuts "repositories/NAME/content/read".
func cutAzure(text string) (where, what string, ok bool) {
	rest, ok := strings.CutPrefix(text, "repositories/")
	i := strings.LastIndexByte(rest, '/')
	if !ok || i < 0 {
		return "", "", false
	}
	j := strings.LastIndexByte(rest[:i], '/')
	if j < 0 {
		return "", "", false
	}
	return rest[:j], rest[j+1:], true
}

// Assignments are what the scope map gives to a principal.
func (m ScopeMap) Assignments(principal string) []Assignment {
	var out []Assignment
	for _, r := range m.Actions {
		out = append(out, Assignment{Principal: principal, Scope: Scope{r.Scope}, Via: "scope map " + m.Name,
			Role: Role{Name: joined(r.Permissions), Permissions: r.Permissions}})
	}
	return out
}

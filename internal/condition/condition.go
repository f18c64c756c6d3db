// Package condition reads what administrators write in CEL (https://cel.dev): the conditions
// of assignments, which are asked of a request, and the rules of federations, which are asked
// of the claims in an issuer's token. It evaluates them within bounds; what it cannot
// evaluate does not hold.
//
// A condition knows
//
//	permission  string     what is asked for, "repository.pull"
//	repository  string     "team/app", "" for the registry as a whole
//	tag         string     "" where the request names none, as one for a blob or by digest
//	principal   map        id, kind, name
//	claims      map        of the token that the principal proved itself by
//	address     string     of the client, "192.0.2.1"
//	now         timestamp
//
// and a rule knows claims. Both have inNetwork(address, "192.0.2.0/24") besides the standard
// functions.
package condition

import (
	"fmt"
	"net/netip"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/oci"
)

// Bounds of an expression: its length in bytes, how deep it nests, and what evaluating it may
// cost, in CEL's own units of about one operation each.
const (
	MaxLength = 2048
	maxDepth  = 32
	maxCost   = 20_000
)

// Condition is what must hold of a request.
type Condition struct {
	text    string
	program cel.Program
}

// Rule is what must hold of an issuer's claims.
type Rule struct {
	text    string
	program cel.Program
}

// inNetwork says whether an address lies in a network in CIDR notation. What is neither is an
// error, which makes an expression hold not.
var inNetwork = cel.Function("inNetwork", cel.Overload("inNetwork_string_string", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType,
	cel.BinaryBinding(func(address, network ref.Val) ref.Val {
		a, err := netip.ParseAddr(string(address.(types.String)))
		if err != nil {
			return types.NewErr("inNetwork: address %q is none", address)
		}
		n, err := netip.ParsePrefix(string(network.(types.String)))
		if err != nil {
			return types.NewErr("inNetwork: %q is no network as in 192.0.2.0/24", network)
		}
		return types.Bool(n.Contains(a.Unmap()))
	})))

// Parse reads a condition. The error says where it is wrong.
func Parse(text string) (*Condition, error) {
	p, err := compile(text, inNetwork,
		cel.Variable("permission", cel.StringType), cel.Variable("repository", cel.StringType), cel.Variable("tag", cel.StringType),
		cel.Variable("principal", cel.MapType(cel.StringType, cel.StringType)), cel.Variable("claims", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("address", cel.StringType), cel.Variable("now", cel.TimestampType))
	if err != nil {
		return nil, fmt.Errorf("condition: %w", err)
	}
	return &Condition{text, p}, nil
}

// ParseRule reads a rule over claims. The error says where it is wrong.
func ParseRule(text string) (*Rule, error) {
	p, err := compile(text, inNetwork, cel.Variable("claims", cel.MapType(cel.StringType, cel.DynType)))
	if err != nil {
		return nil, fmt.Errorf("rule: %w", err)
	}
	return &Rule{text, p}, nil
}

func compile(text string, options ...cel.EnvOption) (cel.Program, error) {
	if len(text) > MaxLength {
		return nil, fmt.Errorf("it has %d bytes, at most %d are accepted", len(text), MaxLength)
	}
	env, err := cel.NewEnv(append(options, cel.ParserRecursionLimit(maxDepth), cel.ParserExpressionSizeLimit(MaxLength))...)
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		return nil, err
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("%s is a %s; expected what is true or false", text, t)
	}
	return env.Program(ast, cel.EvalOptions(cel.OptOptimize, cel.OptPartialEval), cel.CostLimit(maxCost))
}

// String is the text that was parsed.
func (c *Condition) String() string { return c.text }

// Holds implements access.Condition.
func (c *Condition) Holds(p access.Permission, repo oci.Repository, r access.Request) (holds, unknown bool, err error) {
	claims := r.Claims
	if claims == nil {
		claims = map[string]any{}
	}
	address := ""
	if r.Address.IsValid() {
		address = r.Address.Unmap().String()
	}
	vars := map[string]any{"permission": string(p), "repository": repo.String(), "claims": claims, "address": address, "now": r.Time.UTC(),
		"principal": map[string]string{"id": r.Principal.ID, "kind": string(r.Principal.Kind), "name": r.Principal.Name}}
	if !r.Later {
		vars["tag"] = r.Tag
		return evaluate(c.program, vars)
	}
	partial, err := cel.PartialVars(vars, cel.AttributePattern("tag"))
	if err != nil {
		return false, false, err
	}
	return evaluate(c.program, partial)
}

// String is the text that was parsed.
func (r *Rule) String() string { return r.text }

// Holds says whether the rule does of claims as encoding/json reads them.
func (r *Rule) Holds(claims map[string]any) (bool, error) {
	holds, _, err := evaluate(r.program, map[string]any{"claims": claims})
	return holds, err
}

func evaluate(p cel.Program, vars any) (holds, unknown bool, err error) {
	out, _, err := p.Eval(vars)
	switch {
	case err != nil:
		return false, false, err
	case types.IsUnknown(out):
		return false, true, nil
	}
	b, err := out.ConvertToNative(reflect.TypeFor[bool]())
	if err != nil {
		return false, false, fmt.Errorf("it is no true or false: %w", err)
	}
	return b.(bool), false, nil
}

var _ access.Condition = (*Condition)(nil)

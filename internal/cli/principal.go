package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/api"
)

func newPrincipal() *cobra.Command {
	return family("principal", "Who there is: users, service principals, tokens, workloads, groups", `A principal is whoever can be given something:

  user      a person
  service   a service principal: a program with secrets, or keys, of its own
  token     a repository token: it may do what its scope map says, and nothing else
  workload  proves itself by tokens of a trusted issuer alone
  group     of principals, which have what it is given

and anonymous, which is there from the start and stands for whoever brings no credentials.
A principal may do nothing until it is given a role ('pratique role assign') or, a token, by
its scope map. Nobody can give more than they have, and only an Owner of the registry can
change another one.`,
		`  pratique principal create ci --kind service --role AcrPush --scope 'team/*'
  pratique principal list`,
		newPrincipalCreate(), newPrincipalList(), newPrincipalShow(), newPrincipalSetMap(),
		principalChange("disable", "Let a principal prove nothing until it is enabled again", `Disable shuts a principal out at once, with all tokens that it has; a group gives nothing to
its members then. What it was given is kept.

Exit codes: 0 disabled; 2 not disabled, and the message says why.`, "is disabled", (*api.Client).DisablePrincipal),
		principalChange("enable", "Let a disabled principal in again", `Enable takes back 'pratique principal disable'.

Exit codes: 0 enabled; 2 not enabled, and the message says why.`, "is enabled", (*api.Client).EnablePrincipal),
		principalChange("delete", "Delete a principal with its secrets and all that it was given", `Delete forgets a principal with its secrets, assignments and memberships. A new one of the
same name has nothing of it.

Exit codes: 0 deleted; 2 not deleted, and the message says why.`, "is deleted", (*api.Client).DeletePrincipal),
		newRecover())
}

func newPrincipalCreate() *cobra.Command {
	var (
		n                   api.NewPrincipal
		kind, role, expires string
		scope, condition    string
	)
	c := call{use: "create NAME", short: "Make a principal, with a first secret",
		long: `Create makes a principal. A user, service principal or token gets a first secret, which is
printed this once, unless there is --no-secret. That of a service principal or a token ends after
180 days, that of a user does not, unless --expires says otherwise.

A token needs a --scope-map. All others can be given a first role by --role; see
'pratique role assign --help' for --scope and --condition.

Exit codes: 0 made; 2 nothing was made, and the message says why.`,
		example: `  pratique principal create ann
  pratique principal create ci --kind service --role AcrPush --scope 'team/*' --expires 90d
  pratique principal create deploy --kind token --scope-map app-pull`,
		args: takesOne("NAME"),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			n.Name, n.Kind = args[0], access.Kind(kind)
			s, err := newSecretExpiring(expires)
			if err != nil {
				return err
			}
			n.Secret = &s
			if role != "" {
				n.Assign = &api.NewAssignment{Role: role, Scope: scope, Condition: condition}
			} else if scope != "" || condition != "" {
				return fmt.Errorf("--scope and --condition are of a --role")
			}
			m, err := cl.CreatePrincipal(cmd.Context(), n)
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), m)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s is made\n", m.Kind, m.Name)
			if m.Secret != nil {
				writeSecret(cmd.OutOrStdout(), *m.Secret)
			}
			return nil
		}}.command()
	f := c.Flags()
	f.StringVar(&kind, "kind", "user", "user, service, token, workload or group")
	f.StringVar(&n.Description, "description", "", "for people")
	f.StringVar(&n.ScopeMap, "scope-map", "", "what a token may do")
	f.BoolVar(&n.NoSecret, "no-secret", false, "make no secret")
	f.StringVar(&expires, "expires", "", expiresUsage)
	f.StringVar(&role, "role", "", "role to give it at once")
	f.StringVar(&scope, "scope", "", "where it has the role, as in 'team/*'; default the whole registry")
	f.StringVar(&condition, "condition", "", "what must hold of a request besides, in CEL")
	return c
}

func newPrincipalList() *cobra.Command {
	var kind string
	c := call{use: "list [PREFIX]", short: "List principals",
		long: `List prints the principals whose names begin with PREFIX, or all.

Exit codes: 0 listed; 2 the list could not be had.`,
		example: `  pratique principal list --kind service
  pratique principal list ci- -o json`,
		args: takesOneOrNone("PREFIX"),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			list := []api.Principal{}
			for after := ""; ; {
				page, err := cl.Principals(cmd.Context(), access.Kind(kind), strings.Join(args, ""), after, api.MaxPage)
				if err != nil {
					return err
				}
				list = append(list, page.Principals...)
				if after = page.Next; after == "" {
					break
				}
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), api.PrincipalList{Principals: list})
			}
			rows := make([]table.Row, len(list))
			for i, p := range list {
				rows[i] = table.Row{p.Name, p.Kind, stateText(p), cmp.Or(p.ScopeMap, "-"), dayText(p.Created), cmp.Or(p.Description, p.External, "-")}
			}
			return writeTable(cmd.OutOrStdout(), table.Row{"name", "kind", "state", "scope map", "created", "description"}, rows)
		}}.command()
	c.Flags().StringVar(&kind, "kind", "", "only those of one kind")
	return c
}

func stateText(p api.Principal) string {
	if p.Disabled.IsZero() {
		return "enabled"
	}
	return "disabled"
}

// dayText is a day as people read it.
func dayText(t time.Time) string {
	if t.Unix() <= 0 {
		return "-"
	}
	return t.Local().Format(time.DateOnly)
}

func newPrincipalShow() *cobra.Command {
	return call{use: "show NAME", short: "Print a principal with its secrets, groups and what it was given",
		long: `Show prints what is known of a principal: its secrets (never what they are), the groups that
it is in, and what it was given, by itself, by a group or by its scope map. Everyone can see
themselves.

Exit codes: 0 printed; 2 there is no such principal, or it could not be had.`,
		example: `  pratique principal show ci
  pratique principal show ci -o json`,
		args: takesOne("NAME"),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			p, err := cl.Principal(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), p)
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "%s, %s, %s\n", p.Name, p.Kind, stateText(p.Principal))
			if p.Description != "" {
				fmt.Fprintln(w, p.Description)
			}
			if len(p.Groups) > 0 {
				fmt.Fprintln(w, "groups:", strings.Join(p.Groups, " "))
			}
			if len(p.Secrets) > 0 {
				fmt.Fprintln(w)
				if err := writeSecrets(w, p.Secrets); err != nil {
					return err
				}
			}
			return writeGiven(w, p.Given)
		}}.command()
}

// writeGiven prints what somebody was given.
func writeGiven(w io.Writer, given []api.Given) error {
	if len(given) == 0 {
		_, err := fmt.Fprintln(w, "it was given nothing")
		return err
	}
	fmt.Fprintln(w)
	rows := make([]table.Row, len(given))
	for i, g := range given {
		rows[i] = table.Row{g.Role, g.Scope, cmp.Or(g.Via, "-"), cmp.Or(g.Condition, "-")}
	}
	return writeTable(w, table.Row{"role", "scope", "via", "condition"}, rows)
}

func newPrincipalSetMap() *cobra.Command {
	return call{use: "set-scope-map NAME SCOPE-MAP", short: "Give a repository token another scope map",
		long: `Set-scope-map gives a token another scope map, which holds at once.

Exit codes: 0 set; 2 not set, and the message says why.`,
		example: `  pratique principal set-scope-map deploy app-push`,
		args:    takes([]string{"NAME", "SCOPE-MAP"}),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			if err := cl.SetScopeMap(cmd.Context(), args[0], args[1]); err != nil {
				return err
			}
			return say(cmd, out, map[string]string{"principal": args[0], "scopeMap": args[1]}, "%s has scope map %s", args[0], args[1])
		}}.command()
}

// principalChange is a command that does something to a principal by its name alone.
func principalChange(verb, short, long, said string, do func(*api.Client, context.Context, string) error) *cobra.Command {
	return call{use: verb + " NAME", short: short, long: long, example: "  pratique principal " + verb + " ci", args: takesOne("NAME"),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			if err := do(cl, cmd.Context(), args[0]); err != nil {
				return err
			}
			return say(cmd, out, map[string]string{"principal": args[0], "state": verb + "d"}, "%s %s", args[0], said)
		}}.command()
}

package cli

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/api"
)

func newRole() *cobra.Command {
	return family("role", "What a principal may do where: roles and their assignments", `A role is a set of permissions. Those that are built in have the names and the meaning of Azure
Container Registry's; others can be made of single permissions. A principal has a role within a
scope: the whole registry, a repository, or a pattern as in 'team/*', and may do nothing that
no assignment gives it.`,
		`  pratique role assign ci AcrPush --scope 'team/*'
  pratique role list`,
		newRoleList(), newRoleShow(), newRoleCreate(), newRoleDelete(), newRoleAssign(), newRoleUnassign(), newRoleAssignments())
}

func newRoleList() *cobra.Command {
	return call{use: "list", short: "List roles",
		long: `List prints the roles that are built in, and those that were made here.

Exit codes: 0 listed; 2 the list could not be had.`,
		example: `  pratique role list`,
		args:    takesNone,
		run: func(cmd *cobra.Command, cl *api.Client, out output, _ []string) error {
			l, err := cl.Roles(cmd.Context())
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), l)
			}
			rows := make([]table.Row, len(l.Roles))
			for i, r := range l.Roles {
				rows[i] = table.Row{r.Name, originText(r), cmp.Or(r.Description, "-")}
			}
			return writeTable(cmd.OutOrStdout(), table.Row{"role", "origin", "description"}, rows)
		}}.command()
}

func originText(r access.Role) string {
	if r.BuiltIn {
		return "built in"
	}
	return "made here"
}

func permissionsText(ps []access.Permission) string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = string(p)
	}
	return strings.Join(out, ", ")
}

func newRoleShow() *cobra.Command {
	return call{use: "show ROLE", short: "Print a role's permissions",
		long: `Show prints what a role gives.

Exit codes: 0 printed; 2 there is no such role, or it could not be had.`,
		example: `  pratique role show AcrPush
  pratique role show 'Container Registry Repository Writer' -o json`,
		args: takesOne("ROLE"),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			l, err := cl.Roles(cmd.Context())
			if err != nil {
				return err
			}
			for _, r := range l.Roles {
				if r.Name == args[0] {
					return say(cmd, out, r, "%s, %s: %s\n%s", r.Name, originText(r), cmp.Or(r.Description, "-"), permissionsText(r.Permissions))
				}
			}
			return fmt.Errorf("there is no role %q; 'pratique role list' shows those that there are", args[0])
		}}.command()
}

func newRoleCreate() *cobra.Command {
	var n api.NewRole
	c := call{use: "create NAME", short: "Make a role of single permissions",
		long: `Create makes a role. Its permissions are those that 'pratique role show Owner' prints,
quarantine.pull, or Azure's names: content/read, content/write, content/delete,
metadata/read, metadata/write, catalog/read. With --replace it takes the place of a role of the
same name, for all who have it.

Exit codes: 0 made; 2 not made, and the message says why.`,
		example: `  pratique role create promoter --permission repository.pull,repository.push,repository.lock
  pratique role create cleaner --permission content/delete --permission metadata/read --replace`,
		args: takesOne("NAME"),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			n.Name = args[0]
			r, err := cl.PutRole(cmd.Context(), n)
			if err != nil {
				return err
			}
			return say(cmd, out, r, "role %s gives %s", r.Name, permissionsText(r.Permissions))
		}}.command()
	c.Flags().StringSliceVar(&n.Permissions, "permission", nil, "what the role gives; may be repeated")
	c.Flags().StringVar(&n.Description, "description", "", "for people")
	c.Flags().BoolVar(&n.Replace, "replace", false, "put it in the place of the role of this name")
	return c
}

func newRoleDelete() *cobra.Command {
	return call{use: "delete NAME", short: "Delete a role that nobody has",
		long: `Delete forgets a role that was made here and is assigned to nobody.

Exit codes: 0 deleted; 2 not deleted, and the message says why.`,
		example: `  pratique role delete promoter`,
		args:    takesOne("NAME"),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			if err := cl.DeleteRole(cmd.Context(), args[0]); err != nil {
				return err
			}
			return say(cmd, out, map[string]string{"role": args[0]}, "role %s is deleted", args[0])
		}}.command()
}

func newRoleAssign() *cobra.Command {
	var n api.NewAssignment
	c := call{use: "assign PRINCIPAL ROLE", short: "Give a principal a role",
		long: `Assign gives a principal a role within --scope: a repository, or a pattern in which * stands
for any text, slashes included; without it, the whole registry. It holds at once.

--condition is an expression in CEL (https://cel.dev) of which true must come, over

  permission  string     what is asked for, "repository.pull"
  repository  string     "team/app", "" for the registry as a whole
  tag         string     "" where the request names none
  principal   map        id, kind, name
  claims      map        of the token of an issuer that the principal proved itself by
  address     string     of the client; inNetwork(address, "192.0.2.0/24")
  now         timestamp

What cannot be evaluated does not hold. To assign the same role in the same scope again sets
the condition anew.

The principal anonymous is whoever brings no credentials. It has nothing at first, can be given
roles of pulling and listing alone (AcrPull), and those by a --scope. It only ever pulls: no
role lets it push, delete, or use /api/v1/.

Exit codes: 0 assigned; 2 not assigned, and the message says why.`,
		example: `  pratique role assign ci AcrPush --scope 'team/*'
  pratique role assign developers AcrPull --scope 'team/*' --condition 'inNetwork(address, "10.0.0.0/8")'
  pratique role assign anonymous AcrPull --scope 'public/*'`,
		args: takes([]string{"PRINCIPAL", "ROLE"}),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			n.Principal, n.Role = args[0], args[1]
			a, err := cl.Assign(cmd.Context(), n)
			if err != nil {
				return err
			}
			under := ""
			if a.Condition != "" {
				under = " if " + a.Condition
			}
			return say(cmd, out, a, "%s has %s on %s%s", a.Principal, a.Role, a.Scope, under)
		}}.command()
	c.Flags().StringVar(&n.Scope, "scope", "", "where, as in team/app or 'team/*'; default / for the whole registry")
	c.Flags().StringVar(&n.Condition, "condition", "", "what must hold of a request besides, in CEL")
	return c
}

func newRoleUnassign() *cobra.Command {
	var scope string
	c := call{use: "unassign PRINCIPAL ROLE", short: "Take a role back",
		long: `Unassign takes back a role that 'pratique role assign' gave with the same --scope. It holds at
once, also for tokens that are out.

Exit codes: 0 taken back; 2 not taken back, and the message says why.`,
		example: `  pratique role unassign ci AcrPush --scope 'team/*'`,
		args:    takes([]string{"PRINCIPAL", "ROLE"}),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			if err := cl.Unassign(cmd.Context(), args[0], args[1], scope); err != nil {
				return err
			}
			where := cmp.Or(scope, "/")
			return say(cmd, out, api.Assignment{Principal: args[0], Role: args[1], Scope: where}, "%s has no %s on %s any more", args[0], args[1], where)
		}}.command()
	c.Flags().StringVar(&scope, "scope", "", "the scope that it was assigned with; default / for the whole registry")
	return c
}

func newRoleAssignments() *cobra.Command {
	var principal, role string
	c := call{use: "assignments", short: "List who has which role where",
		long: `Assignments prints who has which role where, and under which condition. What a principal has
by its groups, 'pratique principal show' prints too.

Exit codes: 0 listed; 2 the list could not be had.`,
		example: `  pratique role assignments --principal ci
  pratique role assignments --role Owner -o json`,
		args: takesNone,
		run: func(cmd *cobra.Command, cl *api.Client, out output, _ []string) error {
			list := []api.Assignment{}
			for after := ""; ; {
				page, err := cl.Assignments(cmd.Context(), principal, role, after, api.MaxPage)
				if err != nil {
					return err
				}
				list = append(list, page.Assignments...)
				if after = page.Next; after == "" {
					break
				}
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), api.AssignmentList{Assignments: list})
			}
			rows := make([]table.Row, len(list))
			for i, a := range list {
				rows[i] = table.Row{a.Principal, a.Role, a.Scope, cmp.Or(a.Condition, "-")}
			}
			return writeTable(cmd.OutOrStdout(), table.Row{"principal", "role", "scope", "condition"}, rows)
		}}.command()
	c.Flags().StringVar(&principal, "principal", "", "only those of one principal")
	c.Flags().StringVar(&role, "role", "", "only those of one role")
	return c
}

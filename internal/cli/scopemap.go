package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/api"
)

func newScopeMap() *cobra.Command {
	return family("scope-map", "What repository tokens may do", `A scope map says what a repository token may do to which repositories. Its actions are in the
form of Azure Container Registry, or shorter:

  repositories/team/app/content/read
  team/app:content/read,metadata/read
  team/*:repository.pull,repository.push`,
		`  pratique scope-map create app-pull --action team/app:content/read,metadata/read
  pratique principal create deploy --kind token --scope-map app-pull`,
		newScopeMapCreate(), newScopeMapList(), newScopeMapShow(), newScopeMapDelete())
}

func newScopeMapCreate() *cobra.Command {
	var n api.NewScopeMap
	c := call{use: "create NAME", short: "Make a scope map",
		long: `Create makes a scope map of one or more --action, each for a repository or a pattern in which
* stands for any text. With --replace it takes the place of one of the same name, at once for
all tokens that have it.

Exit codes: 0 made; 2 not made, and the message says why.`,
		example: `  pratique scope-map create app-pull --action team/app:content/read,metadata/read
  pratique scope-map create app-push --action repositories/team/app/content/write --action repositories/team/app/content/read`,
		args: takesOne("NAME"),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			n.Name = args[0]
			m, err := cl.PutScopeMap(cmd.Context(), n)
			if err != nil {
				return err
			}
			return say(cmd, out, m, "scope map %s: %s", m.Name, actionsText(m))
		}}.command()
	// An action holds commas.
	c.Flags().StringArrayVar(&n.Actions, "action", nil, "REPOSITORY:PERMISSION[,PERMISSION], or repositories/REPOSITORY/content/read; may be repeated")
	c.Flags().StringVar(&n.Description, "description", "", "for people")
	c.Flags().BoolVar(&n.Replace, "replace", false, "put it in the place of the scope map of this name")
	return c
}

func actionsText(m access.ScopeMap) string {
	var out []string
	for _, r := range m.Actions {
		out = append(out, r.Scope+": "+permissionsText(r.Permissions))
	}
	return strings.Join(out, "; ")
}

func newScopeMapList() *cobra.Command {
	return call{use: "list", short: "List scope maps",
		long: `List prints all scope maps.

Exit codes: 0 listed; 2 the list could not be had.`,
		example: `  pratique scope-map list`,
		args:    takesNone,
		run: func(cmd *cobra.Command, cl *api.Client, out output, _ []string) error {
			l, err := cl.ScopeMaps(cmd.Context())
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), l)
			}
			rows := make([]table.Row, len(l.ScopeMaps))
			for i, m := range l.ScopeMaps {
				rows[i] = table.Row{m.Name, actionsText(m), cmp.Or(m.Description, "-")}
			}
			return writeTable(cmd.OutOrStdout(), table.Row{"scope map", "actions", "description"}, rows)
		}}.command()
}

func newScopeMapShow() *cobra.Command {
	return call{use: "show NAME", short: "Print a scope map",
		long: `Show prints what tokens of a scope map may do.

Exit codes: 0 printed; 2 there is no such scope map, or it could not be had.`,
		example: `  pratique scope-map show app-pull`,
		args:    takesOne("NAME"),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			l, err := cl.ScopeMaps(cmd.Context())
			if err != nil {
				return err
			}
			for _, m := range l.ScopeMaps {
				if m.Name != args[0] {
					continue
				}
				if out.json() {
					return writeJSON(cmd.OutOrStdout(), m)
				}
				rows := make([]table.Row, len(m.Actions))
				for i, r := range m.Actions {
					rows[i] = table.Row{r.Scope, permissionsText(r.Permissions)}
				}
				return writeTable(cmd.OutOrStdout(), table.Row{"repositories", "permissions"}, rows)
			}
			return fmt.Errorf("there is no scope map %q; 'pratique scope-map list' shows those that there are", args[0])
		}}.command()
}

func newScopeMapDelete() *cobra.Command {
	return call{use: "delete NAME", short: "Delete a scope map that no token has",
		long: `Delete forgets a scope map that is no token's.

Exit codes: 0 deleted; 2 not deleted, and the message says why.`,
		example: `  pratique scope-map delete app-pull`,
		args:    takesOne("NAME"),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			if err := cl.DeleteScopeMap(cmd.Context(), args[0]); err != nil {
				return err
			}
			return say(cmd, out, map[string]string{"scopeMap": args[0]}, "scope map %s is deleted", args[0])
		}}.command()
}

func newGroup() *cobra.Command {
	return family("group", "Who is in a group", `A group is made by 'pratique principal create NAME --kind group' and given roles like any
principal; its members have them. Users, service principals and workloads can be members.`,
		`  pratique principal create developers --kind group --role AcrPush --scope 'team/*'
  pratique group add developers ann`,
		groupChange("add", "Make a principal a member of a group", "Add makes a principal a member of a group, which gives it all that the group has.", "is in", (*api.Client).AddMember),
		groupChange("remove", "Take a principal out of a group", "Remove takes a principal out of a group, and with that all that it had by it.", "is not in", (*api.Client).RemoveMember),
		newGroupMembers())
}

func groupChange(verb, short, long, said string, do func(*api.Client, context.Context, string, string) error) *cobra.Command {
	return call{use: verb + " GROUP PRINCIPAL", short: short, long: long + "\n\nExit codes: 0 done; 2 not done, and the message says why.",
		example: "  pratique group " + verb + " developers ann", args: takes([]string{"GROUP", "PRINCIPAL"}),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			if err := do(cl, cmd.Context(), args[0], args[1]); err != nil {
				return err
			}
			return say(cmd, out, map[string]string{"group": args[0], "principal": args[1]}, "%s %s %s", args[1], said, args[0])
		}}.command()
}

func newGroupMembers() *cobra.Command {
	return call{use: "members GROUP", short: "List who is in a group",
		long: `Members prints who is in a group here. Whom an issuer of identities says to be in it is known
only while they are logged in.

Exit codes: 0 listed; 2 the list could not be had.`,
		example: `  pratique group members developers`,
		args:    takesOne("GROUP"),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			m, err := cl.Members(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), m)
			}
			for _, n := range m.Members {
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), n); err != nil {
					return err
				}
			}
			return nil
		}}.command()
}

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/api"
)

func newFederationGroup() *cobra.Command {
	var g api.IssuerGroup
	c := call{
		use:   "group NAME",
		short: "Make a group of those in a group of an issuer's",
		long: `Group makes a group, NAME, of the users whom the issuer of 'pratique serve --oidc-issuer' says
are in one of its own. Each sign-in with a browser says so anew; until the next, and for secrets that they
made, the last counts. What is assigned to the group they have.

Exit codes: 0 made; 2 not made, and the message says why.`,
		example: `  pratique federation group developers --issuer https://login.microsoftonline.com/TENANT/v2.0 --group 5f1d3c4e-6b7a-4a53-9c1e-0d8f2b6a7c90 --role AcrPush --scope team/*`,
		args:    takesOne("NAME"),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			g.Name = args[0]
			if err := cl.MakeIssuerGroup(cmd.Context(), g); err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), g)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "group %s: those in %s of %s\n", g.Name, g.Group, g.Issuer)
			return err
		}}.command()
	c.Flags().StringVar(&g.Issuer, "issuer", "", "at which they sign in")
	c.Flags().StringVar(&g.Group, "group", "", "what the issuer calls the group in its claim; in Entra ID the object ID")
	c.Flags().StringVar(&g.Role, "role", "", "a role for the group")
	c.Flags().StringVar(&g.Scope, "scope", "", "where it has the role, as in team/app or team/* (default the whole registry)")
	return c
}

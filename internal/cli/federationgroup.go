package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/api"
)

func newFederationGroup() *cobra.Command {
	var (
		conn connection
		out  output
		g    api.IssuerGroup
	)
	c := &cobra.Command{
		Use:   "group NAME",
		Short: "Make a group of those in a group of an issuer's",
		Long: `Group makes a group, NAME, of the users whom the issuer of 'pratique serve --oidc-issuer' says
are in one of its own. Each sign-in with a browser says so anew; until the next, and for secrets that they
made, the last counts. What is assigned to the group they have.

Exit codes: 0 made; 2 not made, and the message says why.`,
		Example: `  pratique federation group developers --issuer https://login.microsoftonline.com/TENANT/v2.0 --group 5f1d3c4e-6b7a-4a53-9c1e-0d8f2b6a7c90 --role AcrPush --scope team/*`,
		Args:    takesOne("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			cl, err := conn.client()
			if err != nil {
				return err
			}
			g.Name = args[0]
			if err := cl.MakeIssuerGroup(cmd.Context(), g); err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), g)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "group %s: those in %s of %s\n", g.Name, g.Group, g.Issuer)
			return err
		},
	}
	conn.register(c)
	out.register(c)
	c.Flags().StringVar(&g.Issuer, "issuer", "", "at which they sign in")
	c.Flags().StringVar(&g.Group, "group", "", "what the issuer calls the group in its claim; in Entra ID the object ID")
	c.Flags().StringVar(&g.Role, "role", "", "a role for the group")
	c.Flags().StringVar(&g.Scope, "scope", "", "where it has the role, as in team/app or team/* (default the whole registry)")
	return c
}

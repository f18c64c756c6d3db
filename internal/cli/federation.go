package cli

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/api"
)

func newFederation() *cobra.Command {
	c := &cobra.Command{
		Use:   "federation",
		Short: "Issuers whose tokens prove a principal, with no stored secret",
		Long: `A federation trusts the tokens of an OpenID Connect issuer: those for an audience, of whose
claims a rule in CEL holds, prove a principal. Whoever has such a token logs in with it, by
'pratique login --oidc', as the password of 'federated', or by a token exchange.

Of the federations with a token's issuer the first by name that takes it counts.

GitHub Actions:
  --issuer https://token.actions.githubusercontent.com
  --rule 'claims.repository == "octo-org/app" && claims.ref == "refs/heads/main"'
  and, behind a protected environment, && claims.environment == "production"
Kubernetes service accounts (the issuer is the cluster's: kubectl get --raw /.well-known/openid-configuration):
  --issuer https://oidc.example/cluster
  --rule 'claims.sub == "system:serviceaccount:NAMESPACE:NAME"'
Entra ID, managed identities and service principals:
  --issuer https://login.microsoftonline.com/TENANT/v2.0
  --rule 'claims.tid == "TENANT" && claims.azp == "APPLICATION-ID"'
  by its object, claims.oid == "OBJECT-ID"; tokens of version 1.0 have the issuer
  https://sts.windows.net/TENANT/ and claims.appid`,
		Example: `  pratique federation create github --issuer https://token.actions.githubusercontent.com --audience https://registry.example --rule 'claims.repository == "octo-org/app"' --role AcrPush --scope octo-org/app
  pratique federation list`,
		Args: takesNone,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newFederationCreate(), newFederationList(), newFederationShow(), newFederationDelete(), newFederationTest(), newFederationGroup())
	return c
}

func newFederationCreate() *cobra.Command {
	var f api.NewFederation
	c := call{
		use:   "create NAME",
		short: "Trust an issuer's tokens for a principal",
		long: `Create sets a federation up, in place of the one of its name. The principal is there already,
or --role has one made: a workload of the federation's name, or of --principal, with that role
within --scope.

Exit codes: 0 set up; 2 not set up, and the message says why.`,
		example: `  pratique federation create github --issuer https://token.actions.githubusercontent.com --audience https://registry.example --rule 'claims.repository == "octo-org/app" && claims.ref == "refs/heads/main"' --role AcrPush --scope octo-org/app
  pratique federation create cluster --issuer https://oidc.example/cluster --audience https://registry.example --rule 'claims.sub == "system:serviceaccount:build:kaniko"' --principal builder
  pratique federation create identity --issuer https://login.microsoftonline.com/TENANT/v2.0 --audience api://registry --rule 'claims.azp == "APPLICATION-ID"' --role AcrPull`,
		args: takesOne("NAME"),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			f.Name = args[0]
			got, err := cl.PutFederation(cmd.Context(), f)
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), got)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "federation %s: tokens of %s prove %s\n", got.Name, got.Issuer, got.Principal)
			return err
		}}.command()
	c.Flags().StringVar(&f.Issuer, "issuer", "", "the tokens' iss, as in https://token.actions.githubusercontent.com")
	c.Flags().StringVar(&f.Audience, "audience", "", "one of the tokens' aud: what their holders ask the issuer for, best this registry's address")
	c.Flags().StringVar(&f.Rule, "rule", "", `what must hold of the claims, in CEL, as in 'claims.sub == "…"'`)
	c.Flags().StringVar(&f.Principal, "principal", "", "name of the principal that is proved (default NAME)")
	c.Flags().StringVar(&f.Role, "role", "", "make the principal, with this role")
	c.Flags().StringVar(&f.Scope, "scope", "", "where it has the role, as in team/app or team/* (default the whole registry)")
	c.Flags().BoolVar(&f.Once, "once", false, "a token counts one time only; not for clients that send it with each request, as docker does a password")
	return c
}

func newFederationList() *cobra.Command {
	return call{
		use:     "list",
		short:   "List the federations",
		long:    "List prints all federations, in the order in which they are asked.\n\nExit codes: 0 listed; 2 the list could not be had.",
		example: "  pratique federation list\n  pratique federation list -o json",
		args:    takesNone,
		run: func(cmd *cobra.Command, cl *api.Client, out output, _ []string) error {
			return showFederations(cmd, cl, out, "")
		}}.command()
}

func newFederationShow() *cobra.Command {
	return call{
		use:     "show NAME",
		short:   "Show a federation in full",
		long:    "Show prints one federation with its rule.\n\nExit codes: 0 shown; 2 there is none of this name, or it could not be had.",
		example: "  pratique federation show github",
		args:    takesOne("NAME"),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			return showFederations(cmd, cl, out, args[0])
		}}.command()
}

// showFederations prints all federations, or the one of a name.
func showFederations(cmd *cobra.Command, cl *api.Client, out output, name string) error {
	list, err := cl.Federations(cmd.Context(), name)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	switch {
	case out.json() && name != "":
		return writeJSON(w, list[0])
	case out.json():
		return writeJSON(w, api.FederationList{Federations: list})
	case name != "":
		f := list[0]
		once := "as often as it is shown"
		if f.Once {
			once = "one time only"
		}
		_, err = fmt.Fprintf(w, "%s\n  principal  %s\n  issuer     %s\n  audience   %s\n  rule       %s\n  a token    counts %s\n  set up     %s by %s\n",
			f.Name, f.Principal, f.Issuer, f.Audience, f.Rule, once, timeText(f.Created), f.CreatedBy)
		return err
	case len(list) == 0:
		_, err = fmt.Fprintln(cmd.ErrOrStderr(), "no federations; 'pratique federation create --help' shows how to trust an issuer")
		return err
	}
	rows := make([]table.Row, len(list))
	for i, f := range list {
		rows[i] = table.Row{f.Name, f.Principal, f.Issuer, f.Audience, f.Rule}
	}
	return writeTable(w, table.Row{"name", "principal", "issuer", "audience", "rule"}, rows)
}

func newFederationDelete() *cobra.Command {
	return call{
		use:   "delete NAME",
		short: "Trust an issuer's tokens no more",
		long: `Delete takes a federation away; its principal stays. What was got by its tokens holds no
more at once.

Exit codes: 0 deleted; 2 there is none of this name, or it is not deleted.`,
		example: "  pratique federation delete github",
		args:    takesOne("NAME"),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			if err := cl.DeleteFederation(cmd.Context(), args[0]); err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), map[string]string{"deleted": args[0]})
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "federation %s deleted\n", args[0])
			return err
		}}.command()
}

func newFederationTest() *cobra.Command {
	var file string
	c := call{
		use:   "test",
		short: "Say which federation takes a token, or why none does",
		long: `Test has the registry verify a token, as a login with it would, and prints what each federation
says to it. The token is read from standard input, or from --token-file. It is not used up, and
nobody logs in by it.

Exit codes: 0 a federation takes it; 1 none does; 2 it could not be told.`,
		example: `  pratique federation test < token
  pratique federation test --token-file /var/run/secrets/tokens/registry`,
		args: takesNone,
		run: func(cmd *cobra.Command, cl *api.Client, out output, _ []string) error {
			token, err := readToken(file, cmd.InOrStdin())
			if err != nil {
				return err
			}
			got, err := cl.TestToken(cmd.Context(), token)
			if err != nil {
				return err
			}
			if out.json() {
				err = writeJSON(cmd.OutOrStdout(), got)
			} else {
				err = printTested(cmd.OutOrStdout(), got)
			}
			if err == nil && got.Chosen == "" {
				return &exitError{code: ExitRefused}
			}
			return err
		}}.command()
	c.Flags().StringVar(&file, "token-file", "", "file that holds the token (default standard input)")
	return c
}

func printTested(w io.Writer, got api.TokenTested) error {
	var b strings.Builder
	if got.Why != "" {
		fmt.Fprintf(&b, "no federation takes it: %s\n", got.Why)
	} else {
		fmt.Fprintf(&b, "issuer    %s\nsubject   %s\naudience  %s\nends      %s\n\n", got.Issuer, got.Subject, strings.Join(got.Audience, ", "), timeText(got.Expires))
		for _, t := range got.Tries {
			fmt.Fprintf(&b, "%s: %s\n", t.Federation, cmp.Or(t.Why, "takes it, for "+t.Principal))
		}
		if got.Chosen != "" {
			fmt.Fprintf(&b, "\nit proves %s, by federation %s\n", got.Principal, got.Chosen)
		} else {
			b.WriteString("\nit proves nobody\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// maxToken bounds a token's file, in bytes.
const maxToken = 64 << 10

// readToken reads a token from a file, or from in where there is no path.
func readToken(path string, in io.Reader) (string, error) {
	if path != "" {
		f, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("token: %w", err)
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	s := strings.TrimSpace(string(raw))
	if s == "" || len(raw) > maxToken || strings.ContainsAny(s, " \t\r\n") {
		return "", fmt.Errorf("token from %s: expected one of 1 to %d bytes", cmp.Or(path, "standard input"), maxToken)
	}
	return s, nil
}

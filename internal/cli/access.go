package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/api"
)

func newAccess() *cobra.Command {
	return family("access", "Why something may be done, or may not", "", `  pratique access check ci repository.push team/app`, newAccessCheck())
}

func newAccessCheck() *cobra.Command {
	var tag, address, at string
	c := call{use: "check PRINCIPAL PERMISSION [REPOSITORY]", short: "Say whether a principal may do something, and why",
		long: `Check says whether a principal may do something to a repository, or without one to the
registry as a whole, and what each of its assignments had to do with the answer: which role in
which scope, by which group or scope map, under which condition. PERMISSION is one of those that
'pratique role show Owner' prints, or Azure's, as content/read.

--tag, --address and --at are what conditions can ask of a request. Everyone can check
themselves, with the address that they come from.

Exit codes: 0 it may; 1 it may not; 2 that could not be told.`,
		example: `  pratique access check ci repository.push team/app
  pratique access check ann content/read team/app --address 10.1.2.3 --at 2027-01-31T22:00:00Z`,
		args: takes([]string{"PRINCIPAL", "PERMISSION"}, "[REPOSITORY]"),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			q := api.Question{Principal: args[0], Permission: args[1], Tag: tag}
			if len(args) > 2 {
				q.Repository = args[2]
			}
			var err error
			if address != "" {
				if q.Address, err = netip.ParseAddr(address); err != nil {
					return fmt.Errorf("--address %q: expected one as in 192.0.2.1", address)
				}
			}
			if at != "" {
				if q.At, err = parseWhen(at, time.Now()); err != nil {
					return fmt.Errorf("--at %w", err)
				}
			}
			got, err := cl.CheckAccess(cmd.Context(), q)
			if err != nil {
				return err
			}
			if out.json() {
				err = writeJSON(cmd.OutOrStdout(), got)
			} else {
				err = writeCheck(cmd, got)
			}
			switch {
			case err != nil:
				return err
			case got.Unknown() && !got.Disabled:
				return fmt.Errorf("that depends on what is not known of the request: give --address or --tag")
			case !got.Allowed:
				return &exitError{code: ExitRefused}
			}
			return nil
		}}.command()
	c.Flags().StringVar(&tag, "tag", "", "tag that the request names")
	c.Flags().StringVar(&address, "address", "", "address that the request comes from")
	c.Flags().StringVar(&at, "at", "", "when: a date or time, or as in 12h from now (default now)")
	return c
}

// writeCheck prints an answer and how it came about, what counted first.
func writeCheck(cmd *cobra.Command, got api.Check) error {
	said := "may not"
	switch {
	case got.Allowed:
		said = "may"
	case got.Unknown() && !got.Disabled:
		said = "may not, as far as is known,"
	}
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%s %s do %s on %s\n", got.Principal, said, got.Permission, cmp.Or(got.Repository, "the registry as a whole"))
	switch {
	case got.Disabled:
		_, err := fmt.Fprintf(w, "it is disabled; 'pratique principal enable %s' lets it in again\n", got.Principal)
		return err
	case len(got.Reasons) == 0:
		_, err := fmt.Fprintln(w, "it was given nothing")
		return err
	}
	var rows, others []table.Row
	for _, r := range got.Reasons {
		row := table.Row{grantedText(r), r.Role, r.Scope, cmp.Or(r.Via, "-"), cmp.Or(r.Condition, "-"), r.Why}
		if r.Granted {
			rows = append(rows, row)
		} else {
			others = append(others, row)
		}
	}
	return writeTable(w, table.Row{"", "role", "scope", "via", "condition", "why"}, append(rows, others...))
}

func grantedText(r access.Reason) string {
	if r.Granted {
		return "yes"
	}
	return "no"
}

func newWhoami() *cobra.Command {
	return call{use: "whoami", short: "Print who one is for the registry, and what one was given",
		long: `Whoami prints whom the registry takes the client for, by what, and what that principal was
given.

Exit codes: 0 printed; 2 the registry takes the client for nobody, or could not be asked.`,
		example: `  pratique whoami`,
		args:    takesNone,
		run: func(cmd *cobra.Command, cl *api.Client, out output, _ []string) error {
			s, err := cl.Whoami(cmd.Context())
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), s)
			}
			w := cmd.OutOrStdout()
			by := ""
			if s.Credential != "" {
				by = ", by " + s.Credential
			}
			if !s.Ends.IsZero() {
				by += ", which ends " + timeText(s.Ends)
			}
			fmt.Fprintf(w, "%s, %s%s\n", s.Name, s.Kind, by)
			if len(s.Groups) > 0 {
				fmt.Fprintln(w, "groups:", strings.Join(s.Groups, " "))
			}
			return writeGiven(w, s.Given)
		}}.command()
}

func newKeys() *cobra.Command {
	return family("keys", "The keys that sign the registry's tokens", `Tokens are signed with a key that is kept in the catalog and replaced every seven days. The
public keys are at /.well-known/jwks.json, for everybody.`, `  pratique keys list
  pratique keys rotate`,
		keysCommand("list", "List the public keys", `List prints the keys by which tokens can be verified, the newest first.

Exit codes: 0 listed; 2 the list could not be had.`, (*api.Client).Keys),
		keysCommand("rotate", "Have a new key sign", `Rotate makes a new key, which signs from half a minute later on, when every replica knows it.
Tokens that were signed before hold until they run out.

Exit codes: 0 rotated; 2 not rotated, and the message says why.`, (*api.Client).RotateKeys))
}

func keysCommand(verb, short, long string, do func(*api.Client, context.Context) (api.KeyList, error)) *cobra.Command {
	return call{use: verb, short: short, long: long, example: "  pratique keys " + verb, args: takesNone,
		run: func(cmd *cobra.Command, cl *api.Client, out output, _ []string) error {
			l, err := do(cl, cmd.Context())
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), l)
			}
			rows := make([]table.Row, len(l.Keys))
			for i, k := range l.Keys {
				rows[i] = table.Row{k.ID, k.Algorithm}
			}
			return writeTable(cmd.OutOrStdout(), table.Row{"key", "algorithm"}, rows)
		}}.command()
}

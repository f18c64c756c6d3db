package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/rules"
)

func newRules() *cobra.Command {
	c := &cobra.Command{
		Use:   "rules",
		Short: "Immutable tags, quotas, retention and the trash: the rules for repositories",
		Long: `Rules are one YAML document, kept by the registry:

  restore: 168h            # how long what was deleted can be had back
  immutable:               # tags that are neither moved nor deleted once they are set
    - {repositories: "prod/**", tags: "v*"}
  quotas:                  # of all repositories together whose names begin with prefix
    - {prefix: "team-a/", bytes: 10GiB, tags: 1000}
  retention:               # what goes after a while, once a day; see 'pratique retention run'
    - name: dev
      repositories: "dev/**"
      tags: "*"
      keepLast: 10
      keepPushedWithin: 30d
      keepPulledWithin: 30d
      untaggedAfter: 7d

In patterns * is any text without a slash, ** any text and ? one character. A tag is
decided by the first rule for retention that matches it, and stays if one of that rule's
conditions keeps it.`,
		Example: `  pratique rules show
  pratique rules set rules.yaml`,
		Args: takesNone,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newRulesShow(), newRulesCheck(), newRulesSet(), newRulesUsage())
	return c
}

func newRulesShow() *cobra.Command {
	var (
		conn connection
		out  output
	)
	c := &cobra.Command{
		Use:   "show",
		Short: "Print the rules that hold",
		Long: `Show prints the document as it was set, so that it can be changed and set again; with
-o json also what the registry reads in it.

Exit codes: 0 printed; 2 the rules could not be had.`,
		Example: `  pratique rules show > rules.yaml
  pratique rules show -o json`,
		Args: takesNone,
		RunE: func(cmd *cobra.Command, _ []string) error {
			got, err := heldRules(cmd, &conn, &out)
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), got)
			}
			if got.Source == "" {
				_, err = fmt.Fprintf(cmd.ErrOrStderr(), "no rules are set; what is deleted can be had back for %s\n", got.Rules.Restore)
				return err
			}
			_, err = io.WriteString(cmd.OutOrStdout(), got.Source)
			return err
		},
	}
	conn.register(c)
	out.register(c)
	return c
}

func heldRules(cmd *cobra.Command, conn *connection, out *output) (api.Rules, error) {
	if err := out.check(); err != nil {
		return api.Rules{}, err
	}
	cl, err := conn.client()
	if err != nil {
		return api.Rules{}, err
	}
	return cl.Rules(cmd.Context())
}

func newRulesUsage() *cobra.Command {
	var (
		conn connection
		out  output
	)
	c := &cobra.Command{
		Use:   "usage",
		Short: "Print how much of each quota is used",
		Long: `Usage prints what the repositories of each quota hold together. A blob counts in each
repository that has it, though it is stored once.

Exit codes: 0 printed; 2 the usage could not be had.`,
		Example: `  pratique rules usage`,
		Args:    takesNone,
		RunE: func(cmd *cobra.Command, _ []string) error {
			got, err := heldRules(cmd, &conn, &out)
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), struct {
					Quotas []rules.Quota `json:"quotas"`
					Usage  []rules.Usage `json:"usage"`
				}{got.Rules.Quotas, got.Usage})
			}
			if len(got.Rules.Quotas) == 0 {
				_, err = fmt.Fprintln(cmd.ErrOrStderr(), "no quotas are set; see 'pratique rules --help'")
				return err
			}
			rows := make([]table.Row, len(got.Usage))
			for i, u := range got.Usage {
				q := got.Rules.Quotas[i]
				rows[i] = table.Row{fmt.Sprintf("%q", q.Prefix), quotaText(sizeText(u.Bytes), sizeText(int64(q.Bytes)), q.Bytes > 0),
					quotaText(fmt.Sprint(u.Tags), fmt.Sprint(q.Tags), q.Tags > 0)}
			}
			return writeTable(cmd.OutOrStdout(), table.Row{"prefix", "bytes", "tags"}, rows)
		},
	}
	conn.register(c)
	out.register(c)
	return c
}

func quotaText(used, limit string, limited bool) string {
	if !limited {
		return used
	}
	return used + " of " + limit
}

func newRulesCheck() *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Say whether a document of rules is right, without setting it",
		Long: `Check reads a document as the registry would, and names the line and the field of the
first mistake. It asks no server. FILE - is the standard input.

Exit codes: 0 it is right; 1 it is not; 2 it could not be read.`,
		Example: `  pratique rules check rules.yaml`,
		Args:    takesOne("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			source, err := readRules(cmd, args[0])
			if err != nil {
				return err
			}
			r, err := rules.Parse(source)
			if err != nil {
				return &exitError{ExitRefused, fmt.Errorf("%s: %w", args[0], err)}
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), r)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is right: %s\n", args[0], rulesText(*r))
			return err
		},
	}
	out.register(c)
	return c
}

// readRules reads a document, and no more than there may be.
func readRules(cmd *cobra.Command, path string) ([]byte, error) {
	from := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("rules: %w", err)
		}
		defer f.Close() // only read from
		from = f
	}
	source, err := io.ReadAll(io.LimitReader(from, rules.MaxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	return source, nil
}

func newRulesSet() *cobra.Command {
	var (
		conn connection
		out  output
	)
	c := &cobra.Command{
		Use:   "set FILE",
		Short: "Put a document of rules in the place of those that hold",
		Long: `Set has the registry keep a document of rules. They hold from then on for whatever is
pushed, moved or deleted; what is over a quota already stays. An empty document removes
all rules. FILE - is the standard input.

Exit codes: 0 set; 1 the document is not right, and the rules are as before; 2 it could
not be set.`,
		Example: `  pratique rules set rules.yaml
  pratique rules set - < /dev/null`,
		Args: takesOne("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			cl, err := conn.client()
			if err != nil {
				return err
			}
			source, err := readRules(cmd, args[0])
			if err != nil {
				return err
			}
			if _, err := rules.Parse(source); err != nil {
				return &exitError{ExitRefused, fmt.Errorf("%s: %w", args[0], err)}
			}
			got, err := cl.SetRules(cmd.Context(), source)
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), got)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "rules set: %s\n", rulesText(got.Rules))
			return err
		},
	}
	conn.register(c)
	out.register(c)
	return c
}

// rulesText counts rules.
func rulesText(r rules.Rules) string {
	return fmt.Sprintf("%d immutable, %d quotas, %d for retention; what is deleted can be had back for %s",
		len(r.Immutable), len(r.Quotas), len(r.Retention), r.Restore)
}

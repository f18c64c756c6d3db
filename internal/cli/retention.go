package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/api"
)

func newRetention() *cobra.Command {
	c := &cobra.Command{
		Use:   "retention",
		Short: "Delete the tags and manifests that the rules for retention let go",
		Long: `Retention goes by the rules that 'pratique rules set' put down. The registry runs it
once a day; these commands run it now, or show what it would do.`,
		Example: `  pratique retention run --dry-run`,
		Args:    takesNone,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newRetentionRun())
	return c
}

func newRetentionRun() *cobra.Command {
	var (
		conn   connection
		out    output
		dryRun bool
	)
	c := &cobra.Command{
		Use:   "run",
		Short: "Run retention now, and say of each tag what becomes of it and why",
		Long: `Run has the registry delete now what the rules for retention let go, and prints a line
for each tag, and each manifest without one, that a rule decides about: whether it
goes or stays, by which rule, and why. A manifest goes with its last tag. What went
can be had back for as long as the rules say ('pratique trash list'); locked and
immutable tags stay, and so does what an index lists.

Exit codes: 0 it ran; 2 not, or not to the end, and the message says why.`,
		Example: `  pratique retention run --dry-run
  pratique retention run -o json`,
		Args: takesNone,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			cl, err := conn.client()
			if err != nil {
				return err
			}
			var all struct {
				Fates  []api.Fate   `json:"fates"`
				Result api.Retained `json:"result"`
			}
			all.Fates = []api.Fate{}
			each := func(f api.Fate) error { return writeFate(cmd.OutOrStdout(), f) }
			if out.json() {
				each = func(f api.Fate) error { all.Fates = append(all.Fates, f); return nil }
			}
			if all.Result, err = cl.Retain(cmd.Context(), dryRun, each); err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), all)
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), retainedText(all.Result))
			return err
		},
	}
	conn.register(c)
	out.register(c)
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would go, and delete nothing")
	return c
}

// writeFate prints one line.
func writeFate(w io.Writer, f api.Fate) error {
	verb := "keep  "
	if f.Goes {
		verb = "delete"
	}
	name := f.Repository.String() + ":" + f.Tag
	if f.Tag == "" {
		name = f.Repository.String() + "@" + f.Digest.String()
	}
	_, err := fmt.Fprintf(w, "%s  %s  (%s) %s\n", verb, name, f.Rule, f.Why)
	return err
}

// retainedText says in words what went.
func retainedText(r api.Retained) string {
	if r.Repositories == 0 {
		return "no rule for retention matches any repository; see 'pratique rules --help'\n"
	}
	if r.DryRun {
		return fmt.Sprintf("would delete %d tags and %d untagged manifests of %d repositories; %d stay\n", r.Tags, r.Manifests, r.Repositories, r.Kept)
	}
	return fmt.Sprintf("deleted %d tags and %d manifests of %d repositories; %d stay\n", r.Tags, r.Manifests, r.Repositories, r.Kept)
}

package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/upkeep"
)

func newRebuild() *cobra.Command {
	var (
		data  dataFlag
		out   output
		force bool
	)
	c := &cobra.Command{
		Use:   "rebuild",
		Short: "Make a lost catalog again from the blob store",
		Long: `Rebuild makes the catalog of a data folder again from what is beside it: the journal,
which says which repository held what under which tags, pushed when and by whom, and the
manifests themselves. The registry must not be running. It says what it could not
restore; nothing is served before it is judged anew. The journal is about a second behind the
registry: what was acknowledged in the second before the catalog was lost may be missing.

A catalog that is there is left alone, unless --force is given; then it is moved aside.

Exit codes: 0 all that the journal knows of is there again; 1 the rest is, and what is
missing was named; 2 it could not be done, and nothing was changed.`,
		Example: `  pratique rebuild --data ./data
  pratique rebuild --data ./data --force -o json`,
		Args: takesNone,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			p := newProgress(cmd.ErrOrStderr())
			got, err := upkeep.Rebuild(cmd.Context(), data.path(), upkeep.RebuildOptions{Force: force,
				Progress: func(done, total int) { p.update("rebuilding", int64(done), int64(total), countText) }})
			p.done()
			if err != nil {
				return err
			}
			if out.json() {
				err = writeJSON(cmd.OutOrStdout(), got)
			} else {
				err = writeProblems(cmd.OutOrStdout(), got.Problems, got.Omitted, rebuiltText(got))
			}
			return left(err, len(got.Problems))
		},
	}
	data.register(c)
	out.register(c)
	c.Flags().BoolVar(&force, "force", false, "also where there is a catalog, which is moved aside")
	return c
}

// rebuiltText says in words what a rebuild has made.
func rebuiltText(r upkeep.Rebuilt) string {
	var b strings.Builder
	fmt.Fprintf(&b, "rebuilt %d repositories with %d manifests and %d tags\n", r.Repositories, r.Manifests, r.Tags)
	if r.MovedAside != "" {
		fmt.Fprintf(&b, "the catalog that was there is %s now\n", r.MovedAside)
	}
	b.WriteString("not restored:")
	for _, n := range r.NotRestored {
		fmt.Fprintf(&b, "\n  %s", n)
	}
	return b.String()
}

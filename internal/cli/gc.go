package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/api"
)

func newGC() *cobra.Command {
	var (
		conn   connection
		out    output
		dryRun bool
	)
	c := &cobra.Command{
		Use:   "gc",
		Short: "Free the space of what was deleted and of what no image needs",
		Long: `Gc has the running registry collect garbage now, as it does every few hours by itself:
manifests whose time in the trash is over, blobs that no manifest names, bytes that a
crash left, and what is kept about things that are gone. Pushes and pulls go on
meanwhile. What was pushed, mounted or asked for by somebody who may push within the
last hour is spared (serve --gc-grace), since its manifest may still be on its way.

Exit codes: 0 collected; 2 not, or not to the end, and the message says why.`,
		Example: `  pratique gc --dry-run
  pratique gc -o json`,
		Args: takesNone,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			cl, err := conn.client()
			if err != nil {
				return err
			}
			p := newProgress(cmd.ErrOrStderr())
			got, err := cl.Collect(cmd.Context(), dryRun, func(c api.Collection) {
				p.update("collecting "+c.Phase, c.Bytes, 0, sizeText)
			})
			p.done()
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), got)
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), collectionText(got))
			return err
		},
	}
	conn.register(c)
	out.register(c)
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be freed, and free nothing")
	return c
}

// collectionText says in words what was freed.
func collectionText(c api.Collection) string {
	verb := "freed"
	if c.DryRun {
		verb = "would free"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %d manifests, %d blobs, %d files unknown to the catalog (%d records) in %.1f s\n", verb, sizeText(c.Bytes),
		c.Manifests, c.Blobs, c.Files, c.Records, c.Ended.Sub(c.Started).Seconds())
	if c.Held != "" {
		fmt.Fprintf(&b, "blobs were kept for now: %s; collect again when it is through\n", c.Held)
	}
	return b.String()
}

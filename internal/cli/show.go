package cli

import (
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/report"
)

func newShow() *cobra.Command {
	var (
		conn     connection
		out      output
		packages bool
	)
	c := &cobra.Command{
		Use:   "show REPOSITORY[:TAG|@DIGEST]",
		Short: "Print the verdict on an image in the registry, its findings and their fixes",
		Long: `Show prints what the registry knows of an image: the verdict and why, every finding
with the layer that brought it and the command that fixes it, and what could not be seen.

Exit codes: 0 the report was printed, whatever it says; 2 it could not be had.`,
		Example: `  pratique show team/app:1.2
  pratique show team/app@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 -o json`,
		Args: takesOne("REPOSITORY[:TAG|@DIGEST]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			cl, err := conn.client()
			if err != nil {
				return err
			}
			repo, ref, err := parseImage(cl, args[0])
			if err != nil {
				return err
			}
			r, err := cl.Report(cmd.Context(), repo, ref)
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), r)
			}
			return report.WriteText(cmd.OutOrStdout(), r, report.TextOptions{Color: useColor(cmd.OutOrStdout()), Packages: packages})
		},
	}
	conn.register(c)
	out.register(c)
	c.Flags().BoolVar(&packages, "packages", false, "list every package too")
	return c
}

// parseImage takes an image's name with or without the registry's host before it, as
// it would stand behind docker pull.
func parseImage(cl *api.Client, s string) (oci.Repository, oci.Reference, error) {
	_, host, _ := strings.Cut(cl.Server(), "://")
	return oci.ParseImage(strings.TrimPrefix(s, host+"/"))
}

func newList() *cobra.Command {
	var (
		conn      connection
		out       output
		query     api.ImageQuery
		decisions []string
	)
	c := &cobra.Command{
		Use:   "list [PREFIX]",
		Short: "List the images of the registry with their verdicts",
		Long: `List prints every tag of the repositories whose names begin with PREFIX, or of all,
with the verdict that stands and the number of findings by severity.

Exit codes: 0 listed; 2 the list could not be had.`,
		Example: `  pratique list
  pratique list team/ -o json
  pratique list prod/ --tag 'v*' --decision quarantine,pending`,
		Args: takesOneOrNone("PREFIX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			cl, err := conn.client()
			if err != nil {
				return err
			}
			query.Prefix, query.Decisions = strings.Join(args, ""), nil
			for _, t := range decisions {
				var d policy.Decision
				if err := d.UnmarshalText([]byte(t)); err != nil {
					return fmt.Errorf("--decision: %w", err)
				}
				query.Decisions = append(query.Decisions, d)
			}
			images, err := allImages(cmd, cl, query)
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), api.ImageList{Images: images})
			}
			if len(images) == 0 {
				return noImages(cmd, query)
			}
			rows := make([]table.Row, len(images))
			for i, img := range images {
				rows[i] = table.Row{img.Repository + ":" + img.Tag, img.Decision.String(), report.CountsText(img.Counts),
					sizeText(img.Size), img.Digest.Short(), timeText(img.PushedAt), strings.Join(img.Locks, " ")}
			}
			return writeTable(cmd.OutOrStdout(), table.Row{"image", "decision", "findings", "size", "digest", "pushed", "locked"}, rows)
		},
	}
	conn.register(c)
	out.register(c)
	c.Flags().StringVar(&query.Tag, "tag", "", "only tags of this pattern: * is any text, ? one character")
	c.Flags().StringSliceVar(&decisions, "decision", nil, "only these: allow, quarantine, pending")
	return c
}

// noImages says on the standard error that the list is empty, which is no failure.
func noImages(cmd *cobra.Command, q api.ImageQuery) error {
	said := "no images yet; push one"
	switch {
	case q.Tag != "" || len(q.Decisions) > 0:
		said = "no such images; 'pratique list' shows all"
	case q.Prefix != "":
		said = fmt.Sprintf("no images in repositories that begin with %q; 'pratique list' shows all", q.Prefix)
	}
	_, err := fmt.Fprintln(cmd.ErrOrStderr(), said)
	return err
}

// allImages follows the pages to their end.
func allImages(cmd *cobra.Command, cl *api.Client, q api.ImageQuery) ([]api.Image, error) {
	images := []api.Image{}
	for q.Limit = api.MaxPage; ; {
		page, err := cl.Images(cmd.Context(), q)
		if err != nil {
			return nil, err
		}
		images = append(images, page.Images...)
		if page.Next == "" {
			return images, nil
		}
		q.After = page.Next
	}
}

// sizeText says bytes in the unit that people read.
func sizeText(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f kB", float64(n)/1e3)
}

package cli

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/oci"
)

func newTags() *cobra.Command {
	c := &cobra.Command{
		Use:   "tags",
		Short: "What a tag named when, and how to point it back",
		Long: `The registry writes down each time that a tag is made, pointed elsewhere or removed, and by
whom, and keeps that for a year.`,
		Example: `  pratique tags history team/app:1.2
  pratique tags undo team/app:1.2`,
		Args: takesNone,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newTagsHistory(), newTagsUndo())
	return c
}

// parseTag reads REPOSITORY:TAG, with or without the registry's host before it.
func parseTag(cl *api.Client, s string) (oci.Repository, string, error) {
	repo, ref, err := parseTarget(cl, s)
	if err == nil && ref.Tag == "" {
		err = fmt.Errorf("%q: expected REPOSITORY:TAG", s)
	}
	return repo, ref.Tag, err
}

// parseTarget reads REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST, with or without the
// registry's host before it. The reference of a repository alone is zero.
func parseTarget(cl *api.Client, s string) (oci.Repository, oci.Reference, error) {
	_, host, _ := strings.Cut(cl.Server(), "://")
	s = strings.TrimPrefix(s, host+"/")
	if !strings.ContainsAny(s, ":@") {
		repo, err := oci.ParseRepository(s)
		return repo, oci.Reference{}, err
	}
	return oci.ParseImage(s)
}

// timeText is a time as people read it.
func timeText(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

func newTagsHistory() *cobra.Command {
	var (
		conn  connection
		out   output
		limit int
	)
	c := &cobra.Command{
		Use:   "history REPOSITORY:TAG",
		Short: "Print what a tag named when, and who pointed it there",
		Long: `History prints the moves of a tag, the newest first: tag where it was made or pointed at
a digest, untag where it was removed from one. Of a tag that is gone it prints what there was.

Exit codes: 0 printed; 2 nothing is known of the tag, or its history could not be had.`,
		Example: `  pratique tags history team/app:1.2
  pratique tags history team/app:1.2 --limit 1000 -o json`,
		Args: takesOne("REPOSITORY:TAG"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			if limit < 1 || limit > api.MaxPage {
				return fmt.Errorf("--limit %d: expected 1 to %d", limit, api.MaxPage)
			}
			cl, err := conn.client()
			if err != nil {
				return err
			}
			repo, tag, err := parseTag(cl, args[0])
			if err != nil {
				return err
			}
			got, err := cl.TagHistory(cmd.Context(), repo, tag, 0, limit)
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), got)
			}
			rows := make([]table.Row, len(got.Moves))
			for i, m := range got.Moves {
				rows[i] = table.Row{timeText(m.At), m.Kind, m.Digest, cmp.Or(m.By, "-")}
			}
			if err := writeTable(cmd.OutOrStdout(), table.Row{"when", "move", "digest", "by"}, rows); err != nil || got.Next == 0 {
				return err
			}
			_, err = fmt.Fprintln(cmd.ErrOrStderr(), "there is more; --limit shows it")
			return err
		},
	}
	conn.register(c)
	out.register(c)
	c.Flags().IntVar(&limit, "limit", 50, "how many moves to print at most")
	return c
}

func newTagsUndo() *cobra.Command {
	var (
		conn connection
		out  output
	)
	c := &cobra.Command{
		Use:   "undo REPOSITORY:TAG",
		Short: "Point a tag back to what it named before its last move",
		Long: `Undo points a tag back to what it named before it was last pointed elsewhere or removed.
That is a move too: a second undo takes back the first. If the manifest that it named was
deleted, 'pratique trash restore' may bring that back, with the tag.

Exit codes: 0 done; 2 not done, and the message says why.`,
		Example: `  pratique tags undo team/app:1.2`,
		Args:    takesOne("REPOSITORY:TAG"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			cl, err := conn.client()
			if err != nil {
				return err
			}
			repo, tag, err := parseTag(cl, args[0])
			if err != nil {
				return err
			}
			got, err := cl.UndoTag(cmd.Context(), repo, tag)
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), got)
			}
			was := "nothing"
			if !got.From.IsZero() {
				was = got.From.String()
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s:%s names %s again; it named %s\n", repo, tag, got.To, was)
			return err
		},
	}
	conn.register(c)
	out.register(c)
	return c
}

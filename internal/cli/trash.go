package cli

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/oci"
)

func newTrash() *cobra.Command {
	c := &cobra.Command{
		Use:   "trash",
		Short: "Deleted images that can be restored",
		Long: `An image that is deleted by its digest lies in the trash for as long as the rules say
(seven days where they say nothing), and keeps its space until then. It is served and listed
nowhere. A push of the same image takes it out; deleting one of its blobs removes it for good.`,
		Example: `  pratique trash list
  pratique trash restore team/app@sha256:...`,
		Args: takesNone,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newTrashList(), newTrashRestore(), newTrashPurge())
	return c
}

func newTrashList() *cobra.Command {
	var (
		conn connection
		out  output
	)
	c := &cobra.Command{
		Use:   "list [PREFIX]",
		Short: "List what can be restored",
		Long: `List prints the deleted images of the repositories whose names begin with PREFIX, or of
all, with the tags that named them, who deleted them when, and until when each can be restored.

Exit codes: 0 listed; 2 the list could not be had.`,
		Example: `  pratique trash list team/
  pratique trash list -o json`,
		Args: takesOneOrNone("PREFIX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			cl, err := conn.client()
			if err != nil {
				return err
			}
			list, err := allTrash(cmd, cl, strings.Join(args, ""))
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), api.Trash{Manifests: list})
			}
			if len(list) == 0 {
				_, err = fmt.Fprintln(cmd.ErrOrStderr(), "nothing in the trash")
				return err
			}
			rows := make([]table.Row, len(list))
			for i, d := range list {
				rows[i] = table.Row{d.Repository + "@" + d.Digest.String(), cmp.Or(strings.Join(d.Tags, " "), "-"), sizeText(d.Size),
					timeText(d.DeletedAt), cmp.Or(d.DeletedBy, "-"), timeText(d.Until)}
			}
			return writeTable(cmd.OutOrStdout(), table.Row{"image", "tags", "size", "deleted", "by", "until"}, rows)
		},
	}
	conn.register(c)
	out.register(c)
	return c
}

// allTrash follows the pages to their end.
func allTrash(cmd *cobra.Command, cl *api.Client, prefix string) ([]api.Trashed, error) {
	list := []api.Trashed{}
	for after := ""; ; {
		page, err := cl.Trash(cmd.Context(), prefix, after, api.MaxPage)
		if err != nil {
			return nil, err
		}
		list = append(list, page.Manifests...)
		if page.Next == "" {
			return list, nil
		}
		after = page.Next
	}
}

// parseDigest reads REPOSITORY@DIGEST, with or without the registry's host before it.
func parseDigest(cl *api.Client, s string) (oci.Repository, oci.Digest, error) {
	repo, ref, err := parseTarget(cl, s)
	if err == nil && ref.Digest.IsZero() {
		err = fmt.Errorf("%q: expected REPOSITORY@DIGEST, as 'pratique trash list' prints it", s)
	}
	return repo, ref.Digest, err
}

func newTrashRestore() *cobra.Command {
	var (
		conn connection
		out  output
	)
	c := &cobra.Command{
		Use:   "restore REPOSITORY@DIGEST",
		Short: "Bring a deleted image back, with its tags",
		Long: `Restore brings an image back as it was, with the tags that named it. Tags that were
pointed elsewhere since stay where they are. It is served if its verdict allows it.

Exit codes: 0 restored; 2 not restored, and the message says why.`,
		Example: `  pratique trash restore team/app@sha256:...`,
		Args:    takesOne("REPOSITORY@DIGEST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			cl, err := conn.client()
			if err != nil {
				return err
			}
			repo, d, err := parseDigest(cl, args[0])
			if err != nil {
				return err
			}
			got, err := cl.Restore(cmd.Context(), repo, d)
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), got)
			}
			text := fmt.Sprintf("%s@%s is restored: %s\n", repo, d, got.Decision)
			if len(got.Tags) > 0 {
				text += "tags: " + strings.Join(got.Tags, " ") + "\n"
			}
			if len(got.Left) > 0 {
				text += "pointed elsewhere since, and left there: " + strings.Join(got.Left, " ") + "\n"
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
	conn.register(c)
	out.register(c)
	return c
}

func newTrashPurge() *cobra.Command {
	var (
		conn connection
		out  output
	)
	c := &cobra.Command{
		Use:   "purge REPOSITORY@DIGEST",
		Short: "Remove an image from the trash for good",
		Long: `Purge removes an image from the trash before its time. It cannot be brought back. The
next collection of garbage frees its space (see 'pratique gc').

Exit codes: 0 removed; 2 not removed, and the message says why.`,
		Example: `  pratique trash purge team/app@sha256:...`,
		Args:    takesOne("REPOSITORY@DIGEST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			cl, err := conn.client()
			if err != nil {
				return err
			}
			repo, d, err := parseDigest(cl, args[0])
			if err != nil {
				return err
			}
			if err := cl.Purge(cmd.Context(), repo, d); err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), struct {
					Repository string     `json:"repository"`
					Digest     oci.Digest `json:"digest"`
				}{repo.String(), d})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s@%s is gone\n", repo, d)
			return err
		},
	}
	conn.register(c)
	out.register(c)
	return c
}

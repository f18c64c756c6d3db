package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/upkeep"
)

func newBackup() *cobra.Command {
	var (
		data   dataFlag
		out    output
		verify bool
		limit  rateValue
	)
	c := &cobra.Command{
		Use:   "backup TO",
		Short: "Back up a registry, also while it runs, to a folder",
		Long: `Backup copies the registry whose data folder is given to the folder TO: the catalog as it
is at one moment, and the blobs that it names. Blobs that are in TO already are not copied
again, so that every further backup is a generation more that shares what it has in common
with the others. What is copied is compared with its digest; --verify also reads what is
there already. The registry may be running; it collects no garbage meanwhile.

A backup that was broken off is no generation; the same command goes on from there.

Exit codes: 0 backed up; 1 backed up, but for blobs that the registry does not have whole,
which are named; 2 not backed up.`,
		Example: `  pratique backup --data ./data /mnt/backup
  pratique backup --data ./data /mnt/backup --verify --rate 200MB/s -o json`,
		Args: takesOne("TO"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			d, err := upkeep.Open(cmd.Context(), data.path())
			if err != nil {
				return err
			}
			p := newProgress(cmd.ErrOrStderr())
			g, err := upkeep.Backup(cmd.Context(), d, args[0], upkeep.BackupOptions{Verify: verify, Rate: int64(limit),
				Progress: func(done, total int64) { p.update("backing up", done, total, sizeText) }})
			p.done()
			if err := errors.Join(err, d.Close()); err != nil {
				return err
			}
			if out.json() {
				err = writeJSON(cmd.OutOrStdout(), g)
			} else {
				err = writeProblems(cmd.OutOrStdout(), g.Problems, g.Omitted, fmt.Sprintf("backed up as %s: %d manifests and %d blobs, %s; %d blobs copied, %s",
					g.Name, g.Manifests, g.Blobs, sizeText(g.Bytes), g.Copied, sizeText(g.CopiedBytes)))
			}
			return left(err, len(g.Problems))
		},
	}
	data.register(c)
	out.register(c)
	c.Flags().BoolVar(&verify, "verify", false, "read what is in TO already, and copy anew what is damaged there")
	c.Flags().Var(&limit, "rate", "bytes a second to read at most, as in 100MB/s")
	return c
}

func newRestore() *cobra.Command {
	var (
		data       dataFlag
		out        output
		generation string
		limit      rateValue
	)
	c := &cobra.Command{
		Use:   "restore FROM",
		Short: "Make a data folder from a backup",
		Long: `Restore makes the data folder that is given, which must be empty, from the newest backup
in the folder FROM, or from the generation that is named. Everything is compared with its
digest while it is copied. A restore that was broken off goes on where it was; until it
is through no registry starts on the folder.

Exit codes: 0 restored; 1 restored, but for blobs that the backup does not have whole,
which are named and count as absent until they are pushed again; 2 not restored.`,
		Example: `  pratique restore /mnt/backup --data ./data
  pratique restore /mnt/backup --data ./data --generation 20261124T041500.000Z`,
		Args: takesOne("FROM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			p := newProgress(cmd.ErrOrStderr())
			r, err := upkeep.Restore(cmd.Context(), args[0], data.path(), upkeep.RestoreOptions{Generation: generation, Rate: int64(limit),
				Progress: func(done, total int64) { p.update("restoring", done, total, sizeText) }})
			p.done()
			if err != nil {
				return err
			}
			if out.json() {
				err = writeJSON(cmd.OutOrStdout(), r)
			} else {
				err = writeProblems(cmd.OutOrStdout(), r.Problems, r.Omitted, fmt.Sprintf("restored %s of %s: %d manifests and %d blobs",
					r.Generation.Name, r.Generation.Created.Local().Format("2006-01-02 15:04:05"), r.Manifests, r.Blobs))
			}
			return left(err, len(r.Problems))
		},
	}
	data.register(c)
	out.register(c)
	c.Flags().StringVar(&generation, "generation", "", "the backup to restore, by its name under generations/; default: the newest")
	c.Flags().Var(&limit, "rate", "bytes a second to read at most, as in 100MB/s")
	return c
}

// left gives the exit code of a job that was done but for problems that are left.
func left(err error, problems int) error {
	if err == nil && problems > 0 {
		return &exitError{code: ExitRefused}
	}
	return err
}

// writeProblems prints what was found, and what was done at last.
func writeProblems(w io.Writer, problems []upkeep.Problem, omitted int, done string) error {
	var b strings.Builder
	for _, p := range problems {
		state := ""
		if p.Repaired {
			state = " (repaired)"
		}
		fmt.Fprintf(&b, "%s %s%s\n", p.Kind, strings.TrimSpace(p.Digest+" "+p.Detail), state)
		for _, i := range p.Images {
			fmt.Fprintf(&b, "  needed by %s\n", i)
		}
	}
	if omitted > 0 {
		fmt.Fprintf(&b, "and %d more\n", omitted)
	}
	fmt.Fprintln(&b, done)
	_, err := io.WriteString(w, b.String())
	return err
}

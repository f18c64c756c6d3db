package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/upkeep"
)

// dataFlag is the --data flag of the commands that work on a data folder.
type dataFlag struct{ dir string }

func (d *dataFlag) register(c *cobra.Command) {
	c.Flags().StringVar(&d.dir, "data", "", "data folder of the registry (PRATIQUE_DATA; default ./data)")
}

func (d *dataFlag) path() string { return cmp.Or(d.dir, os.Getenv("PRATIQUE_DATA"), "data") }

// rateValue is a flag of bytes a second, as in 100MB/s.
type rateValue int64

// String implements pflag.Value.
func (r *rateValue) String() string {
	if *r == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*r), 10) + "B/s"
}

// Type implements pflag.Value.
func (r *rateValue) Type() string { return "rate" }

// Set implements pflag.Value.
func (r *rateValue) Set(s string) error {
	number := strings.TrimSuffix(s, "/s")
	unit := int64(1)
	for _, u := range []struct {
		suffix string
		bytes  int64
	}{{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}} {
		if strings.HasSuffix(number, u.suffix) {
			number, unit = strings.TrimSuffix(number, u.suffix), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > 1<<50/unit {
		return errors.New("expected bytes a second, as in 100MB/s")
	}
	*r = rateValue(n * unit)
	return nil
}

func newFsck() *cobra.Command {
	var (
		data            dataFlag
		out             output
		repair, restart bool
		limit           rateValue
	)
	c := &cobra.Command{
		Use:   "fsck",
		Short: "Check every blob, manifest and reference of a data folder, and mend what can be",
		Long: `Fsck reads all bytes of the registry whose data folder is given and compares them with
their digests, checks what is written down of what names what, and has the database
check itself. The registry may be running. A check that was broken off goes on where it was.

With --repair, manifests are mended from their other copy, references from the manifests,
and usage by counting. A blob whose bytes are missing or changed is set aside (damaged/ in
the data folder) and counts as absent: push the images again that are named, and clients
send it anew.

Exit codes: 0 sound, or all was repaired; 1 problems were found and are left; 2 it could
not check to the end.`,
		Example: `  pratique fsck --data ./data --rate 100MB/s
  pratique fsck --data ./data --repair -o json`,
		Args: takesNone,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			d, err := upkeep.Open(cmd.Context(), data.path())
			if err != nil {
				return err
			}
			p := newProgress(cmd.ErrOrStderr())
			got, err := upkeep.Fsck(cmd.Context(), d.Cat, d.Store, upkeep.FsckOptions{Repair: repair, Restart: restart, Rate: int64(limit),
				Progress: func(c upkeep.Checked) { p.update("checking", c.Bytes, c.TotalBytes, sizeText) }})
			p.done()
			if err := errors.Join(err, d.Close()); err != nil {
				return fmt.Errorf("%w; the same command goes on from here", err)
			}
			if out.json() {
				err = writeJSON(cmd.OutOrStdout(), got)
			} else {
				err = writeChecked(cmd.OutOrStdout(), got)
			}
			return left(err, got.Left)
		},
	}
	data.register(c)
	out.register(c)
	c.Flags().BoolVar(&repair, "repair", false, "mend what can be mended")
	c.Flags().BoolVar(&restart, "restart", false, "begin anew, even if an earlier check was left half way")
	c.Flags().Var(&limit, "rate", "bytes a second to read at most, as in 100MB/s")
	return c
}

// writeChecked prints what a check found.
func writeChecked(w io.Writer, c upkeep.Checked) error {
	verdict := "sound"
	switch n := len(c.Problems) + c.Omitted; {
	case c.Left > 0:
		verdict = fmt.Sprintf("%d problems, %d left", n, c.Left)
	case n > 0:
		verdict = fmt.Sprintf("%d problems, all repaired", n)
	}
	return writeProblems(w, c.Problems, c.Omitted, fmt.Sprintf("%s: %d manifests and %d blobs checked, %s read", verdict, c.Manifests, c.Blobs, sizeText(c.Bytes)))
}

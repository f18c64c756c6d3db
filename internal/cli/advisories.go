package cli

import (
	"archive/zip"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/oci"
)

func newAdvisories() *cobra.Command {
	c := &cobra.Command{
		Use:   "advisories",
		Short: "Bring advisories into the registry, and see which there are",
		Example: `  pratique advisories status
  pratique advisories import ./osv`,
		SuggestionsMinimumDistance: nearCommand,
		Args:                       takesNone,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(newAdvisoriesStatus(), newAdvisoriesImport())
	return c
}

func newAdvisoriesStatus() *cobra.Command {
	var (
		conn connection
		out  output
	)
	c := &cobra.Command{
		Use:   "status",
		Short: "Print per ecosystem how many advisories there are, how old, and from where",
		Long: `Status prints what findings are looked up in: for each ecosystem the number of
advisories, the newest of them, the age of the source and where it came from.

Exit codes: 0 printed; 2 it could not be had.`,
		Example: "  pratique advisories status -o json",
		Args:    takesNone,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			cl, err := conn.client()
			if err != nil {
				return err
			}
			l, err := cl.Advisories(cmd.Context())
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), l)
			}
			rows := make([]table.Row, len(l.Ecosystems))
			for i, e := range l.Ecosystems {
				rows[i] = table.Row{e.Ecosystem, e.Records, dateText(e.Newest), dateText(e.AsOf), ageText(e),
					cmp.Or(e.File, e.Source), releasesText(e)}
			}
			err = writeTable(cmd.OutOrStdout(), table.Row{"ecosystem", "advisories", "newest", "as of", "age", "source", "releases"}, rows)
			if p := l.Loading; p != nil && err == nil {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "loading %s: %d of %d\n", p.Part, p.Done, p.Total)
			}
			return err
		},
	}
	conn.register(c)
	out.register(c)
	return c
}

func ageText(e api.Ecosystem) string {
	switch {
	case e.AsOf.IsZero():
		return "-"
	case e.AgeDays == 1:
		return "1 day"
	}
	return fmt.Sprintf("%d days", e.AgeDays)
}

func dateText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.DateOnly)
}

// releasesText lists the releases of a distribution without its name, 3.9 before 3.10.
func releasesText(e api.Ecosystem) string {
	out := make([]string, len(e.Releases))
	for i, r := range e.Releases {
		out[i] = strings.TrimPrefix(r, e.Ecosystem+":")
	}
	slices.SortFunc(out, func(a, b string) int {
		na, nb := releaseNumbers(a), releaseNumbers(b)
		return cmp.Or(slices.Compare(na, nb), cmp.Compare(a, b))
	})
	return strings.Join(out, " ")
}

// releaseNumbers are the numbers in a release's name.
func releaseNumbers(s string) (out []int) {
	for _, digits := range strings.FieldsFunc(s, func(r rune) bool { return r < '0' || r > '9' }) {
		if n, err := strconv.Atoi(digits); err == nil {
			out = append(out, n)
		}
	}
	return out
}

func newAdvisoriesImport() *cobra.Command {
	var (
		conn connection
		out  output
	)
	c := &cobra.Command{
		Use:   "import FOLDER|ZIP",
		Short: "Bring in OSV records, and judge anew the images that they concern",
		Long: `Import sends OSV dumps to the registry, in the layout of OSV's own: a folder that holds
<Ecosystem>/all.zip, with one <ID>.json each; or one such folder; or one such zip, in a
folder named for its ecosystem.

Each file is stored whole or not at all; a file that was imported before costs next to
nothing; an import that broke off is simply done again. A dump is the whole truth of its
ecosystem: records that it no longer holds are removed. Every image in the registry
that is concerned is judged anew, without reading a layer.

Exit codes: 0 all files are in; 2 at least one is not, and the message says which and why.`,
		Example: `  pratique advisories import ./osv
  pratique advisories import ./osv/Debian/all.zip -o json`,
		Args: takesOne("FOLDER|ZIP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			dumps, closeAll, err := findDumps(args[0])
			if err != nil {
				return err
			}
			defer closeAll()
			cl, err := conn.client()
			if err != nil {
				return err
			}
			return importDumps(cmd, cl, dumps, out)
		},
	}
	conn.register(c)
	out.register(c)
	return c
}

// dump is one file to send.
type dump struct {
	ecosystem string
	shown     string
	open      func() (io.ReadCloser, int64, error)
}

// named says which file an error is about, unless the server has said so already.
func (d dump) named(err error) error {
	var said *oci.Error
	if errors.As(err, &said) && strings.HasPrefix(said.Message, d.shown+": ") {
		return errors.New(said.Message)
	}
	return fmt.Errorf("%s: %w", d.shown, err)
}

func importDumps(cmd *cobra.Command, cl *api.Client, dumps []dump, out output) error {
	results := []api.Imported{}
	var failed []error
	for _, d := range dumps {
		rs, err := importDump(cmd, cl, d)
		if err != nil {
			failed = append(failed, d.named(err))
			if cmd.Context().Err() != nil {
				break
			}
			continue
		}
		results = append(results, rs...)
	}
	if out.json() {
		if err := writeJSON(cmd.OutOrStdout(), results); err != nil {
			return err
		}
	} else if len(results) > 0 {
		rows := make([]table.Row, len(results))
		for i, r := range results {
			rows[i] = table.Row{r.Ecosystem, r.Records, r.Added, r.Changed, r.Removed, r.Unchanged, r.Images}
		}
		if err := writeTable(cmd.OutOrStdout(), table.Row{"ecosystem", "advisories", "added", "changed", "removed", "unchanged", "images judged anew"}, rows); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

func importDump(cmd *cobra.Command, cl *api.Client, d dump) ([]api.Imported, error) {
	r, size, err := d.open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	p := newProgress(cmd.ErrOrStderr())
	defer p.done()
	sent := &sending{r: r, report: func(n int64) { p.update("sending "+d.shown, n, size, sizeText) }}
	return cl.Import(cmd.Context(), d.ecosystem, sent, size, func(e api.Progress) {
		p.update("importing "+e.Part, int64(e.Done), int64(e.Total), countText)
	})
}

type sending struct {
	r      io.Reader
	n      int64
	report func(int64)
}

func (s *sending) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	s.report(s.n)
	return n, err
}

// dumpName is what OSV calls the file with all records of an ecosystem.
const dumpName = "all.zip"

// findDumps finds the files to send: <Ecosystem>/all.zip under a folder or in a zip,
// or one all.zip alone. The caller calls the second result when it is done.
func findDumps(name string) ([]dump, func(), error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, nil, err
	}
	if info.IsDir() {
		return dumpsInFolder(name)
	}
	return dumpsInZip(name)
}

func dumpsInFolder(dir string) ([]dump, func(), error) {
	if _, err := os.Stat(filepath.Join(dir, dumpName)); err == nil {
		return dumpsInZip(filepath.Join(dir, dumpName))
	}
	found, err := filepath.Glob(filepath.Join(globEscape(dir), "*", dumpName))
	if err != nil {
		return nil, nil, err
	}
	if len(found) == 0 {
		return nil, nil, fmt.Errorf("%s holds no <Ecosystem>/%s; expected the layout of OSV's own dumps", dir, dumpName)
	}
	slices.Sort(found)
	var out []dump
	for _, f := range found {
		out = append(out, fileDump(f))
	}
	return out, func() {}, nil
}

// globEscape keeps filepath.Glob from reading a folder's name as a pattern.
func globEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

func fileDump(name string) dump {
	abs, err := filepath.Abs(name)
	if err != nil {
		abs = name
	}
	eco := filepath.Base(filepath.Dir(abs))
	return dump{ecosystem: eco, shown: eco + "/" + filepath.Base(name), open: func() (io.ReadCloser, int64, error) {
		f, err := os.Open(name)
		if err != nil {
			return nil, 0, err
		}
		info, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, 0, err
		}
		return f, info.Size(), nil
	}}
}

// dumpsInZip takes a zip for one dump, or for a folder of dumps if it holds any.
func dumpsInZip(name string) ([]dump, func(), error) {
	z, err := zip.OpenReader(name)
	if err != nil {
		return nil, nil, fmt.Errorf("%s is no zip file, or a damaged one: %w", name, err)
	}
	var out []dump
	for _, e := range z.File {
		if path.Base(e.Name) != dumpName || path.Dir(e.Name) == "." {
			continue
		}
		eco := path.Base(path.Dir(e.Name))
		out = append(out, dump{ecosystem: eco, shown: eco + "/" + dumpName, open: func() (io.ReadCloser, int64, error) {
			r, err := e.Open()
			return r, int64(e.UncompressedSize64), err
		}})
	}
	if len(out) == 0 {
		z.Close()
		return []dump{fileDump(name)}, func() {}, nil
	}
	return out, func() { z.Close() }, nil
}

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/audit"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/upkeep"
)

func newAudit() *cobra.Command {
	c := &cobra.Command{
		Use:   "audit",
		Short: "Who did what, and who was refused",
		Long: `The registry keeps a record of each push and deletion, of each change of principals,
secrets, roles and rules, of what an administrator has it do, of wrong credentials and
refused requests, and of each pull of what is quarantined; with 'serve --audit-pulls' of all
pulls. Records are chained to one another, so that one that was changed or taken away shows.`,
		Example: `  pratique audit list --decision denied --since 24h
  pratique audit verify`,
		Args: takesNone,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newAuditList(), newAuditExport(), newAuditVerify())
	return c
}

func newAuditList() *cobra.Command {
	var q api.AuditQuery
	var since, until string
	c := call{
		use:   "list",
		short: "Print records, the newest first",
		long: `List prints the newest records of those that are asked for.

Exit codes: 0 printed; 2 the records could not be had.`,
		example: `  pratique audit list --limit 20
  pratique audit list --actor ci --action push --target team/
  pratique audit list --decision denied --since 24h -o json`,
		args: takesNone,
		run: func(cmd *cobra.Command, cl *api.Client, out output, _ []string) error {
			var err error
			if q.Since, err = parseSince(since, time.Now()); err != nil {
				return fmt.Errorf("--since %w", err)
			}
			if q.Until, err = parseSince(until, time.Now()); err != nil {
				return fmt.Errorf("--until %w", err)
			}
			records, err := auditRecords(cmd, cl, q)
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), map[string][]api.AuditRecord{"records": records})
			}
			return writeAudit(cmd.OutOrStdout(), records)
		}}.command()
	fs := c.Flags()
	fs.StringVar(&q.Actor, "actor", "", "of this principal alone")
	fs.StringVar(&q.Action, "action", "", "of this action alone: push, delete, login, role-assign, …")
	fs.StringVar(&q.Target, "target", "", "whose target begins so, as in team/")
	fs.StringVar(&q.Decision, "decision", "", "allowed, denied or failed alone")
	fs.StringVar(&since, "since", "", "from a time on: how long ago it is, as in 24h or 7d, or a date")
	fs.StringVar(&until, "until", "", "up to a time, likewise")
	fs.IntVar(&q.Limit, "limit", 100, "print so many at most")
	return c
}

// parseSince reads a date, a time, or how long ago it is; "" is the zero time.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if ago, err := parseLasting(s); err == nil {
		return now.Add(-ago), nil
	}
	return parseWhen(s, now)
}

// auditRecords asks for pages until there are as many as are wanted.
func auditRecords(cmd *cobra.Command, cl *api.Client, q api.AuditQuery) ([]api.AuditRecord, error) {
	out, want := []api.AuditRecord{}, max(q.Limit, 1)
	for {
		q.Limit = min(want-len(out), api.MaxPage)
		page, err := cl.Audit(cmd.Context(), q)
		if err != nil {
			return nil, err
		}
		out = append(out, page.Records...)
		if q.Before = page.Next; q.Before == 0 || len(out) >= want {
			return out, nil
		}
	}
}

func writeAudit(w io.Writer, records []api.AuditRecord) error {
	rows := make([]table.Row, len(records))
	for i, r := range records {
		action := r.Action
		if r.Count > 1 {
			action += fmt.Sprintf(" ×%d", r.Count)
		}
		rows[i] = table.Row{r.Seq, r.At.Local().Format(time.DateTime), printable(r.Actor), action, printable(r.Target), r.Decision, r.Address, printable(r.Why)}
	}
	return writeTable(w, table.Row{"seq", "at", "actor", "action", "target", "decision", "address", "why"}, rows)
}

// printable is a text that somebody else chose, as a terminal may be given it.
func printable(s string) string {
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

func newAuditExport() *cobra.Command {
	var (
		conn  connection
		after int64
		file  string
		out   = output{format: "json"}
	)
	c := &cobra.Command{
		Use:   "export",
		Short: "Write all records as lines of JSON, the oldest first",
		Long: `Export writes each record as one line of JSON. To go on later, give the last one's seq with
--after. What is handed on as it happens goes to syslog: 'serve --audit-syslog'.

Exit codes: 0 all were written; 2 not all, and the message says from where to go on.`,
		Example: `  pratique audit export > audit.jsonl
  pratique audit export --after 120000 --file more.jsonl`,
		Args: takesNone,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if !out.json() {
				return fmt.Errorf("--output %q: export writes lines of json alone; 'pratique audit list' prints a table", out.format)
			}
			cl, err := conn.client()
			if err != nil {
				return err
			}
			to := cmd.OutOrStdout()
			if file != "" {
				f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
				if err != nil {
					return fmt.Errorf("--file: %w", err)
				}
				defer func() { err = errors.Join(err, f.Close()) }()
				to = f
			}
			p := newProgress(cmd.ErrOrStderr())
			last, err := cl.ExportAudit(cmd.Context(), after, to, func(seq int64) { p.update("exporting", seq, 0, countText) })
			p.done()
			if err != nil {
				return fmt.Errorf("%w; go on with --after %d", err, last)
			}
			return nil
		},
	}
	c.Flags().Int64Var(&after, "after", 0, "only records behind the one with this seq")
	c.Flags().StringVarP(&out.format, "output", "o", "json", "how to write: json")
	c.Flags().StringVar(&file, "file", "", "write to a file that is not there yet, instead of the standard output")
	conn.register(c)
	return c
}

func newAuditVerify() *cobra.Command {
	var (
		conn connection
		out  output
		head string
		data string
	)
	c := &cobra.Command{
		Use:   "verify",
		Short: "Prove that no record was changed or taken away",
		Long: `Verify follows the chain from its beginning and prints its head: the last record's number and
hash. Note the head somewhere else, and give it with --head the next time: then it shows too
if records were cut off the end, or if all of the chain was made anew. With --data it reads a
data folder itself, and asks no server.

Exit codes: 0 the chain holds; 1 it is broken; 2 that could not be told.`,
		Example: `  pratique audit verify
  pratique audit verify --head 4711:9f86d081884c7d65…
  pratique audit verify --data /var/lib/pratique -o json`,
		Args: takesNone,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			mark, err := parseHead(head)
			if err != nil {
				return err
			}
			p := newProgress(cmd.ErrOrStderr())
			followed := func(done int64) { p.update("following", done, 0, countText) }
			var got api.AuditVerified
			if data != "" {
				got, err = verifyFolder(cmd, data, mark, followed)
			} else {
				var cl *api.Client
				if cl, err = conn.client(); err == nil {
					got, err = cl.VerifyAudit(cmd.Context(), mark, followed)
				}
			}
			p.done()
			if err != nil {
				return err
			}
			return tellVerified(cmd, out, got)
		},
	}
	c.Flags().StringVar(&head, "head", "", "SEQ:HASH that an earlier verification printed")
	c.Flags().StringVar(&data, "data", "", "read this data folder, instead of asking a server")
	conn.register(c)
	out.register(c)
	return c
}

func parseHead(s string) (api.AuditMark, error) {
	if s == "" {
		return api.AuditMark{}, nil
	}
	seq, hash, ok := strings.Cut(s, ":")
	n, err := strconv.ParseInt(seq, 10, 64)
	if !ok || err != nil || n < 1 || len(hash) != 64 {
		return api.AuditMark{}, fmt.Errorf("--head %.80q: expected SEQ:HASH as 'pratique audit verify' printed it, with 64 hexadecimal digits", s)
	}
	return api.AuditMark{Seq: n, Hash: strings.ToLower(hash)}, nil
}

// verifyFolder verifies the log of a data folder.
func verifyFolder(cmd *cobra.Command, data string, head api.AuditMark, progress func(int64)) (out api.AuditVerified, err error) {
	file := filepath.Join(data, upkeep.CatalogFile)
	if _, err := os.Stat(file); err != nil {
		return out, fmt.Errorf("%s is no data folder of a registry: %w", data, err)
	}
	cat, err := catalog.Open(cmd.Context(), "sqlite:"+file)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, cat.Close()) }()
	got, err := audit.Verify(cmd.Context(), cat, catalog.AuditMark(head), progress)
	return api.AuditVerified{Records: got.Records, Behind: api.AuditMark(got.Behind), Head: api.AuditMark(got.Head), Open: got.Open, Broken: got.Broken, At: got.At}, err
}

func tellVerified(cmd *cobra.Command, out output, got api.AuditVerified) error {
	w := cmd.OutOrStdout()
	if out.json() {
		if err := writeJSON(w, got); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(w, "%d records follow one another", got.Records)
		if got.Behind.Seq > 0 {
			fmt.Fprintf(w, ", behind %d that were pruned by age or number", got.Behind.Seq)
		}
		if got.Open > 0 {
			fmt.Fprintf(w, "; %d were written just now and are not chained yet", got.Open)
		}
		if _, err := fmt.Fprintf(w, "\nhead  %d:%s\n", got.Head.Seq, got.Head.Hash); err != nil {
			return err
		}
	}
	if got.Broken != "" {
		return &exitError{ExitRefused, fmt.Errorf("the audit log is broken at %d: %s", got.At, got.Broken)}
	}
	return nil
}

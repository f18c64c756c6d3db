package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/api"
)

const expiresUsage = "when the secret ends: as in 90d or 12h, a date, or never (default 180d of a service principal or token, never of a user)"

// parseLasting reads how long something lasts, as in 90d or 12h.
func parseLasting(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err == nil && n >= 0 && n <= 36500 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q: expected a time as in 90d or 12h", s)
	}
	return d, nil
}

// parseWhen reads a date, a time, or how long it is to it.
func parseWhen(s string, now time.Time) (time.Time, error) {
	if t, err := time.ParseInLocation(time.DateOnly, s, time.Local); err == nil {
		return t, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	d, err := parseLasting(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q: expected a time as in 90d or 12h, or a date as in 2027-01-31", s)
	}
	return now.Add(d), nil
}

// newSecretExpiring is a secret that ends as --expires says.
func newSecretExpiring(expires string) (n api.NewSecret, err error) {
	switch expires {
	case "":
	case "never":
		n.Forever = true
	default:
		if n.Expires, err = parseWhen(expires, time.Now()); err != nil {
			err = fmt.Errorf("--expires %w, or never", err)
		}
	}
	return n, err
}

func endText(s api.Secret) string {
	switch {
	case s.Expires.IsZero():
		return "never"
	case s.Ended:
		return "ended " + timeText(s.Expires)
	}
	return timeText(s.Expires)
}

// writeSecret prints a secret that was made.
func writeSecret(w io.Writer, m api.SecretMade) {
	fmt.Fprintf(w, "  id      %s\n", m.ID)
	if m.Text != "" {
		fmt.Fprintf(w, "  secret  %s   (shown this once)\n", m.Text)
	}
	fmt.Fprintf(w, "  ends    %s\n", endText(m.Secret))
	if m.Replaced != nil {
		fmt.Fprintf(w, "The one that it replaces, %s, ends: %s\n", m.Replaced.ID, endText(*m.Replaced))
	}
}

func writeSecrets(w io.Writer, list []api.Secret) error {
	rows := make([]table.Row, len(list))
	for i, s := range list {
		rows[i] = table.Row{s.ID, s.Kind, cmp.Or(s.Name, "-"), timeText(s.Created), cmp.Or(s.CreatedBy, "-"), endText(s)}
	}
	return writeTable(w, table.Row{"id", "kind", "name", "created", "by", "ends"}, rows)
}

func newSecretAdd() *cobra.Command {
	var (
		name, expires, key, grace string
		rotate                    bool
	)
	c := call{use: "add PRINCIPAL", short: "Make a further secret, or register a public key",
		long: `Add makes a secret of 256 random bits and prints it, this once. Two of a principal can be
valid at the same time, so that one can be replaced without a gap: add another, bring it to
where it is used, expire the first. --rotate does the last step ahead: the secret that there
has been ends after --grace.

With --key, it registers a public key in its place: a JSON Web Key (RFC 7517) with whose private
part the principal signs its assertions (RFC 7523). Ten can be valid at the same time.

Everyone can do this for themselves, with the secret that they have: service principals and
tokens for 180 days at most.

Exit codes: 0 added; 2 not added, and the message says why.`,
		example: `  pratique secret add ci --rotate --grace 24h
  pratique secret add ci --expires 2027-01-31 --name 'build farm'
  pratique secret add ci --key ci-public.jwk`,
		args: takesOne("PRINCIPAL"),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			n, err := newSecretExpiring(expires)
			if err != nil {
				return err
			}
			n.Name, n.Rotate = name, rotate
			after, err := parseLasting(grace)
			if err != nil {
				return fmt.Errorf("--grace %w", err)
			}
			n.GraceSeconds = int64(after / time.Second)
			if key != "" {
				if n.Key, err = readKey(key); err != nil {
					return err
				}
			}
			m, err := cl.AddSecret(cmd.Context(), args[0], n)
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), m)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s of %s is added\n", m.Kind, args[0])
			writeSecret(cmd.OutOrStdout(), m)
			return nil
		}}.command()
	f := c.Flags()
	f.StringVar(&name, "name", "", "for people")
	f.StringVar(&expires, "expires", "", expiresUsage)
	f.StringVar(&key, "key", "", "file with a public key to register, a JWK")
	f.BoolVar(&rotate, "rotate", false, "have the secret that there has been end after --grace")
	f.StringVar(&grace, "grace", "24h", "how long it goes on being valid")
	return c
}

// maxKey bounds a key's file, in bytes.
const maxKey = 64 << 10

func readKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	defer f.Close() // only read from
	raw, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err == nil && len(raw) > maxKey {
		err = fmt.Errorf("%s has more than %d bytes", path, maxKey)
	}
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if !json.Valid(raw) {
		return nil, fmt.Errorf("key %s: expected a JSON Web Key (RFC 7517)", path)
	}
	return raw, nil
}

func newSecret() *cobra.Command {
	return family("secret", "What a principal proves itself with: secrets and public keys", `Of a secret only a hash is kept, of a key its public part. Clients hear in a Warning header of a
secret that ends within 30 days; the registry's log and its events tell of it 30, 7 and 1 days
before.`, `  pratique secret add ci --rotate --grace 24h
  pratique secret list ci`,
		newSecretAdd(), newSecretList(), newSecretExpire(), newSecretDelete())
}

func newSecretList() *cobra.Command {
	return call{use: "list PRINCIPAL", short: "List a principal's secrets and keys",
		long: `List prints the secrets and keys of a principal, those that have ended too. Everyone can list
their own.

Exit codes: 0 listed; 2 the list could not be had.`,
		example: `  pratique secret list ci`,
		args:    takesOne("PRINCIPAL"),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			l, err := cl.Secrets(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), l)
			}
			return writeSecrets(cmd.OutOrStdout(), l.Secrets)
		}}.command()
}

func newSecretExpire() *cobra.Command {
	var at string
	c := call{use: "expire PRINCIPAL ID", short: "Have a secret end, now or at a time",
		long: `Expire has a secret end now, or at the time that --at names. Whoever uses it is refused from
then on, and so are the tokens that were got with it.

Exit codes: 0 done; 2 not done, and the message says why.`,
		example: `  pratique secret expire ci 5k2v3n…
  pratique secret expire ci 5k2v3n… --at 7d`,
		args: takes([]string{"PRINCIPAL", "ID"}),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			var when time.Time
			if at != "" {
				var err error
				if when, err = parseWhen(at, time.Now()); err != nil {
					return fmt.Errorf("--at %w", err)
				}
			}
			s, err := cl.ExpireSecret(cmd.Context(), args[0], args[1], when)
			if err != nil {
				return err
			}
			return say(cmd, out, s, "secret %s of %s ends: %s", args[1], args[0], endText(s))
		}}.command()
	c.Flags().StringVar(&at, "at", "", "when: as in 7d or 12h, or a date (default now)")
	return c
}

func newSecretDelete() *cobra.Command {
	return call{use: "delete PRINCIPAL ID", short: "Delete a secret or a key",
		long: `Delete forgets a secret or a key. Whoever uses it is refused at once.

Exit codes: 0 deleted; 2 not deleted, and the message says why.`,
		example: `  pratique secret delete ci 5k2v3n…`,
		args:    takes([]string{"PRINCIPAL", "ID"}),
		run: func(cmd *cobra.Command, cl *api.Client, out output, args []string) error {
			if err := cl.DeleteSecret(cmd.Context(), args[0], args[1]); err != nil {
				return err
			}
			return say(cmd, out, map[string]string{"principal": args[0], "id": args[1]}, "secret %s of %s is deleted", args[1], args[0])
		}}.command()
}

func newPassword() *cobra.Command {
	var grace, expires string
	c := call{use: "password", short: "Replace one's own secret",
		long: `Password makes whoever runs it a new secret, prints it, this once, and ends the one that there
has been: at once, or after --grace. Needs no permission.

Exit codes: 0 replaced; 2 not replaced, and the message says why.`,
		example: `  pratique password
  pratique password --grace 1h`,
		args: takesNone,
		run: func(cmd *cobra.Command, cl *api.Client, out output, _ []string) error {
			n, err := newSecretExpiring(expires)
			if err != nil {
				return err
			}
			after, err := parseLasting(grace)
			if err != nil {
				return fmt.Errorf("--grace %w", err)
			}
			n.Rotate, n.GraceSeconds = true, int64(after/time.Second)
			self, err := cl.Whoami(cmd.Context())
			if err != nil {
				return err
			}
			m, err := cl.AddSecret(cmd.Context(), self.Name, n)
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), m)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s has a new secret\n", self.Name)
			writeSecret(cmd.OutOrStdout(), m)
			return nil
		}}.command()
	c.Flags().StringVar(&grace, "grace", "0s", "how long the old one goes on being valid, as in 1h")
	c.Flags().StringVar(&expires, "expires", "", expiresUsage)
	return c
}

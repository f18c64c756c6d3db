package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/api"
)

// loginFlags say how to log in.
type loginFlags struct {
	user, passwordFile string
	passwordStdin      bool
	oidc, tokenStdin   bool
	tokenFile          string
	audience           string
	docker             bool
}

// loggedIn is what login prints with -o json.
type loggedIn struct {
	Server  string    `json:"server"`
	Name    string    `json:"name"`
	Expires time.Time `json:"expires,omitzero"`
}

func newLogin() *cobra.Command {
	var (
		f   loginFlags
		out output
	)
	c := &cobra.Command{
		Use:   "login [SERVER]",
		Short: "Log in to a registry",
		Long: `Login proves who you are to a registry and keeps what it gets for the other commands, in
credentials.json beside the client's configuration file, which its owner alone may read.

With --user and a password these are kept as they are. With --oidc no secret is kept but a refresh
token that ends after some hours. It is got with the token that the machine has of an issuer:
  --token-file, or PRATIQUE_TOKEN_FILE, names a file, as Kubernetes projects for a service account;
  --token-stdin reads it from standard input;
  in GitHub Actions, with 'permissions: id-token: write', it is asked for with --audience.
Where there is none, the registry's sign-in page is to be opened in a browser on this machine.

--docker lets docker, podman, skopeo and others log in with it too, by docker's configuration
file. 'pratique docker-credential' does so without a copy there.

Exit codes: 0 logged in; 2 not logged in, and the message says why.`,
		Example: `  pratique login registry.example --user ci --password-stdin < secret
  pratique login registry.example --oidc
  pratique login registry.example --oidc --token-file /var/run/secrets/tokens/registry --docker`,
		Args: takesOneOrNone("SERVER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			s, err := f.login(cmd, strings.Join(args, ""))
			if err != nil {
				return err
			}
			if err := keep(s); err != nil {
				return err
			}
			if f.docker {
				if err := keepForDocker(s); err != nil {
					return err
				}
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), loggedIn{s.Server, s.Name, s.Expires})
			}
			until := ""
			if !s.Expires.IsZero() {
				until = ", until " + timeText(s.Expires)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "logged in to %s as %s%s\n", s.Server, s.Name, until)
			return err
		},
	}
	out.register(c)
	fs := c.Flags()
	fs.StringVar(&f.user, "user", "", "name to log in as, with a password")
	fs.BoolVar(&f.passwordStdin, "password-stdin", false, "read the password from standard input")
	fs.StringVar(&f.passwordFile, "password-file", "", "file that holds the password")
	fs.BoolVar(&f.oidc, "oidc", false, "log in by a token of an issuer, or with a browser")
	fs.StringVar(&f.tokenFile, "token-file", "", "file that holds the issuer's token (PRATIQUE_TOKEN_FILE)")
	fs.BoolVar(&f.tokenStdin, "token-stdin", false, "read the issuer's token from standard input")
	fs.StringVar(&f.audience, "audience", "", "audience that GitHub Actions is asked for (default the registry's address)")
	fs.BoolVar(&f.docker, "docker", false, "write it into docker's configuration file too")
	return c
}

// server is the registry that a command is about: as given, else that of the environment or the file.
func chosenServer(given string) (string, error) {
	file, err := readClientConfig()
	if err != nil {
		return "", err
	}
	if server := cmp.Or(given, os.Getenv("PRATIQUE_SERVER"), file.Server); server != "" {
		return server, nil
	}
	return "", errors.New("which registry? Give its address, as in 'registry.example', or set PRATIQUE_SERVER")
}

func (f *loginFlags) login(cmd *cobra.Command, given string) (stored, error) {
	server, err := chosenServer(given)
	if err != nil {
		return stored{}, err
	}
	byToken := f.tokenFile != "" || f.tokenStdin
	byPassword := f.user != "" || f.passwordStdin || f.passwordFile != ""
	switch {
	case byPassword && (f.oidc || byToken):
		return stored{}, errors.New("a password and --oidc exclude each other")
	case f.passwordStdin && f.passwordFile != "" || f.tokenStdin && f.tokenFile != "":
		return stored{}, errors.New("give the secret by a file or by standard input, not by both")
	case !f.oidc && !byToken && !byPassword:
		return stored{}, errors.New("how? Give --oidc, or --user with --password-stdin or --password-file")
	}
	cl, err := api.NewClient(server, "", "", loginClient())
	if err != nil {
		return stored{}, err
	}
	ctx := cmd.Context()
	switch {
	case byPassword:
		return f.byPassword(ctx, cl, cmd.InOrStdin())
	case byToken:
		token, err := readToken(f.tokenFile, cmd.InOrStdin())
		if err != nil {
			return stored{}, err
		}
		return ticketOf(cl, func() (api.Ticket, error) { return cl.LoginByToken(ctx, token) })
	case ambient() != "":
		return loginByAmbient(ctx, cl.Server(), f.audience)
	}
	return ticketOf(cl, func() (api.Ticket, error) { return loginByBrowser(ctx, cl, cmd.ErrOrStderr()) })
}

// ticketOf logs in and keeps the refresh token.
func ticketOf(cl *api.Client, login func() (api.Ticket, error)) (stored, error) {
	t, err := login()
	if err != nil {
		return stored{}, fmt.Errorf("log in to %s: %w", cl.Server(), err)
	}
	return stored{Server: cl.Server(), User: refreshUser, Secret: t.Token, Name: t.Name, Expires: t.Expires}, nil
}

func (f *loginFlags) byPassword(ctx context.Context, cl *api.Client, in io.Reader) (stored, error) {
	user := cmp.Or(f.user, os.Getenv("PRATIQUE_USER"))
	if user == "" || !f.passwordStdin && f.passwordFile == "" {
		return stored{}, errors.New("a password login needs --user, and --password-stdin or --password-file")
	}
	var secret string
	var err error
	if f.passwordFile != "" {
		secret, err = readSecret(f.passwordFile)
	} else {
		var raw []byte
		raw, err = io.ReadAll(io.LimitReader(in, maxSecret+1))
		if secret = strings.TrimRight(string(raw), "\r\n"); err == nil && (secret == "" || len(raw) > maxSecret) {
			err = fmt.Errorf("standard input: expected a password of 1 to %d bytes", maxSecret)
		}
	}
	if err != nil {
		return stored{}, err
	}
	t, err := cl.CheckSecret(ctx, user, secret)
	if err != nil {
		return stored{}, fmt.Errorf("log in to %s as %s: %w", cl.Server(), user, err)
	}
	return stored{Server: cl.Server(), User: user, Secret: secret, Name: t.Name}, nil
}

func newLogout() *cobra.Command {
	var (
		out    output
		docker bool
	)
	c := &cobra.Command{
		Use:   "logout [SERVER]",
		Short: "Forget a login",
		Long: `Logout removes what 'pratique login' keeps of a registry, and with --docker what docker's
configuration file has of it. A refresh token that was copied elsewhere ends by itself, or with
what it was got by.

Exit codes: 0 there is nothing kept any more; 2 it could not be removed.`,
		Example: `  pratique logout registry.example
  pratique logout registry.example --docker`,
		Args: takesOneOrNone("SERVER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			server, err := chosenServer(strings.Join(args, ""))
			if err != nil {
				return err
			}
			host := hostOf(server)
			had, err := forget(host)
			if err == nil && docker {
				err = forgetForDocker(host)
			}
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"host": host, "forgotten": had})
			}
			said := "logged out of"
			if !had {
				said = "there was no login at"
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), said, host)
			return err
		},
	}
	out.register(c)
	c.Flags().BoolVar(&docker, "docker", false, "remove it from docker's configuration file too")
	return c
}

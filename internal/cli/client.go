package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/api"
)

// connection is where the server is and who asks: from flags, then the environment,
// then the configuration file.
type connection struct {
	server, user, passwordFile string
	cmd                        *cobra.Command // nil: warnings of the server are not printed
}

// clientConfig is the configuration file of the client commands.
type clientConfig struct {
	Server       string `yaml:"server"`       // http://HOST:PORT or https://HOST
	User         string `yaml:"user"`         // principal to ask as
	PasswordFile string `yaml:"passwordFile"` // file with its secret
}

func (c *connection) register(cmd *cobra.Command) {
	c.cmd = cmd
	cmd.Flags().StringVar(&c.server, "server", "", "address of the registry, as in http://127.0.0.1:5000 (PRATIQUE_SERVER)")
	cmd.Flags().StringVar(&c.user, "user", "", "name to ask as (PRATIQUE_USER)")
	cmd.Flags().StringVar(&c.passwordFile, "password-file", "", "file that holds its secret (or the secret itself in PRATIQUE_PASSWORD)")
}

// configPath is where the client's configuration file lies.
func configPath() (string, error) {
	if p := os.Getenv("PRATIQUE_CONFIG"); p != "" {
		return p, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "pratique", "config.yaml"), nil
}

// readClientConfig reads the file if there is one; an unknown key is an error.
func readClientConfig() (clientConfig, error) {
	path, err := configPath()
	if err != nil {
		return clientConfig{}, nil // no home, no file
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && os.Getenv("PRATIQUE_CONFIG") == "" {
		return clientConfig{}, nil
	}
	if err != nil {
		return clientConfig{}, fmt.Errorf("configuration: %w", err)
	}
	var c clientConfig
	if err := yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict()).Decode(&c); err != nil && len(bytes.TrimSpace(raw)) > 0 {
		return clientConfig{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// client makes the client that the flags, the environment and the file describe, or the login that is
// kept. Without a name and a secret there is no need to ask: no registry answers to nobody.
func (c *connection) client() (*api.Client, error) {
	file, err := readClientConfig()
	if err != nil {
		return nil, err
	}
	user, password, err := c.credentials(file)
	if err != nil {
		return nil, err
	}
	server := cmp.Or(c.server, os.Getenv("PRATIQUE_SERVER"), file.Server)
	if user == "" && password == "" {
		if server, user, password, err = keptLogin(context.Background(), server); err != nil {
			return nil, err
		}
	}
	if user == "" || password == "" {
		return nil, errors.New("a name and a secret are needed: log in by 'pratique login', give --user and --password-file, or set PRATIQUE_USER and PRATIQUE_PASSWORD")
	}
	server = cmp.Or(server, "http://127.0.0.1:5000")
	cl, err := api.NewClient(server, user, password, &http.Client{})
	if err == nil && c.cmd != nil {
		told := map[string]bool{}
		cl.OnWarning(func(text string) {
			if !told[text] {
				told[text] = true
				fmt.Fprintln(c.cmd.ErrOrStderr(), "pratique: warning:", text)
			}
		})
	}
	return cl, err
}

// call is a command that asks the registry.
type call struct {
	use, short, long, example string
	args                      cobra.PositionalArgs
	run                       func(cmd *cobra.Command, cl *api.Client, out output, args []string) error
}

// command makes the command, with the flags that all such have.
func (k call) command() *cobra.Command {
	var (
		conn connection
		out  output
	)
	c := &cobra.Command{Use: k.use, Short: k.short, Long: k.long, Example: k.example, Args: k.args,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			cl, err := conn.client()
			if err != nil {
				return err
			}
			return k.run(cmd, cl, out, args)
		}}
	conn.register(c)
	out.register(c)
	return c
}

// family is a command that has others below it.
func family(use, short, long, example string, below ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long, Example: example, Args: takesNone,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(below...)
	return c
}

// say prints v with -o json, else the line.
func say(cmd *cobra.Command, out output, v any, format string, args ...any) error {
	if out.json() {
		return writeJSON(cmd.OutOrStdout(), v)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), format+"\n", args...)
	return err
}

// keptLogin returns what 'pratique login' keeps of a server, or of the one that was logged in to last
// where none is named.
func keptLogin(ctx context.Context, server string) (at, user, password string, err error) {
	kept, err := readCredentials()
	if err != nil {
		return server, "", "", err
	}
	host := kept.Current
	if server != "" {
		host = hostOf(server)
	}
	s, ok, err := login(ctx, host)
	if err != nil || !ok {
		return server, "", "", err
	}
	// Not by another scheme than was logged in by: a secret that was given over https stays there.
	return s.Server, s.User, s.Secret, nil
}

func (c *connection) credentials(file clientConfig) (user, password string, err error) {
	user = cmp.Or(c.user, os.Getenv("PRATIQUE_USER"), file.User)
	switch {
	case c.passwordFile != "":
		password, err = readSecret(c.passwordFile)
	case os.Getenv("PRATIQUE_PASSWORD") != "":
		password = os.Getenv("PRATIQUE_PASSWORD")
	case file.PasswordFile != "":
		password, err = readSecret(file.PasswordFile)
	}
	return user, password, err
}

// maxSecret bounds a secret's file, in bytes.
const maxSecret = 4096

// readSecret reads a secret from a file, without the line break at its end.
func readSecret(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("secret: %w", err)
	}
	s := strings.TrimRight(string(raw), "\r\n")
	if s == "" || len(s) > maxSecret {
		return "", fmt.Errorf("secret file %s: expected one line of 1 to %d bytes", path, maxSecret)
	}
	return s, nil
}

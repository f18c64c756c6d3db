package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pratique.dev/pratique/internal/api"
)

// refreshUser is the user name that goes with a refresh token.
const refreshUser = "00000000-0000-0000-0000-000000000000"

// renewBefore is how long before its end a login is renewed.
const renewBefore = 2 * time.Minute

// stored is what 'pratique login' keeps of one registry.
type stored struct {
	Server   string    `json:"server"` // http://HOST:PORT or https://HOST
	User     string    `json:"user"`   // refreshUser, with a refresh token as the secret
	Secret   string    `json:"secret"`
	Name     string    `json:"name,omitempty"` // of the principal
	Expires  time.Time `json:"expires,omitzero"`
	Audience string    `json:"audience,omitempty"` // of the ambient token that it was exchanged for
}

// ended says whether what is stored is of no use any more, or will not be in a moment.
func (s stored) ended(now time.Time) bool {
	return !s.Expires.IsZero() && !now.Add(renewBefore).Before(s.Expires)
}

// credentials is the file of logins, beside the client's configuration, which is written by hand
// and may be kept where others read it.
type credentials struct {
	Current    string            `json:"current,omitempty"` // the host that was logged in to last
	Registries map[string]stored `json:"registries"`        // by HOST or HOST:PORT
}

func credentialsPath() (string, error) {
	config, err := configPath()
	if err != nil {
		return "", fmt.Errorf("credentials: %w", err)
	}
	return filepath.Join(filepath.Dir(config), "credentials.json"), nil
}

func readCredentials() (credentials, error) {
	c := credentials{Registries: map[string]stored{}}
	path, err := credentialsPath()
	if err != nil {
		return c, nil // no home, no file
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil {
		return c, fmt.Errorf("credentials %s: %w; 'pratique login' makes it anew once it is removed", path, err)
	}
	if c.Registries == nil {
		c.Registries = map[string]stored{}
	}
	return c, nil
}

// write keeps the file, for its owner alone to read.
func (c credentials) write() error {
	path, err := credentialsPath()
	if err != nil {
		return err
	}
	return writePrivate(path, c)
}

// writePrivate puts a JSON document in place of a file's, for its owner alone to read.
func writePrivate(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".credentials-*") // made with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(raw, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// hostOf is what a registry is kept under: HOST or HOST:PORT of an address with or without a scheme.
func hostOf(server string) string {
	if _, rest, ok := strings.Cut(server, "://"); ok {
		server = rest
	}
	if u, err := url.Parse("//" + server); err == nil {
		return strings.ToLower(u.Host)
	}
	return strings.ToLower(server)
}

// keep remembers a login.
func keep(s stored) error {
	c, err := readCredentials()
	if err != nil {
		return err
	}
	c.Current = hostOf(s.Server)
	c.Registries[c.Current] = s
	return c.write()
}

// forget forgets a login. false if there was none.
func forget(host string) (bool, error) {
	c, err := readCredentials()
	if err != nil {
		return false, err
	}
	if _, ok := c.Registries[host]; !ok {
		return false, nil
	}
	delete(c.Registries, host)
	if c.Current == host {
		c.Current = ""
	}
	return true, c.write()
}

// login returns what is kept of a registry, renewed by the ambient token where it has run out. ok is
// false where nothing is. Tokens are shown to no registry that was not logged in to, or named by
// PRATIQUE_SERVER.
func login(ctx context.Context, host string) (s stored, ok bool, err error) {
	c, err := readCredentials()
	if err != nil {
		return s, false, err
	}
	s, ok = c.Registries[host]
	if ok && !s.ended(time.Now()) {
		return s, true, nil
	}
	if named := os.Getenv("PRATIQUE_SERVER"); !ok && named != "" && hostOf(named) == host {
		s.Server = named
	} else if !ok {
		return s, false, nil
	}
	if ambient() == "" {
		if !ok {
			return s, false, nil
		}
		return s, false, fmt.Errorf("the login at %s ran out at %s; log in again: pratique login %s --oidc", host, timeText(s.Expires), host)
	}
	s, err = loginByAmbient(ctx, s.Server, s.Audience)
	if err != nil {
		return s, false, err
	}
	return s, true, keep(s)
}

// loginByAmbient exchanges the token that this machine has for a registry.
func loginByAmbient(ctx context.Context, server, audience string) (stored, error) {
	cl, err := api.NewClient(server, "", "", loginClient())
	if err != nil {
		return stored{}, err
	}
	token, err := ambientToken(ctx, audience, cl.Server())
	if err != nil {
		return stored{}, err
	}
	t, err := cl.LoginByToken(ctx, token)
	if err != nil {
		return stored{}, fmt.Errorf("log in to %s by the token of %s: %w; 'pratique federation test' says why", cl.Server(), ambient(), err)
	}
	return stored{Server: cl.Server(), User: refreshUser, Secret: t.Token, Name: t.Name, Expires: t.Expires, Audience: audience}, nil
}

// hosts lists what is logged in to.
func (c credentials) hosts() []string { return slices.Sorted(maps.Keys(c.Registries)) }

package cli

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// dockerConfigPath is where docker's configuration file lies.
func dockerConfigPath() (string, error) {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, "config.json"), nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".docker", "config.json"), err
}

// readDockerConfig reads the file's members, and of it the logins. All else is left as it is.
func readDockerConfig() (path string, all, auths map[string]json.RawMessage, err error) {
	all, auths = map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if path, err = dockerConfigPath(); err != nil {
		return path, nil, nil, err
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, all, auths, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &all)
	}
	if err == nil && all["auths"] != nil {
		err = json.Unmarshal(all["auths"], &auths)
	}
	if err != nil {
		return path, nil, nil, fmt.Errorf("docker's configuration %s: %w", path, err)
	}
	return path, all, auths, nil
}

func writeDockerConfig(path string, all, auths map[string]json.RawMessage) error {
	raw, err := json.Marshal(auths)
	if err != nil {
		return err
	}
	all["auths"] = raw
	if err := writePrivate(path, all); err != nil {
		return fmt.Errorf("docker's configuration: %w", err)
	}
	return nil
}

// keepForDocker writes a login into docker's configuration file.
func keepForDocker(s stored) error {
	path, all, auths, err := readDockerConfig()
	if err != nil {
		return err
	}
	host := hostOf(s.Server)
	var helpers map[string]string
	var store string
	// A member of another form is docker's to complain of.
	_, _ = json.Unmarshal(all["credHelpers"], &helpers), json.Unmarshal(all["credsStore"], &store)
	if store != "" || helpers[host] != "" {
		return fmt.Errorf("%s has docker ask a credential helper for %s, so that what is written there does not count; set \"credHelpers\": {%q: \"pratique\"} in it instead of --docker, with this program as docker-credential-pratique in the PATH", path, host, host)
	}
	entry, err := json.Marshal(map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(s.User + ":" + s.Secret))})
	if err != nil {
		return err
	}
	auths[host] = entry
	return writeDockerConfig(path, all, auths)
}

// forgetForDocker removes a login from docker's configuration file.
func forgetForDocker(host string) error {
	path, all, auths, err := readDockerConfig()
	if err != nil {
		return err
	}
	if _, ok := auths[host]; !ok {
		return nil
	}
	delete(auths, host)
	return writeDockerConfig(path, all, auths)
}

// helperNotFound is what docker takes for "there is none" (docker-credential-helpers, package
// credentials).
const helperNotFound = "credentials not found in native keychain"

// dockerCredential is what docker and its helpers tell each other.
type dockerCredential struct {
	ServerURL, Username, Secret string
}

func newDockerCredential() *cobra.Command {
	return &cobra.Command{
		Use:   "docker-credential get|store|erase|list",
		Short: "Be docker's credential helper",
		Long: `Docker-credential speaks docker's protocol of credential helpers on standard input and output,
over what 'pratique login' keeps. Called docker-credential-pratique, as by a link, the program is such
a helper. With

  {"credHelpers": {"registry.example": "pratique"}}

in docker's configuration file, docker, podman, skopeo, crane and others log in by it. Where the
machine has a token of an issuer ('pratique login --help'), 'get' exchanges it, and again when
what it got has run out; but for no other registry than PRATIQUE_SERVER and those that
were logged in to.

Exit codes: 0 done; 1 there is none, or it could not be had, and standard output says why.`,
		Example: `  ln -s "$(command -v pratique)" /usr/local/bin/docker-credential-pratique
  echo registry.example | pratique docker-credential get`,
		Args: takesOne("get, store, erase or list"),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := answerDocker(cmd, args[0])
			if err == nil {
				return nil
			}
			// Docker reads the error from standard output.
			fmt.Fprintln(cmd.OutOrStdout(), err)
			return &exitError{code: ExitRefused}
		},
	}
}

func answerDocker(cmd *cobra.Command, action string) error {
	raw, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxToken))
	if err != nil {
		return err
	}
	host := hostOf(strings.TrimSuffix(strings.TrimSpace(string(raw)), "/"))
	enc := json.NewEncoder(cmd.OutOrStdout())
	switch action {
	case "get":
		s, ok, err := login(cmd.Context(), host)
		if err != nil {
			return err
		}
		if !ok {
			return errors.New(helperNotFound)
		}
		return enc.Encode(dockerCredential{strings.TrimSpace(string(raw)), s.User, s.Secret})
	case "store":
		var c dockerCredential
		if err := json.Unmarshal(raw, &c); err != nil || c.ServerURL == "" || c.Secret == "" {
			return errors.New("store: expected {\"ServerURL\": …, \"Username\": …, \"Secret\": …}")
		}
		return keep(stored{Server: c.ServerURL, User: c.Username, Secret: c.Secret, Name: c.Username})
	case "erase":
		_, err := forget(host)
		return err
	case "list":
		c, err := readCredentials()
		if err != nil {
			return err
		}
		out := map[string]string{}
		for _, h := range c.hosts() {
			out[h] = c.Registries[h].User
		}
		return enc.Encode(out)
	}
	return fmt.Errorf("%q: expected get, store, erase or list", action)
}

package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"
)

// Ambient tokens are those that a machine has of an issuer: in the file that PRATIQUE_TOKEN_FILE names,
// such as Kubernetes projects for a service account, or of GitHub Actions, for a job with the
// permission id-token: write.
const (
	envTokenFile   = "PRATIQUE_TOKEN_FILE"
	envGitHubURL   = "ACTIONS_ID_TOKEN_REQUEST_URL"
	envGitHubToken = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
)

// loginTimeout bounds a request of a login.
const loginTimeout = 30 * time.Second

func loginClient() *http.Client { return &http.Client{Timeout: loginTimeout} }

// ambient says where this machine has a token of; "" if it has none.
func ambient() string {
	switch {
	case os.Getenv(envTokenFile) != "":
		return os.Getenv(envTokenFile)
	case os.Getenv(envGitHubURL) != "" && os.Getenv(envGitHubToken) != "":
		return "GitHub Actions"
	}
	return ""
}

// ambientToken returns that token. One of GitHub Actions is asked for with an audience, by default the
// registry's address.
func ambientToken(ctx context.Context, audience, server string) (string, error) {
	if path := os.Getenv(envTokenFile); path != "" {
		return readToken(path, nil)
	}
	u, err := url.Parse(os.Getenv(envGitHubURL))
	if err != nil || u.Scheme != "https" && !isLoopbackHost(u.Hostname()) {
		return "", fmt.Errorf("%s is no https address", envGitHubURL)
	}
	q := u.Query()
	q.Set("audience", cmp.Or(audience, server))
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+os.Getenv(envGitHubToken))
	req.Header.Set("Accept", "application/json")
	resp, err := loginClient().Do(req)
	if err != nil {
		return "", fmt.Errorf("ask GitHub Actions for a token: %w", errors.Unwrap(err))
	}
	defer resp.Body.Close()
	var answer struct {
		Value string `json:"value"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxToken)).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK || answer.Value == "" {
		return "", fmt.Errorf("ask GitHub Actions for a token: it answered %s; has the job 'permissions: id-token: write'?", resp.Status)
	}
	return answer.Value, nil
}

func isLoopbackHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || host == "localhost"
}

package cli

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// TestScanCredentials: what the environment holds for the user's own registry goes to
// another one only if --user says so.
func TestScanCredentials(t *testing.T) {
	var mu sync.Mutex
	var shown []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, secret, ok := r.BasicAuth(); ok {
			mu.Lock()
			shown = append(shown, name+":"+secret)
			mu.Unlock()
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="another"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer srv.Close()
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("PRATIQUE_USER", "admin")
	t.Setenv("PRATIQUE_PASSWORD", "of-the-own-registry")
	image := strings.TrimPrefix(srv.URL, "http://") + "/team/app:1"

	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"scan", image}, ""},
		{[]string{"scan", image, "--user", "reader"}, "reader:of-the-own-registry"},
	} {
		shown = nil
		var stdout, stderr bytes.Buffer
		if code := Run(tc.args, Streams{In: strings.NewReader(""), Out: &stdout, Err: &stderr}); code != ExitError {
			t.Errorf("%q: exit code %d, want %d", tc.args, code, ExitError)
		}
		if !strings.Contains(stderr.String(), "log in with docker login, or give --user") {
			t.Errorf("%q says %q", tc.args, &stderr)
		}
		if got := strings.Join(shown, " "); got != tc.want {
			t.Errorf("%q showed %q, want %q", tc.args, got, tc.want)
		}
	}
}

package e2e

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"
)

// Of tools/issuers/entra.mjs.
const (
	entraTenant = "72f988bf-86f1-41af-91ab-2d7cd011db47"
	entraAPI    = "api://0f6d3c5a-1111-4222-8333-9a1b2c3d4e5f"
	entraApp    = "11111111-2222-3333-4444-555555555555"
	entraSecret = "right~Secret.of-the_app"
)

// entraServer is a server that knows a tenant, of which everything that its authority signs for
// the registry is trusted by a federation, so that what is refused is refused for another reason.
func entraServer(t *testing.T) (s *server, authority string, stop func()) {
	t.Helper()
	addr := issuerAddr(t)
	authority = "http://" + addr
	stop = node(t, "entra.mjs", addr)
	s = start(t, t.TempDir(), "--entra-tenant", entraTenant, "--entra-authority", authority, "--entra-audience", entraAPI)
	s.pratique("federation", "create", "entra", "--issuer", authority+"/"+entraTenant+"/v2.0", "--audience", strings.TrimPrefix(entraAPI, "api://"),
		"--rule", `claims.oid == "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"`, "--role", "AcrPush").mustRun(t)
	return s, authority, stop
}

// ping asks whether a name and secret are taken, by Basic credentials.
func (s *server) ping(t *testing.T, name, secret string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+s.addr+"/v2/token", nil)
	check(t, err)
	req.SetBasicAuth(name, secret)
	res, err := http.DefaultClient.Do(req)
	check(t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	check(t, err)
	return res.StatusCode, string(raw)
}

// TestEntraSecret: an Entra ID service principal logs in by its ID and secret, which its tenant checks.
func TestEntraSecret(t *testing.T) {
	s, authority, stop := entraServer(t)
	_, env := newHome(t)
	command{name: program(t, "crane"), args: []string{"auth", "login", "--insecure", s.addr, "-u", entraApp, "-p", entraSecret}, env: env}.mustRun(t)
	s.push(t, "team/app", "v1", smallImage(t, "of the tenant"))
	command{name: program(t, "crane"), args: []string{"copy", "--insecure", s.ref("team/app", "v1"), s.ref("team/app", "v2")}, env: env}.mustRun(t)
	command{name: program(t, "skopeo"), args: []string{"inspect", "--tls-verify=false", "docker://" + s.ref("team/app", "v2")}, env: env}.mustRun(t)

	for name, app := range map[string]string{
		"another tenant's token":     "22222222-2222-3333-4444-555555555555",
		"another application's":      "33333333-2222-3333-4444-555555555555",
		"for another audience":       "44444444-2222-3333-4444-555555555555",
		"expired":                    "55555555-2222-3333-4444-555555555555",
		"another tenant's issuer":    "66666666-2222-3333-4444-555555555555",
		"an application unknown":     "88888888-2222-3333-4444-555555555555",
		"a GUID in capital letters?": "88888888-2222-3333-4444-AAAAAAAAAAAA",
	} {
		if status, body := s.ping(t, app, "right"); status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if status, body := s.ping(t, "77777777-2222-3333-4444-555555555555", "right"); status != http.StatusServiceUnavailable || !strings.Contains(body, authority) {
		t.Errorf("while the authority is too busy: %d %s; want 503 that names it", status, body)
	}
	if status, body := s.ping(t, entraApp, "wrong"); status != http.StatusUnauthorized {
		t.Errorf("wrong secret: %d %s", status, body)
	}
	stop()
	if status, body := s.ping(t, entraApp, entraSecret); status != http.StatusOK {
		t.Errorf("a secret that was right a moment ago, while the authority is down: %d %s", status, body)
	}
	if status, body := s.ping(t, entraApp, "another"); status != http.StatusServiceUnavailable || !strings.Contains(body, authority) {
		t.Errorf("while the authority is down: %d %s; want 503 that names it", status, body)
	}
	if status, body := s.ping(t, "admin", secret); status != http.StatusOK {
		t.Errorf("the registry's own administrator, while the authority is down: %d %s", status, body)
	}
}

// TestEntraBruteForce: whoever guesses has to wait, and the authority is not asked meanwhile.
func TestEntraBruteForce(t *testing.T) {
	s, _, _ := entraServer(t)
	var last int
	for range 7 {
		last, _ = s.ping(t, entraApp, "a guess")
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("the seventh guess: %d; want 429", last)
	}
	if status, _ := s.ping(t, entraApp, entraSecret); status != http.StatusTooManyRequests {
		t.Errorf("the right secret from where was guessed: %d; want it to wait", status)
	}
}

// TestGroupsOverage: where the issuer leaves the groups out, nobody is in any, and the page says so.
func TestGroupsOverage(t *testing.T) {
	addr := issuerAddr(t)
	node(t, "entra.mjs", addr)
	s := start(t, t.TempDir(), "--oidc-issuer", "http://"+addr+"/"+entraTenant+"/v2.0", "--oidc-client-id", "pratique")
	jar, err := cookiejar.New(nil)
	check(t, err)
	browser := &http.Client{Jar: jar, Timeout: time.Minute}
	res, err := browser.Get("http://" + s.addr + "/login/start")
	check(t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	check(t, err)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("sign-in ended at %s with %d:\n%s", res.Request.URL, res.StatusCode, raw)
	}
	wantWords(t, "account", string(raw), "jane@contoso.example", "in more groups than the issuer names", "in no group of this registry", "Nothing has been granted")
}

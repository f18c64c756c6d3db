package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/identity/issuertest"
)

// federate trusts an issuer for a new workload, and takes it back with the test.
func (s *server) federate(t *testing.T, name, issuer, rule, role, scope string) {
	t.Helper()
	s.pratique("federation", "create", name, "--issuer", issuer, "--audience", "http://"+s.addr, "--rule", rule, "--role", role, "--scope", scope).mustRun(t)
	t.Cleanup(func() { s.pratique("federation", "delete", name).mustRun(t) })
}

// home is a folder of one user's, without any login yet.
func newHome(t *testing.T) (dir string, env []string) {
	t.Helper()
	dir = t.TempDir()
	return dir, []string{"HOME=" + dir, "XDG_CONFIG_HOME=" + filepath.Join(dir, "config"), "DOCKER_CONFIG=" + filepath.Join(dir, "docker"),
		"REGISTRY_AUTH_FILE=" + filepath.Join(dir, "docker", "config.json"), "XDG_RUNTIME_DIR=" + dir}
}

// runner is the endpoint at which a job of GitHub Actions asks for its token.
func runner(t *testing.T, i *issuertest.Issuer) (env []string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer of-the-job" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"value":%q,"count":1}`, i.Sign(i.GitHub(r.URL.Query().Get("audience"), time.Now())))
	}))
	t.Cleanup(srv.Close)
	return []string{"ACTIONS_ID_TOKEN_REQUEST_URL=" + srv.URL + "/token?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=of-the-job"}
}

// TestGitHubActions: a job logs in with what GitHub gives it, and pulls with public clients, with no
// stored secret; another repository's job does not.
func TestGitHubActions(t *testing.T) {
	s, i := sharedRegistry(t), issuertest.New(t)
	s.push(t, "octo-org/app", "v1", smallImage(t, "of octo-org"))
	s.push(t, "private/app", "v1", smallImage(t, "of others"))
	s.federate(t, "github", i.URL, `claims.repository == "octo-org/octo-repo" && claims.ref == "refs/heads/main" && claims.environment == "prod"`, "AcrPush", "octo-org/*")

	dir, env := newHome(t)
	job := append(env, runner(t, i)...)
	run := func(args ...string) command { return command{name: binary, args: args, env: job} }
	wantWords(t, "login", run("login", s.addr, "--oidc", "--docker").mustRun(t).stdout, "logged in to http://"+s.addr+" as github, until")
	for _, file := range []string{"config/pratique/credentials.json", "docker/config.json"} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want it private", file, info, err)
		}
	}
	for _, c := range []command{
		{name: program(t, "crane"), args: []string{"manifest", "--insecure", s.ref("octo-org/app", "v1")}, env: env},
		{name: program(t, "skopeo"), args: []string{"inspect", "--tls-verify=false", "docker://" + s.ref("octo-org/app", "v1")}, env: env},
		{name: program(t, "crane"), args: []string{"copy", "--insecure", s.ref("octo-org/app", "v1"), s.ref("octo-org/app", "v2")}, env: env},
	} {
		c.mustRun(t)
	}
	denied := command{name: program(t, "crane"), args: []string{"manifest", "--insecure", s.ref("private/app", "v1")}, env: env}.run(t)
	if denied.code == 0 {
		t.Error("the job reads a repository that it has nothing of")
	}
	// The client's own commands ask with it too.
	wantWords(t, "show", command{name: binary, args: []string{"show", "octo-org/app:v1"}, env: env}.mustRun(t).stdout, "allow")

	run("logout", s.addr, "--docker").mustRun(t)
	if r := (command{name: binary, args: []string{"show", "octo-org/app:v1"}, env: env}).run(t); r.code != 2 {
		t.Errorf("after logout: %+v", r)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "docker", "config.json"))
	if err != nil || strings.Contains(string(raw), s.addr) {
		t.Errorf("after logout docker's configuration is %s, %v", raw, err)
	}
}

// TestFederatedPassword: an issuer's token is the password of 'federated', or of the principal.
func TestFederatedPassword(t *testing.T) {
	s, i := sharedRegistry(t), issuertest.New(t)
	s.push(t, "build/app", "v1", smallImage(t, "of build"))
	s.federate(t, "cluster", i.URL, `claims.sub == "system:serviceaccount:build:kaniko"`, "AcrPull", "build/*")
	token := i.Sign(i.Kubernetes("http://"+s.addr, time.Now()))
	for user, ok := range map[string]bool{"federated": true, "cluster": true, "admin": false} {
		_, env := newHome(t)
		r := command{name: program(t, "skopeo"), args: []string{"login", "--tls-verify=false", "--authfile", env[3][len("REGISTRY_AUTH_FILE="):], "-u", user, "-p", token, s.addr}, env: env}.run(t)
		if (r.code == 0) != ok {
			t.Errorf("skopeo login as %s: %+v", user, r)
		}
		if !ok {
			continue
		}
		command{name: program(t, "skopeo"), args: []string{"inspect", "--tls-verify=false", "docker://" + s.ref("build/app", "v1")}, env: env}.mustRun(t)
		command{name: program(t, "crane"), args: []string{"auth", "login", "--insecure", s.addr, "-u", user, "-p", token}, env: env}.mustRun(t)
		command{name: program(t, "crane"), args: []string{"digest", "--insecure", s.ref("build/app", "v1")}, env: env}.mustRun(t)
	}
}

// TestCredentialHelper: crane asks docker-credential-pratique, which exchanges the token of the machine,
// and again when what it got has run out; it shows the token to no other registry.
func TestCredentialHelper(t *testing.T) {
	s, i := sharedRegistry(t), issuertest.New(t)
	s.push(t, "helper/app", "v1", smallImage(t, "of the helper"))
	s.federate(t, "helper", i.URL, `claims.sub == "system:serviceaccount:build:kaniko"`, "AcrPull", "helper/*")
	dir, env := newHome(t)
	bin := filepath.Join(dir, "bin")
	check(t, os.MkdirAll(filepath.Join(dir, "docker"), 0o700))
	check(t, os.MkdirAll(bin, 0o700))
	check(t, os.Symlink(binary, filepath.Join(bin, "docker-credential-pratique")))
	file := filepath.Join(dir, "token")
	check(t, os.WriteFile(file, []byte(i.Sign(i.Kubernetes("http://"+s.addr, time.Now()))), 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "docker", "config.json"), fmt.Appendf(nil, `{"credHelpers":{%q:"pratique"}}`, s.addr), 0o600))
	env = append(env, "PATH="+bin+":"+os.Getenv("PATH"), "PRATIQUE_TOKEN_FILE="+file, "PRATIQUE_SERVER=http://"+s.addr)
	pull := command{name: program(t, "crane"), args: []string{"digest", "--insecure", s.ref("helper/app", "v1")}, env: env}
	pull.mustRun(t)

	kept := filepath.Join(dir, "config", "pratique", "credentials.json")
	raw, err := os.ReadFile(kept)
	check(t, err)
	var c map[string]any
	check(t, json.Unmarshal(raw, &c))
	entry := c["registries"].(map[string]any)[s.addr].(map[string]any)
	old := entry["secret"]
	entry["expires"], entry["secret"] = "2020-01-01T00:00:00Z", "ran out"
	raw, err = json.Marshal(c)
	check(t, err)
	check(t, os.WriteFile(kept, raw, 0o600))
	pull.mustRun(t)
	if raw, err = os.ReadFile(kept); err != nil || strings.Contains(string(raw), "ran out") || old == "" {
		t.Errorf("what ran out is kept: %s, %v", raw, err)
	}

	helper := func(action, in string) result {
		name := filepath.Join(dir, "in")
		check(t, os.WriteFile(name, []byte(in), 0o600))
		return command{name: "sh", args: []string{"-c", `docker-credential-pratique "$0" < "$1"`, action, name}, env: env}.run(t)
	}
	if r := helper("get", "evil.example"); r.code != 1 || r.stdout != "credentials not found in native keychain\n" {
		t.Errorf("get for another registry: %+v", r)
	}
	if r := helper("store", `{"ServerURL":"https://other.example","Username":"me","Secret":"mine"}`); r.code != 0 {
		t.Errorf("store: %+v", r)
	}
	if r := helper("get", "https://other.example/"); r.code != 0 || !strings.Contains(r.stdout, `"Username":"me","Secret":"mine"`) {
		t.Errorf("get: %+v", r)
	}
	if r := helper("list", ""); r.code != 0 || !strings.Contains(r.stdout, `"other.example":"me"`) {
		t.Errorf("list: %+v", r)
	}
	if r := helper("erase", "https://other.example"); r.code != 0 || helper("get", "other.example").code != 1 {
		t.Errorf("erase: %+v", r)
	}
}

// TestTokenExchange: the token endpoint speaks RFC 8693, and what it gives ends with the federation.
func TestTokenExchange(t *testing.T) {
	s, i := sharedRegistry(t), issuertest.New(t)
	s.push(t, "exchange/app", "v1", smallImage(t, "to be exchanged"))
	s.pratique("federation", "create", "exchange", "--issuer", i.URL, "--audience", "registry", "--rule", `claims.repository == "octo-org/octo-repo"`, "--role", "AcrPull", "--once").mustRun(t)
	ask := func(form url.Values) (int, map[string]any) {
		t.Helper()
		res, err := http.PostForm("http://"+s.addr+"/v2/token", form)
		check(t, err)
		defer res.Body.Close()
		var doc map[string]any
		check(t, json.NewDecoder(res.Body).Decode(&doc))
		return res.StatusCode, doc
	}
	exchange := func(token string) (int, map[string]any) {
		return ask(url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {token},
			"subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"}, "scope": {"repository:exchange/app:pull,push"}})
	}
	token := i.Sign(i.GitHub("registry", time.Now()))
	r := s.pratique("federation", "test", "-o", "json", "--token-file", write(t, token)).mustRun(t)
	wantWords(t, "test", r.stdout, `"chosen": "exchange"`, `"principal": "exchange"`, `"repository": "octo-org/octo-repo"`)
	status, got := exchange(token)
	if status != http.StatusOK || got["issued_token_type"] != "urn:ietf:params:oauth:token-type:access_token" || got["scope"] != "repository:exchange/app:pull,metadata_read" {
		t.Fatalf("exchange: %d, %v", status, got)
	}
	if status, doc := exchange(token); status != http.StatusUnauthorized {
		t.Errorf("the token a second time: %d, %v", status, doc)
	}
	refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got["refresh_token"].(string)}, "scope": {"repository:exchange/app:pull"}}
	if status, doc := ask(refresh); status != http.StatusOK {
		t.Errorf("refresh: %d, %v", status, doc)
	}
	evil := i.GitHub("registry", time.Now())
	evil["repository"] = "evil-org/fork"
	refused := s.pratique("federation", "test", "--token-file", write(t, i.Sign(evil))).run(t)
	if refused.code != 1 {
		t.Errorf("test of another repository's token: %+v", refused)
	}
	wantWords(t, "test", refused.stdout, "its rule does not hold", "it proves nobody")
	for name, token := range map[string]string{"another repository's": i.Sign(evil), "none": "x", "another audience's": i.Sign(i.GitHub("other", time.Now()))} {
		if status, doc := exchange(token); status != http.StatusUnauthorized || strings.Contains(fmt.Sprint(doc), "rule") {
			t.Errorf("%s token: %d, %v; want it refused without a reason", name, status, doc)
		}
	}
	if status, doc := ask(url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {token}, "subject_token_type": {"urn:ietf:params:oauth:token-type:saml2"}}); status != http.StatusBadRequest {
		t.Errorf("a token of another type: %d, %v", status, doc)
	}
	s.pratique("federation", "delete", "exchange").mustRun(t)
	if status, doc := ask(refresh); status != http.StatusUnauthorized {
		t.Errorf("refresh after the federation is gone: %d, %v", status, doc)
	}
	req, err := http.NewRequest(http.MethodGet, "http://"+s.addr+"/v2/exchange/app/manifests/v1", nil)
	check(t, err)
	req.Header.Set("Authorization", "Bearer "+got["access_token"].(string))
	res, err := http.DefaultClient.Do(req)
	check(t, err)
	defer res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("the access token after the federation is gone: %d", res.StatusCode)
	}
}

// TestFederationCommands: what could not be meant is refused with what is expected.
func TestFederationCommands(t *testing.T) {
	s := sharedRegistry(t)
	base := []string{"federation", "create", "bad", "--issuer", "https://issuer.example", "--audience", "a", "--rule", `claims.sub == "x"`, "--role", "AcrPull"}
	for _, tc := range []struct {
		change map[string]string
		want   string
	}{
		{map[string]string{"--issuer": "http://issuer.example"}, "expected https://HOST"},
		{map[string]string{"--audience": ""}, "audience: expected"},
		{map[string]string{"--rule": ""}, "rule: expected"},
		{map[string]string{"--rule": "claims."}, "rule: "},
		{map[string]string{"--rule": `"yes"`}, "expected what is true or false"},
		{map[string]string{"--role": "Nonesuch"}, "there is no role"},
		{map[string]string{"--role": ""}, "give --role"},
		{map[string]string{"bad": "-bad"}, "name"},
	} {
		args := append([]string{}, base...)
		for n := range args {
			if v, ok := tc.change[args[n]]; ok && strings.HasPrefix(args[n], "--") {
				args[n+1] = v
			}
		}
		if _, ok := tc.change["bad"]; ok {
			args = append([]string{"federation", "create"}, append(args[3:], "--", "-bad")...)
		}
		s.refused(t, args, tc.want)
	}
	s.refused(t, []string{"federation", "show", "nonesuch"}, "there is no federation")
	s.refused(t, []string{"federation", "delete", "nonesuch"}, "there is no federation")
	s.pratique(append([]string{"federation", "create", "good"}, base[3:]...)...).mustRun(t)
	s.refused(t, append([]string{"federation", "create", "other", "--principal", "good"}, base[3:]...), "there is a principal")
	wantWords(t, "list", s.pratique("federation", "list").mustRun(t).stdout, "good", "https://issuer.example")
	wantWords(t, "show", s.pratique("federation", "show", "good").mustRun(t).stdout, `claims.sub == "x"`, "as often as it is shown")
	s.pratique("federation", "delete", "good").mustRun(t)
	s.refused(t, []string{"federation", "test", "--token-file", write(t, "two words")}, "expected one of 1 to")
}

// write puts text into a file of its own.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// user is somebody who asks a server.
type user struct {
	s                  *server
	name, secret, home string
}

// as is a user with their own credentials; an empty name is nobody.
func (s *server) as(t *testing.T, name, secret string) user {
	t.Helper()
	u := user{s, name, secret, t.TempDir()}
	auths := map[string]any{}
	if name != "" {
		auths[s.addr] = map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(name + ":" + secret))}
	}
	doc, err := json.Marshal(map[string]any{"auths": auths})
	check(t, err)
	check(t, os.WriteFile(filepath.Join(u.home, "config.json"), doc, 0o600))
	return u
}

// pratique is a client command of the program, as this user.
func (u user) pratique(args ...string) command {
	c := u.s.pratique(args...)
	c.env = []string{"PRATIQUE_SERVER=http://" + u.s.addr, "PRATIQUE_USER=" + u.name, "PRATIQUE_PASSWORD=" + u.secret}
	return c
}

// client is a public client with this user's credentials.
func (u user) client(t *testing.T, name string, args ...string) command {
	t.Helper()
	c := u.s.client(t, name, args...)
	c.env = []string{"DOCKER_CONFIG=" + u.home, "REGISTRY_AUTH_FILE=" + filepath.Join(u.home, "config.json"), "XDG_RUNTIME_DIR=" + u.home, "HOME=" + u.home}
	return c
}

// push and pull are done by skopeo, which logs in by the token endpoint.
func (u user) push(t *testing.T, layout, repo, tag string) command {
	t.Helper()
	return u.client(t, "skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "oci:"+layout+":latest", "docker://"+u.s.ref(repo, tag))
}

func (u user) pull(t *testing.T, repo, tag string) command {
	t.Helper()
	return u.client(t, "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "docker://"+u.s.ref(repo, tag), "oci:"+t.TempDir()+":latest")
}

// ping is the status of GET /v2/ with Basic credentials, as docker login asks.
func (u user) ping(t *testing.T) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+u.s.addr+"/v2/", nil)
	check(t, err)
	if u.name != "" {
		req.SetBasicAuth(u.name, u.secret)
	}
	res, err := http.DefaultClient.Do(req)
	check(t, err)
	check(t, res.Body.Close())
	return res.StatusCode
}

var secretText = regexp.MustCompile(`pratique_[0-9A-Za-z]{43}`)

// made runs a command of the administrator's that makes a secret, and is who has it.
func (s *server) made(t *testing.T, name string, args ...string) user {
	t.Helper()
	out := s.pratique(args...).mustRun(t).stdout
	text := secretText.FindString(out)
	if text == "" || !strings.Contains(out, "shown this once") {
		t.Fatalf("pratique %q shows no secret:\n%s", args, out)
	}
	return s.as(t, name, text)
}

// wantDenied runs a client that the registry must turn away.
func wantDenied(t *testing.T, c command) {
	t.Helper()
	r := c.run(t)
	if r.code == 0 {
		t.Errorf("%s %q is let through", c.name, c.args)
	}
	wantAny(t, c, r.stderr, "denied", "unauthorized", "authentication required", "forbidden")
}

func wantAny(t *testing.T, c command, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if strings.Contains(strings.ToLower(text), w) {
			return
		}
	}
	t.Errorf("%s %q says none of %q:\n%s", c.name, c.args, words, text)
}

// TestAccess: who was given what pushes and pulls that with public clients, and nothing else; what is
// taken back is so at once.
func TestAccess(t *testing.T) {
	s := start(t, loadedData(t))
	layout := writeLayout(t, smallImage(t, "access"))
	s.push(t, "other/app", "1", smallImage(t, "other"))

	pusher := s.made(t, "ci", "principal", "create", "ci", "--kind", "service", "--role", "AcrPush", "--scope", "team/*")
	puller := s.made(t, "reader", "principal", "create", "reader", "--kind", "service", "--role", "AcrPull", "--scope", "team/*")
	pusher.push(t, layout, "team/app", "1").mustRun(t)
	pusher.client(t, "crane", "push", "--insecure", layout, s.ref("team/crane", "1")).mustRun(t)
	check(t, s.awaitDecision("team/app:1", "allow"))
	puller.pull(t, "team/app", "1").mustRun(t)
	wantDenied(t, puller.push(t, layout, "team/app", "2"))
	wantDenied(t, pusher.push(t, layout, "other/app", "2"))
	wantDenied(t, pusher.pull(t, "other/app", "1"))
	wantDenied(t, pusher.client(t, "crane", "delete", "--insecure", s.ref("team/app", "1")))

	catalog := pusher.client(t, "crane", "catalog", "--insecure", s.addr).mustRun(t).stdout
	listed := pusher.pratique("list").mustRun(t).stdout
	wantWords(t, "catalog", catalog, "team/app", "team/crane")
	wantWords(t, "list", listed, "team/app:1", "team/crane:1")
	if strings.Contains(catalog+listed, "other") {
		t.Errorf("shown what one may not see:\n%s%s", catalog, listed)
	}
	there, gone := pusher.pratique("show", "other/app:1").run(t), pusher.pratique("show", "other/nil:1").run(t)
	if there.code != 2 || strings.ReplaceAll(there.stderr, "other/app", "other/nil") != gone.stderr {
		t.Errorf("one that is there: %s, one that is not: %s", there.stderr, gone.stderr)
	}

	t.Run("token with a scope map", func(t *testing.T) {
		s.pratique("scope-map", "create", "app-pull", "--action", "repositories/team/app/content/read").mustRun(t)
		tok := s.made(t, "deploy", "principal", "create", "deploy", "--kind", "token", "--scope-map", "app-pull")
		tok.pull(t, "team/app", "1").mustRun(t)
		wantDenied(t, tok.pull(t, "team/crane", "1"))
		wantDenied(t, tok.push(t, layout, "team/app", "3"))
		s.pratique("scope-map", "create", "crane-pull", "--action", "team/crane:content/read,metadata/read").mustRun(t)
		s.pratique("principal", "set-scope-map", "deploy", "crane-pull").mustRun(t)
		tok.pull(t, "team/crane", "1").mustRun(t)
		wantDenied(t, tok.pull(t, "team/app", "1"))
		s.refused(t, []string{"scope-map", "delete", "crane-pull"}, "some token's")
		s.refused(t, []string{"role", "assign", "deploy", "AcrPull"}, "repository token")
	})
	t.Run("anonymous", func(t *testing.T) {
		nobody := s.as(t, "", "")
		s.push(t, "public/app", "1", smallImage(t, "public"))
		wantDenied(t, nobody.pull(t, "public/app", "1"))
		s.pratique("role", "assign", "anonymous", "AcrPull", "--scope", "public/*").mustRun(t)
		nobody.pull(t, "public/app", "1").mustRun(t)
		wantDenied(t, nobody.push(t, layout, "public/app", "2"))
		wantDenied(t, nobody.pull(t, "team/app", "1"))
		s.refused(t, []string{"role", "assign", "anonymous", "AcrPush", "--scope", "public/*"}, "pull alone")
		s.refused(t, []string{"role", "assign", "anonymous", "AcrPull"}, "Expected a scope")
		s.pratique("role", "unassign", "anonymous", "AcrPull", "--scope", "public/*").mustRun(t)
		wantDenied(t, nobody.pull(t, "public/app", "1"))
	})
	t.Run("group", func(t *testing.T) {
		s.pratique("principal", "create", "readers", "--kind", "group", "--role", "AcrPull", "--scope", "other/*").mustRun(t)
		s.pratique("group", "add", "readers", "reader").mustRun(t)
		puller.pull(t, "other/app", "1").mustRun(t)
		wantWords(t, "check", puller.pratique("access", "check", "reader", "content/read", "other/app").mustRun(t).stdout, "reader may do repository.pull on other/app", "group readers")
		wantWords(t, "members", s.pratique("group", "members", "readers").mustRun(t).stdout, "reader")
		s.pratique("group", "remove", "readers", "reader").mustRun(t)
		wantDenied(t, puller.pull(t, "other/app", "1"))
	})
	t.Run("condition", func(t *testing.T) {
		s.pratique("role", "create", "retagger", "--permission", "content/read,content/write,metadata/read").mustRun(t)
		who := s.made(t, "dev", "principal", "create", "dev", "--kind", "service", "--role", "retagger", "--scope", "team/*", "--condition", `tag == "" || tag.startsWith("dev-")`)
		who.push(t, layout, "team/app", "dev-1").mustRun(t)
		wantDenied(t, who.push(t, layout, "team/app", "prod"))
		s.refused(t, []string{"role", "assign", "dev", "AcrPull", "--condition", "1 +"}, "condition")
		s.pratique("role", "assign", "dev", "AcrDelete", "--condition", `inNetwork(address, "192.0.2.0/24")`).mustRun(t)
		s.refused(t, []string{"access", "check", "dev", "content/delete", "team/app"}, "give --address")
		s.pratique("access", "check", "dev", "content/delete", "team/app", "--address", "192.0.2.1").mustRun(t)
		if r := s.pratique("access", "check", "dev", "content/delete", "team/app", "--address", "198.51.100.1").run(t); r.code != 1 {
			t.Errorf("from elsewhere: %d\n%s", r.code, r.stdout)
		}
	})
	t.Run("taken back at once", func(t *testing.T) {
		s.pratique("role", "unassign", "ci", "AcrPush", "--scope", "team/*").mustRun(t)
		wantDenied(t, pusher.push(t, layout, "team/app", "4"))
		s.pratique("principal", "disable", "reader").mustRun(t)
		if got := puller.ping(t); got != http.StatusUnauthorized {
			t.Errorf("disabled: %d", got)
		}
		wantWords(t, "list", s.pratique("principal", "list", "--kind", "service").mustRun(t).stdout, "reader", "disabled")
		s.pratique("principal", "enable", "reader").mustRun(t)
		puller.pull(t, "team/app", "1").mustRun(t)
		s.pratique("principal", "delete", "reader").mustRun(t)
		wantDenied(t, puller.pull(t, "team/app", "1"))
	})
}

// TestSecrets: secrets overlap, are replaced without a gap, end when they shall, and everyone can
// replace their own.
func TestSecrets(t *testing.T) {
	s := start(t, loadedData(t))
	first := s.made(t, "ci", "principal", "create", "ci", "--kind", "service", "--role", "AcrPull", "--scope", "team/*", "--expires", "20d")
	if r := first.pratique("whoami").mustRun(t); !strings.Contains(r.stdout, "ci, service, by secret ") || !strings.Contains(r.stderr, "warning: the secret with id ") {
		t.Errorf("whoami: %s%s", r.stdout, r.stderr)
	}
	second := s.made(t, "ci", "secret", "add", "ci", "--rotate", "--grace", "3s")
	for _, u := range []user{first, second} {
		if got := u.ping(t); got != http.StatusOK {
			t.Errorf("while both are valid: %d", got)
		}
	}
	s.refused(t, []string{"secret", "add", "ci"}, "as many as it may", "pratique secret expire ci")
	check(t, s.await(20*time.Second, "rid of the first secret", func() (bool, error) { return first.ping(t) == http.StatusUnauthorized, nil }))
	if got := second.ping(t); got != http.StatusOK {
		t.Errorf("the second, after the first ended: %d", got)
	}
	third := s.made(t, "ci", "secret", "add", "ci", "--name", "third", "--expires", "never")
	var list struct {
		Secrets []struct {
			ID, Name string
			Ended    bool
		}
	}
	check(t, json.Unmarshal([]byte(second.pratique("secret", "list", "ci", "-o", "json").mustRun(t).stdout), &list))
	for _, x := range list.Secrets {
		if x.Name == "third" {
			s.pratique("secret", "expire", "ci", x.ID).mustRun(t)
		}
	}
	if got := third.ping(t); got != http.StatusUnauthorized {
		t.Errorf("expired now: %d", got)
	}

	// One's own.
	changed := secretText.FindString(second.pratique("password").mustRun(t).stdout)
	if second.ping(t) != http.StatusUnauthorized || s.as(t, "ci", changed).ping(t) != http.StatusOK {
		t.Error("password does not replace the secret")
	}
	mine := s.as(t, "ci", changed)
	if r := mine.pratique("secret", "list", "admin").run(t); r.code != 2 || !strings.Contains(r.stderr, "has not been granted principals.read") {
		t.Errorf("secrets of others: %d %s", r.code, r.stderr)
	}
	if r := mine.pratique("access", "check", "ci", "repository.push", "team/app").run(t); r.code != 1 || !strings.Contains(r.stdout, "ci may not do repository.push on team/app") {
		t.Errorf("check: %d %s", r.code, r.stdout)
	}
	if r := mine.pratique("access", "check", "admin", "repository.push", "team/app").run(t); r.code != 2 {
		t.Errorf("check of others: %d %s", r.code, r.stdout)
	}

	// A public key.
	key := filepath.Join(t.TempDir(), "key.jwk")
	check(t, os.WriteFile(key, []byte(`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`), 0o600))
	wantWords(t, "key", s.pratique("secret", "add", "ci", "--key", key).mustRun(t).stdout, "key of ci is added")

	var set struct{ Keys []map[string]any }
	check(t, json.Unmarshal(s.do(t, http.MethodGet, "/.well-known/jwks.json", nil, "").want(t, http.StatusOK).body, &set))
	s.pratique("keys", "rotate").mustRun(t)
	if lines := strings.Count(s.pratique("keys", "list").mustRun(t).stdout, "ES256"); len(set.Keys) != 1 || lines != 2 {
		t.Errorf("keys %v, then %d", set.Keys, lines)
	}
	s.refused(t, []string{"principal", "disable", "admin"}, "last Owner")
}

// TestRecover: whoever has the data folder of a stopped registry can be its owner again.
func TestRecover(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := start(t, data)
	second := s.made(t, "boss", "principal", "create", "boss", "--role", "Owner")
	second.pratique("principal", "disable", "admin").mustRun(t)
	run := command{name: binary, args: []string{"principal", "recover", "--data", data}}
	if r := run.run(t); r.code != 2 || !strings.Contains(r.stderr, "in use by another pratique") {
		t.Errorf("beside a running registry: %d %s", r.code, r.stderr)
	}
	check(t, s.stop())
	if r := (command{name: binary, args: []string{"principal", "recover", "--data", filepath.Join(data, "none")}}).run(t); r.code != 2 || !strings.Contains(r.stderr, "no data folder") {
		t.Errorf("without a data folder: %d %s", r.code, r.stderr)
	}
	if r := (command{name: binary, args: []string{"principal", "recover", "--data", data, "nobody"}}).run(t); r.code != 2 || !strings.Contains(r.stderr, `no service principal "nobody"`) {
		t.Errorf("somebody who is not there: %d %s", r.code, r.stderr)
	}
	out := run.mustRun(t).stdout
	s = start(t, data)
	admin := s.as(t, "admin", secretText.FindString(out))
	wantWords(t, "whoami", admin.pratique("whoami").mustRun(t).stdout, "admin, user", "Owner")
	if got := s.as(t, "admin", secret).ping(t); got != http.StatusOK {
		t.Errorf("the secret there was: %d", got)
	}
	check(t, s.end(syscall.SIGTERM))
}

// TestReadmeAccess runs what the README says of who may do what.
func TestReadmeAccess(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	check(t, err)
	_, section, ok := strings.Cut(string(readme), "## Who may do what\n")
	_, block, ok2 := strings.Cut(section, "```sh\n")
	block, _, ok3 := strings.Cut(block, "```\n")
	if !ok || !ok2 || !ok3 {
		t.Fatal("README.md has no commands under Who may do what")
	}
	s := start(t, filepath.Join(t.TempDir(), "data"))
	dir := t.TempDir()
	check(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	check(t, os.Symlink(binary, filepath.Join(dir, "bin", "pratique")))
	out := command{name: "/bin/sh", args: []string{"-e", "-c", block}, env: s.pratique().env, dir: dir}.mustRun(t).stdout
	wantWords(t, "the README's commands", out, "service ci is made", "token deploy is made", "anonymous has AcrPull on public/*", "ci may do repository.push on team/app")
	if n := len(secretText.FindAllString(out, -1)); n != 4 {
		t.Errorf("%d secrets:\n%s", n, out)
	}
	for i, name := range []string{"ci", "ann", "deploy"} {
		if got := s.as(t, name, secretText.FindAllString(out, -1)[i]).ping(t); got != http.StatusOK {
			t.Errorf("%s: %d", name, got)
		}
	}
}

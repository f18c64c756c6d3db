package e2e

import (
	"bufio"
	"context"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// tab is a browser's window.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// openBrowser starts a browser with nothing in it, which ends with the test.
func openBrowser(t *testing.T) tab {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program(t, "chromium")), chromedp.NoSandbox,
		chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1000, 900))
	for _, flag := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return tab{t, ctx}
}

// do takes steps, each of which waits for what it needs.
func (b tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		where, _ := chromedp.Run(b.ctx, chromedp.Location())
		b.t.Fatalf("in the browser, at %s: %v", where, err)
	}
}

// text is what an element shows.
func (b tab) text(selector string) string {
	b.t.Helper()
	b.do(chromedp.WaitVisible(selector))
	text, err := chromedp.Run(b.ctx, chromedp.Text(selector))
	check(b.t, err)
	return text
}

// shoot keeps a picture of the page where E2E_SCREENSHOTS names a folder, to be looked at.
func (b tab) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("E2E_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	check(b.t, err)
	check(b.t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600))
}

// signIn signs in at the provider, whose pages take any name, and returns at a page of the registry.
func (b tab) signIn(s *server, name string) {
	b.t.Helper()
	b.do(chromedp.WaitVisible(`a[href^="/login/start"]`))
	b.shoot("login")
	b.do(chromedp.Click(`a[href^="/login/start"]`), chromedp.WaitVisible(`input[name="login"]`), chromedp.SendKeys(`input[name="login"]`, name),
		chromedp.SendKeys(`input[name="password"]`, "any"), chromedp.Click(`button[type="submit"]`),
		chromedp.WaitVisible(`button[autofocus]`), chromedp.Click(`button[autofocus]`), chromedp.WaitVisible(`header .out`))
	where, err := chromedp.Run(b.ctx, chromedp.Location())
	check(b.t, err)
	if u, err := url.Parse(where); err != nil || u.Host != s.addr {
		b.t.Fatalf("the sign-in ends at %s", where)
	}
}

// signInServer is a server at which people sign in by a provider.
func signInServer(t *testing.T, flags ...string) (s *server, issuer string) {
	t.Helper()
	addr := issuerAddr(t)
	issuer = "http://" + addr
	s = start(t, t.TempDir(), append([]string{"--oidc-issuer", issuer, "--oidc-client-id", "pratique",
		"--oidc-client-secret-file", write(t, "client-secret-of-the-tests\n")}, flags...)...)
	node(t, "provider.mjs", addr, "http://"+s.addr+"/login/callback")
	return s, issuer
}

// TestSignIn: somebody signs in with a browser, sees what their groups were granted, makes a secret, logs in
// by it, and signs out.
func TestSignIn(t *testing.T) {
	s, issuer := signInServer(t)
	s.push(t, "team/app", "v1", smallImage(t, "of the team"))
	s.pratique("federation", "group", "devs", "--issuer", issuer, "--group", "developers", "--role", "AcrPush", "--scope", "team/*").mustRun(t)
	b := openBrowser(t)
	b.do(chromedp.Navigate("http://" + s.addr + "/account"))
	b.signIn(s, "jane")
	page := b.text("main")
	b.shoot("account")
	wantWords(t, "account", page, "jane", "devs", "AcrPush", "team/*", "group devs")

	b.do(chromedp.Click("#make"))
	secretText := strings.TrimSpace(b.text("#secret"))
	b.shoot("secret")
	if !strings.HasPrefix(secretText, "pratique_") {
		t.Fatalf("the secret is shown as %q", secretText)
	}
	_, env := newHome(t)
	command{name: program(t, "crane"), args: []string{"auth", "login", "--insecure", s.addr, "-u", "jane", "-p", secretText}, env: env}.mustRun(t)
	command{name: program(t, "crane"), args: []string{"copy", "--insecure", s.ref("team/app", "v1"), s.ref("team/app", "v2")}, env: env}.mustRun(t)
	b.do(chromedp.Navigate("http://"+s.addr+"/account"), chromedp.WaitNotPresent("#secret"))
	if page := b.text("main"); strings.Contains(page, "pratique_") {
		t.Error("the secret is shown again")
	}
	b.do(chromedp.Click("#make"), chromedp.WaitVisible("#secret"))
	if status, _ := s.ping(t, "jane", secretText); status != http.StatusUnauthorized {
		t.Errorf("the secret that another took the place of: %d", status)
	}
	b.do(chromedp.Click("header .out button"), chromedp.WaitVisible(`a[href^="/login/start"]`))
	wantWords(t, "after signing out", b.text("main"), "signed out")
	b.do(chromedp.Navigate("http://"+s.addr+"/account"), chromedp.WaitVisible(`a[href^="/login/start"]`))
}

// TestSignInRefused: whom --oidc-allow does not let in has signed in for nothing, and no user is made.
func TestSignInRefused(t *testing.T) {
	s, _ := signInServer(t, "--oidc-allow", `"developers" in claims.groups`)
	b := openBrowser(t)
	b.do(chromedp.Navigate("http://"+s.addr+"/login/start"), chromedp.WaitVisible(`input[name="login"]`), chromedp.SendKeys(`input[name="login"]`, "mallory"),
		chromedp.SendKeys(`input[name="password"]`, "any"), chromedp.Click(`button[type="submit"]`), chromedp.WaitVisible(`button[autofocus]`), chromedp.Click(`button[autofocus]`),
		chromedp.WaitVisible(`header .host`))
	wantWords(t, "refusal", b.text("main"), "may not use this registry")
	b.shoot("refused")
}

// TestLoginByBrowser: the command line is let in by whoever is signed in, after they have been asked.
func TestLoginByBrowser(t *testing.T) {
	s, issuer := signInServer(t)
	s.push(t, "team/app", "v1", smallImage(t, "of the team"))
	s.pratique("federation", "group", "devs", "--issuer", issuer, "--group", "developers", "--role", "AcrPull").mustRun(t)
	_, env := newHome(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	login := exec.CommandContext(ctx, binary, "login", s.addr, "--oidc", "--docker")
	login.Env = append(baseEnv(), env...)
	stderr, err := login.StderrPipe()
	check(t, err)
	var stdout logBuffer
	login.Stdout = &stdout
	check(t, login.Start())
	address := ""
	for lines := bufio.NewScanner(stderr); address == "" && lines.Scan(); {
		if text := strings.TrimSpace(lines.Text()); strings.HasPrefix(text, "http://") {
			address = text
		}
	}
	b := openBrowser(t)
	b.do(chromedp.Navigate(address))
	b.signIn(s, "jane")
	wantWords(t, "question", b.text("main"), "let the command line in", "jane")
	b.shoot("authorize")
	b.do(chromedp.Click("#allow"), chromedp.WaitVisible("pre"))
	wantWords(t, "answer", b.text("pre"), "logged in on the command line")
	if err := login.Wait(); err != nil {
		t.Fatalf("login: %v\n%s", err, &stdout)
	}
	wantWords(t, "login", stdout.String(), "logged in to http://"+s.addr+" as jane, until")
	command{name: program(t, "crane"), args: []string{"digest", "--insecure", s.ref("team/app", "v1")}, env: env}.mustRun(t)
	command{name: binary, args: []string{"show", "team/app:v1"}, env: env}.mustRun(t)
}

// Package e2e drives the built binary from outside, by its documented words alone:
// with the public clients, on real content, and on input that is broken. Nothing
// here knows how the program is made.
//
// The binary is the one that PRATIQUE_BIN names, or one built for this run. The
// clients and the content come from package registries and are cached between runs
// under $XDG_CACHE_HOME/pratique-test; `make needs tools` installs the programs.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Set once by TestMain.
var (
	binary   string // the program under test
	cacheDir string // kept between runs
	workDir  string // of this run, removed after it
)

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	userCache, err := os.UserCacheDir()
	if err != nil {
		return 1, err
	}
	cacheDir = filepath.Join(userCache, "pratique-test")
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return 1, err
	}
	if workDir, err = os.MkdirTemp("", "pratique-e2e-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(workDir)) }()

	if binary = os.Getenv("PRATIQUE_BIN"); binary == "" {
		binary = filepath.Join(workDir, "pratique")
		build := exec.Command("go", "build", "-o", binary, "pratique.dev/pratique/cmd/pratique")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return 1, fmt.Errorf("build the program: %w\n%s", err, out)
		}
	}
	defer func() { err = errors.Join(err, shared.shutdown()) }()
	return m.Run(), nil
}

// program returns the path of a program that the tests drive.
func program(t *testing.T, name string) string {
	t.Helper()
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	p := filepath.Join(cacheDir, "bin", name)
	if _, err := os.Stat(p); err != nil {
		t.Fatalf("%s is not installed; run: make needs tools", name)
	}
	return p
}

// result is what a finished program left.
type result struct {
	stdout, stderr string
	code           int
}

// command is a program to run to its end.
type command struct {
	name    string
	args    []string
	env     []string // added to a small fixed environment
	dir     string
	timeout time.Duration // zero: two minutes
}

// run runs c to its end, whatever its exit code.
func (c command) run(t *testing.T) result {
	t.Helper()
	timeout := c.timeout
	if timeout == 0 {
		timeout = 2 * time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.name, c.args...)
	cmd.Dir = c.dir
	cmd.Env = append(baseEnv(), c.env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s %q did not end within %v\n%s%s", c.name, c.args, timeout, &stdout, &stderr)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("start %s: %v", c.name, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// mustRun runs c and fails the test unless it exits with 0.
func (c command) mustRun(t *testing.T) result {
	t.Helper()
	r := c.run(t)
	if r.code != 0 {
		t.Fatalf("%s %q: exit code %d\n%s%s", c.name, c.args, r.code, r.stdout, r.stderr)
	}
	return r
}

// baseEnv is the environment of every program that is started: the caller's, less
// what would point a client at somebody's real registry or credentials.
func baseEnv() []string {
	env := []string{"HOME=" + workDir, "PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}
	for _, name := range []string{"GOPROXY", "GOSUMDB", "GONOSUMDB", "GOFLAGS", "GOTOOLCHAIN", "GONOSUMCHECK",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "TMPDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// secret is the administrator's, on every server of these tests.
const secret = "e2e-only-8c1f0f7d2b"

// waitJudged is how long an image may take to be judged once its time has come.
const waitJudged = 30 * time.Second

// server is one running `pratique serve`.
type server struct {
	addr string // host:port
	data string // the data folder
	home string // credentials of clients that log in to this server
	cmd  *exec.Cmd
	log  *logBuffer
	done chan struct{} // closed when the process has ended
	once sync.Once
}

// logBuffer collects what a process writes.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// freeAddr returns a loopback address on which nothing listens.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// spawn starts a server on a data folder and does not wait for it to be ready.
func spawn(data string) (*server, error) { return spawnWith(data) }

// spawnWith is spawn with further flags.
func spawnWith(data string, flags ...string) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	return spawnAt(addr, data, flags...)
}

// spawnAt is spawnWith on an address of the caller's choice.
func spawnAt(addr, data string, flags ...string) (*server, error) {
	home, err := os.MkdirTemp(workDir, "home-")
	if err != nil {
		return nil, err
	}
	s := &server{addr: addr, data: data, home: home, log: new(logBuffer), done: make(chan struct{})}
	s.cmd = exec.Command(binary, append([]string{"serve", "--data", data, "--listen", addr}, flags...)...)
	s.cmd.Env = append(baseEnv(), "PRATIQUE_ADMIN_SECRET="+secret)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		// The exit code is read from ProcessState by who waits on done.
		_ = s.cmd.Wait()
		close(s.done)
	}()
	return s, s.writeAuth()
}

// writeAuth leaves the administrator's credentials where the public clients look.
func (s *server) writeAuth() error {
	auth := base64.StdEncoding.EncodeToString([]byte("admin:" + secret))
	doc, err := json.Marshal(map[string]any{"auths": map[string]any{s.addr: map[string]string{"auth": auth}}})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.home, "config.json"), doc, 0o600)
}

// awaitReady returns once /readyz answers 200, or says why it never will.
func (s *server) awaitReady() error {
	return s.await(time.Minute, "ready", func() (bool, error) {
		res, err := http.Get("http://" + s.addr + "/readyz")
		if err != nil {
			return false, nil // not listening yet
		}
		defer res.Body.Close()
		_, err = io.Copy(io.Discard, res.Body)
		return res.StatusCode == http.StatusOK, err
	})
}

// await asks until the answer is yes, the process has ended or the time is over.
func (s *server) await(limit time.Duration, what string, ask func() (bool, error)) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := ask(); err != nil || ok {
			return err
		}
		select {
		case <-s.done:
			return fmt.Errorf("the server ended (%v) before it was %s; its output:\n%s", s.cmd.ProcessState, what, s.log)
		case <-deadline.C:
			return fmt.Errorf("the server was not %s within %v; its output:\n%s", what, limit, s.log)
		case <-tick.C:
		}
	}
}

// end sends a signal and waits for the process.
func (s *server) end(sig syscall.Signal) error {
	select {
	case <-s.done:
		return nil
	default:
	}
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.done:
		return nil
	case <-time.After(30 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.done
		return fmt.Errorf("the server did not end within 30 s of signal %v; its output:\n%s", sig, s.log)
	}
}

// stop ends the server as a service manager would; it must exit with 0.
func (s *server) stop() (err error) {
	s.once.Do(func() {
		if err = s.end(syscall.SIGTERM); err == nil && s.cmd.ProcessState.ExitCode() != 0 {
			err = fmt.Errorf("the server ended with %v on SIGTERM; its output:\n%s", s.cmd.ProcessState, s.log)
		}
	})
	return err
}

// start runs a server on a data folder until the test ends.
func start(t *testing.T, data string, flags ...string) *server {
	t.Helper()
	s, err := spawnWith(data, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("output of the server on %s:\n%s", s.addr, s.log)
		}
	})
	if err := s.awaitReady(); err != nil {
		t.Fatal(err)
	}
	return s
}

// pratique is a client command of the program, told where the server is by environment.
func (s *server) pratique(args ...string) command {
	return command{name: binary, args: args, env: []string{
		"PRATIQUE_SERVER=http://" + s.addr, "PRATIQUE_USER=admin", "PRATIQUE_PASSWORD=" + secret}}
}

// client is a public client with the administrator's credentials.
func (s *server) client(t *testing.T, name string, args ...string) command {
	t.Helper()
	return command{name: program(t, name), args: args, env: []string{
		"DOCKER_CONFIG=" + s.home, "REGISTRY_AUTH_FILE=" + filepath.Join(s.home, "config.json"),
		"XDG_RUNTIME_DIR=" + s.home, "HOME=" + s.home}}
}

// ref names an image on this server, without a scheme.
func (s *server) ref(repo, tag string) string { return s.addr + "/" + repo + ":" + tag }

// sharedServer is one server for all tests that do not care whose repositories stand
// beside theirs, and the data folder from which others start, advisories loaded.
type sharedServer struct {
	once     sync.Once
	err      error
	server   *server
	template string
}

var shared sharedServer

// sharedRegistry returns the server that the tests share, its advisories loaded.
func sharedRegistry(t *testing.T) *server {
	t.Helper()
	shared.once.Do(func() { shared.err = shared.start() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("output of the shared server:\n%s", shared.server.log)
		}
	})
	return shared.server
}

// start lets a first server load the embedded advisories, keeps a copy of its data
// folder as the template, and goes on with the original.
func (sh *sharedServer) start() error {
	data := filepath.Join(workDir, "shared")
	first, err := spawn(data)
	if err != nil {
		return err
	}
	if err := errors.Join(first.awaitReady(), first.awaitAdvisories()); err != nil {
		return errors.Join(err, first.stop())
	}
	if err := first.stop(); err != nil {
		return err
	}
	sh.template = filepath.Join(workDir, "template")
	if err := os.CopyFS(sh.template, os.DirFS(data)); err != nil {
		return err
	}
	if sh.server, err = spawn(data); err != nil {
		return err
	}
	return sh.server.awaitReady()
}

func (sh *sharedServer) shutdown() error {
	if sh.server == nil {
		return nil
	}
	return sh.server.stop()
}

// loadedData returns a data folder of the test's own that has the embedded advisories.
func loadedData(t *testing.T) string {
	t.Helper()
	sharedRegistry(t)
	data := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(data, os.DirFS(shared.template)); err != nil {
		t.Fatal(err)
	}
	return data
}

// awaitAdvisories returns once every embedded ecosystem has its records.
func (s *server) awaitAdvisories() error {
	return s.await(2*time.Minute, "loaded with the embedded advisories", func() (bool, error) {
		out, err := s.output("advisories", "status", "-o", "json")
		if err != nil {
			return false, err
		}
		return advisoriesLoaded(out)
	})
}

// output runs a client command of the program where there is no test to fail.
func (s *server) output(args ...string) ([]byte, error) {
	cmd := exec.Command(binary, args...)
	cmd.Env = append(baseEnv(), s.pratique().env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("pratique %q: %w: %s", args, err, &stderr)
	}
	return out, err
}

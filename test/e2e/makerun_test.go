package e2e

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMakeRun follows the README as a new user does: `make run`, the secret that the
// first start prints, and no secret at the second.
func TestMakeRun(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	out := makeRun(t, data, func(addr, out string) {
		m := regexp.MustCompile(`user\s+(\S+)\s+secret\s+(pratique_\S+)\s+\(shown this once\)`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("no name and secret in\n%s", out)
		}
		wantWords(t, "the first start", out, "listens on http://"+addr, "docker login "+addr, "docker tag ", "docker push "+addr+"/")
		for password, want := range map[string]int{m[2]: http.StatusOK, m[2] + "x": http.StatusUnauthorized} {
			req, err := http.NewRequest(http.MethodGet, "http://"+addr+"/v2/", nil)
			check(t, err)
			req.SetBasicAuth(m[1], password)
			res, err := http.DefaultClient.Do(req)
			check(t, err)
			check(t, res.Body.Close())
			if res.StatusCode != want {
				t.Errorf("GET /v2/ answers %d, want %d", res.StatusCode, want)
			}
		}
	})
	secret := regexp.MustCompile(`pratique_\S+`).FindString(out)
	if second := makeRun(t, data, func(string, string) {}); strings.Contains(second, secret) || strings.Contains(second, "shown this once") {
		t.Errorf("the second start shows a secret:\n%s", second)
	}
}

// makeRun runs `make run` until do has returned, and returns what it printed.
func makeRun(t *testing.T, data string, do func(addr, out string)) string {
	t.Helper()
	addr, err := freeAddr()
	check(t, err)
	s := &server{addr: addr, log: new(logBuffer), done: make(chan struct{})}
	s.cmd = exec.Command("make", "-C", "../..", "run", "DATA="+data, "LISTEN="+addr)
	s.cmd.Env = append(baseEnv(), "GOCACHE="+goEnv(t, "GOCACHE"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"))
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // make and the server are ended together
	check(t, s.cmd.Start())
	go func() {
		// The exit code is make's and says nothing.
		_ = s.cmd.Wait()
		close(s.done)
	}()
	defer func() {
		check(t, syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM))
		select {
		case <-s.done:
		case <-time.After(time.Minute):
			t.Error("make run does not end")
			_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		}
	}()
	check(t, s.awaitReady())
	// What the server wrote before its first answer may still be in the pipe.
	check(t, s.await(time.Minute, "greeting", func() (bool, error) { return strings.Contains(s.log.String(), "docker push "), nil }))
	do(addr, s.log.String())
	return s.log.String()
}

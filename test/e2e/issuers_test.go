package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// node runs a script of tools/issuers until the returned function or the test ends it. It is given HOST and PORT of an
// address, and args behind them.
func node(t *testing.T, script, addr string, args ...string) (stop func()) {
	t.Helper()
	path := filepath.Join(cacheDir, "issuers", script)
	if _, err := os.Stat(filepath.Join(cacheDir, "issuers", "node_modules")); err != nil {
		t.Fatal("the issuers of tools/issuers are not installed; run: make needs tools")
	}
	host, port, err := net.SplitHostPort(addr)
	check(t, err)
	cmd := exec.Command(program(t, "node"), append([]string{path, host, port}, args...)...)
	cmd.Env = append(baseEnv(), "NODE_ENV=test")
	var log logBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	check(t, cmd.Start())
	done := make(chan struct{})
	go func() { // ends with the process
		// That it was killed is no news.
		_ = cmd.Wait()
		close(done)
	}()
	stop = func() {
		// It may have ended already.
		_ = cmd.Process.Kill()
		<-done
	}
	t.Cleanup(stop)
	deadline := time.After(time.Minute)
	for !strings.Contains(log.String(), "listening\n") {
		select {
		case <-done:
			t.Fatalf("%s ended before it listened:\n%s", script, &log)
		case <-deadline:
			t.Fatalf("%s did not listen within a minute:\n%s", script, &log)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return stop
}

// issuerAddr is an address for an issuer that is started later than who asks it.
func issuerAddr(t *testing.T) string {
	t.Helper()
	addr, err := freeAddr()
	check(t, err)
	return addr
}

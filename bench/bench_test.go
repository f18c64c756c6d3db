// Package bench measures the figures that README.md lists: the built binary beside
// CNCF distribution and trivy, driven by a client of its own, so that no other
// client's work is measured. `make bench IMAGES=FOLDER` runs it.
package bench

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const secret = "bench-only-5f1d"

var basic = base64.StdEncoding.EncodeToString([]byte("admin:" + secret))

// find returns the path of a program or ends the benchmark.
func find(b *testing.B, env, name string) string {
	b.Helper()
	if p := os.Getenv(env); p != "" {
		return p
	}
	p, err := exec.LookPath(name)
	if err != nil {
		b.Fatalf("%s is not installed: %v; set %s, or run make bench", name, err, env)
	}
	return p
}

// image opens one of the layouts below $IMAGES.
func image(b *testing.B, name string) *layout {
	b.Helper()
	root := os.Getenv("IMAGES")
	if root == "" {
		b.Fatal("set IMAGES to the folder of OCI layouts that README.md describes")
	}
	l, err := openLayout(filepath.Join(root, name))
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// row prints one line of the table of figures.
func row(figure, value, goal string) { fmt.Printf("| %s | %s | %s |\n", figure, value, goal) }

// quantile returns the q-quantile of samples by the nearest-rank method.
func quantile(samples []time.Duration, q float64) time.Duration {
	s := slices.Sorted(slices.Values(samples))
	i := int(q*float64(len(s))+0.999999) - 1
	return s[min(max(i, 0), len(s)-1)]
}

func median(samples []time.Duration) time.Duration { return quantile(samples, 0.5) }

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
func sec(d time.Duration) string {
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// rounds is how often each figure is taken, BENCH_ROUNDS or what the figure wants.
func rounds(b *testing.B, usual int) int {
	b.Helper()
	text := os.Getenv("BENCH_ROUNDS")
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("BENCH_ROUNDS is %q, expected a number above 0", text)
	}
	return n
}

// process is a server that was started for a benchmark.
type process struct {
	cmd   *exec.Cmd
	base  string // http://host:port
	out   *bytes.Buffer
	ended chan struct{}
}

// start runs a server until stop. env is added to the caller's.
func start(b *testing.B, addr string, env []string, name string, args ...string) *process {
	b.Helper()
	p := &process{cmd: exec.Command(name, args...), base: "http://" + addr, out: new(bytes.Buffer), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is read from ProcessState
		close(p.ended)
	}()
	b.Cleanup(func() { p.stop(b) })
	return p
}

// await asks url until it answers 200.
func (p *process) await(b *testing.B, url string, limit time.Duration) {
	b.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if res, err := http.Get(p.base + url); err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			err = errors.Join(err, res.Body.Close())
			if err == nil && res.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-p.ended:
			b.Fatalf("%s ended before it was ready:\n%s", p.cmd.Path, p.out)
		case <-deadline:
			b.Fatalf("%s was not ready within %v", p.cmd.Path, limit)
		case <-tick.C:
		}
	}
}

// stop ends the process by its id and waits for it.
func (p *process) stop(b *testing.B) {
	b.Helper()
	select {
	case <-p.ended:
		return
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		b.Error(err)
	}
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
		b.Errorf("%s did not end on SIGTERM", p.cmd.Path)
	}
}

// memory reads a line of /proc/PID/status: VmRSS is now, VmHWM the highest so far. In bytes.
func (p *process) memory(b *testing.B, field string) int64 {
	b.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return kb << 10
		}
	}
	b.Fatalf("/proc/%d/status has no %s", p.cmd.Process.Pid, field)
	return 0
}

func mb(n int64) string { return fmt.Sprintf("%d MB", n/1e6) }

func freeAddr(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// pratique starts the registry under test on a data folder.
func pratique(b *testing.B, data string) *process {
	b.Helper()
	addr := freeAddr(b)
	p := start(b, addr, []string{"PRATIQUE_ADMIN_SECRET=" + secret}, find(b, "PRATIQUE_BIN", "pratique"),
		"serve", "--data", data, "--listen", addr)
	p.await(b, "/readyz", time.Minute)
	return p
}

// distribution starts CNCF distribution on a folder, with its defaults for files.
func distribution(b *testing.B, data string) *process {
	b.Helper()
	addr := freeAddr(b)
	config := filepath.Join(b.TempDir(), "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}\nhttp: {addr: %q}\n", data, addr)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	p := start(b, addr, []string{"OTEL_TRACES_EXPORTER=none"}, find(b, "DISTRIBUTION_BIN", "registry"), "serve", config)
	p.await(b, "/v2/", time.Minute)
	return p
}

// cli runs a client command of the registry under test.
func (p *process) cli(b *testing.B, args ...string) []byte {
	b.Helper()
	cmd := exec.CommandContext(context.Background(), find(b, "PRATIQUE_BIN", "pratique"), args...)
	cmd.Env = append(os.Environ(), "PRATIQUE_SERVER="+p.base, "PRATIQUE_USER=admin", "PRATIQUE_PASSWORD="+secret)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			b.Fatalf("pratique %q: %v: %s", args, err, exit.Stderr)
		}
		b.Fatal(err)
	}
	return out
}

// awaitAdvisories returns once nothing is being loaded any more.
func (p *process) awaitAdvisories(b *testing.B) {
	b.Helper()
	for {
		out := p.cli(b, "advisories", "status", "-o", "json")
		if bytes.Contains(out, []byte(`"AlmaLinux"`)) && bytes.Contains(out, []byte(`"npm"`)) && !bytes.Contains(out, []byte(`"loading"`)) {
			return
		}
		select {
		case <-p.ended:
			b.Fatalf("the server ended while it loaded its advisories:\n%s", p.out)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// template is a data folder with the embedded advisories, copied for each round so that
// no round profits from the one before.
var template string

func loadedData(b *testing.B) string {
	b.Helper()
	if template == "" {
		dir, err := os.MkdirTemp("", "pratique-bench-")
		if err != nil {
			b.Fatal(err)
		}
		p := pratique(b, filepath.Join(dir, "data"))
		p.awaitAdvisories(b)
		p.stop(b)
		template = dir
	}
	data := filepath.Join(b.TempDir(), "data")
	if err := os.CopyFS(data, os.DirFS(filepath.Join(template, "data"))); err != nil {
		b.Fatal(err)
	}
	return data
}

func TestMain(m *testing.M) {
	code := m.Run()
	if template != "" {
		if err := os.RemoveAll(template); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

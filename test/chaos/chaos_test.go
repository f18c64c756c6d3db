// Package chaos kills the built binary at random points while clients push, mount, move,
// delete and collect, and checks after each restart that all it had acknowledged is whole
// and that nothing else can be seen.
//
// CHAOS_KILLS sets how often (200), CHAOS_SEED repeats the choices of an earlier run; how
// requests interleave is up to the machine.
package chaos

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// binary is the program under test: that of PRATIQUE_BIN, or one built for this run.
var binary = os.Getenv("PRATIQUE_BIN")

const (
	workers = 4
	grace   = 20 * time.Second // of what no manifest names, before a collection takes it
)

// fromEnv is a number of the environment's, or another.
func fromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func TestChaos(t *testing.T) {
	kills, seed := fromEnv(t, "CHAOS_KILLS", 200), fromEnv(t, "CHAOS_SEED", rand.Uint64N(1e9))
	t.Logf("CHAOS_SEED=%d CHAOS_KILLS=%d", seed, kills)
	if binary == "" {
		binary = filepath.Join(t.TempDir(), "pratique")
		build := exec.Command("go", "build", "-o", binary, "pratique.dev/pratique/cmd/pratique")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build the program: %v\n%s", err, out)
		}
	}
	c := newChaos(filepath.Join(t.TempDir(), "data"), seed)
	if err := c.first(); err != nil {
		t.Fatal(err)
	}
	for n := range kills {
		if err := c.round(n); err != nil {
			t.Fatalf("CHAOS_SEED=%d, kill %d: %v%s", seed, n, err, c.tell())
		}
	}
	if err := c.last(); err != nil {
		t.Fatalf("CHAOS_SEED=%d, after %d kills: %v%s", seed, kills, err, c.tell())
	}
	manifests, blobs, acked, restored := 0, 0, 0, 0
	for _, w := range c.workers {
		manifests, blobs, acked, restored = manifests+len(w.order), blobs+len(w.blobOrder), acked+w.acked, restored+w.restored
	}
	t.Logf("%d kills, %d acknowledged requests, %d manifests and %d blobs pushed, %d restored, %d collections; all that was acknowledged is whole",
		kills, acked, manifests, blobs, restored, c.collections)
}

// campaign is a data folder, those who work on it, and the server of the round.
type campaign struct {
	data        string
	rng         *rand.Rand
	workers     []*worker
	server      *server
	collections int
}

func newChaos(data string, seed uint64) *campaign {
	c := &campaign{data: data, rng: rand.New(rand.NewPCG(seed, 0))}
	shared := &shelf{base: layer(c.rng, 30_000)}
	for i := range workers {
		c.workers = append(c.workers, newWorker(i, seed, shared, grace))
	}
	return c
}

// tell says what the workers did last and what the server wrote.
func (c *campaign) tell() string {
	c.server.kill()
	out := ""
	for _, w := range c.workers {
		out += "\n" + w.repo + ":"
		for _, line := range w.trail {
			out += "\n\t" + line
		}
	}
	return out + "\nthe server:\n" + c.server.log.String()
}

func (c *campaign) start() (err error) {
	c.server, err = spawn(c.data, "--gc-grace", grace.String(), "--gc-every", "-1s", "--log-level", "warn")
	return err
}

// first lets a server load its advisories, which later ones find there.
func (c *campaign) first() error {
	if err := c.start(); err != nil {
		return err
	}
	return errors.Join(c.server.ready(true), c.server.stop())
}

// round starts a server, checks it, has it worked on and kills it. Every eighth is killed
// while it starts.
func (c *campaign) round(n uint64) error {
	if err := c.start(); err != nil {
		return err
	}
	defer c.server.kill()
	after := 100 + c.rng.IntN(500)
	if n%8 == 7 {
		<-time.After(time.Duration(c.rng.IntN(60)) * time.Millisecond)
		return nil
	}
	if err := c.server.ready(false); err != nil {
		return err
	}
	if err := c.each(func(w *worker) error { return w.check(c.server, false) }); err != nil {
		return err
	}
	killer := time.AfterFunc(time.Duration(after)*time.Millisecond, c.server.kill)
	defer killer.Stop()
	if n%4 == 1 {
		c.collections++
		return c.each(func(w *worker) error { return w.work(c.server) }, c.collect)
	}
	return c.each(func(w *worker) error { return w.work(c.server) })
}

// collect has garbage collected while the others work.
func (c *campaign) collect() error {
	a, err := c.server.do(http.MethodPost, "/api/v1/gc", nil, nil)
	if err == nil && a.code != http.StatusOK {
		return fmt.Errorf("gc: %s", a)
	}
	return nil
}

// each has all workers do the same at once, and more beside them.
func (c *campaign) each(do func(*worker) error, more ...func() error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(c.workers)+len(more))
	for i, w := range c.workers {
		wg.Go(func() { errs[i] = do(w) })
	}
	for i, f := range more {
		wg.Go(func() { errs[len(c.workers)+i] = f() })
	}
	wg.Wait()
	for i, err := range errs {
		if errors.Is(err, errKilled) {
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}

// last reads everything back, has garbage collected, reads it again, and has the catalog
// made anew from the blob store alone.
func (c *campaign) last() error {
	if err := c.start(); err != nil {
		return err
	}
	if err := c.server.ready(true); err != nil {
		return err
	}
	if err := c.all(); err != nil {
		return err
	}
	if err := c.collect(); err != nil {
		return err
	}
	if err := errors.Join(c.all(), c.server.stop()); err != nil {
		return err
	}
	if err := errors.Join(audit(c.data), c.run("fsck")); err != nil {
		return err
	}
	return c.rebuild()
}

func (c *campaign) all() error {
	return c.each(func(w *worker) error { return w.check(c.server, true) })
}

// rebuild loses the catalog. What the blob store tells nothing of is lost with it: uploads
// under way, and blobs that no manifest names.
func (c *campaign) rebuild() error {
	for _, name := range []string{"catalog.db", "catalog.db-wal", "catalog.db-shm"} {
		if err := os.Remove(filepath.Join(c.data, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := c.run("rebuild"); err != nil {
		return err
	}
	for _, w := range c.workers {
		w.uploads = nil
		for _, b := range w.blobs {
			b.touched = time.Time{}
		}
	}
	if err := c.start(); err != nil {
		return err
	}
	if err := c.server.ready(true); err != nil {
		return err
	}
	if err := c.all(); err != nil {
		return fmt.Errorf("after a rebuild: %w", err)
	}
	return errors.Join(c.server.stop(), audit(c.data), c.run("fsck"))
}

// run runs a command of the program on the data folder.
func (c *campaign) run(command string) error {
	if out, err := exec.Command(binary, command, "--data", c.data).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", command, err, out)
	}
	return nil
}

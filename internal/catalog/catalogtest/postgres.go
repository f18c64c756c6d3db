package catalogtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // registers "pgx"

	"pratique.dev/pratique/internal/catalog"
)

// installHint is what to run where there is no PostgreSQL.
const installHint = "the catalog's tests run on PostgreSQL too, from Debian's packages: apt-get install -y postgresql"

// server is a PostgreSQL cluster.
type server struct {
	once  sync.Once
	err   error
	dir   string
	bin   string
	attr  *syscall.SysProcAttr
	count atomic.Int64

	process *os.Process
	ended   chan struct{}
}

// cluster is the one of this test binary.
var cluster server

// Main runs the tests of a package that uses Each, and stops the cluster they started.
func Main(m *testing.M) int {
	defer stopCluster()
	return m.Run()
}

// Each runs a test on an empty catalog of each engine. The package's TestMain calls Main.
func Each(t *testing.T, test func(t *testing.T, c *catalog.Catalog), options ...catalog.Option) {
	t.Helper()
	EachDSN(t, func(t *testing.T, dsn string) { test(t, open(t, dsn, options)) })
}

// EachDSN runs a test with the address of an empty database of each engine.
func EachDSN(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, "sqlite:"+filepath.Join(t.TempDir(), "catalog.db")) })
	t.Run("memory", func(t *testing.T) { test(t, "sqlite::memory:") })
	t.Run("postgres", func(t *testing.T) { test(t, Postgres(t)) })
}

// Postgres returns the address of an empty database that is gone after the test. It
// fails the test where there is no PostgreSQL.
func Postgres(t testing.TB) string {
	t.Helper()
	cluster.once.Do(func() { cluster.err = startCluster() })
	if cluster.err != nil {
		t.Fatal(cluster.err)
	}
	name := fmt.Sprintf("test%d", cluster.count.Add(1))
	admin(t, "create database "+name)
	t.Cleanup(func() { admin(t, "drop database "+name+" with (force)") })
	return address(name)
}

func address(database string) string {
	return "postgres://postgres@/" + database + "?host=" + cluster.dir
}

func admin(t testing.TB, text string) {
	t.Helper()
	db, err := sql.Open("pgx", address("postgres"))
	if err == nil {
		_, err = db.Exec(text)
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// startCluster makes a cluster in a folder of its own, with a socket there and no port.
func startCluster() (err error) {
	if cluster.bin, err = findPostgres(); err != nil {
		return err
	}
	if cluster.dir, err = os.MkdirTemp("", "pg"); err != nil {
		return err
	}
	if os.Getuid() == 0 { // initdb refuses root
		u, err := user.Lookup("postgres")
		if err != nil {
			return fmt.Errorf("%w; %s", err, installHint)
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return err
		}
		gid, err := strconv.Atoi(u.Gid)
		if err != nil {
			return err
		}
		if err := os.Chown(cluster.dir, uid, gid); err != nil {
			return err
		}
		cluster.attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	if err := runTool("initdb", "-D", cluster.data(), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"); err != nil {
		return err
	}
	return runServer(filepath.Join(cluster.bin, "postgres"), "-D", cluster.data(), "-c", "listen_addresses=", "-c", "unix_socket_directories="+cluster.dir,
		"-c", "fsync=off", "-c", "max_connections=300", "-c", "deadlock_timeout=100ms")
}

// runServer starts the server and waits until it answers.
func runServer(name string, args ...string) error {
	log, err := os.Create(filepath.Join(cluster.dir, "log"))
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(context.Background(), name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = endWithParent(cluster.attr)
	started := make(chan error)
	cluster.ended = make(chan struct{})
	go func() {
		// The server ends with the thread that started it, so that one stays.
		runtime.LockOSThread()
		err := cmd.Start()
		cluster.process = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended stands in its log
		}
		close(cluster.ended)
	}()
	if err := errors.Join(<-started, log.Close()); err != nil {
		return err
	}
	db, err := sql.Open("pgx", address("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-cluster.ended:
			said, _ := os.ReadFile(log.Name())
			return fmt.Errorf("PostgreSQL ended: %s", said)
		case <-tick.C:
			if db.Ping() == nil {
				tick.Stop()
				return nil
			}
		}
	}
}

func (c *server) data() string { return filepath.Join(c.dir, "data") }

func stopCluster() {
	if cluster.dir == "" {
		return
	}
	if cluster.process != nil {
		if err := cluster.process.Signal(syscall.SIGQUIT); err != nil { // at once
			fmt.Fprintln(os.Stderr, "stop PostgreSQL:", err)
		}
		<-cluster.ended
	}
	if err := os.RemoveAll(cluster.dir); err != nil {
		fmt.Fprintln(os.Stderr, "remove PostgreSQL:", err)
	}
}

func runTool(name string, args ...string) error {
	cmd := exec.CommandContext(context.Background(), filepath.Join(cluster.bin, name), args...)
	cmd.Dir, cmd.SysProcAttr = "/", cluster.attr
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, said)
	}
	return nil
}

// findPostgres returns the folder of the newest PostgreSQL's programs.
func findPostgres() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(p), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("no PostgreSQL found; %s", installHint)
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1]), nil
}

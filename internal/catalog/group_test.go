package catalog

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
)

// grouping is a catalog whose commits are counted.
type grouping struct {
	*Catalog
	dir     string
	commits atomic.Int64
}

func newGrouping(t *testing.T) *grouping {
	t.Helper()
	dir := t.TempDir()
	c, err := Open(t.Context(), "sqlite:"+filepath.Join(dir, "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	g := &grouping{Catalog: c, dir: dir}
	c.group.time = time.Hour // however slow the machine is
	g.onWriter(t, func(c *sqlite3.Conn) { c.CommitHook(func() bool { g.commits.Add(1); return true }) })
	return g
}

// onWriter does something with the connection that writes.
func (g *grouping) onWriter(t *testing.T, do func(*sqlite3.Conn)) {
	t.Helper()
	conn, err := g.write.db.Conn(t.Context())
	if err == nil {
		err = conn.Raw(func(c any) error { do(c.(interface{ Raw() *sqlite3.Conn }).Raw()); return nil })
	}
	if err == nil {
		err = conn.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// put is the work of a transaction that keeps a setting.
func put(name string, size int) func(*tx) error {
	return func(t *tx) error {
		_, err := t.exec(context.Background(), `insert into settings (name, value) values ($1, $2)`, name, make([]byte, size))
		return err
	}
}

// has says which of the settings are there.
func (g *grouping) has(t *testing.T, names ...string) string {
	t.Helper()
	var out []string
	for _, name := range names {
		_, err := g.Setting(t.Context(), name)
		if err == nil {
			out = append(out, name)
		} else if !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	return strings.Join(out, " ")
}

// together runs transactions that all wait, in their order, while the first one is being
// written, which keeps "first". It returns their errors.
func (g *grouping) together(t *testing.T, work ...func() error) []error {
	t.Helper()
	var wg sync.WaitGroup
	began, errs := make(chan struct{}), make([]error, len(work))
	var once sync.Once
	wg.Go(func() {
		err := g.tx(context.Background(), func(t *tx) error {
			once.Do(func() { // it is run once more where the group was lost
				close(began)
				for g.group.waits() < len(work) {
					runtime.Gosched()
				}
			})
			return put("first", 1)(t)
		})
		if err != nil {
			t.Errorf("the first one: %v", err)
		}
	})
	<-began
	for i, w := range work {
		wg.Go(func() { errs[i] = w() })
		for i < len(work)-1 && g.group.waits() <= i { // with the last one the first goes on
			runtime.Gosched()
		}
	}
	wg.Wait()
	return errs
}

// waits is how many wait, of those who were not taken before.
func (g *group) waits() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting)
}

func TestOneCommitForMany(t *testing.T) {
	g := newGrouping(t)
	var work []func() error
	var names []string
	for i := range 20 {
		name := fmt.Sprint("s", i)
		names = append(names, name)
		work = append(work, func() error { return g.tx(context.Background(), put(name, 1)) })
	}
	for i, err := range g.together(t, work...) {
		if err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	if n := g.commits.Load(); n != 1 {
		t.Errorf("%d commits for 21 transactions that came in together, want 1", n)
	}
	if got := g.has(t, names...); got != strings.Join(names, " ") {
		t.Errorf("kept: %s", got)
	}
}

// TestGroupOfErrors: each caller gets its own error, and what failed leaves no trace with
// the others.
func TestGroupOfErrors(t *testing.T) {
	g := newGrouping(t)
	gone, leave := context.WithCancel(t.Context())
	leave()
	mine := errors.New("mine")
	var panicked any
	errs := g.together(t,
		func() error { return g.tx(context.Background(), put("a", 1)) },
		func() error {
			return g.tx(context.Background(), func(t *tx) error { return errors.Join(put("b", 1)(t), mine) })
		},
		func() error { return g.tx(context.Background(), put("a", 1)) },
		func() error { return g.tx(gone, put("c", 1)) },
		func() error {
			defer func() { panicked = recover() }()
			return g.tx(context.Background(), func(t *tx) error {
				if err := put("d", 1)(t); err != nil {
					return err
				}
				panic("mine too")
			})
		},
		func() error { return g.tx(context.Background(), put("e", 1)) },
	)
	for i, want := range []error{nil, mine, ErrConflict, context.Canceled, nil, nil} {
		if !errors.Is(errs[i], want) {
			t.Errorf("%d: %v, want %v", i, errs[i], want)
		}
	}
	if !strings.Contains(fmt.Sprint(panicked), "mine too") {
		t.Errorf("recovered %v, want the panic where it belongs", panicked)
	}
	if got := g.has(t, "first", "a", "b", "c", "d", "e"); got != "first a e" {
		t.Errorf("kept: %s, want first a e", got)
	}
}

// TestErrorsAreTrue: nobody hears of a conflict with what is not committed yet.
func TestErrorsAreTrue(t *testing.T) {
	g := newGrouping(t)
	again := func() error {
		err := g.tx(context.Background(), put("a", 1))
		if n := g.commits.Load(); !errors.Is(err, ErrConflict) || n == 0 {
			t.Errorf("%v after %d commits, want ErrConflict after one", err, n)
		}
		return nil
	}
	work := []func() error{func() error { return g.tx(context.Background(), put("a", 1)) }}
	for range 20 {
		work = append(work, again)
	}
	for _, err := range g.together(t, work...) {
		if err != nil {
			t.Error(err)
		}
	}
}

// TestGroupIsLost: a full disk ends the transaction of all; those that there is room for
// are kept all the same.
func TestGroupIsLost(t *testing.T) {
	g := newGrouping(t)
	g.onWriter(t, func(c *sqlite3.Conn) {
		s, _, err := c.Prepare(`pragma page_count`)
		if err != nil || !s.Step() {
			t.Fatal(err)
		}
		n := s.ColumnInt(0)
		if err := errors.Join(s.Close(), c.Exec(fmt.Sprintf(`pragma max_page_count = %d`, n+8))); err != nil {
			t.Fatal(err)
		}
	})
	errs := g.together(t,
		func() error { return g.tx(context.Background(), put("a", 1)) },
		func() error { return g.tx(context.Background(), put("big", 1<<20)) },
		func() error { return g.tx(context.Background(), put("b", 1)) },
	)
	for i, want := range []error{nil, ErrNoSpace, nil} {
		if !errors.Is(errs[i], want) {
			t.Errorf("%d: %v, want %v", i, errs[i], want)
		}
	}
	if got := g.has(t, "first", "a", "big", "b"); got != "first a b" {
		t.Errorf("kept: %s, want first a b", got)
	}
}

// TestDerived: what must be durable never goes into a commit that does not wait for the disk.
func TestDerived(t *testing.T) {
	g := newGrouping(t)
	sync := func(t *tx) (mode int64) {
		if err := t.row(context.Background(), `pragma synchronous`).Scan(&mode); err != nil {
			return -1
		}
		return mode
	}
	var derived, durable, with int64
	if err := g.txDerived(t.Context(), func(t *tx) error { derived = sync(t); return put("x", 1)(t) }); err != nil {
		t.Fatal(err)
	}
	errs := g.together(t,
		func() error {
			return g.txDerived(context.Background(), func(t *tx) error { with = sync(t); return put("y", 1)(t) })
		},
		func() error {
			return g.tx(context.Background(), func(t *tx) error { durable = sync(t); return put("z", 1)(t) })
		})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if derived != 1 || with != 2 || durable != 2 {
		t.Errorf("synchronous is %d for what is derived, %d where it goes with others, %d for others; want 1 (normal), 2 (full), 2", derived, with, durable)
	}
	if got := g.has(t, "x", "y", "z"); got != "x y z" {
		t.Errorf("kept: %s", got)
	}
	first := &member{derived: true}
	g.group.waiting = []*member{{}}
	if g.group.next([]*member{first}) != nil {
		t.Error("a transaction that must be durable may go with one that is derived")
	}
	g.group.waiting = nil
}

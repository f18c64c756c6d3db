package catalog

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/ncruces/go-sqlite3"
)

// Bounds of what is committed together: how many transactions, and for how long those that
// come in go with the ones before them.
const (
	groupSize = 256
	groupTime = 10 * time.Millisecond
)

// group commits transactions of many callers together: SQLite takes one writer at a time,
// and each commit waits for the disk. One caller leads: it runs its own transaction and, each
// in a savepoint, those that come in meanwhile, and commits once for all of them. Nobody
// is answered before that commit.
type group struct {
	p      *pool
	engine engine
	memory *memory
	leader chan struct{} // holds a token while somebody leads
	time   time.Duration // groupTime

	mu      sync.Mutex
	waiting []*member
}

func newGroup(p *pool, e engine) *group {
	return &group{p: p, engine: e, leader: make(chan struct{}, 1), time: groupTime}
}

// member is one caller's transaction. done is closed when it is over; err and panicked are
// set before.
type member struct {
	ctx      context.Context //nolint:containedctx // its caller waits for it
	do       func(*tx) error
	derived  bool  // what it writes can be had again
	alone    bool  // it goes with no others
	left     error // its own, of work that left no trace in a transaction that is not over yet
	done     chan struct{}
	err      error
	panicked any
}

// run runs do in a transaction. It does not return before that is over, whatever becomes of
// ctx: another caller may be running it.
func (g *group) run(ctx context.Context, derived bool, do func(*tx) error) error {
	m := &member{ctx: ctx, do: do, derived: derived, done: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, m)
	g.mu.Unlock()
	select {
	case <-m.done:
	case g.leader <- struct{}{}:
		for !m.over() {
			g.batch()
		}
		<-g.leader
	}
	if m.panicked != nil {
		panic(m.panicked)
	}
	return m.err
}

func (m *member) over() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

func (m *member) end(err error) {
	m.err = err
	close(m.done)
}

// next takes the first that waits, if it may go with the transactions that are there: in a
// commit that does not wait for the disk, only what is derived may.
func (g *group) next(with []*member) *member {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		return nil
	}
	m := g.waiting[0]
	if len(with) > 0 && (m.alone || with[0].alone || with[0].derived && !m.derived) {
		return nil
	}
	g.waiting[0] = nil
	g.waiting = g.waiting[1:]
	return m
}

// again puts transactions whose common one has failed to the front, each to be run alone, so
// that an error finds the one that it belongs to.
func (g *group) again(members []*member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range members {
		m.alone, m.left = true, nil
	}
	g.waiting = append(members, g.waiting...)
}

// batch runs the first transaction that waits, with others that come in, and commits them.
func (g *group) batch() {
	m := g.next(nil)
	if m == nil {
		return
	}
	if err := m.ctx.Err(); err != nil {
		m.end(err)
		return
	}
	t, end, err := g.begin(m.derived)
	if err != nil {
		m.end(err)
		return
	}
	defer end() // after the commit a no-op
	if err := m.run(t); err != nil {
		end()
		m.end(err)
		return
	}
	in := []*member{m}
	for begun := time.Now(); len(in) < groupSize && time.Since(begun) < g.time; {
		m := g.next(in)
		if m == nil {
			break
		}
		if err := m.ctx.Err(); err != nil {
			m.end(err)
			continue
		}
		in = append(in, m)
		if broken := m.join(t); broken {
			end()
			g.again(in)
			return
		}
	}
	g.commit(t, end, in)
}

// commit commits and answers all, also those that have failed: what they met may be of those before
// them, and be there for others from now on only.
func (g *group) commit(t *tx, end func(), in []*member) {
	err := t.Commit()
	end()
	if err != nil && len(in) > 1 {
		g.again(in)
		return
	}
	if err != nil {
		err = fmt.Errorf("commit: %w", err)
	}
	for _, m := range in {
		m.end(cmp.Or(err, m.left))
	}
	t.learn(context.Background())
}

// run runs a member's work. A panic is its caller's.
func (m *member) run(t *tx) (err error) {
	defer func() {
		if v := recover(); v != nil {
			m.panicked = fmt.Sprintf("%v\n\n%s", v, debug.Stack())
			err = errPanicked
		}
	}()
	return m.do(t)
}

var errPanicked = errors.New("the transaction panicked")

// join runs a member after others in a savepoint. broken says that the whole transaction is lost.
func (m *member) join(t *tx) (broken bool) {
	ctx := context.Background()
	if _, err := t.exec(ctx, `savepoint member`); err != nil {
		return true
	}
	if m.left = m.run(t); m.left != nil {
		if m.panicked != nil {
			m.panicked, m.left = nil, nil // it will again, alone
			return true
		}
		if _, err := t.exec(ctx, `rollback to member`); err != nil {
			return true
		}
	}
	_, err := t.exec(ctx, `release member`)
	return err != nil
}

// begin begins a transaction on the writer's connection. A commit of what is derived alone
// does not wait for the disk: it is durable with the next one that does, as what is in the
// log before it. end rolls back what is not committed and gives the connection back.
func (g *group) begin(derived bool) (t *tx, end func(), err error) {
	ctx := context.Background()
	conn, err := g.p.db.Conn(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("begin: %w", err)
	}
	leave := func() { _ = conn.Close() } // it goes back to its pool
	if derived {
		if _, err := conn.ExecContext(ctx, `pragma synchronous = normal`); err != nil {
			leave()
			return nil, nil, fmt.Errorf("begin: %w", err)
		}
		back := leave
		leave = func() {
			if _, err := conn.ExecContext(ctx, `pragma synchronous = full`); err != nil {
				_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // nobody shall use it
			}
			back()
		}
	}
	raw, err := conn.BeginTx(ctx, nil)
	if err != nil {
		leave()
		return nil, nil, fmt.Errorf("begin: %w", err)
	}
	var once sync.Once
	t = &tx{Tx: raw, engine: g.engine, p: g.p, memory: g.memory, grouped: true}
	return t, func() {
		once.Do(func() {
			_ = raw.Rollback() // a full disk has done so already
			_ = conn.Raw(inNoTransaction)
			leave()
		})
	}, nil
}

// inNoTransaction keeps a connection from being used again that is still in one.
func inNoTransaction(c any) error {
	if raw, ok := c.(interface{ Raw() *sqlite3.Conn }); ok && raw.Raw().GetAutocommit() {
		return nil
	}
	return driver.ErrBadConn
}

package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
)

// engine is what differs between the databases beside the words of the schema.
type engine struct {
	name string
	// skipLocked makes a select take rows that no other transaction has locked.
	skipLocked string
	// forUpdate makes a select hold its rows until the transaction ends.
	forUpdate string
	// lock and lockShared hold one transaction against others until it ends; "" where
	// there is only ever one that writes.
	lock, lockShared string
}

// The number under which changes of the advisories exclude the matching of new
// package keys: without it each could miss what the other has not committed yet.
var (
	sqliteEngine   = engine{name: "sqlite"}
	postgresEngine = engine{name: "postgres", skipLocked: " for update skip locked", forUpdate: " for update",
		lock: "select pg_advisory_xact_lock(7264001)", lockShared: "select pg_advisory_xact_lock_shared(7264001)"}
)

// openPools opens what dsn names; vfs is SQLite's way to its files, "" the system's.
func openPools(dsn, vfs string) (e engine, write, read *pool, err error) {
	scheme, rest, _ := strings.Cut(dsn, ":")
	switch scheme {
	case "sqlite":
		write, read, err = openSQLite(rest, vfs)
		return sqliteEngine, write, read, err
	case "postgres", "postgresql":
		p, err := openPostgres(dsn)
		return postgresEngine, p, p, err
	}
	return engine{}, nil, nil, fmt.Errorf("address begins with %.20q: expected sqlite: or postgres:", scheme)
}

// pool is a number of connections. Where the driver does not keep prepared statements
// itself, the pool does: the texts are constants, so there are not many.
type pool struct {
	db      *sql.DB
	prepare bool
	stmts   sync.Map // text → *sql.Stmt
	// words is the driver's form of a text; nil: as it stands.
	words func(string) string
	drop  func() // after the last connection is closed
	// checkpoints are of SQLite's connection that writes.
	checkpoints *checkpoints
}

func (p *pool) close() error {
	err := p.db.Close()
	if p.drop != nil {
		p.drop()
	}
	return err
}

// stmt returns the prepared form of text, nil if there is none.
func (p *pool) stmt(text string) *sql.Stmt {
	if s, ok := p.stmts.Load(text); ok {
		return s.(*sql.Stmt)
	}
	return nil
}

// text is the driver's form of a text.
func (p *pool) text(text string) string {
	if p.words == nil {
		return text
	}
	return p.words(text)
}

// learn prepares text for the next time. A statement that cannot be prepared is not
// kept; running it as it stands will say why.
func (p *pool) learn(ctx context.Context, text string) *sql.Stmt {
	if !p.prepare {
		return nil
	}
	s, err := p.db.PrepareContext(ctx, p.text(text))
	if err != nil {
		return nil
	}
	if old, loaded := p.stmts.LoadOrStore(text, s); loaded {
		s.Close()
		return old.(*sql.Stmt)
	}
	return s
}

// query runs a constant text outside of any transaction.
func (p *pool) query(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	s := p.stmt(text)
	if s == nil {
		s = p.learn(ctx, text)
	}
	if s == nil {
		return p.db.QueryContext(ctx, p.text(text), args...)
	}
	return s.QueryContext(ctx, args...)
}

// row is query for one row.
func (p *pool) row(ctx context.Context, text string, args ...any) *sql.Row {
	s := p.stmt(text)
	if s == nil {
		s = p.learn(ctx, text)
	}
	if s == nil {
		return p.db.QueryRowContext(ctx, p.text(text), args...)
	}
	return s.QueryRowContext(ctx, args...)
}

// tx is a transaction on a pool.
type tx struct {
	*sql.Tx
	engine engine
	p      *pool
	memory *memory
	fresh  []string // texts that had no prepared form yet
	// grouped: it is not one caller's alone, and must not end with the context of one.
	grouped bool
}

func (t *tx) context(ctx context.Context) context.Context {
	if t.grouped {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

// learn prepares what had no prepared form yet. The transaction is over.
func (t *tx) learn(ctx context.Context) {
	for _, text := range t.fresh {
		if t.p.stmt(text) == nil {
			t.p.learn(ctx, text)
		}
	}
}

// stmt returns the prepared form of text on this transaction's connection.
func (t *tx) stmt(ctx context.Context, text string) *sql.Stmt {
	if !t.p.prepare {
		return nil
	}
	if s := t.p.stmt(text); s != nil {
		return t.StmtContext(ctx, s)
	}
	// Preparing now would wait for this transaction's own connection.
	s, err := t.PrepareContext(ctx, t.p.text(text))
	if err != nil {
		return nil
	}
	t.fresh = append(t.fresh, text)
	return s
}

// exec runs a constant text and returns how many rows it changed.
func (t *tx) exec(ctx context.Context, text string, args ...any) (int64, error) {
	ctx = t.context(ctx)
	var res sql.Result
	var err error
	if s := t.stmt(ctx, text); s != nil {
		res, err = s.ExecContext(ctx, args...)
	} else {
		res, err = t.ExecContext(ctx, t.p.text(text), args...)
	}
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// query runs a constant text. Its rows must be closed before the next statement.
func (t *tx) query(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	ctx = t.context(ctx)
	if s := t.stmt(ctx, text); s != nil {
		return s.QueryContext(ctx, args...)
	}
	return t.QueryContext(ctx, t.p.text(text), args...)
}

// row is query for one row.
func (t *tx) row(ctx context.Context, text string, args ...any) *sql.Row {
	ctx = t.context(ctx)
	if s := t.stmt(ctx, text); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return t.QueryRowContext(ctx, t.p.text(text), args...)
}

// insist runs do, and again if another transaction stood in its way, without losing what
// this one has done before.
func (t *tx) insist(ctx context.Context, do func() error) error {
	if t.engine.lock == "" {
		return do()
	}
	for try := 1; ; try++ {
		if _, err := t.ExecContext(ctx, `savepoint insist`); err != nil {
			return err
		}
		err := do()
		if err == nil {
			_, err = t.ExecContext(ctx, `release savepoint insist`)
			return err
		}
		if !again(err) || try == maxTries {
			return err
		}
		if _, rerr := t.ExecContext(ctx, `rollback to savepoint insist`); rerr != nil {
			return errors.Join(err, rerr)
		}
	}
}

// maxTries bounds how often a transaction is tried that others got in the way of.
const maxTries = 8

// tx runs do in a transaction that writes. do may run several times and must start
// from scratch each time. The error is as asKnown gives it.
func (c *Catalog) tx(ctx context.Context, do func(*tx) error) error {
	return c.insist(ctx, false, do)
}

// txDerived is tx for what can be had again from what is kept: its commit does not wait
// for the disk. After a power cut it may be gone, but not if a later tx is there.
func (c *Catalog) txDerived(ctx context.Context, do func(*tx) error) error {
	return c.insist(ctx, true, do)
}

func (c *Catalog) insist(ctx context.Context, derived bool, do func(*tx) error) error {
	once := func() error { return c.group.run(ctx, derived, do) }
	if c.engine.lock != "" {
		once = func() error {
			return c.txOnce(ctx, func(t *tx) error {
				if derived {
					if _, err := t.exec(ctx, `set local synchronous_commit = off`); err != nil {
						return err
					}
				}
				return do(t)
			})
		}
	}
	for try := 1; ; try++ {
		err := once()
		if err == nil || !again(err) || try == maxTries {
			return asKnown(err)
		}
		c.log.DebugContext(ctx, "transaction is tried again", "try", try, "err", err)
	}
}

// txOnce runs do in a transaction of its own: for what cannot be run twice, or takes long.
func (c *Catalog) txOnce(ctx context.Context, do func(*tx) error) error {
	raw, err := c.write.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	t := &tx{Tx: raw, engine: c.engine, p: c.write, memory: c.memory}
	defer raw.Rollback() // after Commit a no-op; ends the transaction also when do panics
	if err := do(t); err != nil {
		return err
	}
	if err := raw.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	t.learn(ctx)
	return nil
}

// asKnown wraps err in the sentinel that callers ask for, if there is one for it.
func asKnown(err error) error {
	if err == nil {
		return nil
	}
	for _, s := range []error{ErrNotFound, ErrConflict, ErrNoSpace, ErrReadOnly, ErrNewerSchema} {
		if errors.Is(err, s) {
			return err
		}
	}
	known := sqliteError(err)
	if known == nil {
		known = postgresError(err)
	}
	switch {
	case known != nil:
	case errors.Is(err, sql.ErrNoRows):
		known = ErrNotFound
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		known = ErrNoSpace
	case errors.Is(err, syscall.EROFS):
		known = ErrReadOnly
	default:
		return err
	}
	return fmt.Errorf("%w: %w", known, err)
}

// collect scans all rows of a query with scan and closes them.
func collect[T any](rows *sql.Rows, err error, scan func(*sql.Rows) (T, error)) ([]T, error) {
	if err != nil {
		return nil, asKnown(err)
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, asKnown(rows.Err())
}

// scanText scans one column of text.
func scanText(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s) }

// scanID scans one column of numbers.
func scanID(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }

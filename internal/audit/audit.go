// Package audit keeps the log of what was done and refused, and by whom: it takes in what the
// doors tell of, without holding anybody up, chains the records of the catalog to one another,
// forgets the oldest, hands them on to syslog, and proves that none was changed or taken away.
//
// Records of what changes the catalog are written by the catalog, with the change itself.
package audit

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
)

// Options are the needs of a Log. The zero value of each has a usable meaning.
type Options struct {
	Keep       time.Duration // records older than this are forgotten; default DefaultKeep, below 0: never
	MaxRecords int64         // so many are kept at most; default DefaultMaxRecords
	Pulls      bool          // pulls are recorded
	Syslog     *Syslog       // nil: records are not handed on
	Now        func() time.Time
	Log        *slog.Logger
}

// Defaults of Options.
const (
	DefaultKeep       = 400 * 24 * time.Hour
	DefaultMaxRecords = 10_000_000
)

// Bounds.
const (
	writeEvery = time.Second
	alikeFor   = time.Minute // acts that are alike are put together for so long
	maxOpen    = 10_000      // acts that are not alike and wait to be written, or for others alike
	// Refusals that are not alike, of a minute: of strangers, who can make up as many as they like, and
	// of those who proved who they are. With them alone nobody fills the log, or the room of what was done.
	maxStrangers, maxRefused = 300, 2000
	// maxNames is how many names that strangers give are told apart of one address, of a minute.
	maxNames   = 20
	chainBatch = 500 // records in one transaction
	pruneEvery = time.Hour
	pruneBatch = 1000
	pruneRest  = 20 * time.Millisecond // from one batch to the next
	lastWrite  = 10 * time.Second
)

// Log is the audit log. Its methods may be called at once.
type Log struct {
	cat *catalog.Catalog
	o   Options

	mu   sync.Mutex
	open map[string]*alike
	held [3]int         // of open, by class
	from map[string]int // acts of strangers in open, by address
	lost int            // acts that there was no room for
	// unwritten could not be written when it was last tried.
	unwritten []catalog.Record
}

// alike are acts that differ in nothing but their time and request.
type alike struct {
	catalog.Record
	n     int // of them, beyond what is written
	since time.Time
	wrote bool
}

// class is what bounds a record.
type class int

const (
	done     class = iota // what was allowed
	refused               // of those who proved who they are
	stranger              // of all others
)

var room = [3]int{done: maxOpen, refused: maxRefused, stranger: maxStrangers}

func classOf(r catalog.Record) class {
	switch {
	case r.Decision == catalog.AuditAllowed:
		return done
	case r.ActorID == "" || r.ActorID == access.Anonymous.ID:
		return stranger
	}
	return refused
}

// New makes a Log over what cat keeps.
func New(cat *catalog.Catalog, o Options) *Log {
	if o.Keep == 0 {
		o.Keep = DefaultKeep
	}
	if o.MaxRecords <= 0 {
		o.MaxRecords = DefaultMaxRecords
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Log{cat: cat, o: o, open: map[string]*alike{}, from: map[string]int{}}
}

// Note takes in an act that changes nothing that the catalog keeps. It never waits: the record
// is written within a second, and those alike that follow within a minute as one with their
// number. Beyond bounds acts are not taken in; how many is a record of its own.
func (l *Log) Note(r catalog.Record) {
	if r.At.IsZero() {
		r.At = l.o.Now()
	}
	c := classOf(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	a, ok := l.open[alikeness(r)]
	if !ok && c == stranger && l.from[r.Address] >= maxNames {
		r.Actor, r.Target, r.Why = "", "", "further names or requests of this address"
		a, ok = l.open[alikeness(r)]
	}
	if ok {
		a.n++
		a.At, a.Request = r.At, r.Request
		return
	}
	if l.held[c] >= room[c] {
		l.lost++
		return
	}
	l.held[c]++
	if c == stranger {
		l.from[r.Address]++
	}
	l.open[alikeness(r)] = &alike{Record: r, n: 1, since: r.At}
}

// alikeness is what is the same of records that are put together.
func alikeness(r catalog.Record) string {
	return strings.Join([]string{r.Actor, r.ActorID, r.Action, r.Target, r.Decision, r.Why, r.Address}, "\x00")
}

// drop forgets what no other will be put together with. The caller has mu.
func (l *Log) drop(key string, a *alike) {
	delete(l.open, key)
	c := classOf(a.Record)
	l.held[c]--
	if c != stranger {
		return
	}
	if l.from[a.Address]--; l.from[a.Address] <= 0 {
		delete(l.from, a.Address)
	}
}

// NotePull takes in a pull, if pulls are recorded.
func (l *Log) NotePull(r catalog.Record) {
	if l.o.Pulls {
		l.Note(r)
	}
}

// take returns what is to be written now; with all, also what waits for others alike.
func (l *Log) take(all bool) []catalog.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, out := l.o.Now(), l.unwritten
	l.unwritten = nil
	for key, a := range l.open {
		over := all || now.Sub(a.since) >= alikeFor
		if a.wrote && !over {
			continue
		}
		if a.n > 0 {
			r := a.Record
			if a.n > 1 {
				r.Count = a.n
			}
			out = append(out, r)
		}
		if over {
			l.drop(key, a)
			continue
		}
		a.n, a.wrote, a.since = 0, true, now
	}
	if l.lost > 0 {
		out = append(out, catalog.Record{At: now, Action: "audit-overflow", Decision: catalog.AuditFailed, Count: l.lost,
			Why: "more happened at once than could be taken in"})
		l.lost = 0
	}
	return out
}

// Write writes what was taken in, and chains what is not chained yet.
func (l *Log) Write(ctx context.Context) error { return l.write(ctx, false) }

func (l *Log) write(ctx context.Context, all bool) error {
	for records := l.take(all); len(records) > 0; {
		n := min(len(records), chainBatch)
		if err := l.cat.WriteAudit(ctx, records[:n]); err != nil {
			l.keep(records)
			return err
		}
		records = records[n:]
	}
	for {
		if n, err := l.cat.ChainAudit(ctx, chainBatch); err != nil || n < chainBatch {
			return err
		}
	}
}

// keep keeps what could not be written for the next time, as long as there is room.
func (l *Log) keep(records []catalog.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	room := min(len(records), maxOpen)
	l.lost += len(records) - room
	l.unwritten = records[:room]
}

// Prune forgets what is older than Options.Keep, and what is beyond Options.MaxRecords.
func (l *Log) Prune(ctx context.Context) (removed int, err error) {
	before := l.o.Now().Add(-l.o.Keep)
	if l.o.Keep < 0 {
		before = time.Time{}
	}
	for ctx.Err() == nil {
		n, err := l.cat.PruneAudit(ctx, before, l.o.MaxRecords, pruneBatch)
		removed += n
		if err != nil || n < pruneBatch {
			return removed, err
		}
		select { // others write too
		case <-ctx.Done():
		case <-time.After(pruneRest):
		}
	}
	return removed, ctx.Err()
}

// Close writes what was taken in since, once Run has ended and nobody tells of anything any more.
func (l *Log) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), lastWrite)
	defer cancel()
	if err := l.write(ctx, true); err != nil {
		l.o.Log.ErrorContext(ctx, "audit records not written", "err", err)
	}
	if l.o.Syslog != nil {
		l.o.Syslog.hand(ctx, l.cat, l.o.Log)
		l.o.Syslog.close()
	}
}

// Run writes, chains, hands on and prunes until ctx ends.
func (l *Log) Run(ctx context.Context) {
	tick, prune := time.NewTicker(writeEvery), time.NewTicker(pruneEvery)
	defer tick.Stop()
	defer prune.Stop()
	var beside sync.WaitGroup
	defer beside.Wait()
	if l.o.Syslog != nil {
		// A receiver that takes its time must not hold up what is to be written.
		beside.Go(func() { l.o.Syslog.run(ctx, l.cat, l.o.Log) })
	}
	l.prune(ctx) // who is started anew each hour would never
	for {
		if err := l.Write(ctx); err != nil && ctx.Err() == nil {
			l.o.Log.ErrorContext(ctx, "audit records not written", "err", err)
		}
		select {
		case <-tick.C:
		case <-prune.C:
			l.prune(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (l *Log) prune(ctx context.Context) {
	n, err := l.Prune(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		l.o.Log.ErrorContext(ctx, "old audit records not removed", "removed", n, "err", err)
	case n > 0:
		l.o.Log.InfoContext(ctx, "old audit records removed", "removed", n)
		l.Note(catalog.Record{Actor: "pratique", Action: "audit-prune", Decision: catalog.AuditAllowed, Why: fmt.Sprintf("%d were older, or more, than are kept", n)})
	}
}

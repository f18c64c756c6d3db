package catalog

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Trace says where an act came from, beside who did it.
type Trace struct {
	ByID    string // access.Principal.ID
	ByKind  string // access.Principal.Kind
	Address string // of the client
	Request string // the request's id
}

// Decisions of records.
const (
	AuditAllowed = "allowed"
	AuditDenied  = "denied"
	AuditFailed  = "failed" // it was allowed, and could not be done
)

// Record is one act in the audit log. Records are never changed, and each is chained to the
// one before: Hash is the SHA-256 of that one's hash and what this one says, so that a
// record that was changed or taken out shows.
type Record struct {
	Seq      int64           `json:"seq"` // from 1 on, without gaps; 0: not chained yet
	At       time.Time       `json:"at"`
	Actor    string          `json:"actor"` // the principal's name, or the name that was given; "" where there is none
	ActorID  string          `json:"actorId,omitempty"`
	Kind     string          `json:"kind,omitempty"` // of the principal: user, service, token, …
	Action   string          `json:"action"`         // "push", "login", "role-assign"
	Target   string          `json:"target,omitempty"`
	Decision string          `json:"decision"`
	Why      string          `json:"why,omitempty"`
	Address  string          `json:"address,omitempty"`
	Request  string          `json:"request,omitempty"`
	Count    int             `json:"count,omitempty"` // of acts that were alike, where they are more than one
	Detail   json.RawMessage `json:"detail,omitempty"`
	Hash     string          `json:"hash,omitempty"` // in hexadecimal
}

// Bounds of a record, in bytes.
const (
	maxAuditText   = 1024 // of each text
	maxAuditDetail = 8 << 10
)

// auditDoc is what of a record is kept as JSON.
type auditDoc struct {
	ActorID string          `json:"actorId,omitempty"`
	Kind    string          `json:"kind,omitempty"`
	Why     string          `json:"why,omitempty"`
	Address string          `json:"address,omitempty"`
	Request string          `json:"request,omitempty"`
	Count   int             `json:"count,omitempty"`
	Detail  json.RawMessage `json:"detail,omitempty"`
}

const auditInsert = `insert into audit (at, actor, action, target, decision, doc) values %s`

// audit writes a record of what the transaction does, which is allowed. The record is there
// if and only if what the transaction does is.
func (t *tx) audit(ctx context.Context, a Act, action, target string, detail any) error {
	if a.unaudited {
		return nil
	}
	r := Record{At: a.Now, Actor: a.By, ActorID: a.ByID, Kind: a.ByKind, Action: action, Target: target, Decision: AuditAllowed, Address: a.Address, Request: a.Request}
	if detail != nil {
		raw, err := json.Marshal(detail)
		if err != nil {
			return err
		}
		r.Detail = raw
	}
	return t.writeAudit(ctx, []Record{r})
}

func (t *tx) writeAudit(ctx context.Context, records []Record) error {
	rows := make([][]any, len(records))
	for i, r := range records {
		if len(r.Detail) > maxAuditDetail {
			r.Detail = json.RawMessage(`"it was too long to be kept"`)
		}
		doc, err := json.Marshal(auditDoc{r.ActorID, r.Kind, short(r.Why), short(r.Address), short(r.Request), r.Count, r.Detail})
		if err != nil {
			return err
		}
		rows[i] = []any{r.At.UnixMicro(), short(r.Actor), short(r.Action), short(r.Target), r.Decision, string(doc)}
	}
	return t.insert(ctx, auditInsert, rows)
}

// short bounds a text, and leaves out what a database cannot hold.
func short(s string) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
	if len(s) <= maxAuditText {
		return s
	}
	return strings.ToValidUTF8(s[:maxAuditText], "")
}

// WriteAudit writes records of what changed nothing else that is kept here.
func (c *Catalog) WriteAudit(ctx context.Context, records []Record) error {
	if err := c.tx(ctx, func(t *tx) error { return t.writeAudit(ctx, records) }); err != nil {
		return fmt.Errorf("write audit records: %w", err)
	}
	return nil
}

// AuditMark is a place in the chain.
type AuditMark struct {
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"` // of the record with this Seq, in hexadecimal
}

// auditAnchor is the setting with the AuditMark of the last record that was pruned.
const auditAnchor = "audit.anchor"

// AuditAnchor is what the chain begins behind: the zero AuditMark, or the last record that was pruned.
func (c *Catalog) AuditAnchor(ctx context.Context) (m AuditMark, err error) {
	raw, err := c.Setting(ctx, auditAnchor)
	if errors.Is(err, ErrNotFound) {
		return AuditMark{}, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	return m, err
}

// Next is the mark of a record behind m.
func (m AuditMark) Next(r Record) (AuditMark, error) {
	before, err := hex.DecodeString(m.Hash)
	if err != nil {
		return AuditMark{}, fmt.Errorf("hash of record %d: %w", m.Seq, err)
	}
	doc, err := json.Marshal(auditDoc{r.ActorID, r.Kind, r.Why, r.Address, r.Request, r.Count, r.Detail})
	if err != nil {
		return AuditMark{}, err
	}
	return m.next(before, r, string(doc))
}

func (m AuditMark) next(before []byte, r Record, doc string) (AuditMark, error) {
	text, err := json.Marshal([]any{m.Seq + 1, r.At.UnixMicro(), r.Actor, r.Action, r.Target, r.Decision, doc})
	if err != nil {
		return AuditMark{}, err
	}
	sum := sha256.Sum256(append(before[:len(before):len(before)], text...))
	return AuditMark{m.Seq + 1, hex.EncodeToString(sum[:])}, nil
}

const auditColumns = `select at, actor, action, target, decision, doc, coalesce(seq, 0), hash, id from audit `

// auditRow is a record as it is kept.
type auditRow struct {
	Record
	doc string
	id  int64
}

func scanAudit(r *sql.Rows) (auditRow, error) {
	var a auditRow
	var at int64
	var hash []byte
	if err := r.Scan(&at, &a.Actor, &a.Action, &a.Target, &a.Decision, &a.doc, &a.Seq, &hash, &a.id); err != nil {
		return a, err
	}
	var d auditDoc
	if err := json.Unmarshal([]byte(a.doc), &d); err != nil {
		// Whoever damages one must not keep all others from being read; that it is damaged shows
		// by its hash.
		text, err := json.Marshal(a.doc)
		if err != nil {
			return a, err
		}
		d = auditDoc{Why: "the record is damaged", Detail: text}
	}
	a.At, a.Hash = fromMicros(&at), hex.EncodeToString(hash)
	a.ActorID, a.Kind, a.Why, a.Address, a.Request, a.Count, a.Detail = d.ActorID, d.Kind, d.Why, d.Address, d.Request, d.Count, d.Detail
	return a, nil
}

// ChainAudit chains up to limit records that are not yet, in their order, and says how many it has. Of
// several processes that do so at once each waits for the other.
func (c *Catalog) ChainAudit(ctx context.Context, limit int) (n int, err error) {
	var one int64
	err = c.read.row(ctx, `select id from audit where seq is null and id > 0 order by id limit 1`).Scan(&one)
	if errors.Is(asKnown(err), ErrNotFound) {
		return 0, nil
	}
	if err == nil {
		err = c.tx(ctx, func(t *tx) error { n, err = t.chainAudit(ctx, limit); return err })
	}
	if err != nil {
		return 0, fmt.Errorf("chain audit records: %w", asKnown(err))
	}
	return n, nil
}

func (t *tx) chainAudit(ctx context.Context, limit int) (int, error) {
	// Written first, so that the row is held against others who chain.
	var last int64
	if err := t.row(ctx, `update counters set value = value where name = 'audit' returning value`).Scan(&last); err != nil {
		return 0, err
	}
	m, err := t.auditMark(ctx, last)
	if err != nil {
		return 0, err
	}
	rows, err := t.query(ctx, auditColumns+`where seq is null and id > 0 order by id limit $1`, page(limit))
	open, err := collect(rows, err, scanAudit)
	if err != nil {
		return 0, err
	}
	for _, r := range open {
		before, err := hex.DecodeString(m.Hash)
		if err != nil {
			return 0, err
		}
		if m, err = m.next(before, r.Record, r.doc); err != nil {
			return 0, err
		}
		hash, err := hex.DecodeString(m.Hash)
		if err != nil {
			return 0, err
		}
		if _, err := t.exec(ctx, `update audit set seq = $2, hash = $3 where id = $1`, r.id, m.Seq, hash); err != nil {
			return 0, err
		}
	}
	_, err = t.exec(ctx, `update counters set value = $1 where name = 'audit'`, m.Seq)
	return len(open), err
}

// auditMark is the mark of a record, or of the anchor where that is it.
func (t *tx) auditMark(ctx context.Context, seq int64) (AuditMark, error) {
	var hash []byte
	err := t.row(ctx, `select hash from audit where seq = $1`, seq).Scan(&hash)
	if err == nil {
		return AuditMark{seq, hex.EncodeToString(hash)}, nil
	}
	if !errors.Is(asKnown(err), ErrNotFound) {
		return AuditMark{}, err
	}
	m, err := t.auditAnchor(ctx)
	// Where the last record was taken away, the next one says so by the gap before it.
	m.Seq = seq
	return m, err
}

// AuditQuery says which records are wanted.
type AuditQuery struct {
	Actor    string // "": any
	Action   string // "": any
	Target   string // with which theirs begins
	Decision string // "": any
	Since    time.Time
	Until    time.Time // zero: now
}

func (q AuditQuery) wants(r Record) bool {
	return (q.Actor == "" || q.Actor == r.Actor) && (q.Action == "" || q.Action == r.Action) && strings.HasPrefix(r.Target, q.Target) &&
		(q.Decision == "" || q.Decision == r.Decision) && !r.At.Before(q.Since) && (q.Until.IsZero() || r.At.Before(q.Until))
}

// maxAuditLooked bounds the records that are looked at for one page of those that are wanted.
const maxAuditLooked = 10_000

// Audit returns a page of records, the newest first, with a Seq below before, or from the newest on
// for 0; next is the before of the page that follows, 0 at the end. It looks at no more than maxAuditLooked: a
// page may hold fewer than the limit, even none, though others follow.
func (c *Catalog) Audit(ctx context.Context, q AuditQuery, before int64, limit int) (out []Record, next int64, err error) {
	if before <= 0 {
		before = 1 << 62
	}
	text, args := auditColumns+`where seq < $1 order by seq desc limit $2`, []any{before, maxAuditLooked}
	if q.Actor != "" {
		text, args = auditColumns+`where actor = $3 and seq < $1 order by seq desc limit $2`, append(args, q.Actor)
	}
	limit = page(limit)
	rows, err := c.read.query(ctx, text, args...)
	if err != nil {
		return nil, 0, fmt.Errorf("audit records: %w", asKnown(err))
	}
	defer rows.Close()
	looked := 0
	for rows.Next() {
		r, err := scanAudit(rows)
		if err != nil {
			return nil, 0, fmt.Errorf("audit records: %w", err)
		}
		if r.At.Before(q.Since.Add(-auditDrift)) {
			return out, 0, nil // all others are older
		}
		looked++
		if q.wants(r.Record) {
			out = append(out, r.Record)
		}
		if len(out) == limit || looked == maxAuditLooked {
			return out, r.Seq, nil
		}
	}
	return out, 0, asKnown(rows.Err())
}

// auditDrift is how far records may stand out of the order of their times: replicas have clocks of their
// own, and what is put together is written later.
const auditDrift = time.Hour

// AuditAfter returns up to limit records with a higher Seq than after, in their order.
func (c *Catalog) AuditAfter(ctx context.Context, after int64, limit int) ([]Record, error) {
	rows, err := c.read.query(ctx, auditColumns+`where seq > $1 order by seq limit $2`, after, page(limit))
	out, err := collect(rows, err, func(r *sql.Rows) (Record, error) {
		a, err := scanAudit(r)
		return a.Record, err
	})
	if err != nil {
		return nil, fmt.Errorf("audit records after %d: %w", after, err)
	}
	return out, nil
}

// AuditChain calls do with the records in the order of the chain, a page at a time, until it says no, all as they
// stand at one moment: what is chained or pruned meanwhile makes no difference. It returns what the chain begins
// behind, the seq of the last record that was chained, and how many wait to be.
func (c *Catalog) AuditChain(ctx context.Context, begin func(AuditMark), do func([]Record) bool) (last int64, open int, err error) {
	o := &sql.TxOptions{ReadOnly: true}
	if c.engine.name == postgresEngine.name {
		o.Isolation = sql.LevelRepeatableRead
	}
	raw, err := c.read.db.BeginTx(ctx, o)
	if err == nil {
		defer raw.Rollback() // nothing was written
		t := &tx{Tx: raw, engine: c.engine, p: c.read}
		last, open, err = t.auditChain(ctx, begin, do)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("follow the audit records: %w", asKnown(err))
	}
	return last, open, nil
}

func (t *tx) auditChain(ctx context.Context, begin func(AuditMark), do func([]Record) bool) (last int64, open int, err error) {
	if err = t.row(ctx, `select value from counters where name = 'audit'`).Scan(&last); err != nil {
		return 0, 0, err
	}
	if err = t.row(ctx, `select count(*) from audit where seq is null and id > 0`).Scan(&open); err != nil {
		return 0, 0, err
	}
	anchor, err := t.auditAnchor(ctx)
	if err != nil {
		return 0, 0, err
	}
	begin(anchor)
	for after := int64(-1 << 62); ; {
		rows, err := t.query(ctx, auditColumns+`where seq > $1 order by seq limit $2`, after, auditPage)
		page, err := collect(rows, err, func(r *sql.Rows) (Record, error) {
			a, err := scanAudit(r)
			return a.Record, err
		})
		if err != nil {
			return 0, 0, err
		}
		if !do(page) || len(page) < auditPage {
			return last, open, nil
		}
		after = page[len(page)-1].Seq
	}
}

// auditPage is how many records are read at a time.
const auditPage = 1000

// auditAnchor is AuditAnchor as this transaction sees it.
func (t *tx) auditAnchor(ctx context.Context) (m AuditMark, err error) {
	var raw []byte
	err = t.row(ctx, `select value from settings where name = $1`, auditAnchor).Scan(&raw)
	if errors.Is(err, sql.ErrNoRows) {
		return AuditMark{}, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	return m, err
}

// AuditState returns the seq of the last record that was chained, and how many wait to be.
func (c *Catalog) AuditState(ctx context.Context) (last int64, open int, err error) {
	if err = c.read.row(ctx, `select value from counters where name = 'audit'`).Scan(&last); err == nil {
		err = c.read.row(ctx, `select count(*) from audit where seq is null and id > 0`).Scan(&open)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("state of the audit log: %w", asKnown(err))
	}
	return last, open, nil
}

// PruneAudit forgets up to limit of the oldest records: those from before a time, and those beyond
// keep. The rest stays verifiable. It says how many are gone.
func (c *Catalog) PruneAudit(ctx context.Context, before time.Time, keep int64, limit int) (n int, err error) {
	err = c.tx(ctx, func(t *tx) error {
		var last int64
		if err := t.row(ctx, `select value from counters where name = 'audit'`).Scan(&last); err != nil {
			return err
		}
		rows, err := t.query(ctx, auditColumns+`where seq > $1 order by seq limit $2`, 0, page(limit))
		oldest, err := collect(rows, err, scanAudit)
		if err != nil {
			return err
		}
		n = 0
		for n < len(oldest) && (oldest[n].At.Before(before) || last-oldest[n].Seq >= keep) && oldest[n].Seq < last {
			n++
		}
		if n == 0 {
			return nil
		}
		end := AuditMark{oldest[n-1].Seq, oldest[n-1].Hash}
		raw, err := json.Marshal(end)
		if err != nil {
			return err
		}
		if err := t.putSetting(ctx, auditAnchor, raw); err != nil {
			return err
		}
		_, err = t.exec(ctx, `delete from audit where seq <= $1`, end.Seq)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("prune audit records: %w", err)
	}
	return n, nil
}

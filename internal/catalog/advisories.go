package catalog

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"pratique.dev/pratique/internal/vuln"
)

// Feed is one file of advisories, by which its records are told from those of others.
type Feed struct {
	// Source and Ecosystem name the file from one loading to the next. An empty
	// Ecosystem is for records that stand for no ecosystem as a whole: they make
	// findings, but do not make any ecosystem count as covered.
	Source, Ecosystem string
	File              string    // where it came from, for people
	AsOf              time.Time // what its content is as of
	// Covers says how far single ecosystems are covered, where that is otherwise than
	// whole and as of AsOf.
	Covers      map[string]vuln.Coverage
	Replace     bool   // records that are not in this loading are removed
	Fingerprint string // of the file, see FeedFingerprint
}

// Loaded says what PutAdvisories did.
type Loaded struct {
	Added     int `json:"added"`
	Changed   int `json:"changed"`
	Removed   int `json:"removed"`
	Unchanged int `json:"unchanged"`
	Images    int `json:"images"` // that became due
}

// Bounds of a loading.
const (
	maxAhead   = 32 << 20 // bytes of records that are read before the writer is taken
	batchSize  = 256      // records that are written at once
	batchBytes = 4 << 20
	maxNames   = 50_000 // names whose ids are remembered
)

// PutAdvisories saves the records of a file, brings the findings of the known package
// keys that changed records name up to date, and makes the images due that hold a key
// whose findings changed: all of it, or after an error, also one out of changed,
// nothing. A record that is as it was costs a comparison. Memory holds maxAhead bytes
// of records and eight bytes for each. Two calls take turns.
func (c *Catalog) PutAdvisories(ctx context.Context, f Feed, changed iter.Seq2[vuln.Advisory, error]) (Loaded, error) {
	var done Loaded
	next, stop := iter.Pull2(encoded(changed))
	defer stop()
	// Reading and parsing go ahead while nobody has to wait for it.
	ahead, more, err := take(nil, next, maxAhead)
	if err == nil {
		err = c.txOnce(ctx, func(t *tx) error {
			l := &loading{t: t, feed: f, now: c.now(), names: map[name]int64{}, touched: map[int64]bool{}, ecosystems: map[string]int{}}
			if err := l.begin(ctx); err != nil {
				return err
			}
			for {
				if err := l.write(ctx, ahead); err != nil {
					return err
				}
				if !more {
					break
				}
				if ahead, more, err = take(ahead[:0], next, batchBytes); err != nil {
					return err
				}
			}
			if err := l.end(ctx); err != nil {
				return err
			}
			done = l.Loaded
			return nil
		})
	}
	if err != nil {
		return Loaded{}, fmt.Errorf("put advisories of %s %s: %w", f.Source, f.Ecosystem, asKnown(err))
	}
	return done, nil
}

// record is an advisory as it is kept.
type record struct {
	id       string
	modified time.Time
	hash     []byte
	doc      []byte
	affected map[name][]byte
	size     int
}

// encoded brings advisories to the form that is kept.
func encoded(changed iter.Seq2[vuln.Advisory, error]) iter.Seq2[record, error] {
	return func(yield func(record, error) bool) {
		for a, err := range changed {
			var r record
			if err == nil {
				r, err = encode(a)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

func encode(a vuln.Advisory) (record, error) {
	if a.ID == "" {
		return record{}, errors.New("an advisory has no id")
	}
	of := map[name][]vuln.Affected{}
	for _, x := range a.Affected {
		n := name{x.Ecosystem, x.Name}
		of[n] = append(of[n], x)
	}
	a.Affected = nil
	r := record{id: a.ID, modified: a.Modified, affected: make(map[name][]byte, len(of))}
	var err error
	if r.doc, err = json.Marshal(a); err != nil {
		return record{}, fmt.Errorf("advisory %s: %w", a.ID, err)
	}
	h := sha256.New()
	h.Write(r.doc)
	r.size = len(r.doc)
	for _, n := range slices.SortedFunc(maps.Keys(of), compareNames) {
		doc, err := json.Marshal(of[n])
		if err != nil {
			return record{}, fmt.Errorf("advisory %s: %w", a.ID, err)
		}
		h.Write(doc) // ecosystem and name stand in it
		r.affected[n] = doc
		r.size += len(doc) + len(n.name) + 64
	}
	if r.size > maxValue {
		return record{}, fmt.Errorf("advisory %s has %d bytes, at most %d are kept", a.ID, r.size, maxValue)
	}
	r.hash = h.Sum(nil)[:16]
	return r, nil
}

// take appends records to those that are there until they hold limit bytes or there
// are no more.
func take(to []record, next func() (record, error, bool), limit int) (_ []record, more bool, err error) {
	for size := 0; size < limit; {
		r, err, ok := next()
		if err != nil || !ok {
			return to, false, err
		}
		to = append(to, r)
		size += r.size
	}
	return to, true, nil
}

// loading is one call of PutAdvisories.
type loading struct {
	Loaded
	t          *tx
	feed       Feed
	now        time.Time
	id         int64 // of the feed
	names      map[name]int64
	touched    map[int64]bool // names that have known keys, and whose advisories changed
	ecosystems map[string]int // how many more records name them
	seen       []int64        // ids of the records of this loading, if others are removed
	newest     time.Time
	empty      bool // the feed had no records before
}

// hold waits for its turn by text, "" if there is only ever one that writes.
func (t *tx) hold(ctx context.Context, text string) error {
	if text == "" {
		return nil
	}
	_, err := t.ExecContext(ctx, text)
	return err
}

func (l *loading) begin(ctx context.Context) error {
	if err := l.t.hold(ctx, l.t.engine.lock); err != nil {
		return err
	}
	var records int64
	err := l.t.row(ctx, `insert into feeds (source, ecosystem, file, fingerprint, as_of, loaded_at, records) values ($1, $2, $3, $4, $5, $6, 0)
		on conflict (source, ecosystem) do update set file = excluded.file, fingerprint = excluded.fingerprint, as_of = excluded.as_of, loaded_at = excluded.loaded_at
		returning id, records`, l.feed.Source, l.feed.Ecosystem, l.feed.File, l.feed.Fingerprint, l.feed.AsOf.UnixMicro(), l.now.UnixMicro()).Scan(&l.id, &records)
	l.empty = records == 0
	return err
}

// write saves records, a batch at a time.
func (l *loading) write(ctx context.Context, all []record) error {
	for len(all) > 0 {
		n, size := 0, 0
		batch := map[string]record{}
		for n < len(all) && n < batchSize && size < batchBytes {
			if _, twice := batch[all[n].id]; twice {
				break // the later one counts; it comes with the next batch
			}
			batch[all[n].id] = all[n]
			size += all[n].size
			n++
		}
		if err := l.writeBatch(ctx, batch); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

func (l *loading) writeBatch(ctx context.Context, batch map[string]record) error {
	ids := slices.Sorted(maps.Keys(batch))
	var write, changed []string
	var replaced []int64
	have := map[string]int64{}
	err := l.t.eachOf(ctx, `select id, record, hash from advisories where feed_id = $1 and record in (%s)`, l.id, ids, func(rows *sql.Rows) error {
		var id int64
		var rec string
		var hash []byte
		err := rows.Scan(&id, &rec, &hash)
		have[rec] = id
		if string(hash) != string(batch[rec].hash) {
			changed = append(changed, rec)
			replaced = append(replaced, id)
		}
		return err
	})
	if err != nil {
		return err
	}
	l.Unchanged += len(have) - len(changed)
	l.Changed += len(changed)
	if err := l.forget(ctx, replaced); err != nil {
		return err
	}
	for _, rec := range changed {
		r := batch[rec]
		if _, err := l.t.exec(ctx, `update advisories set hash = $2, doc = $3 where id = $1`, have[rec], r.hash, string(r.doc)); err != nil {
			return err
		}
	}
	var rows [][]any
	for _, id := range ids {
		if r := batch[id]; have[id] == 0 {
			rows = append(rows, []any{l.id, r.id, r.hash, string(r.doc)})
			write = append(write, id)
		}
		// Some records are dated in the future.
		if m := batch[id].modified; m.After(l.newest) && !m.After(l.now) {
			l.newest = m
		}
	}
	l.Added += len(rows)
	err = l.t.eachRows(ctx, `insert into advisories (feed_id, record, hash, doc) values %s returning id, record`, rows, rowMarks, func(rows *sql.Rows) error {
		var id int64
		var rec string
		err := rows.Scan(&id, &rec)
		have[rec] = id
		return err
	})
	if err != nil {
		return err
	}
	if l.feed.Replace {
		l.seen = slices.AppendSeq(l.seen, maps.Values(have))
	}
	return l.writeAffected(ctx, batch, append(write, changed...), have)
}

// writeAffected saves what the records of a batch say of each name.
func (l *loading) writeAffected(ctx context.Context, batch map[string]record, write []string, ids map[string]int64) error {
	if len(l.names) > maxNames {
		clear(l.names)
	}
	var want []name
	for _, rec := range write {
		want = slices.AppendSeq(want, maps.Keys(batch[rec].affected))
	}
	if err := l.t.names(ctx, want, l.names); err != nil {
		return err
	}
	var rows [][]any
	touched := map[int64]bool{}
	for _, rec := range write {
		ecosystems := map[string]bool{}
		for _, n := range slices.SortedFunc(maps.Keys(batch[rec].affected), compareNames) {
			rows = append(rows, []any{l.names[n], ids[rec], string(batch[rec].affected[n])})
			touched[l.names[n]] = true
			ecosystems[n.ecosystem] = true
		}
		for e := range ecosystems {
			l.ecosystems[e]++
		}
	}
	if err := l.t.insert(ctx, `insert into affected (name_id, advisory_id, doc) values %s`, rows); err != nil {
		return err
	}
	return l.touch(ctx, touched)
}

// forget removes what records said of names.
func (l *loading) forget(ctx context.Context, records []int64) error {
	type pair struct {
		record    int64
		ecosystem string
	}
	touched, counted := map[int64]bool{}, map[pair]bool{}
	err := l.t.eachOfIDs(ctx, `select x.advisory_id, x.name_id, n.ecosystem from affected x join names n on n.id = x.name_id where x.advisory_id in (%s)`,
		records, func(rows *sql.Rows) error {
			var p pair
			var id int64
			err := rows.Scan(&p.record, &id, &p.ecosystem)
			touched[id], counted[p] = true, true
			return err
		})
	if err != nil {
		return err
	}
	for p := range counted {
		l.ecosystems[p.ecosystem]--
	}
	if err := l.t.eachOfIDs(ctx, `delete from affected where advisory_id in (%s)`, records, nil); err != nil {
		return err
	}
	return l.touch(ctx, touched)
}

// touch notes those names under which known keys are looked up.
func (l *loading) touch(ctx context.Context, ids map[int64]bool) error {
	return l.t.eachOfIDs(ctx, `select distinct name_id from lookups where name_id in (%s)`, slices.Sorted(maps.Keys(ids)), noteID(l.touched))
}

// end removes what is gone, matches anew, and writes down what the feed holds now.
func (l *loading) end(ctx context.Context) error {
	if err := l.remove(ctx); err != nil {
		return err
	}
	for e, n := range l.ecosystems {
		if n == 0 {
			continue
		}
		if _, err := l.t.exec(ctx, `insert into feed_ecosystems (feed_id, ecosystem, records) values ($1, $2, $3)
			on conflict (feed_id, ecosystem) do update set records = feed_ecosystems.records + excluded.records`, l.id, e, int64(n)); err != nil {
			return err
		}
	}
	if _, err := l.t.exec(ctx, `delete from feed_ecosystems where feed_id = $1 and records <= 0`, l.id); err != nil {
		return err
	}
	if _, err := l.t.exec(ctx, `update feed_ecosystems set as_of = null, partial = '' where feed_id = $1`, l.id); err != nil {
		return err
	}
	for e, c := range l.feed.Covers {
		if _, err := l.t.exec(ctx, `update feed_ecosystems set as_of = $3, partial = $4 where feed_id = $1 and ecosystem = $2`,
			l.id, e, micros(c.AsOf), c.Partial); err != nil {
			return err
		}
	}
	newest := `cast($2 as bigint)`
	if !l.feed.Replace {
		newest = `case when cast($2 as bigint) is null or newest > $2 then newest else $2 end`
	}
	if _, err := l.t.exec(ctx, `update feeds set records = records + $3, newest = `+newest+` where id = $1`,
		l.id, micros(l.newest), int64(l.Added-l.Removed)); err != nil {
		return err
	}
	images, err := l.t.rematch(ctx, slices.Sorted(maps.Keys(l.touched)))
	if err != nil {
		return err
	}
	l.Images = len(images)
	if err := l.t.imagesDue(ctx, images, l.now); err != nil {
		return err
	}
	_, err = l.t.exec(ctx, `update counters set value = value + 1 where name = 'advisories'`)
	return err
}

// remove takes away the records that were not in this loading.
func (l *loading) remove(ctx context.Context) error {
	if !l.feed.Replace || l.empty {
		return nil
	}
	slices.Sort(l.seen)
	var gone []int64
	note := func(rows *sql.Rows) error {
		id, err := scanID(rows)
		if _, ok := slices.BinarySearch(l.seen, id); !ok {
			gone = append(gone, id)
		}
		return err
	}
	if err := each(note)(l.t.query(ctx, `select id from advisories where feed_id = $1`, l.id)); err != nil {
		return err
	}
	l.Removed = len(gone)
	if err := l.forget(ctx, gone); err != nil {
		return err
	}
	return l.t.eachOfIDs(ctx, `delete from advisories where id in (%s)`, gone, nil)
}

// rematch brings the findings of all keys that are looked up by names up to date and
// returns the images that hold one whose findings changed.
func (t *tx) rematch(ctx context.Context, names []int64) (images map[int64]bool, err error) {
	var all []packageKey
	err = t.eachOfIDs(ctx, `select distinct k.id, k.name_id, n.ecosystem, n.name, k.version from lookups l
		join package_keys k on k.id = l.key_id join names n on n.id = k.name_id where l.name_id in (%s)`, names, func(rows *sql.Rows) error {
		var k packageKey
		err := rows.Scan(&k.id, &k.name, &k.Ecosystem, &k.Name, &k.Version)
		all = append(all, k)
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, comparePackageKeys)
	m := matcher{t: t}
	var changed []int64
	for _, k := range slices.Compact(all) {
		ok, err := m.match(ctx, k)
		if err != nil {
			return nil, err
		}
		if ok {
			changed = append(changed, k.id)
		}
	}
	images = map[int64]bool{}
	err = t.eachOfIDs(ctx, `select distinct manifest_id from image_packages where key_id in (%s)`, changed, noteID(images))
	return images, err
}

// imagesDue makes images due.
func (t *tx) imagesDue(ctx context.Context, images map[int64]bool, now time.Time) error {
	return t.insist(ctx, func() error {
		return eachList(slices.Sorted(maps.Keys(images)), func(size int, members []any) error {
			_, err := t.exec(ctx, fmt.Sprintf(`update verdicts set generation = generation + 1, due_at = $1 where manifest_id in (%s)`, marks(2, size)),
				append([]any{now.UnixMicro()}, members...)...)
			return err
		})
	})
}

// base is the part of an ecosystem's name before its release.
func base(ecosystem string) string {
	b, _, _ := strings.Cut(ecosystem, ":")
	return b
}

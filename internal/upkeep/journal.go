package upkeep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// Bounds of the journal.
const (
	journalEvery = time.Second
	journalPage  = 1000 // moves of one record
	journalLast  = 10 * time.Second

	// So many small records are put together into larger ones.
	mergeAt    = 256
	mergedSize = 10 * journalPage
	// Beyond so many moves, and as many as the last snapshot had, a new one is written.
	snapshotAt = 10_000
	// maxRecord bounds a record that is read, in bytes of moves.
	maxRecord = 256 << 20

	settingEpoch = "journal.epoch"
)

// The names of records are j-EPOCH-FIRST-LAST for the moves with these ids, and
// s-EPOCH-LAST-PART for a snapshot of what stood after the move LAST; a snapshot counts
// once its part "end" is there. EPOCH tells catalogs from one another whose ids overlap.
type recordName struct {
	snapshot    bool
	epoch       string
	first, last int64
	part        string // of a snapshot
	text        string
}

func segmentName(epoch string, first, last int64) string {
	return fmt.Sprintf("j-%s-%016x-%016x", epoch, first, last)
}

func snapshotName(epoch string, last int64, part string) string {
	return fmt.Sprintf("s-%s-%016x-%s", epoch, last, part)
}

// endPart is the last part of a snapshot, and empty.
const endPart = "end"

// parseRecord reads a record's name; false if it is none of the journal's.
func parseRecord(text string) (recordName, bool) {
	f := strings.Split(text, "-")
	if len(f) != 4 || f[0] != "j" && f[0] != "s" {
		return recordName{}, false
	}
	n := recordName{snapshot: f[0] == "s", epoch: f[1], text: text}
	var err, err2 error
	if n.snapshot {
		n.part = f[3]
		n.last, err = strconv.ParseInt(f[2], 16, 64)
	} else {
		n.first, err = strconv.ParseInt(f[2], 16, 64)
		n.last, err2 = strconv.ParseInt(f[3], 16, 64)
	}
	return n, err == nil && err2 == nil
}

// Journal writes what becomes of manifests and tags into the blob store, about a second
// after the catalog has it, so that the catalog can be made again from the store alone.
// What was acknowledged within the last second before the catalog was lost is lost with it.
type Journal struct {
	cat   *catalog.Catalog
	store JournalStore
	log   *slog.Logger
	now   func() time.Time
	zip   *zstd.Encoder

	epoch    string
	segments []recordName
	moves    int // in them
	standing int // in the last snapshot
}

// JournalStore is a store that keeps a journal beside its blobs.
type JournalStore interface {
	blob.Store
	blob.Records
}

// NewJournal makes a Journal of a catalog in a store.
func NewJournal(cat *catalog.Catalog, store JournalStore, log *slog.Logger) (*Journal, error) {
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	return &Journal{cat: cat, store: store, log: log, now: time.Now, zip: zip}, nil
}

// Run writes until ctx ends, and once more then.
func (j *Journal) Run(ctx context.Context) {
	tick := time.NewTicker(journalEvery)
	defer tick.Stop()
	for {
		if err := j.Write(ctx); err != nil && ctx.Err() == nil {
			j.log.ErrorContext(ctx, "journal not written", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), journalLast)
			defer cancel()
			if err := j.Write(last); err != nil {
				j.log.ErrorContext(ctx, "journal not written", "err", err)
			}
			return
		}
	}
}

// Write brings the journal up to date. After an error it is safe to call it again.
func (j *Journal) Write(ctx context.Context) error {
	if j.epoch == "" {
		if err := j.open(ctx); err != nil {
			return err
		}
	}
	for {
		moves, err := j.cat.Unjournaled(ctx, journalPage)
		if err != nil || len(moves) == 0 {
			return err
		}
		if err := j.append(ctx, moves); err != nil {
			return err
		}
		if err := j.cat.MarkJournaled(ctx, moves); err != nil {
			return err
		}
		if j.moves > snapshotAt+j.standing {
			err = j.Snapshot(ctx)
		} else if j.small() >= mergeAt {
			err = j.merge(ctx)
		}
		if err != nil || len(moves) < journalPage {
			return err
		}
	}
}

// Bounds of what goes to the store at once, of manifests and of their bytes.
const (
	completeAtOnce = 64
	completeBytes  = 8 << 20
)

// complete gives the store the bytes of the manifests that it lacks.
func (j *Journal) complete(ctx context.Context, moves []catalog.Entry) error {
	seen := map[string]bool{}
	var lack []blob.Whole
	size := 0
	for _, e := range moves {
		if e.Type == "" || seen[e.Digest] {
			continue // gone by now, or looked for
		}
		seen[e.Digest] = true
		w, err := j.lacks(ctx, e.Digest)
		if err != nil {
			return err
		}
		if w.Content == nil {
			continue
		}
		lack = append(lack, w)
		if size += len(w.Content); len(lack) < completeAtOnce && size < completeBytes {
			continue
		}
		if err := putAll(ctx, j.store, lack); err != nil {
			return err
		}
		lack, size = lack[:0], 0
	}
	return putAll(ctx, j.store, lack)
}

// lacks returns the bytes of a manifest that the store does not have, without Content where it does,
// or where the manifest is gone.
func (j *Journal) lacks(ctx context.Context, digest string) (blob.Whole, error) {
	d, err := oci.ParseDigest(digest)
	if err != nil {
		return blob.Whole{}, err
	}
	if _, err := j.store.Stat(ctx, d); !errors.Is(err, blob.ErrNotFound) {
		return blob.Whole{}, err
	}
	raw, err := j.cat.ManifestBytes(ctx, d)
	if errors.Is(err, catalog.ErrNotFound) {
		return blob.Whole{}, nil
	}
	return blob.Whole{Digest: d, Content: raw}, err
}

// putAll stores blobs, together where the store can.
func putAll(ctx context.Context, store blob.Store, all []blob.Whole) error {
	if bulk, ok := store.(blob.Bulk); ok && len(all) > 0 {
		return bulk.PutAll(ctx, all)
	}
	for _, w := range all {
		if err := putBytes(ctx, store, w.Digest, w.Content); err != nil {
			return err
		}
	}
	return nil
}

// append writes one record.
func (j *Journal) append(ctx context.Context, moves []catalog.Entry) error {
	if err := j.complete(ctx, moves); err != nil {
		return fmt.Errorf("bytes of manifests: %w", err)
	}
	n := segmentName(j.epoch, moves[0].ID, moves[len(moves)-1].ID)
	if err := j.keep(ctx, n, moves); err != nil {
		return err
	}
	r, _ := parseRecord(n)
	j.segments = append(j.segments, r)
	j.moves += len(moves)
	return nil
}

func (j *Journal) keep(ctx context.Context, name string, moves []catalog.Entry) error {
	var raw []byte
	for _, m := range moves {
		line, err := json.Marshal(m)
		if err != nil {
			return err
		}
		raw = append(append(raw, line...), '\n')
	}
	return j.store.Keep(ctx, name, j.zip.EncodeAll(raw, nil))
}

// open finds out what is there of this catalog's journal. Where it is not this catalog's
// past, as after a backup was restored, it begins anew with what stands.
func (j *Journal) open(ctx context.Context) error {
	fresh := fmt.Sprintf("%016x", j.now().UnixMicro())
	epoch, err := j.cat.PutSettingOnce(ctx, settingEpoch, []byte(fresh))
	if err != nil {
		return err
	}
	last, err := j.cat.LastMove(ctx)
	if err != nil {
		return err
	}
	names, err := j.store.Names(ctx)
	if err != nil {
		return err
	}
	whole, beyond := false, false
	j.segments, j.moves = nil, 0
	for _, text := range names {
		n, ok := parseRecord(text)
		if !ok || n.epoch != string(epoch) {
			continue
		}
		whole = whole || n.snapshot && n.part == endPart
		beyond = beyond || n.last > last
		if !n.snapshot {
			j.segments = append(j.segments, n)
			j.moves += int(n.last - n.first + 1)
		}
	}
	j.epoch = string(epoch)
	if whole && !beyond {
		return nil
	}
	if beyond {
		return j.Restart(ctx)
	}
	return j.Snapshot(ctx)
}

// Restart begins the journal anew with what stands, under an epoch of its own, and forgets
// all that was before.
func (j *Journal) Restart(ctx context.Context) error {
	j.epoch = ""
	epoch := fmt.Sprintf("%016x", j.now().UnixMicro())
	if err := j.cat.PutSetting(ctx, settingEpoch, []byte(epoch)); err != nil {
		return err
	}
	j.epoch = epoch
	return j.Snapshot(ctx)
}

// Snapshot writes down all that stands, and forgets the records that this makes needless.
func (j *Journal) Snapshot(ctx context.Context) error {
	// The parts are named for the newest move, which is known at the end only; so they go
	// by one that is older, which is as true: what came since stands in them already.
	from, err := j.cat.LastMove(ctx)
	if err != nil {
		return err
	}
	var page []catalog.Entry
	part, n := 0, 0
	flush := func() error {
		part++
		err := j.keep(ctx, snapshotName(j.epoch, from, fmt.Sprintf("%08x", part)), page)
		n, page = n+len(page), page[:0]
		return err
	}
	_, err = j.cat.All(ctx, func(m catalog.Entry) error {
		if page = append(page, m); len(page) < 10*journalPage {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err == nil {
		err = j.store.Keep(ctx, snapshotName(j.epoch, from, endPart), []byte(strconv.Itoa(part)))
	}
	if err != nil {
		return fmt.Errorf("snapshot for the journal: %w", err)
	}
	j.standing = n
	return j.forget(ctx, func(n recordName) bool {
		return n.epoch != j.epoch || n.last < from || !n.snapshot && n.last <= from
	})
}

// forget removes the records that are needless, ends of snapshots first.
func (j *Journal) forget(ctx context.Context, needless func(recordName) bool) error {
	names, err := j.store.Names(ctx)
	if err != nil {
		return err
	}
	var left []recordName
	var go1, go2 []string
	for _, text := range names {
		n, ok := parseRecord(text)
		switch {
		case !ok:
		case !needless(n):
			if !n.snapshot {
				left = append(left, n)
			}
		case n.part == endPart:
			go1 = append(go1, text)
		default:
			go2 = append(go2, text)
		}
	}
	for _, text := range append(go1, go2...) {
		if err := j.store.Forget(ctx, text); err != nil {
			return err
		}
	}
	j.segments, j.moves = left, 0
	for _, n := range left {
		j.moves += int(n.last - n.first + 1)
	}
	return nil
}

// merge puts small records together into larger ones, of mergedSize moves or somewhat more.
func (j *Journal) merge(ctx context.Context) error {
	old := map[string]bool{}
	var all []catalog.Entry
	flush := func() error {
		if len(all) == 0 {
			return nil
		}
		all = inOrder(all)
		one := segmentName(j.epoch, all[0].ID, all[len(all)-1].ID)
		err := j.keep(ctx, one, all)
		delete(old, one)
		all = all[:0]
		return err
	}
	for _, s := range j.segments {
		if s.last-s.first >= mergedSize {
			continue
		}
		moves, err := readRecord(ctx, j.store, s.text)
		if err != nil {
			return fmt.Errorf("put records of the journal together: %w", err)
		}
		old[s.text] = true
		if all = append(all, moves...); len(all) >= mergedSize {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return j.forget(ctx, func(n recordName) bool { return old[n.text] })
}

// small counts the records that merge would put together.
func (j *Journal) small() (n int) {
	for _, s := range j.segments {
		if s.last-s.first < mergedSize {
			n++
		}
	}
	return n
}

// inOrder sorts moves and drops those that are there twice.
func inOrder(moves []catalog.Entry) []catalog.Entry {
	slices.SortStableFunc(moves, func(a, b catalog.Entry) int { return int(min(max(a.ID-b.ID, -1), 1)) })
	return slices.CompactFunc(moves, func(a, b catalog.Entry) bool { return a.ID == b.ID })
}

// readRecord returns the moves of one record.
func readRecord(ctx context.Context, store blob.Records, name string) ([]catalog.Entry, error) {
	packed, err := store.Record(ctx, name)
	if err != nil {
		return nil, err
	}
	unzip, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRecord))
	if err != nil {
		return nil, err
	}
	defer unzip.Close()
	raw, err := unzip.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("record %s is damaged: %w", name, err)
	}
	var out []catalog.Entry
	for line := range strings.Lines(string(raw)) {
		var m catalog.Entry
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			return nil, fmt.Errorf("record %s is damaged: %w", name, err)
		}
		out = append(out, m)
	}
	return out, nil
}

// journaled is what a journal holds: what stood at first, and the moves since, in order.
type journaled struct {
	standing, moves []catalog.Entry
	lost            []string // records that cannot be read
}

// readJournal reads the newest whole journal of a store.
func readJournal(ctx context.Context, store blob.Records) (journaled, error) {
	var out journaled
	names, err := store.Names(ctx)
	if err != nil {
		return out, err
	}
	var all []recordName
	var end recordName
	for _, text := range names {
		n, ok := parseRecord(text)
		if !ok {
			continue
		}
		all = append(all, n)
		// Names sort by epoch, then by the newest move.
		if n.snapshot && n.part == endPart {
			end = n
		}
	}
	if len(all) == 0 {
		return out, errors.New("the store has no journal: which repositories held what is not known")
	}
	if end.epoch == "" {
		end = recordName{epoch: all[0].epoch, last: -1}
	}
	parts := 0
	for _, n := range all {
		if n.epoch != end.epoch || n.part == endPart || n.snapshot && n.last != end.last || !n.snapshot && n.last <= end.last {
			continue
		}
		moves, err := readRecord(ctx, store, n.text)
		if err != nil {
			if ctx.Err() != nil {
				return out, err
			}
			out.lost = append(out.lost, err.Error())
			continue
		}
		if n.snapshot {
			parts++
			out.standing = append(out.standing, moves...)
		} else {
			out.moves = append(out.moves, moves...)
		}
	}
	if end.text != "" {
		want, err := store.Record(ctx, end.text)
		if n, aerr := strconv.Atoi(string(want)); err != nil || aerr != nil || parts < n {
			out.lost = append(out.lost, fmt.Sprintf("the snapshot %s has %d parts that can be read, not %s", end.text, parts, want))
		}
	}
	out.moves = slices.DeleteFunc(inOrder(out.moves), func(m catalog.Entry) bool { return m.ID <= end.last })
	return out, nil
}

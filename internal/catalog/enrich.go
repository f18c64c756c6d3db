package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"slices"
	"time"
)

// EPSS is the probability that a flaw is exploited within 30 days (FIRST, Exploit
// Prediction Scoring System).
type EPSS struct {
	CVE   string
	Score float32
}

// The names of enrichments.
const (
	enrichKEV  = "kev"
	enrichEPSS = "epss"
)

// PutKEV replaces the list of flaws that are known to be exploited (CISA's catalog).
// The images that hold a finding by one that came or went become due.
func (c *Catalog) PutKEV(ctx context.Context, asOf time.Time, cves []string) error {
	want := slices.Clone(cves)
	slices.Sort(want)
	want = slices.Compact(want)
	err := c.tx(ctx, func(t *tx) error {
		if err := t.hold(ctx, t.engine.lock); err != nil {
			return err
		}
		rows, err := t.query(ctx, `select cve from kev order by cve`)
		have, err := collect(rows, err, scanText)
		if err != nil {
			return err
		}
		gone, come := lacking(have, want), lacking(want, have)
		if err := t.eachOf(ctx, `delete from kev where 0 = $1 and cve in (%s) returning cve`, int64(0), gone, func(*sql.Rows) error { return nil }); err != nil {
			return err
		}
		if err := t.insert(ctx, `insert into kev (cve) values %s`, column(come)); err != nil {
			return err
		}
		images := map[int64]bool{}
		err = t.eachOf(ctx, `select distinct p.manifest_id from finding_cves f join image_packages p on p.key_id = f.key_id where 0 = $1 and f.cve in (%s)`,
			int64(0), append(gone, come...), noteID(images))
		if err != nil {
			return err
		}
		if err := t.imagesDue(ctx, images, c.now()); err != nil {
			return err
		}
		return t.enriched(ctx, enrichKEV, asOf, c.now(), len(want))
	})
	if err != nil {
		return fmt.Errorf("put the list of exploited flaws: %w", err)
	}
	return nil
}

// PutEPSS replaces the scores. An error out of scores leaves them as they were. No
// image becomes due: scores order findings and decide nothing.
func (c *Catalog) PutEPSS(ctx context.Context, asOf time.Time, scores iter.Seq2[EPSS, error]) error {
	err := c.txOnce(ctx, func(t *tx) error {
		if err := t.hold(ctx, t.engine.lock); err != nil {
			return err
		}
		if _, err := t.exec(ctx, `delete from epss`); err != nil {
			return err
		}
		n := 0
		var rows [][]any
		flush := func() error {
			err := t.insert(ctx, `insert into epss (cve, score) values %s on conflict (cve) do nothing`, rows)
			rows = rows[:0]
			return err
		}
		for s, err := range scores {
			if err != nil {
				return err
			}
			n++
			if rows = append(rows, []any{s.CVE, float64(s.Score)}); len(rows) == rowSizes[0] {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		if err := flush(); err != nil {
			return err
		}
		return t.enriched(ctx, enrichEPSS, asOf, c.now(), n)
	})
	if err != nil {
		return fmt.Errorf("put EPSS scores: %w", asKnown(err))
	}
	return nil
}

func (t *tx) enriched(ctx context.Context, name string, asOf, now time.Time, records int) error {
	_, err := t.exec(ctx, `insert into enrichments (name, as_of, loaded_at, records) values ($1, $2, $3, $4)
		on conflict (name) do update set as_of = excluded.as_of, loaded_at = excluded.loaded_at, records = excluded.records`,
		name, asOf.UnixMicro(), now.UnixMicro(), int64(records))
	return err
}

// lacking returns what of a, which is sorted as b is, is not in b.
func lacking(a, b []string) []string {
	var out []string
	for _, s := range a {
		if _, ok := slices.BinarySearch(b, s); !ok {
			out = append(out, s)
		}
	}
	return out
}

// column makes rows of one value each.
func column(values []string) [][]any {
	out := make([][]any, len(values))
	for i, v := range values {
		out[i] = []any{v}
	}
	return out
}

// noteID adds the one column of a row to a set.
func noteID(to map[int64]bool) func(*sql.Rows) error {
	return func(r *sql.Rows) error {
		id, err := scanID(r)
		to[id] = true
		return err
	}
}

// Enrichment says what list of an enrichment there is: "kev" or "epss".
type Enrichment struct {
	Name     string    `json:"name"`
	Records  int       `json:"records"`
	AsOf     time.Time `json:"asOf"`
	LoadedAt time.Time `json:"loadedAt"`
}

// Enrichments returns the lists that were put, by name.
func (c *Catalog) Enrichments(ctx context.Context) ([]Enrichment, error) {
	rows, err := c.read.query(ctx, `select name, records, as_of, loaded_at from enrichments order by name limit $1`, maxPage)
	out, err := collect(rows, err, func(r *sql.Rows) (Enrichment, error) {
		var e Enrichment
		var asOf, loaded int64
		err := r.Scan(&e.Name, &e.Records, &asOf, &loaded)
		e.AsOf, e.LoadedAt = fromMicros(&asOf), fromMicros(&loaded)
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("enrichments: %w", err)
	}
	return out, nil
}

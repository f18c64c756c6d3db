package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"pratique.dev/pratique/internal/vuln"
)

// FeedFingerprint returns the fingerprint that the file of a source and ecosystem had
// when it was last loaded. ErrNotFound if it never was.
func (c *Catalog) FeedFingerprint(ctx context.Context, source, ecosystem string) (string, error) {
	var s string
	err := c.read.row(ctx, `select fingerprint from feeds where source = $1 and ecosystem = $2`, source, ecosystem).Scan(&s)
	if err != nil {
		return "", fmt.Errorf("feed %s %s: %w", source, ecosystem, asKnown(err))
	}
	return s, nil
}

// EcosystemStatus says which advisories there are of one ecosystem by one source.
type EcosystemStatus struct {
	Ecosystem string    `json:"ecosystem"`          // "Debian"
	Releases  []string  `json:"releases,omitempty"` // "Debian:12"
	Source    string    `json:"source"`
	File      string    `json:"file,omitempty"`
	Records   int       `json:"records"`
	Newest    time.Time `json:"newest,omitzero"` // when the newest record was modified
	AsOf      time.Time `json:"asOf"`
	LoadedAt  time.Time `json:"loadedAt"`
}

// AdvisoryStatus returns what advisories there are, by ecosystem and source.
func (c *Catalog) AdvisoryStatus(ctx context.Context) ([]EcosystemStatus, error) {
	named, err := c.feedEcosystems(ctx)
	if err != nil {
		return nil, fmt.Errorf("status of advisories: %w", err)
	}
	rows, err := c.read.query(ctx, `select id, source, ecosystem, file, as_of, loaded_at, newest, records from feeds`)
	var out []EcosystemStatus
	_, err = collect(rows, err, func(r *sql.Rows) (struct{}, error) {
		var s EcosystemStatus
		var id, asOf, loaded int64
		var newest *int64
		err := r.Scan(&id, &s.Source, &s.Ecosystem, &s.File, &asOf, &loaded, &newest, &s.Records)
		s.AsOf, s.LoadedAt, s.Newest = fromMicros(&asOf), fromMicros(&loaded), fromMicros(newest)
		out = append(out, s.split(named[id])...)
		return struct{}{}, err
	})
	if err != nil {
		return nil, fmt.Errorf("status of advisories: %w", err)
	}
	slices.SortFunc(out, func(a, b EcosystemStatus) int {
		return cmp.Or(cmp.Compare(a.Ecosystem, b.Ecosystem), cmp.Compare(a.Source, b.Source))
	})
	return out, nil
}

// split gives a feed that stands for one ecosystem its releases, and makes one status
// for each ecosystem of a feed that stands for none.
func (s EcosystemStatus) split(records map[string]int) []EcosystemStatus {
	by := map[string]*EcosystemStatus{}
	if s.Ecosystem != "" {
		by[base(s.Ecosystem)] = &s
	}
	for _, e := range slices.Sorted(maps.Keys(records)) {
		of := by[base(e)]
		if of == nil {
			if s.Ecosystem != "" {
				continue // a record of this ecosystem that names another one too
			}
			one := s
			one.Ecosystem, one.Records = base(e), 0
			of = &one
			by[base(e)] = of
		}
		if s.Ecosystem == "" {
			of.Records += records[e]
		}
		if e != base(e) {
			of.Releases = append(of.Releases, e)
		}
	}
	var out []EcosystemStatus
	for _, e := range slices.Sorted(maps.Keys(by)) {
		out = append(out, *by[e])
	}
	return out
}

// feedEcosystems returns how many records of each feed name each ecosystem.
func (c *Catalog) feedEcosystems(ctx context.Context) (map[int64]map[string]int, error) {
	out := map[int64]map[string]int{}
	rows, err := c.read.query(ctx, `select feed_id, ecosystem, records from feed_ecosystems`)
	_, err = collect(rows, err, func(r *sql.Rows) (struct{}, error) {
		var id int64
		var e string
		var n int
		err := r.Scan(&id, &e, &n)
		if out[id] == nil {
			out[id] = map[string]int{}
		}
		out[id][e] = n
		return struct{}{}, err
	})
	return out, err
}

// coverage is what CoveredEcosystems found at a generation of the advisories.
type coverage struct {
	generation int64
	byName     map[string]vuln.Coverage
}

// CoveredEcosystems returns every Key.Ecosystem that has advisories, with how far the
// newest of its feeds reaches. An ecosystem counts as covered only by a feed that
// stands for it as a whole: a single record about a distribution says nothing of its
// other packages. The caller must not change the map.
func (c *Catalog) CoveredEcosystems(ctx context.Context) (map[string]vuln.Coverage, error) {
	var generation int64
	if err := c.read.row(ctx, `select value from counters where name = 'advisories'`).Scan(&generation); err != nil {
		return nil, fmt.Errorf("covered ecosystems: %w", asKnown(err))
	}
	c.mu.Lock()
	known := c.covered
	c.mu.Unlock()
	if known.byName != nil && known.generation == generation {
		return known.byName, nil
	}
	out := map[string]vuln.Coverage{}
	rows, err := c.read.query(ctx, `select f.ecosystem, e.ecosystem, coalesce(e.as_of, f.as_of), e.partial from feeds f join feed_ecosystems e on e.feed_id = f.id`)
	_, err = collect(rows, err, func(r *sql.Rows) (struct{}, error) {
		var feed, ecosystem, partial string
		var asOf int64
		err := r.Scan(&feed, &ecosystem, &asOf, &partial)
		if t := fromMicros(&asOf); base(feed) == base(ecosystem) && t.After(out[ecosystem].AsOf) {
			out[ecosystem] = vuln.Coverage{AsOf: t, Partial: partial}
		}
		return struct{}{}, err
	})
	if err != nil {
		return nil, fmt.Errorf("covered ecosystems: %w", err)
	}
	// What was read is of this generation or a later one: at worst it is read again.
	c.mu.Lock()
	c.covered = coverage{generation, out}
	c.mu.Unlock()
	return out, nil
}

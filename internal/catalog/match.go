package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/vuln"
)

// matcher matches package keys within a transaction. Keys that are looked up by the
// same names, one after the other, share the reading of their advisories.
type matcher struct {
	t          *tx
	name       int64 // of the advisories
	advisories []vuln.Advisory
}

// match brings the kept findings of a key up to date and says whether they changed.
func (m *matcher) match(ctx context.Context, k packageKey) (changed bool, err error) {
	if m.name != k.name {
		m.name, m.advisories = 0, nil
		rows, err := m.t.query(ctx, advisoriesForKey, k.id)
		if m.advisories, err = scanAdvisories(rows, err); err != nil {
			return false, fmt.Errorf("advisories for %s %s: %w", k.Ecosystem, k.Name, err)
		}
		m.name = k.name
	}
	want, cves, err := findingRows(k, m.advisories)
	if err != nil {
		return false, err
	}
	rows, err := m.t.query(ctx, `select doc from findings where key_id = $1 order by n`, k.id)
	have, err := collect(rows, err, scanText)
	if err != nil {
		return false, err
	}
	if slices.EqualFunc(have, want, func(doc string, row []any) bool { return doc == row[3] }) {
		return false, nil
	}
	if len(have) > 0 {
		if _, err := m.t.exec(ctx, `delete from findings where key_id = $1`, k.id); err != nil {
			return false, err
		}
	}
	if err := m.t.insert(ctx, `insert into findings (key_id, n, undecided, doc) values %s`, want); err != nil {
		return false, err
	}
	return true, m.t.insert(ctx, `insert into finding_cves (key_id, n, cve) values %s`, cves)
}

// findingRows matches and returns the rows to keep, and the CVEs of those that are findings.
func findingRows(k packageKey, advisories []vuln.Advisory) (rows, cves [][]any, err error) {
	found, cleared := vuln.Match(k.Key, advisories)
	add := func(undecided int64, v any) error {
		doc, err := json.Marshal(v)
		rows = append(rows, []any{k.id, int64(len(rows)), undecided, string(doc)})
		return err
	}
	for _, f := range found {
		ids := append([]string{f.ID, f.Advisory}, f.Aliases...)
		slices.Sort(ids)
		for _, id := range slices.Compact(ids) {
			if strings.HasPrefix(id, "CVE-") {
				cves = append(cves, []any{k.id, int64(len(rows)), id})
			}
		}
		if err := add(0, f); err != nil {
			return nil, nil, fmt.Errorf("finding %s: %w", f.ID, err)
		}
	}
	for _, c := range cleared {
		if !c.Undecided {
			continue
		}
		if err := add(1, c); err != nil {
			return nil, nil, fmt.Errorf("candidate %s: %w", c.Advisory, err)
		}
	}
	return rows, cves, nil
}

// advisoryColumns: a record comes once for each feed and name.
const advisoryColumns = `select a.id, a.doc, x.doc from `

const advisoriesForKey = advisoryColumns + `lookups l
join affected x on x.name_id = l.name_id
join advisories a on a.id = x.advisory_id
where l.key_id = $1 order by a.id`

const advisoriesForName = advisoryColumns + `names n
join affected x on x.name_id = n.id
join advisories a on a.id = x.advisory_id
where n.name = $1 and n.ecosystem = $2 order by a.id`

// scanAdvisories puts records together with what they say of the names asked for.
func scanAdvisories(rows *sql.Rows, err error) ([]vuln.Advisory, error) {
	var out []vuln.Advisory
	var last int64
	err = each(func(r *sql.Rows) error {
		var id int64
		var doc, affected sql.RawBytes
		if err := r.Scan(&id, &doc, &affected); err != nil {
			return err
		}
		if id != last || len(out) == 0 {
			var a vuln.Advisory
			if err := json.Unmarshal(doc, &a); err != nil {
				return fmt.Errorf("kept advisory %d: %w", id, err)
			}
			out, last = append(out, a), id
		}
		var of []vuln.Affected
		if err := json.Unmarshal(affected, &of); err != nil {
			return fmt.Errorf("kept advisory %d: %w", id, err)
		}
		out[len(out)-1].Affected = append(out[len(out)-1].Affected, of...)
		return nil
	})(rows, err)
	return newestOfEach(out), asKnown(err)
}

// newestOfEach leaves one of the records that came by more than one file of a source:
// OSV lists a record under each ecosystem that it names.
func newestOfEach(all []vuln.Advisory) []vuln.Advisory {
	slices.SortStableFunc(all, func(a, b vuln.Advisory) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Source, b.Source), b.Modified.Compare(a.Modified))
	})
	return slices.CompactFunc(all, func(a, b vuln.Advisory) bool { return a.ID == b.ID && a.Source == b.Source })
}

// AdvisoriesFor returns the advisories that name a package, with what each says of it
// alone, whether they apply to its version or not, by id.
func (c *Catalog) AdvisoriesFor(ctx context.Context, key inventory.Key) ([]vuln.Advisory, error) {
	var out []vuln.Advisory
	for _, e := range vuln.LookupEcosystems(key) {
		rows, err := c.read.query(ctx, advisoriesForName, key.Name, e)
		some, err := scanAdvisories(rows, err)
		if err != nil {
			return nil, fmt.Errorf("advisories for %s %s: %w", key.Ecosystem, key.Name, err)
		}
		out = append(out, some...)
	}
	return mergeAffected(out), nil
}

// mergeAffected joins records that were found under more than one ecosystem of a key.
func mergeAffected(all []vuln.Advisory) []vuln.Advisory {
	slices.SortStableFunc(all, func(a, b vuln.Advisory) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Source, b.Source))
	})
	var out []vuln.Advisory
	for _, a := range all {
		if n := len(out); n > 0 && out[n-1].ID == a.ID && out[n-1].Source == a.Source {
			out[n-1].Affected = append(out[n-1].Affected, a.Affected...)
			continue
		}
		out = append(out, a)
	}
	return out
}

// Rematch matches every known package key anew and makes the images due whose findings
// change, as after an upgrade of the program to one that reads advisories otherwise. It
// returns how many images those are.
func (c *Catalog) Rematch(ctx context.Context) (int, error) {
	n := 0
	err := c.txOnce(ctx, func(t *tx) error {
		if err := t.hold(ctx, t.engine.lock); err != nil {
			return err
		}
		rows, err := t.query(ctx, `select distinct name_id from lookups`)
		names, err := collect(rows, err, scanID)
		if err != nil {
			return err
		}
		images, err := t.rematch(ctx, names)
		if err != nil {
			return err
		}
		n = len(images)
		return t.imagesDue(ctx, images, c.now())
	})
	if err != nil {
		return 0, fmt.Errorf("match all packages anew: %w", asKnown(err))
	}
	return n, nil
}

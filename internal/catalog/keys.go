package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/vuln"
)

// name is what a package or an advisory is filed under.
type name struct{ ecosystem, name string }

func compareNames(a, b name) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.ecosystem, b.ecosystem))
}

// names adds to known the ids of those of want that are not in it; names that are new
// come to be.
func (t *tx) names(ctx context.Context, want []name, known map[name]int64) error {
	note := func(rows *sql.Rows) error {
		var n name
		var id int64
		err := rows.Scan(&id, &n.name, &n.ecosystem)
		known[n] = id
		return err
	}
	const find = `select id, name, ecosystem from names where 0 = $1 and name in (%s)`
	missing := unknownNames(want, known)
	if err := t.eachOf(ctx, find, int64(0), plainNames(missing), note); err != nil {
		return err
	}
	missing = unknownNames(missing, known)
	rows := make([][]any, len(missing))
	for i, n := range missing {
		rows[i] = []any{n.name, n.ecosystem}
	}
	err := t.eachRows(ctx, `insert into names (name, ecosystem) values %s on conflict (name, ecosystem) do nothing returning id, name, ecosystem`,
		rows, rowMarks, note)
	if err != nil {
		return err
	}
	// Another transaction was quicker with some of them.
	if missing = unknownNames(missing, known); len(missing) == 0 {
		return nil
	}
	return t.eachOf(ctx, find, int64(0), plainNames(missing), note)
}

// unknownNames returns what of want is not in known, each once, in one order for all.
func unknownNames(want []name, known map[name]int64) []name {
	var out []name
	for _, n := range want {
		if _, ok := known[n]; !ok {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, compareNames)
	return slices.Compact(out)
}

func plainNames(of []name) []string {
	out := make([]string, len(of))
	for i, n := range of {
		out[i] = n.name
	}
	return slices.Compact(out) // they are sorted
}

// packageKey is a package key that is kept.
type packageKey struct {
	id, name int64
	inventory.Key
}

func comparePackageKeys(a, b packageKey) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.id, b.id))
}

// keyMarks is rowMarks with the first row's types, which PostgreSQL asks for.
func keyMarks(n, columns int) string {
	return "(cast($1 as bigint),cast($2 as text))" + rowMarks(n, columns)[len("($1,$2)"):]
}

// packageKeys returns the kept form of keys, which are distinct, and which of them are
// new and not matched yet.
func (t *tx) packageKeys(ctx context.Context, keys []inventory.Key) (all, fresh []packageKey, err error) {
	ids := map[name]int64{}
	var want []name
	for _, k := range keys {
		for _, e := range vuln.LookupEcosystems(k) {
			want = append(want, name{e, k.Name})
		}
		want = append(want, name{k.Ecosystem, k.Name})
	}
	if err := t.names(ctx, want, ids); err != nil {
		return nil, nil, err
	}
	type version struct {
		name    int64
		version string
	}
	missing := map[version]inventory.Key{}
	for _, k := range keys {
		missing[version{ids[name{k.Ecosystem, k.Name}], k.Version}] = k
	}
	note := func(to *[]packageKey) func(rows *sql.Rows) error {
		return func(rows *sql.Rows) error {
			var v version
			var p packageKey
			err := rows.Scan(&p.id, &v.name, &v.version)
			p.name, p.Key = v.name, missing[v]
			delete(missing, v)
			*to = append(*to, p)
			return err
		}
	}
	left := func() (rows [][]any) {
		for v := range missing {
			rows = append(rows, []any{v.name, v.version})
		}
		slices.SortFunc(rows, func(a, b []any) int {
			return cmp.Or(cmp.Compare(a[0].(int64), b[0].(int64)), cmp.Compare(a[1].(string), b[1].(string)))
		})
		return rows
	}
	const find = `with wanted (name_id, version) as (values %s)
		select k.id, k.name_id, k.version from wanted w join package_keys k on k.name_id = w.name_id and k.version = w.version`
	const add = `insert into package_keys (name_id, version) values %s on conflict (name_id, version) do nothing returning id, name_id, version`
	if err := t.eachRows(ctx, find, left(), keyMarks, note(&all)); err != nil {
		return nil, nil, err
	}
	if err := t.eachRows(ctx, add, left(), rowMarks, note(&fresh)); err != nil {
		return nil, nil, err
	}
	// What another transaction has added in between is matched by that one.
	if err := t.eachRows(ctx, find, left(), keyMarks, note(&all)); err != nil {
		return nil, nil, err
	}
	if len(missing) > 0 {
		return nil, nil, fmt.Errorf("%d package keys could not be kept", len(missing))
	}
	var lookups [][]any
	for _, k := range fresh {
		for _, e := range vuln.LookupEcosystems(k.Key) {
			lookups = append(lookups, []any{ids[name{e, k.Name}], k.id})
		}
	}
	err = t.insert(ctx, `insert into lookups (name_id, key_id) values %s on conflict (name_id, key_id) do nothing`, lookups)
	return append(all, fresh...), fresh, err
}

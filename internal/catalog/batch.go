package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// Statements take many rows or values at once, in a few sizes, so that there are few
// texts to prepare.
var (
	rowSizes  = []int{128, 16, 1} // rows of an insert; the biggest that fits is next
	listSizes = []int{4, 32, 256} // members of a list; it is filled up with its last one
)

// marks is a list of n parameters from $first on: "$2,$3,$4".
func marks(first, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "$%d", first+i)
	}
	return b.String()
}

// rowMarks is n rows of parameters from $1 on: "($1,$2),($3,$4)".
func rowMarks(n, columns int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('(')
		b.WriteString(marks(1+i*columns, columns))
		b.WriteByte(')')
	}
	return b.String()
}

// eachRows runs text, whose %s is the place of rows of parameters, for all of rows,
// and calls do for each row that comes back.
func (t *tx) eachRows(ctx context.Context, text string, rows [][]any, mark func(n, columns int) string, do func(*sql.Rows) error) error {
	for len(rows) > 0 {
		n := 1
		for _, n = range rowSizes {
			if n <= len(rows) {
				break
			}
		}
		args := make([]any, 0, n*len(rows[0]))
		for _, r := range rows[:n] {
			args = append(args, r...)
		}
		full := fmt.Sprintf(text, mark(n, len(rows[0])))
		rows = rows[n:]
		if do == nil {
			if _, err := t.exec(ctx, full, args...); err != nil {
				return err
			}
			continue
		}
		if err := each(do)(t.query(ctx, full, args...)); err != nil {
			return err
		}
	}
	return nil
}

// insert runs an insert, whose %s is the place of the rows, for all of rows.
func (t *tx) insert(ctx context.Context, text string, rows [][]any) error {
	return t.eachRows(ctx, text, rows, rowMarks, nil)
}

// eachOf runs text, whose %s is the place of a list of parameters from $2 on, for
// all of list, and calls do for each row.
func (t *tx) eachOf(ctx context.Context, text string, first any, list []string, do func(*sql.Rows) error) error {
	return eachList(list, func(size int, members []any) error {
		return each(do)(t.query(ctx, fmt.Sprintf(text, marks(2, size)), append([]any{first}, members...)...))
	})
}

// eachOfIDs is eachOf for numbers, with the list from $1 on.
func (t *tx) eachOfIDs(ctx context.Context, text string, list []int64, do func(*sql.Rows) error) error {
	return eachList(list, func(size int, members []any) error {
		full := fmt.Sprintf(text, marks(1, size))
		if do == nil {
			_, err := t.exec(ctx, full, members...)
			return err
		}
		return each(do)(t.query(ctx, full, members...))
	})
}

// eachList cuts a list into pieces of one of listSizes.
func eachList[T any](list []T, run func(size int, members []any) error) error {
	for len(list) > 0 {
		size := listSizes[len(listSizes)-1]
		for _, s := range listSizes {
			if len(list) <= s {
				size = s
				break
			}
		}
		n := min(size, len(list))
		members := make([]any, size)
		for i := range members {
			members[i] = list[min(i, n-1)]
		}
		list = list[n:]
		if err := run(size, members); err != nil {
			return err
		}
	}
	return nil
}

// each calls do for all rows of a query and closes them.
func each(do func(*sql.Rows) error) func(*sql.Rows, error) error {
	return func(rows *sql.Rows, err error) error {
		if err != nil {
			return err
		}
		for rows.Next() {
			if err := do(rows); err != nil {
				return errors.Join(err, rows.Close())
			}
		}
		return errors.Join(rows.Err(), rows.Close())
	}
}

package extract

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// sqliteMagic opens every SQLite database (https://www.sqlite.org/fileformat2.html, 1.3.1).
const sqliteMagic = "SQLite format 3\x00"

const (
	sqliteLeaf     = 13 // page types: tables' b-trees only
	sqliteInterior = 5
	sqliteDepth    = 20 // a tree of that depth would hold more pages than there can be
)

// sqlite reads tables of an SQLite database page by page. Two pages of a sound
// database are never the same, so that pages bounds the work on one that is not.
type sqlite struct {
	*rpmFile
	page, usable int64
	pages        int64 // that may still be visited
}

// sqliteHeaders reads the blobs of the table Packages(hnum INTEGER PRIMARY KEY, blob BLOB).
func sqliteHeaders(db *rpmFile, yield func([]byte) error) error {
	head, err := db.take(0, 100)
	if err != nil {
		return err
	}
	size := int64(binary.BigEndian.Uint16(head[16:]))
	if size == 1 {
		size = 64 << 10
	}
	if size < 512 || size&(size-1) != 0 || size-int64(head[20]) < 480 {
		return fmt.Errorf("an SQLite database with pages of %d bytes", size)
	}
	q := &sqlite{rpmFile: db, page: size, usable: size - int64(head[20]), pages: db.size/size + 1}
	root := int64(0)
	err = q.table(1, 0, func(record []byte) error {
		cols, err := sqliteRecord(record)
		if err != nil {
			return err
		}
		if len(cols) >= 4 && string(cols[0]) == "table" && string(cols[1]) == "Packages" {
			root = sqliteInt(cols[3])
		}
		return nil
	})
	if err != nil {
		return err
	}
	if root == 0 {
		return errors.New("an SQLite database without the table Packages")
	}
	return q.table(root, 0, func(record []byte) error {
		cols, err := sqliteRecord(record)
		if err != nil {
			return err
		}
		if len(cols) < 2 {
			return errors.New("a row of the table Packages without a blob")
		}
		return yield(cols[1])
	})
}

// table calls yield with the record of each row below page n.
func (q *sqlite) table(n int64, depth int, yield func([]byte) error) error {
	if q.pages--; q.pages < 0 || depth > sqliteDepth {
		return errors.New("the pages of the SQLite database go round in circles")
	}
	b, err := q.take((n-1)*q.page, q.page)
	if err != nil {
		return err
	}
	h := b
	if n == 1 {
		h = b[100:] // the database's header
	}
	kind, cells := h[0], int(binary.BigEndian.Uint16(h[3:]))
	headLen := 8
	if kind == sqliteInterior {
		headLen = 12
	} else if kind != sqliteLeaf {
		return fmt.Errorf("page %d of the SQLite database is no part of a table", n)
	}
	if headLen+2*cells > len(h) {
		return fmt.Errorf("page %d of the SQLite database has %d cells", n, cells)
	}
	for i := range cells {
		at := int(binary.BigEndian.Uint16(h[headLen+2*i:]))
		if at+4 > len(b) {
			return fmt.Errorf("a cell of page %d of the SQLite database lies outside", n)
		}
		if kind == sqliteInterior {
			err = q.table(int64(binary.BigEndian.Uint32(b[at:])), depth+1, yield)
		} else {
			err = q.cell(b[at:min(len(b), int(q.usable))], yield)
		}
		if err != nil {
			return err
		}
	}
	if kind == sqliteInterior {
		return q.table(int64(binary.BigEndian.Uint32(h[8:])), depth+1, yield)
	}
	return nil
}

// cell yields the record of a leaf's cell, of which a part may be on overflow pages (1.6).
func (q *sqlite) cell(b []byte, yield func([]byte) error) error {
	length, n := sqliteVarint(b)
	_, m := sqliteVarint(b[n:]) // the row's number
	if n == 0 || m == 0 || length < 0 {
		return errors.New("a cell of the SQLite database is cut off")
	}
	b = b[n+m:]
	local := length
	if most := q.usable - 35; length > most {
		least := (q.usable-12)*32/255 - 23
		if local = least + (length-least)%(q.usable-4); local > most {
			local = least
		}
	}
	if err := q.spend(length); err != nil {
		return err
	}
	if local == length {
		if length > int64(len(b)) {
			return errors.New("a cell of the SQLite database is cut off")
		}
		return yield(b[:length])
	}
	if local+4 > int64(len(b)) {
		return errors.New("a cell of the SQLite database is cut off")
	}
	out := make([]byte, 0, length)
	out = append(out, b[:local]...)
	next := int64(binary.BigEndian.Uint32(b[local:]))
	for int64(len(out)) < length {
		if next == 0 {
			return errors.New("a row of the SQLite database is cut off")
		}
		page, err := q.take((next-1)*q.page, q.page)
		if err != nil {
			return err
		}
		next = int64(binary.BigEndian.Uint32(page))
		out = append(out, page[4:min(q.usable, 4+length-int64(len(out)))]...)
	}
	return yield(out)
}

// sqliteRecord parts a record into its columns (2.1); NULL is nil.
func sqliteRecord(b []byte) ([][]byte, error) {
	errCut := errors.New("a record of the SQLite database is cut off")
	size, n := sqliteVarint(b)
	if n == 0 || size < int64(n) || size > int64(len(b)) {
		return nil, errCut
	}
	types, body := b[n:size], b[size:]
	var out [][]byte
	for len(types) > 0 {
		t, n := sqliteVarint(types)
		if n == 0 || t < 0 {
			return nil, errCut
		}
		types = types[n:]
		var length int64
		switch {
		case t >= 12:
			length = (t - 12) / 2 // odd for a text, even for a blob
		case t >= 1 && t <= 4:
			length = t
		case t == 5:
			length = 6
		case t == 6 || t == 7:
			length = 8
		}
		if length > int64(len(body)) {
			return nil, errCut
		}
		out, body = append(out, body[:length:length]), body[length:]
	}
	return out, nil
}

// sqliteVarint reads a number of up to nine bytes; n is 0 if there is none.
func sqliteVarint(b []byte) (v int64, n int) {
	for n < len(b) && n < 8 {
		v = v<<7 | int64(b[n]&0x7f)
		n++
		if b[n-1] < 0x80 {
			return v, n
		}
	}
	if n == 8 && len(b) > 8 {
		return v<<8 | int64(b[8]), 9
	}
	return 0, 0
}

// sqliteInt reads a whole number, big end first.
func sqliteInt(b []byte) (v int64) {
	for _, c := range b {
		v = v<<8 | int64(c)
	}
	return v
}

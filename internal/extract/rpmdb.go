package extract

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Berkeley DB's hash access method (libdb, src/dbinc/db_page.h).
const (
	bdbHashMagic    = 0x061561
	bdbPageHeader   = 26
	bdbUnsortedPage = 2
	bdbOverflowPage = 7
	bdbHashPage     = 13
	bdbOffPageItem  = 3
)

// bdbHeaders reads the "Packages" hash: each value is on overflow pages of its own.
func bdbHeaders(db *rpmFile, yield func([]byte) error) error {
	meta, err := db.take(0, 72)
	if err != nil {
		return err
	}
	var order binary.ByteOrder = binary.LittleEndian
	if order.Uint32(meta[12:]) != bdbHashMagic {
		order = binary.BigEndian
	}
	size := int64(order.Uint32(meta[20:]))
	if size < 512 || size > 64<<10 || size&(size-1) != 0 {
		return fmt.Errorf("a Berkeley DB with pages of %d bytes", size)
	}
	last := int64(order.Uint32(meta[32:]))
	if (last+1)*size > db.size {
		return fmt.Errorf("broken off: a Berkeley DB of %d pages in %d bytes", last+1, db.size)
	}
	for n := int64(1); n <= last; n++ {
		page, err := db.take(n*size, size)
		if err != nil {
			return err
		}
		if kind := page[25]; kind != bdbHashPage && kind != bdbUnsortedPage {
			continue
		}
		entries := int(order.Uint16(page[20:]))
		if bdbPageHeader+2*entries > len(page) {
			return fmt.Errorf("page %d of the Berkeley DB has %d entries", n, entries)
		}
		for e := 1; e < entries; e += 2 { // keys and values take turns
			item := int(order.Uint16(page[bdbPageHeader+2*e:]))
			if item+12 > len(page) || page[item] != bdbOffPageItem {
				continue // a short value: rpm's own counter
			}
			blob, err := bdbValue(db, order, size, order.Uint32(page[item+4:]), int64(order.Uint32(page[item+8:])))
			if err != nil {
				return err
			}
			if err := yield(blob); err != nil {
				return err
			}
		}
	}
	return nil
}

// bdbValue gathers a value of the given length from a chain of overflow pages.
func bdbValue(db *rpmFile, order binary.ByteOrder, size int64, page uint32, length int64) ([]byte, error) {
	if err := db.spend(length); err != nil {
		return nil, err
	}
	out := make([]byte, 0, length)
	for int64(len(out)) < length {
		if page == 0 {
			return nil, errors.New("a value of the Berkeley DB is cut off")
		}
		b, err := db.take(int64(page)*size, size)
		if err != nil {
			return nil, err
		}
		used := int(order.Uint16(b[22:]))
		if b[25] != bdbOverflowPage || used == 0 || bdbPageHeader+used > len(b) {
			return nil, fmt.Errorf("page %d of the Berkeley DB is no part of a value", page)
		}
		out = append(out, b[bdbPageHeader:bdbPageHeader+used]...) // at least one byte: the chain ends
		page = order.Uint32(b[16:])
	}
	return out[:length], nil
}

const ndbMagic = "RpmP"

// ndbHeaders reads rpm's own "Packages.db": pages of slots, each of which says where a
// header lies, in blocks of 16 bytes (rpm, lib/backend/ndb/rpmpkg.c).
func ndbHeaders(db *rpmFile, yield func([]byte) error) error {
	head, err := db.take(0, 32)
	if err != nil {
		return err
	}
	if v := binary.LittleEndian.Uint32(head[4:]); v != 0 {
		return fmt.Errorf("an NDB of version %d", v)
	}
	end := int64(binary.LittleEndian.Uint32(head[12:])) * 4096
	if end == 0 || end > db.size {
		return fmt.Errorf("broken off: an NDB with %d bytes of slots in %d bytes", end, db.size)
	}
	for off := int64(32); off < end; off += 16 {
		slot, err := db.take(off, 16)
		if err != nil {
			return err
		}
		if string(slot[:4]) != "Slot" {
			return fmt.Errorf("no slot at byte %d of the NDB", off)
		}
		pkg := binary.LittleEndian.Uint32(slot[4:])
		if pkg == 0 {
			continue // free
		}
		at := int64(binary.LittleEndian.Uint32(slot[8:])) * 16
		b, err := db.take(at, 16)
		if err != nil {
			return err
		}
		if string(b[:4]) != "BlbS" || binary.LittleEndian.Uint32(b[4:]) != pkg {
			return fmt.Errorf("no record of package %d in the NDB", pkg)
		}
		length := int64(binary.LittleEndian.Uint32(b[12:]))
		if err := db.spend(length); err != nil {
			return err
		}
		blob, err := db.take(at+16, length)
		if err != nil {
			return err
		}
		if err := yield(blob); err != nil {
			return err
		}
	}
	return nil
}

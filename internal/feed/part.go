package feed

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// A part file holds the advisories of one ecosystem so that they can be streamed from
// the first to the last, and looked up by package without reading the others:
//
//	magic    "PRQADV1\n"
//	blocks   zstd frames; unpacked, records one after the other
//	index    a zstd frame
//	trailer  length of the index packed, unpacked (uint32, little endian), "PRQIDX1\n"
//
// A record is an OSV record in JSON whose last member is "affected", broken into lines:
// all that goes before, then one line per affected package, then "]}". A reader that is
// after one package leaves the lines of the others out and still holds an OSV record.
//
// The index, in uvarints (encoding/binary) and strings (length, bytes):
//
//	blocks      count; each: packed length, unpacked length, records
//	ecosystems  count; each: name, packages
//	packages    count; each: bytes shared with the name before, the rest of the name,
//	            record numbers (count, first, differences)
const (
	partMagic  = "PRQADV1\n"
	indexMagic = "PRQIDX1\n"
	trailerLen = 4 + 4 + len(indexMagic)

	maxIndex = 64 << 20 // unpacked bytes of an index
	maxBlock = 32 << 20 // unpacked bytes of a block
)

var (
	errPart      = errors.New("damaged advisory part")
	recordEnd    = []byte("\n]}\n")
	packageStart = []byte(`{"package":{"ecosystem":`)
)

// partFile reads one part file. Its methods may be called at once.
type partFile struct {
	r    io.ReaderAt
	size int64

	once sync.Once
	idx  *partIndex
	err  error
}

type partIndex struct {
	blocks     []blockRef
	records    int
	ecosystems map[string]*nameTable
}

// blockRef says where a block lies and which records are in it.
type blockRef struct {
	offset      int64
	packed, raw int
	first, n    int
}

// nameTable lists package names in order; the records of names[i] are
// postings[start[i]:start[i+1]].
type nameTable struct {
	names    []string
	start    []uint32
	postings []uint32
}

// block is an unpacked block; record i is raw[ends[i-1]:ends[i]].
type block struct {
	raw  []byte
	ends []int
}

func (b *block) record(i int) []byte {
	if i == 0 {
		return b.raw[:b.ends[0]]
	}
	return b.raw[b.ends[i-1]:b.ends[i]]
}

// index reads the index on first use.
func (p *partFile) index() (*partIndex, error) {
	p.once.Do(func() { p.idx, p.err = p.readIndex() })
	return p.idx, p.err
}

func (p *partFile) readIndex() (*partIndex, error) {
	if p.size < int64(len(partMagic)+trailerLen) {
		return nil, fmt.Errorf("%w: %d bytes are too few", errPart, p.size)
	}
	head := make([]byte, len(partMagic))
	if _, err := p.r.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("%w: read its start: %w", errPart, err)
	}
	if string(head) != partMagic {
		return nil, fmt.Errorf("%w: it begins with %q", errPart, head)
	}
	tail := make([]byte, trailerLen)
	if _, err := p.r.ReadAt(tail, p.size-int64(trailerLen)); err != nil {
		return nil, fmt.Errorf("%w: read trailer: %w", errPart, err)
	}
	packed, raw := binary.LittleEndian.Uint32(tail), binary.LittleEndian.Uint32(tail[4:])
	at := p.size - int64(trailerLen) - int64(packed)
	if string(tail[8:]) != indexMagic || at < int64(len(partMagic)) || raw > maxIndex {
		return nil, fmt.Errorf("%w: trailer", errPart)
	}
	plain, err := p.unpack(at, int(packed), int(raw))
	if err != nil {
		return nil, fmt.Errorf("%w: index: %w", errPart, err)
	}
	idx, err := decodeIndex(plain, at)
	if err != nil {
		return nil, fmt.Errorf("%w: index: %w", errPart, err)
	}
	return idx, nil
}

// decoder unpacks frames; a zstd.Decoder's DecodeAll may be called at once.
var decoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxIndex), zstd.WithDecodeAllCapLimit(true))
})

// unpack reads the frame at offset, which must unpack to exactly raw bytes.
func (p *partFile) unpack(offset int64, packed, raw int) ([]byte, error) {
	dec, err := decoder()
	if err != nil {
		return nil, err
	}
	if int64(packed) > p.size-offset {
		return nil, errors.New("frame reaches beyond the file")
	}
	in := make([]byte, packed)
	if _, err := p.r.ReadAt(in, offset); err != nil {
		return nil, err
	}
	out, err := dec.DecodeAll(in, make([]byte, 0, raw))
	if err != nil {
		return nil, err
	}
	if len(out) != raw {
		return nil, fmt.Errorf("%d bytes where %d were announced", len(out), raw)
	}
	return out, nil
}

// readBlock unpacks block i and finds its records.
func (p *partFile) readBlock(idx *partIndex, i int) (*block, error) {
	ref := idx.blocks[i]
	raw, err := p.unpack(ref.offset, ref.packed, ref.raw)
	if err != nil {
		return nil, fmt.Errorf("%w: block %d: %w", errPart, i, err)
	}
	b := &block{raw: raw, ends: make([]int, 0, min(ref.n, len(raw)/len(recordEnd)))}
	for at := 0; at < len(raw); {
		n := bytes.Index(raw[at:], recordEnd)
		if n < 0 {
			break
		}
		at += n + len(recordEnd)
		b.ends = append(b.ends, at)
	}
	if len(b.ends) != ref.n || ref.n == 0 || b.ends[ref.n-1] != len(raw) {
		return nil, fmt.Errorf("%w: block %d: %d records where %d were announced", errPart, i, len(b.ends), ref.n)
	}
	return b, nil
}

// find returns the numbers of the records that name the package, in order.
func (t *nameTable) find(name string) []uint32 {
	if t == nil {
		return nil
	}
	i, ok := slices.BinarySearch(t.names, name)
	if !ok {
		return nil
	}
	return t.postings[t.start[i]:t.start[i+1]]
}

// blockOf returns the block that holds a record.
func (x *partIndex) blockOf(record int) int {
	i, ok := slices.BinarySearchFunc(x.blocks, record, func(b blockRef, r int) int { return b.first - r })
	if !ok {
		i--
	}
	return i
}

// only leaves out the lines of all packages but those that start with one of heads, and
// but the first, since ParseOSV tells from it what kind of update the record is.
// It appends to out, which it returns.
func only(out, record []byte, heads [][]byte) []byte {
	n := 0
	for line := range bytes.Lines(record) {
		body := bytes.TrimPrefix(line, []byte(","))
		keep := n < 2 || bytes.Equal(line, recordEnd[1:]) ||
			slices.ContainsFunc(heads, func(h []byte) bool { return bytes.HasPrefix(body, h) })
		if keep {
			out = append(out, line...)
		}
		n++
	}
	return out
}

// packageHead is how the line of a package begins.
func packageHead(ecosystem, name string) ([]byte, error) {
	e, err := json.Marshal(ecosystem)
	if err != nil {
		return nil, err
	}
	n, err := json.Marshal(name)
	if err != nil {
		return nil, err
	}
	head := append(slices.Clone(packageStart), e...)
	head = append(head, `,"name":`...)
	head = append(head, n...)
	return append(head, '}'), nil
}

// indexReader takes an index apart. After the first fault all it returns is zero.
type indexReader struct {
	rest []byte
	err  error
}

func (r *indexReader) fail(text string) {
	if r.err == nil {
		r.err = errors.New(text)
	}
	r.rest = nil
}

// number reads a uvarint of at most limit.
func (r *indexReader) number(limit int) int {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > uint64(limit) {
		r.fail("a number is cut off or too big")
		return 0
	}
	r.rest = r.rest[n:]
	return int(v)
}

// count reads how many of something follow; each takes at least one byte.
func (r *indexReader) count() int { return r.number(len(r.rest)) }

func (r *indexReader) text() string {
	n := r.number(len(r.rest))
	if n > len(r.rest) {
		r.fail("a name is cut off")
		return ""
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}

// decodeIndex reads an index whose blocks end at offset end of the file.
func decodeIndex(plain []byte, end int64) (*partIndex, error) {
	r := &indexReader{rest: plain}
	x := &partIndex{ecosystems: map[string]*nameTable{}}
	at := int64(len(partMagic))
	for range r.count() {
		b := blockRef{offset: at, packed: r.number(maxBlock), raw: r.number(maxBlock), first: x.records, n: r.number(maxEntries)}
		at += int64(b.packed)
		x.records += b.n
		if b.n == 0 || at > end || x.records > maxEntries {
			r.fail("a block is empty or reaches beyond the file")
		}
		if r.err != nil {
			return nil, r.err
		}
		x.blocks = append(x.blocks, b)
	}
	if at != end {
		return nil, errors.New("the blocks do not fill the file")
	}
	for range r.count() {
		name := r.text()
		t := r.table(x.records)
		if _, twice := x.ecosystems[name]; twice {
			r.fail("an ecosystem comes twice")
		}
		if r.err != nil {
			return nil, r.err
		}
		x.ecosystems[name] = t
	}
	if r.err == nil && len(r.rest) > 0 {
		r.fail("bytes follow the end")
	}
	return x, r.err
}

// table reads the packages of one ecosystem in a file of so many records.
func (r *indexReader) table(records int) *nameTable {
	n := r.count()
	t := &nameTable{start: make([]uint32, 1)}
	before := ""
	for i := range n {
		shared := r.number(len(before))
		name := strings.Clone(before[:shared]) + r.text()
		if r.err == nil && i > 0 && name <= before {
			r.fail("names are out of order")
		}
		last := -1
		for range r.count() {
			step := r.number(records)
			last += step + 1
			if last >= records {
				r.fail("a record number is too big")
			}
			if r.err != nil {
				return nil
			}
			t.postings = append(t.postings, uint32(last))
		}
		if r.err != nil {
			return nil
		}
		t.names, t.start = append(t.names, name), append(t.start, uint32(len(t.postings)))
		before = name
	}
	return t
}

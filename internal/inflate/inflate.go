// Package inflate unpacks gzip streams (RFC 1952, RFC 1951). It exists for its speed:
// unpacking is what examining a layer costs, and this decoder takes about half the
// time of the general ones, since it loads eight bytes of input at once, decodes up to three
// literals and a match for each load, and gets a length with its extra bits out of one table entry. It
// knows nothing of dictionaries, of writing or of headers' content.
package inflate

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// What is wrong with a stream. A stream that breaks off gives io.ErrUnexpectedEOF.
var (
	ErrHeader   = errors.New("gzip: not a gzip header")
	ErrCorrupt  = errors.New("gzip: compressed data is damaged")
	ErrChecksum = errors.New("gzip: checksum or length does not match the content")
)

const (
	window   = 32 << 10 // how far back a match can reach (RFC 1951, 2)
	maxMatch = 258
	// slack is what the fast loop may write beyond what it checked for: three literals, a match,
	// and the rest of the last eight bytes of a match.
	slack   = maxMatch + 16
	outSize = window + 128<<10 + slack
	inSize  = 64 << 10
	// fastIn is how many bytes of input the fast loop may load without looking.
	fastIn = 32
)

// Reader unpacks the members of a gzip stream, one after another. It is not safe for
// use by several goroutines.
type Reader struct {
	src    io.Reader
	srcErr error
	in     []byte
	ip, ie int    // unread input is in[ip:ie]
	bits   uint64 // input that was taken, the next bit lowest; above nbits may be bits of in[ip:] already
	nbits  uint

	out []byte
	rp  int // what is not yet given out is out[rp:op]
	op  int
	low int // where the member began in out; no match reaches below

	state  state
	final  bool // the block is the last of its member
	stored int  // bytes left of a stored block
	crc    uint32
	size   uint32
	err    error

	lit  [litEntries]uint32
	dist [distEntries]uint32
	lens [maxLit + maxDist]uint8
	work builder
}

// state is what comes next in the input.
type state uint8

const (
	atHeader state = iota
	atBlock
	inStored
	inCodes
	atTrailer
)

// NewReader returns a Reader of the stream src, which begins with a gzip header. It
// reads ahead, so that src must hold nothing else.
func NewReader(src io.Reader) *Reader {
	return &Reader{src: src, in: make([]byte, inSize+8), out: make([]byte, outSize)}
}

// Read implements io.Reader. io.EOF comes after the last member's checksum held.
func (z *Reader) Read(p []byte) (int, error) {
	for z.rp == z.op && z.err == nil {
		z.advance()
	}
	n := copy(p, z.out[z.rp:z.op])
	z.rp += n
	if n == 0 && len(p) > 0 {
		return 0, z.err
	}
	return n, nil
}

// advance does a step: a header, a trailer, or as much of a block as there is room for.
func (z *Reader) advance() {
	if z.op > outSize-slack-maxMatch {
		keep := min(window, z.op)
		copy(z.out, z.out[z.op-keep:z.op])
		z.low = max(0, z.low-(z.op-keep))
		z.op = keep
		z.rp = keep
	}
	start := z.op
	switch z.state {
	case atHeader:
		z.err = z.header()
	case atBlock:
		z.err = z.block()
	case inStored:
		z.err = z.copyStored()
	case inCodes:
		z.err = z.codes()
	case atTrailer:
		z.err = z.trailer()
	}
	if z.op > start {
		z.crc = crc32.Update(z.crc, crc32.IEEETable, z.out[start:z.op])
		z.size += uint32(z.op - start)
	}
}

// more reads input until there are n bytes, or as many as there are before its end.
func (z *Reader) more(n int) {
	if z.ie-z.ip >= n || z.srcErr != nil {
		return
	}
	keep := min(8, z.ip) // of what was taken, for align
	z.ie = copy(z.in, z.in[z.ip-keep:z.ie])
	z.ip = keep
	for idle := 0; z.ie-z.ip < n && z.srcErr == nil; {
		m, err := z.src.Read(z.in[z.ie:inSize])
		z.ie += m
		z.srcErr = err
		if m > 0 {
			idle = 0
		} else if idle++; idle > 100 && err == nil {
			z.srcErr = io.ErrNoProgress
		}
	}
}

// ended is why there is no more input.
func (z *Reader) ended() error {
	if z.srcErr == nil || z.srcErr == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return z.srcErr
}

// refill takes input byte by byte until there are at least n bits, n at most 48.
func (z *Reader) refill(n uint) error {
	for z.nbits < n {
		if z.ip == z.ie {
			if z.more(fastIn); z.ip == z.ie {
				return z.ended()
			}
		}
		// What stands above nbits is this byte already, or zero.
		z.bits |= uint64(z.in[z.ip]) << z.nbits
		z.ip++
		z.nbits += 8
	}
	return nil
}

// take returns the next n bits, n at most 16.
func (z *Reader) take(n uint) (uint32, error) {
	if err := z.refill(n); err != nil {
		return 0, err
	}
	v := uint32(z.bits) & (1<<n - 1)
	z.drop(n)
	return v, nil
}

// drop takes n bits away that are there.
func (z *Reader) drop(n uint) {
	z.bits >>= n
	z.nbits -= n
}

// align goes to the next byte of input and gives back the bytes that were taken too
// early.
func (z *Reader) align() {
	z.ip -= int(z.nbits / 8)
	z.bits, z.nbits = 0, 0
}

// block reads a block's header (RFC 1951, 3.2.3).
func (z *Reader) block() error {
	if z.final {
		z.state = atTrailer
		return nil
	}
	h, err := z.take(3)
	if err != nil {
		return err
	}
	z.final = h&1 == 1
	switch h >> 1 {
	case 0:
		z.align()
		z.more(4)
		if z.ie-z.ip < 4 {
			return z.ended()
		}
		n := binary.LittleEndian.Uint16(z.in[z.ip:])
		if n != ^binary.LittleEndian.Uint16(z.in[z.ip+2:]) {
			return ErrCorrupt
		}
		z.ip += 4
		z.stored, z.state = int(n), inStored
	case 1:
		z.state = inCodes
		return z.fixedCodes()
	case 2:
		z.state = inCodes
		return z.dynamicCodes()
	default:
		return ErrCorrupt
	}
	return nil
}

func (z *Reader) copyStored() error {
	for z.stored > 0 && z.op < outSize-slack {
		z.more(1)
		if z.ip == z.ie {
			return z.ended()
		}
		n := copy(z.out[z.op:outSize-slack], z.in[z.ip:min(z.ie, z.ip+z.stored)])
		z.op += n
		z.ip += n
		z.stored -= n
	}
	if z.stored == 0 {
		z.state = atBlock
	}
	return nil
}

// trailer checks what a member ends with (RFC 1952, 2.3.1), and whether another follows.
func (z *Reader) trailer() error {
	z.align()
	z.more(8)
	if z.ie-z.ip < 8 {
		return z.ended()
	}
	if binary.LittleEndian.Uint32(z.in[z.ip:]) != z.crc || binary.LittleEndian.Uint32(z.in[z.ip+4:]) != z.size {
		return ErrChecksum
	}
	z.ip += 8
	if z.more(1); z.ip == z.ie {
		if z.srcErr != io.EOF {
			return z.ended()
		}
		return io.EOF
	}
	z.state = atHeader
	return nil
}

// Flags of a member's header (RFC 1952, 2.3.1).
const (
	hasHeaderCRC = 1 << 1
	hasExtra     = 1 << 2
	hasName      = 1 << 3
	hasComment   = 1 << 4
)

// header passes over a member's header, its own checksum included: what it says
// matters to nobody here.
func (z *Reader) header() error {
	z.more(10)
	if z.ie-z.ip < 10 {
		return z.ended()
	}
	h := z.in[z.ip : z.ip+10]
	if h[0] != 0x1f || h[1] != 0x8b || h[2] != 8 {
		return ErrHeader
	}
	flags := h[3]
	z.ip += 10
	if flags&hasExtra != 0 {
		z.more(2)
		if z.ie-z.ip < 2 {
			return z.ended()
		}
		n := int(binary.LittleEndian.Uint16(z.in[z.ip:]))
		z.ip += 2
		if err := z.skip(n); err != nil {
			return err
		}
	}
	for _, f := range []byte{hasName, hasComment} {
		if flags&f != 0 {
			if err := z.skipText(); err != nil {
				return err
			}
		}
	}
	if flags&hasHeaderCRC != 0 {
		if err := z.skip(2); err != nil {
			return err
		}
	}
	z.crc, z.size, z.final, z.low = 0, 0, false, z.op
	z.state = atBlock
	return nil
}

func (z *Reader) skip(n int) error {
	for n > 0 {
		if z.more(1); z.ip == z.ie {
			return z.ended()
		}
		m := min(n, z.ie-z.ip)
		z.ip += m
		n -= m
	}
	return nil
}

// skipText passes over a text that ends with a zero byte.
func (z *Reader) skipText() error {
	for {
		if z.more(1); z.ip == z.ie {
			return z.ended()
		}
		z.ip++
		if z.in[z.ip-1] == 0 {
			return nil
		}
	}
}

package inflate

import "math/bits"

const (
	maxLit    = 288 // symbols of literals and lengths, two of them not for use
	maxDist   = 32
	maxCode   = 15 // bits of the longest code
	litBits   = 11 // of the first table's index
	distBits  = 8
	endSymbol = 256

	// The most entries that a table and its subtables come to, for 288 and 32 symbols of
	// at most 15 bits (zlib's examples/enough.c counts them: 2342 and 402).
	litEntries  = 2400
	distEntries = 512
)

// An entry of a table tells how many bits to drop in its lowest byte. A literal has its
// byte from bit 16. A length or distance has its base from bit 16, the bits of its code
// from bit 8, and counts its extra bits among those to drop. An entry that points on has
// the subtable's place from bit 16 and its index's bits from bit 8.
const (
	isLiteral = 1 << 31
	isOther   = 1 << 15 // neither literal nor length
	isInvalid = 1 << 14
	isEnd     = 1 << 13
)

// Bases and extra bits of lengths and distances (RFC 1951, 3.2.5).
var (
	lengthBase = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthMore = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase   = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distMore   = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// litEntry is the entry of a literal or length with a code of n bits.
func litEntry(symbol int, n uint) uint32 {
	switch {
	case symbol < endSymbol:
		return isLiteral | uint32(symbol)<<16 | uint32(n)
	case symbol == endSymbol:
		return isOther | isEnd | uint32(n)
	case symbol-257 < len(lengthBase):
		i := symbol - 257
		return uint32(lengthBase[i])<<16 | uint32(n)<<8 | uint32(n) + uint32(lengthMore[i])
	}
	return isOther | isInvalid
}

// distEntry is the entry of a distance with a code of n bits.
func distEntry(symbol int, n uint) uint32 {
	if symbol < len(distBase) {
		return uint32(distBase[symbol])<<16 | uint32(n)<<8 | uint32(n) + uint32(distMore[symbol])
	}
	return isOther | isInvalid
}

// builder is the room that building a table takes.
type builder struct {
	sorted  [maxLit]uint16 // symbols by length of code
	longest [1 << litBits]uint8
}

// build makes a table out of the lengths of codes, in table, of which the first 1<<width
// entries are indexed by the next bits of input (RFC 1951, 3.2.2). It is false for
// lengths that no code has: too many codes, or too few other than a single one.
func (b *builder) build(table []uint32, width uint, lens []uint8, entry func(int, uint) uint32) bool {
	var count, first [maxCode + 2]int
	for _, n := range lens {
		count[n]++
	}
	count[0] = 0
	code, used, longest := 0, 0, uint(0)
	var next [maxCode + 2]int
	for n := 1; n <= maxCode; n++ {
		code <<= 1
		next[n] = code
		code += count[n]
		first[n] = used
		used += count[n]
		if count[n] > 0 {
			longest = uint(n)
		}
		if code > 1<<n {
			return false
		}
	}
	for i := range 1 << width {
		table[i] = isOther | isInvalid
	}
	if used == 0 {
		return true // a code of no symbols, which the block must not use
	}
	if code != 1<<maxCode && (used != 1 || longest != 1) {
		return false
	}
	for symbol, n := range lens {
		if n > 0 {
			b.sorted[first[n]] = uint16(symbol)
			first[n]++
		}
	}
	return b.fill(table, width, lens, b.sorted[:used], next, entry)
}

// fill writes the entries of symbols, which are sorted by length; next has the first
// code of each length.
func (b *builder) fill(table []uint32, width uint, lens []uint8, symbols []uint16, next [maxCode + 2]int, entry func(int, uint) uint32) bool {
	short := 0
	for short < len(symbols) && uint(lens[symbols[short]]) <= width {
		symbol := int(symbols[short])
		n := uint(lens[symbol])
		e := entry(symbol, n)
		for i := reverse(next[n], n); i < 1<<width; i += 1 << n {
			table[i] = e
		}
		next[n]++
		short++
	}
	if short == len(symbols) {
		return true
	}
	// The longest code behind each index of the first table tells its subtable's size.
	clear(b.longest[:1<<width])
	codes := next
	for _, symbol := range symbols[short:] {
		n := uint(lens[symbol])
		prefix := reverse(codes[n], n) & (1<<width - 1)
		codes[n]++
		b.longest[prefix] = uint8(n) // lengths rise
	}
	free := 1 << width
	for _, symbol := range symbols[short:] {
		n := uint(lens[symbol])
		reversed := reverse(next[n], n)
		next[n]++
		prefix := reversed & (1<<width - 1)
		sub := uint(b.longest[prefix]) - width
		if table[prefix]&isInvalid != 0 {
			if free+1<<sub > len(table) {
				return false
			}
			table[prefix] = isOther | uint32(free)<<16 | uint32(sub)<<8 | uint32(width)
			for i := range 1 << sub {
				table[free+i] = isOther | isInvalid
			}
			free += 1 << sub
		}
		at := int(table[prefix] >> 16)
		e := entry(int(symbol), n-width)
		for i := reversed >> width; i < 1<<sub; i += 1 << (n - width) {
			table[at+i] = e
		}
	}
	return true
}

// reverse turns a code of n bits round: codes come highest bit first.
func reverse(code int, n uint) int {
	return int(bits.Reverse16(uint16(code)) >> (16 - n))
}

// fixedCodes makes the tables of fixed codes (RFC 1951, 3.2.6).
func (z *Reader) fixedCodes() error {
	lens := z.lens[:maxLit]
	for i := range lens {
		switch {
		case i < 144:
			lens[i] = 8
		case i < 256:
			lens[i] = 9
		case i < 280:
			lens[i] = 7
		default:
			lens[i] = 8
		}
	}
	if !z.work.build(z.lit[:], litBits, lens, litEntry) {
		return ErrCorrupt
	}
	lens = z.lens[:maxDist]
	for i := range lens {
		lens[i] = 5
	}
	if !z.work.build(z.dist[:], distBits, lens, distEntry) {
		return ErrCorrupt
	}
	return nil
}

// codeOrder is the order in which the lengths of the code for lengths come (RFC 1951, 3.2.7).
var codeOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamicCodes reads the lengths of a block's own codes and makes their tables (RFC
// 1951, 3.2.7).
func (z *Reader) dynamicCodes() error {
	h, err := z.take(14)
	if err != nil {
		return err
	}
	nlit, ndist, ncode := int(h&31)+257, int(h>>5&31)+1, int(h>>10)+4
	if nlit > 286 || ndist > 30 {
		return ErrCorrupt
	}
	var codeLens [19]uint8
	for _, i := range codeOrder[:ncode] {
		n, err := z.take(3)
		if err != nil {
			return err
		}
		codeLens[i] = uint8(n)
	}
	// The table of literals is free until their lengths are known.
	if !z.work.build(z.lit[:], 7, codeLens[:], func(symbol int, n uint) uint32 { return uint32(symbol)<<16 | uint32(n) }) {
		return ErrCorrupt
	}
	if err := z.readLens(nlit + ndist); err != nil {
		return err
	}
	if z.lens[endSymbol] == 0 {
		return ErrCorrupt // the block could not end
	}
	// The lengths of distances first: building changes none.
	if !z.work.build(z.dist[:], distBits, z.lens[nlit:nlit+ndist], distEntry) || !z.work.build(z.lit[:], litBits, z.lens[:nlit], litEntry) {
		return ErrCorrupt
	}
	return nil
}

// readLens reads n lengths of codes by the code in z.lit.
func (z *Reader) readLens(n int) error {
	for i := 0; i < n; {
		if err := z.refillSome(7); err != nil {
			return err
		}
		e := z.lit[z.bits&127]
		if e&isInvalid != 0 {
			return ErrCorrupt
		}
		if uint(e&0xff) > z.nbits {
			return z.ended()
		}
		z.drop(uint(e & 0xff))
		symbol := uint8(e >> 16)
		if symbol < 16 {
			z.lens[i] = symbol
			i++
			continue
		}
		value, extra, base := uint8(0), uint(7), 11
		switch symbol {
		case 16:
			if i == 0 {
				return ErrCorrupt
			}
			value, extra, base = z.lens[i-1], 2, 3
		case 17:
			extra, base = 3, 3
		}
		m, err := z.take(extra)
		if err != nil {
			return err
		}
		count := base + int(m)
		if i+count > n {
			return ErrCorrupt
		}
		for range count {
			z.lens[i] = value
			i++
		}
	}
	return nil
}

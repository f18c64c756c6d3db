package inflate

import "encoding/binary"

// refillSome is refill near the end of the input, where the last code may be shorter
// than n bits: it fails only if there is no bit at all.
func (z *Reader) refillSome(n uint) error {
	if err := z.refill(n); err != nil && z.nbits == 0 {
		return err
	}
	return nil
}

// codes unpacks a block of codes until it ends or there is no more room.
func (z *Reader) codes() error {
	for z.op < outSize-slack {
		z.more(fastIn)
		end, err := z.fast()
		if err != nil {
			return err
		}
		if !end && z.op < outSize-slack {
			// Little input is left in the buffer, or altogether.
			end, err = z.slow()
			if err != nil {
				return err
			}
		}
		if end {
			z.state = atBlock
			return nil
		}
	}
	return nil
}

// fast unpacks while there is plenty of input and room. It reports true at the end of
// the block. Fields are kept in variables, which stay in registers.
func (z *Reader) fast() (end bool, err error) {
	in, out := z.in[:z.ie], z.out
	ip, op, low := z.ip, z.op, z.low
	bits, nbits := z.bits, z.nbits
	inLimit, outLimit := z.ie-fastIn, outSize-slack
	lit, dist := &z.lit, &z.dist

	for ip <= inLimit && op < outLimit {
		bits |= binary.LittleEndian.Uint64(in[ip:]) << (nbits & 63)
		ip += int((63 - nbits) >> 3)
		nbits |= 56

		// Three literals take at most 33 of the 56 bits.
		e := lit[bits&(1<<litBits-1)]
		if e&isLiteral != 0 {
			bits >>= e & 63
			nbits -= uint(e & 0xff)
			out[op] = byte(e >> 16)
			op++
			e = lit[bits&(1<<litBits-1)]
			if e&isLiteral != 0 {
				bits >>= e & 63
				nbits -= uint(e & 0xff)
				out[op] = byte(e >> 16)
				op++
				e = lit[bits&(1<<litBits-1)]
				if e&isLiteral != 0 {
					bits >>= e & 63
					nbits -= uint(e & 0xff)
					out[op] = byte(e >> 16)
					op++
					continue
				}
			}
		}
		if e&isOther != 0 {
			if e&(isInvalid|isEnd) == 0 {
				bits >>= e & 63
				nbits -= uint(e & 0xff)
				i := uint(e>>16) + uint(bits)&(1<<(e>>8&15)-1)
				if i >= litEntries {
					err = ErrCorrupt
					break
				}
				e = lit[i]
			}
			if e&isLiteral != 0 {
				bits >>= e & 63
				nbits -= uint(e & 0xff)
				out[op] = byte(e >> 16)
				op++
				continue
			}
			if e&isOther != 0 {
				if e&isInvalid != 0 {
					err = ErrCorrupt
					break
				}
				bits >>= e & 63
				nbits -= uint(e & 0xff)
				end = true
				break
			}
		}
		// A length: its base, and the extra bits that stand above its code.
		length := int(e>>16) + int((bits&(1<<(e&63)-1))>>(e>>8&15))
		bits >>= e & 63
		nbits -= uint(e & 0xff)

		bits |= binary.LittleEndian.Uint64(in[ip:]) << (nbits & 63)
		ip += int((63 - nbits) >> 3)
		nbits |= 56
		e = dist[bits&(1<<distBits-1)]
		if e&isOther != 0 {
			if e&isInvalid != 0 {
				err = ErrCorrupt
				break
			}
			bits >>= e & 63
			nbits -= uint(e & 0xff)
			i := uint(e>>16) + uint(bits)&(1<<(e>>8&15)-1)
			if i >= distEntries {
				err = ErrCorrupt
				break
			}
			e = dist[i]
			if e&isOther != 0 {
				err = ErrCorrupt
				break
			}
		}
		distance := int(e>>16) + int((bits&(1<<(e&63)-1))>>(e>>8&15))
		bits >>= e & 63
		nbits -= uint(e & 0xff)
		if distance > op-low {
			err = ErrCorrupt
			break
		}
		op = match(out, op, distance, length)
	}
	z.ip, z.op, z.bits, z.nbits = ip, op, bits, nbits
	return end, err
}

// match copies length bytes from distance back to op and returns the new op. It may
// write up to seven bytes beyond that.
func match(out []byte, op, distance, length int) int {
	end, from := op+length, op-distance
	switch {
	case distance >= 8:
		if length > 32 && distance >= length {
			copy(out[op:end], out[from:])
			return end
		}
		for op < end {
			binary.LittleEndian.PutUint64(out[op:], binary.LittleEndian.Uint64(out[from:]))
			op += 8
			from += 8
		}
	case distance == 1:
		v := uint64(out[from]) * 0x0101010101010101
		for op < end {
			binary.LittleEndian.PutUint64(out[op:], v)
			op += 8
		}
	default:
		for op < end {
			out[op] = out[from]
			op++
			from++
		}
	}
	return end
}

// slow unpacks symbol by symbol until the fast loop can go on, and to the end of input.
func (z *Reader) slow() (end bool, err error) {
	// Bits above nbits may be those of bytes that were not taken yet; so near the end
	// they would pass for input.
	z.bits &= 1<<z.nbits - 1
	for z.op < outSize-slack {
		if z.more(fastIn); z.ie-z.ip >= fastIn && z.nbits <= 32 {
			return false, nil
		}
		e, err := z.symbol(z.lit[:], litBits, maxCode+5)
		if err != nil {
			return false, err
		}
		switch {
		case e&isLiteral != 0:
			z.drop(uint(e & 0xff))
			z.out[z.op] = byte(e >> 16)
			z.op++
			continue
		case e&isOther != 0: // the end: others are errors
			z.drop(uint(e & 0xff))
			return true, nil
		}
		length := z.value(e)
		if e, err = z.symbol(z.dist[:], distBits, maxCode+13); err != nil {
			return false, err
		}
		if e&(isOther|isLiteral) != 0 {
			return false, ErrCorrupt
		}
		distance := z.value(e)
		if distance > z.op-z.low {
			return false, ErrCorrupt
		}
		z.op = match(z.out, z.op, distance, length)
	}
	return false, nil
}

// symbol finds the entry of the next code, and makes sure that all its bits are there;
// the bits are left in place, but for those that led to a subtable.
func (z *Reader) symbol(table []uint32, width, most uint) (uint32, error) {
	short := z.refill(most) // near the end there may be fewer, which the code decides
	e := table[z.bits&(1<<width-1)]
	if e&isOther != 0 && e&(isInvalid|isEnd) == 0 {
		if uint(e&0xff) > z.nbits {
			return 0, short
		}
		z.drop(uint(e & 0xff))
		i := int(e>>16) + int(z.bits&(1<<(e>>8&15)-1))
		if i >= len(table) {
			return 0, ErrCorrupt
		}
		e = table[i]
	}
	if e&isOther != 0 && e&isInvalid != 0 {
		if short != nil {
			return 0, short
		}
		return 0, ErrCorrupt
	}
	if uint(e&0xff) > z.nbits {
		return 0, short
	}
	return e, nil
}

// value is a length or distance, whose bits are dropped.
func (z *Reader) value(e uint32) int {
	v := int(e>>16) + int((z.bits&(1<<(e&63)-1))>>(e>>8&15))
	z.drop(uint(e & 0xff))
	return v
}

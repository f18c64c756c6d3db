package feed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// samplePart is the part file of an ecosystem's sample.
func samplePart(tb testing.TB, ecosystem string, files []file) []byte {
	tb.Helper()
	var all []reduced
	for _, f := range files {
		r, err := reduce(f.data, ecosystem)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, r)
	}
	data, err := writePart(all)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// readAll returns the records of a part, one after the other, and how many they are.
func readAll(data []byte) (all []byte, n int, err error) {
	p := &partFile{r: bytes.NewReader(data), size: int64(len(data))}
	idx, err := p.index()
	if err != nil {
		return nil, 0, err
	}
	for i := range idx.blocks {
		b, err := p.readBlock(idx, i)
		if err != nil {
			return nil, n, err
		}
		for r := range b.ends {
			all = append(all, b.record(r)...)
			n++
		}
	}
	return all, n, nil
}

func TestPartDamaged(t *testing.T) {
	files := records(t, "npm")[:3]
	good := samplePart(t, "npm", files)
	want, n, err := readAll(good)
	if n != len(files) || err != nil {
		t.Fatalf("%d records, %v; want %d", n, err, len(files))
	}
	for i := range good {
		for _, data := range [][]byte{good[:i], flip(good, i)} {
			got, _, err := readAll(data)
			if err == nil && !bytes.Equal(got, want) {
				t.Fatalf("byte %d of %d damaged: other records are read without an error", i, len(good))
			}
			if err != nil && !errors.Is(err, errPart) {
				t.Fatalf("byte %d of %d damaged: %v; want %v", i, len(good), err, errPart)
			}
		}
	}
}

func flip(data []byte, at int) []byte {
	out := slices.Clone(data)
	out[at] ^= 0x10
	return out
}

func FuzzPart(f *testing.F) {
	f.Add([]byte(partMagic + indexMagic))
	f.Add(samplePart(f, "npm", []file{{"", []byte(`{"id":"X-1","affected":[{"package":{"ecosystem":"npm","name":"a"},"versions":["1"]}]}`)}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		raw, n, err := readAll(data)
		if err == nil && bytes.Count(raw, recordEnd) != n {
			t.Errorf("%d records where %d were read", bytes.Count(raw, recordEnd), n)
		}
	})
}

// FuzzIndex goes past the checksum that FuzzPart seldom gets through.
func FuzzIndex(f *testing.F) {
	data := samplePart(f, "npm", []file{
		{"", []byte(`{"id":"X-1","affected":[{"package":{"ecosystem":"npm","name":"ab"},"versions":["1"]}]}`)},
		{"", []byte(`{"id":"X-2","affected":[{"package":{"ecosystem":"npm","name":"ac"},"versions":["1"]}]}`)},
	})
	packed := int(binary.LittleEndian.Uint32(data[len(data)-trailerLen:]))
	dec, err := zstd.NewReader(nil)
	if err != nil {
		f.Fatal(err)
	}
	at := len(data) - trailerLen - packed
	plain, err := dec.DecodeAll(data[at:at+packed], nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain, int64(at))
	f.Fuzz(func(t *testing.T, plain []byte, end int64) {
		x, err := decodeIndex(plain, end)
		if err != nil {
			return
		}
		for _, table := range x.ecosystems {
			for _, name := range table.names {
				for _, n := range table.find(name) {
					b := x.blocks[x.blockOf(int(n))]
					if int(n) < b.first || int(n) >= b.first+b.n {
						t.Fatalf("record %d is not in block %+v", n, b)
					}
				}
			}
		}
	})
}

func FuzzStringsOf(f *testing.F) {
	f.Add([]byte(`{"name": "a\"b", "package":{"name":"c"}}`))
	f.Add([]byte(`{"name":"`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		n := 0
		stringsOf(raw, keyName, func([]byte) { n++ })
		if n > bytes.Count(raw, keyName) {
			t.Errorf("%d strings after %d keys", n, bytes.Count(raw, keyName))
		}
	})
}

package inflate

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	kgzip "github.com/klauspost/compress/gzip"
)

// contents are texts of the kinds that the decoder has different ways for.
func contents() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 300_000)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	few := make([]byte, 500_000)
	for i := range few {
		few[i] = "abcd"[r.IntN(4)]
	}
	var words bytes.Buffer
	for words.Len() < 1_000_000 {
		fmt.Fprintf(&words, "word%d ", r.IntN(5000)*r.IntN(50))
	}
	far := append(bytes.Clone(random[:window]), random[:window]...) // matches from as far back as can be
	skewed := make([]byte, 400_000)                                 // long codes for rare bytes
	for i := range skewed {
		skewed[i] = byte(min(255, int(r.ExpFloat64()*6)))
	}
	return map[string][]byte{
		"empty": {}, "one byte": {'x'}, "zeros": make([]byte, 1_000_000), "random": random, "few symbols": few,
		"words": words.Bytes(), "far": far, "skewed": skewed, "period 3": bytes.Repeat([]byte("abc"), 100_000),
		"period 9": bytes.Repeat([]byte("abcdefghi"), 50_000),
	}
}

func pack(t testing.TB, content []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func packFast(t testing.TB, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := kgzip.NewWriter(&b)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpacksWhatWasPacked(t *testing.T) {
	for name, content := range contents() {
		for _, level := range []int{gzip.NoCompression, gzip.BestSpeed, gzip.DefaultCompression, gzip.BestCompression, gzip.HuffmanOnly, 99} {
			var packed []byte
			if level == 99 {
				packed = packFast(t, content)
			} else {
				packed = pack(t, content, level)
			}
			for how, r := range map[string]io.Reader{
				"whole": bytes.NewReader(packed), "byte by byte": iotest.OneByteReader(bytes.NewReader(packed)),
				"halves": iotest.HalfReader(bytes.NewReader(packed)), "data with EOF": iotest.DataErrReader(bytes.NewReader(packed)),
			} {
				got, err := io.ReadAll(NewReader(r))
				if err != nil || !bytes.Equal(got, content) {
					t.Errorf("%s, level %d, %s: %d bytes, %v; want %d", name, level, how, len(got), err, len(content))
				}
			}
		}
	}
}

func TestMembers(t *testing.T) {
	a, b := []byte(strings.Repeat("first ", 20_000)), []byte(strings.Repeat("second ", 20_000))
	both := append(pack(t, a, 6), pack(t, b, 1)...)
	got, err := io.ReadAll(NewReader(bytes.NewReader(both)))
	if err != nil || !bytes.Equal(got, append(a, b...)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	// A match must not reach into the member before.
	var raw bytes.Buffer
	w, err := flate.NewWriterDict(&raw, 6, a[:1000])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(a[:1000]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	evil := append(pack(t, a, 6), append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}, raw.Bytes()...)...)
	if _, err := io.ReadAll(NewReader(bytes.NewReader(append(evil, make([]byte, 8)...)))); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a match into the member before: %v, want ErrCorrupt", err)
	}
}

func TestHeaderFields(t *testing.T) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Name, w.Comment, w.Extra = "name", "comment", bytes.Repeat([]byte{7}, 300)
	if _, err := w.Write([]byte("content")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(NewReader(&b)); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestBrokenStreams(t *testing.T) {
	whole := pack(t, []byte(strings.Repeat("some text that repeats, some that does not: 1234567890. ", 1000)), 6)
	for n := range whole {
		if _, err := io.ReadAll(NewReader(bytes.NewReader(whole[:n]))); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut off at %d of %d: %v, want io.ErrUnexpectedEOF", n, len(whole), err)
		}
	}
	for i := range whole {
		if i >= 3 && i < 10 {
			continue // header fields that say nothing of the content
		}
		bad := bytes.Clone(whole)
		bad[i] ^= 0x55
		if _, err := io.ReadAll(NewReader(bytes.NewReader(bad))); err == nil {
			t.Fatalf("damage at byte %d was not noticed", i)
		}
	}
	for name, tc := range map[string]struct {
		in   []byte
		want error
	}{
		"no gzip":          {[]byte("this is no gzip stream at all"), ErrHeader},
		"nothing":          {nil, io.ErrUnexpectedEOF},
		"trailing garbage": {append(bytes.Clone(whole), "garbage that is long enough"...), ErrHeader},
	} {
		if _, err := io.ReadAll(NewReader(bytes.NewReader(tc.in))); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	broken := errors.New("disk")
	if _, err := io.ReadAll(NewReader(io.MultiReader(bytes.NewReader(whole[:100]), iotest.ErrReader(broken)))); !errors.Is(err, broken) {
		t.Errorf("a failing reader: %v", err)
	}
}

// FuzzReader holds the decoder to the standard library's: whatever one takes the other
// takes, with the same content.
func FuzzReader(f *testing.F) {
	for _, c := range contents() {
		f.Add(pack(f, c[:min(len(c), 3000)], 6))
		f.Add(pack(f, c[:min(len(c), 300)], 1))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := io.ReadAll(io.LimitReader(NewReader(bytes.NewReader(in)), 4<<20))
		var want []byte
		z, werr := gzip.NewReader(bytes.NewReader(in))
		if werr == nil {
			want, werr = io.ReadAll(io.LimitReader(z, 4<<20))
		}
		if errors.Is(werr, gzip.ErrHeader) && err == nil {
			return // long names and wrong checksums of headers, which are passed over here
		}
		if (err == nil) != (werr == nil) {
			t.Fatalf("error %v, the standard library's %v", err, werr)
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%d bytes differ from the standard library's %d", len(got), len(want))
		}
	})
}

// BenchmarkReader unpacks text and, where INFLATE names a gzip file, that file.
func BenchmarkReader(b *testing.B) {
	inputs := map[string][]byte{"words": pack(b, contents()["words"], 6)}
	if name := os.Getenv("INFLATE"); name != "" {
		raw, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		inputs["file"] = raw
	}
	buf := make([]byte, 256<<10)
	for name, in := range inputs {
		for how, open := range map[string]func() io.Reader{
			"inflate": func() io.Reader { return NewReader(bytes.NewReader(in)) },
			"klauspost": func() io.Reader {
				z, err := kgzip.NewReader(struct{ io.Reader }{bytes.NewReader(in)})
				if err != nil {
					b.Fatal(err)
				}
				return z
			},
		} {
			b.Run(name+"/"+how, func(b *testing.B) {
				for b.Loop() {
					n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{open()}, buf)
					if err != nil {
						b.Fatal(err)
					}
					b.SetBytes(n)
				}
			})
		}
	}
}

package extract

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"

	"pratique.dev/pratique/internal/inflate"
)

const (
	chunkSize = 256 << 10
	chunks    = 12 // 3 MiB between unpacking and reading
	// ratioFrom is how many bytes a layer may unpack to before their ratio counts.
	ratioFrom = 2 << 30
	// zstdWindow is what a decoder must hold at most; the zstd tool's own default.
	zstdWindow = 128 << 20
)

// source is the blob as the caller passes it in. It remembers why reading failed,
// which tells a failing reader from broken content, and counts.
type source struct {
	r       io.Reader
	stopped func() error // says why nobody wants the bytes any more
	n       int64
	err     error
}

func (s *source) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if err := s.stopped(); err != nil {
		s.err = err
		return 0, err
	}
	n, err := s.r.Read(p)
	s.n += int64(n)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// boundError says that a limit was reached.
type boundError struct{ what string }

func (e *boundError) Error() string { return e.what }

// chunk is a piece of the unpacked stream, or why there is no more.
type chunk struct {
	data   []byte
	packed int64 // bytes of the blob taken so far
	err    error
}

// stream is the unpacked content of a layer. Unpacking costs most of all and runs in
// a goroutine of its own, so that reading the archive runs beside it. The goroutine
// ends when the content does, or at close.
type stream struct {
	format string
	text   bool // see isText
	full   chan chunk
	free   chan []byte
	stop   chan struct{}
	done   chan struct{}
	limits Limits
	buf    []byte // the whole of the current chunk
	rest   []byte // what of it was not read yet
	total  int64
	err    error
}

// unpack starts to unpack src.
func unpack(src *source, limits Limits) *stream {
	st := &stream{
		full:   make(chan chunk, chunks),
		free:   make(chan []byte, chunks),
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
		limits: limits,
	}
	for range chunks {
		st.free <- nil // made when first used: most blobs are small
	}
	br := bufio.NewReaderSize(src, 64<<10)
	st.format, st.text = sniff(br), isText(br)
	go st.produce(src, br)
	return st
}

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// sniff tells the compression by the first bytes (RFC 1952 2.3.1, RFC 8878 3.1).
func sniff(br *bufio.Reader) string {
	head, _ := br.Peek(4)
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		return "gzip"
	case bytes.HasPrefix(head, zstdMagic):
		return "zstd"
	case len(head) == 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:], []byte{0x2a, 0x4d, 0x18}):
		return "zstd" // a skippable frame comes first
	}
	return "tar"
}

// isText says whether the content begins as text does. Of the compressions that some
// runtime unpacks only bzip2 begins with letters.
func isText(br *bufio.Reader) bool {
	head, _ := br.Peek(512)
	if bytes.HasPrefix(head, []byte("BZh")) {
		return false
	}
	for i := 0; i < len(head); {
		r, n := utf8.DecodeRune(head[i:])
		cut := i+utf8.UTFMax > 512 && !utf8.FullRune(head[i:])
		if r == utf8.RuneError && n == 1 && !cut || r == 0x7f || r < ' ' && r != '\t' && r != '\n' && r != '\r' && r != '\f' {
			return false
		}
		i += n
	}
	return true
}

// produce unpacks until the content ends, an error or close.
func (st *stream) produce(src *source, br *bufio.Reader) {
	defer close(st.done)
	defer close(st.full)
	defer func() {
		if p := recover(); p != nil {
			st.send(chunk{err: fmt.Errorf("%s decoder: %v", st.format, p)})
		}
	}()
	r, closeReader, err := st.decoder(br)
	if err != nil {
		st.send(chunk{err: err})
		return
	}
	defer closeReader()
	for {
		var buf []byte
		select {
		case buf = <-st.free:
		case <-st.stop:
			return
		}
		if buf == nil {
			buf = make([]byte, chunkSize)
		}
		n, err := fill(r, buf[:chunkSize])
		if !st.send(chunk{data: buf[:n], packed: src.n, err: err}) || err != nil {
			return
		}
	}
}

// decoder returns a reader of the unpacked bytes that gives io.EOF at a proper end only.
func (st *stream) decoder(br *bufio.Reader) (io.Reader, func(), error) {
	switch st.format {
	case "gzip":
		return inflate.NewReader(br), func() {}, nil
	case "zstd":
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return br, func() {}, nil
}

// fill reads until p is full or r ends, and returns r's own error: unlike
// io.ReadFull's it tells an end from a stream that broke off.
func fill(r io.Reader, p []byte) (n int, err error) {
	for idle := 0; n < len(p) && err == nil; {
		var m int
		m, err = r.Read(p[n:])
		n += m
		if m > 0 {
			idle = 0
		} else if idle++; idle > 100 && err == nil {
			err = io.ErrNoProgress
		}
	}
	return n, err
}

// send hands c over; it reports false if nobody wants it any more.
func (st *stream) send(c chunk) bool {
	select {
	case st.full <- c:
		return true
	case <-st.stop:
		return false
	}
}

// Read implements io.Reader.
func (st *stream) Read(p []byte) (int, error) {
	for len(st.rest) == 0 {
		if st.err != nil {
			return 0, st.err
		}
		st.next()
	}
	n := copy(p, st.rest)
	st.rest = st.rest[n:]
	return n, nil
}

// next takes the next chunk, gives the last one back, and holds to the limits.
func (st *stream) next() {
	if st.buf != nil {
		st.free <- st.buf[:chunkSize] // has room: each buffer came out of it
		st.buf = nil
	}
	c, ok := <-st.full
	if !ok {
		st.err = io.ErrUnexpectedEOF
		return
	}
	st.err = c.err
	if len(c.data) == 0 {
		return
	}
	st.buf, st.rest = c.data, c.data
	st.total += int64(len(c.data))
	switch {
	case st.total > st.limits.Unpacked:
		st.rest, st.err = nil, &boundError{fmt.Sprintf("the layer unpacks to more than %d bytes", st.limits.Unpacked)}
	case st.total > ratioFrom && st.total/st.limits.Ratio > c.packed:
		st.rest, st.err = nil, &boundError{fmt.Sprintf("the layer unpacks to more than %d times its size", st.limits.Ratio)}
	}
}

// drain reads what follows the archive, up to the end of the content. It reports whether anything but zeros was there.
func (st *stream) drain() (more bool, err error) {
	for {
		if !more && len(bytes.Trim(st.rest, "\x00")) > 0 {
			more = true
		}
		st.rest = nil
		if st.err == io.EOF {
			return more, nil
		}
		if st.err != nil {
			return more, st.err
		}
		st.next()
	}
}

// close ends the goroutine and waits for it.
func (st *stream) close() {
	close(st.stop)
	<-st.done
}

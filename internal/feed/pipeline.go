package feed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"runtime"
	"sync"
	"time"
)

// inOrder does work on each job, on as many goroutines as there are cores, and yields
// what comes of it in the order of the jobs. It stops at the first error, which it
// yields last; all goroutines have ended when it returns.
func inOrder[J, R any](ctx context.Context, jobs iter.Seq[J], work func(J) (R, error)) iter.Seq2[R, error] {
	type result struct {
		value R
		err   error
	}
	return func(yield func(R, error) bool) {
		var none R
		ctx, cancel := context.WithCancel(ctx)
		workers := runtime.GOMAXPROCS(0)
		queue := make(chan chan result, workers)
		free := make(chan struct{}, workers)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() {
			defer close(queue)
			for job := range jobs {
				select {
				case <-ctx.Done():
					return
				case free <- struct{}{}:
				}
				out := make(chan result, 1)
				wg.Go(func() {
					r, err := work(job)
					out <- result{r, err}
					<-free
				})
				select {
				case <-ctx.Done():
					return
				case queue <- out:
				}
			}
		})
		for out := range queue {
			r := <-out
			if err := ctx.Err(); err != nil {
				yield(none, err)
				return
			}
			if !yield(r.value, r.err) || r.err != nil {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(none, err)
		}
	}
}

// A batch is as many entries as are worth handing to another goroutine, and bounds what
// lies in memory at once.
const (
	batchEntries = 256
	batchBytes   = 1 << 20
)

// batches cuts the entries of a dump.
func (d *dump) batches() iter.Seq[[]entry] {
	return func(yield func([]entry) bool) {
		from, size := 0, int64(0)
		for i, e := range d.entries {
			if i > from && (i-from >= batchEntries || size+e.size > batchBytes) {
				if !yield(d.entries[from:i]) {
					return
				}
				from, size = i, 0
			}
			size += e.size
		}
		if from < len(d.entries) {
			yield(d.entries[from:])
		}
	}
}

// read returns the bytes of a record, at most maxRecord of them. They are valid until
// the next use of buf.
func (e entry) read(buf *bytes.Buffer) ([]byte, error) {
	r, err := e.open()
	if err != nil {
		return nil, err
	}
	buf.Reset()
	buf.Grow(int(min(max(e.size, 0), maxRecord)) + bytes.MinRead)
	_, err = buf.ReadFrom(io.LimitReader(r, maxRecord+1))
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err == nil && buf.Len() > maxRecord {
		err = fmt.Errorf("more than %d bytes", maxRecord)
	}
	return buf.Bytes(), err
}

var (
	keyName      = []byte(`"name"`)
	keyEcosystem = []byte(`"ecosystem"`)
	keyModified  = []byte(`"modified"`)
)

// stringsOf calls f with each string that follows the key, wherever the key stands, so
// that it may say too much of a record but not too little. Within a string of JSON the
// key's quotes would be escaped, so that it is not found there. f must not keep its argument.
func stringsOf(raw, key []byte, f func([]byte)) {
	for {
		i := bytes.Index(raw, key)
		if i < 0 {
			return
		}
		raw = bytes.TrimLeft(raw[i+len(key):], " \t\r\n:")
		if len(raw) == 0 || raw[0] != '"' {
			continue
		}
		end := bytes.IndexByte(raw[1:], '"')
		if end < 0 {
			return
		}
		s := raw[1 : 1+end]
		if bytes.IndexByte(s, '\\') < 0 {
			f(s)
		} else {
			var text string
			if json.NewDecoder(bytes.NewReader(raw)).Decode(&text) == nil {
				f([]byte(text))
			}
		}
		raw = raw[1+end:]
	}
}

// appendFold makes names equal that some ecosystem holds to be equal (PEP 503, NuGet),
// and perhaps more: it is for leaving out early what cannot match.
func appendFold(dst, name []byte) []byte {
	for _, c := range name {
		switch {
		case c == '-' || c == '_' || c == '.':
		case 'A' <= c && c <= 'Z':
			dst = append(dst, c+'a'-'A')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// modifiedAt returns the newest date of change in a record that is not after now.
func modifiedAt(raw []byte, now time.Time) (at time.Time) {
	stringsOf(raw, keyModified, func(s []byte) {
		if t, err := time.Parse(time.RFC3339, string(s)); err == nil {
			at = newest(at, t, now)
		}
	})
	return at
}

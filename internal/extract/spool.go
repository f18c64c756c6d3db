package extract

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// tempError says that the temporary folder failed: not the content's fault.
type tempError struct{ err error }

func (e *tempError) Error() string { return "temporary file: " + e.err.Error() }
func (e *tempError) Unwrap() error { return e.err }

// spool holds the bytes of one file for random access, in memory or on disk.
type spool struct {
	io.ReaderAt
	size int64
	file *os.File
}

// newSpool takes size bytes from r. Up to limits.Memory they go to memory, into buf if
// it is large enough; beyond, to a temporary file that has no name from the start, so
// that nothing can leave it behind. More than limits.Spool is a boundError.
func (s *Set) newSpool(r io.Reader, size int64, buf *[]byte) (*spool, error) {
	if size > s.limits.Spool {
		return nil, &boundError{fmt.Sprintf("%d bytes are more than the %d that are looked into", size, s.limits.Spool)}
	}
	if size <= s.limits.Memory {
		if int64(cap(*buf)) < size {
			*buf = make([]byte, size, max(size, min(2*size, s.limits.Memory)))
		}
		b := (*buf)[:size]
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		return &spool{ReaderAt: bytes.NewReader(b), size: size}, nil
	}
	f, err := os.CreateTemp(s.temp, "pratique-extract-*")
	if err != nil {
		return nil, &tempError{err}
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, &tempError{err}
	}
	w := &tempWriter{f: f}
	if _, err := io.CopyN(w, r, size); err != nil {
		_ = f.Close() // the file is gone with it
		if w.err != nil {
			return nil, &tempError{w.err}
		}
		return nil, err
	}
	return &spool{ReaderAt: f, size: size, file: f}, nil
}

func (s *spool) close() {
	if s != nil && s.file != nil {
		_ = s.file.Close() // nobody wants what was in it
	}
}

// tempWriter remembers that writing failed, which io.Copy does not tell from a failing reader.
type tempWriter struct {
	f   *os.File
	err error
}

func (w *tempWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

// ReadAll returns the whole content, if it has at most limit bytes.
func (f *File) ReadAll(limit int64) ([]byte, error) {
	if f.Size > limit {
		return nil, &boundError{fmt.Sprintf("%d bytes are more than the %d that are read of such a file", f.Size, limit)}
	}
	return io.ReadAll(io.LimitReader(f.Reader, limit))
}

// Random gives random access to the content; it is held until the extractor returns.
func (f *File) Random() (io.ReaderAt, error) {
	if f.at != nil {
		return f.at, nil
	}
	if f.spool == nil {
		sp, err := f.s.set.newSpool(f.Reader, f.Size, &f.s.buf)
		if err != nil {
			return nil, err
		}
		f.spool = sp
	}
	return f.spool, nil
}

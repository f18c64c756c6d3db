package extract

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"pratique.dev/pratique/internal/inventory"
)

// lineLimit is how much of a line is kept. No field that is read is longer; the
// lists of dependencies and conffiles that are, are not read.
const lineLimit = 64 << 10

// lines reads a text line by line, of whatever length, in bounded memory.
type lines struct {
	r    *bufio.Reader
	line []byte // without its end, cut off at lineLimit
	no   int
	cut  bool // the line was longer
	err  error
}

func newLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, lineLimit)} }

// next goes to the next line; it reports false at the end or an error.
func (l *lines) next() bool {
	line, err := l.r.ReadSlice('\n')
	l.cut = false
	for err == bufio.ErrBufferFull {
		if !l.cut {
			l.line = append(l.line[:0], line...)
			l.cut = true
		}
		_, err = l.r.ReadSlice('\n')
	}
	if err != nil && err != io.EOF {
		l.err = err
		return false
	}
	if !l.cut {
		if len(line) == 0 {
			return false // the end
		}
		l.line = line
	}
	l.line = bytes.TrimSuffix(bytes.TrimSuffix(l.line, []byte("\n")), []byte("\r"))
	l.no++
	return true
}

// faults collects what is wrong with a text, of which the first place is told.
type faults struct {
	what  string
	first string
	count int
}

func (f *faults) at(line int, reason string) {
	if f.count == 0 {
		f.first = fmt.Sprintf("line %d: %s", line, reason)
	}
	f.count++
}

// err says what is wrong, or nil.
func (f *faults) err() error {
	switch f.count {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("corrupt %s at %s", f.what, f.first)
	}
	return fmt.Errorf("corrupt %s at %s (and %d more)", f.what, f.first, f.count-1)
}

// checkSize refuses a database that is larger than what is read line by line.
func checkSize(f *File) error {
	if limit := f.limits().Database; f.Size > limit {
		return &boundError{fmt.Sprintf("%d bytes are more than the %d that are read of a package database", f.Size, limit)}
	}
	return nil
}

func (f *File) limits() Limits { return f.s.set.limits }

// named makes a language's package, whose binary has the name and version of its key.
func named(kind, ecosystem, name, version string) inventory.Package {
	return inventory.Package{
		Key:  inventory.Key{Ecosystem: ecosystem, Name: name, Version: version},
		Type: kind, Binary: name, BinaryVersion: version,
	}
}

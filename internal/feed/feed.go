// Package feed brings advisories in: from the snapshot that is embedded in the program,
// and from the dumps that an operator hands over (the layout of OSV's own exports, see
// https://google.github.io/osv.dev/data/). It writes them to the catalog, and answers
// the lookups of a scan that has no catalog. What a record means is vuln's to say
// (vuln.ParseOSV), how it is kept is catalog's.
//
// Three readers share one road: records are read and parsed in parallel, on as many
// cores as there are, and handed on in the order of their file, so that a fault is
// always reported at the same record.
package feed

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ossf/osv-schema/bindings/go/osvconstants"
)

// Source is the catalog.Feed.Source of all that is loaded by ecosystem, embedded or
// handed over: the newer takes the older one's place.
const Source = "osv"

// Additions is the catalog.Feed.Source of records that were handed over without saying
// that they are all there is of an ecosystem: they take no other record's place, and
// do not make an ecosystem covered.
const Additions = "additions"

// Bounds of what is read from outside. A dump of all that OSV knew of the largest
// ecosystem in 2026 stays below a tenth of each.
const (
	maxRecord  = 16 << 20 // bytes of one record
	maxEntries = 4 << 20  // records of one file
	maxTotal   = 32 << 30 // unpacked bytes of one file
	maxInner   = 4 << 30  // bytes of zips inside a zip, which are spooled to temporary files
	maxParts   = 200      // files of one import, which are open at once
)

// ErrNoAdvisories says that what was named holds nothing that could be read as advisories.
var ErrNoAdvisories = errors.New("no advisories found")

// Event tells how far a load has come.
type Event struct {
	Part  string // what is being read: "Debian", "Debian/all.zip"
	Done  int    // records so far
	Total int    // records in all, 0 while that is not known
	Bytes int64  // unpacked bytes so far
	Over  bool   // the last event of this part
}

// Progress takes events. It is called from one goroutine at a time, some hundred times
// for a whole load; a nil Progress is allowed everywhere.
type Progress func(Event)

func (p Progress) tell(e Event) {
	if p != nil {
		p(e)
	}
}

// RecordError is a record that cannot be used, and what to do about it.
type RecordError struct {
	File   string // "Debian/all.zip"
	Record string // "DSA-1-1.json"
	Err    error
}

// Error names the record as file!record.
func (e *RecordError) Error() string {
	return fmt.Sprintf("%s!%s: %v: take the record out, or fetch the file again", e.File, e.Record, e.Err)
}

// Unwrap returns what is wrong with the record.
func (e *RecordError) Unwrap() error { return e.Err }

// FileError is a file that could not be read or stored as a whole.
type FileError struct {
	File string
	Err  error
}

// Error names the file, once.
func (e *FileError) Error() string {
	if r := (*RecordError)(nil); errors.As(e.Err, &r) && r.File == e.File {
		return e.Err.Error()
	}
	return e.File + ": " + e.Err.Error()
}

// Unwrap returns what is wrong with the file.
func (e *FileError) Unwrap() error { return e.Err }

// base is the name of an ecosystem without its release: "Debian" of "Debian:12".
func base(ecosystem string) string {
	name, _, _ := strings.Cut(ecosystem, ":")
	return name
}

// knownEcosystem says whether OSV has an ecosystem of that name (OSV schema,
// "affected[].package.ecosystem").
func knownEcosystem(name string) bool { return ecosystemNames[osvconstants.Ecosystem(name)] }

// newest returns the later of a and b, unless that lies after now: some records are
// dated in the future.
func newest(a, b, now time.Time) time.Time {
	if b.After(a) && !b.After(now) {
		return b
	}
	return a
}

package feed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/vuln"
)

// Dumps holds what a folder of dumps says of the packages that were asked for.
type Dumps struct {
	parts []Part
	want  map[packageName]bool
	found map[packageName][]*vuln.Advisory
}

// packageName is a package as advisories name it.
type packageName struct{ ecosystem, name string }

// search is what OpenDumps looks for.
type search struct {
	want   map[packageName]bool
	folded map[string]bool // names by appendFold
	bases  map[string]bool // ecosystems without releases
	now    time.Time
}

// OpenDumps reads the dumps at path, which may be whatever Import takes, and keeps the
// advisories for the packages in want, whose versions do not matter. A Key without a
// name asks for nothing but its ecosystem's coverage. Dumps of other ecosystems are not
// opened. All that is opened must be sound: a malformed record, a damaged zip or a
// folder of an unknown name is an error, for what it hides may be the advisory that counts.
func OpenDumps(ctx context.Context, path string, want []inventory.Key, progress Progress) (*Dumps, error) {
	s := newSearch(want)
	dumps, _, err := openDumps(ctx, path)
	if err != nil {
		return nil, err
	}
	d := &Dumps{want: s.want, found: map[packageName][]*vuln.Advisory{}}
	var errs []error
	for _, x := range dumps {
		if err := d.take(ctx, x, s, progress); err != nil {
			errs = append(errs, &FileError{x.name, err})
		}
		if ctx.Err() != nil {
			break
		}
	}
	errs = append(errs, closeAll(dumps))
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("read advisories in %s: %w", path, err)
	}
	return d, nil
}

func newSearch(want []inventory.Key) *search {
	s := &search{want: map[packageName]bool{}, folded: map[string]bool{}, bases: map[string]bool{}, now: time.Now()}
	for _, k := range want {
		for _, e := range vuln.LookupEcosystems(k) {
			s.want[packageName{e, k.Name}] = true
			s.bases[base(e)] = true
		}
		if k.Name != "" {
			s.folded[string(appendFold(nil, []byte(k.Name)))] = true
		}
	}
	return s
}

// take reads one dump.
func (d *Dumps) take(ctx context.Context, x *dump, s *search, progress Progress) error {
	if x.err != nil {
		return x.err
	}
	if x.ecosystem == "" {
		if err := x.infer(ctx); err != nil {
			return err
		}
	}
	if x.ecosystem != "" && !s.bases[x.ecosystem] {
		return nil
	}
	p := Part{Kind: kindOSV, Ecosystem: x.ecosystem, File: x.name, Records: len(x.entries), Covers: map[string]vuln.Coverage{}}
	done, size := 0, int64(0)
	for r, err := range inOrder(ctx, x.batches(), func(b []entry) (*catch, error) { return s.filter(x, b) }) {
		if err != nil {
			return err
		}
		for e := range r.ecosystems {
			if x.ecosystem != "" && base(e) == x.ecosystem {
				p.Covers[e] = vuln.Coverage{}
			}
		}
		for _, a := range r.advisories {
			d.add(a, s)
		}
		p.Newest = newest(p.Newest, r.newest, s.now)
		done, size = done+r.records, size+r.bytes
		progress.tell(Event{Part: x.name, Done: done, Total: len(x.entries), Bytes: size})
	}
	p.AsOf = p.Newest
	for e := range p.Covers {
		p.Covers[e] = vuln.Coverage{AsOf: p.AsOf}
	}
	d.parts = append(d.parts, p)
	progress.tell(Event{Part: x.name, Done: done, Total: len(x.entries), Bytes: size, Over: true})
	return nil
}

// add files an advisory under each wanted package that it names.
func (d *Dumps) add(a *vuln.Advisory, s *search) {
	var before []packageName
	for _, f := range a.Affected {
		n := packageName{f.Ecosystem, f.Name}
		if s.want[n] && !slices.Contains(before, n) {
			d.found[n] = append(d.found[n], a)
			before = append(before, n)
		}
	}
}

// catch is what one batch brings.
type catch struct {
	advisories []*vuln.Advisory
	ecosystems map[string]bool
	newest     time.Time
	records    int
	bytes      int64
}

// buffers keeps the buffers that records are read to.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// filter reads a batch and parses the records that may name a wanted package.
func (s *search) filter(d *dump, batch []entry) (*catch, error) {
	c := &catch{ecosystems: map[string]bool{}, records: len(batch)}
	buf := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buf)
	var folded []byte
	for _, e := range batch {
		raw, err := e.read(buf)
		if err != nil {
			return nil, &RecordError{d.name, e.name, err}
		}
		c.bytes += int64(len(raw))
		hit := false
		stringsOf(raw, keyName, func(name []byte) {
			if !hit {
				folded = appendFold(folded[:0], name)
				hit = s.folded[string(folded)]
			}
		})
		stringsOf(raw, keyEcosystem, func(e []byte) {
			if !c.ecosystems[string(e)] {
				c.ecosystems[string(e)] = true
			}
		})
		c.newest = newest(c.newest, modifiedAt(raw, s.now), s.now)
		if !hit {
			if !json.Valid(raw) {
				_, err := d.parse(raw)
				return nil, &RecordError{d.name, e.name, errors.Join(errNotJSON, err)}
			}
			continue
		}
		a, err := d.parse(raw)
		if err != nil {
			return nil, &RecordError{d.name, e.name, err}
		}
		a.Affected = slices.DeleteFunc(a.Affected, func(f vuln.Affected) bool { return !s.want[packageName{f.Ecosystem, f.Name}] })
		if len(a.Affected) > 0 {
			c.advisories = append(c.advisories, &a)
		}
	}
	return c, nil
}

var errNotJSON = errors.New("no JSON")

// AsOf is when the newest record was changed, of all dumps that were opened.
func (d *Dumps) AsOf() time.Time { return latest(d.parts) }

// Parts lists the dumps that were opened.
func (d *Dumps) Parts() []Part { return d.parts }

// Covers says whether a dump of this ecosystem was opened and names it: only then does
// no advisory mean that none is known. It answers for the ecosystems that were wanted.
func (d *Dumps) Covers(ecosystem string) bool {
	_, ok := d.Covered(ecosystem)
	return ok
}

// Covered is Covers with the date of the newest record of that dump.
func (d *Dumps) Covered(ecosystem string) (vuln.Coverage, bool) { return covered(d.parts, ecosystem) }

// Lookup returns the advisories that name a package; their Affected holds only what is
// said of that package. Asking for what OpenDumps was not told to look for is an error.
func (d *Dumps) Lookup(key inventory.Key) ([]vuln.Advisory, error) {
	ecosystems := vuln.LookupEcosystems(key)
	var hits []*vuln.Advisory
	for _, e := range ecosystems {
		n := packageName{e, key.Name}
		if !d.want[n] {
			return nil, fmt.Errorf("look up %s %s: the dumps were not searched for it", e, key.Name)
		}
		for _, a := range d.found[n] {
			if !slices.Contains(hits, a) {
				hits = append(hits, a)
			}
		}
	}
	var out []vuln.Advisory
	for _, a := range hits {
		c := *a
		c.Affected = nil
		for _, f := range a.Affected {
			if f.Name == key.Name && slices.Contains(ecosystems, f.Ecosystem) {
				c.Affected = append(c.Affected, f)
			}
		}
		out = append(out, c)
	}
	return out, nil
}

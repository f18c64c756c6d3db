package feed

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/vuln"
)

// Result is what became of one file.
type Result struct {
	File      string    `json:"file"`                // "Debian/all.zip"
	Ecosystem string    `json:"ecosystem,omitempty"` // "Debian"; "" for additions of several, and for lists
	Records   int       `json:"records"`
	AsOf      time.Time `json:"asOf,omitzero"` // when the newest record was changed; zero if Same
	// Same says that the catalog held this very file already, and nothing was done.
	Same      bool  `json:"same,omitempty"`
	Added     int   `json:"added"`
	Changed   int   `json:"changed"`
	Removed   int   `json:"removed"`
	Unchanged int   `json:"unchanged"`
	Images    int   `json:"images"` // images that are judged anew because of it
	Err       error `json:"-"`      // nil if all of it is in; else nothing of it is
}

// Fingerprints begin with where a feed came from, so that a start of the program can tell what
// an operator brought in. The number rises when records are read differently.
const (
	fromFile     = "file:1:"
	fromSnapshot = "snapshot:1:"
)

// Import reads the advisories at path into the catalog, file by file; each file goes in
// whole or not at all. A path is a folder with <Ecosystem>/all.zip, or with .json files
// in folders of that kind; or a zip of either; or a single all.zip or .json file. CISA's
// and FIRST's lists are taken too, under the names they are published by.
//
// A dump that says whose it is replaces what was known of that ecosystem, and only what
// it says of that ecosystem counts: an all.zip in the ecosystem's folder, .json files in
// such a folder without all.zip (a dump unpacked), or an all.zip elsewhere whose records
// all name one ecosystem. Other files add their records, and cover nothing.
//
// One file's fault does not keep the others out. The error joins what is wrong with each
// (FileError, RecordError); the results tell of every file. Import may be broken off and
// repeated at any time: a file that is in already is recognised and left alone.
func Import(ctx context.Context, cat *catalog.Catalog, path string, progress Progress, now time.Time) ([]Result, error) {
	dumps, lists, err := openDumps(ctx, path)
	if err != nil {
		return nil, err
	}
	var results []Result
	var errs []error
	keep := func(r Result, err error) {
		if err != nil {
			r.Err = &FileError{r.File, err}
			errs = append(errs, r.Err)
		}
		results = append(results, r)
	}
	from := map[string]string{} // the file that is an ecosystem's dump
	for _, d := range dumps {
		if ctx.Err() != nil {
			break
		}
		if d.err == nil && d.ecosystem == "" {
			d.err = d.infer(ctx)
		}
		if other := from[d.ecosystem]; d.err == nil && other != "" {
			d.err = fmt.Errorf("%s is the dump of %s too: import the one that holds; the other would be replaced by it", other, d.ecosystem)
		}
		r, err := importDump(ctx, cat, d, progress, now)
		keep(r, err)
		if d.ecosystem != "" {
			from[d.ecosystem] = d.name
		}
	}
	for _, name := range lists {
		if ctx.Err() == nil {
			keep(importList(ctx, cat, name, progress))
		}
	}
	errs = append(errs, closeAll(dumps), ctx.Err())
	return results, errors.Join(errs...)
}

func importDump(ctx context.Context, cat *catalog.Catalog, d *dump, progress Progress, now time.Time) (Result, error) {
	res := Result{File: d.name, Ecosystem: d.ecosystem, Records: len(d.entries)}
	if d.err != nil {
		return res, d.err
	}
	sum, err := d.hash()
	if err != nil {
		return res, err
	}
	f := catalog.Feed{Source: Source, Ecosystem: d.ecosystem, File: d.name, Replace: true, Fingerprint: fromFile + sum}
	if d.ecosystem == "" {
		f.Source, f.Replace = Additions, false
	}
	have, err := cat.FeedFingerprint(ctx, f.Source, f.Ecosystem)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return res, fmt.Errorf("ask the catalog for %s: %w", d.ecosystem, err)
	}
	if res.Same = have == f.Fingerprint; res.Same {
		res.Unchanged = len(d.entries)
		return res, nil
	}
	if f.AsOf, err = d.survey(ctx, now); err != nil {
		return res, err
	}
	res.AsOf = f.AsOf
	loaded, err := cat.PutAdvisories(ctx, f, d.advisories(ctx, progress))
	if r := (*RecordError)(nil); errors.As(err, &r) {
		return res, fmt.Errorf("%w; nothing of the file was stored", r)
	}
	if err != nil {
		return res, err
	}
	res.Added, res.Changed, res.Removed, res.Unchanged = loaded.Added, loaded.Changed, loaded.Removed, loaded.Unchanged
	res.Images = loaded.Images
	return res, nil
}

// parsed is what one batch of records holds.
type parsed struct {
	advisories []vuln.Advisory
	bytes      int64
}

// advisories parses the records of a dump in parallel and yields them in order.
func (d *dump) advisories(ctx context.Context, progress Progress) iter.Seq2[vuln.Advisory, error] {
	work := func(batch []entry) (parsed, error) {
		var p parsed
		buf := buffers.Get().(*bytes.Buffer)
		defer buffers.Put(buf)
		for _, e := range batch {
			raw, err := e.read(buf)
			if err != nil {
				return p, &RecordError{d.name, e.name, err}
			}
			a, err := d.parse(raw)
			if err != nil {
				return p, &RecordError{d.name, e.name, err}
			}
			p.advisories, p.bytes = append(p.advisories, a), p.bytes+int64(len(raw))
		}
		return p, nil
	}
	return flatten(inOrder(ctx, d.batches(), work), Event{Part: d.name, Total: len(d.entries)}, progress)
}

// flatten yields the advisories of batches and tells of the progress.
func flatten(batches iter.Seq2[parsed, error], e Event, progress Progress) iter.Seq2[vuln.Advisory, error] {
	return func(yield func(vuln.Advisory, error) bool) {
		for p, err := range batches {
			if err != nil {
				yield(vuln.Advisory{}, err)
				return
			}
			for _, a := range p.advisories {
				if !yield(a, nil) {
					return
				}
			}
			e.Done, e.Bytes = e.Done+len(p.advisories), e.Bytes+p.bytes
			progress.tell(e)
		}
		e.Over = true
		progress.tell(e)
	}
}

// parse reads a record of this dump, and leaves out what it says of other ecosystems: they
// have dumps of their own, which this one must not be taken for.
func (d *dump) parse(raw []byte) (vuln.Advisory, error) {
	a, err := vuln.ParseOSV(raw, Source)
	if err != nil || d.ecosystem == "" || len(a.Affected) == 0 {
		return a, err
	}
	var others []string
	a.Affected = slices.DeleteFunc(a.Affected, func(f vuln.Affected) bool {
		foreign := base(f.Ecosystem) != d.ecosystem
		if foreign {
			others = append(others, base(f.Ecosystem))
		}
		return foreign
	})
	if len(a.Affected) == 0 {
		slices.Sort(others)
		return a, fmt.Errorf("field affected[].package.ecosystem: expected %s, as the folder is named, found only %s",
			d.ecosystem, strings.Join(slices.Compact(others), ", "))
	}
	return a, nil
}

// survey finds when the newest record was changed, which the catalog must know before it
// is given the first.
func (d *dump) survey(ctx context.Context, now time.Time) (time.Time, error) {
	var at time.Time
	work := func(batch []entry) (time.Time, error) {
		var at time.Time
		err := d.each(batch, func(raw []byte) { at = newest(at, modifiedAt(raw, now), now) })
		return at, err
	}
	for t, err := range inOrder(ctx, d.batches(), work) {
		if err != nil {
			return time.Time{}, err
		}
		at = newest(at, t, now)
	}
	return at, nil
}

// infer takes an all.zip outside an ecosystem's folder for the dump of the one ecosystem
// that all its records name, if there is one.
func (d *dump) infer(ctx context.Context) error {
	if filepath.Base(d.name) != wholeDump {
		return nil
	}
	work := func(batch []entry) (map[string]int, error) {
		count := map[string]int{}
		err := d.each(batch, func(raw []byte) {
			in := map[string]bool{}
			stringsOf(raw, keyEcosystem, func(e []byte) { in[base(string(e))] = true })
			for e := range in {
				count[e]++
			}
		})
		return count, err
	}
	total := map[string]int{}
	for count, err := range inOrder(ctx, d.batches(), work) {
		if err != nil {
			return err
		}
		for e, n := range count {
			total[e] += n
		}
	}
	var all []string
	for e, n := range total {
		if n == len(d.entries) && knownEcosystem(e) {
			all = append(all, e)
		}
	}
	if len(all) == 1 {
		d.ecosystem = all[0]
	}
	return nil
}

// each reads the records of a batch one after the other.
func (d *dump) each(batch []entry, f func(raw []byte)) error {
	buf := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buf)
	for _, e := range batch {
		raw, err := e.read(buf)
		if err != nil {
			return &RecordError{d.name, e.name, err}
		}
		f(raw)
	}
	return nil
}

// importList reads CISA's or FIRST's list. The catalog's own is replaced, be it newer.
func importList(ctx context.Context, cat *catalog.Catalog, name string, progress Progress) (Result, error) {
	res := Result{File: filepath.Base(name)}
	f, err := os.Open(name)
	if err != nil {
		return res, err
	}
	defer f.Close()
	l := &lists{}
	if res.File == kevFile {
		if l.exploited, res.AsOf, err = ParseKEV(f); err != nil {
			return res, err
		}
		res.Records = len(l.exploited)
		err = cat.PutKEV(ctx, res.AsOf, l.ids())
	} else {
		var plain io.Reader
		if plain, err = gzip.NewReader(f); err != nil {
			return res, fmt.Errorf("no gzip, as FIRST publishes it: %w", err)
		}
		if l.cves, l.scores, res.AsOf, err = ParseEPSS(plain); err != nil {
			return res, err
		}
		res.Records = len(l.cves)
		err = cat.PutEPSS(ctx, res.AsOf, l.all(ctx))
	}
	if err == nil {
		progress.tell(Event{Part: res.File, Done: res.Records, Total: res.Records, Over: true})
	}
	return res, err
}

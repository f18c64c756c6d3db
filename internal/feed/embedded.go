package feed

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/vuln"
)

// embeddedFile is the catalog.Feed.File of what came with the program.
const embeddedFile = "embedded snapshot"

// LoadEmbedded brings the embedded snapshot into the catalog: each part in one
// transaction, so that it can be broken off and called again at any time, and a part
// that is in costs one query. What an operator imported is left alone whatever its age,
// for it may hold more than the snapshot does and its age is there to be seen; and so is
// the newer snapshot of a newer version of the program.
func LoadEmbedded(ctx context.Context, cat *catalog.Catalog, progress Progress) error {
	s, err := openEmbedded() // its own, so that nothing of it stays in memory
	if err != nil {
		return err
	}
	return s.load(ctx, cat, progress)
}

func (s *Snapshot) load(ctx context.Context, cat *catalog.Catalog, progress Progress) error {
	for i := range s.parts {
		if s.files[i] == nil {
			continue
		}
		if err := s.loadPart(ctx, cat, i, progress); err != nil {
			return fmt.Errorf("load %s from the embedded snapshot: %w", s.parts[i].Ecosystem, err)
		}
	}
	for i := range s.parts {
		if s.files[i] != nil {
			continue
		}
		if err := s.loadList(ctx, cat, &s.parts[i], progress); err != nil {
			return fmt.Errorf("load %s from the embedded snapshot: %w", s.parts[i].File, err)
		}
	}
	return nil
}

// fingerprint tells apart the states of a part; those of newer parts sort after those of older.
func (p *Part) fingerprint() string {
	return fromSnapshot + p.AsOf.UTC().Format(time.DateOnly) + ":" + p.SHA256
}

func (s *Snapshot) loadPart(ctx context.Context, cat *catalog.Catalog, i int, progress Progress) error {
	p, f := &s.parts[i], s.files[i]
	have, err := cat.FeedFingerprint(ctx, Source, p.Ecosystem)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	if strings.HasPrefix(have, fromFile) || have >= p.fingerprint() {
		return nil
	}
	idx, err := f.index()
	if err != nil {
		return err
	}
	blocks := func(yield func(int) bool) {
		for b := range idx.blocks {
			if !yield(b) {
				return
			}
		}
	}
	work := func(n int) (out parsed, err error) {
		b, err := f.readBlock(idx, n)
		if err != nil {
			return out, err
		}
		for r := range b.ends {
			a, err := vuln.ParseOSV(b.record(r), Source)
			if err != nil {
				return out, fmt.Errorf("record %d: %w", idx.blocks[n].first+r, err)
			}
			out.advisories = append(out.advisories, a)
		}
		out.bytes = int64(len(b.raw))
		return out, nil
	}
	all := flatten(inOrder(ctx, blocks, work), Event{Part: p.Ecosystem, Total: p.Records}, progress)
	_, err = cat.PutAdvisories(ctx, catalog.Feed{Source: Source, Ecosystem: p.Ecosystem, File: embeddedFile,
		AsOf: p.AsOf, Covers: p.Covers, Replace: true, Fingerprint: p.fingerprint()}, all)
	return err
}

func (s *Snapshot) loadList(ctx context.Context, cat *catalog.Catalog, p *Part, progress Progress) error {
	if held, err := listAsOf(ctx, cat, p.Kind); err != nil || !p.AsOf.After(held) {
		return err
	}
	l, err := s.lists()
	if err != nil {
		return err
	}
	progress.tell(Event{Part: p.Kind, Total: p.Records})
	if p.Kind == kindKEV {
		err = cat.PutKEV(ctx, p.AsOf, l.ids())
	} else {
		err = cat.PutEPSS(ctx, p.AsOf, l.all(ctx))
	}
	if err == nil {
		progress.tell(Event{Part: p.Kind, Done: p.Records, Total: p.Records, Over: true})
	}
	return err
}

// listAsOf returns the date of a list in the catalog, zero if it is not there.
func listAsOf(ctx context.Context, cat *catalog.Catalog, kind string) (time.Time, error) {
	all, err := cat.Enrichments(ctx)
	for _, e := range all {
		if e.Name == kind {
			return e.AsOf, err
		}
	}
	return time.Time{}, err
}

// Status tells per ecosystem how many advisories the catalog holds and how old they are.
func Status(ctx context.Context, cat *catalog.Catalog) ([]catalog.EcosystemStatus, error) {
	return cat.AdvisoryStatus(ctx)
}

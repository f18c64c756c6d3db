package server

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/feed"
)

// loader brings advisories into the catalog and knows how far that has come.
type loader struct {
	cat  *catalog.Catalog
	log  *slog.Logger
	wake func()
	at   atomic.Pointer[api.Progress]
	done atomic.Bool
}

// progress is that of the load under way, nil if there is none.
func (l *loader) progress() *api.Progress { return l.at.Load() }

// isLoaded says whether the embedded advisories are in.
func (l *loader) isLoaded() bool { return l.done.Load() }

// embedded loads what the program carries; what is in already costs next to nothing.
func (l *loader) embedded(ctx context.Context) error {
	start := time.Now()
	defer l.at.Store(nil)
	last := ""
	err := feed.LoadEmbedded(ctx, l.cat, func(e feed.Event) {
		l.at.Store(&api.Progress{Part: e.Part, Done: e.Done, Total: e.Total})
		if e.Part != last {
			last = e.Part
			l.log.InfoContext(ctx, "loading embedded advisories", "part", e.Part)
		}
	})
	if err != nil {
		return err
	}
	l.done.Store(true)
	l.log.InfoContext(ctx, "embedded advisories are in", "took", time.Since(start).Round(time.Millisecond))
	return nil
}

// imported stores the dumps at path.
func (l *loader) imported(ctx context.Context, path string, progress func(api.Progress)) ([]api.Imported, error) {
	results, err := feed.Import(ctx, l.cat, path, func(e feed.Event) {
		progress(api.Progress{Part: e.Part, Done: e.Done, Total: e.Total})
	}, time.Now())
	l.wake()
	var out []api.Imported
	for _, r := range results {
		out = append(out, api.Imported{Ecosystem: r.Ecosystem, File: r.File, Records: r.Records, Added: r.Added,
			Changed: r.Changed, Removed: r.Removed, Unchanged: r.Unchanged, Images: r.Images})
	}
	return out, err
}

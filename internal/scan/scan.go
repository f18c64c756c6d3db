// Package scan brings the three things together that are all called scanning:
// layers are taken down (extract), their packages are matched against advisories
// (vuln, kept by the catalog) and the image is judged (policy). It does so beside a
// push, for a manifest that is due, and for an image that no server holds (Local).
//
// Work to do is not queued anywhere: the catalog derives it from what is not yet
// judged, so that nothing can be lost between a fact and the work that follows.
package scan

import (
	"context"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/extract"
	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// Options are the needs of a Service beyond its stores. The zero value of each has a usable meaning.
type Options struct {
	Policies []policy.Policy  // none: nothing is ever allowed
	Log      *slog.Logger     // nil: discard
	Now      func() time.Time // nil: time.Now
	// Workers is how many layers may be unpacked at once; 0: one for each core.
	Workers int
}

// Service examines and judges what a registry holds. Its methods may be called at once.
type Service struct {
	cat   *catalog.Catalog
	store blob.Store
	set   *extract.Set
	o     Options

	slots  chan struct{} // held while unpacking, given up while waiting for bytes
	wake   chan struct{} // something became due
	ready  chan struct{} // closed once the advisories are in
	opened sync.Once
	judged singleflight.Group
	layers singleflight.Group

	mu       sync.Mutex
	uploads  map[string]*exam     // by upload id
	quiet    chan struct{}        // closed when the last of uploads ends, and made anew
	byDigest map[oci.Digest]*exam // committed, not yet in the catalog
	running  sync.WaitGroup
}

// New makes a Service. It judges nothing until Ready was called.
func New(cat *catalog.Catalog, store blob.Store, set *extract.Set, o Options) *Service {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	return &Service{cat: cat, store: store, set: set, o: o,
		slots: make(chan struct{}, o.Workers), wake: make(chan struct{}, 1), ready: make(chan struct{}), quiet: make(chan struct{}),
		uploads: map[string]*exam{}, byDigest: map[oci.Digest]*exam{}}
}

// Ready says that advisories are in the catalog: from now on manifests are judged.
// Until then they wait, for nothing found in no advisories is no clean bill.
func (s *Service) Ready() { s.opened.Do(func() { close(s.ready); s.Wake() }) }

// Wake tells the worker that something became due.
func (s *Service) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Close ends the examinations under way and waits for them. What they leave unread is read
// from the store when its manifest is judged. Nothing may be begun any more.
func (s *Service) Close() {
	s.mu.Lock()
	for _, e := range s.uploads {
		e.cancel()
	}
	for _, e := range s.byDigest {
		e.cancel()
	}
	s.mu.Unlock()
	s.running.Wait()
}

// Times of the worker.
const (
	lease      = 5 * time.Minute  // a claim on a due manifest; another replica takes over after it
	idle       = 15 * time.Second // how often is looked without having been told
	trimAfter  = 5 * time.Second  // of rest after work, before memory is given back
	firstRetry = 5 * time.Second
	lastRetry  = 10 * time.Minute
)

// Run judges what is due until ctx ends.
func (s *Service) Run(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-s.ready:
	}
	rest := idle
	for ctx.Err() == nil {
		due, err := s.cat.Due(ctx, s.o.Now(), lease, 16)
		if err != nil && ctx.Err() == nil {
			s.o.Log.ErrorContext(ctx, "looking for manifests to judge", "err", err)
		}
		for _, d := range due {
			s.judgeDue(ctx, d)
		}
		if len(due) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-s.wake:
			rest = trimAfter
		case <-time.After(rest):
			if rest == trimAfter {
				debug.FreeOSMemory()
				rest = idle
			}
		}
	}
}

// judgeDue judges one claimed manifest; what cannot be judged stays as it is, which
// for a new manifest means that it is not served, and is tried again later.
func (s *Service) judgeDue(ctx context.Context, d oci.Digest) {
	_, _, err := s.Judge(ctx, d)
	if err == nil || ctx.Err() != nil {
		return
	}
	s.o.Log.ErrorContext(ctx, "image not judged", "digest", d, "err", err)
	if err := s.cat.PostponeVerdict(ctx, d, s.o.Now().Add(firstRetry), err.Error()); err != nil {
		s.o.Log.ErrorContext(ctx, "postponing a verdict", "digest", d, "err", err)
	}
}

// layerFor is what stands for a layer whose bytes this registry does not hold.
func foreignLayer(d oci.Descriptor, version string) inventory.Layer {
	return inventory.Layer{Digest: d.Digest, ExtractedBy: version, Coverage: inventory.Coverage{
		Unknown: []inventory.Gap{{Kind: inventory.GapForeign, Layer: d.Digest,
			Reason: "the layer's bytes are elsewhere (" + d.MediaType + ") and were not examined"}}}}
}

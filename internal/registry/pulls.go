package registry

import (
	"context"
	"sync"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// Bounds of pulls that are noted in memory until they are written.
const (
	maxPulls   = 50_000 // more within a minute are not noted
	pullsEvery = time.Minute
	pullsBatch = 1000 // in one transaction
)

// pullName is what was pulled.
type pullName struct {
	repo oci.Repository
	ref  oci.Reference
}

// pulls notes in memory what is pulled, so that no pull waits for the catalog to write.
type pulls struct {
	mu   sync.Mutex
	last map[pullName]pulledAt
}

// pulledAt is when something was pulled last, and how often since it was written down.
type pulledAt struct {
	at time.Time
	n  int64
}

// note is called by every pull of a manifest that is served, with n 1, and by who only asks, with 0.
func (p *pulls) note(repo oci.Repository, ref oci.Reference, at time.Time, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		p.last = map[pullName]pulledAt{}
	}
	name := pullName{repo, ref}
	if was, ok := p.last[name]; ok || len(p.last) < maxPulls {
		p.last[name] = pulledAt{at, was.n + n}
	}
}

func (p *pulls) take() []catalog.Pull {
	p.mu.Lock()
	last := p.last
	p.last = nil
	p.mu.Unlock()
	out := make([]catalog.Pull, 0, len(last))
	for n, p := range last {
		out = append(out, catalog.Pull{Repo: n.repo, Ref: n.ref, At: p.at, Count: p.n})
	}
	return out
}

// WritePulls writes down what was pulled since it was called last.
func (r *Registry) WritePulls(ctx context.Context) error {
	all := r.pulls.take()
	for len(all) > 0 {
		n := min(len(all), pullsBatch)
		if err := r.cat.NotePulls(ctx, all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// KeepPulls calls WritePulls every minute, and a last time when ctx ends.
func (r *Registry) KeepPulls(ctx context.Context) {
	tick := time.NewTicker(pullsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		if err := r.WritePulls(context.WithoutCancel(ctx)); err != nil {
			r.o.Log.ErrorContext(ctx, "writing down what was pulled", "err", err)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

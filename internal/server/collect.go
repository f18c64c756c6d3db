package server

import (
	"context"
	"errors"
	"time"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/registry"
)

// When garbage is collected unasked.
const (
	collectFirst = 5 * time.Minute // after the start
	// DefaultCollectEvery is how long it is from one collection to the next unless configured.
	DefaultCollectEvery = 6 * time.Hour
)

// collect collects garbage now and then.
func (p *parts) collect(ctx context.Context) {
	if p.cfg.CollectEvery < 0 {
		return
	}
	wait := time.NewTimer(min(collectFirst, p.cfg.CollectEvery))
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		c, err := p.registry.Collect(ctx, registry.CollectOptions{})
		switch {
		case err == nil:
			p.cfg.Log.InfoContext(ctx, "garbage collected", "manifests", c.Manifests, "blobs", c.Blobs, "files", c.Files, "bytes", c.Bytes,
				"took", c.Ended.Sub(c.Started), "held", c.Held)
		case ctx.Err() == nil && !errors.Is(err, registry.ErrCollecting):
			p.cfg.Log.ErrorContext(ctx, "collecting garbage", "phase", c.Phase, "err", err)
		}
		wait.Reset(p.cfg.CollectEvery)
	}
}

// collectNow is a collection on demand.
func (p *parts) collectNow(ctx context.Context, dryRun bool, progress func(api.Collection)) (api.Collection, error) {
	c, err := p.registry.Collect(ctx, registry.CollectOptions{DryRun: dryRun, Progress: func(c registry.Collection) { progress(api.Collection(c)) }})
	if errors.Is(err, registry.ErrCollecting) {
		err = oci.Errorf(oci.CodeTooManyRequests, "%v; try again when it is through", err)
	}
	return api.Collection(c), err
}

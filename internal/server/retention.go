package server

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/registry"
)

// When retention runs unasked.
const (
	retainEvery = 24 * time.Hour
	retainLook  = 10 * time.Minute // how often it is looked whether it is time
	retainJob   = "retention"      // the job that says when it ran last
)

// retain runs retention once a day. When it ran last outlives the process.
func (p *parts) retain(ctx context.Context) {
	tick := time.NewTicker(retainLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := p.retainIfDue(ctx, time.Now()); err != nil && ctx.Err() == nil && !errors.Is(err, registry.ErrRetaining) {
			p.cfg.Log.ErrorContext(ctx, "running retention", "err", err)
		}
	}
}

// retainIfDue runs retention if there are rules for it and a day has passed since it ran.
func (p *parts) retainIfDue(ctx context.Context, now time.Time) error {
	held, _, err := p.cat.Rules(ctx)
	if err != nil || len(held.Retention) == 0 {
		return err
	}
	_, last, err := p.cat.Job(ctx, retainJob)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) || now.Sub(last) < retainEvery {
		return err
	}
	out, err := p.registry.Retain(ctx, false, func(registry.Fate) {})
	if err != nil {
		return err
	}
	p.cfg.Log.InfoContext(ctx, "retention run", "tags", out.Tags, "manifests", out.Manifests, "kept", out.Kept, "took", out.Ended.Sub(out.Started))
	doc, err := json.Marshal(out)
	if err != nil {
		return err
	}
	return p.cat.PutJob(ctx, retainJob, doc, now)
}

// retainNow is a run on demand.
func (p *parts) retainNow(ctx context.Context, dryRun bool, each func(api.Fate)) (api.Retained, error) {
	out, err := p.registry.Retain(ctx, dryRun, func(f registry.Fate) { each(api.Fate{Repository: f.Repo, Fate: f.Fate}) })
	if errors.Is(err, registry.ErrRetaining) {
		err = oci.Errorf(oci.CodeTooManyRequests, "%v; try again when it is through", err)
	}
	return api.Retained(out), err
}

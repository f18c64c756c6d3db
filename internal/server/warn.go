package server

import (
	"context"
	"encoding/json"
	"time"
)

const (
	warnEvery   = time.Hour
	warnAtATime = 100
)

// warn writes an event and a line of the log for each secret that ends within 30, 7 and 1 days, at
// the start and once an hour.
func (p *parts) warn(ctx context.Context) {
	tick := time.NewTicker(warnEvery)
	defer tick.Stop()
	for {
		if err := p.warnNow(ctx, time.Now()); err != nil && ctx.Err() == nil {
			p.cfg.Log.ErrorContext(ctx, "warning of secrets that end", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ending is what the event of a secret that ends soon says.
type ending struct {
	Principal string    `json:"principal"`
	Secret    string    `json:"secret"`
	Kind      string    `json:"kind"`
	Name      string    `json:"name,omitempty"`
	Expires   time.Time `json:"expires"`
	Days      int       `json:"days"`
}

// warnNow warns of what is to be warned of by now. A secret that was warned of is not found again.
func (p *parts) warnNow(ctx context.Context, now time.Time) error {
	for {
		list, err := p.cat.ExpiringSecrets(ctx, now, warnAtATime)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, e := range list {
			detail, err := json.Marshal(ending{e.Owner, e.ID, string(e.Kind), e.Name, e.Expires, e.Days})
			if err != nil {
				return err
			}
			if err := p.cat.MarkWarned(ctx, e, detail, now); err != nil {
				return err
			}
			p.cfg.Log.WarnContext(ctx, "a secret ends soon", "principal", e.Owner, "secret", e.ID, "expires", e.Expires, "days", e.Days)
		}
	}
}

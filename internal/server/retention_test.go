package server

import (
	"log/slog"
	"testing"
	"time"

	"pratique.dev/pratique/internal/blob/memblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/registry"
)

// TestRetainIfDue: retention runs once there are rules for it, and then once a day, also if the
// server was started anew.
func TestRetainIfDue(t *testing.T) {
	cat := catalogtest.Open(t)
	p := &parts{cat: cat, cfg: Config{Log: slog.New(slog.DiscardHandler)}, registry: registry.New(cat, memblob.New(), registry.Options{})}
	ctx, now := t.Context(), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	ran := func(at time.Time) time.Time {
		t.Helper()
		if err := p.retainIfDue(ctx, at); err != nil {
			t.Fatal(err)
		}
		_, last, _ := cat.Job(ctx, retainJob)
		return last
	}
	if last := ran(now); !last.IsZero() {
		t.Errorf("without rules it ran at %v", last)
	}
	if _, err := cat.PutRules(ctx, []byte("retention: [{name: a, repositories: '**', keepLast: 1}]"), catalog.Act{}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ at, want time.Duration }{{0, 0}, {23 * time.Hour, 0}, {24 * time.Hour, 24 * time.Hour}} {
		if last := ran(now.Add(tc.at)); !last.Equal(now.Add(tc.want)) {
			t.Errorf("at %v: last run %v, want %v", tc.at, last, now.Add(tc.want))
		}
	}
}

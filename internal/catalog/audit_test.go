package catalog_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
)

// audited chains what is there and returns it, without what differs from run to run.
func audited(t testing.TB, c *catalog.Catalog) []catalog.Record {
	t.Helper()
	for must(c.ChainAudit(t.Context(), 100))(t) > 0 {
	}
	return must(c.AuditAfter(t.Context(), 0, 0))(t)
}

// TestAuditOfActs: each act that changes what a repository holds leaves one record, by whom and from where,
// and what is refused leaves none here.
func TestAuditOfActs(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "team/app")
		a := byAnn()
		a.Trace, a.Restore = catalog.Trace{ByID: "p1", ByKind: "user", Address: "192.0.2.1", Request: "r1"}, time.Hour
		cfg := pushBlob(t, c, r, "cfg")
		m := imageOf(t, cfg, nil, nil)
		must(c.PutManifest(ctx, catalog.NewManifest{Repo: r, Manifest: m, Tags: []string{"v1", "v2"}, By: "ann", Now: now, Trace: a.Trace}))(t)
		must(c.PutManifest(ctx, catalog.NewManifest{Repo: r, Manifest: m, Tags: []string{"v1"}, By: "ann", Now: now, Trace: a.Trace}))(t) // changes nothing
		ok(t, c.DeleteTag(ctx, r, "v2", a))
		wantErr(t, c.DeleteTag(ctx, r, "v2", a), catalog.ErrNotFound)
		ok(t, c.DeleteManifest(ctx, r, m.Digest, a))
		must(c.RestoreManifest(ctx, r, m.Digest, a))(t)
		wantErr(t, c.UnlinkBlob(ctx, r, cfg.Digest, a), catalog.ErrConflict)
		ok(t, c.UnlinkBlob(ctx, r, pushBlob(t, c, r, "free").Digest, a))
		var got []string
		for _, rec := range audited(t, c) {
			got = append(got, rec.Action+" "+strings.NewReplacer(m.Digest.String(), "DIGEST", digest("free").String(), "FREE").Replace(rec.Target))
			if rec.Actor != "ann" || rec.ActorID != "p1" || rec.Kind != "user" || rec.Address != "192.0.2.1" || rec.Request != "r1" || rec.Decision != catalog.AuditAllowed || !rec.At.Equal(now) {
				t.Errorf("%+v", rec)
			}
		}
		equal(t, got, []string{"push team/app@DIGEST", "untag team/app:v2", "untag team/app:v1", "delete team/app@DIGEST", "restore team/app:v1", "blob-delete team/app@FREE"})
	})
}

// TestAuditChain: what is chained follows from its beginning, whatever is pruned of it, and each change shows.
func TestAuditChain(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		for i := range 30 {
			ok(t, c.WriteAudit(ctx, []catalog.Record{{At: now.Add(time.Duration(i) * time.Minute), Actor: fmt.Sprint("a", i%3), Action: "look", Target: "x<y>&\x00\xff", Decision: catalog.AuditDenied,
				Why: strings.Repeat("é", 1000), Detail: json.RawMessage(`{"a": [1, "<"]}`)}}))
		}
		var wg sync.WaitGroup
		for range 4 { // each waits for the other
			wg.Go(func() {
				for {
					n, err := c.ChainAudit(ctx, 3)
					if err != nil {
						t.Error(err)
					}
					if n == 0 || err != nil {
						return
					}
				}
			})
		}
		wg.Wait()
		all := audited(t, c)
		equal(t, len(all), 30)
		follow := func(m catalog.AuditMark, records []catalog.Record) int {
			for i, r := range records {
				next := must(m.Next(r))(t)
				if next.Seq != r.Seq || next.Hash != r.Hash {
					return i
				}
				m = next
			}
			return len(records)
		}
		equal(t, follow(catalog.AuditMark{}, all), 30)
		for name, change := range map[string]func(*catalog.Record){"actor": func(r *catalog.Record) { r.Actor = "b" }, "time": func(r *catalog.Record) { r.At = r.At.Add(time.Microsecond) },
			"why": func(r *catalog.Record) { r.Why = "" }, "kind": func(r *catalog.Record) { r.Kind = "user" }, "detail": func(r *catalog.Record) { r.Detail = nil }, "count": func(r *catalog.Record) { r.Count = 2 }, "decision": func(r *catalog.Record) { r.Decision = "allowed" }} {
			changed := append([]catalog.Record{}, all...)
			change(&changed[7])
			if got := follow(catalog.AuditMark{}, changed); got != 7 {
				t.Errorf("another %s of record 8: the chain breaks at %d", name, got)
			}
		}
		equal(t, follow(catalog.AuditMark{}, append(append([]catalog.Record{}, all[:7]...), all[8:]...)), 7)

		// Pruned by age, and by number; the last one stays.
		equal(t, must(c.PruneAudit(ctx, now.Add(10*time.Minute), 1000, 4))(t), 4)
		equal(t, must(c.PruneAudit(ctx, now.Add(10*time.Minute), 1000, 100))(t), 6)
		equal(t, must(c.PruneAudit(ctx, now, 15, 100))(t), 5)
		left := audited(t, c)
		equal(t, len(left), 15)
		anchor := must(c.AuditAnchor(ctx))(t)
		equal(t, anchor, catalog.AuditMark{Seq: 15, Hash: all[14].Hash})
		equal(t, follow(anchor, left), 15)
		equal(t, must(c.PruneAudit(ctx, now.AddDate(1, 0, 0), 1, 100))(t), 14)
		ok(t, c.WriteAudit(ctx, []catalog.Record{{At: now, Action: "after"}}))
		equal(t, follow(must(c.AuditAnchor(ctx))(t), audited(t, c)), 2)
	})
}

func TestAuditQueries(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		for i := range 20 {
			r := catalog.Record{At: now.Add(time.Duration(i) * 24 * time.Hour), Actor: []string{"ann", "bob"}[i%2], Action: "push", Target: fmt.Sprintf("team/app%d:v1", i%4), Decision: catalog.AuditAllowed}
			if i%5 == 0 {
				r.Action, r.Decision = "login", catalog.AuditDenied
			}
			ok(t, c.WriteAudit(ctx, []catalog.Record{r}))
		}
		audited(t, c)
		for name, tc := range map[string]struct {
			q    catalog.AuditQuery
			want int
		}{
			"all": {catalog.AuditQuery{}, 20}, "actor": {catalog.AuditQuery{Actor: "ann"}, 10}, "nobody": {catalog.AuditQuery{Actor: "carl"}, 0},
			"action": {catalog.AuditQuery{Action: "login"}, 4}, "decision": {catalog.AuditQuery{Decision: catalog.AuditDenied, Actor: "bob"}, 2},
			"target": {catalog.AuditQuery{Target: "team/app3"}, 5}, "since": {catalog.AuditQuery{Since: now.Add(15 * 24 * time.Hour)}, 5},
			"until": {catalog.AuditQuery{Until: now.Add(3 * 24 * time.Hour), Actor: "ann"}, 2},
		} {
			var seqs []int64
			for before, pages := int64(0), 0; pages < 30; pages++ {
				got, next, err := c.Audit(ctx, tc.q, before, 3)
				ok(t, err)
				for _, r := range got {
					seqs = append(seqs, r.Seq)
				}
				if before = next; next == 0 {
					break
				}
			}
			if len(seqs) != tc.want {
				t.Errorf("%s: %v, want %d", name, seqs, tc.want)
			}
			for i := range len(seqs) - 1 {
				if seqs[i+1] >= seqs[i] {
					t.Errorf("%s: %v", name, seqs)
				}
			}
		}
	})
}

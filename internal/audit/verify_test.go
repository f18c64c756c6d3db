package audit

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"pratique.dev/pratique/internal/catalog"
)

// TestVerifyMeanwhile: a log to which records are chained, and from which they are pruned, while it is
// followed, is whole all the time.
func TestVerifyMeanwhile(t *testing.T) {
	w := newWorld(t, Options{Keep: time.Hour, MaxRecords: 1500})
	ctx, end := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			var list []catalog.Record
			for n := range 100 {
				list = append(list, catalog.Record{At: start, Actor: fmt.Sprint(i, n), Action: "push", Decision: catalog.AuditAllowed})
			}
			if err := w.cat.WriteAudit(context.WithoutCancel(ctx), list); err != nil {
				t.Error(err)
			}
			if _, err := w.cat.ChainAudit(context.WithoutCancel(ctx), chainBatch); err != nil {
				t.Error(err)
			}
			if _, err := w.cat.PruneAudit(context.WithoutCancel(ctx), time.Time{}, 1500, pruneBatch); err != nil {
				t.Error(err)
			}
		}
	})
	pruned := false
	for n := 0; n < 50 || !pruned; n++ {
		v := w.verify(catalog.AuditMark{})
		if v.Broken != "" {
			t.Errorf("%+v", v)
			break
		}
		pruned = pruned || v.Behind.Seq > 0
	}
	end()
	wg.Wait()
}

// TestDamagedRecord: one that cannot be read is shown as that, and keeps no other from being chained,
// listed and handed on.
func TestDamagedRecord(t *testing.T) {
	w := newWorld(t, Options{})
	w.Note(guess("192.0.2.1"))
	if err := w.cat.WriteAudit(t.Context(), w.take(false)); err != nil {
		t.Fatal(err)
	}
	w.exec(`update audit set doc = 'no JSON'`)
	w.Note(guess("192.0.2.2"))
	all := w.written()
	if len(all) != 2 || all[0].Why != "the record is damaged" || string(all[0].Detail) != `"no JSON"` || all[1].Address != "192.0.2.2" {
		t.Errorf("%+v", all)
	}
	if got, _, err := w.cat.Audit(t.Context(), catalog.AuditQuery{}, 0, 0); err != nil || len(got) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	if v := w.verify(catalog.AuditMark{}); v.At != 1 {
		t.Errorf("%+v", v)
	}
}

package registry

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pratique.dev/pratique/internal/blob/memblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// looks is an Explainer that counts and answers once it may.
type looks struct {
	n   atomic.Int64
	may chan struct{}
}

func (l *looks) Explain(context.Context, oci.Digest) ([]ExplainedFinding, error) {
	n := l.n.Add(1)
	<-l.may
	return []ExplainedFinding{{ID: fmt.Sprintf("CVE-%d", n), Package: "z"}}, nil
}

// TestRefusalIsPutTogetherOnce: however many are refused, as long as the verdict stands.
func TestRefusalIsPutTogetherOnce(t *testing.T) {
	cat, l := catalogtest.Open(t), &looks{may: make(chan struct{})}
	held := policy.Verdict{Decision: policy.Quarantine, At: time.Unix(1, 0)}
	r := New(cat, memblob.New(), Options{Judge: decide(cat, held), Explainer: l})
	p := putImage(t, r, app, "1", "layer")
	refused := func() Refusal {
		m, err := cat.Manifest(bg, app, oci.Reference{Tag: "1"})
		if err != nil {
			t.Error(err)
		}
		return r.explain(bg, "x", m)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { refused() })
	}
	close(l.may)
	all.Wait()
	before := l.n.Load()
	if d := refused(); l.n.Load() != before || len(d.Findings) != 1 {
		t.Errorf("%d looks after %d, findings %+v", l.n.Load(), before, d.Findings)
	}
	held.At = time.Unix(2, 0)
	if err := catalogtest.Judge(bg, cat, p.Digest, held, catalog.Counts{}); err != nil {
		t.Fatal(err)
	}
	if d := refused(); l.n.Load() != before+1 || d.Findings[0].ID != fmt.Sprintf("CVE-%d", before+1) {
		t.Errorf("after a new verdict: %d looks after %d, findings %+v", l.n.Load(), before, d.Findings)
	}
}

func TestToldIsBounded(t *testing.T) {
	var x told
	for i := range 2 * maxTold {
		d := oci.DigestOf(oci.SHA256, fmt.Append(nil, i))
		x.put(d, time.Unix(1, 0), telling{omitted: i})
		if v, ok := x.get(d, time.Unix(1, 0)); !ok || v.omitted != i {
			t.Fatalf("%d: %v, %v", i, v, ok)
		}
		if _, ok := x.get(d, time.Unix(2, 0)); ok {
			t.Fatal("told under another verdict")
		}
	}
	if len(x.m) > maxTold {
		t.Errorf("%d are remembered", len(x.m))
	}
}

// BenchmarkRefusal is a refused pull once its findings were told.
func BenchmarkRefusal(b *testing.B) {
	may := make(chan struct{})
	close(may)
	r := New(nil, nil, Options{Explainer: &looks{may: may}})
	m := catalog.Manifest{Verdict: policy.Verdict{Decision: policy.Quarantine, At: time.Unix(1, 0)}}
	m.Digest = oci.DigestOf(oci.SHA256, nil)
	for b.Loop() {
		_ = r.explain(bg, "team/app:1", m).message()
	}
}

// failing is an Explainer that fails and counts.
type failing struct{ n int }

func (f *failing) Explain(context.Context, oci.Digest) ([]ExplainedFinding, error) {
	f.n++
	return nil, context.DeadlineExceeded
}

// TestFailedLookIsNotRepeated: what took too long once is not tried with every refusal.
func TestFailedLookIsNotRepeated(t *testing.T) {
	f := &failing{}
	r := New(nil, nil, Options{Explainer: f})
	m := catalog.Manifest{Verdict: policy.Verdict{Decision: policy.Quarantine, At: time.Unix(1, 0)}}
	m.Digest = oci.DigestOf(oci.SHA256, nil)
	for range 3 {
		if d := r.explain(bg, "team/app:1", m); d.Decision != policy.Quarantine {
			t.Errorf("refusal %+v", d)
		}
	}
	if f.n != 1 {
		t.Errorf("%d looks", f.n)
	}
}

// TestRefusalWithoutReasons: what cannot be told of is refused all the same.
func TestRefusalWithoutReasons(t *testing.T) {
	r := New(catalogtest.Open(t), memblob.New(), Options{})
	if e := r.refuse(bg, app, oci.Reference{Tag: "gone"}); e.Code != oci.CodeDenied || !strings.Contains(e.Message, "team/app:gone") {
		t.Errorf("refusal %v", e)
	}
}

package registry

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// maxTold bounds the manifests whose refusals are remembered. One takes some 10 KiB.
const maxTold = 256

// telling is what a refusal tells of findings.
type telling struct {
	findings []ExplainedFinding // at most maxFindings
	omitted  int
}

// told remembers what refusals tell, as long as the verdict stands that they rest on: to
// put together an image's findings takes far longer than a refusal may, and who is
// refused comes again.
type told struct {
	group singleflight.Group

	mu sync.Mutex
	m  map[oci.Digest]toldAt
}

type toldAt struct {
	judged time.Time
	telling
}

func (t *told) get(d oci.Digest, judged time.Time) (telling, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.m[d]
	return e.telling, ok && e.judged.Equal(judged)
}

// put makes room by forgetting any: that costs one more look and nothing else.
func (t *told) put(d oci.Digest, judged time.Time, v telling) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = map[oci.Digest]toldAt{}
	}
	for k := range t.m {
		if len(t.m) < maxTold {
			break
		}
		delete(t.m, k)
	}
	t.m[d] = toldAt{judged, v}
}

// tell gives the findings to tell of a manifest that is held back. Many who are refused at
// once wait for the same look.
func (r *Registry) tell(ctx context.Context, m catalog.Manifest) (telling, error) {
	if v, ok := r.told.get(m.Digest, m.Verdict.At); ok {
		return v, nil
	}
	ch := r.told.group.DoChan(m.Digest.String()+m.Verdict.At.String(), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), explainWait)
		defer cancel()
		all, err := r.o.Explainer.Explain(ctx, m.Digest)
		if err != nil {
			// The next to be refused must not cost as much for as little.
			r.told.put(m.Digest, m.Verdict.At, telling{})
			return telling{}, err
		}
		all = holdingFirst(all, m.Verdict.Reasons)
		// A copy, so that the rest is not kept.
		v := telling{findings: append([]ExplainedFinding{}, all[:min(len(all), maxFindings)]...)}
		v.omitted = len(all) - len(v.findings)
		r.told.put(m.Digest, m.Verdict.At, v)
		return v, nil
	})
	select {
	case <-ctx.Done():
		return telling{}, ctx.Err()
	case got := <-ch:
		v, _ := got.Val.(telling)
		return v, got.Err
	}
}

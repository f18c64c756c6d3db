package registry

import (
	"context"
	"sync"

	"pratique.dev/pratique/internal/oci"
)

// contents keeps the collection of garbage away from content that is being pushed, digest
// by digest: many pushes share a digest while its bytes become durable and known to the
// catalog; the collection claims it alone while it forgets and removes it. In between the
// one could undo the other.
type contents struct {
	mu   sync.Mutex
	held map[oci.Digest]*held
}

type held struct {
	sharers int
	over    chan struct{} // of a claim: closed at its end; nil while it is shared
}

// share holds d against claims until release is called; it waits for a claim to end.
func (c *contents) share(ctx context.Context, d oci.Digest) (release func(), err error) {
	for {
		over := c.join(d)
		if over == nil {
			return func() { c.leave(d) }, nil
		}
		select {
		case <-over:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// join adds a sharer, or returns what is closed at the end of the claim in its way.
func (c *contents) join(d oci.Digest) (over chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = map[oci.Digest]*held{}
	}
	h := c.held[d]
	if h == nil {
		h = &held{}
		c.held[d] = h
	}
	if h.over != nil {
		return h.over
	}
	h.sharers++
	return nil
}

func (c *contents) leave(d oci.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.held[d]; h.sharers > 1 {
		h.sharers--
		return
	}
	delete(c.held, d)
}

// claim takes d for its caller alone, unless somebody holds it.
func (c *contents) claim(d oci.Digest) (release func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held[d] != nil {
		return nil, false
	}
	if c.held == nil {
		c.held = map[oci.Digest]*held{}
	}
	h := &held{over: make(chan struct{})}
	c.held[d] = h
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.held, d)
		close(h.over)
	}, true
}

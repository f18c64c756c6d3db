package registry

import (
	"context"
	"sync"
)

// locks holds one lock for each upload that a request works on, so that two requests
// never write to the same upload.
type locks struct {
	mu   sync.Mutex
	held map[string]*lock
}

type lock struct {
	free    chan struct{} // holds one token while nobody has the lock
	waiting int
}

// take waits for the lock of id, and returns how to give it back.
func (l *locks) take(ctx context.Context, id string) (release func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*lock{}
	}
	k := l.held[id]
	if k == nil {
		k = &lock{free: make(chan struct{}, 1)}
		k.free <- struct{}{}
		l.held[id] = k
	}
	k.waiting++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.waiting--; k.waiting == 0 {
			delete(l.held, id)
		}
	}
	select {
	case <-k.free:
		return func() { k.free <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

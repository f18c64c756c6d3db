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
	k, leave := l.join(id)
	select {
	case <-k.free:
		return func() { k.free <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// try takes the lock of id if nobody has it.
func (l *locks) try(id string) (release func(), ok bool) {
	k, leave := l.join(id)
	select {
	case <-k.free:
		return func() { k.free <- struct{}{}; leave() }, true
	default:
		leave()
		return nil, false
	}
}

// join gives the lock of id, which stays until all have left.
func (l *locks) join(id string) (k *lock, leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[string]*lock{}
	}
	if k = l.held[id]; k == nil {
		k = &lock{free: make(chan struct{}, 1)}
		k.free <- struct{}{}
		l.held[id] = k
	}
	k.waiting++
	return k, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.waiting--; k.waiting == 0 {
			delete(l.held, id)
		}
	}
}

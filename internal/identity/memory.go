package identity

import (
	"sync"
	"time"
)

// memory remembers values until they expire, and at most max of them.
type memory[V any] struct {
	max int

	mu sync.Mutex
	m  map[string]entry[V]
}

type entry[V any] struct {
	value   V
	expires time.Time
}

func newMemory[V any](limit int) *memory[V] {
	return &memory[V]{max: limit, m: map[string]entry[V]{}}
}

func (m *memory[V]) get(key string, now time.Time) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.m[key]
	if !ok || !now.Before(e.expires) {
		delete(m.m, key)
		var none V
		return none, false
	}
	return e.value, true
}

func (m *memory[V]) forget(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.m, key)
}

// put remembers a value. When there is no room, what has expired goes, and if that is
// not enough any entry: to forget costs one more check and nothing else.
func (m *memory[V]) put(key string, v V, now, expires time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.m) >= m.max {
		for k, e := range m.m {
			if !now.Before(e.expires) {
				delete(m.m, k)
			}
		}
		for k := range m.m {
			if len(m.m) < m.max*3/4 {
				break
			}
			delete(m.m, k)
		}
	}
	m.m[key] = entry[V]{v, expires}
}

package edge

import (
	"sync"
	"time"
)

// After freeFailures wrong secrets of one name from one address the next has to wait for
// firstDelay, and after each further one twice as long, up to lastDelay. From other addresses
// the name can be used all the while, so that nobody locks anybody out. What was wrong is forgotten
// once nothing was for forgetDelay.
const (
	freeFailures = 5
	firstDelay   = time.Second
	lastDelay    = 5 * time.Minute
	forgetDelay  = 15 * time.Minute
)

// delay is what is remembered of wrong secrets of a name from an address.
type delay struct {
	failures int
	last     time.Time
}

// wait is how long after the last failure the next try is looked at.
func (d delay) wait() time.Duration {
	if d.failures < freeFailures {
		return 0
	}
	return min(lastDelay, firstDelay<<min(d.failures-freeFailures, 20))
}

// delays are by name and address.
type delays struct {
	mu sync.Mutex
	m  map[string]delay
}

func (d *delays) mayTry(key, who string, now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	x, ok := d.m[key]
	if !ok {
		return nil
	}
	if left := x.last.Add(x.wait()).Sub(now); left > 0 {
		return &Limited{Wait: left, Who: who}
	}
	return nil
}

func (d *delays) failed(key string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.m[key]
	if now.Sub(x.last) > forgetDelay {
		x.failures = 0
	}
	d.makeRoom(now)
	d.m[key] = delay{x.failures + 1, now}
}

func (d *delays) forget(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.m, key)
}

// makeRoom forgets what is over, and if that is not enough any: the count of each address holds all the same.
func (d *delays) makeRoom(now time.Time) {
	if len(d.m) < maxBuckets {
		return
	}
	for k, x := range d.m {
		if now.Sub(x.last) > forgetDelay {
			delete(d.m, k)
		}
	}
	for k := range d.m {
		if len(d.m) < maxBuckets*3/4 {
			return
		}
		delete(d.m, k)
	}
}

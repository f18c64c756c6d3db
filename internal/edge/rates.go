package edge

import (
	"math"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limited is the error of who asks too often.
type Limited struct {
	Wait time.Duration // until it is worth asking again
	Who  string        // "ci" or "198.51.100.7", whose the requests are
}

// Error implements error.
func (l *Limited) Error() string {
	return "too many requests of " + l.Who + "; try again in " + l.RetryAfter() + " s"
}

// RetryAfter is the header's value, in seconds (RFC 9110, section 10.2.3).
func (l *Limited) RetryAfter() string {
	return strconv.Itoa(max(1, int(math.Ceil(l.Wait.Seconds()))))
}

// RateLimits are in requests a second, with bursts of burstSeconds as many; 0 is no limit.
type RateLimits struct {
	Principal float64 // of each that has proved who they are
	Anonymous float64 // of all others, by address
}

const (
	burstSeconds = 5
	// Wrong names and secrets: an address has maxFailures, and failureRate more a second.
	// Without any left, what it gives for name and secret is not even looked at.
	failureRate = 1
	maxFailures = 60
	// maxBuckets bounds the principals or addresses that are counted at the same time.
	maxBuckets = 1 << 16
)

// Rates counts requests. Its methods may be called at once; those of a nil Rates limit nothing.
type Rates struct {
	principals, addresses, failures buckets
	delays                          delays
	now                             func() time.Time
}

// NewRates makes a Rates that takes the time from now.
func NewRates(l RateLimits, now func() time.Time) *Rates {
	return &Rates{now: now,
		principals: newBuckets(l.Principal, l.Principal*burstSeconds),
		addresses:  newBuckets(l.Anonymous, l.Anonymous*burstSeconds),
		failures:   newBuckets(failureRate, maxFailures),
		delays:     delays{m: map[string]delay{}}}
}

// Principal counts a request of a principal. The error is a *Limited.
func (r *Rates) Principal(name string) error {
	if r == nil {
		return nil
	}
	return r.principals.take("p:"+name, name, r.now(), 1)
}

// Anonymous counts a request that proves nobody. The error is a *Limited.
func (r *Rates) Anonymous(a netip.Addr) error {
	if r == nil {
		return nil
	}
	return r.addresses.take(network(a), a.String(), r.now(), 1)
}

// MayTry says whether an address may give a name and secret to be checked. The error is a *Limited.
func (r *Rates) MayTry(a netip.Addr, name string) error {
	if r == nil {
		return nil
	}
	if err := r.failures.take(network(a), a.String(), r.now(), 0); err != nil {
		return err
	}
	return r.delays.mayTry(network(a)+" "+name, a.String(), r.now())
}

// Failed counts a name and secret that were wrong.
func (r *Rates) Failed(a netip.Addr, name string) {
	if r == nil {
		return
	}
	_ = r.failures.take(network(a), a.String(), r.now(), 1) // the next MayTry says so
	r.delays.failed(network(a)+" "+name, r.now())
}

// Succeeded forgets how often a name came with a wrong secret from an address.
func (r *Rates) Succeeded(a netip.Addr, name string) {
	if r != nil {
		r.delays.forget(network(a) + " " + name)
	}
}

// network is what counts as one address: a whole /64 of version 6, of which one host has many.
func network(a netip.Addr) string {
	if a.Is6() {
		p, err := a.Prefix(64)
		if err == nil {
			return p.String()
		}
	}
	return a.String()
}

// buckets are token buckets by name.
type buckets struct {
	rate  rate.Limit
	burst int

	mu *sync.Mutex
	m  map[string]*rate.Limiter
}

func newBuckets(perSecond, burst float64) buckets {
	return buckets{rate: rate.Limit(perSecond), burst: max(1, int(burst)), mu: &sync.Mutex{}, m: map[string]*rate.Limiter{}}
}

// take takes n tokens out of a bucket, or asks with n = 0 whether there is one.
func (b *buckets) take(key, who string, now time.Time, n int) error {
	if b.rate <= 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l, ok := b.m[key]
	if !ok {
		if n == 0 {
			return nil
		}
		b.makeRoom(now)
		l = rate.NewLimiter(b.rate, b.burst)
		b.m[key] = l
	}
	if have := l.TokensAt(now); have < 1 {
		return &Limited{Wait: time.Duration((1 - have) / float64(b.rate) * float64(time.Second)), Who: who}
	}
	l.AllowN(now, n)
	return nil
}

// makeRoom forgets the buckets that are full again, which are as good as new; and if none is,
// any: whoever has that many addresses is not stopped by a count of each.
func (b *buckets) makeRoom(now time.Time) {
	if len(b.m) < maxBuckets {
		return
	}
	for k, l := range b.m {
		if l.TokensAt(now) >= float64(b.burst) {
			delete(b.m, k)
		}
	}
	for k := range b.m {
		if len(b.m) < maxBuckets*3/4 {
			return
		}
		delete(b.m, k)
	}
}

package edge

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestRates(t *testing.T) {
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	r := NewRates(RateLimits{Principal: 0.1, Anonymous: 2}, func() time.Time { return now })
	a, sameNet, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("192.0.2.1")
	if err := r.Principal("ci"); err != nil {
		t.Fatal(err)
	}
	var often *Limited
	if err := r.Principal("ci"); !errors.As(err, &often) || often.RetryAfter() != "10" || often.Who != "ci" {
		t.Errorf("%v", err)
	}
	if err := r.Principal("other"); err != nil {
		t.Error(err)
	}
	for i := range 10 {
		if err := r.Anonymous([]netip.Addr{a, sameNet}[i%2]); err != nil {
			t.Fatal(i, err)
		}
	}
	if r.Anonymous(a) == nil || r.Anonymous(sameNet) == nil {
		t.Error("a network asks more often than it may")
	}
	if err := r.Anonymous(b); err != nil {
		t.Error(err)
	}
	now = now.Add(time.Second)
	for i, want := range []bool{true, true, false} {
		if err := r.Anonymous(a); (err == nil) != want {
			t.Errorf("request %d of a second in which two may come: %v", i, err)
		}
	}
	for i := range maxFailures {
		name := fmt.Sprint("name ", i)
		if err := r.MayTry(b, name); err != nil {
			t.Fatal(err)
		}
		r.Failed(b, name)
	}
	if r.MayTry(b, "ann") == nil || r.MayTry(a, "ann") != nil {
		t.Error("who failed too often may try on, or others may not")
	}
	var none *Rates
	none.Failed(b, "ann")
	if none.Principal("x") != nil || none.Anonymous(b) != nil || none.MayTry(b, "ann") != nil {
		t.Error("no rates limit")
	}
}

// TestDelays: who gives wrong secrets for one name waits twice as long each time; others, and
// the same name from elsewhere, do not wait.
func TestDelays(t *testing.T) {
	now := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	r := NewRates(RateLimits{}, func() time.Time { return now })
	guesser, owner := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
	for range freeFailures {
		if err := r.MayTry(guesser, "ann"); err != nil {
			t.Fatal(err)
		}
		r.Failed(guesser, "ann")
	}
	for want := firstDelay; want < 2*lastDelay; want *= 2 {
		var limited *Limited
		if err := r.MayTry(guesser, "ann"); !errors.As(err, &limited) || limited.Wait != min(want, lastDelay) {
			t.Fatalf("after a failure more: %v, want to wait %v", err, min(want, lastDelay))
		}
		if err := errors.Join(r.MayTry(owner, "ann"), r.MayTry(guesser, "bob")); err != nil {
			t.Fatalf("somebody else waits too: %v", err)
		}
		now = now.Add(limited.Wait)
		if err := r.MayTry(guesser, "ann"); err != nil {
			t.Fatalf("after the wait: %v", err)
		}
		r.Failed(guesser, "ann")
	}
	r.Succeeded(owner, "ann")
	if r.MayTry(guesser, "ann") == nil {
		t.Error("a right secret from elsewhere frees who guesses")
	}
	r.Succeeded(guesser, "ann")
	if err := r.MayTry(guesser, "ann"); err != nil {
		t.Errorf("after a right secret: %v", err)
	}
	for range freeFailures {
		r.Failed(guesser, "ann")
	}
	now = now.Add(forgetDelay + time.Second)
	r.Failed(guesser, "ann")
	if err := r.MayTry(guesser, "ann"); err != nil {
		t.Errorf("what was wrong long ago still counts: %v", err)
	}
	for i := range maxBuckets + 10 {
		r.delays.failed(fmt.Sprint(i), now)
	}
	if n := len(r.delays.m); n > maxBuckets {
		t.Errorf("%d delays are remembered", n)
	}
}

// TestBucketsAreBounded: many who ask once do not fill the memory, nor do they free who asks too often.
func TestBucketsAreBounded(t *testing.T) {
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	r := NewRates(RateLimits{Principal: 1}, func() time.Time { return now })
	for i := range 2 * maxBuckets {
		now = now.Add(time.Millisecond)
		if err := r.Principal(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		if len(r.principals.m) > maxBuckets {
			t.Fatalf("%d buckets", len(r.principals.m))
		}
	}
}

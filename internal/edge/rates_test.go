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
	for range maxFailures {
		if err := r.MayTry(b); err != nil {
			t.Fatal(err)
		}
		r.Failed(b)
	}
	if r.MayTry(b) == nil || r.MayTry(a) != nil {
		t.Error("who failed too often may try on, or others may not")
	}
	var none *Rates
	none.Failed(b)
	if none.Principal("x") != nil || none.Anonymous(b) != nil || none.MayTry(b) != nil {
		t.Error("no rates limit")
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

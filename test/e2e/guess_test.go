package e2e

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// TestGuessing: thousands of wrong passwords at once are refused, most without being looked at; the
// right one is taken from another address all the while, and the audit log has a few records of it all.
func TestGuessing(t *testing.T) {
	const guesses, senders = 4000, 16
	s := start(t, loadedData(t))
	from := func(address, password string) int {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		c := http.Client{Transport: &http.Transport{DialContext: d.DialContext}}
		defer c.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+"/v2/", nil)
		if err != nil {
			t.Error(err)
			return 0
		}
		req.SetBasicAuth("admin", password)
		res, err := c.Do(req)
		if err != nil {
			t.Error(err)
			return 0
		}
		defer res.Body.Close()
		if res.StatusCode == http.StatusTooManyRequests && res.Header.Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
		return res.StatusCode
	}
	var wg sync.WaitGroup
	var sent, looked, other atomic.Int64
	for range senders {
		wg.Go(func() {
			for sent.Add(1) <= guesses {
				switch from("127.0.0.1", "not the right one") {
				case http.StatusUnauthorized:
					looked.Add(1)
				case http.StatusTooManyRequests:
				default:
					other.Add(1)
				}
			}
		})
	}
	for range 3 {
		if got := from("127.0.0.2", secret); got != http.StatusOK {
			t.Errorf("the right one from elsewhere: %d", got)
		}
	}
	wg.Wait()
	if n := looked.Load(); n > 100 || other.Load() > 0 {
		t.Errorf("%d guesses were looked at, %d answered otherwise", n, other.Load())
	}
	check(t, s.stop()) // so that all is written
	again := start(t, s.data)
	n := 0
	all := again.audited(t, func(r auditRecord) bool { return r.Action == "login" && r.Decision == "denied" })
	for _, r := range all {
		if r.Action == "login" {
			n += max(r.Count, 1)
		}
	}
	if n != guesses || len(all) > 50 {
		t.Errorf("%d records of %d guesses, want %d guesses in a few", len(all), n, guesses)
	}
}

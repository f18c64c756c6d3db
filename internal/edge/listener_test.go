package edge

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func limitedListener(t *testing.T, c ConnLimits) net.Listener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Limit(inner, c)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// accepting hands on what is accepted.
func accepting(t *testing.T, l net.Listener) <-chan net.Conn {
	t.Helper()
	out := make(chan net.Conn)
	go func() { // ends with the listener
		defer close(out)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			out <- c
		}
	}()
	return out
}

func TestConnectionsAreLimited(t *testing.T) {
	for name, c := range map[string]ConnLimits{"in all": {Total: 2}, "from one address": {Total: 9, PerAddr: 2}} {
		t.Run(name, func(t *testing.T) {
			l := limitedListener(t, c)
			accepted := accepting(t, l)
			dial(t, l)
			first := <-accepted
			dial(t, l)
			second := <-accepted
			defer second.Close()
			over := dial(t, l)
			// The refusal reaches a client that has begun to ask.
			if _, err := io.WriteString(over, "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(bufio.NewReader(over), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "UNAVAILABLE") {
				t.Errorf("%d %v %s %v", res.StatusCode, res.Header, body, err)
			}
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			_ = first.Close() // counted once
			dial(t, l)
			third := <-accepted
			defer third.Close()
			if _, err := io.ReadAll(dial(t, l)); err != nil {
				t.Errorf("who comes after a place was taken again: %v", err)
			}
		})
	}
}

func TestProxiesHaveNoLimitOfTheirOwn(t *testing.T) {
	l := limitedListener(t, ConnLimits{PerAddr: 1, Exempt: Proxies{netip.MustParsePrefix("127.0.0.0/8")}})
	accepted := accepting(t, l)
	for range 3 {
		dial(t, l)
		defer (<-accepted).Close()
	}
}

// TestKernelSends: what a server sends from a file still goes by sendfile, which net/http asks
// the connection for as an io.ReaderFrom.
func TestKernelSends(t *testing.T) {
	l := limitedListener(t, ConnLimits{Total: 1})
	accepted := accepting(t, l)
	dial(t, l)
	c := <-accepted
	defer c.Close()
	if _, ok := c.(io.ReaderFrom); !ok {
		t.Errorf("%T has no ReadFrom", c)
	}
	if _, ok := c.(interface{ CloseWrite() error }); !ok {
		t.Errorf("%T has no CloseWrite, with which net/http ends a connection gently", c)
	}
}

// TestOneHostOfManyAddresses: a host of version 6 has a whole network of addresses.
func TestOneHostOfManyAddresses(t *testing.T) {
	l := &limited{limits: ConnLimits{PerAddr: 2}, from: map[string]int{}}
	for _, tc := range []struct {
		addr string
		want bool
	}{
		{"2001:db8::1", true}, {"2001:db8::2", true}, {"2001:db8::3", false}, {"2001:db8:0:1::1", true},
		{"192.0.2.1", true}, {"192.0.2.1", true}, {"192.0.2.1", false}, {"192.0.2.2", true},
	} {
		if got := l.enter(netip.MustParseAddr(tc.addr)); got != tc.want {
			t.Errorf("%s is let in: %v, want %v", tc.addr, got, tc.want)
		}
	}
	l.leave(netip.MustParseAddr("2001:db8::1"))
	if !l.enter(netip.MustParseAddr("2001:db8::9")) {
		t.Error("a place that was left is not taken")
	}
}

package audit

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pratique.dev/pratique/internal/catalog"
)

// frames reads up to n records of a stream and closes it.
func frames(t *testing.T, c net.Conn, n int, got chan<- string) {
	defer c.Close()
	for r := bufio.NewReader(c); n > 0; n-- {
		var size int
		if _, err := fmt.Fscanf(r, "%d ", &size); err != nil {
			return
		}
		line := make([]byte, size)
		if _, err := io.ReadFull(r, line); err != nil {
			return
		}
		got <- string(line)
	}
}

func (w *world) wantSeq(got <-chan string, from, to int) {
	w.Helper()
	for n := from; n <= to; {
		select {
		case line := <-got:
			var seq int
			_, rest, _ := strings.Cut(line, ` seq="`)
			if _, err := fmt.Sscanf(rest, "%d", &seq); err != nil || seq > n {
				w.Fatalf("want record %d, got %s", n, line)
			}
			if seq == n { // else it comes again
				n++
			}
		case <-time.After(20 * time.Second):
			w.Fatalf("record %d does not come", n)
		}
	}
}

func (w *world) act(n int) {
	for i := range n {
		w.Note(catalog.Record{Actor: fmt.Sprint(len(w.open), i), Action: "gc", Decision: catalog.AuditAllowed})
	}
	w.written()
}

// TestSyslogStreams: a receiver that goes away between two records, and takes the next connection, misses none
// of those that it was handed after.
func TestSyslogStreams(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			at := "127.0.0.1:0"
			if network == "unix" {
				at = filepath.Join(t.TempDir(), "log")
			}
			l, err := net.Listen(network, at)
			if err != nil {
				t.Fatal(err)
			}
			got, away := make(chan string, 100), make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				for _, n := range []int{3, 100} {
					c, err := l.Accept()
					if err != nil {
						return
					}
					if frames(t, c, n, got); n == 3 {
						close(away)
					}
				}
			})
			s, err := ParseSyslog(network + "://" + l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld(t, Options{Syslog: s})
			s.now = func() time.Time { return w.now }
			w.act(3)
			log := slog.New(slog.NewTextHandler(t.Output(), nil))
			s.hand(t.Context(), w.cat, log)
			w.wantSeq(got, 1, 3)
			<-away
			w.act(4)
			w.now = w.now.Add(syslogRetry)
			s.hand(t.Context(), w.cat, log)
			w.wantSeq(got, 4, 7)
			s.close()
			_ = l.Close()
			wg.Wait()
		})
	}
}

// TestSyslogDatagrams: by UDP, and by a socket as /dev/log is; another start goes on where the last one ended.
func TestSyslogDatagrams(t *testing.T) {
	for network, scheme := range map[string]string{"udp": "udp", "unixgram": "unix"} {
		t.Run(network, func(t *testing.T) {
			at := "127.0.0.1:0"
			if network == "unixgram" {
				at = filepath.Join(t.TempDir(), "log")
			}
			l, err := net.ListenPacket(network, at)
			if err != nil {
				t.Fatal(err)
			}
			got := make(chan string, 100)
			var wg sync.WaitGroup
			wg.Go(func() {
				for b := make([]byte, 1<<16); ; {
					n, _, err := l.ReadFrom(b)
					if err != nil {
						return
					}
					got <- string(b[:n])
				}
			})
			w := newWorld(t, Options{})
			for from := 1; from < 10; from += 3 {
				s, err := ParseSyslog(scheme + "://" + l.LocalAddr().String())
				if err != nil {
					t.Fatal(err)
				}
				w.act(3)
				s.hand(t.Context(), w.cat, slog.New(slog.NewTextHandler(t.Output(), nil)))
				w.wantSeq(got, from, from+2)
				s.close()
			}
			_ = l.Close()
			wg.Wait()
		})
	}
}

// TestSyslogStalls: a receiver that takes nothing holds up neither what is written nor what is chained.
func TestSyslogStalls(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // nobody accepts, or reads
	s, err := ParseSyslog("tcp://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, Options{Syslog: s, Log: slog.New(slog.DiscardHandler)})
	why := strings.Repeat("x", 1000)
	for i := range 4000 { // more than the connection holds
		w.Note(catalog.Record{Actor: fmt.Sprint(i), Action: "gc", Why: why, Decision: catalog.AuditAllowed})
	}
	w.written()
	ctx, end := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { w.Log.Run(ctx) })
	defer wg.Wait()
	defer end()
	w.Note(catalog.Record{Actor: "late", Action: "gc", Decision: catalog.AuditAllowed})
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		list, _, err := w.cat.Audit(t.Context(), catalog.AuditQuery{Actor: "late"}, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 1 {
			return
		}
		if time.Since(begun) > 4*time.Second {
			t.Fatal("what is written waits for the receiver")
		}
	}
}

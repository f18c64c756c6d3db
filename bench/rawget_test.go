package bench

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// drain is how many bytes of a body are thrown away at once.
const drain = 1 << 20

// fetch asks for a path over a connection of its own and throws the body away in the kernel
// (MSG_TRUNC of tcp(7)), so that the figure is the server's and not this client's. It
// returns MiB a second, the best of three: the first one warms the page cache.
func fetch(b *testing.B, base, path string, size int64) (best float64) {
	b.Helper()
	for range 3 {
		begin := time.Now()
		n, err := fetchOnce(strings.TrimPrefix(base, "http://"), path)
		if err != nil {
			b.Fatal(err)
		}
		if n != size {
			b.Fatalf("%s: %d bytes, want %d", path, n, size)
		}
		best = max(best, float64(size)/mib/time.Since(begin).Seconds())
	}
	return best
}

func fetchOnce(addr, path string) (int64, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	req, err := http.NewRequest(http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return 0, err
	}
	req.SetBasicAuth("admin", secret)
	if err := req.Write(conn); err != nil {
		return 0, err
	}
	r := bufio.NewReaderSize(conn, 4<<10)
	res, err := http.ReadResponse(r, req)
	if err != nil {
		return 0, err
	}
	// The body is not closed: that would wait for bytes that are gone.
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET %s: %s", path, res.Status)
	}
	n := int64(r.Buffered())
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, drain)
	for n < res.ContentLength {
		var got int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			part := min(int64(drain), res.ContentLength-n)
			got, _, failed = syscall.Recvfrom(int(fd), buf[:part], syscall.MSG_TRUNC)
			return failed != syscall.EAGAIN
		})
		if err != nil {
			return n, err
		}
		if failed != nil {
			return n, failed
		}
		if got == 0 {
			return n, fmt.Errorf("GET %s: ended after %d bytes", path, n)
		}
		n += int64(got)
	}
	return n, nil
}

package edge

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// ConnLimits bound the connections that are open at the same time; 0 is no limit.
type ConnLimits struct {
	Total   int
	PerAddr int     // from one address, or one network /64 of version 6
	Exempt  Proxies // have no limit of their own: many stand behind them
	TLS     bool    // what is refused cannot be told why
}

// Limit accepts from l no more connections than there may be. Others are told 503 and closed.
// The connections are *net.TCPConn in all but name: what a server sends by the kernel from a
// file still goes that way.
func Limit(l net.Listener, c ConnLimits) net.Listener {
	return &limited{Listener: l, limits: c, from: map[string]int{}, refusing: make(chan struct{}, maxRefusing)}
}

// maxRefusing bounds the connections that are being told so.
const maxRefusing = 64

type limited struct {
	net.Listener
	limits   ConnLimits
	refusing chan struct{}
	told     sync.WaitGroup

	mu    sync.Mutex
	total int
	from  map[string]int // by network
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := c.(*net.TCPConn)
		if !ok {
			return nil, errors.Join(errors.New("a listener of another kind than TCP cannot be limited"), c.Close())
		}
		addr := addrOf(tcp)
		if l.enter(addr) {
			return &conn{TCPConn: tcp, leave: func() { l.leave(addr) }}, nil
		}
		l.refuse(tcp)
	}
}

// Close implements net.Listener. It waits for those who are being told that there is no room.
func (l *limited) Close() error {
	err := l.Listener.Close()
	l.told.Wait()
	return err
}

func addrOf(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

func (l *limited) enter(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limits.Total > 0 && l.total >= l.limits.Total {
		return false
	}
	n := network(a)
	if l.limits.PerAddr > 0 && l.from[n] >= l.limits.PerAddr && !l.limits.Exempt.trusts(a) {
		return false
	}
	l.total++
	l.from[n]++
	return true
}

func (l *limited) leave(a netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	n := network(a)
	if l.from[n]--; l.from[n] == 0 {
		delete(l.from, n)
	}
}

const refusal = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 116\r\n\r\n" +
	`{"errors":[{"code":"UNAVAILABLE","message":"too many connections are open at the moment; try again in 5 seconds"}]}` + "\n"

// refuse tells a client that there is no room, at once and without reading what it asks.
func (l *limited) refuse(c *net.TCPConn) {
	select {
	case l.refusing <- struct{}{}:
	default:
		_ = c.Close()
		return
	}
	l.told.Go(func() { // ends by the deadline
		defer func() { <-l.refusing }()
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(refusalTime))
		if l.limits.TLS {
			return
		}
		if _, err := io.WriteString(c, refusal); err != nil {
			return
		}
		// Closed with its request unread, the connection would be reset before the client reads.
		_ = c.CloseWrite()
		_, _ = io.CopyN(io.Discard, c, 64<<10)
	})
}

const refusalTime = time.Second

// conn is a connection that is counted until it is closed.
type conn struct {
	*net.TCPConn
	once  sync.Once
	leave func()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	defer c.once.Do(c.leave)
	return c.TCPConn.Close()
}

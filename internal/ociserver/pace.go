package ociserver

import (
	"errors"
	"io"
	"net/http"
	"time"

	"pratique.dev/pratique/internal/oci"
)

// The slowest that a body may come and an answer may be taken, in bytes a second on
// average. Who is slower holds a connection, and for a body one of the places of
// registry.Options.MaxTransfers, at next to no cost to themselves.
const (
	slowestBody   = 4 << 10 // after twice Options.BodyTimeout
	slowestAnswer = 32 << 10
	answerGrace   = 2 * time.Minute
	maxDocument   = 16 << 20 // what a list or a refusal is taken for; most are far shorter
)

// bound gives an answer of size bytes a time to be taken in. It holds for what is still
// buffered when the handler has returned, until the connection's next request.
func bound(w http.ResponseWriter, size int64) {
	// A writer without deadlines is one of a test.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerGrace + time.Duration(size/slowestAnswer)*time.Second))
}

// timed puts a request's body under a deadline: it is given up when it brings nothing
// for Options.BodyTimeout, or too little. That holds for the rest as well that the server
// reads away when a handler has not taken all of it, which is why the deadline is lifted
// only at the body's end; the server lifts it before the next request.
func (s *server) timed(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Time{}) // that of the connection's request before this one
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	p := &patient{ReadCloser: r.Body, rc: rc, wait: s.o.BodyTimeout, begun: time.Now()}
	p.move(p.begun)
	r.Body = p
}

// patient moves the connection's read deadline on as long as enough bytes come.
type patient struct {
	io.ReadCloser
	rc    *http.ResponseController
	wait  time.Duration
	begun time.Time
	moved time.Time // when the deadline was last set
	n     int64
}

var errSlow = oci.Errorf(oci.CodeBlobUploadInvalid, "the request was given up: its body came at less than %d bytes a second", slowestBody)

func (p *patient) move(now time.Time) {
	_ = p.rc.SetReadDeadline(now.Add(p.wait)) // a writer without deadlines is one of a test
	p.moved = now
}

func (p *patient) Read(b []byte) (int, error) {
	now := time.Now()
	if over := now.Sub(p.begun) - 2*p.wait; over > 0 && float64(p.n) < slowestBody*over.Seconds() {
		return 0, errSlow
	}
	// Not at every read: a deadline that is off by a tenth does no harm.
	if now.Sub(p.moved) > p.wait/10 {
		p.move(now)
	}
	n, err := p.ReadCloser.Read(b)
	p.n += int64(n)
	if errors.Is(err, io.EOF) {
		// From here on the server listens whether the client is still there.
		_ = p.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

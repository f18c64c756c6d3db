package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"pratique.dev/pratique/internal/catalog"
)

// Bounds of handing records on: how many at a time, how long one may take, and how long it is
// from a failure to the next try.
const (
	syslogBatch   = 500
	syslogTimeout = 5 * time.Second
	syslogRetry   = 30 * time.Second
	// syslogCursor is the setting with the seq of the last record that was handed on.
	syslogCursor = "audit.syslog"
)

// Syslog hands records on in the form of RFC 5424, in their order and each at least once.
type Syslog struct {
	network, address string
	host             string
	conn             net.Conn
	stream           bool
	failed           time.Time
	now              func() time.Time
}

// ParseSyslog reads where to: udp://HOST:PORT, tcp://HOST:PORT or unix:///PATH of a socket.
func ParseSyslog(s string) (*Syslog, error) {
	u, err := url.Parse(s)
	bad := fmt.Errorf("syslog %.100q: expected udp://HOST:PORT, tcp://HOST:PORT or unix:///dev/log", s)
	if err != nil || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, bad
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "-"
	}
	l := &Syslog{network: u.Scheme, address: u.Host, host: field(host, 255), now: time.Now}
	switch {
	case (u.Scheme == "udp" || u.Scheme == "tcp") && u.Port() != "" && u.Hostname() != "" && strings.Trim(u.Path, "/") == "":
		return l, nil
	case u.Scheme == "unix" && u.Host == "" && u.Path != "":
		l.network, l.address = "unixgram", u.Path
		return l, nil
	}
	return nil, bad
}

// run hands on what is chained, each second, until ctx ends.
func (s *Syslog) run(ctx context.Context, cat *catalog.Catalog, log *slog.Logger) {
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	for {
		s.hand(ctx, cat, log)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// hand hands on what was chained since. What could not be is tried again later; nobody waits for it.
func (s *Syslog) hand(ctx context.Context, cat *catalog.Catalog, log *slog.Logger) {
	if s.now().Sub(s.failed) < syslogRetry {
		return
	}
	if err := s.send(ctx, cat); err != nil && ctx.Err() == nil {
		s.failed = s.now()
		s.close()
		log.ErrorContext(ctx, "audit records not handed on to syslog; they are kept, and tried again", "to", s.address, "err", err)
	}
}

func (s *Syslog) send(ctx context.Context, cat *catalog.Catalog) error {
	raw, err := cat.Setting(ctx, syslogCursor)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	cursor, _ := strconv.ParseInt(string(raw), 10, 64) // none: from the beginning
	for {
		records, err := cat.AuditAfter(ctx, cursor, syslogBatch)
		if err != nil || len(records) == 0 {
			return err
		}
		if s.gone() != nil {
			s.close() // while there was nothing to hand on; what is written now would be lost
		}
		for _, r := range records {
			if err := errors.Join(ctx.Err(), s.write(ctx, s.line(r))); err != nil {
				return err
			}
			cursor = r.Seq
		}
		if err := s.gone(); err != nil {
			return err
		}
		if err := cat.PutSetting(ctx, syslogCursor, strconv.AppendInt(nil, cursor, 10)); err != nil {
			return err
		}
		if len(records) < syslogBatch {
			return nil
		}
	}
}

// gone says why a stream has no other end any more, nil if it has, as far as can be told: writes
// succeed for a while when it has none. Syslog acknowledges nothing, so what a receiver took and
// lost is lost.
func (s *Syslog) gone() error {
	if s.conn == nil || !s.stream {
		return nil
	}
	if err := s.conn.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		return err
	}
	_, err := s.conn.Read(make([]byte, 1))
	var late net.Error
	if err == nil || errors.As(err, &late) && late.Timeout() {
		return nil
	}
	return err
}

// dial reaches the receiver; a socket of this machine may be one of datagrams or a stream.
func (s *Syslog) dial(ctx context.Context) (err error) {
	d := net.Dialer{Timeout: syslogTimeout}
	s.stream = s.network == "tcp"
	if s.conn, err = d.DialContext(ctx, s.network, s.address); err != nil && s.network == "unixgram" {
		s.stream = true
		s.conn, err = d.DialContext(ctx, "unix", s.address)
	}
	if err != nil {
		s.conn = nil
	}
	return err
}

func (s *Syslog) write(ctx context.Context, line string) (err error) {
	if s.conn == nil {
		if err := s.dial(ctx); err != nil {
			return err
		}
	}
	if s.stream {
		line = strconv.Itoa(len(line)) + " " + line // octet counting, RFC 6587, section 3.4.1
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(syslogTimeout)); err != nil {
		return err
	}
	_, err = s.conn.Write([]byte(line))
	return err
}

func (s *Syslog) close() {
	if s.conn != nil {
		_ = s.conn.Close() // what was written is on its way
		s.conn = nil
	}
}

// Priorities: facility 13 (log audit), severity informational or warning (RFC 5424, section 6.2.1).
const (
	priorityInfo    = 13*8 + 6
	priorityWarning = 13*8 + 4
)

// line is a record in the form of RFC 5424. The structured data's ID has the number that the RFC keeps for examples.
func (s *Syslog) line(r catalog.Record) string {
	priority := priorityInfo
	if r.Decision != catalog.AuditAllowed {
		priority = priorityWarning
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<%d>1 %s %s pratique - %s [pratique@32473", priority, r.At.UTC().Format("2006-01-02T15:04:05.000000Z"), s.host, field(r.Action, 32))
	for _, p := range [][2]string{{"seq", strconv.FormatInt(r.Seq, 10)}, {"hash", r.Hash}, {"actor", r.Actor}, {"actorId", r.ActorID}, {"kind", r.Kind}, {"action", r.Action}, {"target", r.Target},
		{"decision", r.Decision}, {"why", r.Why}, {"address", r.Address}, {"request", r.Request}, {"detail", string(r.Detail)}} {
		if p[1] != "" {
			fmt.Fprintf(&b, ` %s="%s"`, p[0], param(p[1]))
		}
	}
	if r.Count > 1 {
		fmt.Fprintf(&b, ` count="%d"`, r.Count)
	}
	who := r.Actor
	if who == "" {
		who = "somebody"
	}
	fmt.Fprintf(&b, "] %s %s %s: %s", param(who), r.Action, param(r.Target), r.Decision)
	return b.String()
}

// field is a text as a header field may have it: visible ASCII, bounded.
func field(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return -1
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), limit)]
}

// param escapes what would end a parameter's value (RFC 5424, section 6.3.3), and takes control characters out.
func param(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`).Replace(s)
}

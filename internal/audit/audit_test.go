package audit

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pratique.dev/pratique/internal/catalog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// world is a log whose time is the test's.
type world struct {
	*testing.T
	*Log
	now  time.Time
	file string // of the catalog
}

func newWorld(t *testing.T, o Options) *world {
	t.Helper()
	w := &world{T: t, now: start, file: filepath.Join(t.TempDir(), "catalog.db")}
	o.Now = func() time.Time { return w.now }
	cat, err := catalog.Open(t.Context(), "sqlite:"+w.file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cat.Close(); err != nil {
			t.Error(err)
		}
	})
	w.Log = New(cat, o)
	return w
}

func (w *world) written() []catalog.Record {
	w.Helper()
	if err := w.Write(w.Context()); err != nil {
		w.Fatal(err)
	}
	all, err := w.cat.AuditAfter(w.Context(), 0, 0)
	if err != nil {
		w.Fatal(err)
	}
	return all
}

func guess(address string) catalog.Record {
	return catalog.Record{Actor: "admin", Action: "login", Decision: catalog.AuditDenied, Address: address}
}

// TestAlike: what is alike is one record at once, and one more with the number of all others within a minute.
func TestAlike(t *testing.T) {
	w := newWorld(t, Options{})
	for i := range 60_000 {
		w.Note(guess("192.0.2.1"))
		if i%1000 == 0 {
			w.now = w.now.Add(time.Second)
			w.written()
		}
	}
	w.now = w.now.Add(alikeFor)
	w.written()
	w.Note(guess("192.0.2.2"))
	all := w.written()
	n := 0
	for _, r := range all {
		n += max(r.Count, 1)
	}
	if n != 60_001 || len(all) > 6 {
		t.Errorf("%d records of %d acts", len(all), n)
	}
	if len(w.open) != 1 { // that of the other address is written, and waits for others
		t.Errorf("%d wait", len(w.open))
	}
}

// TestOverflow: more than there is room for is counted, and nobody waits.
func TestOverflow(t *testing.T) {
	w := newWorld(t, Options{})
	for i := range maxOpen + 7 {
		w.Note(catalog.Record{Actor: fmt.Sprint(i), ActorID: "1", Action: "pull", Decision: catalog.AuditAllowed})
	}
	all := w.written()
	more, err := w.cat.AuditAfter(t.Context(), int64(len(all)), 0)
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, more...)
	if last := all[len(all)-1]; len(all) != maxOpen+1 || last.Action != "audit-overflow" || last.Count != 7 {
		t.Errorf("%d records, the last %+v", len(all), last)
	}
}

// TestFlood: strangers, who make up names and addresses, fill neither the memory nor the log, and leave
// room for what is done and for those who are known.
func TestFlood(t *testing.T) {
	w := newWorld(t, Options{})
	for i := range 2000 {
		r := guess("192.0.2.1")
		r.Actor = fmt.Sprint("one", i)
		w.Note(r)
	}
	all := w.written()
	if last := all[len(all)-1]; len(all) != maxNames+1 || !slices.ContainsFunc(all, func(r catalog.Record) bool { return r.Count == 2000-maxNames && r.Actor == "" }) {
		t.Errorf("one address has %d records, the last %+v", len(all), last)
	}
	for i := range 5000 {
		w.Note(guess(fmt.Sprint("2001:db8::", i)))
	}
	denied := catalog.Record{Actor: "ann", ActorID: "1", Action: "request", Decision: catalog.AuditDenied}
	w.Note(denied)
	w.Note(catalog.Record{Actor: "ann", ActorID: "1", Action: "gc", Decision: catalog.AuditAllowed})
	by := map[string]int{}
	for _, r := range w.written() {
		by[r.Action]++
		by["lost"] += map[bool]int{true: r.Count}[r.Action == "audit-overflow"]
	}
	if by["login"] != maxStrangers || by["request"] != 1 || by["gc"] != 1 || by["lost"] != 5000-(maxStrangers-maxNames-1) {
		t.Errorf("%v", by)
	}
	w.now = w.now.Add(alikeFor)
	w.written()
	if len(w.open) != 0 || len(w.from) != 0 || w.held != [3]int{} {
		t.Errorf("left: %d, %v, %v", len(w.open), w.from, w.held)
	}
}

// TestUnwritten: what the catalog could not take is written as soon as it can.
func TestUnwritten(t *testing.T) {
	w := newWorld(t, Options{})
	w.Note(guess("192.0.2.1"))
	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := w.Write(gone); err == nil {
		t.Fatal("written, though nobody waited for it")
	}
	if all := w.written(); len(all) != 1 || all[0].Address != "192.0.2.1" {
		t.Errorf("%+v", all)
	}
}

func TestPulls(t *testing.T) {
	for _, recorded := range []bool{false, true} {
		w := newWorld(t, Options{Pulls: recorded})
		w.NotePull(catalog.Record{Actor: "ann", Action: "pull"})
		if n := len(w.written()); n == 1 != recorded {
			t.Errorf("pulls recorded %v: %d records", recorded, n)
		}
	}
}

func (w *world) verify(head catalog.AuditMark) Verified {
	w.Helper()
	v, err := Verify(w.Context(), w.cat, head, func(int64) {})
	if err != nil {
		w.Fatal(err)
	}
	return v
}

// exec does what somebody does who can write to the database.
func (w *world) exec(text string, args ...any) {
	w.Helper()
	db, err := sql.Open("sqlite3", w.file)
	if err == nil {
		_, err = db.ExecContext(w.Context(), text, args...)
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		w.Fatal(err)
	}
}

// TestVerify: a log that nobody touched holds, pruned or not; each way of touching it shows.
func TestVerify(t *testing.T) {
	filled := func(t *testing.T) *world {
		w := newWorld(t, Options{Keep: time.Hour})
		for i := range 2500 {
			w.now = w.now.Add(time.Second)
			w.Note(guess(fmt.Sprint(i)))
			if i%100 == 0 {
				w.written()
			}
		}
		w.written()
		return w
	}
	w := filled(t)
	if v := w.verify(catalog.AuditMark{}); v.Broken != "" || v.Records != 2500 || v.Head.Seq != 2500 || v.Open != 0 {
		t.Fatalf("%+v", v)
	}
	noted := w.verify(catalog.AuditMark{}).Head
	w.now = w.now.Add(40 * time.Minute)
	if n, err := w.Prune(t.Context()); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	v := w.verify(noted)
	if v.Broken != "" || v.Behind.Seq == 0 || v.Records+v.Behind.Seq != 2500 {
		t.Errorf("pruned: %+v", v)
	}
	if v := w.verify(catalog.AuditMark{Seq: 1, Hash: noted.Hash}); v.Broken == "" {
		t.Error("a head that was pruned counts as seen")
	}
	for name, tc := range map[string]struct {
		touch func(w *world)
		at    int64
	}{
		"a record is changed":     {func(w *world) { w.exec(`update audit set actor = 'nobody' where seq = $1`, 1200) }, 1200},
		"one is taken out":        {func(w *world) { w.exec(`delete from audit where seq = $1`, 77) }, 77},
		"the first is taken out":  {func(w *world) { w.exec(`delete from audit where seq = $1`, 1) }, 1},
		"the end is cut off":      {func(w *world) { w.exec(`delete from audit where seq > $1`, 2400) }, 2401},
		"a document is damaged":   {func(w *world) { w.exec(`update audit set doc = '{' where seq = $1`, 5) }, 5},
		"the counter is set back": {func(w *world) { w.exec(`update counters set value = 2400 where name = 'audit'`) }, 2401},
		"one is put before the first": {func(w *world) {
			w.exec(`insert into audit (at, actor, action, target, decision, doc, seq, hash) values (0, '', '', '', '', '{}', 0, x'00')`)
		}, 1},
		"the anchor is moved on": {func(w *world) {
			r := w.written()[99]
			raw, _ := json.Marshal(catalog.AuditMark{Seq: r.Seq, Hash: r.Hash})
			w.exec(`insert into settings (name, value) values ('audit.anchor', $1)`, raw)
		}, 101},
		"all is gone": {func(w *world) { w.exec(`delete from audit`) }, 1},
		"the end is cut off and the counter set back": {func(w *world) {
			w.exec(`delete from audit where seq > $1`, 2400)
			w.exec(`update counters set value = 2400 where name = 'audit'`)
		}, 2401},
		"the chain is made anew": {func(w *world) {
			w.exec(`update audit set seq = null, hash = null, actor = 'nobody'`)
			w.exec(`update counters set value = 0 where name = 'audit'`)
			w.written()
		}, 2500},
	} {
		t.Run(name, func(t *testing.T) {
			w := filled(t)
			head := w.verify(catalog.AuditMark{}).Head
			tc.touch(w)
			if v := w.verify(head); v.Broken == "" || v.At != tc.at {
				t.Errorf("%+v, want it broken at %d", v, tc.at)
			}
		})
	}
}

func TestParseSyslog(t *testing.T) {
	for _, s := range []string{"udp://127.0.0.1:514", "tcp://[::1]:601", "tcp://logs.example:6514", "unix:///dev/log"} {
		if _, err := ParseSyslog(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"", "127.0.0.1:514", "udp://127.0.0.1", "http://127.0.0.1:514", "unix://dev/log", "unix://", "tcp://:514", "udp://a:1/path", "udp://a:1?x=y", "\x00"} {
		if _, err := ParseSyslog(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

// TestSyslog: records arrive in their order, framed; what a receiver missed comes once it is back.
func TestSyslog(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSyslog("tcp://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, Options{Syslog: s})
	s.now = func() time.Time { return w.now }
	defer s.close()
	log := slog.New(slog.DiscardHandler)
	receive := func(n int) (lines []string) {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r := bufio.NewReader(c)
		for range n {
			var size int
			if _, err := fmt.Fscanf(r, "%d ", &size); err != nil {
				t.Fatal(err)
			}
			line := make([]byte, size)
			if _, err := io.ReadFull(r, line); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, string(line))
		}
		return lines
	}
	w.Note(catalog.Record{Actor: `a"b]\`, Action: "push", Target: "team/app:v1\n<0>forged", Decision: catalog.AuditAllowed, Request: "r1"})
	w.written()
	s.hand(t.Context(), w.cat, log)
	want := `pratique - push [pratique@32473 seq="1" hash="`
	if got := receive(1)[0]; !strings.HasPrefix(got, "<110>1 2026-11-28T12:00:00.000000Z ") || !strings.Contains(got, want) || !strings.Contains(got, `actor="a\"b\]\\"`) ||
		!strings.Contains(got, `target="team/app:v1 <0>forged"`) || strings.ContainsAny(got, "\n\x00") {
		t.Errorf("%s", got)
	}
	s.close()
	addr := l.Addr().String()
	if err := l.Close(); err != nil { // the receiver is away
		t.Fatal(err)
	}
	for i := range 3 {
		w.Note(guess(fmt.Sprint(i)))
	}
	w.written()
	s.hand(t.Context(), w.cat, log)
	if l, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w.now = w.now.Add(syslogRetry)
	s.hand(t.Context(), w.cat, log)
	for i, line := range receive(3) {
		if !strings.HasPrefix(line, "<108>1 ") || !strings.Contains(line, fmt.Sprintf(`seq="%d"`, i+2)) {
			t.Errorf("%s", line)
		}
	}
}

package cli

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progress shows how far a long job has come: one line that is written over on a
// terminal, and a line every few seconds elsewhere. Nothing is shown of a job that is
// through within a second.
type progress struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	started  time.Time
	last     time.Time
	shown    bool
}

const (
	progressAfter    = time.Second
	progressTerminal = 100 * time.Millisecond
	progressLog      = 5 * time.Second
)

func newProgress(w io.Writer) *progress {
	return &progress{w: w, terminal: isTerminal(w), started: time.Now()}
}

// update shows done of total; total 0 means that it is not known.
func (p *progress) update(what string, done, total int64, text func(int64) string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	every := progressLog
	if p.terminal {
		every = progressTerminal
	}
	if now.Sub(p.started) < progressAfter || now.Sub(p.last) < every {
		return
	}
	p.last = now
	line := fmt.Sprintf("%s: %s", what, text(done))
	if total > 0 {
		line = fmt.Sprintf("%s: %s of %s (%d %%)", what, text(done), text(total), 100*done/total)
	}
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s", line)
		p.shown = true
		return
	}
	fmt.Fprintln(p.w, line)
}

// done clears the line.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

func countText(n int64) string { return fmt.Sprint(n) }

package catalog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// fileSize is the size of the catalog's file, without its log.
func (g *grouping) fileSize(t *testing.T) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(g.dir, "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestCheckpoint: no commit copies the log, and once it is copied the next one begins it anew.
func TestCheckpoint(t *testing.T) {
	g := newGrouping(t)
	k := g.write.checkpoints
	k.end()
	before := g.fileSize(t)
	const size = 1 << 20
	for i := range 20 {
		if err := g.tx(t.Context(), put(fmt.Sprint("s", i), size)); err != nil {
			t.Fatal(err)
		}
	}
	if n := g.fileSize(t); n != before {
		t.Errorf("the file has %d bytes after the commits, %d before: a commit has copied the log", n, before)
	}
	if len(k.due) != 1 {
		t.Errorf("%d pages are in the log, and nobody is told", k.last)
	}
	if err := k.copy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := g.fileSize(t); n < before+20*size {
		t.Errorf("the file has %d bytes after the log was copied, want at least %d", n, before+20*size)
	}
	if err := g.tx(t.Context(), put("last", 1)); err != nil {
		t.Fatal(err)
	}
	if k.last >= 100 || k.at.Load() != checkpointAt {
		t.Errorf("the log has %d pages and is due at %d; want that it has begun anew", k.last, k.at.Load())
	}
}

// TestCheckpointOfBusyLog: transactions that never pause do not make the log longer for ever.
func TestCheckpointOfBusyLog(t *testing.T) {
	g := newGrouping(t)
	g.CheckpointAt(50, 200)
	g.group.time = 0 // a commit for each
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 250 {
				if err := g.tx(context.Background(), put(fmt.Sprintf("w%d-%d", w, i), 4000)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	g.write.checkpoints.end()
	if n := g.write.checkpoints.last; n > 2000 {
		t.Errorf("the log has %d pages", n)
	}
}

// TestCheckpointFails: what cannot be copied stays where it is, and is copied later.
func TestCheckpointFails(t *testing.T) {
	g := newGrouping(t)
	k := g.write.checkpoints
	k.end()
	if err := g.tx(t.Context(), put("x", 1<<20)); err != nil {
		t.Fatal(err)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := k.copy(gone); err == nil {
		t.Error("no error of a checkpoint that was not done")
	}
	if k.at.Load() != checkpointAt {
		t.Errorf("the next one is due at %d pages, want %d", k.at.Load(), checkpointAt)
	}
	if got := g.has(t, "x"); got != "x" {
		t.Errorf("kept: %q", got)
	}
}

package catalog

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
)

// Lengths of SQLite's log, in pages of 4 KiB.
const (
	checkpointAt = 4000  // so much more of it is copied into the file at once
	longestLog   = 16000 // beyond it transactions wait until all of it is copied
)

// checkpoints copies what SQLite has committed from its log into its file, so that the log
// begins anew. By itself SQLite does so within a commit, which then waits for the disk
// ten times as long as others; here it is done beside the commits.
type checkpoints struct {
	read, write *pool
	log         *slog.Logger
	every       int          // checkpointAt
	longest     int          // longestLog
	at          atomic.Int64 // the length of the log from which on one is due
	last        int          // the length at the last commit
	due         chan struct{}

	stop  context.CancelFunc
	ended chan struct{}
}

func newCheckpoints() *checkpoints {
	k := &checkpoints{every: checkpointAt, longest: longestLog, due: make(chan struct{}, 1)}
	k.at.Store(checkpointAt)
	return k
}

// committed is told the length of the log after each commit, by the one connection that writes.
func (k *checkpoints) committed(pages int) {
	if pages < k.last { // it has begun anew
		k.at.Store(int64(k.every))
	}
	if k.last = pages; int64(pages) < k.at.Load() {
		return
	}
	select {
	case k.due <- struct{}{}:
	default:
	}
}

// start lets a goroutine work until end.
func (k *checkpoints) start(read, write *pool, log *slog.Logger) {
	k.read, k.write, k.log = read, write, log
	ctx, stop := context.WithCancel(context.Background())
	k.stop, k.ended = stop, make(chan struct{})
	go func() {
		defer close(k.ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-k.due:
			}
			if err := k.copy(ctx); err != nil && ctx.Err() == nil {
				// Nothing is lost: it stays in the log, and the next commit asks again.
				k.log.WarnContext(ctx, "catalog's log not copied into its file", "err", asKnown(err))
			}
		}
	}()
}

func (k *checkpoints) end() {
	if k.stop != nil {
		k.stop()
		<-k.ended
	}
}

// copy copies the log while transactions go on. As long as those make it longer, it does not
// begin anew; where it has become too long, they wait for the rest.
func (k *checkpoints) copy(ctx context.Context) error {
	pages, copied, err := checkpoint(ctx, k.read)
	if err == nil && pages > k.longest {
		pages, copied, err = checkpoint(ctx, k.write)
	}
	if err != nil {
		return err
	}
	k.at.Store(int64(copied + k.every))
	k.log.DebugContext(ctx, "catalog's log copied into its file", "pages", pages, "copied", copied)
	return nil
}

// checkpoint copies what it can without waiting for anybody, by one of the pool's connections,
// and says how long the log is and how much of it is copied.
func checkpoint(ctx context.Context, p *pool) (pages, copied int, err error) {
	var busy int
	if err := p.db.QueryRowContext(ctx, `pragma wal_checkpoint(passive)`).Scan(&busy, &pages, &copied); err != nil {
		return 0, 0, fmt.Errorf("checkpoint: %w", err)
	}
	return pages, copied, nil
}

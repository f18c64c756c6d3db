package registry

import (
	"context"
	"errors"
	"time"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// DefaultGrace is how long content that nothing needs is spared after it was last pushed,
// mounted, or asked for by somebody who may push.
const DefaultGrace = time.Hour

// historyLife is how long the history of tags is kept.
const historyLife = 365 * 24 * time.Hour

// collectBatch is how many rows one step of a collection looks at: a push waits for no
// more than one step's transaction.
const collectBatch = 500

// ErrCollecting says that a collection is under way already.
var ErrCollecting = errors.New("a collection of garbage is under way already")

// Collection is what a collection of garbage has freed so far, or would free.
type Collection struct {
	DryRun    bool
	Phase     string // what it is at; "" once it is through
	Started   time.Time
	Ended     time.Time
	Manifests int   // whose time in the trash was over
	Links     int   // blobs taken out of one repository
	Blobs     int   // that no repository has any more
	Files     int   // in the store, that the catalog does not know
	Bytes     int64 // of those blobs and files
	Records   int   // inventories, package versions and moves of tags
	// Held is why blobs were left where they are, "" if they were not.
	Held string
}

// CollectOptions say how to collect.
type CollectOptions struct {
	DryRun bool
	// Progress hears how far it has come, after each step.
	Progress func(Collection)
}

// Collect frees what nothing needs: manifests whose time in the trash is over, blobs that
// no manifest names and that are older than the grace, bytes in the store that the catalog
// does not know, and records of what is gone. It stops nobody: it goes in small steps,
// each of which looks again before it takes anything away, and waits for no push but has
// pushes of the very blobs at hand wait for one step. One collection runs at a time;
// ErrCollecting otherwise. What was freed before an error stays freed and is returned.
func (r *Registry) Collect(ctx context.Context, o CollectOptions) (Collection, error) {
	select {
	case r.collecting <- struct{}{}:
		defer func() { <-r.collecting }()
	default:
		return Collection{}, ErrCollecting
	}
	c := &collector{r: r, o: o, done: Collection{DryRun: o.DryRun, Started: r.o.Now().UTC()}}
	c.before = c.done.Started.Add(-r.o.Grace)
	for _, phase := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"trash", c.trash},
		{"links", c.links},
		{"blobs", c.blobs},
		{"files", c.files},
		{"records", c.records},
	} {
		c.done.Phase = phase.name
		if err := phase.run(ctx); err != nil {
			return c.done, err
		}
	}
	c.done.Phase, c.done.Ended = "", r.o.Now().UTC()
	c.tell()
	return c.done, nil
}

type collector struct {
	r      *Registry
	o      CollectOptions
	before time.Time // what was touched after is spared
	done   Collection
}

func (c *collector) tell() {
	if c.o.Progress != nil {
		c.o.Progress(c.done)
	}
}

// trash drops the manifests whose time in the trash is over.
func (c *collector) trash(ctx context.Context) error {
	for more := true; more; c.tell() {
		p, err := c.r.cat.PurgeTrash(ctx, c.r.o.Now(), collectBatch, c.o.DryRun)
		if err != nil {
			return err
		}
		c.done.Manifests += p.Removed
		more = p.More
	}
	return nil
}

func (c *collector) links(ctx context.Context) error {
	for mark, more := (catalog.LinkMark{}), true; more; c.tell() {
		var p catalog.Pruned
		var err error
		if mark, p, err = c.r.cat.PruneLinks(ctx, mark, c.before, collectBatch, c.o.DryRun); err != nil {
			return err
		}
		c.done.Links += p.Removed
		more = p.More
	}
	return nil
}

func (c *collector) blobs(ctx context.Context) error {
	for after, more := int64(0), true; more; c.tell() {
		found, next, err := c.r.cat.Orphans(ctx, after, c.before, c.r.o.Now(), collectBatch)
		if err != nil {
			return err
		}
		after, more = next, next > 0
		if err := c.drop(ctx, found); errors.Is(err, catalog.ErrLeased) {
			c.done.Held = err.Error()
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// drop forgets blobs and removes their bytes, but those that are being pushed.
func (c *collector) drop(ctx context.Context, found []catalog.Orphan) error {
	size := map[oci.Digest]int64{}
	var free []oci.Digest
	for _, o := range found {
		if c.o.DryRun {
			c.done.Blobs++
			c.done.Bytes += o.Size
			continue
		}
		if release, ok := c.r.contents.claim(o.Digest); ok {
			defer release()
			free = append(free, o.Digest)
			size[o.Digest] = o.Size
		}
	}
	if len(free) == 0 {
		return nil
	}
	// If the process ends between the two, the bytes are strangers to the catalog, which
	// the next collection removes.
	gone, err := c.r.cat.DropBlobs(ctx, free, c.before, c.r.o.Now())
	if err != nil {
		return err
	}
	c.done.Blobs += len(gone)
	// A manifest may have been pushed as a blob too.
	if gone, err = c.r.cat.Strangers(ctx, gone); err != nil {
		return err
	}
	for _, d := range gone {
		if err := c.r.store.Delete(context.WithoutCancel(ctx), d); err != nil {
			return err
		}
		c.done.Bytes += size[d]
	}
	return nil
}

// files removes from the store what the catalog does not know: what a crash has left
// between a blob's becoming durable and its being written down, and the bytes of
// manifests that are gone. A store that cannot tell ages keeps all.
func (c *collector) files(ctx context.Context) error {
	aged, ok := c.r.store.(blob.Aged)
	if !ok {
		return nil
	}
	page := make([]oci.Digest, 0, collectBatch)
	for d, err := range c.r.store.List(ctx) {
		if err != nil {
			return err
		}
		if page = append(page, d); len(page) < collectBatch {
			continue
		}
		if err := c.strangers(ctx, aged, page); err != nil {
			return err
		}
		page = page[:0]
	}
	return c.strangers(ctx, aged, page)
}

func (c *collector) strangers(ctx context.Context, aged blob.Aged, page []oci.Digest) error {
	defer c.tell()
	found, err := c.r.cat.Strangers(ctx, page)
	if err != nil {
		return err
	}
	var locked []oci.Digest
	for _, d := range found {
		at, err := aged.Since(ctx, d)
		if errors.Is(err, blob.ErrNotFound) || err == nil && !at.Before(c.before) {
			continue
		}
		if err != nil {
			return err
		}
		if release, ok := c.r.contents.claim(d); ok {
			defer release()
			locked = append(locked, d)
		}
	}
	if len(locked) == 0 {
		return nil
	}
	// A push may have come before the locks.
	if locked, err = c.r.cat.Strangers(ctx, locked); err != nil {
		return err
	}
	for _, d := range locked {
		size, err := c.r.store.Stat(ctx, d)
		if errors.Is(err, blob.ErrNotFound) {
			continue
		}
		if err == nil && !c.o.DryRun {
			err = c.r.store.Delete(ctx, d)
		}
		if err != nil {
			return err
		}
		c.done.Files++
		c.done.Bytes += size
	}
	return nil
}

// records forgets what is kept about things that are gone.
func (c *collector) records(ctx context.Context) error {
	count := func(p catalog.Pruned) bool {
		c.done.Records += p.Removed
		c.tell()
		return p.More
	}
	for mark, more := "", true; more; {
		var p catalog.Pruned
		var err error
		if mark, p, err = c.r.cat.PruneLayers(ctx, mark, collectBatch, c.o.DryRun); err != nil {
			return err
		}
		more = count(p)
	}
	for mark, more := int64(0), true; more; {
		var p catalog.Pruned
		var err error
		if mark, p, err = c.r.cat.PrunePackages(ctx, mark, collectBatch, c.o.DryRun); err != nil {
			return err
		}
		more = count(p)
	}
	for more := true; more; {
		p, err := c.r.cat.PruneHistory(ctx, c.r.o.Now().Add(-historyLife), collectBatch, c.o.DryRun)
		if err != nil {
			return err
		}
		more = count(p)
	}
	return nil
}

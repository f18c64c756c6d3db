package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
)

// Bounds of what is done beside a push.
const (
	// maxFollowed bounds the uploads that are examined while they come in. What goes
	// beyond it is read from the store once its manifest is judged.
	maxFollowed = 16
	// followIdle is how long an examination waits for the next byte of its upload.
	followIdle = time.Minute
	// patience is how long uploads over a fast link have the cores to themselves, and how
	// long in all an examination waits for them: the bytes are in sooner than they can be
	// unpacked, and unpacking meanwhile would only hold them up.
	patience = 1500 * time.Millisecond
	// fastLink is the bytes a second from which on a link is fast. Over a slower one there
	// is time to unpack beside the push, and the verdict need not wait for it.
	fastLink = 30 << 20
)

// exam is the examination of one upload. done is closed when it is over; layer and
// err are set before.
type exam struct {
	begun  time.Time
	done   chan struct{}
	cancel context.CancelFunc
	layer  inventory.Layer
	err    error
}

// Begin starts to examine an upload beside its push. open gives a reader that follows
// the upload. It returns at once and cannot fail: the examination is a gain, never a need.
func (s *Service) Begin(uploadID string, open func(context.Context) (io.ReadCloser, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.uploads[uploadID]; ok || len(s.uploads) >= maxFollowed {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &exam{begun: time.Now(), done: make(chan struct{}), cancel: cancel}
	s.uploads[uploadID] = e
	s.running.Go(func() {
		defer cancel()
		defer s.yieldPlace(uploadID, e)
		defer close(e.done)
		r, err := open(ctx)
		if err != nil {
			e.err = err
			return
		}
		defer r.Close()
		idle := time.AfterFunc(followIdle, cancel)
		defer idle.Stop()
		y := &yielding{ctx: ctx, r: &timed{r, idle}, slots: s.slots, patience: patience}
		if b, ok := r.(blob.Behind); ok {
			y.pushed = func() <-chan struct{} { return s.pushed(e, b.Behind()) }
		}
		e.layer, e.err = s.unpack(ctx, oci.Digest{}, "", y)
	})
}

// yieldPlace forgets an upload whose examination came to nothing: one that nobody goes on
// with would keep its place from others until it is swept.
func (s *Service) yieldPlace(uploadID string, e *exam) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.err != nil && s.uploads[uploadID] == e {
		s.end(uploadID)
	}
}

// timed puts a timer off with every read that gives something.
type timed struct {
	r    io.Reader
	idle *time.Timer
}

func (t *timed) Read(p []byte) (int, error) {
	t.idle.Reset(followIdle)
	return t.r.Read(p)
}

// pushed returns a channel that is closed when no upload is under way any more, if e's
// upload comes over a fast link, which shows in how many bytes it is ahead of its
// examination; else nil.
func (s *Service) pushed(e *exam, ahead int64) <-chan struct{} {
	if ahead < int64(fastLink*time.Since(e.begun).Seconds()) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.uploads) == 0 {
		return nil
	}
	return s.quiet
}

// end forgets an upload. The caller holds mu.
func (s *Service) end(uploadID string) {
	delete(s.uploads, uploadID)
	if len(s.uploads) == 0 {
		close(s.quiet)
		s.quiet = make(chan struct{})
	}
}

// Abort ends the examination of an upload that is given up.
func (s *Service) Abort(uploadID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.uploads[uploadID]; ok {
		e.cancel()
		s.end(uploadID)
	}
}

// Commit says under which digest an upload ended. Its inventory is kept as soon as
// the examination is through.
func (s *Service) Commit(uploadID string, d oci.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.uploads[uploadID]
	if !ok {
		return
	}
	s.end(uploadID)
	if _, twice := s.byDigest[d]; twice {
		e.cancel()
		return
	}
	s.byDigest[d] = e
	s.running.Go(func() {
		<-e.done
		s.keep(d, e)
		s.mu.Lock()
		delete(s.byDigest, d)
		s.mu.Unlock()
	})
}

// keep writes the inventory of a followed upload to the catalog. What was no archive
// is not kept: most likely it is a config, and if a manifest calls it a layer it is
// read once more then.
func (s *Service) keep(d oci.Digest, e *exam) {
	if e.err != nil || e.layer.Files == 0 {
		return
	}
	e.layer.Digest = d
	for i := range e.layer.Coverage.Unknown {
		e.layer.Coverage.Unknown[i].Layer = d
	}
	// The push is acknowledged already, so its context is not the one to use.
	if err := s.cat.PutLayer(context.Background(), e.layer); err != nil {
		e.err = err
		s.o.Log.Error("keeping a layer's inventory", "digest", d, "err", err)
	}
}

// layer gives the inventory of a layer that the catalog does not hold yet: from the
// examination that runs beside its push, else by reading it from the store.
func (s *Service) layer(ctx context.Context, d oci.Descriptor) (inventory.Layer, error) {
	s.mu.Lock()
	e := s.byDigest[d.Digest]
	s.mu.Unlock()
	if e != nil {
		select {
		case <-ctx.Done():
			return inventory.Layer{}, ctx.Err()
		case <-e.done:
		}
		if e.err == nil && e.layer.Files > 0 {
			l := e.layer
			l.Digest = d.Digest
			return l, nil
		}
	}
	ch := s.layers.DoChan(d.Digest.String(), func() (any, error) {
		// Other judgements may wait for the same layer: none of their contexts ends it.
		return s.readLayer(context.WithoutCancel(ctx), d)
	})
	select {
	case <-ctx.Done():
		return inventory.Layer{}, ctx.Err()
	case r := <-ch:
		l, _ := r.Val.(inventory.Layer)
		return l, r.Err
	}
}

func (s *Service) readLayer(ctx context.Context, d oci.Descriptor) (inventory.Layer, error) {
	// An examination beside a push may have ended since the caller looked.
	known, err := s.cat.Layers(ctx, []oci.Digest{d.Digest}, s.set.Version())
	if err != nil {
		return inventory.Layer{}, err
	}
	if l, ok := known[d.Digest]; ok {
		return l, nil
	}
	r, err := s.store.Open(ctx, d.Digest, 0)
	if err != nil {
		return inventory.Layer{}, fmt.Errorf("open layer %s: %w", d.Digest, err)
	}
	defer r.Close()
	l, err := s.unpack(ctx, d.Digest, d.MediaType, &yielding{ctx: ctx, r: r, slots: s.slots})
	if err != nil {
		return inventory.Layer{}, fmt.Errorf("read layer %s: %w", d.Digest, err)
	}
	if err := s.cat.PutLayer(ctx, l); err != nil {
		return inventory.Layer{}, fmt.Errorf("keep inventory of layer %s: %w", d.Digest, err)
	}
	return l, nil
}

// unpack takes down a layer while holding one of the Service's slots, which it gives
// up whenever it has to wait for bytes: a slow push holds no core.
func (s *Service) unpack(ctx context.Context, d oci.Digest, mediaType string, y *yielding) (inventory.Layer, error) {
	if err := y.acquire(); err != nil {
		return inventory.Layer{}, err
	}
	defer y.release()
	return s.set.Layer(ctx, d, mediaType, y)
}

// yielding is a reader that gives its slot to others while it reads, and lets uploads
// go first as long as it has patience.
type yielding struct {
	ctx      context.Context //nolint:containedctx // an io.Reader cannot take one
	r        io.Reader
	slots    chan struct{}
	held     bool
	pushed   func() <-chan struct{} // nil, or nil from it: nothing to wait for
	patience time.Duration
}

func (y *yielding) acquire() error {
	if err := y.letPass(); err != nil {
		return err
	}
	select {
	case y.slots <- struct{}{}:
		y.held = true
		return nil
	case <-y.ctx.Done():
		return y.ctx.Err()
	}
}

// letPass waits for uploads, as long as there is patience.
func (y *yielding) letPass() error {
	if y.pushed == nil || y.patience <= 0 {
		return nil
	}
	quiet := y.pushed()
	if quiet == nil {
		return nil
	}
	start := time.Now()
	timer := time.NewTimer(y.patience)
	defer timer.Stop()
	select {
	case <-quiet:
	case <-timer.C:
	case <-y.ctx.Done():
		return y.ctx.Err()
	}
	y.patience -= time.Since(start)
	return nil
}

func (y *yielding) release() {
	if y.held {
		y.held = false
		<-y.slots
	}
}

func (y *yielding) Read(p []byte) (int, error) {
	y.release()
	n, err := y.r.Read(p)
	if e := y.acquire(); e != nil {
		return n, errors.Join(e, err)
	}
	return n, err
}

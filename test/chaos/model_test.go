package chaos

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// fate is what is known of a thing.
type fate int

const (
	absent  fate = iota
	present      // acknowledged
	unknown      // the server was killed before it answered
)

// blob is one blob of a worker's repository.
type blob struct {
	fate    fate
	size    int
	touched time.Time // when it was last acknowledged: later it is garbage unless something names it
}

// pushed is one manifest of a worker's repository.
type pushed struct {
	fate      fate
	raw       []byte
	mediaType string
	blobs     []string // that it names
	children  []string // of an index
	isChild   bool
	named     []string // the tags that may have named it when it was deleted
}

// upload is one that is under way.
type upload struct {
	fate  fate
	path  string // of its last acknowledged location
	body  []byte // all of it
	acked int    // bytes that were acknowledged
	sent  int    // bytes that may have arrived
}

// worker pushes to and deletes from a repository of its own, one request after the
// other, and so knows exactly what must be there.
type worker struct {
	repo      string
	rng       *rand.Rand
	shared    *shelf
	grace     time.Duration
	blobs     map[string]*blob
	manifests map[string]*pushed
	order     []string // of manifests and blobs as they came, so that a seed repeats its choices
	blobOrder []string
	tags      map[string][]string // what each may name; "" that it is not there
	uploads   []*upload
	trail     []string // the last things done, for messages
	acked     int      // requests that were acknowledged
	restored  int      // manifests that came back out of the trash
}

func newWorker(i int, seed uint64, shared *shelf, grace time.Duration) *worker {
	return &worker{repo: fmt.Sprintf("chaos/w%d", i), rng: rand.New(rand.NewPCG(seed, uint64(i)+1)), shared: shared, grace: grace,
		blobs: map[string]*blob{}, manifests: map[string]*pushed{}, tags: map[string][]string{}}
}

// shelf is what workers tell each other of: blobs that another may mount.
type shelf struct {
	mu   sync.Mutex
	base []byte // a layer that all of them push
	list []offer
}

type offer struct {
	repo, digest string
	size         int
}

func (s *shelf) put(o offer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, o)
}

func (s *shelf) any(r *rand.Rand) (offer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 {
		return offer{}, false
	}
	return s.list[r.IntN(len(s.list))], true
}

// blob returns what is known of a blob, which may be nothing yet.
func (w *worker) blob(digest string, size int) *blob {
	b := w.blobs[digest]
	if b == nil {
		b = &blob{size: size}
		w.blobs[digest] = b
		w.blobOrder = append(w.blobOrder, digest)
	}
	return b
}

// manifest returns what is known of a manifest.
func (w *worker) manifest(mediaType string, m manifest) (string, *pushed) {
	raw := m.encode()
	d := digestOf(raw)
	p := w.manifests[d]
	if p == nil {
		p = &pushed{raw: raw, mediaType: mediaType}
		if m.Config != nil {
			p.blobs = append(p.blobs, m.Config.Digest)
		}
		for _, l := range m.Layers {
			p.blobs = append(p.blobs, l.Digest)
		}
		for _, c := range m.Manifests {
			p.children = append(p.children, c.Digest)
		}
		w.manifests[d] = p
		w.order = append(w.order, d)
	}
	return d, p
}

// held returns the manifests that are surely there, oldest first.
func (w *worker) held(want func(*pushed) bool) []string {
	var out []string
	for _, d := range w.order {
		if p := w.manifests[d]; p.fate == present && want(p) {
			out = append(out, d)
		}
	}
	return out
}

// needed says whether a manifest that may be there names a blob.
func (w *worker) needed(digest string) bool {
	for _, p := range w.manifests {
		if p.fate != absent && slices.Contains(p.blobs, digest) {
			return true
		}
	}
	return false
}

// mayBeGone says whether a collection may have taken a blob: nothing surely there names it,
// and its grace may be over.
func (w *worker) mayBeGone(digest string) bool {
	for _, p := range w.manifests {
		if p.fate == present && slices.Contains(p.blobs, digest) {
			return false
		}
	}
	return time.Since(w.blobs[digest].touched) > w.grace/2
}

// names says what a tag may name from now on.
func (w *worker) names(tag string, digests ...string) {
	slices.Sort(digests)
	if digests = slices.Compact(digests); slices.Equal(digests, []string{""}) {
		delete(w.tags, tag)
		return
	}
	w.tags[tag] = digests
}

// possible is what a tag may name.
func (w *worker) possible(tag string) []string {
	if p := w.tags[tag]; p != nil {
		return slices.Clone(p)
	}
	return []string{""}
}

func (w *worker) tagNames() []string { return slices.Sorted(maps.Keys(w.tags)) }

// gone drops a manifest and the tags that named it from the model; maybe leaves it open.
func (w *worker) gone(digest string, maybe bool) {
	if maybe {
		w.manifests[digest].named = nil
	}
	if maybe {
		w.manifests[digest].fate = unknown
	} else {
		w.manifests[digest].fate = absent
	}
	for _, tag := range w.tagNames() {
		p := w.possible(tag)
		i := slices.Index(p, digest)
		if i < 0 {
			continue
		}
		w.manifests[digest].named = append(w.manifests[digest].named, tag)
		if !maybe {
			p = slices.Delete(p, i, i+1)
		}
		w.names(tag, append(p, "")...)
	}
}

func (w *worker) note(format string, args ...any) {
	w.trail = append(w.trail, fmt.Sprintf(format, args...))
	if len(w.trail) > 40 {
		w.trail = w.trail[1:]
	}
}

// errKilled ends a worker's round: the server is gone.
var errKilled = errors.New("the server was killed")

package registry

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/blob/memblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// world is a registry and what it ought to hold.
type world struct {
	reg   *Registry
	store *memblob.Store
	clock atomic.Int64 // microseconds
	// window is how long what is deleted can be restored.
	window time.Duration

	links     map[link]time.Time // when last pushed, mounted or asked for
	touched   map[oci.Digest]time.Time
	manifests map[place]oci.Manifest // in a repository
	stored    map[oci.Digest]time.Time
	trash     map[place]trashed
	known     []oci.Manifest // all that were ever made
}

type (
	link  struct{ repo, blob int }
	place struct {
		repo   int
		digest oci.Digest
	}
	trashed struct {
		oci.Manifest
		until time.Time
	}
)

const (
	worldRepos = 3
	worldBlobs = 8
	// worldWindow is how long what is deleted can be restored, if at all.
	worldWindow = 2 * DefaultGrace
)

func worldRepo(i int) oci.Repository { return must(oci.ParseRepository(fmt.Sprintf("team/r%d", i))) }
func worldBlob(i int) string         { return strings.Repeat(fmt.Sprintf("blob %d;", i), i+1) }

func (w *world) now() time.Time { return time.UnixMicro(w.clock.Load()).UTC() }

func newWorld(t *rapid.T) (*world, func()) {
	w := &world{store: memblob.New(), links: map[link]time.Time{}, touched: map[oci.Digest]time.Time{},
		manifests: map[place]oci.Manifest{}, trash: map[place]trashed{}, stored: map[oci.Digest]time.Time{}}
	w.clock.Store(now.UnixMicro())
	cat, err := catalog.Open(bg, "sqlite::memory:", catalog.WithClock(w.now))
	if err != nil {
		t.Fatal(err)
	}
	w.store.Now = w.now
	w.window = rapid.SampledFrom([]time.Duration{0, worldWindow}).Draw(t, "window")
	w.reg = New(cat, w.store, Options{Now: w.now, Restore: func() time.Duration { return w.window }})
	return w, func() { _ = cat.Close() }
}

// push puts a blob into a repository.
func (w *world) push(repo, b int) error {
	content := worldBlob(b)
	return w.reg.PutBlob(bg, worldRepo(repo), chunk(0, content), sum(content))
}

func (w *world) pushed(repo, b int) {
	d := sum(worldBlob(b))
	w.links[link{repo, b}], w.touched[d], w.stored[d] = w.now(), w.now(), w.now()
}

// image is a manifest of some blobs, an index of some manifests, or a manifest with a subject.
func imageOf(blobs []int, subject *oci.Manifest) oci.Manifest {
	part := func(b int, mediaType string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, sum(worldBlob(b)), len(worldBlob(b)))
	}
	var layers []string
	for _, b := range blobs[1:] {
		layers = append(layers, part(b, "application/vnd.oci.image.layer.v1.tar"))
	}
	refers := ""
	if subject != nil {
		refers = fmt.Sprintf(`,"subject":{"mediaType":%q,"digest":%q,"size":%d}`, subject.MediaType, subject.Digest, subject.Size)
	}
	raw := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]%s}`,
		oci.MediaTypeImageManifest, part(blobs[0], oci.MediaTypeImageConfig), strings.Join(layers, ","), refers)
	return must(oci.ParseManifest(oci.MediaTypeImageManifest, []byte(raw)))
}

func indexOf(children []oci.Manifest) oci.Manifest {
	var list []string
	for _, c := range children {
		list = append(list, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, c.MediaType, c.Digest, c.Size))
	}
	raw := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, oci.MediaTypeImageIndex, strings.Join(list, ","))
	return must(oci.ParseManifest(oci.MediaTypeImageIndex, []byte(raw)))
}

// complete says whether a repository has all that a manifest names.
func (w *world) complete(repo int, m oci.Manifest) bool {
	for _, d := range m.Blobs() {
		if !slices.ContainsFunc(slices.Collect(w.blobsOf(repo)), func(b int) bool { return sum(worldBlob(b)) == d.Digest }) {
			return false
		}
	}
	for _, d := range m.Manifests {
		if _, ok := w.manifests[place{repo, d.Digest}]; !ok {
			return false
		}
	}
	return true
}

func (w *world) blobsOf(repo int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for l := range w.links {
			if l.repo == repo && !yield(l.blob) {
				return
			}
		}
	}
}

// put puts a manifest and checks that it is refused if, and only if, something is missing.
func (w *world) put(t *rapid.T, repo int, m oci.Manifest) {
	_, err := w.reg.PutManifest(bg, pusher, Push{Repo: worldRepo(repo), Reference: oci.Reference{Digest: m.Digest}, MediaType: m.MediaType, Raw: m.Raw})
	if want := w.complete(repo, m); (err == nil) != want {
		t.Fatalf("manifest %s to repository %d: %v, want success: %v", m.Digest.Short(), repo, err, want)
	}
	if err != nil {
		return
	}
	w.manifests[place{repo, m.Digest}] = m
	delete(w.trash, place{repo, m.Digest})
	w.known = append(w.known, m)
	if err := w.journal(m); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.stored[m.Digest]; !ok {
		w.stored[m.Digest] = w.now()
	}
}

// journal stores the bytes of a manifest that was put, as the journal does.
func (w *world) journal(m oci.Manifest) error {
	if _, err := w.store.Stat(bg, m.Digest); !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	up, err := w.store.Begin(bg, m.Digest.Algorithm())
	if err != nil {
		return err
	}
	if _, err := up.Write(m.Raw); err != nil {
		return err
	}
	return up.Commit(bg, m.Digest)
}

// needed says whether a manifest of the repository names a blob.
func (w *world) needed(l link) bool {
	for h, m := range w.manifests {
		if h.repo == l.repo && slices.ContainsFunc(m.Blobs(), func(d oci.Descriptor) bool { return d.Digest == sum(worldBlob(l.blob)) }) {
			return true
		}
	}
	return false
}

// trashNeeds is the first in the trash of the repository that names a blob.
func (w *world) trashNeeds(l link) (place, bool) {
	for h, m := range w.trash {
		if h.repo == l.repo && slices.ContainsFunc(m.Blobs(), func(d oci.Descriptor) bool { return d.Digest == sum(worldBlob(l.blob)) }) {
			return h, true
		}
	}
	return place{}, false
}

// collected is what a collection leaves.
func (w *world) collected() {
	maps.DeleteFunc(w.trash, func(_ place, m trashed) bool { return !m.until.After(w.now()) })
	before := w.now().Add(-DefaultGrace)
	linked := map[oci.Digest]bool{}
	for l, at := range w.links {
		if _, kept := w.trashNeeds(l); at.Before(before) && !w.needed(l) && !kept {
			delete(w.links, l)
			continue
		}
		linked[sum(worldBlob(l.blob))] = true
	}
	for h := range w.manifests {
		linked[h.digest] = true
	}
	for h := range w.trash {
		linked[h.digest] = true
	}
	for d, at := range w.touched {
		if !linked[d] && at.Before(before) {
			delete(w.touched, d)
			delete(w.stored, d)
		}
	}
	for d, at := range w.stored {
		if _, isBlob := w.touched[d]; !isBlob && !linked[d] && at.Before(before) {
			delete(w.stored, d)
		}
	}
}

// check compares all that can be seen.
func (w *world) check(t *rapid.T) {
	for r := range worldRepos {
		for b := range worldBlobs {
			_, err := w.reg.cat.Blob(bg, worldRepo(r), sum(worldBlob(b)))
			if _, want := w.links[link{r, b}]; want != (err == nil) {
				t.Fatalf("blob %d in repository %d: %v, want it there: %v", b, r, err, want)
			}
		}
	}
	have := map[oci.Digest]bool{}
	for d, err := range w.store.List(bg) {
		if err != nil {
			t.Fatal(err)
		}
		have[d] = true
		if _, ok := w.stored[d]; !ok {
			t.Fatalf("%s is still in the store", d.Short())
		}
	}
	for d := range w.stored {
		if !have[d] {
			t.Fatalf("%s is gone from the store", d.Short())
		}
	}
	for h, m := range w.manifests {
		if _, err := w.reg.cat.Manifest(bg, worldRepo(h.repo), oci.Reference{Digest: h.digest}); err != nil {
			t.Fatal(err)
		}
		for _, d := range append(m.Blobs(), m.Descriptor) {
			r, err := w.store.Open(bg, d.Digest, 0)
			if err != nil {
				t.Fatalf("part of a manifest: %v", err)
			}
			raw, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil || oci.DigestOf(d.Digest.Algorithm(), raw) != d.Digest {
				t.Fatalf("part of a manifest: %s is damaged (%v)", d.Digest.Short(), err)
			}
		}
	}
}

// actions are what users do, one after the other.
func (w *world) actions() map[string]func(*rapid.T) {
	repo, blobs := rapid.IntRange(0, worldRepos-1), rapid.IntRange(0, worldBlobs-1)
	return map[string]func(*rapid.T){
		"push": func(t *rapid.T) {
			r, b := repo.Draw(t, "repo"), blobs.Draw(t, "blob")
			if err := w.push(r, b); err != nil {
				t.Fatal(err)
			}
			w.pushed(r, b)
		},
		"mount": func(t *rapid.T) {
			from, to, b := repo.Draw(t, "from"), repo.Draw(t, "to"), blobs.Draw(t, "blob")
			ok, err := w.reg.Mount(bg, pusher, worldRepo(to), worldRepo(from), sum(worldBlob(b)))
			// A blob that only a manifest without verdict names cannot be read there.
			if _, has := w.links[link{from, b}]; err != nil || ok && !has {
				t.Fatalf("mount: %v, %v", ok, err)
			}
			if ok {
				w.links[link{to, b}], w.touched[sum(worldBlob(b))] = w.now(), w.now()
			}
		},
		"ask": func(t *rapid.T) { w.ask(t, repo.Draw(t, "repo"), blobs.Draw(t, "blob")) },
		"image": func(t *rapid.T) {
			var subject *oci.Manifest
			if len(w.known) > 0 && rapid.Bool().Draw(t, "refers") {
				subject = &w.known[rapid.IntRange(0, len(w.known)-1).Draw(t, "subject")]
			}
			w.put(t, repo.Draw(t, "repo"), imageOf(rapid.SliceOfN(blobs, 1, 3).Draw(t, "blobs"), subject))
		},
		"index": func(t *rapid.T) {
			if len(w.known) == 0 {
				return
			}
			child := w.known[rapid.IntRange(0, len(w.known)-1).Draw(t, "child")]
			w.put(t, repo.Draw(t, "repo"), indexOf([]oci.Manifest{child}))
		},
		"delete manifest": func(t *rapid.T) {
			if len(w.known) == 0 {
				return
			}
			r, m := repo.Draw(t, "repo"), w.known[rapid.IntRange(0, len(w.known)-1).Draw(t, "manifest")]
			_, had := w.manifests[place{r, m.Digest}]
			if err := w.deleteManifest(r, m.Digest); (err == nil) != had {
				t.Fatalf("delete: %v, want success: %v", err, had)
			}
			delete(w.manifests, place{r, m.Digest})
			if had && w.window > 0 {
				w.trash[place{r, m.Digest}] = trashed{m, w.now().Add(w.window)}
			}
		},
		"restore": func(t *rapid.T) { w.takeOut(t, repo.Draw(t, "repo"), true) },
		"purge":   func(t *rapid.T) { w.takeOut(t, repo.Draw(t, "repo"), false) },
		"delete blob": func(t *rapid.T) {
			l := link{repo.Draw(t, "repo"), blobs.Draw(t, "blob")}
			_, had := w.links[l]
			err := w.reg.DeleteBlob(bg, pusher, worldRepo(l.repo), sum(worldBlob(l.blob)))
			if want := had && !w.needed(l); (err == nil) != want {
				t.Fatalf("delete: %v, want success: %v", err, want)
			}
			if err == nil {
				delete(w.links, l)
				for h, more := w.trashNeeds(l); more; h, more = w.trashNeeds(l) {
					delete(w.trash, h)
				}
				w.touched[sum(worldBlob(l.blob))] = w.now()
			}
		},
		"time": func(t *rapid.T) {
			w.clock.Add(rapid.Int64Range(1, 50).Draw(t, "minutes") * time.Minute.Microseconds())
		},
		"collect": func(t *rapid.T) {
			if _, err := w.reg.Collect(bg, CollectOptions{}); err != nil {
				t.Fatal(err)
			}
			w.collected()
			w.check(t)
		},
		"collect during pushes": func(t *rapid.T) {
			w.collectDuring(t, rapid.SliceOfN(blobs, 1, 6).Draw(t, "blobs"), repo.Draw(t, "repo"))
		},
		"": func(*rapid.T) {},
	}
}

func (w *world) deleteManifest(repo int, d oci.Digest) error {
	return w.reg.DeleteManifest(bg, Caller{Name: "ann"}, worldRepo(repo), oci.Reference{Digest: d}, catalog.Condition{})
}

// takeOut takes a manifest out of the trash, if it is there, back or for good.
func (w *world) takeOut(t *rapid.T, repo int, back bool) {
	if len(w.known) == 0 {
		return
	}
	m := w.known[rapid.IntRange(0, len(w.known)-1).Draw(t, "manifest")]
	h := place{repo, m.Digest}
	_, had := w.trash[h]
	var err error
	if back {
		_, err = w.reg.Restore(bg, pusher, worldRepo(repo), m.Digest)
	} else {
		err = w.reg.Purge(bg, pusher, worldRepo(repo), m.Digest)
	}
	if (err == nil) != had {
		t.Fatalf("take %s out of the trash of repository %d: %v, want success: %v", m.Digest.Short(), repo, err, had)
	}
	if delete(w.trash, h); had && back {
		w.manifests[h] = m
	}
}

// ask does as a client before it pushes: what it is told to be there stays.
func (w *world) ask(t *rapid.T, repo, b int) {
	l := link{repo, b}
	_, err := w.reg.StatBlob(bg, pusher, worldRepo(repo), sum(worldBlob(b)))
	at, had := w.links[l]
	if had != (err == nil) {
		t.Fatalf("blob %d in repository %d: %v, want it there: %v", b, repo, err, had)
	}
	if had && w.now().Sub(at) > DefaultGrace/2 {
		w.links[l] = w.now()
	}
}

// collectDuring has clients push images, each in its way, while a collection runs: what
// they were told was there is there when they put their manifests.
func (w *world) collectDuring(t *rapid.T, picked []int, repo int) {
	w.clock.Add(2 * DefaultGrace.Microseconds()) // all is old, and goes unless it is needed
	slices.Sort(picked)
	picked = slices.Compact(picked)
	made := make([]oci.Manifest, len(picked))
	sent := make([]bool, len(picked))
	fail := make([]error, len(picked)+1)
	var all sync.WaitGroup
	all.Go(func() { _, fail[len(picked)] = w.reg.Collect(bg, CollectOptions{}) })
	for i, b := range picked {
		all.Go(func() {
			made[i] = imageOf([]int{b}, nil)
			if _, err := w.reg.StatBlob(bg, pusher, worldRepo(repo), sum(worldBlob(b))); err != nil {
				sent[i] = true
				if fail[i] = w.push(repo, b); fail[i] != nil {
					return
				}
			}
			_, fail[i] = w.reg.PutManifest(bg, pusher, Push{Repo: worldRepo(repo), Reference: oci.Reference{Tag: fmt.Sprintf("t%d", b)}, Raw: made[i].Raw})
			if fail[i] == nil {
				fail[i] = w.journal(made[i])
			}
		})
	}
	all.Wait()
	if err := errors.Join(fail...); err != nil {
		t.Fatal(err)
	}
	for i, b := range picked {
		l := link{repo, b}
		w.manifests[place{repo, made[i].Digest}] = made[i]
		delete(w.trash, place{repo, made[i].Digest})
		w.known = append(w.known, made[i])
		if w.links[l] = w.now(); sent[i] {
			w.pushed(repo, b)
		}
		// Its bytes may have been there from before, and may have been collected first.
		at, err := w.store.Since(bg, made[i].Digest)
		if err != nil {
			t.Fatal(err)
		}
		w.stored[made[i].Digest] = at
	}
	w.collected()
	w.check(t)
}

// TestCollect holds a registry to a model of what garbage is, with collections between and
// beside pushes, mounts, deletions, indexes and referrers.
func TestCollect(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, end := newWorld(t)
		defer end()
		t.Repeat(w.actions())
		w.clock.Add(2 * DefaultGrace.Microseconds())
		if _, err := w.reg.Collect(bg, CollectOptions{}); err != nil {
			t.Fatal(err)
		}
		w.collected()
		w.check(t)
	})
}

var _ blob.Aged = (*memblob.Store)(nil)

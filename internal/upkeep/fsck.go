package upkeep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/time/rate"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// Problem is something that a check found.
type Problem struct {
	Kind     string   `json:"kind"` // one of the Kinds
	Digest   string   `json:"digest,omitempty"`
	Detail   string   `json:"detail"`
	Images   []string `json:"images,omitempty"` // that cannot be pulled whole for it, at most 20
	Repaired bool     `json:"repaired"`
}

// What a check finds.
const (
	KindDatabase  = "database"  // the catalog's file, or a row that refers to nothing
	KindBlob      = "blob"      // bytes missing or changed
	KindManifest  = "manifest"  // bytes missing or changed
	KindReference = "reference" // what a manifest names is not written down as it should be
	KindUsage     = "usage"     // a repository's bytes or tags are counted wrong
)

// Checked is what a check has come to so far.
type Checked struct {
	Started    time.Time `json:"started"`
	Ended      time.Time `json:"ended,omitzero"`
	Resumed    bool      `json:"resumed,omitempty"` // it went on where an earlier one was left
	Repair     bool      `json:"repair"`
	Blobs      int       `json:"blobs"`
	Manifests  int       `json:"manifests"`
	Bytes      int64     `json:"bytes"` // read and hashed
	TotalBytes int64     `json:"totalBytes"`
	Problems   []Problem `json:"problems"` // at most 1,000
	Omitted    int       `json:"omitted,omitempty"`
	Left       int       `json:"left"` // problems that were not repaired
}

// Bounds of a check.
const (
	maxProblems  = 1000
	maxImages    = 20
	blobPage     = 256
	manifestPage = 16 // up to 4 MiB each
	usagePage    = 256
	saveEvery    = 5 * time.Second
	jobFsck      = "fsck"
)

// FsckOptions say how to check.
type FsckOptions struct {
	Repair  bool
	Restart bool  // from the beginning, even if an earlier check was left
	Rate    int64 // bytes a second at most; 0: as fast as it goes
	// Progress hears how far it has come.
	Progress func(Checked)
	Now      func() time.Time
}

// fsckState is what a check leaves in the catalog, from which it can go on.
type fsckState struct {
	Phase int     `json:"phase"`
	After int64   `json:"after"`
	Done  Checked `json:"done"`
}

type checker struct {
	cat   *catalog.Catalog
	store blob.Store
	o     FsckOptions
	st    fsckState
	limit *rate.Limiter
	saved time.Time
}

// Fsck checks every blob's and every manifest's bytes, every reference between them and
// the catalog's database itself, of a registry that may be running. With Repair it mends
// what can be: a manifest's bytes from its other copy, references from the manifests,
// usage by counting; a blob whose bytes are missing or changed is set aside and counts as
// absent until it is pushed again. A check that was broken off goes on where it was, unless
// it is to be done otherwise now.
func Fsck(ctx context.Context, cat *catalog.Catalog, store blob.Store, o FsckOptions) (Checked, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &checker{cat: cat, store: store, o: o, limit: throttle(o.Rate)}
	if err := c.resume(ctx); err != nil {
		return Checked{}, err
	}
	phases := []func(context.Context) error{c.database, c.manifests, c.blobs, c.usage}
	for c.st.Phase < len(phases) {
		if err := phases[c.st.Phase](ctx); err != nil {
			return c.st.Done, errors.Join(err, c.save(context.WithoutCancel(ctx)))
		}
		c.st.Phase, c.st.After = c.st.Phase+1, 0
	}
	c.st.Done.Ended = o.Now().UTC()
	c.tell()
	if o.Repair {
		n := len(c.st.Done.Problems) + c.st.Done.Omitted
		if err := record(ctx, cat, "fsck-repair", o.Now(), map[string]any{"problems": n, "left": c.st.Done.Left}); err != nil {
			return c.st.Done, err
		}
	}
	return c.st.Done, cat.DeleteJob(ctx, jobFsck)
}

// resume takes up what an earlier check has left.
func (c *checker) resume(ctx context.Context) error {
	_, total, err := c.cat.BlobTotals(ctx)
	if err != nil {
		return err
	}
	fresh := fsckState{Done: Checked{Started: c.o.Now().UTC(), Repair: c.o.Repair, TotalBytes: total, Problems: []Problem{}}}
	c.st = fresh
	doc, _, err := c.cat.Job(ctx, jobFsck)
	if errors.Is(err, catalog.ErrNotFound) || c.o.Restart {
		return nil
	}
	if err != nil {
		return err
	}
	var left fsckState
	if json.Unmarshal(doc, &left) != nil || left.Done.Repair != c.o.Repair || left.Phase < 0 || left.Done.Problems == nil {
		return nil // of another version, or one that was to do something else
	}
	c.st = left
	c.st.Done.Resumed, c.st.Done.TotalBytes = true, total
	return nil
}

// save leaves behind how far the check has come.
func (c *checker) save(ctx context.Context) error {
	doc, err := json.Marshal(c.st)
	if err != nil {
		return err
	}
	c.saved = c.o.Now()
	return c.cat.PutJob(ctx, jobFsck, doc, c.saved)
}

// step notes that all up to the row with this id is checked.
func (c *checker) step(ctx context.Context, id int64) error {
	c.st.After = id
	c.tell()
	if c.o.Now().Sub(c.saved) < saveEvery {
		return ctx.Err()
	}
	return errors.Join(ctx.Err(), c.save(context.WithoutCancel(ctx)))
}

func (c *checker) tell() {
	if c.o.Progress != nil {
		c.o.Progress(c.st.Done)
	}
}

func (c *checker) found(p Problem) {
	if !p.Repaired {
		c.st.Done.Left++
	}
	if len(c.st.Done.Problems) >= maxProblems {
		c.st.Done.Omitted++
		return
	}
	c.st.Done.Problems = append(c.st.Done.Problems, p)
}

func (c *checker) database(ctx context.Context) error {
	faults, err := c.cat.Faults(ctx)
	for _, f := range faults {
		c.found(Problem{Kind: KindDatabase, Detail: f})
	}
	return err
}

func (c *checker) blobs(ctx context.Context) error {
	for {
		page, err := c.cat.KeptBlobs(ctx, c.st.After, blobPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, b := range page {
			before := c.st.Done.Bytes
			if err := c.blob(ctx, b); err != nil {
				c.st.Done.Bytes = before // it is read again
				return err
			}
			c.st.Done.Blobs++
			if err := c.step(ctx, b.ID); err != nil {
				return err
			}
		}
	}
}

// blob checks one blob's bytes.
func (c *checker) blob(ctx context.Context, b catalog.KeptBlob) error {
	wrong, err := c.read(ctx, b.Digest, b.Size)
	if err != nil {
		return err
	}
	if wrong == "" && !b.Damaged {
		return nil
	}
	// It may have been collected or pushed anew meanwhile.
	b, err = c.cat.KeptBlob(ctx, b.Digest)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if wrong, err = c.read(ctx, b.Digest, b.Size); err != nil || wrong == "" && !b.Damaged {
		return err
	}
	p := Problem{Kind: KindBlob, Digest: b.Digest.String(), Detail: wrong}
	if wrong == "" {
		p.Detail = "marked as damaged, but its bytes are right"
	}
	if c.o.Repair {
		if p, err = c.mendBlob(ctx, b, p); err != nil {
			return err
		}
	}
	if !p.Repaired {
		if p.Images, err = c.cat.Dependants(ctx, b.Digest, maxImages); err != nil {
			return err
		}
	}
	c.found(p)
	return nil
}

// read returns what is wrong with the bytes of a blob, "" if nothing is. A size below 0 is not known.
func (c *checker) read(ctx context.Context, d oci.Digest, size int64) (wrong string, err error) {
	r, err := c.store.Open(ctx, d, 0)
	if errors.Is(err, blob.ErrNotFound) {
		return "its bytes are missing", nil
	}
	if err != nil {
		return "", err
	}
	return c.hash(ctx, r, d, size)
}

func (c *checker) hash(ctx context.Context, r io.ReadCloser, d oci.Digest, size int64) (wrong string, err error) {
	got, n, err := digestOf(ctx, d.Algorithm(), r, c.limit, func(n int) {
		c.st.Done.Bytes += int64(n)
		c.tell()
	})
	err = errors.Join(err, r.Close())
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, errHeldUp):
		return "", err
	case err != nil:
		return fmt.Sprintf("its bytes cannot be read: %v", err), nil
	case got != d:
		return fmt.Sprintf("its bytes are %s", got), nil
	case size >= 0 && n != size:
		return fmt.Sprintf("it has %d bytes, the catalog says %d", n, size), nil
	}
	return "", nil
}

// mendBlob makes a blob that is not whole count as absent, unless a whole copy is found.
// The mark comes first: from then on clients send the blob anew. One that a push has
// brought between the check and the move is put back.
func (c *checker) mendBlob(ctx context.Context, b catalog.KeptBlob, p Problem) (Problem, error) {
	shelf, ok := c.store.(blob.Shelf)
	if !ok {
		return p, fmt.Errorf("mend %s: this store sets nothing aside", b.Digest)
	}
	if p.Detail == "" {
		return p, nil
	}
	if wrong, err := c.read(ctx, b.Digest, -1); err != nil {
		return p, err
	} else if wrong == "" {
		p.Repaired = true
		return p, c.cat.ClearDamaged(ctx, b.Digest)
	}
	if err := c.cat.MarkDamaged(ctx, b.Digest, c.o.Now()); err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return p, err
	}
	// From here on to the end, lest a whole copy stays where nobody finds it.
	ctx = context.WithoutCancel(ctx)
	if err := shelf.SetAside(ctx, b.Digest); err != nil && !errors.Is(err, blob.ErrNotFound) {
		return p, err
	}
	r, err := shelf.OpenAside(ctx, b.Digest)
	if errors.Is(err, blob.ErrNotFound) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	wrong, err := c.hash(ctx, r, b.Digest, -1)
	if err != nil || wrong != "" {
		p.Detail += "; set aside, it counts as absent until it is pushed again"
		return p, err
	}
	if err := shelf.PutBack(ctx, b.Digest); err != nil {
		return p, err
	}
	p.Repaired = true
	return p, c.cat.ClearDamaged(ctx, b.Digest)
}

func (c *checker) usage(ctx context.Context) error {
	for {
		wrong, next, err := c.cat.Usages(ctx, c.st.After, usagePage, c.o.Repair)
		if err != nil {
			return err
		}
		for _, u := range wrong {
			c.found(Problem{Kind: KindUsage, Repaired: c.o.Repair,
				Detail: fmt.Sprintf("%s: %d bytes, %d tags and %d manifests are written down, %d, %d and %d counted",
					u.Repo, u.Bytes, u.Tags, u.Manifests, u.CountBytes, u.CountTags, u.CountManifests)})
		}
		if next == 0 {
			return nil
		}
		if err := c.step(ctx, next); err != nil {
			return err
		}
	}
}

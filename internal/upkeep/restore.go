package upkeep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/blob/fileblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// restoringFile marks a data folder that is not restored whole yet: no registry starts on it.
const restoringFile = "restoring"

// RestoreOptions say what to restore, and how.
type RestoreOptions struct {
	Generation string // its name; "": the newest
	Rate       int64  // bytes a second to read at most; 0: as fast as it goes
	Progress   func(done, total int64)
	Now        func() time.Time
}

// Restored is what a restore has brought back.
type Restored struct {
	Generation Generation `json:"generation"`
	Blobs      int        `json:"blobs"`
	Manifests  int        `json:"manifests"`
	Bytes      int64      `json:"bytes"`    // copied and compared with their digests
	Problems   []Problem  `json:"problems"` // what is not whole in the backup; at most 1,000
	Omitted    int        `json:"omitted,omitempty"`
}

// Restore makes a data folder of a generation in a backup folder. The data folder must be
// empty, or one that an earlier restore of the same generation was broken off in: what that
// has copied is not copied again. Everything is compared with its digest on the way. A blob
// that the backup does not have whole counts as absent until it is pushed again.
func Restore(ctx context.Context, from, dir string, o RestoreOptions) (out Restored, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	g, err := pick(from, o.Generation)
	if err != nil {
		return out, err
	}
	if err := checkEmpty(dir, g.Name); err != nil {
		return out, err
	}
	unlock, err := lockFolder(dir)
	if err != nil {
		return out, err
	}
	defer unlock()
	mark := filepath.Join(dir, restoringFile)
	if err := writeDurably(mark, []byte(g.Name)); err != nil {
		return out, fmt.Errorf("data folder: %w", err)
	}
	r := &restorer{dir: dir, o: o, limit: throttle(o.Rate), out: Restored{Generation: g, Problems: []Problem{}}}
	if err := r.run(ctx, from); err != nil {
		return r.out, fmt.Errorf("%w; the same command goes on from here", err)
	}
	if err := os.Remove(mark); err != nil {
		return r.out, err
	}
	return r.out, syncFolder(dir)
}

// pick finds a generation.
func pick(from, name string) (Generation, error) {
	all, err := Generations(from)
	if err != nil {
		return Generation{}, err
	}
	if name == "" && len(all) > 0 {
		return all[len(all)-1], nil
	}
	for _, g := range all {
		if g.Name == name {
			return g, nil
		}
	}
	if name == "" {
		return Generation{}, fmt.Errorf("%s holds no backup that was finished", from)
	}
	return Generation{}, fmt.Errorf("%s has no generation %s", from, name)
}

// checkEmpty refuses a folder that holds anything but what a restore has left.
func checkEmpty(dir, generation string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, restoringFile)); err == nil && string(raw) == generation {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return e.Name() == "lost+found" })
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty (%s); restore into an empty folder", dir, entries[0].Name())
	}
	return nil
}

type restorer struct {
	dir   string
	o     RestoreOptions
	limit *rate.Limiter
	out   Restored
	from  *fileblob.Store
	to    *fileblob.Store
	done  int64
}

func (r *restorer) run(ctx context.Context, from string) (err error) {
	if r.from, err = fileblob.New(from); err != nil {
		return fmt.Errorf("backup folder: %w", err)
	}
	defer func() { err = errors.Join(err, r.from.Close()) }()
	if r.to, err = fileblob.New(r.dir); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	defer func() { err = errors.Join(err, r.to.Close()) }()
	if err := sweepCopies(ctx, r.to); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	name := filepath.Join(r.dir, CatalogFile)
	if err := removeCatalog(name); err != nil {
		return err
	}
	saved := filepath.Join(from, generationsDir, r.out.Generation.Name, CatalogFile)
	if err := copyCatalog(ctx, saved, name, r.out.Generation.Catalog); err != nil {
		return err
	}
	cat, err := catalog.Open(ctx, "sqlite:"+name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cat.Close()) }()
	if err := r.manifests(ctx, cat); err != nil {
		return err
	}
	if err := r.blobs(ctx, cat); err != nil {
		return err
	}
	return record(ctx, cat, "restore-backup", r.o.Now(), map[string]any{"generation": r.out.Generation.Name, "problems": len(r.out.Problems) + r.out.Omitted})
}

// copyCatalog copies a catalog's file and compares it with its digest.
func copyCatalog(ctx context.Context, from, to string, want oci.Digest) error {
	raw, err := os.Open(from)
	if err != nil {
		return err
	}
	defer raw.Close()
	f, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.ReadFrom(raw)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("copy the catalog: %w", err)
	}
	got, err := fileDigest(ctx, to)
	if err == nil && got != want {
		err = fmt.Errorf("the catalog in the backup is damaged: it is %s, not %s; choose another --generation", got, want)
	}
	return err
}

func (r *restorer) manifests(ctx context.Context, cat *catalog.Catalog) error {
	for after := int64(0); ; {
		page, err := cat.KeptManifests(ctx, after, manifestPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, m := range page {
			after = m.ID
			if oci.DigestOf(m.Digest.Algorithm(), m.Raw) != m.Digest {
				r.problem(Problem{Kind: KindManifest, Digest: m.Digest.String(), Detail: "its bytes in the catalog are changed", Images: holders(m)})
				continue
			}
			r.out.Manifests++
			if _, err := r.to.Stat(ctx, m.Digest); !errors.Is(err, blob.ErrNotFound) {
				if err != nil {
					return err
				}
				continue
			}
			if err := putBytes(ctx, r.to, m.Digest, m.Raw); err != nil {
				return err
			}
		}
	}
}

func (r *restorer) problem(p Problem) {
	if len(r.out.Problems) >= maxProblems {
		r.out.Omitted++
		return
	}
	r.out.Problems = append(r.out.Problems, p)
}

func (r *restorer) blobs(ctx context.Context, cat *catalog.Catalog) error {
	_, total, err := cat.BlobTotals(ctx)
	if err != nil {
		return err
	}
	for after := int64(0); ; {
		page, err := cat.KeptBlobs(ctx, after, blobPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, k := range page {
			after = k.ID
			if err := r.blob(ctx, cat, k); err != nil {
				return err
			}
			r.done += k.Size
			if r.o.Progress != nil {
				r.o.Progress(r.done, total)
			}
		}
	}
}

func (r *restorer) blob(ctx context.Context, cat *catalog.Catalog, k catalog.KeptBlob) error {
	if size, err := r.to.Stat(ctx, k.Digest); err == nil && size == k.Size {
		r.out.Blobs++ // an earlier restore has compared it with its digest
		return nil
	}
	err := copyBlob(ctx, r.from, r.to, k.Digest, r.limit)
	if errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrMismatch) {
		images, ierr := cat.Dependants(ctx, k.Digest, maxImages)
		r.problem(Problem{Kind: KindBlob, Digest: k.Digest.String(), Detail: "the backup does not have it whole; it counts as absent until it is pushed again", Images: images})
		return errors.Join(ierr, cat.MarkDamaged(ctx, k.Digest, r.o.Now()))
	}
	if err == nil {
		r.out.Blobs++
		r.out.Bytes += k.Size
	}
	return err
}

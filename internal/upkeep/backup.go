package upkeep

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/blob/fileblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// A backup folder holds blobs as a data folder does, and generations of the catalog, which
// share them:
//
//	blobs/sha256/ab/ab12…                         content
//	generations/20261124T041500.000Z/catalog.db   a catalog
//	generations/20261124T041500.000Z/backup.json  what it is; a generation is whole once it has this name
const (
	generationsDir = "generations"
	generationFile = "backup.json"
	generationTime = "20060102T150405.000Z"
	begun          = ".new-" // before the name of a generation that is not whole
	leaseEvery     = catalog.LeaseLife / 6
)

// Generation is one state of a registry in a backup folder.
type Generation struct {
	Version int       `json:"version"` // of this document: 1
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	// Catalog is the digest of catalog.db.
	Catalog   oci.Digest `json:"catalog"`
	Blobs     int        `json:"blobs"`
	Manifests int        `json:"manifests"`
	Bytes     int64      `json:"bytes"` // of all that the generation names
	Copied    int        `json:"copied"`
	// CopiedBytes are those that were not in the folder before.
	CopiedBytes int64 `json:"copiedBytes"`
	// Problems are blobs that the registry itself does not have whole.
	Problems []Problem `json:"problems"`
	Omitted  int       `json:"omitted,omitempty"`
}

// BackupOptions say how to back up.
type BackupOptions struct {
	Verify   bool  // read what is in the backup folder already, and compare it with its digest
	Rate     int64 // bytes a second to read at most; 0: as fast as it goes
	Progress func(done, total int64)
	Now      func() time.Time // called from two goroutines; default time.Now
}

// Backup copies a registry, which may be running, to a folder: the catalog as it is at one
// moment, and the blobs that it names, but those that are in the folder already. While it
// copies, no blobs are collected. If it is broken off, what was copied need not be copied
// again; the generation is whole, and seen by Restore, only at the end.
func Backup(ctx context.Context, d *Data, to string, o BackupOptions) (g Generation, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if same, err := sameFolder(d.Dir, to); err != nil || same {
		return g, errors.Join(err, onlyIf(same, "a registry cannot be backed up into its own folder"))
	}
	unlock, err := Lock(to)
	if err != nil {
		return g, fmt.Errorf("backup folder: %w", err)
	}
	defer unlock()
	store, err := fileblob.New(to)
	if err != nil {
		return g, fmt.Errorf("backup folder: %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := sweepGenerations(to); err != nil {
		return g, err
	}
	if err := sweepCopies(ctx, store); err != nil {
		return g, fmt.Errorf("backup folder: %w", err)
	}
	ctx, release, err := lease(ctx, d.Cat, o.Now)
	if err != nil {
		return g, err
	}
	defer func() { err = errors.Join(err, release()) }()
	b := &backup{from: d, to: store, o: o, limit: throttle(o.Rate)}
	b.g = Generation{Version: 1, Created: o.Now().UTC(), Problems: []Problem{}}
	for at := b.g.Created; ; at = at.Add(time.Millisecond) {
		b.g.Name = at.Format(generationTime)
		if _, err := os.Stat(filepath.Join(to, generationsDir, b.g.Name)); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return g, fmt.Errorf("backup folder: %w", err)
		}
	}
	return b.run(ctx, filepath.Join(to, generationsDir))
}

func onlyIf(is bool, what string) error {
	if is {
		return errors.New(what)
	}
	return nil
}

// sameFolder says whether two names are of one folder.
func sameFolder(a, b string) (bool, error) {
	x, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	y, err := os.Stat(b)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(x, y), err
}

// sweepGenerations removes what backups that were broken off left of their catalogs.
func sweepGenerations(to string) error {
	if err := os.MkdirAll(filepath.Join(to, generationsDir), 0o700); err != nil {
		return fmt.Errorf("backup folder: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(globEscape(to), generationsDir, begun+"*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("backup folder: %w", err)
		}
	}
	return nil
}

// sweepCopies removes what was being copied when a backup or restore was broken off. The
// caller has the folder for itself.
func sweepCopies(ctx context.Context, store *fileblob.Store) error {
	_, err := store.Sweep(ctx, func(string) bool { return false }, time.Now())
	return err
}

// globEscape keeps filepath.Glob from reading a folder's name as a pattern.
func globEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// lease keeps blobs from being collected until release. The context that it returns ends
// when the lease cannot be renewed in time.
func lease(ctx context.Context, cat *catalog.Catalog, now func() time.Time) (held context.Context, release func() error, err error) {
	name := "backup." + strings.ToLower(rand.Text())
	if err := cat.Lease(ctx, name, now()); err != nil {
		return nil, nil, err
	}
	held, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() { // ends with cancel
		defer close(ended)
		tick := time.NewTicker(leaseEvery)
		defer tick.Stop()
		for last := now(); ; {
			select {
			case <-held.Done():
				return
			case <-tick.C:
			}
			if err := cat.Lease(held, name, now()); err == nil {
				last = now()
			} else if now().Sub(last) > catalog.LeaseLife/2 {
				cancel(fmt.Errorf("the blobs can no longer be kept from being collected: %w", err))
				return
			}
		}
	}()
	return held, func() error {
		cancel(nil)
		<-ended
		return cat.Release(context.WithoutCancel(ctx), name)
	}, nil
}

type backup struct {
	from  *Data
	to    *fileblob.Store
	o     BackupOptions
	limit *rate.Limiter
	g     Generation
	total int64
	done  int64
}

// run makes a generation under dir.
func (b *backup) run(ctx context.Context, dir string) (Generation, error) {
	fresh := filepath.Join(dir, begun+b.g.Name)
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return b.g, fmt.Errorf("backup folder: %w", err)
	}
	name := filepath.Join(fresh, CatalogFile)
	if err := b.from.Cat.Snapshot(ctx, name); err != nil {
		return b.g, err
	}
	if err := b.content(ctx, name); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = errors.Join(err, cause)
		}
		return b.g, err
	}
	var err error
	if b.g.Catalog, err = fileDigest(ctx, name); err != nil {
		return b.g, err
	}
	doc, err := json.MarshalIndent(b.g, "", "  ")
	if err != nil {
		return b.g, err
	}
	if err := writeDurably(filepath.Join(fresh, generationFile), doc); err != nil {
		return b.g, err
	}
	if err := os.Rename(fresh, filepath.Join(dir, b.g.Name)); err != nil {
		return b.g, err
	}
	return b.g, errors.Join(syncFolder(filepath.Join(dir, b.g.Name)), syncFolder(dir), syncFolder(filepath.Dir(dir)))
}

func writeDurably(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func fileDigest(ctx context.Context, name string) (oci.Digest, error) {
	f, err := os.Open(name)
	if err != nil {
		return oci.Digest{}, err
	}
	d, _, err := digestOf(ctx, oci.SHA256, f, nil, nil)
	return d, errors.Join(err, f.Close())
}

// content checks the copy of the catalog and copies what it names.
func (b *backup) content(ctx context.Context, name string) (err error) {
	cat, err := catalog.Open(ctx, "sqlite:"+name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cat.Close()) }()
	faults, err := cat.Faults(ctx)
	if err != nil || len(faults) > 0 {
		return errors.Join(err, onlyIf(len(faults) > 0, fmt.Sprintf("the catalog is damaged, and was not backed up: %s; 'pratique fsck' says more", strings.Join(faults, "; "))))
	}
	if err := forgetJobs(ctx, cat); err != nil {
		return err
	}
	if _, b.total, err = cat.BlobTotals(ctx); err != nil {
		return err
	}
	if err := b.manifests(ctx, cat); err != nil {
		return err
	}
	for after := int64(0); ; {
		page, err := cat.KeptBlobs(ctx, after, blobPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, k := range page {
			after = k.ID
			if err := b.blob(ctx, cat, k); err != nil {
				return err
			}
		}
	}
}

// forgetJobs drops what belongs to the registry that was copied, and not to the copy: the
// lease of this very backup, and how far a check has come.
func forgetJobs(ctx context.Context, cat *catalog.Catalog) error {
	return errors.Join(cat.ReleaseAll(ctx), cat.DeleteJob(ctx, jobFsck))
}

// manifests copies the manifests' bytes, from which a catalog can be rebuilt.
func (b *backup) manifests(ctx context.Context, cat *catalog.Catalog) error {
	for after := int64(0); ; {
		page, err := cat.KeptManifests(ctx, after, manifestPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, m := range page {
			after = m.ID
			b.g.Manifests++
			b.g.Bytes += int64(len(m.Raw))
			if oci.DigestOf(m.Digest.Algorithm(), m.Raw) != m.Digest {
				b.problem(Problem{Kind: KindManifest, Digest: m.Digest.String(), Detail: "its bytes in the catalog are changed", Images: holders(m)})
				continue
			}
			there, err := b.has(ctx, m.Digest, int64(len(m.Raw)))
			if err == nil && !there {
				err = putBytes(ctx, b.to, m.Digest, m.Raw)
			}
			if err != nil {
				return err
			}
		}
	}
}

func (b *backup) problem(p Problem) {
	if len(b.g.Problems) >= maxProblems {
		b.g.Omitted++
		return
	}
	b.g.Problems = append(b.g.Problems, p)
}

// has says whether the backup folder has content already.
func (b *backup) has(ctx context.Context, d oci.Digest, size int64) (bool, error) {
	n, err := b.to.Stat(ctx, d)
	if errors.Is(err, blob.ErrNotFound) || err == nil && n != size {
		return false, nil
	}
	if err != nil || !b.o.Verify {
		return err == nil, err
	}
	r, err := b.to.Open(ctx, d, 0)
	if err != nil {
		return false, err
	}
	got, _, err := digestOf(ctx, d.Algorithm(), r, b.limit, nil)
	if errors.Is(err, errHeldUp) {
		return false, errors.Join(err, r.Close())
	}
	if cerr := r.Close(); ctx.Err() != nil || cerr != nil {
		return false, errors.Join(ctx.Err(), cerr)
	}
	return err == nil && got == d, nil // what cannot be read is copied anew
}

func (b *backup) blob(ctx context.Context, cat *catalog.Catalog, k catalog.KeptBlob) error {
	defer func() {
		b.done += k.Size
		if b.o.Progress != nil {
			b.o.Progress(b.done, b.total)
		}
	}()
	b.g.Blobs++
	b.g.Bytes += k.Size
	if there, err := b.has(ctx, k.Digest, k.Size); err != nil || there {
		return err
	}
	err := copyBlob(ctx, b.from.Store, b.to, k.Digest, b.limit)
	switch {
	case err == nil:
		b.g.Copied++
		b.g.CopiedBytes += k.Size
		return nil
	case errors.Is(err, blob.ErrNotFound), errors.Is(err, blob.ErrMismatch):
		images, ierr := cat.Dependants(ctx, k.Digest, maxImages)
		b.problem(Problem{Kind: KindBlob, Digest: k.Digest.String(), Detail: "the registry does not have it whole; it is not in the backup", Images: images})
		return errors.Join(ierr, cat.MarkDamaged(ctx, k.Digest, b.o.Now()))
	}
	return err
}

// copyBlob copies one blob from store to store, which compares it with its digest.
func copyBlob(ctx context.Context, from, to blob.Store, d oci.Digest, limit *rate.Limiter) error {
	r, err := from.Open(ctx, d, 0)
	if err != nil {
		return err
	}
	defer r.Close()
	up, err := to.Begin(ctx, d.Algorithm())
	if err != nil {
		return err
	}
	buf := make([]byte, readSize)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, werr := up.Write(buf[:n]); werr != nil {
				return errors.Join(werr, up.Abort(ctx))
			}
			err = errors.Join(err, pass(ctx, limit, n))
		}
		if errors.Is(err, io.EOF) {
			return up.Commit(ctx, d)
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return errors.Join(fmt.Errorf("copy %s: %w", d, err), up.Abort(ctx))
		}
	}
}

// Generations lists the whole generations in a backup folder, the oldest first.
func Generations(from string) ([]Generation, error) {
	entries, err := os.ReadDir(filepath.Join(from, generationsDir))
	if err != nil {
		return nil, fmt.Errorf("%s is no backup folder: %w", from, err)
	}
	var out []Generation
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), begun) {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(from, generationsDir, e.Name(), generationFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var g Generation
		if err == nil {
			err = json.Unmarshal(raw, &g)
		}
		if err == nil && g.Version != 1 {
			err = fmt.Errorf("version %d was written by a later program", g.Version)
		}
		if err != nil {
			return nil, fmt.Errorf("generation %s of %s: %w", e.Name(), from, err)
		}
		g.Name = e.Name()
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b Generation) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name))
	})
	return out, nil
}

package upkeep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/blob/fileblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// Rebuilt is what a rebuild has made, and what it could not make.
type Rebuilt struct {
	Repositories int       `json:"repositories"`
	Manifests    int       `json:"manifests"` // counted in each repository
	Tags         int       `json:"tags"`
	Problems     []Problem `json:"problems"` // what is lost or not whole; at most 1,000
	Omitted      int       `json:"omitted,omitempty"`
	// NotRestored lists what the store does not know of, in words.
	NotRestored []string `json:"notRestored"`
	MovedAside  string   `json:"movedAside,omitempty"` // the catalog that was there
}

// notRestored is what no rebuild brings back.
var notRestored = []string{
	"names, secrets and roles: the next start makes a new administrator",
	"rules, locks and settings, and the audit log",
	"manifests in the trash, and history from before the journal's last snapshot",
	"advisories that were imported: the embedded ones load at the next start, import the others again",
	"verdicts: every image is judged anew, and none is served before",
}

// RebuildOptions say how to rebuild.
type RebuildOptions struct {
	Force    bool // also where there is a catalog, which is moved aside
	Progress func(done, total int)
	Now      func() time.Time
}

// remakePage is how many manifests one transaction makes.
const remakePage = 100

// Rebuild makes the catalog of a data folder again from its blob store alone: from the
// journal and the manifests' bytes. No registry may run on it. Until all is made there is
// no catalog, or the one before; a rebuild that was broken off is simply done again.
func Rebuild(ctx context.Context, dir string, o RebuildOptions) (out Rebuilt, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if _, err := os.Stat(filepath.Join(dir, "blobs")); err != nil {
		return out, fmt.Errorf("%s is no data folder: %w", dir, err)
	}
	unlock, err := Lock(dir)
	if err != nil {
		return out, err
	}
	defer unlock()
	name := filepath.Join(dir, CatalogFile)
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) && !o.Force {
		return out, fmt.Errorf("%s is there; if it is lost for good, --force moves it aside and makes it again", name)
	}
	store, err := fileblob.New(dir)
	if err != nil {
		return out, fmt.Errorf("data folder: %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	j, err := readJournal(ctx, store)
	if err != nil {
		return out, err
	}
	fresh := name + ".rebuild"
	if err := removeCatalog(fresh); err != nil {
		return out, err
	}
	r := &rebuilder{store: store, o: o, out: Rebuilt{Problems: []Problem{}, NotRestored: notRestored}}
	for _, l := range j.lost {
		r.lost(Problem{Kind: KindReference, Detail: "the journal is not whole: " + l})
	}
	if err := r.fill(ctx, fresh, j); err != nil {
		return r.out, errors.Join(err, removeCatalog(fresh))
	}
	if r.out.MovedAside, err = moveAside(name, o.Now()); err != nil {
		return r.out, err
	}
	if err := os.Rename(fresh, name); err != nil {
		return r.out, err
	}
	return r.out, syncFolder(dir)
}

type rebuilder struct {
	store blob.Store
	cat   *catalog.Catalog
	o     RebuildOptions
	out   Rebuilt
}

func (r *rebuilder) lost(p Problem) {
	if len(r.out.Problems) >= maxProblems {
		r.out.Omitted++
		return
	}
	r.out.Problems = append(r.out.Problems, p)
}

// fill makes the catalog in a file of its own, with a journal that goes on from it.
func (r *rebuilder) fill(ctx context.Context, name string, j journaled) (err error) {
	if r.cat, err = catalog.Open(ctx, "sqlite:"+name); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.cat.Close()) }()
	list := replay(j)
	repos := map[string]bool{}
	var page []catalog.Remade
	for i, h := range list {
		if m, ok, err := r.manifest(ctx, h); err != nil {
			return err
		} else if ok {
			repos[h.repo] = true
			r.out.Manifests, r.out.Tags = r.out.Manifests+1, r.out.Tags+len(m.Tags)
			page = append(page, m)
		}
		if len(page) == remakePage || i == len(list)-1 {
			if err := r.cat.Remake(ctx, page); err != nil {
				return err
			}
			page = page[:0]
			if r.o.Progress != nil {
				r.o.Progress(i+1, len(list))
			}
		}
	}
	r.out.Repositories = len(repos)
	for after := int64(0); ; {
		_, next, err := r.cat.Usages(ctx, after, usagePage, true)
		if err != nil {
			return err
		}
		if after = next; next == 0 {
			break
		}
	}
	if err := record(ctx, r.cat, "rebuild", r.o.Now(), map[string]any{"manifests": r.out.Manifests, "problems": len(r.out.Problems) + r.out.Omitted}); err != nil {
		return err
	}
	return r.goOn(ctx)
}

// goOn begins the journal of the new catalog: until then the old one stands.
func (r *rebuilder) goOn(ctx context.Context) error {
	store, ok := r.store.(JournalStore)
	if !ok {
		return errors.New("this store keeps no journal")
	}
	j, err := NewJournal(r.cat, store, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := j.Restart(ctx); err != nil {
		return err
	}
	return j.Write(ctx) // marks the moves that the snapshot holds
}

// holding is a manifest that a repository held, by the journal.
type holding struct {
	repo, digest string
	mediaType    string
	at           time.Time
	by           string
	tags         []catalog.RemadeTag
}

// replay is what stood after the last move: images before indexes, the oldest first.
func replay(j journaled) []*holding {
	type key struct{ repo, name string }
	held, tags := map[key]*holding{}, map[key]catalog.Entry{}
	types := map[string]string{}
	for _, m := range slices.Concat(j.standing, j.moves) {
		if m.Type != "" {
			types[m.Digest] = m.Type
		}
		switch m.Kind {
		case catalog.MovePush, catalog.MoveRestore:
			held[key{m.Repo, m.Digest}] = &holding{repo: m.Repo, digest: m.Digest, at: m.At, by: m.By}
		case catalog.MoveTag:
			tags[key{m.Repo, m.Tag}] = m
		case catalog.MoveUntag:
			delete(tags, key{m.Repo, m.Tag})
		case catalog.MoveDelete, catalog.MovePurge:
			delete(held, key{m.Repo, m.Digest})
			for k, t := range tags {
				if k.repo == m.Repo && t.Digest == m.Digest {
					delete(tags, k)
				}
			}
		}
	}
	for k, t := range tags {
		if h := held[key{k.repo, t.Digest}]; h != nil {
			h.tags = append(h.tags, catalog.RemadeTag{Name: k.name, At: t.At, By: t.By})
		}
	}
	var out []*holding
	for _, h := range held {
		h.mediaType = types[h.digest]
		slices.SortFunc(h.tags, func(a, b catalog.RemadeTag) int { return cmp.Compare(a.Name, b.Name) })
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b *holding) int {
		return cmp.Or(cmp.Compare(level(a.mediaType), level(b.mediaType)), a.at.Compare(b.at), cmp.Compare(a.repo, b.repo), cmp.Compare(a.digest, b.digest))
	})
	return out
}

// level is 1 of what lists other manifests.
func level(mediaType string) int {
	if mediaType == oci.MediaTypeImageIndex || mediaType == oci.MediaTypeDockerList {
		return 1
	}
	return 0
}

// manifest reads a manifest's bytes and finds its parts.
func (r *rebuilder) manifest(ctx context.Context, h *holding) (catalog.Remade, bool, error) {
	out := catalog.Remade{PushedAt: h.at, PushedBy: h.by, Tags: h.tags, Sizes: map[oci.Digest]int64{}}
	p := Problem{Kind: KindManifest, Digest: h.digest, Images: []string{h.repo + "@" + h.digest}}
	for _, t := range h.tags {
		p.Images = append(p.Images, h.repo+":"+t.Name)
	}
	p.Images = p.Images[:min(len(p.Images), maxImages)]
	d, err := oci.ParseDigest(h.digest)
	if err == nil {
		out.Repo, err = oci.ParseRepository(h.repo)
	}
	if err != nil {
		p.Detail = fmt.Sprintf("the journal cannot be understood: %v", err)
		r.lost(p)
		return out, false, nil
	}
	raw, err := r.read(ctx, d)
	if err == nil {
		out.Manifest, err = oci.ParseManifestAs(d.Algorithm(), h.mediaType, raw)
	}
	if err == nil && out.Manifest.Digest != d {
		err = errors.New("its bytes are changed")
	}
	if err != nil {
		if ctx.Err() != nil {
			return out, false, ctx.Err()
		}
		p.Detail = fmt.Sprintf("lost: %v", err)
		r.lost(p)
		return out, false, nil
	}
	for i, part := range out.Manifest.Blobs() {
		size, err := r.store.Stat(ctx, part.Digest)
		switch {
		case err == nil:
			out.Sizes[part.Digest] = size
		case !errors.Is(err, blob.ErrNotFound):
			return out, false, err
		case i == 0 || len(part.URLs) == 0:
			r.lost(Problem{Kind: KindBlob, Digest: part.Digest.String(), Detail: "its bytes are missing; it counts as absent until it is pushed again", Images: p.Images})
		}
	}
	return out, true, nil
}

func (r *rebuilder) read(ctx context.Context, d oci.Digest) ([]byte, error) {
	f, err := r.store.Open(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, oci.MaxManifestSize+1))
	return raw, errors.Join(err, f.Close())
}

// catalogFiles are the files of a catalog in SQLite.
func catalogFiles(name string) []string { return []string{name, name + "-wal", name + "-shm"} }

func removeCatalog(name string) error {
	for _, f := range catalogFiles(name) {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// moveAside renames a catalog, if there is one, and returns its new name.
func moveAside(name string, now time.Time) (string, error) {
	aside := name + ".before-" + now.UTC().Format("20060102T150405")
	moved := ""
	for i, f := range catalogFiles(name) {
		err := os.Rename(f, catalogFiles(aside)[i])
		if err == nil {
			moved = aside
		} else if !errors.Is(err, fs.ErrNotExist) {
			return moved, err
		}
	}
	return moved, nil
}

// syncFolder makes a folder's entries durable.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/rules"
)

// restoreByRules is how long the rules let a deleted manifest be restored. It is asked at a
// deletion, whose own transaction will tell of a catalog that cannot be read.
func restoreByRules(cat *catalog.Catalog, log *slog.Logger) time.Duration {
	held, _, err := cat.Rules(context.Background())
	if err != nil {
		log.Error("the rules could not be read: what is deleted can be restored for as long as without rules", "err", err)
		return time.Duration(rules.DefaultRestore)
	}
	return time.Duration(held.Restore)
}

// act is something that a caller does now.
func (r *Registry) act(by Caller) catalog.Act {
	return catalog.Act{By: by.Name, Now: r.o.Now(), Restore: r.o.Restore(), Trace: by.Trace}
}

// TagHistory returns up to limit moves of a tag from before the one with an id (0: from the
// newest on), the newest first; more says whether others follow.
func (r *Registry) TagHistory(ctx context.Context, repo oci.Repository, tag string, before int64, limit int) (moves []catalog.Move, more bool, err error) {
	moves, err = r.cat.TagHistory(ctx, repo, tag, before, limit+1)
	if err != nil {
		return nil, false, known(err, oci.CodeNameUnknown, repo.String())
	}
	if len(moves) == 0 && before <= 0 {
		return nil, false, oci.Errorf(oci.CodeManifestUnknown, "nothing is known of a tag %s in %s", tag, repo)
	}
	if len(moves) > limit {
		return moves[:limit], true, nil
	}
	return moves, false, nil
}

// UndoTag points a tag back to what it named before its last move.
func (r *Registry) UndoTag(ctx context.Context, by Caller, repo oci.Repository, tag string) (catalog.Undone, error) {
	name := image(repo, tag)
	u, err := r.cat.UndoTag(ctx, repo, tag, r.act(by))
	switch {
	case errors.Is(err, catalog.ErrNothingBefore):
		err = oci.Errorf(oci.CodeManifestUnknown, "%s named nothing before its last move; 'pratique tags history %s' shows what is known of it", name, name)
	case errors.Is(err, catalog.ErrManifestGone):
		err = oci.Errorf(oci.CodeManifestUnknown, "%s named %s before, which %s does not hold any more; if 'pratique trash list %s' shows it, 'pratique trash restore %s@%s' brings it back",
			name, u.To, repo, repo, repo, u.To)
	case errors.Is(err, catalog.ErrNotFound) && !errors.Is(err, catalog.ErrNoRepository):
		err = oci.Errorf(oci.CodeManifestUnknown, "nothing is known of a tag %s in %s", tag, repo)
	}
	return u, known(err, oci.CodeManifestUnknown, name)
}

// Restored is what the restoring of a manifest came to.
type Restored struct {
	catalog.Restored
	Decision policy.Decision
}

// Restore takes a manifest out of the trash, with the tags that named it and were not
// pointed elsewhere since. If it is pending, its verdict is waited for as after a push.
func (r *Registry) Restore(ctx context.Context, by Caller, repo oci.Repository, d oci.Digest) (Restored, error) {
	out, err := r.cat.RestoreManifest(ctx, repo, d, r.act(by))
	if err != nil {
		return Restored{}, r.notInTrash(err, repo, d)
	}
	v, _ := r.judge(ctx, oci.Manifest{Descriptor: oci.Descriptor{Digest: d}}, false)
	return Restored{out, v.Decision}, nil
}

// Purge removes a manifest from the trash for good.
func (r *Registry) Purge(ctx context.Context, by Caller, repo oci.Repository, d oci.Digest) error {
	return r.notInTrash(r.cat.PurgeManifest(ctx, repo, d, r.act(by)), repo, d)
}

func (r *Registry) notInTrash(err error, repo oci.Repository, d oci.Digest) error {
	if errors.Is(err, catalog.ErrNotFound) && !errors.Is(err, catalog.ErrNoRepository) {
		return oci.Errorf(oci.CodeManifestUnknown, "%s is not in the trash of %s; 'pratique trash list %s' shows what is", d, repo, repo)
	}
	return known(err, oci.CodeManifestUnknown, fmt.Sprintf("%s@%s", repo, d))
}

// Trash lists up to limit deleted manifests of the repositories whose names begin with
// prefix; next is the after of the page that follows, "" at the end.
func (r *Registry) Trash(ctx context.Context, prefix, after string, limit int) (list []catalog.Trashed, next string, err error) {
	return r.cat.Trash(ctx, prefix, after, limit)
}

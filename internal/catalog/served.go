package catalog

import (
	"context"
	"errors"
	"fmt"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// Served is what a pull needs to know of a manifest, and no more.
type Served struct {
	oci.Descriptor
	Raw      []byte
	Decision policy.Decision
	// Closed is what was closed by hand of the manifest, its tag or its repository.
	Closed Locks
}

const servedByTag = `
select m.digest, m.media_type, m.raw, v.decision, r.closed | h.closed | t.closed
from repositories r
join tags t on t.repository_id = r.id and t.name = $2
join holdings h on h.repository_id = r.id and h.manifest_id = t.manifest_id
join manifests m on m.id = t.manifest_id
join verdicts v on v.manifest_id = t.manifest_id
where r.name = $1`

const servedByDigest = `
select m.digest, m.media_type, m.raw, v.decision, r.closed | h.closed
from repositories r
join manifests m on m.digest = $2
join holdings h on h.repository_id = r.id and h.manifest_id = m.id
join verdicts v on v.manifest_id = m.id
where r.name = $1`

// Served returns what ref names in repo: Manifest without what a pull has no use for.
// ErrNotFound if it names nothing, ErrNoRepository if not even repo exists.
func (c *Catalog) Served(ctx context.Context, repo oci.Repository, ref oci.Reference) (Served, error) {
	text := servedByDigest
	if ref.Tag != "" {
		text = servedByTag
	}
	var s Served
	var digest string
	var decision int64
	err := c.read.row(ctx, text, repo.String(), ref.String()).Scan(&digest, &s.MediaType, &s.Raw, &decision, &s.Closed)
	if err = asKnown(err); errors.Is(err, ErrNotFound) {
		err = c.noRepository(ctx, repo, err)
	}
	if err != nil {
		return Served{}, fmt.Errorf("manifest %s of %s: %w", ref, repo, err)
	}
	s.Size, s.Decision = int64(len(s.Raw)), decisionOf(decision)
	s.Digest, err = oci.ParseDigest(digest)
	return s, err
}

package catalog

import (
	"context"
	"fmt"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// HeldBack returns up to limit manifests of repo that name blob d and are not allowed,
// the judged ones first.
func (c *Catalog) HeldBack(ctx context.Context, repo oci.Repository, d oci.Digest, limit int) ([]oci.Digest, error) {
	rows, err := c.read.query(ctx, `select m.digest from needs n
		join manifests m on m.id = n.manifest_id
		join verdicts v on v.manifest_id = n.manifest_id
		where n.repository_id = (select id from repositories where name = $1)
			and n.blob_id = (select id from blobs where digest = $2)
			and v.decision <> $3 order by v.decision desc, m.id limit $4`,
		repo.String(), d.String(), int64(policy.Allow), page(limit))
	out, err := collect(rows, err, scanDigest)
	if err != nil {
		return nil, fmt.Errorf("manifests that hold back %s of %s: %w", d, repo, err)
	}
	return out, nil
}

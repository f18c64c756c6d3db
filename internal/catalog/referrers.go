package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"pratique.dev/pratique/internal/oci"
)

// ReferrerPage says which referrers are asked for.
type ReferrerPage struct {
	ArtifactType string // those of this type alone; "" takes all
	After        int64  // Next of the page before; 0 for the first
	Limit        int    // entries at most; 0 or less: maxPage
	// Bytes is how much text the entries may have together, in about as many bytes as their
	// JSON; 0 or less: no bound. The first entry comes whatever it has.
	Bytes int
}

const referrersText = `select m.id, m.digest, m.media_type, m.artifact_type, m.annotations, length(m.raw)
	from manifests m
	join holdings h on h.manifest_id = m.id and h.repository_id = (select id from repositories where name = $1) and h.closed & 8 = 0
	where m.subject = $2 and m.id > $3 and ($4 = '' or m.artifact_type = $4) order by m.id limit $5`

// descriptorBytes is what an entry has in JSON beside its annotations, about.
const descriptorBytes = 300

// errFull ends a page.
var errFull = errors.New("the page is full")

// Referrers returns the manifests of repo whose subject is d in the order in which they
// came to be, with their artifact types and annotations (distribution-spec, "Listing
// Referrers"). Those that are locked against listing are left out. The subject itself need not be there. next is the After of the page that
// follows, 0 if there is none.
func (c *Catalog) Referrers(ctx context.Context, repo oci.Repository, subject oci.Digest, p ReferrerPage) (out []oci.Descriptor, next int64, err error) {
	limit := page(p.Limit)
	bytes := 0
	var last int64
	err = each(func(rows *sql.Rows) error {
		id, d, size, err := scanReferrer(rows)
		if err != nil {
			return err
		}
		bytes += size
		if len(out) == limit || p.Bytes > 0 && bytes > p.Bytes && len(out) > 0 {
			return errFull
		}
		out, last = append(out, d), id
		return nil
	})(c.read.query(ctx, referrersText, repo.String(), subject.String(), p.After, p.ArtifactType, limit+1))
	switch {
	case errors.Is(err, errFull):
		return out, last, nil
	case err != nil:
		return nil, 0, fmt.Errorf("referrers of %s in %s: %w", subject, repo, asKnown(err))
	}
	return out, 0, nil
}

// scanReferrer reads an entry, and tells about how many bytes of JSON it has.
func scanReferrer(rows *sql.Rows) (id int64, d oci.Descriptor, size int, err error) {
	var digest string
	var annotations sql.NullString
	if err := rows.Scan(&id, &digest, &d.MediaType, &d.ArtifactType, &annotations, &d.Size); err != nil {
		return 0, d, 0, err
	}
	if annotations.Valid {
		if err := json.Unmarshal([]byte(annotations.String), &d.Annotations); err != nil {
			return 0, d, 0, fmt.Errorf("annotations of %s: %w", digest, err)
		}
	}
	d.Digest, err = oci.ParseDigest(digest)
	return id, d, descriptorBytes + len(d.MediaType) + len(d.ArtifactType) + len(annotations.String), err
}

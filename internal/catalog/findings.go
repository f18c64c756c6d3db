package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/vuln"
)

const findingsOfImage = `
select f.doc,
	exists (select 1 from finding_cves c join kev on kev.cve = c.cve where c.key_id = f.key_id and c.n = f.n),
	(select max(e.score) from finding_cves c join epss e on e.cve = c.cve where c.key_id = f.key_id and c.n = f.n)
from manifests m
join image_packages p on p.manifest_id = m.id
join findings f on f.key_id = p.key_id and f.undecided = 0
where m.digest = $1`

// Findings returns the findings of an image, worst first, with what enrichments say of
// them now. ErrNotFound if the image's contents were not kept yet, so that an unknown
// image cannot pass for one without findings.
func (c *Catalog) Findings(ctx context.Context, image oci.Digest) ([]vuln.Finding, error) {
	rows, err := c.read.query(ctx, findingsOfImage, image.String())
	out, err := collect(rows, err, func(r *sql.Rows) (vuln.Finding, error) {
		var f vuln.Finding
		var doc sql.RawBytes
		var exploited bool
		var score sql.NullFloat64
		if err := r.Scan(&doc, &exploited, &score); err != nil {
			return f, err
		}
		if err := json.Unmarshal(doc, &f); err != nil {
			return f, fmt.Errorf("kept finding: %w", err)
		}
		f.Exploited = f.Exploited || exploited
		f.EPSS = max(f.EPSS, float32(score.Float64))
		return f, nil
	})
	if err == nil && len(out) == 0 {
		err = c.imageKept(ctx, image)
	}
	if err != nil {
		return nil, fmt.Errorf("findings of %s: %w", image, err)
	}
	slices.SortStableFunc(out, vuln.Compare)
	return out, nil
}

// Undecided returns the advisories that name a package of an image and of which it
// could not be told whether they apply. ErrNotFound as for Findings.
func (c *Catalog) Undecided(ctx context.Context, image oci.Digest) ([]vuln.Cleared, error) {
	rows, err := c.read.query(ctx, `select f.doc from manifests m
		join image_packages p on p.manifest_id = m.id
		join findings f on f.key_id = p.key_id and f.undecided = 1
		where m.digest = $1 order by f.key_id, f.n`, image.String())
	out, err := collect(rows, err, func(r *sql.Rows) (vuln.Cleared, error) {
		var v vuln.Cleared
		var doc sql.RawBytes
		if err := r.Scan(&doc); err != nil {
			return v, err
		}
		return v, json.Unmarshal(doc, &v)
	})
	if err == nil && len(out) == 0 {
		err = c.imageKept(ctx, image)
	}
	if err != nil {
		return nil, fmt.Errorf("undecided advisories of %s: %w", image, err)
	}
	return out, nil
}

// imageKept returns ErrNotFound if the contents of an image were not kept.
func (c *Catalog) imageKept(ctx context.Context, image oci.Digest) error {
	var id int64
	return asKnown(c.read.row(ctx, `select i.manifest_id from manifests m join images i on i.manifest_id = m.id where m.digest = $1`, image.String()).Scan(&id))
}

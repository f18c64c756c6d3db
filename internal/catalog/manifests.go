package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/report"
)

// Manifest is a manifest as one repository holds it.
type Manifest struct {
	// Manifest has its Descriptor and Raw; the parts of the document are there after
	// Parsed, and in what ManifestByDigest returns.
	oci.Manifest
	Repo     oci.Repository
	Tags     []string // that name it in Repo, sorted by bytes
	PushedAt time.Time
	PushedBy string
	Verdict  policy.Verdict
	Counts   Counts
	// Generation is how many times something new has made the verdict due; see KeepVerdict.
	Generation int64
	// Attempts is how often it was claimed since it was last judged.
	Attempts int
}

// Counts are kept beside a verdict.
type Counts = report.Counts

// Parsed fills in the parts of the document.
func (m Manifest) Parsed() (Manifest, error) {
	p, err := oci.ParseManifestAs(m.Digest.Algorithm(), m.MediaType, m.Raw)
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest %s: %w", m.Digest, err)
	}
	m.Manifest = p
	return m, nil
}

const manifestColumns = `
select r.name, m.digest, m.media_type, m.artifact_type, m.raw, h.pushed_at, h.pushed_by,
	v.decision, v.doc, v.counts, v.generation, v.attempts,
	(select string_agg(o.name, ' ' order by o.name) from tags o where o.repository_id = h.repository_id and o.manifest_id = m.id)
`

const manifestByTag = manifestColumns + `
from tags t
join holdings h on h.repository_id = t.repository_id and h.manifest_id = t.manifest_id
join repositories r on r.id = h.repository_id
join manifests m on m.id = h.manifest_id
join verdicts v on v.manifest_id = h.manifest_id
where t.repository_id = (select id from repositories where name = $1) and t.name = $2`

const manifestByDigest = manifestColumns + `
from holdings h
join repositories r on r.id = h.repository_id
join manifests m on m.id = h.manifest_id
join verdicts v on v.manifest_id = h.manifest_id
where h.repository_id = (select id from repositories where name = $1)
	and h.manifest_id = (select id from manifests where digest = $2)`

const manifestAnywhere = manifestColumns + `
from manifests m
join holdings h on h.manifest_id = m.id
join repositories r on r.id = h.repository_id
join verdicts v on v.manifest_id = m.id
where m.digest = $1 order by h.repository_id limit 1`

func scanManifest(row *sql.Row) (Manifest, error) {
	var m Manifest
	var repo, digest, doc, counts string
	var tags sql.NullString
	var decision, pushed int64
	err := row.Scan(&repo, &digest, &m.MediaType, &m.ArtifactType, &m.Raw, &pushed, &m.PushedBy,
		&decision, &doc, &counts, &m.Generation, &m.Attempts, &tags)
	if err != nil {
		return Manifest{}, asKnown(err)
	}
	m.Size, m.PushedAt, m.Tags = int64(len(m.Raw)), fromMicros(&pushed), strings.Fields(tags.String)
	if m.Digest, err = oci.ParseDigest(digest); err != nil {
		return Manifest{}, err
	}
	if m.Repo, err = oci.ParseRepository(repo); err != nil {
		return Manifest{}, err
	}
	m.Verdict, m.Counts, err = readVerdict(decision, doc, counts)
	return m, err
}

// Manifest returns what ref names in repo, with its verdict, by one query.
// ErrNotFound if it names nothing, ErrNoRepository if not even repo exists.
func (c *Catalog) Manifest(ctx context.Context, repo oci.Repository, ref oci.Reference) (Manifest, error) {
	text := manifestByDigest
	if ref.Tag != "" {
		text = manifestByTag
	}
	m, err := scanManifest(c.read.row(ctx, text, repo.String(), ref.String()))
	if errors.Is(err, ErrNotFound) {
		err = c.noRepository(ctx, repo, err)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest %s of %s: %w", ref, repo, err)
	}
	return m, nil
}

// ManifestByDigest returns a manifest as some repository holds it, with its parts.
// ErrNotFound if none does.
func (c *Catalog) ManifestByDigest(ctx context.Context, d oci.Digest) (Manifest, error) {
	m, err := scanManifest(c.read.row(ctx, manifestAnywhere, d.String()))
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest %s: %w", d, err)
	}
	return m.Parsed()
}

// noRepository returns ErrNoRepository if there is no repo, else otherwise.
func (c *Catalog) noRepository(ctx context.Context, repo oci.Repository, otherwise error) error {
	var id int64
	err := c.read.row(ctx, `select id from repositories where name = $1`, repo.String()).Scan(&id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return ErrNoRepository
	case err != nil:
		return asKnown(err)
	}
	return otherwise
}

// Tags returns up to limit tags of repo that sort behind after, in the order of bytes.
// What is locked against listing is left out. ErrNoRepository if there is no repo.
func (c *Catalog) Tags(ctx context.Context, repo oci.Repository, after string, limit int) ([]string, error) {
	rows, err := c.read.query(ctx, `select t.name from repositories r join tags t on t.repository_id = r.id
		where r.name = $1 and t.name > $2 and t.closed & 8 = 0
			and t.manifest_id not in (select manifest_id from holdings
				where repository_id = (select id from repositories where name = $1) and closed > 0 and closed & 8 <> 0)
		order by t.name limit $3`, repo.String(), after, page(limit))
	tags, err := collect(rows, err, scanText)
	if err == nil && len(tags) == 0 {
		err = c.noRepository(ctx, repo, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("tags of %s: %w", repo, err)
	}
	return tags, nil
}

// Repositories returns up to limit names of repositories that sort behind after, in
// the order of bytes. Those that are locked against listing are left out.
func (c *Catalog) Repositories(ctx context.Context, after string, limit int) ([]string, error) {
	rows, err := c.read.query(ctx, `select name from repositories where name > $1 and closed & 8 = 0 order by name limit $2`, after, page(limit))
	names, err := collect(rows, err, scanText)
	if err != nil {
		return nil, fmt.Errorf("list repositories: %w", err)
	}
	return names, nil
}

// AllRepositories is Repositories with those that are left out of lists.
func (c *Catalog) AllRepositories(ctx context.Context, after string, limit int) ([]string, error) {
	rows, err := c.read.query(ctx, `select name from repositories where name > $1 order by name limit $2`, after, page(limit))
	names, err := collect(rows, err, scanText)
	if err != nil {
		return nil, fmt.Errorf("list repositories: %w", err)
	}
	return names, nil
}

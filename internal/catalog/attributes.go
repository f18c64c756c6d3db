package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"pratique.dev/pratique/internal/oci"
)

// RepositoryAttributes is what there is to say of a repository as a whole.
type RepositoryAttributes struct {
	Created   time.Time
	Updated   time.Time // when a manifest was last pushed or a tag last set; Created before that
	Manifests int64
	Tags      int64
	Locks     Locks
}

// RepositoryAttributes returns those of repo. ErrNoRepository if there is none.
func (c *Catalog) RepositoryAttributes(ctx context.Context, repo oci.Repository) (RepositoryAttributes, error) {
	var a RepositoryAttributes
	var created int64
	var pushed, moved *int64
	err := c.read.row(ctx, `select r.created_at, r.closed, coalesce(u.manifests, 0), coalesce(u.tags, 0),
			(select h.pushed_at from holdings h where h.repository_id = r.id order by h.pushed_at desc limit 1),
			(select t.moved_at from tags t where t.repository_id = r.id order by t.moved_at desc limit 1)
		from repositories r left join usage u on u.repository_id = r.id where r.name = $1`, repo.String()).
		Scan(&created, &a.Locks, &a.Manifests, &a.Tags, &pushed, &moved)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoRepository
	}
	if err != nil {
		return a, fmt.Errorf("attributes of %s: %w", repo, asKnown(err))
	}
	a.Created = fromMicros(&created)
	a.Updated = later(a.Created, later(fromMicros(pushed), fromMicros(moved)))
	return a, nil
}

// NamedRepository is a repository in a list.
type NamedRepository struct {
	Name  string
	Empty bool // it holds no manifest
}

// NamedRepositories is Repositories, with whether they hold anything.
func (c *Catalog) NamedRepositories(ctx context.Context, after string, limit int) ([]NamedRepository, error) {
	rows, err := c.read.query(ctx, `select r.name, coalesce(u.manifests, 0) = 0 from repositories r left join usage u on u.repository_id = r.id
		where r.name > $1 and r.closed & 8 = 0 order by r.name limit $2`, after, page(limit))
	out, err := collect(rows, err, func(r *sql.Rows) (NamedRepository, error) {
		var n NamedRepository
		return n, r.Scan(&n.Name, &n.Empty)
	})
	if err != nil {
		return nil, fmt.Errorf("list repositories: %w", err)
	}
	return out, nil
}

// Order is how a list is ordered.
type Order int

// The orders.
const (
	ByName      Order = iota // tags by the order of bytes; manifests as OldestFirst
	OldestFirst              // by when a manifest was pushed, or a tag last set
	NewestFirst
)

// Mark is the entry of a list behind which a page begins. The zero Mark is before the first.
type Mark struct {
	At   time.Time // not for ByName
	Name string    // of a tag
	ID   int64     // of a manifest
}

// at is the mark's time as it is compared in an order.
func (m Mark) at(o Order) int64 {
	switch {
	case !m.At.IsZero():
		return m.At.UnixMicro()
	case o == NewestFirst:
		return math.MaxInt64
	}
	return math.MinInt64
}

// TagAttributes is what there is to say of a tag.
type TagAttributes struct {
	Name   string
	Digest oci.Digest // of what it names
	Set    time.Time  // when it was last set
	Locks  Locks      // of the tag alone
}

// Mark is the one behind which the page after the tag begins.
func (t TagAttributes) Mark() Mark { return Mark{At: t.Set, Name: t.Name} }

const tagAttributesColumns = `select t.name, m.digest, t.moved_at, t.closed from tags t join manifests m on m.id = t.manifest_id
	where t.repository_id = (select id from repositories where name = $1)`

// listedTag leaves out what is locked against listing, as Tags does.
const listedTag = ` and t.closed & 8 = 0 and t.manifest_id not in (select manifest_id from holdings
	where repository_id = (select id from repositories where name = $1) and closed > 0 and closed & 8 <> 0)`

// What stands behind the mark of name $2 and time $4, up to $3 of it.
var tagsInOrder = map[Order]string{
	ByName:      ` and t.name > $2 order by t.name limit $3`,
	OldestFirst: ` and t.moved_at >= $4 and (t.moved_at > $4 or t.name > $2) order by t.moved_at, t.name limit $3`,
	NewestFirst: ` and t.moved_at <= $4 and (t.moved_at < $4 or t.name < $2) order by t.moved_at desc, t.name desc limit $3`,
}

func scanTagAttributes(r *sql.Rows) (TagAttributes, error) {
	var t TagAttributes
	var digest string
	var set int64
	err := r.Scan(&t.Name, &digest, &set, &t.Locks)
	if err != nil {
		return t, err
	}
	t.Set = fromMicros(&set)
	t.Digest, err = oci.ParseDigest(digest)
	return t, err
}

// TagPage asks for a page of a repository's tags.
type TagPage struct {
	Repo   oci.Repository
	Digest oci.Digest // that they name; zero: any
	Order  Order
	After  Mark
	Limit  int
}

// TagList returns up to Limit tags. What is locked against listing is left out. By time, those of
// one digest are sorted, all of them; each other page is read in its order. ErrNoRepository if there is no
// repository.
func (c *Catalog) TagList(ctx context.Context, p TagPage) ([]TagAttributes, error) {
	args := []any{p.Repo.String(), p.After.Name, page(p.Limit)}
	if p.Order != ByName {
		args = append(args, p.After.at(p.Order))
	}
	text := tagAttributesColumns + listedTag
	if !p.Digest.IsZero() {
		args = append(args, p.Digest.String())
		text += fmt.Sprintf(" and t.manifest_id = (select id from manifests where digest = $%d)", len(args))
	}
	rows, err := c.read.query(ctx, text+tagsInOrder[p.Order], args...)
	out, err := collect(rows, err, scanTagAttributes)
	if err == nil && len(out) == 0 {
		err = c.noRepository(ctx, p.Repo, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("tags of %s: %w", p.Repo, err)
	}
	return out, nil
}

// TagAttributes returns those of a tag, be it locked against listing or not. ErrNotFound or
// ErrNoRepository if there is none.
func (c *Catalog) TagAttributes(ctx context.Context, repo oci.Repository, tag string) (TagAttributes, error) {
	rows, err := c.read.query(ctx, tagAttributesColumns+` and t.name = $2`, repo.String(), tag)
	out, err := collect(rows, err, scanTagAttributes)
	if err == nil && len(out) == 0 {
		err = c.noRepository(ctx, repo, ErrNotFound)
	}
	if err != nil {
		return TagAttributes{}, fmt.Errorf("attributes of %s:%s: %w", repo, tag, err)
	}
	return out[0], nil
}

// MaxTagsOf bounds the tags of a manifest that its attributes list.
const MaxTagsOf = 1000

// ManifestAttributes is what there is to say of a manifest in a repository.
type ManifestAttributes struct {
	oci.Descriptor
	Raw         []byte
	ContentSize int64 // of the config and all layers, for an index of all its images
	Pushed      time.Time
	Tags        []string // up to MaxTagsOf of those that name it, sorted by bytes, without what is locked against listing
	Locks       Locks    // of the manifest alone
	id          int64
}

// Mark is the one behind which the page after the manifest begins.
func (m ManifestAttributes) Mark() Mark { return Mark{At: m.Pushed, ID: m.id} }

const manifestAttributesColumns = `select h.manifest_id, m.digest, m.media_type, m.artifact_type, m.raw, m.content_size, h.pushed_at, h.closed,
	(select string_agg(o.name, ' ' order by o.name) from (select t.name from tags t
		where t.repository_id = h.repository_id and t.manifest_id = h.manifest_id and t.closed & 8 = 0 order by t.name limit 1000) o)
	from holdings h join manifests m on m.id = h.manifest_id
	where h.repository_id = (select id from repositories where name = $1)`

const manifestsOldest = manifestAttributesColumns + ` and h.closed & 8 = 0 and h.pushed_at >= $2 and (h.pushed_at > $2 or h.manifest_id > $3)
	order by h.pushed_at, h.manifest_id limit $4`

const manifestsNewest = manifestAttributesColumns + ` and h.closed & 8 = 0 and h.pushed_at <= $2 and (h.pushed_at < $2 or h.manifest_id < $3)
	order by h.pushed_at desc, h.manifest_id desc limit $4`

func scanManifestAttributes(r *sql.Rows) (ManifestAttributes, error) {
	var m ManifestAttributes
	var digest string
	var tags sql.NullString
	var pushed int64
	err := r.Scan(&m.id, &digest, &m.MediaType, &m.ArtifactType, &m.Raw, &m.ContentSize, &pushed, &m.Locks, &tags)
	if err != nil {
		return m, err
	}
	m.Size, m.Pushed, m.Tags = int64(len(m.Raw)), fromMicros(&pushed), strings.Fields(tags.String)
	m.Digest, err = oci.ParseDigest(digest)
	return m, err
}

// ManifestPage asks for a page of a repository's manifests.
type ManifestPage struct {
	Repo  oci.Repository
	Order Order
	After Mark
	Limit int
	Bytes int // of documents, at which the page ends; it has one manifest at least
}

// ManifestList returns up to Limit manifests; more says whether others follow. What is locked
// against listing is left out. ErrNoRepository if there is no repository.
func (c *Catalog) ManifestList(ctx context.Context, p ManifestPage) (out []ManifestAttributes, more bool, err error) {
	text := manifestsOldest
	if p.Order == NewestFirst {
		text = manifestsNewest
	}
	limit, bytes := page(p.Limit), 0
	rows, err := c.read.query(ctx, text, p.Repo.String(), p.After.at(p.Order), p.After.ID, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("manifests of %s: %w", p.Repo, asKnown(err))
	}
	defer rows.Close()
	for rows.Next() {
		m, err := scanManifestAttributes(rows)
		if err != nil {
			return nil, false, fmt.Errorf("manifests of %s: %w", p.Repo, err)
		}
		if bytes += len(m.Raw); len(out) == limit || len(out) > 0 && bytes > p.Bytes {
			return out, true, nil
		}
		out = append(out, m)
	}
	if err = rows.Err(); err == nil && len(out) == 0 {
		err = c.noRepository(ctx, p.Repo, nil)
	}
	if err != nil {
		return nil, false, fmt.Errorf("manifests of %s: %w", p.Repo, asKnown(err))
	}
	return out, false, nil
}

// ManifestAttributes returns those of a manifest, be it locked against listing or not.
// ErrNotFound or ErrNoRepository if repo does not hold it.
func (c *Catalog) ManifestAttributes(ctx context.Context, repo oci.Repository, d oci.Digest) (ManifestAttributes, error) {
	rows, err := c.read.query(ctx, manifestAttributesColumns+` and h.manifest_id = (select id from manifests where digest = $2)`, repo.String(), d.String())
	out, err := collect(rows, err, scanManifestAttributes)
	if err == nil && len(out) == 0 {
		err = c.noRepository(ctx, repo, ErrNotFound)
	}
	if err != nil {
		return ManifestAttributes{}, fmt.Errorf("attributes of %s@%s: %w", repo, d, err)
	}
	return out[0], nil
}

// HeldManifest is a manifest of a repository by its id, which rises in lists.
type HeldManifest struct {
	ID     int64
	Digest oci.Digest
}

// HeldManifests returns up to limit manifests of repo with ids above after, those that are
// locked among them.
func (c *Catalog) HeldManifests(ctx context.Context, repo oci.Repository, after int64, limit int) ([]HeldManifest, error) {
	rows, err := c.read.query(ctx, `select h.manifest_id, m.digest from holdings h join manifests m on m.id = h.manifest_id
		where h.repository_id = (select id from repositories where name = $1) and h.manifest_id > $2 order by h.manifest_id limit $3`,
		repo.String(), after, page(limit))
	out, err := collect(rows, err, func(r *sql.Rows) (HeldManifest, error) {
		var m HeldManifest
		var digest string
		if err := r.Scan(&m.ID, &digest); err != nil {
			return m, err
		}
		var err error
		m.Digest, err = oci.ParseDigest(digest)
		return m, err
	})
	if err != nil {
		return nil, fmt.Errorf("manifests of %s: %w", repo, err)
	}
	return out, nil
}

// DeleteLock returns a *Locked if repo, or some manifest or tag in it, is locked against deleting; which
// of them is left open where several are. ErrNoRepository if there is no repo.
func (c *Catalog) DeleteLock(ctx context.Context, repo oci.Repository) error {
	var closed Locks
	var digest, tag sql.NullString
	err := c.read.row(ctx, `select r.closed,
			(select m.digest from holdings h join manifests m on m.id = h.manifest_id
				where h.repository_id = r.id and h.closed > 0 and h.closed & 2 <> 0 limit 1),
			(select t.name from tags t where t.repository_id = r.id and t.closed > 0 and t.closed & 2 <> 0 limit 1)
		from repositories r where r.name = $1`, repo.String()).Scan(&closed, &digest, &tag)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("locks of %s: %w", repo, ErrNoRepository)
	case err != nil:
		return fmt.Errorf("locks of %s: %w", repo, asKnown(err))
	case closed&LockDelete != 0:
		return &Locked{Repo: repo, Lock: LockDelete}
	case digest.Valid:
		d, err := oci.ParseDigest(digest.String)
		if err != nil {
			return err
		}
		return &Locked{Repo: repo, Ref: oci.Reference{Digest: d}, Lock: LockDelete}
	case tag.Valid:
		return &Locked{Repo: repo, Ref: oci.Reference{Tag: tag.String}, Lock: LockDelete}
	}
	return nil
}

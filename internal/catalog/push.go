package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/rules"
)

// NewManifest is a manifest that is put.
type NewManifest struct {
	Repo     oci.Repository
	Manifest oci.Manifest // as oci.ParseManifest gave it
	Tags     []string     // that shall name it; none for a push by digest
	By       string
	Now      time.Time
	If       Condition
	Trace
}

// Missing is the error of a manifest that names what its repository does not have.
type Missing struct{ Digests []oci.Digest }

// Error implements error.
func (m *Missing) Error() string {
	if len(m.Digests) == 1 {
		return fmt.Sprintf("%s is not in the repository", m.Digests[0])
	}
	return fmt.Sprintf("%s and %d more are not in the repository", m.Digests[0], len(m.Digests)-1)
}

// Put is what a push came to.
type Put struct {
	Created bool // the repository did not hold the manifest before
	New     bool // no repository did, nor was it in any trash: its verdict is Pending, and at FirstGeneration
}

// FirstGeneration is the generation of a new manifest's verdict.
const FirstGeneration = 1

// Put makes a manifest part of its repository, points the tags at it, and
// leaves it Pending and due, in one transaction. Put.Created is false if the repository
// held it before; its verdict stays then, as it does where another repository holds
// it. The error is a *Missing if the repository lacks the config, a layer without
// foreign URLs, or a manifest of an index, a *Size if it gives a blob another size than
// it has, a *Locked if a
// lock forbids it, and ErrCondition if m.If does not hold. A missing subject is fine
// (distribution-spec, "Pushing Manifests with Subject").
func (c *Catalog) Put(ctx context.Context, m NewManifest) (out Put, err error) {
	if m.Manifest.Digest.IsZero() || m.Repo.IsZero() {
		return Put{}, fmt.Errorf("put manifest %q to %q: a name is empty", m.Manifest.Digest, m.Repo)
	}
	put := func(t *tx) error { out, err = t.putManifest(ctx, m); return err }
	err = c.tx(ctx, put)
	if errors.Is(err, ErrConflict) {
		err = c.tx(ctx, put) // a blob was deleted after it was looked for; now it is missing
	}
	if err != nil {
		return Put{}, fmt.Errorf("put manifest %s to %s: %w", m.Manifest.Digest, m.Repo, err)
	}
	return out, nil
}

// PutManifest is Put for whoever asks alone whether the repository did not hold it before.
func (c *Catalog) PutManifest(ctx context.Context, m NewManifest) (created bool, err error) {
	out, err := c.Put(ctx, m)
	return out.Created, err
}

func (t *tx) putManifest(ctx context.Context, m NewManifest) (Put, error) {
	repository, err := t.makeRepository(ctx, m.Repo, m.Now)
	if err != nil {
		return Put{}, err
	}
	if err := t.repositoryLocked(ctx, repository, LockWrite); err != nil {
		return Put{}, err
	}
	fresh, err := t.checkCondition(ctx, repository, m)
	if err != nil {
		return Put{}, err
	}
	size, blobs, err := t.checkParts(ctx, repository, m.Manifest)
	if err != nil {
		return Put{}, err
	}
	id, found, err := t.makeManifest(ctx, m, size)
	if err != nil {
		return Put{}, err
	}
	n, err := t.exec(ctx, `insert into holdings (repository_id, manifest_id, pushed_at, pushed_by) values ($1, $2, $3, $4)
		on conflict (repository_id, manifest_id) do nothing`, repository, id, m.Now.UnixMicro(), m.By)
	if err != nil {
		return Put{}, err
	}
	if n > 0 {
		if err := t.need(ctx, repository, id, blobs); err != nil {
			return Put{}, err
		}
		if found {
			if err := t.fromTrash(ctx, repository, id, m.Manifest.Digest, m.Now); err != nil {
				return Put{}, err
			}
		}
	}
	return Put{Created: n > 0, New: !found}, t.putTags(ctx, repository, id, m, fresh, n > 0)
}

// putTags points a push's tags at its manifest, and writes down what became of the
// repository. created says that it did not hold the manifest before.
func (t *tx) putTags(ctx context.Context, repository, manifest int64, m NewManifest, fresh string, created bool) error {
	a := Act{By: m.By, Now: m.Now, Trace: m.Trace}
	var moves []Move
	if created {
		moves = append(moves, Move{Kind: MovePush, Digest: m.Manifest.Digest})
	}
	var made int64
	for _, tag := range m.Tags {
		p, err := t.point(ctx, repository, manifest, tag, tag == fresh, a)
		if err != nil {
			return err
		}
		if p.made {
			made++
		}
		if p.moved {
			moves = append(moves, Move{Kind: MoveTag, Tag: tag, Digest: m.Manifest.Digest})
		}
	}
	if !created && len(moves) > 0 {
		if err := t.holdingLocked(ctx, repository, manifest, LockWrite); err != nil {
			return err
		}
	}
	if err := t.moved(ctx, repository, a, moves...); err != nil {
		return err
	}
	if err := t.fits(ctx, repository, rules.Usage{Tags: made}); err != nil {
		return err
	}
	u := used{tags: made}
	if created {
		u.manifests = 1
	}
	return t.use(ctx, repository, u)
}

// The blobs and the manifests of a repository that are on a list. Were it not told by "cross
// join" which table comes first, SQLite would look through all that the repository has.
const (
	blobsOnList = `select b.digest, b.id, b.size from blobs b cross join links l
		where l.repository_id = $1 and l.blob_id = b.id and b.damaged_at is null and b.digest in (%s)`
	manifestsOnList = `select m.digest, m.content_size from manifests m cross join holdings h
		where h.repository_id = $1 and h.manifest_id = m.id and m.digest in (%s)`
)

// checkParts returns the size of all that a manifest consists of, and the ids of its blobs.
func (t *tx) checkParts(ctx context.Context, repository int64, m oci.Manifest) (size int64, blobs []int64, err error) {
	if m.IsIndex() {
		size, err = t.checkChildren(ctx, repository, m.Manifests)
		return size, nil, err
	}
	want, foreign := map[string]bool{}, map[string]bool{}
	for i, d := range m.Blobs() {
		size += d.Size
		want[d.Digest.String()] = true
		foreign[d.Digest.String()] = i > 0 && len(d.URLs) > 0
	}
	has := make(map[string]int64, len(want))
	err = t.eachOf(ctx, blobsOnList,
		repository, slices.Sorted(maps.Keys(want)), func(rows *sql.Rows) error {
			var digest string
			var id, size int64
			err := rows.Scan(&digest, &id, &size)
			delete(want, digest)
			has[digest] = size
			blobs = append(blobs, id)
			return err
		})
	if err != nil {
		return 0, nil, err
	}
	// In the order of the manifest.
	var missing Missing
	for i, d := range m.Blobs() {
		if n, ok := has[d.Digest.String()]; ok && n != d.Size {
			return 0, nil, &Size{Blob: i, Digest: d.Digest, Stated: d.Size, Has: n}
		}
		if s := d.Digest.String(); want[s] && !foreign[s] {
			missing.Digests = append(missing.Digests, d.Digest)
			delete(want, s)
		}
	}
	if missing.Digests != nil {
		return 0, nil, &missing
	}
	return size, blobs, nil
}

// checkChildren returns the size of all that the manifests of an index consist of.
func (t *tx) checkChildren(ctx context.Context, repository int64, children []oci.Descriptor) (size int64, err error) {
	want := map[string]bool{}
	for _, d := range children {
		want[d.Digest.String()] = true
	}
	err = t.eachOf(ctx, manifestsOnList,
		repository, slices.Sorted(maps.Keys(want)), func(rows *sql.Rows) error {
			var digest string
			var n int64
			err := rows.Scan(&digest, &n)
			delete(want, digest)
			size += n
			return err
		})
	if err != nil {
		return 0, err
	}
	var missing Missing
	for _, d := range children {
		if want[d.Digest.String()] {
			missing.Digests = append(missing.Digests, d.Digest)
			delete(want, d.Digest.String())
		}
	}
	if missing.Digests != nil {
		return 0, &missing
	}
	return size, nil
}

// makeManifest returns the id of a manifest, which comes to be, Pending and due, if no
// repository holds it yet or has it in its trash; found is then false. Until the transaction
// ends nobody can delete it.
func (t *tx) makeManifest(ctx context.Context, m NewManifest, size int64) (id int64, found bool, err error) {
	d := m.Manifest.Digest
	err = t.row(ctx, `select id from manifests where digest = $1`+t.engine.forUpdate, d.String()).Scan(&id)
	if !errors.Is(err, sql.ErrNoRows) {
		return id, true, err
	}
	var subject, annotations any
	if m.Manifest.Subject != nil {
		subject = m.Manifest.Subject.Digest.String()
	}
	if len(m.Manifest.Annotations) > 0 {
		raw, err := json.Marshal(m.Manifest.Annotations)
		if err != nil {
			return 0, false, err
		}
		annotations = string(raw)
	}
	// Another push may have come between; then its row is taken.
	err = t.row(ctx, `insert into manifests (digest, media_type, artifact_type, subject, annotations, platforms, content_size, raw)
		values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (digest) do update set digest = excluded.digest returning id`,
		d.String(), m.Manifest.MediaType, m.Manifest.ArtifactType, subject, annotations, platforms(m.Manifest), size, m.Manifest.Raw).Scan(&id)
	if err != nil {
		return 0, false, err
	}
	if err := t.makeVerdict(ctx, id, m.Manifest.IsIndex(), m.Now); err != nil {
		return 0, false, err
	}
	if err := t.makeChildren(ctx, id, m.Manifest); err != nil {
		return 0, false, err
	}
	return id, false, t.parentsDue(ctx, d, m.Now)
}

// need writes down which blobs of the repository a manifest names.
func (t *tx) need(ctx context.Context, repository, manifest int64, blobs []int64) error {
	rows := make([][]any, len(blobs))
	for i, b := range blobs {
		rows[i] = []any{repository, b, manifest}
	}
	return t.insert(ctx, `insert into needs (repository_id, blob_id, manifest_id) values %s
		on conflict (repository_id, blob_id, manifest_id) do nothing`, rows)
}

// platforms lists what the images of an index run on, with blanks between; attestations
// ("unknown/unknown") are left out.
func platforms(m oci.Manifest) string {
	var out []string
	for _, d := range m.Manifests {
		if d.Platform != nil && d.Platform.OS != "unknown" {
			out = append(out, strings.ReplaceAll(d.Platform.String(), " ", "_"))
		}
	}
	return strings.Join(out, " ")
}

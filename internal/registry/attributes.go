package registry

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// RepositoryAttributes returns those of a repository. One that holds no manifest is not here.
func (r *Registry) RepositoryAttributes(ctx context.Context, repo oci.Repository) (catalog.RepositoryAttributes, error) {
	a, err := r.cat.RepositoryAttributes(ctx, repo)
	if err == nil && a.Manifests == 0 {
		err = catalog.ErrNoRepository
	}
	return a, known(err, oci.CodeNameUnknown, repo.String())
}

// TagAttributes returns those of a tag.
func (r *Registry) TagAttributes(ctx context.Context, repo oci.Repository, tag string) (catalog.TagAttributes, error) {
	t, err := r.cat.TagAttributes(ctx, repo, tag)
	return t, known(err, oci.CodeManifestUnknown, image(repo, tag))
}

// TagList lists up to p.Limit tags; more says whether others follow.
func (r *Registry) TagList(ctx context.Context, p catalog.TagPage) (tags []catalog.TagAttributes, more bool, err error) {
	limit := p.Limit
	p.Limit++
	tags, err = r.cat.TagList(ctx, p)
	if err != nil {
		return nil, false, known(err, oci.CodeNameUnknown, p.Repo.String())
	}
	if more = len(tags) > limit; more {
		tags = tags[:limit]
	}
	return tags, more, nil
}

// ManifestAttributes are those of a manifest with what its document and its configuration say.
type ManifestAttributes struct {
	catalog.ManifestAttributes
	ConfigMediaType string          // of an image
	Platform        oci.Platform    // of an image whose configuration could be read
	Children        []PlatformChild // of an index
}

// PlatformChild is a manifest of an index.
type PlatformChild struct {
	Digest   oci.Digest    `json:"digest"`
	Platform *oci.Platform `json:"platform"`
}

// maxManifestBytes bounds the documents of a page of manifests: it ends with the one that
// exceeds it.
const maxManifestBytes = oci.MaxManifestSize

// ManifestAttributes returns those of a manifest.
func (r *Registry) ManifestAttributes(ctx context.Context, repo oci.Repository, d oci.Digest) (ManifestAttributes, error) {
	m, err := r.cat.ManifestAttributes(ctx, repo, d)
	if err != nil {
		return ManifestAttributes{}, known(err, oci.CodeManifestUnknown, image(repo, d.String()))
	}
	out, err := r.described(ctx, []catalog.ManifestAttributes{m})
	if err != nil {
		return ManifestAttributes{}, err
	}
	return out[0], nil
}

// ManifestList lists up to p.Limit manifests, or fewer where their documents are large; more
// says whether others follow.
func (r *Registry) ManifestList(ctx context.Context, p catalog.ManifestPage) (list []ManifestAttributes, more bool, err error) {
	p.Bytes = maxManifestBytes
	page, more, err := r.cat.ManifestList(ctx, p)
	if err != nil {
		return nil, false, known(err, oci.CodeNameUnknown, p.Repo.String())
	}
	list, err = r.described(ctx, page)
	return list, more, err
}

// described reads documents and configurations.
func (r *Registry) described(ctx context.Context, page []catalog.ManifestAttributes) ([]ManifestAttributes, error) {
	select {
	case r.parsing <- struct{}{}:
		defer func() { <-r.parsing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	out := make([]ManifestAttributes, len(page))
	for i, m := range page {
		var doc struct {
			Config    oci.Descriptor  `json:"config"`
			Manifests []PlatformChild `json:"manifests"`
		}
		out[i].ManifestAttributes = m
		if err := json.Unmarshal(m.Raw, &doc); err != nil {
			r.o.Log.ErrorContext(ctx, "attributes without the manifest's document", "digest", m.Digest, "err", err)
			continue
		}
		out[i].ConfigMediaType, out[i].Children = doc.Config.MediaType, doc.Manifests
		out[i].Platform = r.platform(ctx, doc.Config)
	}
	return out, ctx.Err()
}

// maxConfig bounds the configuration that is read for its platform, in bytes.
const maxConfig = 1 << 20

// platform is what an image's configuration says that it is for; none where it cannot be read.
func (r *Registry) platform(ctx context.Context, config oci.Descriptor) oci.Platform {
	if config.MediaType != oci.MediaTypeImageConfig && config.MediaType != oci.MediaTypeDockerConfig || config.Size > maxConfig {
		return oci.Platform{}
	}
	content, err := r.store.Open(ctx, config.Digest, 0)
	if err != nil {
		return oci.Platform{}
	}
	defer content.Close()
	raw, err := io.ReadAll(io.LimitReader(content, maxConfig))
	var p oci.Platform
	if err != nil || json.Unmarshal(raw, &p) != nil {
		return oci.Platform{}
	}
	return p
}

// HeldRepositories is Repositories without those that hold no manifest.
func (r *Registry) HeldRepositories(ctx context.Context, by Caller, after string, limit int) (names []string, next string, err error) {
	return listed(by, after, limit, func(after string, limit int) ([]catalog.NamedRepository, error) {
		return r.cat.NamedRepositories(ctx, after, limit)
	})
}

// maxDeletedNames bounds the manifests and the tags that DeletedRepository names, of each.
const maxDeletedNames = 1000

// DeletedRepository is what became of a repository's content.
type DeletedRepository struct {
	Manifests []oci.Digest // up to maxDeletedNames
	Tags      []string     // as many, without those that were locked against listing
	Deleted   int          // how many manifests there were
}

// DeleteRepository deletes what a repository holds, as DeleteManifest does each. Nothing is
// deleted where something of it is locked against that. A rule that keeps one of its tags, or an end of
// ctx, leaves the rest; to ask again goes on. What is pushed meanwhile may stay.
func (r *Registry) DeleteRepository(ctx context.Context, by Caller, repo oci.Repository) (out DeletedRepository, err error) {
	if _, err := r.RepositoryAttributes(ctx, repo); err != nil {
		return out, err
	}
	if err := r.cat.DeleteLock(ctx, repo); err != nil {
		return out, known(err, oci.CodeNameUnknown, repo.String())
	}
	tags, err := r.cat.TagList(ctx, catalog.TagPage{Repo: repo, Limit: maxDeletedNames})
	if err != nil {
		return out, known(err, oci.CodeNameUnknown, repo.String())
	}
	for _, t := range tags {
		out.Tags = append(out.Tags, t.Name)
	}
	for after := int64(0); ; {
		page, err := r.cat.HeldManifests(ctx, repo, after, 100)
		if err != nil || len(page) == 0 {
			return out, err
		}
		for _, m := range page {
			after = m.ID
			err := r.cat.DeleteManifest(ctx, repo, m.Digest, r.act(by))
			if errors.Is(err, catalog.ErrNotFound) {
				continue // another has deleted it
			}
			if err != nil {
				return out, known(err, oci.CodeManifestUnknown, image(repo, m.Digest.String()))
			}
			if out.Deleted++; len(out.Manifests) < maxDeletedNames {
				out.Manifests = append(out.Manifests, m.Digest)
			}
		}
	}
}

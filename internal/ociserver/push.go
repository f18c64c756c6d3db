package ociserver

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/registry"
)

// maxPushTags bounds the tags that one push of a manifest may name in its query.
const maxPushTags = 100

// pushOf reads a PUT of a manifest but for its bytes: what it is, the further tags that shall
// name it, and on which condition.
func pushOf(r *http.Request, c call) (registry.Push, error) {
	q := r.URL.Query()
	p := registry.Push{Repo: c.repo, Reference: c.ref, MediaType: r.Header.Get("Content-Type")}
	var err error
	if p.Tags, err = pushTags(q); err != nil {
		return p, err
	}
	if q.Has("digest") {
		if p.Digest, err = queryDigest(r); err != nil {
			return p, err
		}
		if d := c.ref.Digest; !d.IsZero() && d != p.Digest {
			return p, oci.Errorf(oci.CodeDigestInvalid, "the digest parameter is %s, but the path has %s", p.Digest, d)
		}
	}
	p.If, err = conditionOf(r.Header)
	return p, err
}

// pushTags are the tags of the query, each once (distribution-spec, "Pushing Manifests":
// tag parameters).
func pushTags(q url.Values) ([]string, error) {
	if n := len(q["tag"]); n > maxPushTags {
		return nil, statusError{oci.Errorf(oci.CodeTagInvalid, "%d tags in one push, at most %d are accepted", n, maxPushTags), http.StatusRequestURITooLong}
	}
	var tags []string
	for _, t := range q["tag"] {
		ref, err := oci.ParseReference(t)
		if err != nil || ref.Tag == "" {
			return nil, oci.Errorf(oci.CodeTagInvalid, "the tag parameter %.140q is no tag", t)
		}
		if !slices.Contains(tags, t) {
			tags = append(tags, t)
		}
	}
	return tags, nil
}

// maxETags bounds the entity tags of a condition.
const maxETags = 100

// conditionOf reads If-Match and If-None-Match (RFC 9110, sections 13.1.1 and 13.1.2). A
// manifest's entity tag is its digest.
func conditionOf(h http.Header) (catalog.Condition, error) {
	var c catalog.Condition
	var err error
	if c.Present, c.Is, err = entityTags(h, "If-Match"); err != nil {
		return c, err
	}
	c.Absent, c.IsNot, err = entityTags(h, "If-None-Match")
	return c, err
}

// entityTags reads a list of entity tags; any is true for "*". A tag that is no digest is
// refused: nothing here ever has it, so whoever sends it is mistaken.
func entityTags(h http.Header, name string) (any bool, list []oci.Digest, err error) {
	text := strings.TrimSpace(strings.Join(h.Values(name), ","))
	if text == "" {
		return false, nil, nil
	}
	if text == "*" {
		return true, nil, nil
	}
	for t := range strings.SplitSeq(text, ",") {
		d, err := oci.ParseDigest(strings.Trim(strings.TrimPrefix(strings.TrimSpace(t), "W/"), `"`))
		if err != nil || len(list) == maxETags {
			return false, nil, statusError{oci.Errorf(oci.CodeUnsupported, `%s: expected * or at most %d digests, as in "sha256:<64 hex digits>"`, name, maxETags), http.StatusBadRequest}
		}
		list = append(list, d)
	}
	return false, list, nil
}

// maxWarnings bounds what all Warning headers of an answer have together, in bytes
// (distribution-spec, "Warnings").
const maxWarnings = 4096

// warn adds a hint each as `299 - "text"` (RFC 7234, section 5.5), as many as there is room for.
func warn(h http.Header, hints []string) {
	n := 0
	for _, text := range hints {
		value := `299 - "` + quotable(text) + `"`
		if n += len(value); n > maxWarnings {
			return
		}
		h.Add("Warning", value)
	}
}

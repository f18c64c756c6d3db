package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"pratique.dev/pratique/internal/oci"
)

// Condition is what must hold of what a push or a deletion names for it to be done (RFC 9110,
// section 13.1: If-Match and If-None-Match). The zero Condition always holds. It is
// asked and the thing done in one transaction.
type Condition struct {
	Tag     string       // of which it is asked; "": of the manifest's own digest
	Absent  bool         // there is none such
	Present bool         // there is one
	Is      []oci.Digest // it is one of these; none: it may be any
	IsNot   []oci.Digest // it is none of these
}

// IsZero says whether c asks nothing.
func (c Condition) IsZero() bool {
	return !c.Absent && !c.Present && len(c.Is) == 0 && len(c.IsNot) == 0
}

// holds says whether c does where now is what is named, or nothing if that is "".
func (c Condition) holds(now string) bool {
	is := func(d oci.Digest) bool { return d.String() == now }
	switch {
	case c.Absent && now != "", c.Present && now == "":
		return false
	case len(c.Is) > 0 && !slices.ContainsFunc(c.Is, is):
		return false
	}
	return !slices.ContainsFunc(c.IsNot, is)
}

const taggedText = `select m.digest from tags t join manifests m on m.id = t.manifest_id where t.repository_id = $1 and t.name = $2`

const holdingText = `select m.digest from manifests m join holdings h on h.repository_id = $1 and h.manifest_id = m.id where m.digest = $2`

// checkCondition returns ErrCondition if the push must not be done. What it found stays as
// it is until the transaction ends; fresh is the tag that it did not find, for point.
func (t *tx) checkCondition(ctx context.Context, repository int64, m NewManifest) (fresh string, err error) {
	if m.If.IsZero() {
		return "", nil
	}
	text, name := holdingText, m.Manifest.Digest.String()
	if m.If.Tag != "" {
		text, name = taggedText, m.If.Tag
	}
	var now string
	if err := t.row(ctx, text+t.engine.forUpdate, repository, name).Scan(&now); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", err
	}
	if !m.If.holds(now) {
		return "", fmt.Errorf("%w: it is %q now", ErrCondition, now)
	}
	if now == "" {
		return m.If.Tag, nil
	}
	return "", nil
}

// Size is the error of a manifest that gives a blob another size than it has.
type Size struct {
	Blob        int // which of oci.Manifest.Blobs
	Digest      oci.Digest
	Stated, Has int64
}

// Error implements error.
func (s *Size) Error() string {
	return fmt.Sprintf("blob %s has %d bytes, not %d", s.Digest, s.Has, s.Stated)
}

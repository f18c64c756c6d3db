package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// verdictDoc is what is kept of a verdict beside its decision.
type verdictDoc struct {
	Policy  string          `json:"policy,omitempty"`
	Reasons []policy.Reason `json:"reasons,omitempty"`
	At      time.Time       `json:"at,omitzero"`
	Until   time.Time       `json:"until,omitzero"`
}

// decisionOf reads a kept decision. One that this version does not know serves nothing.
func decisionOf(n int64) policy.Decision {
	switch d := policy.Decision(n); d {
	case policy.Allow, policy.Quarantine:
		return d
	}
	return policy.Pending
}

// readVerdict puts together what the columns of a verdict say.
func readVerdict(decision int64, doc, counts string) (policy.Verdict, Counts, error) {
	var v verdictDoc
	var n Counts
	if err := json.Unmarshal([]byte(doc), &v); err != nil {
		return policy.Verdict{}, Counts{}, fmt.Errorf("kept verdict: %w", err)
	}
	if err := json.Unmarshal([]byte(counts), &n); err != nil {
		return policy.Verdict{}, Counts{}, fmt.Errorf("kept counts: %w", err)
	}
	return policy.Verdict{Decision: decisionOf(decision), Policy: v.Policy, Reasons: v.Reasons, At: v.At, Until: v.Until}, n, nil
}

// Due claims up to limit manifests that must be judged at now: new ones, those under
// which something changed, and those whose verdict has run out. Images come before
// indexes, the longest due first. A claim that is not answered by a verdict within
// lease is due again; no two callers get the same manifest within it, unless it became
// due once more.
func (c *Catalog) Due(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]oci.Digest, error) {
	if n, ok, err := c.NextDue(ctx); err != nil || !ok || n.After(now) {
		return nil, err // nothing to write, so the writer is left in peace
	}
	var out []oci.Digest
	err := c.tx(ctx, func(t *tx) error {
		out = nil
		for isIndex := range 2 {
			left := page(limit) - len(out)
			if left <= 0 {
				break
			}
			rows, err := t.query(ctx, `update verdicts set due_at = $3, attempts = attempts + 1
				where manifest_id in (select manifest_id from verdicts where is_index = $1 and due_at <= $2 order by due_at limit $4`+t.engine.skipLocked+`)
				returning (select digest from manifests where id = manifest_id)`, int64(isIndex), now.UnixMicro(), now.Add(lease).UnixMicro(), left)
			claimed, err := collect(rows, err, scanDigest)
			if err != nil {
				return err
			}
			out = append(out, claimed...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("claim manifests to judge: %w", err)
	}
	return out, nil
}

func scanDigest(r *sql.Rows) (oci.Digest, error) {
	var s string
	if err := r.Scan(&s); err != nil {
		return oci.Digest{}, err
	}
	return oci.ParseDigest(s)
}

// Unclaim makes due what is claimed, for when those who claimed it are known to be gone;
// what was put off after a failure comes with it. It returns how many there are.
func (c *Catalog) Unclaim(ctx context.Context, now time.Time) (int, error) {
	var n int64
	err := c.tx(ctx, func(t *tx) (err error) {
		n, err = t.exec(ctx, `update verdicts set due_at = $1 where is_index in (0, 1) and due_at > $1 and attempts > 0`, now.UnixMicro())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("release claims: %w", err)
	}
	return int(n), nil
}

// NextDue returns when the next manifest is due, false if none is.
func (c *Catalog) NextDue(ctx context.Context) (time.Time, bool, error) {
	var at *int64
	err := c.read.row(ctx, `select min(due_at) from (
		select * from (select due_at from verdicts where is_index = 0 and due_at is not null order by due_at limit 1) a
		union all
		select * from (select due_at from verdicts where is_index = 1 and due_at is not null order by due_at limit 1) b) u`).Scan(&at)
	if err != nil {
		return time.Time{}, false, fmt.Errorf("next manifest to judge: %w", asKnown(err))
	}
	return fromMicros(at), at != nil, nil
}

// ToJudge returns a manifest with its parts, and the generation that KeepVerdict asks for.
// One that lies in the trash is judged as well: it may be restored. ErrNotFound if it is gone.
func (c *Catalog) ToJudge(ctx context.Context, d oci.Digest) (m oci.Manifest, generation int64, err error) {
	var mediaType string
	var raw []byte
	err = c.read.row(ctx, `select m.media_type, m.raw, v.generation from manifests m join verdicts v on v.manifest_id = m.id where m.digest = $1`, d.String()).
		Scan(&mediaType, &raw, &generation)
	if err != nil {
		return oci.Manifest{}, 0, fmt.Errorf("manifest %s: %w", d, asKnown(err))
	}
	if m, err = oci.ParseManifestAs(d.Algorithm(), mediaType, raw); err != nil {
		return oci.Manifest{}, 0, fmt.Errorf("manifest %s: %w", d, err)
	}
	return m, generation, nil
}

// ManifestBytes returns a manifest as it was put, wherever it is held. ErrNotFound if it is gone.
func (c *Catalog) ManifestBytes(ctx context.Context, d oci.Digest) (raw []byte, err error) {
	if err := c.read.row(ctx, `select raw from manifests where digest = $1`, d.String()).Scan(&raw); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d, asKnown(err))
	}
	return raw, nil
}

// KeepVerdict keeps the verdict on a manifest that was read at a generation
// (ToJudge). It is not due any more then, or due at v.Until. ErrConflict,
// and nothing is kept, if it has become due again since: what the verdict rests on is
// out of date. Where decision or counts changed, the indexes that list the manifest
// become due; where the decision changed, an event is written. ErrNotFound if the
// manifest is gone.
func (c *Catalog) KeepVerdict(ctx context.Context, d oci.Digest, generation int64, v policy.Verdict, n Counts) error {
	if v.At.IsZero() {
		v.At = c.now()
	}
	doc, err := json.Marshal(verdictDoc{v.Policy, v.Reasons, v.At, v.Until})
	if err != nil {
		return fmt.Errorf("keep verdict of %s: %w", d, err)
	}
	counts, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("keep verdict of %s: %w", d, err)
	}
	err = c.tx(ctx, func(t *tx) error {
		var id, current, before int64
		var oldCounts string
		err := t.row(ctx, `select v.manifest_id, v.generation, v.decision, v.counts from verdicts v
			where v.manifest_id = (select id from manifests where digest = $1)`+t.engine.forUpdate, d.String()).Scan(&id, &current, &before, &oldCounts)
		if err != nil {
			return err
		}
		if generation != current {
			return fmt.Errorf("%w: it became due again while it was judged", ErrConflict)
		}
		if _, err := t.exec(ctx, `update verdicts set decision = $2, doc = $3, counts = $4, due_at = $5, attempts = 0, last_error = '' where manifest_id = $1`,
			id, int64(v.Decision), string(doc), string(counts), micros(v.Until)); err != nil {
			return err
		}
		turned := policy.Decision(before) != v.Decision
		if turned {
			if err := t.verdictTurned(ctx, id, d, policy.Decision(before), v); err != nil {
				return err
			}
		}
		if turned || oldCounts != string(counts) {
			return t.parentsDue(ctx, d, v.At)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep verdict of %s: %w", d, err)
	}
	return nil
}

// parentsDue makes the indexes due that list d.
func (t *tx) parentsDue(ctx context.Context, d oci.Digest, now time.Time) error {
	_, err := t.exec(ctx, `update verdicts set due_at = $2, generation = generation + 1
		where manifest_id in (select parent_id from children where child_digest = $1)`, d.String(), now.UnixMicro())
	return err
}

// PostponeVerdict answers a claim of what could not be judged: it is due again at
// until. ErrNotFound if the manifest is gone.
func (c *Catalog) PostponeVerdict(ctx context.Context, d oci.Digest, until time.Time, reason string) error {
	err := c.tx(ctx, func(t *tx) error {
		return one(t.exec(ctx, `update verdicts set due_at = $2, last_error = $3
			where manifest_id = (select id from manifests where digest = $1) and due_at is not null`, d.String(), until.UnixMicro(), reason))
	})
	if err != nil {
		return fmt.Errorf("postpone verdict of %s: %w", d, err)
	}
	return nil
}

// Verdict returns what was decided on a manifest. ErrNotFound if no repository holds it.
func (c *Catalog) Verdict(ctx context.Context, d oci.Digest) (policy.Verdict, Counts, error) {
	var decision int64
	var doc, counts string
	err := c.read.row(ctx, `select v.decision, v.doc, v.counts from manifests m join verdicts v on v.manifest_id = m.id
		where m.digest = $1 and exists (select 1 from holdings h where h.manifest_id = m.id)`, d.String()).
		Scan(&decision, &doc, &counts)
	if err != nil {
		return policy.Verdict{}, Counts{}, fmt.Errorf("verdict of %s: %w", d, asKnown(err))
	}
	return readVerdict(decision, doc, counts)
}

// MakeDue makes every manifest due, as after a change of policy, and returns how many
// there are. With the name of an extractor set it makes only those due that were not
// read, or not wholly, by that one.
func (c *Catalog) MakeDue(ctx context.Context, extractedBy ...string) (int, error) {
	var n int64
	err := c.tx(ctx, func(t *tx) (err error) {
		if len(extractedBy) == 0 {
			n, err = t.exec(ctx, `update verdicts set due_at = $1, generation = generation + 1`, c.now().UnixMicro())
			return err
		}
		n, err = t.exec(ctx, `update verdicts set due_at = $1, generation = generation + 1
			where manifest_id in (select manifest_id from images where extracted_by <> $2)`, c.now().UnixMicro(), extractedBy[0])
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("make manifests due: %w", err)
	}
	return int(n), nil
}

package audit

import (
	"context"
	"fmt"

	"pratique.dev/pratique/internal/catalog"
)

// Verified is what came of a verification.
type Verified struct {
	Records int64             `json:"records"` // whose chain was followed
	Behind  catalog.AuditMark `json:"behind"`  // the last record that was pruned
	Head    catalog.AuditMark `json:"head"`    // the last record
	Open    int               `json:"open"`    // written within the last second or so, and not chained yet
	// Broken says where the chain does not hold; "" where it does.
	Broken string `json:"broken,omitempty"`
	At     int64  `json:"at,omitempty"` // the seq at which it breaks
}

// Verify follows the chain from its beginning, and says where it is broken. head is a mark
// that was noted elsewhere before, zero for none: the chain must have it, so that nothing was
// cut off its end or made anew.
func Verify(ctx context.Context, cat *catalog.Catalog, head catalog.AuditMark, progress func(done int64)) (Verified, error) {
	var v Verified
	var at catalog.AuditMark
	seen := false
	last, open, err := cat.AuditChain(ctx, func(anchor catalog.AuditMark) {
		v.Behind, at = anchor, anchor
		seen = head.Seq == anchor.Seq && (head.Seq == 0 || head.Hash == anchor.Hash)
	}, func(page []catalog.Record) bool {
		for _, r := range page {
			next, err := at.Next(r)
			switch {
			case err != nil:
				v.broken(at.Seq+1, err.Error())
			case r.Seq < next.Seq:
				v.broken(next.Seq, fmt.Sprintf("record %d stands where %d should", r.Seq, next.Seq))
			case r.Seq != next.Seq:
				v.broken(next.Seq, fmt.Sprintf("record %d is missing: %d follows", next.Seq, r.Seq))
			case r.Hash != next.Hash:
				v.broken(r.Seq, fmt.Sprintf("record %d, or its place, was changed: its hash is not that of what it says", r.Seq))
			case r.Seq == head.Seq && r.Hash != head.Hash:
				v.broken(r.Seq, fmt.Sprintf("record %d is another than the one that was noted: the chain was made anew", r.Seq))
			}
			if v.Broken != "" {
				return false
			}
			at, seen = next, seen || r.Seq == head.Seq
			v.Records++
		}
		progress(v.Records)
		return true
	})
	if err != nil {
		return v, err
	}
	v.Head, v.Open = at, open
	switch {
	case v.Broken != "":
	case head.Seq > 0 && head.Seq < v.Behind.Seq:
		v.broken(head.Seq, fmt.Sprintf("record %d, which was noted, was pruned since; note the head more often", head.Seq))
	case head.Seq > 0 && !seen && head.Seq == v.Behind.Seq:
		v.broken(head.Seq, fmt.Sprintf("record %d is another than the one that was noted", head.Seq))
	case head.Seq > 0 && !seen:
		v.broken(at.Seq+1, fmt.Sprintf("record %d, which was noted, is missing: the log ends with %d", head.Seq, at.Seq))
	case last > at.Seq:
		v.broken(at.Seq+1, fmt.Sprintf("%d records were chained, the log ends with %d", last, at.Seq))
	case last < at.Seq:
		v.broken(last+1, fmt.Sprintf("%d records were chained, but the log goes on to %d", last, at.Seq))
	}
	return v, nil
}

func (v *Verified) broken(at int64, why string) { v.At, v.Broken = at, why }

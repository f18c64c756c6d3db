package scan

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/report"
)

// Bounds of a report on an index. Real ones list some dozen manifests, attestations included;
// one of 9,000 would take gigabytes.
const (
	maxIndexDepth = 4  // of indexes within indexes
	maxReported   = 64 // manifests in all; of an index each once
)

// Report says all that is known of a manifest of the registry, with the verdict that
// stands. catalog.ErrNotFound if there is no such manifest. It examines nothing: what
// is not yet judged is pending, with what is known so far.
func (s *Service) Report(ctx context.Context, target string, d oci.Digest) (report.Report, error) {
	left := maxReported
	return s.report(ctx, target, d, 0, &left)
}

// report counts down left with each manifest of an index.
func (s *Service) report(ctx context.Context, target string, d oci.Digest, depth int, left *int) (report.Report, error) {
	m, err := s.cat.ManifestByDigest(ctx, d)
	if err != nil {
		return report.Report{}, fmt.Errorf("report on %s: %w", d, err)
	}
	if m.IsIndex() && depth < maxIndexDepth {
		return s.reportIndex(ctx, target, m, depth, left)
	}
	a, err := s.known(ctx, m)
	if err != nil {
		return report.Report{}, fmt.Errorf("report on %s: %w", d, err)
	}
	return a.report(target, m.Manifest, m.Verdict), nil
}

// known is assess without examining anything.
func (s *Service) known(ctx context.Context, m catalog.Manifest) (assessment, error) {
	_, err := s.cat.Image(ctx, m.Digest)
	if errors.Is(err, catalog.ErrNotFound) || m.Verdict.Decision == policy.Pending {
		return assessment{}, nil
	}
	if err != nil {
		return assessment{}, err
	}
	return s.assess(ctx, m.Manifest)
}

func (s *Service) reportIndex(ctx context.Context, target string, m catalog.Manifest, depth int, left *int) (report.Report, error) {
	var children []report.Report
	seen := map[oci.Digest]bool{}
	for _, c := range m.Manifests {
		if seen[c.Digest] || *left <= 0 {
			continue
		}
		seen[c.Digest] = true
		*left--
		r, err := s.report(ctx, target, c.Digest, depth+1, left)
		if errors.Is(err, catalog.ErrNotFound) {
			r = report.Report{Target: target, Digest: c.Digest, Decision: policy.Pending,
				Reasons: []policy.Reason{{Rule: "absent", Message: "the index lists this manifest, but it was not pushed"}}}
		} else if err != nil {
			return report.Report{}, err
		}
		r.Platform = platformName(c)
		children = append(children, r)
	}
	r := indexReport(target, []oci.Descriptor{m.Descriptor}, children, m.Verdict.At)
	// What the gate goes by is the verdict that stands.
	r.Decision, r.Reasons, r.Policy, r.JudgedAt = m.Verdict.Decision, m.Verdict.Reasons, m.Verdict.Policy, m.Verdict.At
	if n := len(m.Manifests); n > len(children) {
		r.Reasons = append(slices.Clone(r.Reasons), policy.Reason{Rule: "bound", Note: true,
			Message: fmt.Sprintf("the index lists %d manifests, some perhaps more than once; %d of them are reported here, and all were judged", n, len(children))})
	}
	return r, nil
}

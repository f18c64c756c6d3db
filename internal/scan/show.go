package scan

import (
	"context"
	"errors"
	"fmt"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/report"
)

// maxIndexDepth bounds how deep indexes may nest in a report.
const maxIndexDepth = 4

// Report says all that is known of a manifest of the registry, with the verdict that
// stands. catalog.ErrNotFound if there is no such manifest. It examines nothing: what
// is not yet judged is pending, with what is known so far.
func (s *Service) Report(ctx context.Context, target string, d oci.Digest) (report.Report, error) {
	return s.report(ctx, target, d, 0)
}

func (s *Service) report(ctx context.Context, target string, d oci.Digest, depth int) (report.Report, error) {
	m, err := s.cat.ManifestByDigest(ctx, d)
	if err != nil {
		return report.Report{}, fmt.Errorf("report on %s: %w", d, err)
	}
	if m.IsIndex() && depth < maxIndexDepth {
		return s.reportIndex(ctx, target, m, depth)
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

func (s *Service) reportIndex(ctx context.Context, target string, m catalog.Manifest, depth int) (report.Report, error) {
	var children []report.Report
	for _, c := range m.Manifests {
		r, err := s.report(ctx, target, c.Digest, depth+1)
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
	return r, nil
}

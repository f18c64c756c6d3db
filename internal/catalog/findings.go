package catalog

import (
	"context"
	"iter"
	"time"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/vuln"
)

// Findings returns the findings of an image.
func (c *Catalog) Findings(ctx context.Context, image oci.Digest) ([]vuln.Finding, error) {
	return nil, errSoon
}

// AdvisoriesFor returns the advisories that may concern a key.
func (c *Catalog) AdvisoriesFor(ctx context.Context, key inventory.Key) ([]vuln.Advisory, error) {
	return nil, errSoon
}

// PutKEV replaces the list of vulnerabilities known to be exploited.
func (c *Catalog) PutKEV(ctx context.Context, asOf time.Time, cves []string) error { return errSoon }

// PutEPSS replaces the scores.
func (c *Catalog) PutEPSS(ctx context.Context, asOf time.Time, scores iter.Seq2[EPSS, error]) error {
	return errSoon
}

// EPSS is the probability that a vulnerability is exploited within 30 days (FIRST).
type EPSS struct {
	CVE   string
	Score float32
}

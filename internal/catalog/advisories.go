package catalog

import (
	"context"
	"iter"
	"time"

	"pratique.dev/pratique/internal/vuln"
)

// Feed is one file of advisories.
type Feed struct {
	Source      string // "OSV"
	Ecosystem   string // "Debian"
	File        string
	AsOf        time.Time
	Replace     bool
	Fingerprint string
}

// Loaded says what PutAdvisories did.
type Loaded struct {
	Added     int `json:"added"`
	Changed   int `json:"changed"`
	Removed   int `json:"removed"`
	Unchanged int `json:"unchanged"`
	Images    int `json:"images"` // made due
}

type coverage struct {
	generation int64
	byName     map[string]time.Time
}

// PutAdvisories saves records.
func (c *Catalog) PutAdvisories(ctx context.Context, f Feed, changed iter.Seq2[vuln.Advisory, error]) (Loaded, error) {
	return Loaded{}, errSoon
}

// FeedFingerprint returns the fingerprint of the file last loaded.
func (c *Catalog) FeedFingerprint(ctx context.Context, source, ecosystem string) (string, error) {
	return "", errSoon
}

// EcosystemStatus says what is known of an ecosystem.
type EcosystemStatus struct {
	Ecosystem string    `json:"ecosystem"`
	Releases  []string  `json:"releases,omitempty"`
	Source    string    `json:"source"`
	File      string    `json:"file,omitempty"`
	Records   int       `json:"records"`
	Newest    time.Time `json:"newest,omitzero"`
	AsOf      time.Time `json:"asOf"`
	LoadedAt  time.Time `json:"loadedAt"`
}

// AdvisoryStatus says what advisories there are.
func (c *Catalog) AdvisoryStatus(ctx context.Context) ([]EcosystemStatus, error) {
	return nil, errSoon
}

// CoveredEcosystems returns every ecosystem there are advisories for.
func (c *Catalog) CoveredEcosystems(ctx context.Context) (map[string]time.Time, error) {
	return nil, errSoon
}

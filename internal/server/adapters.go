package server

import (
	"cmp"
	"context"
	"errors"
	"net/http"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/apiserver"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/registry"
	"pratique.dev/pratique/internal/report"
	"pratique.dev/pratique/internal/scan"
)

// explainer gives the gate the findings that its refusals tell of.
type explainer struct{ scanner *scan.Service }

// Explain implements registry.Explainer.
func (e explainer) Explain(ctx context.Context, d oci.Digest) ([]registry.ExplainedFinding, error) {
	r, err := e.scanner.Report(ctx, "", d)
	if err != nil {
		return nil, err
	}
	return distinct(r), nil
}

// distinct lists a report's findings, each once however many layers and platforms it is in. One of
// several platforms names none.
func distinct(r report.Report) []registry.ExplainedFinding {
	var out []registry.ExplainedFinding
	type key struct{ id, name, version string }
	at := map[key]int{}
	for _, p := range append([]report.Report{r}, r.Platforms...) {
		for _, f := range p.Findings {
			k := key{f.ID, f.Package, f.Version}
			if i, ok := at[k]; ok {
				if out[i].Platform != p.Platform {
					out[i].Platform = ""
				}
				continue
			}
			at[k] = len(out)
			out = append(out, registry.ExplainedFinding{ID: f.ID, Package: f.Package, Version: f.Version, Fixed: f.Fixed,
				Severity: f.Severity.String(), Exploited: f.Exploited, Fix: f.Fix, Platform: p.Platform})
		}
	}
	return out
}

// caller proves who sends a request to /api/v1/: by HTTP Basic, with what the catalog
// grants, or by a token, with what it holds.
type caller struct{ identity *identity.Identity }

// Authenticate implements apiserver.Identity. Without credentials nobody has anything here.
func (c caller) Authenticate(r *http.Request) (access.Principal, apiserver.Allower, error) {
	who, err := c.identity.Caller(r)
	if err != nil || who.Anonymous() {
		return access.Principal{}, nil, cmp.Or(err, identity.ErrUnauthenticated)
	}
	return who.Principal, who, nil
}

// Challenge implements apiserver.Identity.
func (c caller) Challenge(*http.Request) string { return `Basic realm="pratique"` }

// Unproven implements apiserver.Identity.
func (c caller) Unproven(err error) bool { return errors.Is(err, identity.ErrUnauthenticated) }

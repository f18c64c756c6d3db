package server

import (
	"context"

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

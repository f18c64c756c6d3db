package server

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/apiserver"
	"pratique.dev/pratique/internal/edge"
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
type caller struct {
	identity *identity.Identity
	rates    *edge.Rates
}

// Authenticate implements apiserver.Identity.
func (c caller) Authenticate(r *http.Request) (access.Principal, apiserver.Allower, error) {
	if name, secret, ok := r.BasicAuth(); ok {
		from := edge.OriginOf(r).Addr
		if err := c.rates.MayTry(from); err != nil {
			return access.Principal{}, nil, err
		}
		p, err := c.identity.Authenticate(r.Context(), name, secret)
		if errors.Is(err, identity.ErrUnauthenticated) {
			c.rates.Failed(from)
		}
		if err != nil {
			return access.Principal{}, nil, err
		}
		g, err := c.identity.Grants(r.Context(), p)
		return p, g, err
	}
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		p, granted, err := c.identity.Verify(r.Context(), strings.TrimSpace(token))
		return p, granted, err
	}
	return access.Principal{}, nil, identity.ErrUnauthenticated
}

// Challenge implements apiserver.Identity.
func (c caller) Challenge(*http.Request) string { return `Basic realm="pratique"` }

// Unproven implements apiserver.Identity.
func (c caller) Unproven(err error) bool { return errors.Is(err, identity.ErrUnauthenticated) }

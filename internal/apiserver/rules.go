package apiserver

import (
	"errors"
	"io"
	"net/http"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/rules"
)

func (s *Server) rules(w http.ResponseWriter, r *http.Request, _ caller) error {
	held, source, err := s.o.Catalog.Rules(r.Context())
	if err != nil {
		return err
	}
	return s.writeRules(w, r, held, source)
}

// setRules takes a document. One that is not understood changes nothing.
func (s *Server) setRules(w http.ResponseWriter, r *http.Request, c caller) error {
	source, err := io.ReadAll(http.MaxBytesReader(w, r.Body, rules.MaxDocument+1))
	if err != nil && len(source) <= rules.MaxDocument {
		return oci.Errorf(oci.CodeManifestInvalid, "the request broke off after %d bytes; the rules are as before", len(source))
	}
	set, err := s.o.Catalog.PutRules(r.Context(), source, c.act(s))
	var wrong *rules.Error
	if errors.As(err, &wrong) {
		return &oci.Error{Code: oci.CodeManifestInvalid, Message: wrong.Error() + "; the rules are as before",
			Detail: map[string]any{"line": wrong.Line, "field": wrong.Field, "problem": wrong.Problem}}
	}
	if err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "rules set", "by", c.Name, "immutable", len(set.Immutable), "quotas", len(set.Quotas), "retention", len(set.Retention))
	return s.writeRules(w, r, set, source)
}

func (s *Server) writeRules(w http.ResponseWriter, r *http.Request, held *rules.Rules, source []byte) error {
	out := api.Rules{Source: string(source), Rules: *held, Usage: []rules.Usage{}}
	for _, q := range held.Quotas {
		u, err := s.o.Catalog.Usage(r.Context(), q.Prefix)
		if err != nil {
			return err
		}
		out.Usage = append(out.Usage, u)
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

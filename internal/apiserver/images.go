package apiserver

import (
	"net/http"
	"net/url"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/rules"
)

func (s *Server) images(w http.ResponseWriter, r *http.Request, c caller) error {
	q, err := listQuery(r.URL.Query())
	if err != nil {
		return err
	}
	if q.After, err = s.cursors.open(q.After); err != nil {
		return err
	}
	q.Sees = c.sees()
	rows, next, err := s.o.Catalog.List(r.Context(), q)
	if err != nil {
		return err
	}
	if q.Sees != nil {
		next = s.cursors.close(next)
	}
	out := api.ImageList{Images: []api.Image{}, Next: next}
	for _, l := range rows {
		out.Images = append(out.Images, api.Image{Repository: l.Repo, Tag: l.Tag, Digest: l.Digest, MediaType: l.MediaType,
			Size: l.Size, PushedAt: l.PushedAt, Pulls: l.Pulls, Decision: l.Decision, Counts: l.Counts, Locks: l.Locks.Names()})
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// maxDecisions bounds how often a decision can be asked for; there are three.
const maxDecisions = 8

// listQuery reads which images are asked for.
func listQuery(v url.Values) (catalog.ListQuery, error) {
	q := catalog.ListQuery{Prefix: v.Get("prefix"), After: v.Get("after")}
	var err error
	if q.Limit, err = queryLimit(v); err != nil {
		return q, err
	}
	if t := v.Get("tag"); t != "" {
		p, err := rules.ParsePattern(t)
		if err != nil {
			return q, oci.Errorf(oci.CodeTagInvalid, "tag %v", err)
		}
		q.Tag = p.Match
	}
	for i, t := range v["decision"] {
		var d policy.Decision
		if err := d.UnmarshalText([]byte(t)); err != nil || i >= maxDecisions {
			return q, oci.Errorf(oci.CodeManifestInvalid, "decision %.20q: expected allow, quarantine or pending, each once", t)
		}
		q.Decisions = append(q.Decisions, d)
	}
	return q, nil
}

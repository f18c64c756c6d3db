package apiserver

import (
	"encoding/json"
	"net/http"
	"time"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/oci"
)

// collect collects garbage, and answers with a line of JSON for each step and a last one
// with the result.
func (s *Server) collect(w http.ResponseWriter, r *http.Request, c caller) error {
	dryRun, err := queryDryRun(r.URL.Query())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := &eventWriter{enc: json.NewEncoder(w), flush: http.NewResponseController(w)}
	got, err := s.o.Collect(r.Context(), dryRun, func(p api.Collection) {
		if now := time.Now(); now.Sub(lines.last) >= progressEvery {
			lines.last = now
			lines.write(api.CollectEvent{Progress: &p})
		}
	})
	switch {
	case err == nil:
		s.o.Log.InfoContext(r.Context(), "garbage collected on demand", "by", c.Name, "dry", dryRun, "blobs", got.Blobs, "files", got.Files, "bytes", got.Bytes)
		lines.write(api.CollectEvent{Result: &got})
	case lines.last.IsZero():
		return err // nothing was written yet
	default:
		s.o.Log.ErrorContext(r.Context(), "collection of garbage failed", "by", c.Name, "err", err)
		lines.write(api.CollectEvent{Error: oci.Errorf(oci.CodeUnknown, "internal error; the server's log has more")})
		return answered{err}
	}
	return nil
}

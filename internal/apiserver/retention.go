package apiserver

import (
	"encoding/json"
	"net/http"
	"time"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/oci"
)

// retain runs retention, and answers with a line of JSON for each fate and a last one with
// the result.
func (s *Server) retain(w http.ResponseWriter, r *http.Request, c caller) error {
	dryRun, err := queryDryRun(r.URL.Query())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines, enc, begun := &eventWriter{enc: json.NewEncoder(w), flush: http.NewResponseController(w)}, json.NewEncoder(w), false
	got, err := s.o.Retain(r.Context(), dryRun, func(f api.Fate) {
		// There may be many: they are sent as the connection takes them, and now and then at once.
		if now := time.Now(); now.Sub(lines.last) >= progressEvery {
			lines.last = now
			lines.write(api.RetentionEvent{Fate: &f})
		} else {
			_ = enc.Encode(api.RetentionEvent{Fate: &f})
		}
		begun = true
	})
	switch {
	case err == nil:
		s.o.Log.InfoContext(r.Context(), "retention run on demand", "by", c.Name, "dry", dryRun, "tags", got.Tags, "manifests", got.Manifests, "kept", got.Kept)
		lines.write(api.RetentionEvent{Result: &got})
	case !begun:
		return err
	default:
		s.o.Log.ErrorContext(r.Context(), "retention failed", "by", c.Name, "err", err)
		lines.write(api.RetentionEvent{Error: oci.Errorf(oci.CodeUnknown, "internal error; the server's log has more")})
		return answered{err}
	}
	return nil
}

package apiserver

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/audit"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// audit answers with a page of records, the newest first.
func (s *Server) audit(w http.ResponseWriter, r *http.Request, _ caller) error {
	v := r.URL.Query()
	q, err := auditQuery(v)
	if err != nil {
		return err
	}
	before, err := number(v, "before")
	if err != nil {
		return err
	}
	limit, err := number(v, "limit")
	if err != nil {
		return err
	}
	if limit == 0 || limit > api.MaxPage {
		limit = api.MaxPage
	}
	records, next, err := s.o.Catalog.Audit(r.Context(), q, before, int(limit))
	if err != nil {
		return err
	}
	out := api.AuditList{Records: []api.AuditRecord{}, Next: next}
	for _, rec := range records {
		out.Records = append(out.Records, api.AuditRecord(rec))
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func auditQuery(v url.Values) (q catalog.AuditQuery, err error) {
	q = catalog.AuditQuery{Actor: v.Get("actor"), Action: v.Get("action"), Target: v.Get("target"), Decision: v.Get("decision")}
	switch q.Decision {
	case "", catalog.AuditAllowed, catalog.AuditDenied, catalog.AuditFailed:
	default:
		return q, oci.Errorf(oci.CodeUnsupported, "decision %.40q: expected allowed, denied or failed", q.Decision)
	}
	if q.Since, err = instant(v, "since"); err != nil {
		return q, err
	}
	q.Until, err = instant(v, "until")
	return q, err
}

func instant(v url.Values, name string) (time.Time, error) {
	if v.Get(name) == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, v.Get(name))
	if err != nil {
		return t, oci.Errorf(oci.CodeUnsupported, "%s %.40q: expected a time as in 2026-11-28T12:00:00Z", name, v.Get(name))
	}
	return t, nil
}

func number(v url.Values, name string) (int64, error) {
	if v.Get(name) == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(v.Get(name), 10, 64)
	if err != nil || n < 0 {
		return 0, oci.Errorf(oci.CodeUnsupported, "%s %.40q: expected a number from 0 on", name, v.Get(name))
	}
	return n, nil
}

// exportAudit answers with all records behind after, the oldest first, a line of JSON each.
func (s *Server) exportAudit(w http.ResponseWriter, r *http.Request, _ caller) error {
	after, err := number(r.URL.Query(), "after")
	if err != nil {
		return err
	}
	records, err := s.o.Catalog.AuditAfter(r.Context(), after, api.MaxPage)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	rc := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	for len(records) > 0 {
		_ = rc.SetWriteDeadline(time.Now().Add(answerTimeout)) // a writer without deadlines is one of a test
		for _, rec := range records {
			if enc.Encode(api.AuditRecord(rec)) != nil {
				return nil // the client is gone
			}
			after = rec.Seq
		}
		if records, err = s.o.Catalog.AuditAfter(r.Context(), after, api.MaxPage); err != nil {
			s.o.Log.ErrorContext(r.Context(), "export of the audit log broke off", "after", after, "err", err)
			panic(http.ErrAbortHandler) // so that the client sees that it is not whole
		}
	}
	return nil
}

// verifyAudit follows the chain of the records, and tells of its progress a line of JSON each.
func (s *Server) verifyAudit(w http.ResponseWriter, r *http.Request, _ caller) error {
	head := catalog.AuditMark{Hash: r.URL.Query().Get("hash")}
	var err error
	if head.Seq, err = number(r.URL.Query(), "seq"); err != nil {
		return err
	}
	if (head.Seq == 0) != (head.Hash == "") {
		return oci.Errorf(oci.CodeUnsupported, "seq and hash go together: the head as an earlier verification told it")
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := &eventWriter{enc: json.NewEncoder(w), flush: http.NewResponseController(w)}
	got, err := audit.Verify(r.Context(), s.o.Catalog, head, func(done int64) {
		if now := time.Now(); now.Sub(lines.last) >= progressEvery {
			lines.last = now
			lines.write(api.VerifyEvent{Done: done})
		}
	})
	if err != nil {
		s.o.Log.ErrorContext(r.Context(), "verification of the audit log failed", "err", err)
		lines.write(api.VerifyEvent{Error: oci.Errorf(oci.CodeUnknown, "internal error; the server's log has more")})
		return nil
	}
	lines.write(api.VerifyEvent{Result: &api.AuditVerified{Records: got.Records, Behind: api.AuditMark(got.Behind), Head: api.AuditMark(got.Head),
		Open: got.Open, Broken: got.Broken, At: got.At}})
	return nil
}

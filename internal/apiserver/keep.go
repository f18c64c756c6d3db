package apiserver

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// queryLimit is how many entries a page shall have.
func queryLimit(q url.Values) (int, error) {
	t := q.Get("limit")
	if t == "" {
		return api.MaxPage, nil
	}
	n, err := strconv.Atoi(t)
	if err != nil || n < 1 || n > api.MaxPage {
		return 0, oci.Errorf(oci.CodePaginationInvalid, "limit %.40q: expected a number from 1 to %d", t, api.MaxPage)
	}
	return n, nil
}

// queryDryRun says whether a request is to change nothing. It takes no other parameter: who
// misspells this one must not find things gone.
func queryDryRun(q url.Values) (bool, error) {
	for key := range q {
		if key != "dryRun" {
			return false, oci.Errorf(oci.CodeQueryInvalid, "%.40q: expected no other parameter than dryRun", key)
		}
	}
	t := q.Get("dryRun")
	if t == "" && !q.Has("dryRun") {
		return false, nil
	}
	dryRun, err := strconv.ParseBool(t)
	if err != nil {
		return false, oci.Errorf(oci.CodeQueryInvalid, "dryRun %.40q: expected true or false", t)
	}
	return dryRun, nil
}

// queryTag is the tag that a request names.
func queryTag(q url.Values) (oci.Repository, string, error) {
	repo, err := queryRepository(q)
	if err != nil {
		return repo, "", oci.Errorf(oci.CodeNameInvalid, "%v", err)
	}
	ref, err := oci.ParseReference(q.Get("tag"))
	if err != nil || ref.Tag == "" {
		return repo, "", oci.Errorf(oci.CodeTagInvalid, "tag %.140q: expected a tag", q.Get("tag"))
	}
	return repo, ref.Tag, nil
}

// queryDigest is the manifest that a request names.
func queryDigest(q url.Values) (oci.Repository, oci.Digest, error) {
	repo, err := queryRepository(q)
	if err != nil {
		return repo, oci.Digest{}, oci.Errorf(oci.CodeNameInvalid, "%v", err)
	}
	d, err := oci.ParseDigest(q.Get("digest"))
	if err != nil {
		return repo, d, oci.Errorf(oci.CodeDigestInvalid, "%v", err)
	}
	return repo, d, nil
}

func (s *Server) tagHistory(w http.ResponseWriter, r *http.Request, _ caller) error {
	q := r.URL.Query()
	repo, tag, err := queryTag(q)
	if err != nil {
		return err
	}
	limit, err := queryLimit(q)
	if err != nil {
		return err
	}
	var before int64
	if t := q.Get("before"); t != "" {
		if before, err = strconv.ParseInt(t, 10, 64); err != nil || before < 1 {
			return oci.Errorf(oci.CodePaginationInvalid, "before %.40q: expected the next of the page before", t)
		}
	}
	moves, more, err := s.o.Registry.TagHistory(r.Context(), repo, tag, before, limit)
	if err != nil {
		return err
	}
	out := api.TagHistory{Moves: []api.Move{}}
	for _, m := range moves {
		out.Moves = append(out.Moves, api.Move{ID: m.ID, Kind: m.Kind, Digest: m.Digest, At: m.At, By: m.By})
	}
	if more {
		out.Next = moves[len(moves)-1].ID
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (s *Server) undoTag(w http.ResponseWriter, r *http.Request, c caller) error {
	repo, tag, err := queryTag(r.URL.Query())
	if err != nil {
		return err
	}
	u, err := s.o.Registry.UndoTag(r.Context(), c.by(), repo, tag)
	if err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "tag undone", "by", c.Name, "repo", repo, "tag", tag, "from", u.From, "to", u.To)
	writeJSON(w, http.StatusOK, api.Undone{From: u.From, To: u.To})
	return nil
}

func (s *Server) trash(w http.ResponseWriter, r *http.Request, c caller) error {
	q := r.URL.Query()
	limit, err := queryLimit(q)
	if err != nil {
		return err
	}
	after, err := s.cursors.open(q.Get("after"))
	if err != nil {
		return err
	}
	list, next, err := s.o.Registry.Trash(r.Context(), q.Get("prefix"), after, limit)
	if err != nil {
		return err
	}
	if sees := c.sees(); sees != nil {
		list = slices.DeleteFunc(list, func(d catalog.Trashed) bool { return !sees(d.Repo) })
		next = s.cursors.close(next)
	}
	out := api.Trash{Manifests: []api.Trashed{}, Next: next}
	for _, d := range list {
		out.Manifests = append(out.Manifests, api.Trashed{Repository: d.Repo, Digest: d.Digest, MediaType: d.MediaType, Tags: d.Tags, Size: d.Size,
			PushedAt: d.PushedAt, PushedBy: d.PushedBy, DeletedAt: d.DeletedAt, DeletedBy: d.DeletedBy, Until: d.Until})
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (s *Server) restore(w http.ResponseWriter, r *http.Request, c caller) error {
	repo, d, err := queryDigest(r.URL.Query())
	if err != nil {
		return err
	}
	got, err := s.o.Registry.Restore(r.Context(), c.by(), repo, d)
	if err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "manifest restored", "by", c.Name, "repo", repo, "digest", d)
	writeJSON(w, http.StatusOK, api.Restored{Tags: append([]string{}, got.Tags...), Left: append([]string{}, got.Left...), Decision: got.Decision})
	return nil
}

func (s *Server) purge(w http.ResponseWriter, r *http.Request, c caller) error {
	repo, d, err := queryDigest(r.URL.Query())
	if err != nil {
		return err
	}
	if err := s.o.Registry.Purge(r.Context(), c.by(), repo, d); err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "manifest purged", "by", c.Name, "repo", repo, "digest", d)
	writeJSON(w, http.StatusOK, struct{}{})
	return nil
}

func (s *Server) lock(w http.ResponseWriter, r *http.Request, c caller) error {
	q := r.URL.Query()
	repo, err := queryRepository(q)
	if err != nil {
		return oci.Errorf(oci.CodeNameInvalid, "%v", err)
	}
	var ref oci.Reference
	if t := q.Get("reference"); t != "" {
		if ref, err = oci.ParseReference(t); err != nil {
			return oci.Errorf(oci.CodeTagInvalid, "%v", err)
		}
	}
	lock, err := queryLocks(q, "lock")
	if err != nil {
		return err
	}
	unlock, err := queryLocks(q, "unlock")
	if err != nil {
		return err
	}
	if lock&unlock != 0 || lock|unlock == 0 {
		return oci.Errorf(oci.CodeQueryInvalid, "lock %.40q, unlock %.40q: expected one of write, delete, read and list, or more, each in one of them", q.Get("lock"), q.Get("unlock"))
	}
	now, err := s.o.Registry.Lock(r.Context(), c.by(), repo, ref, lock, unlock)
	if err != nil {
		return err
	}
	target := (&catalog.Locked{Repo: repo, Ref: ref}).What()
	s.o.Log.InfoContext(r.Context(), "locks changed", "by", c.Name, "target", target, "locks", now.Names())
	writeJSON(w, http.StatusOK, api.Locks{Target: target, Locks: now.Names()})
	return nil
}

// queryLocks reads the names of locks, with commas between.
func queryLocks(q url.Values, key string) (catalog.Locks, error) {
	var out catalog.Locks
	for _, name := range strings.FieldsFunc(q.Get(key), func(r rune) bool { return r == ',' }) {
		l, ok := catalog.ParseLock(name)
		if !ok {
			return 0, oci.Errorf(oci.CodeQueryInvalid, "%s %.40q: expected write, delete, read or list", key, name)
		}
		out |= l
	}
	return out, nil
}

package ociserver

import (
	"net/http"
	"net/url"
	"strconv"

	"pratique.dev/pratique/internal/oci"
)

// maxPage is the most entries that one page of a list has; asked for more, it has as
// many and a Link to the next.
const maxPage = 1000

// paging reads n and last (distribution-spec, "Listing Tags").
func paging(q url.Values) (n int, last string, err error) {
	n = maxPage
	if q.Has("n") {
		text := q.Get("n")
		if n, err = strconv.Atoi(text); err != nil || n < 0 {
			return 0, "", oci.Errorf(oci.CodePaginationInvalid, "n=%.20q: expected a number from 0 on", text)
		}
	}
	return min(n, maxPage), q.Get("last"), nil
}

// next links to the page behind the last entry of this one.
func next(w http.ResponseWriter, path string, n int, page []string) {
	setNext(w, path, url.Values{"n": {strconv.Itoa(n)}, "last": {page[len(page)-1]}})
}

// setNext names the page behind this one (RFC 8288).
func setNext(w http.ResponseWriter, path string, q url.Values) {
	w.Header().Set("Link", "<"+path+"?"+q.Encode()+`>; rel="next"`)
}

func (s *server) tags(w http.ResponseWriter, r *http.Request, c call) error {
	n, last, err := paging(r.URL.Query())
	if err != nil {
		return err
	}
	tags, more, err := s.reg.Tags(r.Context(), c.repo, last, n)
	if err != nil {
		return err
	}
	if more && n > 0 {
		next(w, "/v2/"+c.repo.String()+"/tags/list", n, tags)
	}
	writeJSON(w, r, http.StatusOK, "application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{c.repo.String(), notNil(tags)})
	return nil
}

func (s *server) catalog(w http.ResponseWriter, r *http.Request, c call) error {
	n, last, err := paging(r.URL.Query())
	if err != nil {
		return err
	}
	names, behind, err := s.reg.Repositories(r.Context(), c.by, last, n)
	if err != nil {
		return err
	}
	if behind != "" && n > 0 {
		setNext(w, "/v2/_catalog", url.Values{"n": {strconv.Itoa(n)}, "last": {behind}})
	}
	writeJSON(w, r, http.StatusOK, "application/json", struct {
		Repositories []string `json:"repositories"`
	}{notNil(names)})
	return nil
}

func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// referrers answers with an index; an empty one where nothing refers to the digest, be
// that in the repository or not (distribution-spec, "Listing Referrers").
func (s *server) referrers(w http.ResponseWriter, r *http.Request, c call) error {
	q := r.URL.Query()
	artifactType := q.Get("artifactType")
	var after int64
	if q.Has("after") {
		var err error
		if after, err = parseOffset(q.Get("after")); err != nil {
			return oci.Errorf(oci.CodePaginationInvalid, "after=%.20q: expected what the Link of the page before has", q.Get("after"))
		}
	}
	list, more, err := s.reg.Referrers(r.Context(), c.repo, c.digest, artifactType, after)
	if err != nil {
		return err
	}
	if more > 0 {
		link := url.Values{"after": {strconv.FormatInt(more, 10)}}
		if artifactType != "" {
			link.Set("artifactType", artifactType)
		}
		setNext(w, "/v2/"+c.repo.String()+"/referrers/"+c.digest.String(), link)
	}
	if artifactType != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	writeJSON(w, r, http.StatusOK, oci.MediaTypeImageIndex, struct {
		SchemaVersion int              `json:"schemaVersion"`
		MediaType     string           `json:"mediaType"`
		Manifests     []oci.Descriptor `json:"manifests"`
	}{2, oci.MediaTypeImageIndex, list})
	return nil
}

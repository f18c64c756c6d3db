package ociserver

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/registry"
)

// maxACRPage is the most entries that a page of manifests with attributes has, and what a page
// of any list here has where n is not given, as at Azure.
const maxACRPage = 100

// acrPaging reads n and last.
func acrPaging(q url.Values) (n int, last string, err error) {
	if n, last, err = paging(q); err != nil {
		return 0, "", err
	}
	if !q.Has("n") {
		n = maxACRPage
	}
	if n == 0 {
		return 0, "", oci.Errorf(oci.CodePaginationInvalid, "n=0: expected a number from 1 on")
	}
	return n, last, nil
}

// orders are the values of orderby.
var orders = map[string]catalog.Order{"": catalog.ByName, "none": catalog.ByName, "timeasc": catalog.OldestFirst, "timedesc": catalog.NewestFirst}

func orderAsked(q url.Values) (catalog.Order, error) {
	o, ok := orders[q.Get("orderby")]
	if !ok {
		return 0, badRequest("orderby=%.40q: expected none, timeasc or timedesc", q.Get("orderby"))
	}
	return o, nil
}

func (s *server) acrCatalog(w http.ResponseWriter, r *http.Request, c call) error {
	n, last, err := acrPaging(r.URL.Query())
	if err != nil {
		return err
	}
	names, behind, err := s.reg.HeldRepositories(r.Context(), c.by, last, n)
	if err != nil {
		return err
	}
	if behind != "" {
		setNext(w, "/acr/v1/_catalog", url.Values{"n": {strconv.Itoa(n)}, "last": {behind}})
	}
	writeJSON(w, r, http.StatusOK, "application/json", struct {
		Repositories []string `json:"repositories"`
	}{notNil(names)})
	return nil
}

func (s *server) acrTags(w http.ResponseWriter, r *http.Request, c call) error {
	q := r.URL.Query()
	n, last, err := acrPaging(q)
	if err != nil {
		return err
	}
	p := catalog.TagPage{Repo: c.repo, Limit: n}
	if p.Order, err = orderAsked(q); err != nil {
		return err
	}
	if q.Get("digest") != "" {
		if p.Digest, err = queryDigest(r); err != nil {
			return err
		}
	}
	if p.After, err = s.tagMark(r, c, p.Order, last); err != nil {
		return err
	}
	tags, more, err := s.reg.TagList(r.Context(), p)
	if err != nil {
		return err
	}
	if more {
		link := url.Values{"n": {strconv.Itoa(n)}, "orderby": {q.Get("orderby")}, "last": {tagMarkText(p.Order, tags[len(tags)-1])}}
		if !p.Digest.IsZero() {
			link.Set("digest", p.Digest.String())
		}
		setNext(w, "/acr/v1/"+c.repo.String()+"/_tags", link)
	}
	docs := make([]acrTagDoc, len(tags))
	for i, t := range tags {
		docs[i] = tagDoc(t)
	}
	writeJSON(w, r, http.StatusOK, "application/json", struct {
		acrOf
		Tags []acrTagDoc `json:"tags"`
	}{s.acrOf(r, c), docs})
	return nil
}

// tagMark is where a page of tags begins that shall come behind last: a tag, or what the Link of
// the page before has.
func (s *server) tagMark(r *http.Request, c call, o catalog.Order, last string) (catalog.Mark, error) {
	if at, name, ok := strings.Cut(last, ":"); ok {
		t, err := markTime(at)
		if err != nil {
			return catalog.Mark{}, badLast(last)
		}
		return catalog.Mark{At: t, Name: name}, nil
	}
	if last == "" || o == catalog.ByName {
		return catalog.Mark{Name: last}, nil // the tag need not be there any more
	}
	t, err := s.reg.TagAttributes(r.Context(), c.repo, last)
	return t.Mark(), noLast(err, last)
}

func tagMarkText(o catalog.Order, t catalog.TagAttributes) string {
	if o == catalog.ByName {
		return t.Name
	}
	return strconv.FormatInt(t.Set.UnixMicro(), 10) + ":" + t.Name
}

func (s *server) acrManifests(w http.ResponseWriter, r *http.Request, c call) error {
	q := r.URL.Query()
	n, last, err := acrPaging(q)
	if err != nil {
		return err
	}
	n = min(n, maxACRPage)
	p := catalog.ManifestPage{Repo: c.repo, Limit: n}
	if p.Order, err = orderAsked(q); err != nil {
		return err
	}
	if p.After, err = s.manifestMark(r, c, last); err != nil {
		return err
	}
	list, more, err := s.reg.ManifestList(r.Context(), p)
	if err != nil {
		return err
	}
	if more {
		setNext(w, "/acr/v1/"+c.repo.String()+"/_manifests",
			url.Values{"n": {strconv.Itoa(n)}, "orderby": {q.Get("orderby")}, "last": {manifestMarkText(list[len(list)-1])}})
	}
	docs := make([]acrManifestDoc, len(list))
	for i, m := range list {
		docs[i] = manifestDoc(m)
	}
	writeJSON(w, r, http.StatusOK, "application/json", struct {
		acrOf
		Manifests []acrManifestDoc `json:"manifests"`
	}{s.acrOf(r, c), docs})
	return nil
}

// manifestMark is where a page of manifests begins that shall come behind last: a digest, or what the
// Link of the page before has, which holds also where that manifest was deleted since.
func (s *server) manifestMark(r *http.Request, c call, last string) (catalog.Mark, error) {
	if last == "" {
		return catalog.Mark{}, nil
	}
	if d, err := oci.ParseDigest(last); err == nil {
		m, err := s.reg.ManifestAttributes(r.Context(), c.repo, d)
		return m.Mark(), noLast(err, last)
	}
	at, id, ok := strings.Cut(last, ".")
	t, err1 := markTime(at)
	n, err2 := parseOffset(id)
	if !ok || err1 != nil || err2 != nil {
		return catalog.Mark{}, badLast(last)
	}
	return catalog.Mark{At: t, ID: n}, nil
}

func manifestMarkText(m registry.ManifestAttributes) string {
	mark := m.Mark()
	return strconv.FormatInt(mark.At.UnixMicro(), 10) + "." + strconv.FormatInt(mark.ID, 10)
}

// markTime reads the time of a mark.
func markTime(s string) (time.Time, error) {
	n, err := parseOffset(s)
	return time.UnixMicro(n), err
}

func badLast(last string) error {
	return oci.Errorf(oci.CodePaginationInvalid, "last=%.140q: expected the last entry of the page before, or what its Link has", last)
}

// noLast turns the error of a last that is not here into one of paging.
func noLast(err error, last string) error {
	var e *oci.Error
	if errors.As(err, &e) && e.Status() == http.StatusNotFound {
		return badLast(last)
	}
	return err
}

package ociserver

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/registry"
)

// The documents of Azure Container Registry's interface under /acr/v1/ (API version
// 2021-07-01).

// changeable are the attributes that a client may change: what is not enabled is locked.
type changeable struct {
	Delete bool `json:"deleteEnabled"`
	Write  bool `json:"writeEnabled"`
	Read   bool `json:"readEnabled"`
	List   bool `json:"listEnabled"`
}

// attributeLocks are the locks that the attributes stand for.
var attributeLocks = map[string]catalog.Locks{
	"deleteEnabled": catalog.LockDelete,
	"writeEnabled":  catalog.LockWrite,
	"readEnabled":   catalog.LockRead,
	"listEnabled":   catalog.LockList,
}

func changeableOf(l catalog.Locks) changeable {
	return changeable{Delete: l&catalog.LockDelete == 0, Write: l&catalog.LockWrite == 0, Read: l&catalog.LockRead == 0, List: l&catalog.LockList == 0}
}

// maxAttributes bounds the body of a PATCH, in bytes.
const maxAttributes = 4 << 10

// attributesAsked reads what a PATCH closes and opens.
func attributesAsked(w http.ResponseWriter, r *http.Request) (lock, unlock catalog.Locks, err error) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAttributes))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return 0, 0, statusError{oci.Errorf(oci.CodeUnsupported, "the attributes have more than %d bytes", maxAttributes), http.StatusRequestEntityTooLarge}
	}
	if err != nil {
		return 0, 0, badRequest("the body cannot be read")
	}
	var asked map[string]json.RawMessage
	if err := json.Unmarshal(raw, &asked); err != nil || asked == nil {
		return 0, 0, badRequest(`the body is no JSON object of attributes, as in {"writeEnabled":false}`)
	}
	for name, value := range asked {
		l, ok := attributeLocks[name]
		if !ok {
			return 0, 0, badRequest("attribute %.40q cannot be changed; expected deleteEnabled, writeEnabled, readEnabled or listEnabled", name)
		}
		switch string(value) {
		case "true":
			unlock |= l
		case "false":
			lock |= l
		default:
			return 0, 0, badRequest("attribute %s is %.40q; expected true or false", name, value)
		}
	}
	return lock, unlock, nil
}

// patch changes the locks of what the request names.
func (s *server) patch(w http.ResponseWriter, r *http.Request, c call) error {
	lock, unlock, err := attributesAsked(w, r)
	if err != nil {
		return err
	}
	now, err := s.reg.Lock(r.Context(), c.by, c.repo, c.ref, lock, unlock)
	if err != nil {
		return err
	}
	s.o.Log.InfoContext(r.Context(), "locks changed", "by", c.by.Name, "target", (&catalog.Locked{Repo: c.repo, Ref: c.ref}).What(), "locks", now.Names())
	return nil
}

// acrOf is what each document says of where it is from.
type acrOf struct {
	Registry string `json:"registry"`
	Image    string `json:"imageName"`
}

func (s *server) acrOf(r *http.Request, c call) acrOf {
	_, host, _ := strings.Cut(s.base(r), "://")
	return acrOf{host, c.repo.String()}
}

func (s *server) acrRepository(w http.ResponseWriter, r *http.Request, c call) error {
	a, err := s.reg.RepositoryAttributes(r.Context(), c.repo)
	if err != nil {
		return err
	}
	writeJSON(w, r, http.StatusOK, "application/json", struct {
		acrOf
		Created    time.Time  `json:"createdTime"`
		Updated    time.Time  `json:"lastUpdateTime"`
		Manifests  int64      `json:"manifestCount"`
		Tags       int64      `json:"tagCount"`
		Changeable changeable `json:"changeableAttributes"`
	}{s.acrOf(r, c), a.Created.UTC(), a.Updated.UTC(), a.Manifests, a.Tags, changeableOf(a.Locks)})
	return nil
}

func (s *server) acrRepositoryPatch(w http.ResponseWriter, r *http.Request, c call) error {
	if _, err := s.reg.RepositoryAttributes(r.Context(), c.repo); err != nil {
		return err // it is empty, which is none here
	}
	if err := s.patch(w, r, c); err != nil {
		return err
	}
	return s.acrRepository(w, r, c)
}

func (s *server) acrRepositoryDelete(w http.ResponseWriter, r *http.Request, c call) error {
	d, err := s.reg.DeleteRepository(r.Context(), c.by, c.repo)
	if d.Deleted > 0 {
		s.o.Log.InfoContext(r.Context(), "repository deleted", "by", c.by.Name, "repo", c.repo, "manifests", d.Deleted, "whole", err == nil)
	}
	if err != nil {
		return err
	}
	digests := make([]string, len(d.Manifests))
	for i, m := range d.Manifests {
		digests[i] = m.String()
	}
	writeJSON(w, r, http.StatusAccepted, "application/json", struct {
		Manifests []string `json:"manifestsDeleted"`
		Tags      []string `json:"tagsDeleted"`
	}{digests, notNil(d.Tags)})
	return nil
}

// acrTagDoc is a tag.
type acrTagDoc struct {
	Name       string     `json:"name"`
	Digest     oci.Digest `json:"digest"`
	Created    time.Time  `json:"createdTime"` // what it names has been its from then on
	Updated    time.Time  `json:"lastUpdateTime"`
	Signed     bool       `json:"signed"`
	Changeable changeable `json:"changeableAttributes"`
}

func tagDoc(t catalog.TagAttributes) acrTagDoc {
	return acrTagDoc{Name: t.Name, Digest: t.Digest, Created: t.Set.UTC(), Updated: t.Set.UTC(), Changeable: changeableOf(t.Locks)}
}

func (s *server) acrTag(w http.ResponseWriter, r *http.Request, c call) error {
	t, err := s.reg.TagAttributes(r.Context(), c.repo, c.ref.Tag)
	if err != nil {
		return err
	}
	writeJSON(w, r, http.StatusOK, "application/json", struct {
		acrOf
		Tag acrTagDoc `json:"tag"`
	}{s.acrOf(r, c), tagDoc(t)})
	return nil
}

func (s *server) acrTagPatch(w http.ResponseWriter, r *http.Request, c call) error {
	if err := s.patch(w, r, c); err != nil {
		return err
	}
	return s.acrTag(w, r, c)
}

// acrManifestDoc is a manifest.
type acrManifestDoc struct {
	Digest       oci.Digest    `json:"digest"`
	Size         int64         `json:"imageSize"`
	Created      time.Time     `json:"createdTime"`
	Updated      time.Time     `json:"lastUpdateTime"`
	Architecture string        `json:"architecture,omitempty"`
	OS           string        `json:"os,omitempty"`
	MediaType    string        `json:"mediaType"`
	Config       string        `json:"configMediaType,omitempty"`
	References   []acrChildDoc `json:"references,omitempty"`
	Tags         []string      `json:"tags"`
	Changeable   changeable    `json:"changeableAttributes"`
}

// acrChildDoc is a manifest of an index.
type acrChildDoc struct {
	Digest       oci.Digest `json:"digest"`
	Architecture string     `json:"architecture,omitempty"`
	OS           string     `json:"os,omitempty"`
}

func manifestDoc(m registry.ManifestAttributes) acrManifestDoc {
	d := acrManifestDoc{Digest: m.Digest, Size: m.ContentSize, Created: m.Pushed.UTC(), Updated: m.Pushed.UTC(), Architecture: m.Platform.Architecture,
		OS: m.Platform.OS, MediaType: m.MediaType, Config: m.ConfigMediaType, Tags: notNil(m.Tags), Changeable: changeableOf(m.Locks)}
	for _, child := range m.Children {
		c := acrChildDoc{Digest: child.Digest}
		if child.Platform != nil {
			c.Architecture, c.OS = child.Platform.Architecture, child.Platform.OS
		}
		d.References = append(d.References, c)
	}
	return d
}

func (s *server) acrManifest(w http.ResponseWriter, r *http.Request, c call) error {
	m, err := s.reg.ManifestAttributes(r.Context(), c.repo, c.ref.Digest)
	if err != nil {
		return err
	}
	writeJSON(w, r, http.StatusOK, "application/json", struct {
		acrOf
		Manifest acrManifestDoc `json:"manifest"`
	}{s.acrOf(r, c), manifestDoc(m)})
	return nil
}

func (s *server) acrManifestPatch(w http.ResponseWriter, r *http.Request, c call) error {
	if err := s.patch(w, r, c); err != nil {
		return err
	}
	return s.acrManifest(w, r, c)
}

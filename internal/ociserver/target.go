package ociserver

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"pratique.dev/pratique/internal/oci"
)

// target is what a request is about, as its method and path say.
type target struct {
	kind   kind
	repo   oci.Repository
	ref    oci.Reference // manifests, and what attributes are of
	digest oci.Digest    // blobs, referrers
	upload string        // id
	allow  []string      // the methods of this path, where the request's is none of them
}

// endpoint is what stands behind a repository's name in a path.
type endpoint int

const (
	endpointManifest endpoint = iota
	endpointBlob
	endpointUploads
	endpointUpload
	endpointTags
	endpointReferrers
	endpointPing
	endpointToken
	endpointCatalog
	endpointExchange
	endpointACRCatalog
	endpointACRRepository
	endpointACRTags
	endpointACRTag
	endpointACRManifests
	endpointACRManifest
)

// method is a kind of request that an endpoint takes.
type method struct {
	name string
	kind kind
}

var endpoints = map[endpoint][]method{
	endpointPing:      {{http.MethodGet, kindPing}, {http.MethodHead, kindPing}},
	endpointToken:     {{http.MethodGet, kindToken}, {http.MethodPost, kindToken}},
	endpointCatalog:   {{http.MethodGet, kindCatalog}},
	endpointTags:      {{http.MethodGet, kindTags}},
	endpointReferrers: {{http.MethodGet, kindReferrers}},
	endpointManifest: {{http.MethodGet, kindManifestGet}, {http.MethodHead, kindManifestHead},
		{http.MethodPut, kindManifestPut}, {http.MethodDelete, kindManifestDelete}},
	endpointBlob:    {{http.MethodGet, kindBlobGet}, {http.MethodHead, kindBlobHead}, {http.MethodDelete, kindBlobDelete}},
	endpointUploads: {{http.MethodPost, kindUploadBegin}},
	endpointUpload: {{http.MethodGet, kindUploadStatus}, {http.MethodPatch, kindUploadAppend},
		{http.MethodPut, kindUploadFinish}, {http.MethodDelete, kindUploadCancel}},
	endpointExchange:   {{http.MethodPost, kindExchange}},
	endpointACRCatalog: {{http.MethodGet, kindACRCatalog}},
	endpointACRRepository: {{http.MethodGet, kindACRRepositoryGet}, {http.MethodPatch, kindACRRepositoryPatch},
		{http.MethodDelete, kindACRRepositoryDelete}},
	endpointACRTags:      {{http.MethodGet, kindACRTags}},
	endpointACRTag:       {{http.MethodGet, kindACRTagGet}, {http.MethodPatch, kindACRTagPatch}, {http.MethodDelete, kindACRTagDelete}},
	endpointACRManifests: {{http.MethodGet, kindACRManifests}},
	endpointACRManifest:  {{http.MethodGet, kindACRManifestGet}, {http.MethodPatch, kindACRManifestPatch}},
}

// parse finds out what a request is about. The name of a repository may hold slashes and
// the words of the protocol, so paths are cut from the right. The target has a kind if
// and only if there is no error.
func parse(methodName, path string) (target, *oci.Error) {
	var t target
	e, rest, err := t.endpointOf(path)
	if err != nil {
		return target{}, err
	}
	var found kind
	for _, m := range endpoints[e] {
		t.allow = append(t.allow, m.name)
		if m.name == methodName {
			found = m.kind
		}
	}
	if found == kindUnknown {
		return target{allow: t.allow}, oci.Errorf(oci.CodeUnsupported, "%.16s is not supported here", methodName)
	}
	if err := t.fill(e, rest); err != nil {
		return target{}, err
	}
	t.kind, t.allow = found, nil
	return t, nil
}

// endpointOf cuts a path into the repository's name, which it keeps, the endpoint and
// what stands behind that.
func (t *target) endpointOf(path string) (endpoint, string, *oci.Error) {
	unknown := oci.Errorf(oci.CodeNameUnknown, "%.300q is no path of the distribution protocol", path)
	switch path {
	case "/v2", "/v2/":
		return endpointPing, "", nil
	case "/v2/token", "/oauth2/token":
		return endpointToken, "", nil
	case "/oauth2/exchange":
		return endpointExchange, "", nil
	case "/v2/_catalog":
		return endpointCatalog, "", nil
	}
	if rest, ok := strings.CutPrefix(path, "/acr/v1/"); ok {
		return t.acrEndpointOf(rest)
	}
	path, ok := strings.CutPrefix(path, "/v2/")
	i := strings.LastIndexByte(path, '/')
	if !ok || i < 0 {
		return 0, "", unknown
	}
	head, last := path[:i], path[i+1:]
	var name string
	var e endpoint
	if n, ok := strings.CutSuffix(head, "/manifests"); ok {
		name, e = n, endpointManifest
	} else if n, ok := strings.CutSuffix(head, "/blobs/uploads"); ok {
		name, e = n, endpointUpload
		if last == "" {
			e = endpointUploads
		}
	} else if n, ok := strings.CutSuffix(head, "/blobs"); ok {
		name, e = n, endpointBlob
		if last == "uploads" {
			e, last = endpointUploads, ""
		}
	} else if n, ok := strings.CutSuffix(head, "/tags"); ok && last == "list" {
		name, e = n, endpointTags
	} else if n, ok := strings.CutSuffix(head, "/referrers"); ok {
		name, e = n, endpointReferrers
	} else {
		return 0, "", unknown
	}
	repo, err := oci.ParseRepository(name)
	if err != nil {
		return 0, "", oci.Errorf(oci.CodeNameInvalid, "%v", err)
	}
	t.repo = repo
	return e, last, nil
}

// acrEndpointOf is endpointOf for what stands behind /acr/v1/. No part of a repository's name
// begins with "_".
func (t *target) acrEndpointOf(path string) (endpoint, string, *oci.Error) {
	if path == "_catalog" {
		return endpointACRCatalog, "", nil
	}
	name, last, e := path, "", endpointACRRepository
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		head, tail := path[:i], path[i+1:]
		if n, ok := strings.CutSuffix(head, "/_tags"); ok {
			name, last, e = n, tail, endpointACRTag
		} else if n, ok := strings.CutSuffix(head, "/_manifests"); ok {
			name, last, e = n, tail, endpointACRManifest
		} else if tail == "_tags" {
			name, e = head, endpointACRTags
		} else if tail == "_manifests" {
			name, e = head, endpointACRManifests
		}
	}
	repo, err := oci.ParseRepository(name)
	if err != nil {
		return 0, "", oci.Errorf(oci.CodeNameInvalid, "%v", err)
	}
	t.repo = repo
	return e, last, nil
}

// maxUploadID is longer than any id that is given out.
const maxUploadID = 64

func (t *target) fill(e endpoint, rest string) *oci.Error {
	var err error
	switch e {
	case endpointManifest:
		if t.ref, err = oci.ParseReference(rest); err != nil {
			code := oci.CodeTagInvalid
			if strings.Contains(rest, ":") {
				code = oci.CodeDigestInvalid
			}
			return oci.Errorf(code, "%v", err)
		}
	case endpointBlob, endpointReferrers:
		if t.digest, err = oci.ParseDigest(rest); err != nil {
			return oci.Errorf(oci.CodeDigestInvalid, "%v", err)
		}
	case endpointACRTag:
		if t.ref.Tag, err = oci.ParseTag(rest); err != nil {
			return oci.Errorf(oci.CodeTagInvalid, "%v", err)
		}
	case endpointACRManifest:
		if t.ref.Digest, err = oci.ParseDigest(rest); err != nil {
			return oci.Errorf(oci.CodeDigestInvalid, "%v", err)
		}
	case endpointUpload:
		if len(rest) > maxUploadID {
			return oci.Errorf(oci.CodeBlobUploadUnknown, "upload %.64q… is not known", rest)
		}
		t.upload = rest
	}
	return nil
}

// chunkRange is the Content-Range of a chunk: first and last byte, both included.
type chunkRange struct{ first, last int64 }

func (c chunkRange) size() int64 { return c.last - c.first + 1 }

// parseContentRange reads "FIRST-LAST" (distribution-spec, "Pushing a blob in chunks":
// ^[0-9]+-[0-9]+$), and for clients that write it as HTTP does also "bytes
// FIRST-LAST/SIZE" (RFC 9110, section 14.4).
func parseContentRange(s string) (chunkRange, error) {
	s = strings.TrimSpace(s)
	text := strings.TrimSpace(strings.TrimPrefix(s, "bytes"))
	text, _, _ = strings.Cut(text, "/")
	a, b, ok := strings.Cut(text, "-")
	first, err1 := parseOffset(a)
	last, err2 := parseOffset(b)
	if !ok || err1 != nil || err2 != nil || last < first {
		return chunkRange{}, fmt.Errorf("Content-Range %.60q: expected FIRST-LAST, the chunk's first and last byte", s)
	}
	return chunkRange{first, last}, nil
}

// maxOffset keeps sums of offsets within an int64.
const maxOffset = 1 << 60

func parseOffset(s string) (int64, error) {
	if s == "" || s[0] == '+' || s[0] == '-' {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil && n > maxOffset {
		err = strconv.ErrRange
	}
	return n, err
}

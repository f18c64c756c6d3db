package ociserver

import (
	"strings"
	"testing"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/oci"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		method, path string
		kind         kind
		repo, rest   string
	}{
		{"GET", "/v2", kindPing, "", ""},
		{"GET", "/v2/", kindPing, "", ""},
		{"HEAD", "/v2/", kindPing, "", ""},
		{"GET", "/v2/token", kindToken, "", ""},
		{"POST", "/v2/token", kindToken, "", ""},
		{"GET", "/v2/_catalog", kindCatalog, "", ""},
		{"GET", "/v2/app/tags/list", kindTags, "app", ""},
		{"GET", "/v2/a/b/c/tags/list", kindTags, "a/b/c", ""},
		{"GET", "/v2/app/manifests/latest", kindManifestGet, "app", "latest"},
		{"HEAD", "/v2/app/manifests/" + someDigest, kindManifestHead, "app", someDigest},
		{"PUT", "/v2/app/manifests/1.0", kindManifestPut, "app", "1.0"},
		{"DELETE", "/v2/app/manifests/1.0", kindManifestDelete, "app", "1.0"},
		{"GET", "/v2/app/blobs/" + someDigest, kindBlobGet, "app", someDigest},
		{"HEAD", "/v2/app/blobs/" + someDigest, kindBlobHead, "app", someDigest},
		{"DELETE", "/v2/app/blobs/" + someDigest, kindBlobDelete, "app", someDigest},
		{"POST", "/v2/app/blobs/uploads/", kindUploadBegin, "app", ""},
		{"POST", "/v2/app/blobs/uploads", kindUploadBegin, "app", ""},
		{"GET", "/v2/app/blobs/uploads/abc", kindUploadStatus, "app", "abc"},
		{"PATCH", "/v2/app/blobs/uploads/abc", kindUploadAppend, "app", "abc"},
		{"PUT", "/v2/app/blobs/uploads/abc", kindUploadFinish, "app", "abc"},
		{"DELETE", "/v2/app/blobs/uploads/abc", kindUploadCancel, "app", "abc"},
		{"GET", "/v2/app/referrers/" + someDigest, kindReferrers, "app", someDigest},
		// Names that hold the protocol's own words.
		{"GET", "/v2/manifests/manifests/manifests", kindManifestGet, "manifests", "manifests"},
		{"GET", "/v2/a/manifests/b/manifests/latest", kindManifestGet, "a/manifests/b", "latest"},
		{"GET", "/v2/blobs/uploads/tags/list", kindTags, "blobs/uploads", ""},
		{"POST", "/v2/x/blobs/uploads/blobs/uploads/", kindUploadBegin, "x/blobs/uploads", ""},
		{"GET", "/v2/tags/list/tags/list", kindTags, "tags/list", ""},
		{"GET", "/v2/token/tags/list", kindTags, "token", ""},
		// Azure's.
		{"GET", "/oauth2/token", kindToken, "", ""},
		{"POST", "/oauth2/token", kindToken, "", ""},
		{"POST", "/oauth2/exchange", kindExchange, "", ""},
		{"GET", "/acr/v1/_catalog", kindACRCatalog, "", ""},
		{"GET", "/acr/v1/app", kindACRRepositoryGet, "app", ""},
		{"GET", "/acr/v1/a/b/c", kindACRRepositoryGet, "a/b/c", ""},
		{"PATCH", "/acr/v1/a/b", kindACRRepositoryPatch, "a/b", ""},
		{"DELETE", "/acr/v1/a/b", kindACRRepositoryDelete, "a/b", ""},
		{"GET", "/acr/v1/a/b/_tags", kindACRTags, "a/b", ""},
		{"GET", "/acr/v1/a/b/_tags/_manifests", kindACRTagGet, "a/b", "_manifests"},
		{"PATCH", "/acr/v1/app/_tags/1.0", kindACRTagPatch, "app", "1.0"},
		{"DELETE", "/acr/v1/app/_tags/1.0", kindACRTagDelete, "app", "1.0"},
		{"GET", "/acr/v1/tags/manifests/_manifests", kindACRManifests, "tags/manifests", ""},
		{"GET", "/acr/v1/app/_manifests/" + someDigest, kindACRManifestGet, "app", someDigest},
		{"PATCH", "/acr/v1/app/_manifests/" + someDigest, kindACRManifestPatch, "app", someDigest},
	} {
		got, err := parse(tc.method, tc.path)
		rest := got.ref.String() + got.digest.String() + got.upload
		if err != nil || got.kind != tc.kind || got.repo.String() != tc.repo || rest != tc.rest {
			t.Errorf("parse(%s %s) = kind %d, %q, %q, %v; want kind %d, %q, %q", tc.method, tc.path, got.kind, got.repo, rest, err, tc.kind, tc.repo, tc.rest)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ method, path, code string }{
		{"GET", "/", oci.CodeNameUnknown},
		{"GET", "/v2/app", oci.CodeNameUnknown},
		{"GET", "/v2/app/tags/other", oci.CodeNameUnknown},
		{"GET", "/v2/app/tags/list/", oci.CodeNameUnknown},
		{"GET", "/v2//tags/list", oci.CodeNameInvalid},
		{"GET", "/v2/App/tags/list", oci.CodeNameInvalid},
		{"GET", "/v2/../tags/list", oci.CodeNameInvalid},
		{"GET", "/v2/a//b/tags/list", oci.CodeNameInvalid},
		{"GET", "/v2/" + strings.Repeat("a", 256) + "/tags/list", oci.CodeNameInvalid},
		{"GET", "/v2/app/manifests/", oci.CodeTagInvalid},
		{"GET", "/v2/app/manifests/.x", oci.CodeTagInvalid},
		{"GET", "/v2/app/manifests/sha256:short", oci.CodeDigestInvalid},
		{"GET", "/v2/app/manifests/md5:d41d8cd98f00b204e9800998ecf8427e", oci.CodeDigestInvalid},
		{"GET", "/v2/app/blobs/latest", oci.CodeDigestInvalid},
		{"GET", "/v2/app/blobs/" + strings.ToUpper(someDigest), oci.CodeDigestInvalid},
		{"GET", "/v2/app/referrers/latest", oci.CodeDigestInvalid},
		{"GET", "/v2/app/blobs/uploads/" + strings.Repeat("a", 65), oci.CodeBlobUploadUnknown},
		{"POST", "/v2/app/manifests/latest", oci.CodeUnsupported},
		{"TRACE", "/v2/", oci.CodeUnsupported},
		{"GET", "/acr/v1", oci.CodeNameUnknown},
		{"GET", "/acr/v1/", oci.CodeNameInvalid},
		{"GET", "/acr/v1/..", oci.CodeNameInvalid},
		{"GET", "/acr/v1/a/../b", oci.CodeNameInvalid},
		{"GET", "/acr/v1/a//b", oci.CodeNameInvalid},
		{"GET", "/acr/v1/app/", oci.CodeNameInvalid},
		{"GET", "/acr/v1/App", oci.CodeNameInvalid},
		{"GET", "/acr/v1/a%2fb", oci.CodeNameInvalid},
		{"GET", "/acr/v1/_tags", oci.CodeNameInvalid},
		{"GET", "/acr/v1/_tags/x", oci.CodeNameInvalid},
		{"GET", "/acr/v1/app/_catalog", oci.CodeNameInvalid},
		{"GET", "/acr/v1/app/_other", oci.CodeNameInvalid},
		{"GET", "/acr/v1/app/_tags/", oci.CodeTagInvalid},
		{"GET", "/acr/v1/app/_tags/.x", oci.CodeTagInvalid},
		{"GET", "/acr/v1/app/_tags/" + someDigest, oci.CodeTagInvalid},
		{"GET", "/acr/v1/app/_manifests/1.0", oci.CodeDigestInvalid},
		{"GET", "/acr/v1/app/_manifests/" + strings.ToUpper(someDigest), oci.CodeDigestInvalid},
		{"DELETE", "/acr/v1/app/_manifests/" + someDigest, oci.CodeUnsupported},
		{"PUT", "/acr/v1/app", oci.CodeUnsupported},
		{"GET", "/oauth2/exchange", oci.CodeUnsupported},
		{"GET", "/oauth2/authorize", oci.CodeNameUnknown},
		{"PUT", "/v2/app/blobs/uploads/", oci.CodeUnsupported},
	} {
		got, err := parse(tc.method, tc.path)
		if err == nil || err.Code != tc.code || got.kind != kindUnknown {
			t.Errorf("parse(%s %.80s) = kind %d, %v; want %s", tc.method, tc.path, got.kind, err, tc.code)
		}
	}
}

// TestEachKindHasARule: a kind that nobody has thought about is refused, and is a fault.
func TestEachKindHasARule(t *testing.T) {
	reached := map[kind]bool{}
	for _, ms := range endpoints {
		for _, m := range ms {
			reached[m.kind] = true
		}
	}
	for k := kindUnknown + 1; k < kinds; k++ {
		r := rules[k]
		if r.handle == nil {
			t.Errorf("kind %d has no handler", k)
		}
		says := 0
		for _, by := range []bool{len(r.permissions) > 0, r.public, r.anyone, r.listing} {
			if by {
				says++
			}
		}
		if says != 1 {
			t.Errorf("kind %d: %d permissions, public %v, anyone %v, listing %v: exactly one must say who may", k, len(r.permissions), r.public, r.anyone, r.listing)
		}
		for _, p := range r.permissions {
			if p == "" {
				t.Errorf("kind %d has an empty permission", k)
			}
		}
		if !reached[k] {
			t.Errorf("kind %d is reached by no path", k)
		}
	}
	if r := rules[kindUnknown]; r.handle != nil || r.public || r.anyone || r.listing || r.permissions != nil {
		t.Error("the zero kind has a rule")
	}
	for _, k := range []kind{kindManifestPut, kindUploadBegin, kindUploadAppend, kindUploadFinish, kindUploadCancel, kindUploadStatus} {
		// Who may push signatures alone is held to that by what they put in the end.
		if ps := rules[k].permissions; len(ps) != 2 || ps[0] != access.RepositoryPush || ps[1] != access.RepositorySign {
			t.Errorf("kind %d writes, and takes %v", k, ps)
		}
	}
}

func TestParseContentRange(t *testing.T) {
	for _, tc := range []struct {
		in          string
		first, last int64
	}{
		{"0-0", 0, 0},
		{"0-1023", 0, 1023},
		{" 1024-2047 ", 1024, 2047},
		{"bytes 5-9/10", 5, 9},
		{"bytes 5-9/*", 5, 9},
	} {
		got, err := parseContentRange(tc.in)
		if err != nil || got.first != tc.first || got.last != tc.last {
			t.Errorf("parseContentRange(%q) = %+v, %v; want %d-%d", tc.in, got, err, tc.first, tc.last)
		}
	}
	for _, in := range []string{"", "-", "1", "1-", "-1", "2-1", "a-b", "+1-2", "1-+2", "0--1", "0-9223372036854775807", "0x1-0x2", "1-2-3", "1_0-2_0"} {
		if got, err := parseContentRange(in); err == nil {
			t.Errorf("parseContentRange(%q) = %+v, want an error", in, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"/v2/", "/v2/a/manifests/b", "/v2/a/blobs/uploads/x", "/v2/a/blobs/" + someDigest, "/v2/a/tags/list", "/v2/_catalog"} {
		f.Add("GET", s)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		got, err := parse(method, path)
		if (err == nil) != (got.kind != kindUnknown) {
			t.Fatalf("parse(%q %q): kind %d with error %v", method, path, got.kind, err)
		}
		if err != nil {
			return
		}
		if got.repo.IsZero() != (got.kind == kindPing || got.kind == kindToken || got.kind == kindCatalog) {
			t.Fatalf("parse(%q %q): kind %d with repository %q", method, path, got.kind, got.repo)
		}
		if !got.repo.IsZero() && !strings.HasPrefix(path, "/v2/"+got.repo.String()+"/") {
			t.Fatalf("parse(%q %q) made up repository %q", method, path, got.repo)
		}
	})
}

func FuzzParseContentRange(f *testing.F) {
	for _, s := range []string{"0-1", "bytes 0-1/2", "9223372036854775807-9223372036854775807", "1--1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseContentRange(s)
		if err == nil && (r.first < 0 || r.size() <= 0) {
			t.Fatalf("parseContentRange(%q) = %+v", s, r)
		}
	})
}

package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// setRules sets a document, and removes it at the end of the test.
func (s *server) setRules(t *testing.T, document string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules.yaml")
	check(t, os.WriteFile(file, []byte(document), 0o600))
	wantWords(t, "set", s.pratique("rules", "set", file).mustRun(t).stdout, "rules set")
	t.Cleanup(func() { s.pratique("rules", "set", os.DevNull).mustRun(t) })
	if got := s.pratique("rules", "show").mustRun(t).stdout; got != document {
		t.Errorf("set %q, shown %q", document, got)
	}
}

// TestRules: what the rules do not allow is refused with the rule, the figures and what to do, and
// retention deletes what it said that it would.
func TestRules(t *testing.T) {
	s := sharedRegistry(t)
	const repo = "ruled/app"
	good, other, third := smallImage(t, "ruled one"), smallImage(t, "ruled two"), smallImage(t, "ruled three")
	s.push(t, repo, "v1", good)
	s.setRules(t, `
immutable: [{repositories: "ruled/**", tags: "v*"}]
quotas: [{prefix: "ruled/", tags: 3}, {prefix: "ruled/full", bytes: 10}]
retention: [{name: builds, repositories: "ruled/**", tags: "build-*", keepLast: 1}]
`)
	raw, err := other.RawManifest()
	check(t, err)
	mediaType, err := other.MediaType()
	check(t, err)
	put := func(tag string) answer {
		return s.do(t, http.MethodPut, "/v2/"+repo+"/manifests/"+tag, raw, string(mediaType))
	}
	s.pushBlobs(t, repo, other)
	wantWords(t, "moving", string(put("v1").want(t, http.StatusForbidden).body), "DENIED", "v1 of ruled/app cannot be moved", "ruled/**")
	for _, ref := range []string{"v1", digest(t, good)} {
		body := s.do(t, http.MethodDelete, "/v2/"+repo+"/manifests/"+ref, nil, "").want(t, http.StatusForbidden).body
		wantWords(t, "deleting "+ref, string(body), "DENIED", "cannot be deleted", "rules set")
	}
	s.pulled(t, repo, "v1", good)

	put("build-1").want(t, http.StatusCreated)
	s.push(t, repo, "build-2", third)
	wantWords(t, "tags", string(put("build-3").want(t, http.StatusForbidden).body), "DENIED", "3 of 3 tags")
	wantWords(t, "usage", s.pratique("rules", "usage").mustRun(t).stdout, `"ruled/"`, "3 of 3")
	s.do(t, http.MethodPost, "/v2/ruled/full/blobs/uploads/", nil, "").want(t, http.StatusAccepted)
	s.do(t, http.MethodPost, "/v2/ruled/full/blobs/uploads/?mount="+layerOf(t, good)+"&from="+repo, nil, "").want(t, http.StatusForbidden)

	wantWords(t, "dry run", s.pratique("retention", "run", "--dry-run").mustRun(t).stdout,
		"delete  ruled/app:build-1", "(builds)", "keep    ruled/app:build-2", "keepLast: 1 of 1", "would delete 1 tags")
	s.do(t, http.MethodHead, "/v2/"+repo+"/manifests/build-1", nil, "").want(t, http.StatusOK)
	wantWords(t, "run", s.pratique("retention", "run").mustRun(t).stdout, "delete  ruled/app:build-1", "deleted 1 tags and 1 manifests")
	s.do(t, http.MethodHead, "/v2/"+repo+"/manifests/build-1", nil, "").want(t, http.StatusNotFound)
	wantWords(t, "trash", s.pratique("trash", "list", "ruled/").mustRun(t).stdout, digest(t, other), "retention")
	s.pratique("trash", "restore", repo+"@"+digest(t, other)).mustRun(t)
	s.pulled(t, repo, "build-1", other)

	got := s.pratique("list", "ruled/", "--tag", "build-*", "--decision", "allow").mustRun(t).stdout
	wantWords(t, "list", got, "ruled/app:build-1", "ruled/app:build-2")
	if strings.Contains(got, ":v1") {
		t.Errorf("listed what was not asked for:\n%s", got)
	}
	s.refused(t, []string{"list", "--decision", "maybe"}, "none of allow, quarantine, pending")
}

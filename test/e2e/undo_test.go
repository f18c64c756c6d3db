package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// TestUndo: a tag that was pointed at the wrong image is pointed back.
func TestUndo(t *testing.T) {
	s := sharedRegistry(t)
	const repo = "undo/tags"
	good, bad := smallImage(t, "good"), smallImage(t, "bad")
	s.push(t, repo, "v1", good)
	s.push(t, repo, "v1", bad)
	wantWords(t, "history", s.pratique("tags", "history", repo+":v1").mustRun(t).stdout, digest(t, good), digest(t, bad), "admin")
	wantWords(t, "undo", s.pratique("tags", "undo", repo+":v1").mustRun(t).stdout, digest(t, good))
	s.pulled(t, repo, "v1", good)

	s.do(t, http.MethodDelete, "/v2/"+repo+"/manifests/v1", nil, "").want(t, http.StatusAccepted)
	s.pratique("tags", "undo", s.ref(repo, "v1")).mustRun(t)
	s.pulled(t, repo, "v1", good)
	var h struct {
		Moves []struct{ Kind, Digest, By string }
	}
	check(t, json.Unmarshal([]byte(s.pratique("tags", "history", repo+":v1", "-o", "json").mustRun(t).stdout), &h))
	var kinds []string
	for _, m := range h.Moves {
		kinds = append(kinds, m.Kind)
	}
	if got := strings.Join(kinds, " "); got != "tag untag tag tag tag" {
		t.Errorf("moves are %q", got)
	}
	s.refused(t, []string{"tags", "undo", repo + ":never"}, "nothing is known")
	s.refused(t, []string{"tags", "undo", repo}, "expected REPOSITORY:TAG")
}

// TestTrash: what was deleted is gone at once, and comes back with its tag.
func TestTrash(t *testing.T) {
	s := sharedRegistry(t)
	const repo = "undo/trash"
	img := smallImage(t, "to be deleted")
	s.push(t, repo, "v1", img)
	name := repo + "@" + digest(t, img)
	remove := func() {
		t.Helper()
		s.do(t, http.MethodDelete, "/v2/"+repo+"/manifests/"+digest(t, img), nil, "").want(t, http.StatusAccepted)
		for _, ref := range []string{"v1", digest(t, img)} {
			s.do(t, http.MethodGet, "/v2/"+repo+"/manifests/"+ref, nil, "").want(t, http.StatusNotFound)
		}
	}
	remove()
	wantWords(t, "trash", s.pratique("trash", "list", "undo/").mustRun(t).stdout, name, "v1", "admin")
	wantWords(t, "restore", s.pratique("trash", "restore", name).mustRun(t).stdout, "allow", "tags: v1")
	s.pulled(t, repo, "v1", img)
	if out := s.pratique("trash", "list", repo).mustRun(t); out.stdout != "" {
		t.Errorf("still in the trash: %s", out.stdout)
	}
	remove()
	s.pratique("trash", "purge", name).mustRun(t)
	s.refused(t, []string{"trash", "restore", name}, "is not in the trash")
	s.refused(t, []string{"trash", "restore", repo + ":v1"}, "expected REPOSITORY@DIGEST")
}

// TestLock: what is locked is refused with the command that unlocks it.
func TestLock(t *testing.T) {
	s := sharedRegistry(t)
	const repo = "undo/locks"
	img, other := smallImage(t, "locked"), smallImage(t, "other")
	s.push(t, repo, "v1", img)
	s.pushBlobs(t, repo, other)
	raw, err := other.RawManifest()
	check(t, err)
	mediaType, err := other.MediaType()
	check(t, err)
	put := func() answer {
		return s.do(t, http.MethodPut, "/v2/"+repo+"/manifests/v1", raw, string(mediaType))
	}
	get := func(ref string) answer { return s.do(t, http.MethodGet, "/v2/"+repo+"/manifests/"+ref, nil, "") }

	wantWords(t, "lock", s.pratique("lock", repo+":v1").mustRun(t).stdout, "is locked: write, delete")
	wantWords(t, "list", s.pratique("list", repo).mustRun(t).stdout, "write delete")
	wantWords(t, "push", put().wantError(t, http.StatusForbidden, "DENIED"), "locked against writing", "pratique unlock "+repo+":v1 --write")
	wantWords(t, "delete", s.do(t, http.MethodDelete, "/v2/"+repo+"/manifests/"+digest(t, img), nil, "").wantError(t, http.StatusForbidden, "DENIED"),
		"locked against deleting", "pratique unlock "+repo+":v1 --delete")
	s.push(t, repo, "v1", img) // which changes nothing
	s.pratique("unlock", repo+":v1", "--write").mustRun(t)
	put().want(t, http.StatusCreated)

	s.pratique("lock", repo, "--read").mustRun(t)
	wantWords(t, "pull", get("v1").wantError(t, http.StatusForbidden, "DENIED"), "pratique unlock "+repo+" --read")
	s.do(t, http.MethodGet, "/v2/"+repo+"/blobs/"+layerOf(t, img), nil, "").wantError(t, http.StatusForbidden, "DENIED")
	wantWords(t, "unlock", s.pratique("unlock", repo).mustRun(t).stdout, "is not locked")
	get("v1").want(t, http.StatusOK)

	s.pratique("lock", repo, "--list").mustRun(t)
	if list := string(s.do(t, http.MethodGet, "/v2/_catalog?n=1000", nil, "").want(t, http.StatusOK).body); strings.Contains(list, repo) {
		t.Errorf("listed: %s", list)
	}
	s.refused(t, []string{"lock", repo + ":none"}, "is not here")
	s.refused(t, []string{"lock", "undo/none"}, "no such repository")
}

// refused runs a command of the program that must fail with words on its standard error.
func (s *server) refused(t *testing.T, args []string, words ...string) {
	t.Helper()
	r := s.pratique(args...).run(t)
	if r.code != 2 {
		t.Errorf("pratique %q: exit code %d, want 2\n%s", args, r.code, r.stdout)
	}
	wantWords(t, strings.Join(args, " "), r.stderr, words...)
}

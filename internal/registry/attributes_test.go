package registry

import (
	"fmt"
	"slices"
	"testing"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/blob/memblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// TestDeleteRepository: all that a repository holds goes, and nothing of another; what is locked in it
// keeps all of it, what a rule keeps stays.
func TestDeleteRepository(t *testing.T) {
	cat := catalogtest.Open(t)
	r := New(cat, memblob.New(), Options{Judge: decide(cat, policy.Verdict{Decision: policy.Allow})})
	other := must(oci.ParseRepository("team/other"))
	_, err := r.DeleteRepository(bg, pusher, app)
	wantCode(t, "delete what is not there", err, oci.CodeNameUnknown)
	const many = 105 // more than are looked up at once
	for i := range many {
		putImage(t, r, app, fmt.Sprint("v", i), fmt.Sprint("layer ", i))
	}
	kept := putImage(t, r, other, "v1", "layer 1")
	last := oci.Reference{Tag: fmt.Sprint("v", many-1)}
	if _, err := r.Lock(bg, pusher, app, last, catalog.LockDelete, 0); err != nil {
		t.Fatal(err)
	}
	_, err = r.DeleteRepository(bg, pusher, app)
	wantCode(t, "delete what is locked", err, oci.CodeDenied)
	if a, err := r.RepositoryAttributes(bg, app); err != nil || a.Manifests != many || a.Tags != many {
		t.Errorf("a refused delete leaves %+v, %v", a, err)
	}
	if _, err := r.Lock(bg, pusher, app, last, 0, catalog.LockDelete); err != nil {
		t.Fatal(err)
	}
	if _, err := cat.PutRules(bg, fmt.Appendf(nil, `immutable: [{repositories: "team/app", tags: %q}]`, last.Tag), catalog.Act{}); err != nil {
		t.Fatal(err)
	}
	out, err := r.DeleteRepository(bg, pusher, app)
	wantCode(t, "delete what a rule keeps", err, oci.CodeDenied)
	if _, err := r.StatManifest(bg, app, last); err != nil || out.Deleted != many-1 {
		t.Errorf("what a rule keeps: %v; %d others are deleted", err, out.Deleted)
	}
	if _, err := cat.PutRules(bg, nil, catalog.Act{}); err != nil {
		t.Fatal(err)
	}
	if out, err = r.DeleteRepository(bg, pusher, app); err != nil || out.Deleted != 1 || len(out.Manifests) != 1 || !slices.Equal(out.Tags, []string{last.Tag}) {
		t.Errorf("the rest: %+v, %v", out, err)
	}
	_, err = r.RepositoryAttributes(bg, app)
	wantCode(t, "attributes of what is deleted", err, oci.CodeNameUnknown)
	if _, err := r.Manifest(bg, pusher, other, oci.Reference{Digest: kept.Digest}); err != nil {
		t.Errorf("another repository's: %v", err)
	}
}

// TestHeldRepositories: what holds nothing and what the caller may not see is left out, page by page.
func TestHeldRepositories(t *testing.T) {
	cat := catalogtest.Open(t)
	r := New(cat, memblob.New(), Options{Judge: decide(cat, policy.Verdict{Decision: policy.Allow})})
	for _, name := range []string{"a/one", "a/two", "b/one", "c"} {
		putImage(t, r, must(oci.ParseRepository(name)), "v1", "layer")
	}
	push(t, r, must(oci.ParseRepository("a/empty")), "blob")
	role := access.Role{Permissions: []access.Permission{access.RepositoryList}}
	some := Caller{Name: "some", Access: access.NewGrants(
		access.Assignment{Role: role, Scope: access.Scope{Pattern: "a/*"}}, access.Assignment{Role: role, Scope: access.Scope{Pattern: "c"}})}
	for _, tc := range []struct {
		by   Caller
		want []string
	}{
		{allowed(access.CatalogList), []string{"a/one", "a/two", "b/one", "c"}},
		{some, []string{"a/one", "a/two", "c"}},
		{Caller{Name: "nobody"}, nil},
	} {
		for limit := 1; limit < 6; limit++ {
			var got []string
			for after := ""; ; {
				page, next, err := r.HeldRepositories(bg, tc.by, after, limit)
				if err != nil || len(page) > limit {
					t.Fatalf("%v, %v", page, err)
				}
				got = append(got, page...)
				if after = next; next == "" {
					break
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("%s, %d a page: %v, want %v", tc.by.Name, limit, got, tc.want)
			}
		}
	}
}

// TestManifestAttributes: a platform is what the configuration says, and none where that is no document
// or cannot be read.
func TestManifestAttributes(t *testing.T) {
	cat := catalogtest.Open(t)
	store := memblob.New()
	r := New(cat, store, Options{Judge: decide(cat, policy.Verdict{Decision: policy.Allow})})
	for _, tc := range []struct{ config, want string }{
		{`{"architecture":"arm64","os":"linux","history":[{}]}`, "linux/arm64"},
		{`{"architecture":7}`, "/"}, {`not JSON`, "/"}, {`{}`, "/"},
	} {
		push(t, r, app, tc.config)
		push(t, r, app, "layer")
		p, err := r.PutManifest(bg, pusher, Push{Repo: app, Reference: oci.Reference{Tag: "v1"}, Raw: manifestOf(tc.config, "layer")})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			m, err := r.ManifestAttributes(bg, app, p.Digest)
			if err != nil || m.Platform.String() != tc.want || m.ConfigMediaType == "" || !slices.Equal(m.Tags, []string{"v1"}) {
				t.Errorf("%s: %+v, %v", tc.config, m, err)
			}
			if err := store.Delete(bg, sum(tc.config)); err != nil {
				t.Fatal(err)
			}
			tc.want = "/"
		}
	}
}

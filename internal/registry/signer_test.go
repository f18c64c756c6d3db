package registry

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/blob/memblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
)

// manifestWith is an image manifest of our own making.
func manifestWith(t *testing.T, artifactType, layerType string, subject bool) []byte {
	t.Helper()
	d := func(mediaType, content string) oci.Descriptor {
		return oci.Descriptor{MediaType: mediaType, Digest: sum(content), Size: int64(len(content))}
	}
	m := map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest, "config": d("application/vnd.oci.image.config.v1+json", "config"),
		"layers": []oci.Descriptor{d(layerType, "layer")}}
	if artifactType != "" {
		m["artifactType"] = artifactType
	}
	if subject {
		m["subject"] = d(oci.MediaTypeImageManifest, "the subject")
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestSigner: who may push signatures alone pushes those and nothing else, be it made to look like one.
func TestSigner(t *testing.T) {
	const (
		layer    = "application/vnd.oci.image.layer.v1.tar+gzip"
		notation = "application/vnd.cncf.notary.signature"
		jose     = "application/jose+json"
		cosign   = "application/vnd.dev.cosign.simplesigning.v1+json"
	)
	signer := allowed(access.RepositoryPull, access.RepositorySign)
	cosigned := "sha256-" + strings.Repeat("0a", 32) + ".sig"
	for _, tc := range []struct {
		name string
		raw  []byte
		tag  string // "": by digest
		more []string
		by   Caller
		want bool
	}{
		{"an image", manifestWith(t, "", layer, false), "v1", nil, signer, false},
		{"an image, by digest", manifestWith(t, "", layer, false), "", nil, signer, false},
		{"an image with a subject", manifestWith(t, "", layer, true), "", nil, signer, false},
		{"an image under cosign's tag", manifestWith(t, "", layer, false), cosigned, nil, signer, false},
		{"a signature of nothing", manifestWith(t, notation, jose, false), "", nil, signer, false},
		{"a signature under a tag", manifestWith(t, notation, jose, true), "v1", nil, signer, false},
		{"a signature that moves a tag too", manifestWith(t, "", cosign, false), cosigned, []string{"v1"}, signer, false},
		{"a signature by a reader", manifestWith(t, notation, jose, true), "", nil, allowed(access.RepositoryPull), false},
		{"notation's", manifestWith(t, notation, jose, true), "", nil, signer, true},
		{"cosign's, by a tag", manifestWith(t, "", cosign, false), cosigned, nil, signer, true},
		{"cosign's, by a subject", manifestWith(t, "", cosign, true), "", nil, signer, true},
		{"sigstore's bundle", manifestWith(t, "application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle.v0.3+json", true), "", nil, signer, true},
		{"an image by a pusher", manifestWith(t, "", layer, false), "v1", nil, pusher, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := New(catalogtest.Open(t), memblob.New(), Options{})
			push(t, r, app, "config")
			push(t, r, app, "layer")
			p := Push{Repo: app, Reference: oci.Reference{Tag: tc.tag}, Tags: tc.more, MediaType: oci.MediaTypeImageManifest, Raw: tc.raw}
			if tc.tag == "" {
				p.Reference.Digest = sum(string(tc.raw))
			}
			_, err := r.PutManifest(bg, tc.by, p)
			if tc.want && err != nil {
				t.Fatal(err)
			}
			if !tc.want {
				wantCode(t, "PutManifest", err, oci.CodeDenied)
				if tags, _, err := r.Tags(bg, app, "", 10); err != nil || len(tags) > 0 {
					t.Errorf("tags %v, %v", tags, err)
				}
			}
		})
	}
}

// TestRepositoriesSeen: a list shows what the caller may see, page by page, and nothing of the others.
func TestRepositoriesSeen(t *testing.T) {
	r := New(catalogtest.Open(t), memblob.New(), Options{})
	var all []string
	for i := range 40 {
		name := fmt.Sprintf("%s/app%02d", []string{"public", "team"}[i%2], i)
		push(t, r, must(oci.ParseRepository(name)), "content")
		all = append(all, name)
	}
	slices.Sort(all)
	within := func(scope string, ps ...access.Permission) Caller {
		return Caller{Name: "test", Access: access.NewGrants(access.Assignment{Role: access.Role{Permissions: ps}, Scope: access.Scope{Pattern: scope}})}
	}
	token := Caller{Name: "test", Access: access.NewGrants(), Granted: within("team/*", access.RepositoryPull).Access}
	for _, tc := range []struct {
		name string
		by   Caller
		want []string
	}{
		{"nobody", Caller{}, nil},
		{"who may only push", within("", access.RepositoryPush), nil},
		{"a team", within("team/*", access.RepositoryList), all[20:]},
		{"one repository", within("public/app02", access.RepositoryPull), all[1:2]},
		{"a token of a team", token, all[20:]},
		{"all by their roles", within("", access.RepositoryPull), all},
		{"who may list", within("", access.CatalogList), all},
		{"who may list a part, which is nothing", within("team/*", access.CatalogList), nil},
	} {
		var got []string
		after, pages := "", 0
		for {
			names, next, err := r.Repositories(bg, tc.by, after, 7)
			if err != nil || len(names) > 7 {
				t.Fatal(names, err)
			}
			got = append(got, names...)
			if pages++; next == "" || pages > 40 {
				break
			}
			after = next
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s sees %v, want %v", tc.name, got, tc.want)
		}
	}
}

// TestNamesNobodySees: however many names a caller may not see, no page ends with one of them, and all that
// they may see come.
func TestNamesNobodySees(t *testing.T) {
	const all = 3*maxLooked + 500
	visible := map[int]bool{10: true, maxLooked + 5: true, all - 1: true}
	by := Caller{Name: "test", Access: access.NewGrants(access.Assignment{Role: access.Role{Permissions: []access.Permission{access.RepositoryList}}, Scope: access.Scope{Pattern: "*/mine"}})}
	name := func(i int) string {
		if visible[i] {
			return fmt.Sprintf("r%06d/mine", i)
		}
		return fmt.Sprintf("r%06d/secret", i)
	}
	more := func(after string, limit int) ([]catalog.NamedRepository, error) {
		first := 0
		if after != "" {
			if _, err := fmt.Sscanf(after, "r%06d/", &first); err != nil {
				t.Fatal(err)
			}
			first++
		}
		var page []catalog.NamedRepository
		for i := first; i < min(all, first+limit); i++ {
			page = append(page, catalog.NamedRepository{Name: name(i)})
		}
		return page, nil
	}
	for _, limit := range []int{1, 2, 100, 1000} {
		var got []string
		for after, pages := "", 0; pages < 10; pages++ {
			names, next, err := listed(by, after, limit, more)
			if err != nil || len(names) > limit || strings.Contains(next, "secret") {
				t.Fatalf("%d: %v, next %q, %v", limit, names, next, err)
			}
			got = append(got, names...)
			if after = next; next == "" {
				break
			}
		}
		if want := []string{name(10), name(maxLooked + 5), name(all - 1)}; !slices.Equal(got, want) {
			t.Errorf("%d at a time: %v, want %v", limit, got, want)
		}
	}
}

package catalog_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// now is when the tests take place.
var now = time.Date(2026, 11, 24, 9, 30, 0, 123000, time.UTC)

func repo(t testing.TB, name string) oci.Repository {
	t.Helper()
	r, err := oci.ParseRepository(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func digest(content string) oci.Digest { return oci.DigestOf(oci.SHA256, []byte(content)) }

// must fails the test at an error.
func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func equal[T any](t testing.TB, got, want T) {
	t.Helper()
	g, w := asJSON(t, got), asJSON(t, want)
	if g != w {
		t.Fatalf("got  %s\nwant %s", g, w)
	}
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	ok(t, err)
	return string(b)
}

// pushBlob makes content a blob of r.
func pushBlob(t testing.TB, c *catalog.Catalog, r oci.Repository, content string) oci.Descriptor {
	t.Helper()
	d := oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: digest(content), Size: int64(len(content))}
	ok(t, c.FinishUpload(t.Context(), "", r, d.Digest, d.Size, now))
	return d
}

// imageOf is the manifest of an image.
func imageOf(t testing.TB, config oci.Descriptor, layers []oci.Descriptor, more map[string]any) oci.Manifest {
	t.Helper()
	config.MediaType = oci.MediaTypeImageConfig
	doc := map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest, "config": config, "layers": layers}
	for k, v := range more {
		doc[k] = v
	}
	return parse(t, oci.MediaTypeImageManifest, doc)
}

func indexOf(t testing.TB, children ...oci.Manifest) oci.Manifest {
	t.Helper()
	list := []oci.Descriptor{}
	for i, m := range children {
		list = append(list, oci.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size,
			Platform: &oci.Platform{OS: "linux", Architecture: []string{"amd64", "arm64"}[i%2]}})
	}
	return parse(t, oci.MediaTypeImageIndex, map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeImageIndex, "manifests": list})
}

func parse(t testing.TB, mediaType string, doc any) oci.Manifest {
	t.Helper()
	m, err := oci.ParseManifest(mediaType, []byte(asJSON(t, doc)))
	ok(t, err)
	return m
}

// pushImage makes an image of a config and some layers, all named after seed.
func pushImage(t testing.TB, c *catalog.Catalog, r oci.Repository, seed string, tags ...string) oci.Manifest {
	t.Helper()
	m := imageOf(t, pushBlob(t, c, r, seed+" config"), []oci.Descriptor{pushBlob(t, c, r, "base layer"), pushBlob(t, c, r, seed+" layer")}, nil)
	put(t, c, r, m, tags...)
	return m
}

func put(t testing.TB, c *catalog.Catalog, r oci.Repository, m oci.Manifest, tags ...string) bool {
	t.Helper()
	created, err := c.PutManifest(t.Context(), catalog.NewManifest{Repo: r, Manifest: m, Tags: tags, By: "ann", Now: now})
	ok(t, err)
	return created
}

// judge keeps a verdict on what is there now.
func judge(t testing.TB, c *catalog.Catalog, d oci.Digest, to policy.Decision, n catalog.Counts) {
	t.Helper()
	m := must(c.ManifestByDigest(t.Context(), d))(t)
	ok(t, c.KeepVerdict(t.Context(), d, m.Generation, policy.Verdict{Decision: to, Policy: "default", At: now}, n))
}

// due claims all that is due at a time.
func due(t testing.TB, c *catalog.Catalog, at time.Time) []oci.Digest {
	t.Helper()
	return must(c.Due(t.Context(), at, time.Minute, 1000))(t)
}

func sorted(ds ...oci.Digest) []string {
	var out []string
	for _, d := range ds {
		out = append(out, d.String())
	}
	slices.Sort(out)
	return out
}

func clock() time.Time { return now }

func numbered(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%03d", prefix, i)
	}
	return out
}

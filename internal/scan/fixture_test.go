package scan

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/vuln"
)

// testImage is an image made for a test: its manifest and the blobs that it names.
type testImage struct {
	manifest oci.Manifest
	blobs    map[oci.Digest][]byte
}

// layerOf packs files into a gzipped layer.
func layerOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var raw bytes.Buffer
	z := gzip.NewWriter(&raw)
	w := tar.NewWriter(z)
	var names []string
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if err := w.WriteHeader(&tar.Header{Name: n, Mode: 0o644, Size: int64(len(files[n])), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[n])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return raw.Bytes()
}

// imageOf makes an image of layers, each with a build instruction of its own.
func imageOf(t *testing.T, layers ...[]byte) testImage {
	t.Helper()
	return imageOfType(t, "application/vnd.oci.image.layer.v1.tar+gzip", layers...)
}

// imageOfType is imageOf with the media type of the layers.
func imageOfType(t *testing.T, mediaType string, layers ...[]byte) testImage {
	t.Helper()
	img := testImage{blobs: map[oci.Digest][]byte{}}
	add := func(mediaType string, content []byte) oci.Descriptor {
		d := oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf(oci.SHA256, content), Size: int64(len(content))}
		img.blobs[d.Digest] = content
		return d
	}
	type step struct {
		CreatedBy  string `json:"created_by"`
		EmptyLayer bool   `json:"empty_layer,omitempty"`
	}
	history := []step{{CreatedBy: "ENV A=b", EmptyLayer: true}}
	doc := map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest}
	ds := []oci.Descriptor{}
	for i, l := range layers {
		ds = append(ds, add(mediaType, l))
		history = append(history, step{CreatedBy: "/bin/sh -c step " + string(rune('1'+i))})
	}
	config, err := json.Marshal(map[string]any{"os": "linux", "architecture": "amd64", "history": history})
	if err != nil {
		t.Fatal(err)
	}
	doc["config"], doc["layers"] = add(oci.MediaTypeImageConfig, config), ds
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	if img.manifest, err = oci.ParseManifest(oci.MediaTypeImageManifest, raw); err != nil {
		t.Fatal(err)
	}
	return img
}

// alpine is the metadata of a real Alpine 3.10.4 image.
func alpine(t *testing.T) testImage {
	t.Helper()
	return imageOf(t, layerOf(t, map[string]string{"etc/os-release": testdata(t, "alpine-3.10-os-release")}),
		layerOf(t, map[string]string{"lib/apk/db/installed": testdata(t, "alpine-3.10-installed")}))
}

func testdata(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// opensslFlaw is a critical advisory on openssl of Alpine 3.10, fixed in the version given.
func opensslFlaw(fixed string) vuln.Advisory {
	return vuln.Advisory{ID: "ALPINE-CVE-2099-0001", Aliases: []string{"CVE-2099-0001"}, Source: "test", Summary: "a flaw",
		Severity: []vuln.Rating{{Source: "NVD", Severity: vuln.Critical, Score: 9.8}},
		Affected: []vuln.Affected{{Ecosystem: "Alpine:v3.10", Name: "openssl",
			Ranges: []vuln.Range{{Events: []vuln.Event{{Introduced: "0"}, {Fixed: fixed}}}}}}}
}

// writeLayout lays images out as an OCI image layout; the first is tagged "one".
func writeLayout(t *testing.T, images ...testImage) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, content []byte) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	index := map[string]any{"schemaVersion": 2}
	var ds []oci.Descriptor
	for i, img := range images {
		for d, content := range img.blobs {
			write("blobs/sha256/"+d.Hex(), content)
		}
		write("blobs/sha256/"+img.manifest.Digest.Hex(), img.manifest.Raw)
		d := img.manifest.Descriptor
		if i == 0 {
			d.Annotations = map[string]string{refName: "one"}
		}
		ds = append(ds, d)
	}
	index["manifests"] = ds
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	write("index.json", raw)
	write("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	return dir
}

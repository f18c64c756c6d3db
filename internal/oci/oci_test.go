package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

const (
	hex64  = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	hex128 = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
)

func TestParseDigest(t *testing.T) {
	for _, s := range []string{"sha256:" + hex64, "sha512:" + hex128} {
		d, err := ParseDigest(s)
		if err != nil || d.String() != s || string(d.Algorithm())+":"+d.Hex() != s || d.IsZero() || d.Short() != s[7:19] {
			t.Errorf("ParseDigest(%q) = %v, %v", s, d, err)
		}
	}
	for _, s := range []string{"", ":", "sha256", "sha256:", hex64, "sha256:" + hex64[1:], "sha256:" + hex64 + "0", "sha256:" + strings.ToUpper(hex64),
		"SHA256:" + hex64, "md5:d41d8cd98f00b204e9800998ecf8427e", "sha512:" + hex64, "sha256:" + hex64[:63] + "g", "sha256:../" + hex64[3:], " sha256:" + hex64} {
		if d, err := ParseDigest(s); !errors.Is(err, ErrDigest) || !d.IsZero() {
			t.Errorf("ParseDigest(%q) = %v, %v; want ErrDigest", s, d, err)
		}
	}
	if d := DigestOf(SHA256, nil); d.String() != "sha256:"+hex64 {
		t.Errorf("SHA-256 of nothing = %s", d)
	}
	if d := DigestOf(SHA512, nil); d.String() != "sha512:"+hex128 {
		t.Errorf("SHA-512 of nothing = %s", d)
	}
	var zero Digest
	if zero.String()+zero.Hex()+string(zero.Algorithm())+zero.Short() != "" {
		t.Error("the zero Digest is not empty")
	}
}

func TestDigestText(t *testing.T) {
	var v struct{ D Digest }
	if err := json.Unmarshal([]byte(`{"D":"sha256:`+hex64+`"}`), &v); err != nil || v.D.Hex() != hex64 {
		t.Errorf("Unmarshal = %v, %v", v.D, err)
	}
	if err := json.Unmarshal([]byte(`{"D":"sha256:short"}`), &v); !errors.Is(err, ErrDigest) || v.D.Hex() != hex64 {
		t.Errorf("Unmarshal of a broken one = %v, %v; want ErrDigest and the value as it was", v.D, err)
	}
	if err := json.Unmarshal([]byte(`{"D":""}`), &v); err != nil || !v.D.IsZero() {
		t.Errorf("Unmarshal of nothing = %v, %v", v.D, err)
	}
}

func TestParseRepository(t *testing.T) {
	for _, s := range []string{"a", "app", "team/app", "a/b/c/d", "a.b", "a_b", "a__b", "a-b", "a---b", "0", "a/0", strings.Repeat("a", 255)} {
		if r, err := ParseRepository(s); err != nil || r.String() != s || r.IsZero() {
			t.Errorf("ParseRepository(%q) = %v, %v", s, r, err)
		}
	}
	for _, s := range []string{"", "/", "/a", "a/", "a//b", "A", "a..b", "a___b", "a._b", "-a", "a-", "_a", ".a", "a.", "a b", "a\n", "a:1", "é",
		"..", "a/../b", strings.Repeat("a", 256)} {
		if r, err := ParseRepository(s); !errors.Is(err, ErrName) || !r.IsZero() {
			t.Errorf("ParseRepository(%q) = %v, %v; want ErrName", s, r, err)
		}
	}
}

func TestParseReference(t *testing.T) {
	for _, s := range []string{"latest", "1.0", "_x", "A", strings.Repeat("t", 128), "sha256:" + hex64} {
		r, err := ParseReference(s)
		if err != nil || r.String() != s || (r.Tag == "") == r.Digest.IsZero() {
			t.Errorf("ParseReference(%q) = %+v, %v", s, r, err)
		}
	}
	for s, want := range map[string]error{"": ErrTag, ".x": ErrTag, "-x": ErrTag, "a b": ErrTag, "a/b": ErrTag, strings.Repeat("t", 129): ErrTag, "a:b": ErrDigest, "a\n": ErrTag} {
		if r, err := ParseReference(s); !errors.Is(err, want) || r != (Reference{}) {
			t.Errorf("ParseReference(%q) = %+v, %v; want %v", s, r, err, want)
		}
	}
}

func TestParseImage(t *testing.T) {
	for in, want := range map[string]string{
		"app":                                   "app latest",
		"team/app:1.0":                          "team/app 1.0",
		"team/app@sha256:" + hex64:              "team/app sha256:" + hex64,
		"team/app:1.0@sha256:" + hex64:          "team/app sha256:" + hex64,
		"":                                      "",
		"app:":                                  "",
		":1":                                    "",
		"app@":                                  "",
		"app@latest":                            "",
		"App:1":                                 "",
		"registry.example:5000/team/app:1.0":    "",
		"registry.example/team/app:1.0":         "registry.example/team/app 1.0",
		"app@sha256:" + hex64 + "@sha256:" + "": "",
	} {
		repo, ref, err := ParseImage(in)
		got := ""
		if err == nil {
			got = repo.String() + " " + ref.String()
		}
		if got != want {
			t.Errorf("ParseImage(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func descriptor(mediaType string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":"sha256:%s","size":2}`, mediaType, hex64)
}

func image(extra string) string {
	return `{"schemaVersion":2,"mediaType":"` + MediaTypeImageManifest + `","config":` + descriptor(MediaTypeImageConfig) +
		`,"layers":[` + descriptor("application/vnd.oci.image.layer.v1.tar+gzip") + `]` + extra + `}`
}

func index(extra string) string {
	return `{"schemaVersion":2,"mediaType":"` + MediaTypeImageIndex + `","manifests":[` + descriptor(MediaTypeImageManifest) + `]` + extra + `}`
}

func TestParseManifest(t *testing.T) {
	m, err := ParseManifest("", []byte(image(`,"annotations":{"a":"1","A":"2"},"subject":`+descriptor(MediaTypeImageManifest))))
	if err != nil {
		t.Fatal(err)
	}
	if !m.IsImage() || m.IsIndex() || len(m.Layers) != 1 || len(m.Blobs()) != 2 || m.Subject == nil || m.ArtifactType != MediaTypeImageConfig ||
		m.Annotations["A"] != "2" || m.Digest != DigestOf(SHA256, m.Raw) || m.Size != int64(len(m.Raw)) {
		t.Errorf("image: %+v", m)
	}
	m, err = ParseManifestAs(SHA512, MediaTypeImageIndex+"; charset=utf-8", []byte(index(`,"artifactType":"x/y"`)))
	if err != nil {
		t.Fatal(err)
	}
	if m.IsImage() || !m.IsIndex() || len(m.Manifests) != 1 || m.Blobs() != nil || m.ArtifactType != "x/y" || m.Digest.Algorithm() != SHA512 {
		t.Errorf("index: %+v", m)
	}
	for name, raw := range map[string]string{
		"extensions":              image(`,"org.example":{"Layers":[],"layers":[{"MEDIATYPE":1}]}`),
		"an empty index":          `{"schemaVersion":2,"mediaType":"` + MediaTypeImageIndex + `","manifests":[]}`,
		"numbers beyond an int64": image(`,"x":123456789012345678901234567890`),
		"without layers":          strings.Replace(image(""), `,"layers":[`+descriptor("application/vnd.oci.image.layer.v1.tar+gzip")+`]`, "", 1),
	} {
		if _, err := ParseManifest("", []byte(raw)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseManifestRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ mediaType, raw, says string }{
		"nothing":                {"", "", "JSON"},
		"null":                   {"", "null", "media type"},
		"an array":               {"", "[]", "JSON"},
		"cut off":                {"", image("")[:50], "JSON"},
		"two documents":          {"", image("") + image(""), "follows"},
		"no media type":          {"", `{"schemaVersion":2}`, "media type"},
		"broken media type":      {"/;;", image(""), "Content-Type"},
		"another media type":     {MediaTypeImageIndex, image(""), "Content-Type says"},
		"Docker schema 1":        {MediaTypeDockerManifest, `{"schemaVersion":2,"fsLayers":[],"config":` + descriptor("x") + `}`, "schema 1"},
		"schema version 1":       {MediaTypeImageManifest, `{"schemaVersion":1}`, "schemaVersion"},
		"no config":              {MediaTypeImageManifest, `{"schemaVersion":2}`, "config is missing"},
		"image and index":        {"", image(`,"manifests":[]`), "must not have manifests"},
		"index and image":        {"", index(`,"layers":[]`), "must not have config or layers"},
		"index without a list":   {MediaTypeImageIndex, `{"schemaVersion":2}`, "manifests is missing"},
		"negative size":          {"", strings.Replace(image(""), `"size":2`, `"size":-2`, 1), "config.size"},
		"no digest":              {"", strings.Replace(image(""), `"digest":"sha256:`+hex64+`",`, "", 1), "config.digest"},
		"unknown digest":         {"", strings.Replace(image(""), "sha256:", "sha257:", 1), "sha257"},
		"subject without type":   {"", image(`,"subject":{"digest":"sha256:` + hex64 + `","size":1}`), "subject.mediaType"},
		"layers twice":           {"", image(`,"layers":[]`), "twice"},
		"escaped key twice":      {"", image(`,"l\u0061yers":[]`), "twice"},
		"Layers":                 {"", image(`,"Layers":[]`), "other letters"},
		"long s":                 {"", image(`,"layer\u017f":[]`), "other letters"},
		"Digest in a descriptor": {"", strings.Replace(image(""), `"size":2`, `"size":2,"Digest":"sha256:`+strings.Repeat("0", 64)+`"`, 1), "other letters"},
		"OS in a platform":       {"", strings.Replace(index(""), `"size":2`, `"size":2,"platform":{"os":"linux","OS":"windows"}`, 1), "other letters"},
		"an annotation twice":    {"", image(`,"annotations":{"a":"1","a":"2"}`), "twice"},
		"too large":              {"", image("") + strings.Repeat(" ", MaxManifestSize), "at most"},
		"too many layers":        {"", strings.Replace(image(""), `"layers":[`, `"layers":[`+strings.Repeat(descriptor("x")+",", MaxDescriptors), 1), "at most 10000"},
		"endlessly nested":       {"", image(`,"x":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000)), "JSON"},
	} {
		if _, err := ParseManifest(tc.mediaType, []byte(tc.raw)); !errors.Is(err, ErrManifest) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v; want ErrManifest that says %q", name, err, tc.says)
		}
	}
}

func TestErrorStatus(t *testing.T) {
	for code, want := range map[string]int{
		CodeBlobUnknown: 404, CodeBlobUploadInvalid: 400, CodeBlobUploadUnknown: 404, CodeDigestInvalid: 400, CodeManifestBlobUnknown: 400,
		CodeManifestInvalid: 400, CodeManifestUnknown: 404, CodeNameInvalid: 400, CodeNameUnknown: 404, CodeSizeInvalid: 400,
		CodeUnauthorized: 401, CodeDenied: 403, CodeUnsupported: 405, CodeQueryInvalid: 400, CodeTooManyRequests: 429, CodeTagInvalid: 400, CodeRangeInvalid: 416,
		CodePaginationInvalid: 400, CodeUnavailable: 503, CodeUnknown: 500, "": http.StatusInternalServerError,
	} {
		if got := Errorf(code, "x").Status(); got != want {
			t.Errorf("%s: status %d, want %d", code, got, want)
		}
	}
	err := fmt.Errorf("wrapped: %w", Errorf(CodeBlobUnknown, "x"))
	if !errors.Is(err, &Error{Code: CodeBlobUnknown}) || errors.Is(err, &Error{Code: CodeDenied}) {
		t.Error("errors.Is does not go by the code")
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add(MediaTypeImageManifest, []byte(image("")))
	f.Add("", []byte(index(`,"subject":`+descriptor("x"))))
	f.Fuzz(func(t *testing.T, mediaType string, raw []byte) {
		m, err := ParseManifest(mediaType, raw)
		if err != nil {
			if !errors.Is(err, ErrManifest) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if m.IsIndex() && m.Layers != nil || !m.IsIndex() && m.Manifests != nil || m.Digest != DigestOf(SHA256, raw) {
			t.Fatalf("%q as %q: %+v", raw, mediaType, m)
		}
		for _, d := range append(m.Blobs(), m.Manifests...) {
			if d.Digest.IsZero() || d.Size < 0 {
				t.Fatalf("%q: descriptor %+v", raw, d)
			}
		}
	})
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"team/app:1.0", "a@sha256:" + hex64, "sha512:" + hex128, "_x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseDigest(s); err == nil && d.String() != s {
			t.Fatalf("digest %q became %q", s, d)
		}
		if r, err := ParseRepository(s); err == nil && (r.String() != s || strings.Contains(s, "..") || strings.HasPrefix(s, "/")) {
			t.Fatalf("repository %q", s)
		}
		if repo, ref, err := ParseImage(s); err == nil && (repo.IsZero() || ref == (Reference{})) {
			t.Fatalf("image %q: %v %v", s, repo, ref)
		}
	})
}

func TestIsImage(t *testing.T) {
	const (
		layer  = "application/vnd.oci.image.layer.v1.tar+gzip"
		cosign = "application/vnd.dev.cosign.simplesigning.v1+json"
		blob   = "application/x-blob"
	)
	for _, tc := range []struct {
		name, manifest, config string
		layers                 []string
		want                   bool
	}{
		{"image", MediaTypeImageManifest, MediaTypeImageConfig, []string{layer}, true},
		{"image whose layers are called otherwise", MediaTypeImageManifest, MediaTypeImageConfig, []string{blob}, true},
		{"docker's", MediaTypeDockerManifest, blob, []string{blob}, true},
		{"docker plugin", MediaTypeImageManifest, "application/vnd.docker.plugin.v1+json", []string{blob}, true},
		{"type that docker takes for an image's, octets", MediaTypeImageManifest, "application/octet-stream", []string{blob}, true},
		{"type that docker takes for an image's, JSON", MediaTypeImageManifest, "application/json", []string{blob}, true},
		{"type that docker takes for an image's, HTML", MediaTypeImageManifest, "text/html", []string{blob}, true},
		{"type with a parameter", MediaTypeImageManifest, MediaTypeImageConfig + "; a=b", []string{blob}, true},
		{"unknown config, image layers", MediaTypeImageManifest, blob, []string{blob, layer}, true},
		{"empty config, a configuration among the layers", MediaTypeImageManifest, MediaTypeEmptyJSON, []string{MediaTypeImageConfig, layer}, true},
		{"files with the types that oras gives", MediaTypeImageManifest, MediaTypeEmptyJSON, []string{layer}, false},
		{"chart", MediaTypeImageManifest, "application/vnd.cncf.helm.config.v1+json", []string{"application/vnd.cncf.helm.chart.content.v1.tar+gzip"}, false},
		{"signature", MediaTypeImageManifest, MediaTypeEmptyJSON, []string{cosign}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := Manifest{Descriptor: Descriptor{MediaType: tc.manifest}, Config: Descriptor{MediaType: tc.config, Size: 2}}
			for _, l := range tc.layers {
				m.Layers = append(m.Layers, Descriptor{MediaType: l})
			}
			if got := m.IsImage(); got != tc.want {
				t.Errorf("IsImage() = %v, want %v", got, tc.want)
			}
		})
	}
}

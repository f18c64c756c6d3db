package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"
)

// Media types of manifests that are parsed (image-spec media-types.md; Docker
// "Image Manifest Version 2, Schema 2").
const (
	MediaTypeImageManifest  = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeImageIndex     = "application/vnd.oci.image.index.v1+json"
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeImageConfig    = "application/vnd.oci.image.config.v1+json"
	MediaTypeDockerConfig   = "application/vnd.docker.container.image.v1+json"
	MediaTypeEmptyJSON      = "application/vnd.oci.empty.v1+json"
)

// MaxManifestSize is the largest manifest accepted, in bytes: the 4 MiB that the
// distribution specification asks registries to take at least.
const MaxManifestSize = 4 << 20

// MaxDescriptors bounds the layers, or the manifests of an index, in one manifest.
const MaxDescriptors = 10_000

// ErrManifest says that a manifest's bytes do not hold what its media type promises.
var ErrManifest = errors.New("invalid manifest")

// Platform is what an image runs on (image-spec image-index.md).
type Platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
}

// String returns the platform as docker's --platform takes it, "linux/arm64/v8".
func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// Descriptor says what content is and how to find it (image-spec descriptor.md).
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       Digest            `json:"digest"`
	Size         int64             `json:"size"`
	URLs         []string          `json:"urls,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Data         []byte            `json:"data,omitempty"`
	Platform     *Platform         `json:"platform,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
}

// Manifest is a parsed image manifest or index together with the bytes it was
// parsed from. Its Descriptor's digest is of Raw.
type Manifest struct {
	Descriptor
	Raw       []byte
	Config    Descriptor   // image manifests; zero for an index
	Layers    []Descriptor // image manifests, lowest first
	Manifests []Descriptor // indexes
	Subject   *Descriptor  // what this manifest refers to, if anything
}

// IsIndex says whether m lists manifests instead of layers.
func (m Manifest) IsIndex() bool { return isIndex(m.MediaType) }

// IsImage says whether a client could unpack m to a root file system. Signatures,
// SBOMs, charts and other artifacts are no images. In doubt it is one: Docker's own
// manifests always are, whatever names a configuration that some client takes for an
// image's, and whatever has layers of an image's media types beside a config that is
// not empty.
func (m Manifest) IsImage() bool {
	switch {
	case m.IsIndex():
		return false
	case m.MediaType == MediaTypeDockerManifest, isConfigType(m.Config.MediaType):
		return true
	}
	layers := false
	for _, l := range m.Layers {
		// containerd unpacks all layers for any part of the manifest that is a configuration by its type.
		if l.MediaType == MediaTypeImageConfig || l.MediaType == MediaTypeDockerConfig {
			return true
		}
		layers = layers || IsLayerType(l.MediaType)
	}
	if m.Config.MediaType == MediaTypeEmptyJSON && m.Config.Size == int64(len("{}")) {
		return false
	}
	return layers
}

// isConfigType says whether some client runs a manifest whose config is of this type:
// Docker takes all that begins as its own or OCI's image types do, and three types that old
// registries gave by mistake (moby, distribution/registry.go: supportedMediaTypes).
func isConfigType(mediaType string) bool {
	t := strings.ToLower(mediaType)
	switch t {
	case "application/octet-stream", "application/json", "text/html":
		return true
	}
	return strings.HasPrefix(t, "application/vnd.oci.image") || strings.HasPrefix(t, "application/vnd.docker")
}

// IsLayerType says whether content of this media type is a layer of an image's root
// file system (image-spec layer.md; Docker image manifest version 2).
func IsLayerType(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.") ||
		strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.")
}

// IsForeignType says whether layers of this media type may not be distributed by a
// registry: clients fetch them from elsewhere (image-spec layer.md, "Non-Distributable
// Layers"; Docker's foreign layers).
func IsForeignType(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.") ||
		strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.foreign.")
}

// Blobs returns what an image manifest needs from the blob store: its config and
// its layers, those with foreign URLs included.
func (m Manifest) Blobs() []Descriptor {
	if m.IsIndex() {
		return nil
	}
	return append([]Descriptor{m.Config}, m.Layers...)
}

func isIndex(mediaType string) bool {
	return mediaType == MediaTypeImageIndex || mediaType == MediaTypeDockerList
}

// IsManifestType says whether content of this media type can be stored as a manifest.
func IsManifestType(mediaType string) bool {
	return isIndex(mediaType) || mediaType == MediaTypeImageManifest || mediaType == MediaTypeDockerManifest
}

// wire is the union of the four manifest documents.
type wire struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *Descriptor       `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Manifests     []Descriptor      `json:"manifests"`
	FSLayers      json.RawMessage   `json:"fsLayers"`
	Subject       *Descriptor       `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

// ParseManifest checks raw against the document that mediaType names and returns
// its parts. An empty mediaType is taken from the document itself. The digest is
// SHA-256; ParseManifestAs computes another. Errors wrap ErrManifest and name the field.
func ParseManifest(mediaType string, raw []byte) (Manifest, error) {
	return ParseManifestAs(SHA256, mediaType, raw)
}

// ParseManifestAs is ParseManifest with the algorithm of the digest given.
func ParseManifestAs(a Algorithm, mediaType string, raw []byte) (Manifest, error) {
	if len(raw) > MaxManifestSize {
		return Manifest{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrManifest, len(raw), MaxManifestSize)
	}
	if mediaType != "" {
		t, _, err := mime.ParseMediaType(mediaType)
		if err != nil {
			return Manifest{}, fmt.Errorf("%w: Content-Type %.100q is not a media type", ErrManifest, mediaType)
		}
		mediaType = t
	}
	var w wire
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := dec.Decode(&w); err != nil {
		return Manifest{}, fmt.Errorf("%w: not the JSON of a manifest: %w", ErrManifest, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Manifest{}, fmt.Errorf("%w: something follows the JSON document", ErrManifest)
	}
	if err := checkKeys(raw); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if mediaType == "" {
		mediaType = w.MediaType
	}
	if w.MediaType != "" && w.MediaType != mediaType {
		return Manifest{}, fmt.Errorf("%w: mediaType is %.100q, but Content-Type says %.100q", ErrManifest, w.MediaType, mediaType)
	}
	if !IsManifestType(mediaType) {
		return Manifest{}, fmt.Errorf("%w: media type %.100q is not supported; use an OCI image manifest or index, or Docker schema 2", ErrManifest, mediaType)
	}
	if w.SchemaVersion != 2 {
		return Manifest{}, fmt.Errorf("%w: schemaVersion is %d, expected 2", ErrManifest, w.SchemaVersion)
	}
	if err := w.check(isIndex(mediaType)); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	m := Manifest{Raw: raw, Layers: w.Layers, Manifests: w.Manifests, Subject: w.Subject}
	m.Descriptor = Descriptor{MediaType: mediaType, Digest: DigestOf(a, raw), Size: int64(len(raw)),
		ArtifactType: w.ArtifactType, Annotations: w.Annotations}
	if w.Config != nil {
		m.Config = *w.Config
		if m.ArtifactType == "" && !isIndex(mediaType) {
			m.ArtifactType = m.Config.MediaType
		}
	}
	return m, nil
}

// check refuses a document that mixes the kinds (an image that could be read as an
// index by another client, CVE-2021-41190) or whose descriptors are incomplete.
func (w *wire) check(index bool) error {
	if w.FSLayers != nil {
		return errors.New("fsLayers: Docker schema 1 is not supported")
	}
	if index {
		if w.Config != nil || w.Layers != nil {
			return errors.New("an index must not have config or layers")
		}
		if w.Manifests == nil {
			return errors.New("manifests is missing")
		}
	} else {
		if w.Manifests != nil {
			return errors.New("an image manifest must not have manifests")
		}
		if w.Config == nil {
			return errors.New("config is missing")
		}
		if err := w.Config.check("config"); err != nil {
			return err
		}
	}
	if n := len(w.Layers) + len(w.Manifests); n > MaxDescriptors {
		return fmt.Errorf("%d descriptors, at most %d are allowed", n, MaxDescriptors)
	}
	for i, d := range w.Layers {
		if err := d.check(fmt.Sprintf("layers[%d]", i)); err != nil {
			return err
		}
	}
	for i, d := range w.Manifests {
		if err := d.check(fmt.Sprintf("manifests[%d]", i)); err != nil {
			return err
		}
	}
	if w.Subject != nil {
		return w.Subject.check("subject")
	}
	return nil
}

func (d Descriptor) check(field string) error {
	if d.Digest.IsZero() {
		return fmt.Errorf("%s.digest is missing", field)
	}
	if d.Size < 0 {
		return fmt.Errorf("%s.size is %d, expected 0 or more", field, d.Size)
	}
	if d.MediaType == "" {
		return fmt.Errorf("%s.mediaType is missing", field)
	}
	return nil
}

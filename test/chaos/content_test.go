package chaos

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
)

// Media types of what is pushed.
const (
	imageType  = "application/vnd.oci.image.manifest.v1+json"
	indexType  = "application/vnd.oci.image.index.v1+json"
	configType = "application/vnd.oci.image.config.v1+json"
	layerType  = "application/vnd.oci.image.layer.v1.tar"
	emptyType  = "application/vnd.oci.empty.v1+json"
)

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int    `json:"size"`
}

func describe(mediaType string, b []byte) descriptor {
	return descriptor{mediaType, digestOf(b), len(b)}
}

// manifest is an image, an index or an artifact as OCI writes it.
type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	ArtifactType  string       `json:"artifactType,omitempty"`
	Config        *descriptor  `json:"config,omitempty"`
	Layers        []descriptor `json:"layers,omitempty"`
	Manifests     []descriptor `json:"manifests,omitempty"`
	Subject       *descriptor  `json:"subject,omitempty"`
}

func (m manifest) encode() []byte {
	m.SchemaVersion = 2
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // plain data
	}
	return b
}

// layer is a tar with one file of random bytes.
func layer(r *rand.Rand, size int) []byte {
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(r.Uint32())
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	name := fmt.Sprintf("data/%016x", r.Uint64())
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(size)}); err != nil {
		panic(err) // in memory
	}
	if _, err := w.Write(body); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// config is the config of an image of these layers.
func config(layers ...[]byte) []byte {
	var ids []string
	for _, l := range layers {
		ids = append(ids, digestOf(l))
	}
	b, err := json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids}})
	if err != nil {
		panic(err) // plain data
	}
	return b
}

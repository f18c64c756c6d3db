package scan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"pratique.dev/pratique/internal/oci"
)

// refName is the annotation that carries an image's tag in a layout (image-spec annotations.md).
const refName = "org.opencontainers.image.ref.name"

// layoutFS is where the files of an OCI layout are: a folder, or an archive of one.
type layoutFS interface {
	open(name string) (io.ReadCloser, error) // fs.ErrNotExist if there is none
}

// layoutTarget is an OCI image layout (image-spec image-layout.md).
type layoutTarget struct {
	name  string
	tag   string // "" means all images
	files layoutFS
	close func() error
}

func openLayout(name string) (Target, error) {
	dir, tag := name, ""
	if !isLayout(dir) {
		var ok bool
		if dir, tag, ok = cutTag(name); !ok || !isLayout(dir) {
			return nil, fmt.Errorf("%s is no OCI layout: it has no file oci-layout", name)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open layout: %w", err)
	}
	return &layoutTarget{name: name, tag: tag, files: folder{root}, close: root.Close}, nil
}

// folder reads the files of a layout without leaving it.
type folder struct{ root *os.Root }

func (f folder) open(name string) (io.ReadCloser, error) { return f.root.Open(name) }

func (t *layoutTarget) Name() string { return t.name }
func (t *layoutTarget) Close() error { return t.close() }

// Roots gives the image with the tag asked for, else all that index.json lists.
func (t *layoutTarget) Roots(context.Context) ([]oci.Descriptor, error) {
	r, err := t.files.open("index.json")
	if err != nil {
		return nil, fmt.Errorf("%s: index.json: %w", t.name, err)
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, oci.MaxManifestSize+1))
	if err != nil {
		return nil, fmt.Errorf("%s: index.json: %w", t.name, err)
	}
	var index struct {
		Manifests []oci.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("%s: index.json is damaged: %w", t.name, err)
	}
	if t.tag == "" {
		return index.Manifests, nil
	}
	var tags []string
	for _, d := range index.Manifests {
		if n := d.Annotations[refName]; n == t.tag || strings.HasSuffix(n, ":"+t.tag) {
			return []oci.Descriptor{d}, nil
		} else if n != "" {
			tags = append(tags, n)
		}
	}
	return nil, fmt.Errorf("%s has no image %q; it has %s", t.name, t.tag, strings.Join(tags, ", "))
}

// Fetch opens the blob file of d.
func (t *layoutTarget) Fetch(_ context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	r, err := t.files.open("blobs/" + string(d.Digest.Algorithm()) + "/" + d.Digest.Hex())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: blob %s: %w", t.name, d.Digest, errAbsent)
	}
	return r, err
}

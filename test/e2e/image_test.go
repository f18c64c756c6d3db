package e2e

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// part is one layer of an image to be built and the build step that made it.
type part struct {
	files tree
	gz    string // instead of files: a ready gzip-compressed tar
	by    string
	comp  compression.Compression // default gzip
}

// format is how an image is written down.
type format struct {
	docker bool                    // Docker schema 2 instead of OCI
	comp   compression.Compression // of layers that say nothing, default gzip
	arch   string                  // default amd64
}

// buildImage makes an image of real layers with a history that names their steps.
func buildImage(t *testing.T, f format, parts ...part) v1.Image {
	t.Helper()
	if f.arch == "" {
		f.arch = "amd64"
	}
	var adds []mutate.Addendum
	for _, p := range parts {
		adds = append(adds, mutate.Addendum{Layer: p.layer(t, f),
			History: v1.History{CreatedBy: p.by, Created: v1.Time{Time: epoch}}})
	}
	img, err := mutate.Append(empty.Image, adds...)
	check(t, err)
	cfg, err := img.ConfigFile()
	check(t, err)
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture, cfg.Created = "linux", f.arch, v1.Time{Time: epoch}
	cfg.Config.Cmd = []string{"/bin/sh"}
	img, err = mutate.ConfigFile(img, cfg)
	check(t, err)
	if f.docker {
		return mutate.ConfigMediaType(mutate.MediaType(img, types.DockerManifestSchema2), types.DockerConfigJSON)
	}
	return mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
}

// layer packs p as the format says.
func (p part) layer(t *testing.T, f format) v1.Layer {
	t.Helper()
	comp := p.comp
	if comp == "" {
		comp = f.comp
	}
	if comp == "" {
		comp = compression.GZip
	}
	opts := []tarball.LayerOption{tarball.WithCompression(comp), tarball.WithMediaType(layerType(f.docker, comp))}
	if p.gz != "" {
		l, err := tarball.LayerFromFile(p.gz, tarball.WithMediaType(layerType(f.docker, compression.GZip)))
		check(t, err)
		return l
	}
	body := p.files.tar(t)
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }, opts...)
	check(t, err)
	return l
}

func layerType(docker bool, c compression.Compression) types.MediaType {
	switch {
	case docker && c == compression.None:
		return types.DockerUncompressedLayer
	case docker:
		return types.DockerLayer
	case c == compression.None:
		return types.OCIUncompressedLayer
	case c == compression.ZStd:
		return types.OCILayerZStd
	}
	return types.OCILayer
}

// writeLayout writes one image as an OCI layout under the tag "latest".
func writeLayout(t *testing.T, img v1.Image) string {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	check(t, err)
	check(t, p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"})))
	return dir
}

// writeIndex writes an index of images, by architecture, as an OCI layout under the tag "latest".
func writeIndex(t *testing.T, images map[string]v1.Image) (dir string, index v1.ImageIndex) {
	t.Helper()
	index = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		if img, ok := images[arch]; ok {
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img,
				Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
		}
	}
	dir = t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	check(t, err)
	check(t, p.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"})))
	return dir, index
}

// writeDockerArchive writes an image as `docker save` does.
func writeDockerArchive(t *testing.T, img v1.Image) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	tag, err := name.NewTag("example.com/app:1")
	check(t, err)
	check(t, tarball.WriteToFile(file, tag, img))
	return file
}

// writeOCIArchive writes an image as an OCI layout inside a tar file.
func writeOCIArchive(t *testing.T, img v1.Image) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image-oci.tar")
	f, err := os.Create(file)
	check(t, err)
	w := tar.NewWriter(f)
	check(t, w.AddFS(os.DirFS(writeLayout(t, img))))
	check(t, errors.Join(w.Close(), f.Close()))
	return file
}

// digest returns the digest of an image or index as text.
func digest(t *testing.T, d interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := d.Digest()
	check(t, err)
	return h.String()
}

// debian is the layer that most images stand on.
func debian(t *testing.T) part {
	t.Helper()
	return part{gz: debianLayer(t), by: "/bin/sh -c #(nop) ADD file:bookworm.tar in /"}
}

// npmPart is a layer with one package of the npm registry.
func npmPart(t *testing.T, spec string) part {
	t.Helper()
	return part{files: npm(t, spec), by: "RUN /bin/sh -c npm install " + spec}
}

package scan

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/klauspost/compress/zstd"

	"pratique.dev/pratique/internal/inflate"
	"pratique.dev/pratique/internal/oci"
)

// Bounds of an archive that is scanned.
const (
	maxArchiveEntries = 100_000
	maxArchiveBytes   = 64 << 30 // unpacked size of a compressed archive, spooled to a temporary file
	maxArchiveLinks   = 16       // links followed one after another
)

// openArchive opens an image in a tar file: an OCI layout in an archive, or what
// docker save writes. A compressed archive is unpacked to a temporary file first.
func openArchive(ctx context.Context, name, tempDir string) (Target, error) {
	file, tag := name, ""
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		if f, t, ok := cutTag(name); ok {
			file, tag = f, t
		}
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	a := &archive{name: name, f: f}
	if err := a.unpack(ctx, tempDir); err != nil {
		a.Close()
		return nil, fmt.Errorf("archive %s: %w", name, err)
	}
	if err := a.index(ctx); err != nil {
		a.Close()
		return nil, fmt.Errorf("archive %s: %w", name, err)
	}
	if _, ok := a.entries["index.json"]; ok {
		return &layoutTarget{name: name, tag: tag, files: a, close: a.Close}, nil
	}
	if _, ok := a.entries["manifest.json"]; ok {
		return newSaved(a, tag)
	}
	a.Close()
	return nil, fmt.Errorf("archive %s holds neither index.json (OCI) nor manifest.json (docker save); a root file system's tar must be unpacked first", name)
}

// archive gives random access to the entries of a tar file.
type archive struct {
	name    string
	f       *os.File
	temp    bool
	entries map[string]entry
}

type entry struct {
	offset, size int64
	link         string
}

func (a *archive) Close() error {
	if a.temp {
		defer os.Remove(a.f.Name())
	}
	return a.f.Close()
}

// unpack replaces a compressed archive by a temporary file with its content.
func (a *archive) unpack(ctx context.Context, tempDir string) error {
	head := make([]byte, 4)
	if _, err := a.f.ReadAt(head, 0); err != nil && err != io.EOF {
		return err
	}
	var r io.Reader
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		r = inflate.NewReader(a.f)
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(a.f, zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return err
		}
		defer z.Close()
		r = z
	default:
		return nil
	}
	temp, err := os.CreateTemp(tempDir, "pratique-archive-*.tar")
	if err != nil {
		return err
	}
	packed := a.f
	defer packed.Close()
	a.f, a.temp = temp, true
	n, err := io.Copy(temp, io.LimitReader(&contextReader{ctx, r}, maxArchiveBytes+1))
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	if n > maxArchiveBytes {
		return fmt.Errorf("unpacks to more than %d bytes", int64(maxArchiveBytes))
	}
	return nil
}

// contextReader ends a long copy with its context.
type contextReader struct {
	ctx context.Context //nolint:containedctx // an io.Reader cannot take one
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// index notes where each entry lies; a later entry replaces an earlier one.
func (a *archive) index(ctx context.Context) error {
	if _, err := a.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	a.entries = map[string]entry{}
	tr := tar.NewReader(a.f)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("not a tar archive, or a damaged one: %w", err)
		}
		if len(a.entries) == maxArchiveEntries {
			return fmt.Errorf("more than %d entries", maxArchiveEntries)
		}
		name := path.Clean("/" + h.Name)[1:]
		switch h.Typeflag {
		case tar.TypeReg:
			// archive/tar reads headers without buffering, so that the file stands at the content.
			off, err := a.f.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			a.entries[name] = entry{offset: off, size: h.Size}
		case tar.TypeSymlink:
			a.entries[name] = entry{link: path.Clean("/" + path.Join(path.Dir(name), h.Linkname))[1:]}
		case tar.TypeLink:
			a.entries[name] = entry{link: path.Clean("/" + h.Linkname)[1:]}
		}
	}
}

// open gives an entry's content, following links within the archive.
func (a *archive) open(name string) (io.ReadCloser, error) {
	for range maxArchiveLinks {
		e, ok := a.entries[name]
		if !ok {
			return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		if e.link == "" {
			return io.NopCloser(io.NewSectionReader(a.f, e.offset, e.size)), nil
		}
		name = e.link
	}
	return nil, fmt.Errorf("%s: too many links", name)
}

// size is the number of bytes of an entry, links followed; 0 if there is none.
func (a *archive) size(name string) int64 {
	for range maxArchiveLinks {
		e := a.entries[name]
		if e.link == "" {
			return e.size
		}
		name = e.link
	}
	return 0
}

// savedTarget is what docker save wrote: manifest.json names the config and the
// layers' files. Layers are uncompressed, so that their digests are the diff ids.
type savedTarget struct {
	*archive
	images []savedImage
	files  map[oci.Digest]string
	made   map[oci.Digest]oci.Manifest
}

type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func newSaved(a *archive, tag string) (Target, error) {
	t := &savedTarget{archive: a, files: map[oci.Digest]string{}, made: map[oci.Digest]oci.Manifest{}}
	raw, err := t.read("manifest.json")
	if err != nil {
		a.Close()
		return nil, fmt.Errorf("archive %s: %w", a.name, err)
	}
	if err := json.Unmarshal(raw, &t.images); err != nil {
		a.Close()
		return nil, fmt.Errorf("archive %s: manifest.json is damaged: %w", a.name, err)
	}
	if tag != "" {
		a.Close()
		return nil, fmt.Errorf("archive %s: a tag can only be named for an OCI archive", a.name)
	}
	return t, nil
}

func (t *savedTarget) Name() string { return t.name }

func (t *savedTarget) read(name string) ([]byte, error) {
	r, err := t.open(path.Clean("/" + name)[1:])
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, oci.MaxManifestSize+1))
	if err == nil && len(raw) > oci.MaxManifestSize {
		err = fmt.Errorf("%s is larger than %d bytes", name, oci.MaxManifestSize)
	}
	return raw, err
}

// Roots makes the manifest that each saved image would have had.
func (t *savedTarget) Roots(context.Context) ([]oci.Descriptor, error) {
	var out []oci.Descriptor
	for i, img := range t.images {
		m, err := t.make(img)
		if err != nil {
			return nil, fmt.Errorf("archive %s: manifest.json[%d]: %w", t.name, i, err)
		}
		t.made[m.Digest] = m
		out = append(out, m.Descriptor)
	}
	return out, nil
}

func (t *savedTarget) make(img savedImage) (oci.Manifest, error) {
	config, err := t.read(img.Config)
	if err != nil {
		return oci.Manifest{}, fmt.Errorf("Config: %w", err)
	}
	var c struct {
		RootFS struct {
			DiffIDs []oci.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return oci.Manifest{}, fmt.Errorf("Config %s is damaged: %w", img.Config, err)
	}
	if len(c.RootFS.DiffIDs) != len(img.Layers) {
		return oci.Manifest{}, fmt.Errorf("%d Layers, but rootfs.diff_ids of %s lists %d", len(img.Layers), img.Config, len(c.RootFS.DiffIDs))
	}
	d := oci.Descriptor{MediaType: oci.MediaTypeDockerConfig, Digest: oci.DigestOf(oci.SHA256, config), Size: int64(len(config))}
	t.files[d.Digest] = path.Clean("/" + img.Config)[1:]
	doc := map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeDockerManifest, "config": d}
	layers := make([]oci.Descriptor, len(img.Layers))
	for i, name := range img.Layers {
		name = path.Clean("/" + name)[1:]
		layers[i] = oci.Descriptor{MediaType: "application/vnd.docker.image.rootfs.diff.tar", Digest: c.RootFS.DiffIDs[i], Size: t.size(name)}
		t.files[layers[i].Digest] = name
	}
	doc["layers"] = layers
	raw, err := json.Marshal(doc)
	if err != nil {
		return oci.Manifest{}, err
	}
	m, err := oci.ParseManifest(oci.MediaTypeDockerManifest, raw)
	if err != nil {
		return oci.Manifest{}, err
	}
	if len(img.RepoTags) > 0 {
		m.Annotations = map[string]string{refName: img.RepoTags[0]}
	}
	return m, nil
}

func (t *savedTarget) manifest(d oci.Descriptor) (oci.Manifest, error) {
	m, ok := t.made[d.Digest]
	if !ok {
		return oci.Manifest{}, fmt.Errorf("manifest %s: %w", d.Digest, errAbsent)
	}
	return m, nil
}

// Fetch opens a config's or a layer's file. A layer that was compressed all the same
// is unpacked, so that its digest is the diff id.
func (t *savedTarget) Fetch(_ context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	name, ok := t.files[d.Digest]
	if !ok {
		return nil, fmt.Errorf("%s: %s: %w", t.name, cmp.Or(d.MediaType, "content"), errAbsent)
	}
	r, err := t.open(name)
	if err != nil || d.MediaType == oci.MediaTypeDockerConfig {
		return r, err
	}
	br := bufio.NewReader(r)
	if head, err := br.Peek(2); err == nil && bytes.Equal(head, gzipMagic) {
		return io.NopCloser(inflate.NewReader(br)), nil
	}
	return io.NopCloser(br), nil
}

var gzipMagic = []byte{0x1f, 0x8b} // RFC 1952, 2.3.1

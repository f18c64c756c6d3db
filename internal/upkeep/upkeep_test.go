package upkeep

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"
	"go.uber.org/goleak"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/blob/fileblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	bg     = context.Background()
	pusher = registry.Caller{Name: "ann", Access: access.NewGrants(access.Assignment{Role: access.Owner})}
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func sum(s string) oci.Digest { return oci.DigestOf(oci.SHA256, []byte(s)) }

func repo(name string) oci.Repository { return must(oci.ParseRepository(name)) }

// house is a registry on a data folder.
type house struct {
	*Data
	reg *registry.Registry
}

// build makes a registry on a folder, with a catalog of its own if there is none.
func build(t *testing.T, dir string) *house {
	t.Helper()
	store, err := fileblob.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	cat, err := catalog.Open(bg, "sqlite:"+filepath.Join(dir, CatalogFile))
	if err != nil {
		t.Fatal(err)
	}
	h := &house{&Data{dir, store, cat}, registry.New(cat, store, registry.Options{})}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// blob pushes content.
func (h *house) blob(t *testing.T, r, content string) string {
	t.Helper()
	d := sum(content)
	err := h.reg.PutBlob(bg, repo(r), registry.Chunk{At: 0, Size: int64(len(content)), Body: strings.NewReader(content)}, d)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`"digest":%q,"size":%d`, d, len(content))
}

// put pushes a manifest.
func (h *house) put(t *testing.T, r, ref, mediaType, raw string) oci.Digest {
	t.Helper()
	p, err := h.reg.PutManifest(bg, pusher, registry.Push{Repo: repo(r), Reference: must(oci.ParseReference(ref)), MediaType: mediaType, Raw: []byte(raw)})
	if err != nil {
		t.Fatal(err)
	}
	return p.Digest
}

// image pushes an image of a config and a layer, both named after seed. Its manifest does
// not say its own media type.
func (h *house) image(t *testing.T, r, tag, seed string) oci.Digest {
	t.Helper()
	return h.put(t, r, tag, oci.MediaTypeImageManifest, fmt.Sprintf(
		`{"schemaVersion":2,"config":{"mediaType":%q,%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar",%s}]}`,
		oci.MediaTypeImageConfig, h.blob(t, r, seed+" config"), h.blob(t, r, seed+" layer")))
}

// index pushes an index of manifests that the repository has.
func (h *house) index(t *testing.T, r, tag string, children ...oci.Digest) oci.Digest {
	t.Helper()
	var list []string
	for _, d := range children {
		m, _, err := h.Cat.ToJudge(bg, d)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, oci.MediaTypeImageManifest, d, len(m.Raw)))
	}
	return h.put(t, r, tag, oci.MediaTypeImageIndex, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, oci.MediaTypeImageIndex, strings.Join(list, ",")))
}

// file is where a blob lies.
func (h *house) file(d oci.Digest) string {
	return filepath.Join(h.Dir, "blobs", string(d.Algorithm()), d.Hex()[:2], d.Hex())
}

// sql changes the catalog behind its back.
func (h *house) sql(t *testing.T, text string) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(h.Dir, CatalogFile))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(text)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// whole reads every part of every tag that the list names, as REPOSITORY:TAG.
func (h *house) whole(t *testing.T, images ...string) {
	t.Helper()
	for _, i := range images {
		r, ref, err := oci.ParseImage(i)
		if err != nil {
			t.Fatal(err)
		}
		m, err := h.Cat.Manifest(bg, r, ref)
		if err != nil {
			t.Fatal(err)
		}
		if m, err = m.Parsed(); err != nil {
			t.Fatal(err)
		}
		for _, d := range append(m.Blobs(), m.Descriptor) {
			f, err := h.Store.Open(bg, d.Digest, 0)
			if err != nil {
				t.Fatalf("%s: %v", i, err)
			}
			got, err := io.ReadAll(f)
			if err := errors.Join(err, f.Close()); err != nil || oci.DigestOf(oci.SHA256, got) != d.Digest {
				t.Fatalf("%s: %s is damaged: %v", i, d.Digest, err)
			}
		}
	}
}

// spoil changes one byte of a file.
func spoil(t *testing.T, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

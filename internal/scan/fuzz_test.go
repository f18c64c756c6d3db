package scan

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// FuzzArchive fuzzes archives as docker save and OCI tools write them, up to the bytes
// of what they say they hold.
func FuzzArchive(f *testing.F) {
	for _, files := range []map[string]string{
		{"manifest.json": `[{"Config":"c.json","RepoTags":["a:1"],"Layers":["l/layer.tar","l2"]}]`, "c.json": `{"rootfs":{"diff_ids":["x"]}}`, "l/layer.tar": "x"},
		{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
			`"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}]}`,
			"blobs/sha256/44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a": "{}"},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for name, body := range files {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(body))}); err != nil {
				f.Fatal(err)
			}
			if _, err := io.WriteString(w, body); err != nil {
				f.Fatal(err)
			}
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "l2", Linkname: "l/../l2"}); err != nil {
			f.Fatal(err)
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		dir := t.TempDir()
		name := filepath.Join(dir, "a.tar")
		if err := os.WriteFile(name, body, 0o600); err != nil {
			t.Fatal(err)
		}
		target, err := openArchive(t.Context(), name, dir)
		if err != nil {
			return
		}
		defer target.Close()
		roots, err := target.Roots(t.Context())
		if err != nil {
			return
		}
		for _, d := range roots {
			r, err := target.Fetch(t.Context(), d)
			if err != nil {
				continue
			}
			if n, err := io.Copy(io.Discard, r); err == nil && n > int64(len(body))+1<<20 {
				t.Errorf("%d bytes out of an archive of %d", n, len(body))
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

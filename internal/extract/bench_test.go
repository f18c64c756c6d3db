package extract

import (
	"archive/tar"
	"bytes"
	"go/build"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// realRoot is the folder that is packed into a layer to measure: PRATIQUE_BENCH_ROOT,
// for instance a Debian root made by debootstrap, or else the Go installation, which
// holds sources, large Go programs and archives.
func realRoot() string {
	if dir := os.Getenv("PRATIQUE_BENCH_ROOT"); dir != "" {
		return dir
	}
	return build.Default.GOROOT
}

// packed makes a gzipped layer of a folder and tells the unpacked size.
func packed(b *testing.B, dir string) (blob []byte, size int64) {
	b.Helper()
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.DefaultCompression)
	if err != nil {
		b.Fatal(err)
	}
	w := tar.NewWriter(z)
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		h, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		if h.Name, err = filepath.Rel(dir, p); err != nil {
			return err
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		n, err := io.Copy(w, f)
		size += n
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	if err := z.Close(); err != nil {
		b.Fatal(err)
	}
	return out.Bytes(), size
}

// BenchmarkLayer reads a real layer, and beside it only unpacks the same bytes: the
// floor under any reader.
func BenchmarkLayer(b *testing.B) {
	blob, size := packed(b, realRoot())
	b.Run("gunzip", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			z, err := gzip.NewReader(bytes.NewReader(blob))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, z); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("extract", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		set := New(Options{TempDir: b.TempDir()})
		for b.Loop() {
			if _, err := set.Layer(b.Context(), blobDigest, "", bytes.NewReader(blob)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

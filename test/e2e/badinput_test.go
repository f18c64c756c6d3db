package e2e

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	_ "github.com/ncruces/go-sqlite3/driver"
)

const ociManifest = "application/vnd.oci.image.manifest.v1+json"

// TestBadUpload sends blobs that are not what they are said to be; nothing of them is kept.
func TestBadUpload(t *testing.T) {
	s := sharedRegistry(t)
	body := npm(t, jqueryFixed).tar(t)
	right, wrong := sha256Digest(body), sha256Digest([]byte("something else"))
	for _, tc := range []struct{ name, digest string }{
		{"wrong digest", wrong},
		{"no digest", "latest"},
		{"short digest", "sha256:abc"},
		{"unknown algorithm", "md5:d41d8cd98f00b204e9800998ecf8427e"},
		{"empty", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			message := s.upload(t, "bad/upload", body, tc.digest).wantError(t, http.StatusBadRequest, "DIGEST_INVALID")
			if message == "\n" {
				t.Error("the refusal has no message")
			}
		})
	}
	for _, d := range []string{right, wrong} {
		s.do(t, http.MethodHead, "/v2/bad/upload/blobs/"+d, nil, "").want(t, http.StatusNotFound)
		if files := filesOf(t, s.data, d); len(files) > 0 {
			t.Errorf("the data folder keeps %q", files)
		}
	}
}

// filesOf lists the files of a data folder that are named after a digest.
func filesOf(t *testing.T, data, digest string) []string {
	t.Helper()
	_, hex, _ := strings.Cut(digest, ":")
	var out []string
	check(t, filepath.WalkDir(data, func(p string, e fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // a file that another test's request has just renamed
		}
		if err == nil && strings.Contains(e.Name(), hex) {
			out = append(out, p)
		}
		return err
	}))
	return out
}

// TestBadManifest puts manifests that do not hold together.
func TestBadManifest(t *testing.T) {
	s := sharedRegistry(t)
	img := buildImage(t, format{}, npmPart(t, jqueryFixed))
	s.pushBlobs(t, "bad/manifest", img)
	raw, err := img.RawManifest()
	check(t, err)
	layer := layerDigest(t, img, 0)
	absent := sha256Digest([]byte("never uploaded"))
	padding := bytes.Repeat([]byte(" "), 5<<20)

	for _, tc := range []struct {
		name, ref, contentType string
		body                   []byte
		status                 int
		code                   string
		says                   []string
	}{
		{"unknown blob", "1", ociManifest, bytes.ReplaceAll(raw, []byte(layer), []byte(absent)),
			http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", []string{absent}},
		{"5 MB", "1", ociManifest, append(bytes.Clone(raw), padding...), http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", []string{"4194304"}},
		{"no JSON", "1", ociManifest, []byte("hello"), http.StatusBadRequest, "MANIFEST_INVALID", []string{"JSON"}},
		{"half the JSON", "1", ociManifest, raw[:len(raw)/2], http.StatusBadRequest, "MANIFEST_INVALID", []string{"JSON"}},
		{"unknown media type", "1", "application/x-nothing", raw, http.StatusBadRequest, "MANIFEST_INVALID", []string{"media"}},
		{"another digest", absent, ociManifest, raw, http.StatusBadRequest, "DIGEST_INVALID", []string{absent}},
		{"wrong size", "1", ociManifest, resized(t, raw), http.StatusBadRequest, "MANIFEST_INVALID", []string{layer, "size"}},
		{"bad tag", "-x", ociManifest, raw, http.StatusBadRequest, "TAG_INVALID", []string{"tag"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := s.do(t, http.MethodPut, "/v2/bad/manifest/manifests/"+tc.ref, tc.body, tc.contentType)
			wantWords(t, "the refusal", a.wantError(t, tc.status, tc.code), tc.says...)
			s.do(t, http.MethodGet, "/v2/bad/manifest/manifests/1", nil, "").want(t, http.StatusNotFound)
		})
	}
	s.putManifest(t, "bad/manifest", "1", img).want(t, http.StatusCreated)
}

// resized is a manifest whose layer is said to be one byte longer than it is.
func resized(t *testing.T, raw []byte) []byte {
	t.Helper()
	var m map[string]any
	check(t, json.Unmarshal(raw, &m))
	layer := m["layers"].([]any)[0].(map[string]any)
	layer["size"] = layer["size"].(float64) + 1
	out, err := json.Marshal(m)
	check(t, err)
	return out
}

// staticLayer is a layer whose bytes are what they are, good or bad.
func staticLayer(body []byte) v1.Layer { return static.NewLayer(body, types.OCILayer) }

// TestBrokenContent pushes layers that cannot be read to their end. They are stored, for
// their digests are right; but what could not be seen is said, and never called clean.
func TestBrokenContent(t *testing.T) {
	s := sharedRegistry(t)
	whole := buildImage(t, format{}, npmPart(t, jqueryFixed))
	layers, err := whole.Layers()
	check(t, err)
	r, err := layers[0].Compressed()
	check(t, err)
	var gz bytes.Buffer
	_, err = gz.ReadFrom(r)
	check(t, err)
	noise := bytes.Repeat([]byte{0x1f, 0x8b, 0x00, 0xff, 0x42}, 1000)

	for _, tc := range []struct {
		name string
		body []byte
		gap  string
	}{
		{"truncated gzip", gz.Bytes()[:gz.Len()/2], "archive"},
		{"noise", noise, "archive"},
		{"corrupt dpkg status", gzipTar(t, tree{
			"etc/os-release":      text("ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
			"var/lib/dpkg/status": testdata(t, "dpkg")["corrupt.status"]}), "unread"},
		{"jar that is no zip", gzipTar(t, merge(shiroJar(t), tree{"srv/app/lib/broken-1.0.jar": text("no zip")})), "unread"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tag := strings.ReplaceAll(tc.name, " ", "-")
			config, err := whole.RawConfigFile()
			check(t, err)
			l := staticLayer(tc.body)
			s.upload(t, "bad/content", config, sha256Digest(config)).want(t, http.StatusCreated)
			s.upload(t, "bad/content", tc.body, digest(t, l)).want(t, http.StatusCreated)
			manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},`+
				`"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`, ociManifest, types.OCIConfigJSON, sha256Digest(config), len(config),
				types.OCILayer, digest(t, l), len(tc.body))
			s.do(t, http.MethodPut, "/v2/bad/content/manifests/"+tag, []byte(manifest), ociManifest).want(t, http.StatusCreated)
			rep := s.show(t, "bad/content:"+tag)
			if !rep.gap(tc.gap) {
				t.Errorf("no gap of kind %s: %s", tc.gap, rep.summary())
			}
			if len(rep.Reasons) == 0 {
				t.Errorf("the verdict %s does not say what was not seen", rep.Decision)
			}
		})
	}
}

func gzipTar(t *testing.T, files tree) []byte {
	t.Helper()
	img := buildImage(t, format{}, part{files: files})
	layers, err := img.Layers()
	check(t, err)
	r, err := layers[0].Compressed()
	check(t, err)
	var b bytes.Buffer
	_, err = b.ReadFrom(r)
	check(t, err)
	return b.Bytes()
}

// wantRefusedStart runs serve where it cannot start: it ends by itself and says why.
func wantRefusedStart(t *testing.T, data, addr string, words ...string) {
	t.Helper()
	c := command{name: binary, args: []string{"serve", "--data", data, "--listen", addr},
		env: []string{"PRATIQUE_ADMIN_SECRET=" + secret}, timeout: 30 * time.Second}
	got := c.run(t)
	if got.code == 0 {
		t.Error("exit code 0")
	}
	wantWords(t, "the message", got.stderr, words...)
}

// TestBadStart starts servers that cannot work.
func TestBadStart(t *testing.T) {
	t.Run("port in use", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		defer l.Close()
		data := filepath.Join(t.TempDir(), "data")
		wantRefusedStart(t, data, l.Addr().String(), l.Addr().String(), "in use")
	})
	t.Run("data folder in use", func(t *testing.T) {
		s := sharedRegistry(t)
		addr, err := freeAddr()
		check(t, err)
		wantRefusedStart(t, s.data, addr, s.data, "in use")
	})
	t.Run("read-only data folder", func(t *testing.T) {
		dir := readOnlyFolder(t)
		addr, err := freeAddr()
		check(t, err)
		wantRefusedStart(t, filepath.Join(dir, "data"), addr, dir)
	})
	t.Run("data folder is a file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "data")
		check(t, os.WriteFile(file, []byte("x"), 0o644))
		addr, err := freeAddr()
		check(t, err)
		wantRefusedStart(t, file, addr, file)
	})
	t.Run("data folder of a newer version", func(t *testing.T) {
		data := loadedData(t)
		makeNewer(t, data)
		addr, err := freeAddr()
		check(t, err)
		wantRefusedStart(t, data, addr, data, "newer")
	})
	t.Run("address that is none", func(t *testing.T) {
		wantRefusedStart(t, filepath.Join(t.TempDir(), "data"), "localhost", "localhost")
	})
}

// makeNewer leaves a data folder as a later release would, with a migration that this
// one does not know.
func makeNewer(t *testing.T, data string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(data, "*.db"))
	check(t, err)
	if len(files) != 1 {
		t.Fatalf("the data folder has databases %q, want one", files)
	}
	db, err := sql.Open("sqlite3", "file:"+files[0])
	check(t, err)
	defer db.Close()
	_, err = db.Exec(`insert into schema_versions (version_id, is_applied) values (9999, true)`)
	check(t, err)
}

// readOnlyFolder is a folder that not even root can write to, where the tests run as root.
func readOnlyFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		mount(t, dir, "ro,size=1m")
		return dir
	}
	check(t, os.Chmod(dir, 0o555))
	t.Cleanup(func() { check(t, os.Chmod(dir, 0o755)) })
	return dir
}

// mount puts a file system in memory over dir until the test ends.
func mount(t *testing.T, dir, options string) {
	t.Helper()
	command{name: program(t, "mount"), args: []string{"-t", "tmpfs", "-o", options, "tmpfs", dir}}.mustRun(t)
	t.Cleanup(func() { command{name: program(t, "umount"), args: []string{dir}}.mustRun(t) })
}

// TestFullDisk pushes more than the disk holds: the push is refused in words, the server
// goes on, and what fits is still taken.
func TestFullDisk(t *testing.T) {
	template := loadedData(t)
	var used int64
	check(t, filepath.WalkDir(template, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			info, err := e.Info()
			if err != nil {
				return err
			}
			used += info.Size()
		}
		return err
	}))
	disk := t.TempDir()
	mount(t, disk, fmt.Sprintf("size=%dm", used>>20+24))
	data := filepath.Join(disk, "data")
	check(t, os.CopyFS(data, os.DirFS(template)))
	s := start(t, data)

	big, err := os.ReadFile(debianLayer(t)) // some 50 MB
	check(t, err)
	for range 3 { // a push that failed must not make the next one worse
		a := s.upload(t, "full/app", big, sha256Digest(big))
		wantWords(t, "the refusal", a.wantError(t, http.StatusServiceUnavailable, "UNAVAILABLE"), "disk is full")
	}
	s.do(t, http.MethodHead, "/v2/full/app/blobs/"+sha256Digest(big), nil, "").want(t, http.StatusNotFound)
	img := buildImage(t, format{}, npmPart(t, jqueryFixed))
	s.push(t, "full/app", "1", img)
	s.do(t, http.MethodGet, "/v2/full/app/manifests/1", nil, "").want(t, http.StatusOK)
}

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// upkeep runs a command of the program on a data folder and wants an exit code.
func upkeep(t *testing.T, code int, args ...string) result {
	t.Helper()
	r := command{name: binary, args: args}.run(t)
	if r.code != code {
		t.Fatalf("pratique %q: exit code %d, want %d\n%s%s", args, r.code, code, r.stdout, r.stderr)
	}
	return r
}

// smallImage is an image of one file.
func smallImage(t *testing.T, content string) v1.Image {
	t.Helper()
	return buildImage(t, format{}, part{files: tree{"etc/build": text(content)}, by: "COPY . /"})
}

// layerOf is the digest of an image's first layer.
func layerOf(t *testing.T, img v1.Image) string {
	t.Helper()
	layers, err := img.Layers()
	check(t, err)
	return digest(t, layers[0])
}

// blobFile is where a data folder has a blob.
func blobFile(data, digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return filepath.Join(data, "blobs", "sha256", hex[:2], hex)
}

// awaitFile returns once there is a file: the journal gives the store its copy of a manifest
// about a second after the push.
func awaitFile(t *testing.T, path string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, err := os.Stat(path)
		if err == nil {
			return
		}
		if !errors.Is(err, fs.ErrNotExist) || time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// pulled pulls an image whole and compares all bytes with their digests.
func (s *server) pulled(t *testing.T, repo, tag string, img v1.Image) {
	t.Helper()
	check(t, s.awaitDecision(repo+":"+tag, "allow"))
	got := s.do(t, http.MethodGet, "/v2/"+repo+"/manifests/"+tag, nil, "").want(t, http.StatusOK)
	if sha256Digest(got.body) != digest(t, img) {
		t.Fatalf("%s:%s is %s, want %s", repo, tag, sha256Digest(got.body), digest(t, img))
	}
	m, err := img.Manifest()
	check(t, err)
	for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		body := s.do(t, http.MethodGet, "/v2/"+repo+"/blobs/"+d.Digest.String(), nil, "").want(t, http.StatusOK).body
		if sha256Digest(body) != d.Digest.String() {
			t.Fatalf("blob %s of %s:%s came back as %s", d.Digest, repo, tag, sha256Digest(body))
		}
	}
}

// TestFsckAndPush: a blob whose bytes have changed is found, while the server runs; the
// repair names the image, and another push of it makes it whole.
func TestFsckAndPush(t *testing.T) {
	data := loadedData(t)
	s := start(t, data)
	img := smallImage(t, "to be damaged")
	s.push(t, "keep/app", "v1", img)
	s.pulled(t, "keep/app", "v1", img)
	upkeep(t, 0, "fsck", "--data", data, "--repair")

	layer := layerOf(t, img)
	raw, err := os.ReadFile(blobFile(data, layer))
	check(t, err)
	damaged := bytes.Clone(raw)
	damaged[len(damaged)/2] ^= 1
	check(t, os.WriteFile(blobFile(data, layer), damaged, 0o600))
	awaitFile(t, blobFile(data, digest(t, img)))
	check(t, os.WriteFile(blobFile(data, digest(t, img)), []byte("{}"), 0o600))

	r := upkeep(t, 1, "fsck", "--data", data)
	wantWords(t, "fsck", r.stdout, layer, digest(t, img), "keep/app@"+digest(t, img), "2 problems, 2 left")
	r = upkeep(t, 1, "fsck", "--data", data, "--repair", "-o", "json")
	var c struct {
		Left     int `json:"left"`
		Problems []struct {
			Kind, Digest string
			Repaired     bool
		} `json:"problems"`
	}
	check(t, json.Unmarshal([]byte(r.stdout), &c))
	if c.Left != 1 || len(c.Problems) != 2 {
		t.Errorf("repaired: %+v", c)
	}
	if got, err := os.ReadFile(blobFile(data, digest(t, img))); err != nil || sha256Digest(got) != digest(t, img) {
		t.Errorf("the manifest's bytes in the store: %v", err)
	}
	s.do(t, http.MethodHead, "/v2/keep/app/blobs/"+layer, nil, "").want(t, http.StatusNotFound)
	s.push(t, "keep/app", "v1", img)
	s.pulled(t, "keep/app", "v1", img)
	upkeep(t, 0, "fsck", "--data", data)
	upkeep(t, 2, "fsck", "--data", t.TempDir())
}

// TestGC: what nobody needs is freed on demand while the server runs, and only that.
func TestGC(t *testing.T) {
	s, err := spawnWith(loadedData(t), "--gc-grace", "1ns")
	check(t, err)
	t.Cleanup(func() { check(t, s.stop()) })
	check(t, s.awaitReady())
	img := smallImage(t, "to be kept")
	s.push(t, "keep/app", "v1", img)
	body := []byte("nobody needs this")
	s.upload(t, "keep/app", body, sha256Digest(body)).want(t, http.StatusCreated)
	for _, tc := range []struct {
		args  []string
		blobs int
	}{{[]string{"gc", "--dry-run", "-o", "json"}, 1}, {[]string{"gc", "-o", "json"}, 1}, {[]string{"gc", "-o", "json"}, 0}} {
		var c struct {
			Blobs int   `json:"blobs"`
			Bytes int64 `json:"bytes"`
		}
		check(t, json.Unmarshal([]byte(s.pratique(tc.args...).mustRun(t).stdout), &c))
		if c.Blobs != tc.blobs || c.Bytes != int64(tc.blobs*len(body)) {
			t.Errorf("%v: %+v, want %d blobs", tc.args, c, tc.blobs)
		}
	}
	s.do(t, http.MethodHead, "/v2/keep/app/blobs/"+sha256Digest(body), nil, "").want(t, http.StatusNotFound)
	if _, err := os.Stat(blobFile(s.data, sha256Digest(body))); !os.IsNotExist(err) {
		t.Errorf("the bytes are still there: %v", err)
	}
	s.pulled(t, "keep/app", "v1", img)
}

// TestRebuild: the catalog is lost while the server is killed; it is made again from the
// blob store, and the image is served after it is judged anew.
func TestRebuild(t *testing.T) {
	data := loadedData(t)
	s := start(t, data)
	one, two := smallImage(t, "first"), smallImage(t, "second")
	s.push(t, "keep/app", "v1", one)
	s.push(t, "keep/other", "v2", two)
	check(t, s.stop())
	check(t, os.Remove(filepath.Join(data, "catalog.db")))
	upkeep(t, 2, "fsck", "--data", data)
	r := upkeep(t, 0, "rebuild", "--data", data)
	wantWords(t, "rebuild", r.stdout, "2 repositories with 2 manifests and 2 tags", "not restored:", "administrator")
	upkeep(t, 2, "rebuild", "--data", data)
	upkeep(t, 0, "fsck", "--data", data)

	s = start(t, data)
	s.pulled(t, "keep/app", "v1", one)
	s.pulled(t, "keep/other", "v2", two)
	three := smallImage(t, "third")
	s.push(t, "keep/app", "v3", three)
	check(t, s.stop())
	check(t, os.WriteFile(filepath.Join(data, "catalog.db"), []byte("this is no catalog"), 0o600))
	upkeep(t, 0, "rebuild", "--data", data, "--force")
	s = start(t, data)
	s.pulled(t, "keep/app", "v3", three)
	s.pulled(t, "keep/app", "v1", one)
}

// TestBackupAndRestore: a registry is backed up while images are pushed to it, and
// destroyed; what was there at the backup is served from what is restored.
func TestBackupAndRestore(t *testing.T) {
	data, to := loadedData(t), filepath.Join(t.TempDir(), "backup")
	s := start(t, data)
	before := smallImage(t, "before")
	s.push(t, "keep/app", "before", before)
	upkeep(t, 0, "backup", "--data", data, to)
	between := smallImage(t, "between")
	s.push(t, "keep/app", "between", between)

	stop, pushed := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				pushed <- nil
				return
			default:
			}
			body := fmt.Appendf(nil, "pushed during the backup %d", i)
			a, err := s.try(http.MethodPost, "/v2/keep/app/blobs/uploads/?digest="+sha256Digest(body), bytes.NewReader(body), "application/octet-stream")
			if err == nil && a.code != http.StatusCreated {
				err = fmt.Errorf("push during the backup: %d: %s", a.code, a.body)
			}
			if err != nil {
				pushed <- err
				return
			}
		}
	}()
	r := upkeep(t, 0, "backup", "--data", data, to, "-o", "json")
	close(stop)
	check(t, <-pushed)
	var g struct{ Blobs, Copied int }
	check(t, json.Unmarshal([]byte(r.stdout), &g))
	if g.Copied < 2 || g.Copied >= g.Blobs {
		t.Errorf("the second backup copied %d of %d blobs", g.Copied, g.Blobs)
	}
	check(t, s.end(syscall.SIGKILL))
	s.once.Do(func() {}) // it has ended
	check(t, os.RemoveAll(data))

	again := filepath.Join(t.TempDir(), "data")
	upkeep(t, 0, "restore", to, "--data", again)
	upkeep(t, 2, "restore", to, "--data", again)
	upkeep(t, 0, "fsck", "--data", again)
	s = start(t, again)
	s.pulled(t, "keep/app", "before", before)
	s.pulled(t, "keep/app", "between", between)
	after := smallImage(t, "after")
	s.push(t, "keep/app", "after", after)
	s.pulled(t, "keep/app", "after", after)
}

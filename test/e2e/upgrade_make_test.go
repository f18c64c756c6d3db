package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
	"github.com/ncruces/go-sqlite3"
)

// makeReleased writes the fixture of a released schema instead of testing with it:
// see testdata/released/README.md.
var makeReleased = flag.String("make-released", "", "schema `number` whose data folder the program PRATIQUE_BIN writes for TestUpgrade")

// releasedWorld is what a released program had acknowledged; it lies beside its data folder.
type releasedWorld struct {
	Manifests []releasedManifest `json:"manifests"`
	Blobs     []releasedBlob     `json:"blobs"`
	Referrers releasedReferrers  `json:"referrers"`
	Upload    releasedUpload     `json:"upload"`
}

// releasedManifest is one manifest with the tags that name it and its verdict.
type releasedManifest struct {
	Repo     string   `json:"repo"`
	Tags     []string `json:"tags"`
	Digest   string   `json:"digest"`
	Decision string   `json:"decision"`
}

// releasedBlob is a blob of a manifest that is allowed.
type releasedBlob struct {
	Repo   string `json:"repo"`
	Digest string `json:"digest"`
}

type releasedReferrers struct {
	Repo    string `json:"repo"`
	Subject string `json:"subject"`
	Digest  string `json:"digest"`
}

// releasedUpload is an upload of which the first Have bytes of Body were acknowledged.
type releasedUpload struct {
	Repo string `json:"repo"`
	Path string `json:"path"`
	Have int    `json:"have"`
	Body []byte `json:"body"`
}

// writeReleased fills a data folder by way of the program under test, shrinks it and
// keeps it as the fixture of a schema.
func writeReleased(t *testing.T, schema string) {
	data := loadedData(t)
	s := start(t, data)
	world := s.fillReleased(t)
	check(t, s.stop())
	shrink(t, filepath.Join(data, "catalog.db"))
	doc, err := json.MarshalIndent(world, "", "\t")
	check(t, err)
	check(t, os.WriteFile(filepath.Join(data, "world.json"), doc, 0o600))
	check(t, errors.Join(os.RemoveAll(filepath.Join(data, "tmp")), os.Remove(filepath.Join(data, "lock"))))

	var archive bytes.Buffer
	z, err := zstd.NewWriter(&archive, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	check(t, err)
	w := tar.NewWriter(z)
	check(t, w.AddFS(os.DirFS(data)))
	check(t, errors.Join(w.Close(), z.Close()))
	name := filepath.Join("testdata", "released", schema+".tar.zst")
	check(t, os.WriteFile(name, archive.Bytes(), 0o644))
	t.Logf("%s: %d bytes", name, archive.Len())
}

// fillReleased pushes one of each kind and says what was acknowledged.
func (s *server) fillReleased(t *testing.T) releasedWorld {
	const repo, other = "team/app", "team/other"
	clean := buildImage(t, format{}, part{files: testdata(t, "apk"), by: "ADD rootfs.tar.gz /"})
	arm := buildImage(t, format{arch: "arm64"}, part{files: testdata(t, "apk"), by: "ADD rootfs.tar.gz /"})
	held := buildImage(t, format{}, part{by: "COPY . /app", files: tree{
		"app/node_modules/handlebars/package.json": text(`{"name":"handlebars","version":"4.7.8"}`)}})
	s.push(t, repo, "moved", held)
	s.push(t, repo, "held", held)
	s.push(t, repo, "moved", clean)
	s.push(t, repo, "clean", clean)
	s.push(t, other, "copy", clean)
	s.push(t, repo, "arm", arm)
	_, index := writeIndex(t, map[string]v1.Image{"amd64": clean, "arm64": arm})
	s.putManifest(t, repo, "multi", index).want(t, http.StatusCreated)

	w := releasedWorld{Manifests: []releasedManifest{
		{repo, []string{"clean", "moved"}, digest(t, clean), "allow"},
		{repo, []string{"held"}, digest(t, held), "quarantine"},
		{repo, []string{"arm"}, digest(t, arm), "allow"},
		{repo, []string{"multi"}, digest(t, index), "allow"},
		{other, []string{"copy"}, digest(t, clean), "allow"},
	}}
	for _, m := range w.Manifests {
		check(t, s.awaitDecision(m.Repo+"@"+m.Digest, m.Decision))
	}
	config, err := clean.RawConfigFile()
	check(t, err)
	w.Blobs = []releasedBlob{{repo, layerDigest(t, clean, 0)}, {other, layerDigest(t, clean, 0)}, {repo, sha256Digest(config)}}
	w.Referrers = s.pushReferrer(t, repo, clean)
	w.Upload = s.halfUpload(t, repo)
	return w
}

// pushReferrer puts a small document beside an image.
func (s *server) pushReferrer(t *testing.T, repo string, img v1.Image) releasedReferrers {
	t.Helper()
	subject, err := img.RawManifest()
	check(t, err)
	empty := []byte("{}")
	s.upload(t, repo, empty, sha256Digest(empty)).want(t, http.StatusCreated)
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.example.note",`+
		`"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%[1]q,"size":2},"layers":[{"mediaType":"application/vnd.oci.empty.v1+json","digest":%[1]q,"size":2}],`+
		`"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%[2]q,"size":%[3]d}}`, sha256Digest(empty), sha256Digest(subject), len(subject))
	d := sha256Digest(raw)
	s.do(t, http.MethodPut, "/v2/"+repo+"/manifests/"+d, raw, "application/vnd.oci.image.manifest.v1+json").want(t, http.StatusCreated)
	return releasedReferrers{repo, sha256Digest(subject), d}
}

// halfUpload sends the first half of a blob.
func (s *server) halfUpload(t *testing.T, repo string) releasedUpload {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	u := releasedUpload{Repo: repo, Have: 5000, Body: make([]byte, 9000)}
	for i := range u.Body {
		u.Body[i] = byte(r.Uint32())
	}
	location := s.do(t, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil, "").want(t, http.StatusAccepted).header.Get("Location")
	a := s.do(t, http.MethodPatch, location, u.Body[:u.Have], "application/octet-stream").want(t, http.StatusAccepted)
	u.Path = strings.TrimPrefix(a.header.Get("Location"), "http://"+s.addr)
	return u
}

// shrink takes the advisories out of a catalog, which are most of it and which every
// program brings along. What was found stays.
func shrink(t *testing.T, file string) {
	t.Helper()
	db, err := sqlite3.Open(file)
	check(t, err)
	check(t, db.Exec(`pragma foreign_keys = on;
		delete from affected;
		delete from advisories;
		delete from feed_ecosystems;
		delete from feeds;
		delete from epss;
		delete from kev;
		delete from enrichments;
		delete from names where id not in (select name_id from package_keys) and id not in (select name_id from lookups);
		vacuum;
		pragma wal_checkpoint(truncate);
		pragma journal_mode = delete;`))
	check(t, db.Close())
}

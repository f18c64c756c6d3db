package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// pushed is an image whose push the server acknowledged.
type pushed struct {
	tag, manifest string
	blobs         []string
}

// TestKill kills the server in the middle of pushes, three times over: what it had
// acknowledged is served after the restart, bytes and tags and verdicts.
func TestKill(t *testing.T) {
	const (
		rounds  = 3
		writers = 4
		enough  = 12 // acknowledged pushes of a round before the kill
	)
	data := loadedData(t)
	content := npm(t, jqueryFixed)
	var all []pushed
	for round := range rounds {
		s := start(t, data)
		var (
			mu    sync.Mutex
			acked []pushed
			stop  atomic.Bool
			wg    sync.WaitGroup
			full  = make(chan struct{})
			once  sync.Once
		)
		for w := range writers {
			images := func(i int) (string, v1.Image) {
				tag := fmt.Sprintf("r%d-w%d-%d", round, w, i)
				return tag, buildImage(t, format{}, part{files: merge(content, tree{"etc/build": text(tag)}), by: "COPY . /"})
			}
			wg.Go(func() {
				for i := 0; !stop.Load(); i++ {
					tag, img := images(i)
					p, err := s.tryPush("kill/app", tag, img)
					if err != nil {
						if !stop.Load() {
							t.Errorf("push before the kill: %v", err)
						}
						once.Do(func() { close(full) })
						return
					}
					mu.Lock()
					acked = append(acked, p)
					if len(acked) == enough {
						once.Do(func() { close(full) })
					}
					mu.Unlock()
				}
			})
		}
		<-full
		stop.Store(true)
		s.kill(t) // the writers are in the middle of their next pushes
		wg.Wait()
		all = append(all, acked...)
	}

	s := start(t, data)
	for _, p := range all {
		check(t, s.awaitDecision("kill/app:"+p.tag, "allow"))
		got := s.do(t, http.MethodGet, "/v2/kill/app/manifests/"+p.tag, nil, "").want(t, http.StatusOK)
		if sha256Digest(got.body) != p.manifest {
			t.Errorf("%s is %s, acknowledged was %s", p.tag, sha256Digest(got.body), p.manifest)
		}
		for _, d := range p.blobs {
			blob := s.do(t, http.MethodGet, "/v2/kill/app/blobs/"+d, nil, "").want(t, http.StatusOK)
			if sha256Digest(blob.body) != d {
				t.Errorf("blob %s of %s came back as %s", d, p.tag, sha256Digest(blob.body))
			}
		}
	}
	t.Logf("%d acknowledged pushes in %d rounds, all served", len(all), rounds)
}

// tryPush pushes an image and returns an error where push would fail the test, for
// servers that may go away.
func (s *server) tryPush(repo, tag string, img v1.Image) (pushed, error) {
	p := pushed{tag: tag}
	config, err := img.RawConfigFile()
	if err != nil {
		return p, err
	}
	blobs := [][]byte{config}
	layers, err := img.Layers()
	if err != nil {
		return p, err
	}
	for _, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			return p, err
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(r); err != nil {
			return p, err
		}
		blobs = append(blobs, b.Bytes())
	}
	for _, body := range blobs {
		d := sha256Digest(body)
		if err := s.tryUpload(repo, d, body); err != nil {
			return p, err
		}
		p.blobs = append(p.blobs, d)
	}
	raw, err := img.RawManifest()
	if err != nil {
		return p, err
	}
	p.manifest = sha256Digest(raw)
	mt, err := img.MediaType()
	if err != nil {
		return p, err
	}
	a, err := s.try(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, bytes.NewReader(raw), string(mt))
	return p, a.must(err, http.StatusCreated)
}

func (s *server) tryUpload(repo, digest string, body []byte) error {
	begun, err := s.try(http.MethodPost, "/v2/"+repo+"/blobs/uploads/", http.NoBody, "")
	if err := begun.must(err, http.StatusAccepted); err != nil {
		return err
	}
	location := begun.header.Get("Location")
	sep := "?"
	if strings.Contains(location, "?") {
		sep = "&"
	}
	a, err := s.try(http.MethodPut, location+sep+"digest="+digest, bytes.NewReader(body), "application/octet-stream")
	return a.must(err, http.StatusCreated)
}

// must returns err, or an error unless the answer has this status.
func (a answer) must(err error, code int) error {
	if err == nil && a.code != code {
		err = fmt.Errorf("status %d, want %d: %s", a.code, code, a.body)
	}
	return err
}

// TestResume breaks an upload off half way by killing the server, and goes on where the
// new one says.
func TestResume(t *testing.T) {
	data := loadedData(t)
	body := npm(t, jqueryFixed).tar(t)
	s := start(t, data)
	location := s.do(t, http.MethodPost, "/v2/resume/app/blobs/uploads/", nil, "").want(t, http.StatusAccepted).header.Get("Location")
	half := len(body) / 2
	a := s.do(t, http.MethodPatch, location, body[:half], "application/octet-stream").want(t, http.StatusAccepted)
	if got, want := a.header.Get("Range"), fmt.Sprintf("0-%d", half-1); got != want {
		t.Fatalf("Range is %q, want %q", got, want)
	}
	location = a.header.Get("Location")
	s.kill(t)

	next := start(t, data)
	path := strings.TrimPrefix(location, "http://"+s.addr)
	if !strings.HasPrefix(path, "/") {
		t.Fatalf("Location %q names another server", location)
	}
	a = next.do(t, http.MethodGet, path, nil, "").want(t, http.StatusNoContent)
	if got, want := a.header.Get("Range"), fmt.Sprintf("0-%d", half-1); got != want {
		t.Fatalf("Range after the restart is %q, want %q", got, want)
	}
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	d := sha256Digest(body)
	next.do(t, http.MethodPut, path+sep+"digest="+d, body[half:], "application/octet-stream").want(t, http.StatusCreated)
	next.do(t, http.MethodHead, "/v2/resume/app/blobs/"+d, nil, "").want(t, http.StatusOK)
}

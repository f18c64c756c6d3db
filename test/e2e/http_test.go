package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// answer is a response with its body read.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

// errors returns the codes and messages of a refusal.
func (a answer) errors(t *testing.T) (codes []string, messages string) {
	t.Helper()
	var doc struct {
		Errors []struct {
			Code    string          `json:"code"`
			Message string          `json:"message"`
			Detail  json.RawMessage `json:"detail"`
		} `json:"errors"`
	}
	if err := json.Unmarshal(a.body, &doc); err != nil || len(doc.Errors) == 0 {
		t.Fatalf("status %d without the specification's errors: %v\n%s", a.code, err, a.body)
	}
	var b strings.Builder
	for _, e := range doc.Errors {
		codes = append(codes, e.Code)
		b.WriteString(e.Message + "\n")
	}
	return codes, b.String()
}

// want fails the test unless the answer has this status.
func (a answer) want(t *testing.T, code int) answer {
	t.Helper()
	if a.code != code {
		t.Fatalf("status %d, want %d: %s", a.code, code, a.body)
	}
	return a
}

// wantError fails the test unless the answer is a refusal with this code, and returns its message.
func (a answer) wantError(t *testing.T, status int, code string) string {
	t.Helper()
	a.want(t, status)
	codes, messages := a.errors(t)
	if codes[0] != code {
		t.Fatalf("error codes %v, want %s: %s", codes, code, messages)
	}
	return messages
}

// try sends one request as the administrator. The path may be a whole URL, as
// Location headers are.
func (s *server) try(method, path string, body io.Reader, contentType string) (answer, error) {
	url := path
	if strings.HasPrefix(path, "/") {
		url = "http://" + s.addr + path
	}
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return answer{}, err
	}
	req.SetBasicAuth("admin", secret)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, b}, err
}

func (s *server) do(t *testing.T, method, path string, body []byte, contentType string) answer {
	t.Helper()
	a, err := s.try(method, path, bytes.NewReader(body), contentType)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// upload sends a blob in one PUT under the digest given, right or wrong.
func (s *server) upload(t *testing.T, repo string, body []byte, digest string) answer {
	t.Helper()
	begun := s.do(t, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil, "").want(t, http.StatusAccepted)
	location := begun.header.Get("Location")
	sep := "?"
	if strings.Contains(location, "?") {
		sep = "&"
	}
	return s.do(t, http.MethodPut, location+sep+"digest="+digest, body, "application/octet-stream")
}

func sha256Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// pushBlobs uploads the config and the layers of an image.
func (s *server) pushBlobs(t *testing.T, repo string, img v1.Image) {
	t.Helper()
	config, err := img.RawConfigFile()
	check(t, err)
	s.upload(t, repo, config, sha256Digest(config)).want(t, http.StatusCreated)
	layers, err := img.Layers()
	check(t, err)
	for _, l := range layers {
		r, err := l.Compressed()
		check(t, err)
		body, err := io.ReadAll(r)
		check(t, err)
		check(t, r.Close())
		s.upload(t, repo, body, digest(t, l)).want(t, http.StatusCreated)
	}
}

// putManifest puts the manifest of an image or index whose parts are there.
func (s *server) putManifest(t *testing.T, repo, tag string, m interface {
	RawManifest() ([]byte, error)
	MediaType() (types.MediaType, error)
}) answer {
	t.Helper()
	raw, err := m.RawManifest()
	check(t, err)
	mt, err := m.MediaType()
	check(t, err)
	return s.do(t, http.MethodPut, "/v2/"+repo+"/manifests/"+tag, raw, string(mt))
}

// push puts a whole image and returns the answer to its manifest.
func (s *server) push(t *testing.T, repo, tag string, img v1.Image) answer {
	t.Helper()
	s.pushBlobs(t, repo, img)
	return s.putManifest(t, repo, tag, img).want(t, http.StatusCreated)
}

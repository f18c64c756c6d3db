package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// parallel is how many blobs travel at once, docker's default for pushes.
const parallel = 5

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

// layout is an OCI layout with one image.
type layout struct {
	dir      string
	manifest manifest
	raw      []byte
}

func openLayout(dir string) (*layout, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return nil, err
	}
	var index struct {
		Manifests []descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if len(index.Manifests) == 0 {
		return nil, fmt.Errorf("%s holds no image", dir)
	}
	l := &layout{dir: dir}
	if l.raw, err = os.ReadFile(l.path(index.Manifests[0].Digest)); err != nil {
		return nil, err
	}
	return l, json.Unmarshal(l.raw, &l.manifest)
}

func (l *layout) path(digest string) string {
	return filepath.Join(l.dir, "blobs", strings.Replace(digest, ":", "/", 1))
}

func (l *layout) blobs() []descriptor {
	return append([]descriptor{l.manifest.Config}, l.manifest.Layers...)
}

// bytes is the size of all blobs.
func (l *layout) bytes() (n int64) {
	for _, d := range l.blobs() {
		n += d.Size
	}
	return n
}

// content opens a blob of an image. A variant is the same gzip stream with another
// time in its header (RFC 1952, MTIME), hence another digest: content that no
// registry has seen, at no cost to the client.
type content struct {
	descriptor
	path  string
	mtime uint32 // 0: as it is
}

func (c content) open() (io.ReadCloser, error) {
	f, err := os.Open(c.path)
	if err != nil || c.mtime == 0 {
		return f, err
	}
	head := make([]byte, 8)
	if _, err := io.ReadFull(f, head); err != nil {
		return nil, err
	}
	head[4], head[5], head[6], head[7] = byte(c.mtime), byte(c.mtime>>8), byte(c.mtime>>16), byte(c.mtime>>24)
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), f), f}, nil
}

// pushable is an image ready to be pushed: its blobs and its manifest.
type pushable struct {
	blobs []content
	raw   []byte
	media string
}

// variant returns the image with every layer of a digest of its own; 0 is the image as it is.
func (l *layout) variant(n uint32) (*pushable, error) {
	m := l.manifest
	p := &pushable{media: m.MediaType, blobs: []content{{descriptor: m.Config, path: l.path(m.Config.Digest)}}}
	m.Layers = append([]descriptor(nil), m.Layers...)
	for i, d := range m.Layers {
		c := content{descriptor: d, path: l.path(d.Digest), mtime: n}
		if n != 0 {
			r, err := c.open()
			if err != nil {
				return nil, err
			}
			h := sha256.New()
			_, err = io.Copy(h, r)
			r.Close()
			if err != nil {
				return nil, err
			}
			c.Digest = "sha256:" + hex.EncodeToString(h.Sum(nil))
			m.Layers[i].Digest = c.Digest
		}
		p.blobs = append(p.blobs, c)
	}
	p.raw = l.raw
	if n != 0 {
		var err error
		if p.raw, err = json.Marshal(m); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// client speaks the distribution protocol, and no more of it than the figures need.
type client struct {
	base string
	http *http.Client
}

// newClient makes a client of a server; bytesPerSecond, if not zero, throttles all of
// its connections together, in what they send.
func newClient(base string, bytesPerSecond int) *client {
	t := &http.Transport{MaxIdleConnsPerHost: 2 * parallel, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10, DisableCompression: true}
	if bytesPerSecond > 0 {
		// One burst is 10 ms of the link.
		limiter := rate.NewLimiter(rate.Limit(bytesPerSecond), bytesPerSecond/100)
		t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			return &throttled{c, limiter}, err
		}
	}
	return &client{base, &http.Client{Transport: t}}
}

// throttled is a connection whose writes wait for tokens of the link.
type throttled struct {
	net.Conn
	limiter *rate.Limiter
}

func (t *throttled) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		part := p[:min(len(p), t.limiter.Burst())]
		if err := t.limiter.WaitN(context.Background(), len(part)); err != nil {
			return n, err
		}
		m, err := t.Conn.Write(part)
		if n += m; err != nil {
			return n, err
		}
		p = p[m:]
	}
	return n, nil
}

// do sends a request and returns the answer's header; the body goes to w.
func (c *client) do(method, url string, body io.Reader, size int64, media string, want int, w io.Writer) (http.Header, error) {
	if strings.HasPrefix(url, "/") {
		url = c.base + url
	}
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	req.SetBasicAuth("admin", secret)
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, */*")
	if media != "" {
		req.Header.Set("Content-Type", media)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != want {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 2000))
		return nil, fmt.Errorf("%s %s: status %d, want %d: %s", method, url, res.StatusCode, want, text)
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, res.Body, make([]byte, 256<<10))
	return res.Header, err
}

func (c *client) upload(repo string, b content) error {
	head, err := c.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil, 0, "", http.StatusAccepted, io.Discard)
	if err != nil {
		return err
	}
	r, err := b.open()
	if err != nil {
		return err
	}
	defer r.Close()
	location := head.Get("Location")
	sep := "?"
	if strings.Contains(location, "?") {
		sep = "&"
	}
	_, err = c.do(http.MethodPut, location+sep+"digest="+b.Digest, r, b.Size, "application/octet-stream", http.StatusCreated, io.Discard)
	return err
}

// times are the moments of a push, counted from its first request.
type times struct {
	blobs    time.Duration // the answer to the last blob
	manifest time.Duration // the answer to the manifest, the verdict with it
	decision string        // of the answer, "" where the registry gives none
}

// push sends an image: its blobs side by side, then the manifest.
func (c *client) push(repo, tag string, p *pushable) (t times, err error) {
	begin := time.Now()
	var g errgroup.Group
	g.SetLimit(parallel)
	for _, b := range p.blobs {
		g.Go(func() error { return c.upload(repo, b) })
	}
	if err := g.Wait(); err != nil {
		return t, err
	}
	t.blobs = time.Since(begin)
	head, err := c.do(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, bytes.NewReader(p.raw), int64(len(p.raw)), p.media, http.StatusCreated, io.Discard)
	if err != nil {
		return t, err
	}
	t.manifest, t.decision = time.Since(begin), head.Get("Pratique-Decision")
	return t, nil
}

// pull fetches manifest and blobs side by side and throws them away.
func (c *client) pull(repo, tag string, p *pushable) (time.Duration, error) {
	begin := time.Now()
	if _, err := c.do(http.MethodGet, "/v2/"+repo+"/manifests/"+tag, nil, 0, "", http.StatusOK, io.Discard); err != nil {
		return 0, err
	}
	var (
		g   errgroup.Group
		mu  sync.Mutex
		sum int64
	)
	g.SetLimit(parallel)
	for _, b := range p.blobs {
		g.Go(func() error {
			var n counter
			_, err := c.do(http.MethodGet, "/v2/"+repo+"/blobs/"+b.Digest, nil, 0, "", http.StatusOK, &n)
			mu.Lock()
			defer mu.Unlock()
			sum += int64(n)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	took := time.Since(begin)
	for _, b := range p.blobs {
		sum -= b.Size
	}
	if sum != 0 {
		return 0, fmt.Errorf("pulled %d bytes more than were pushed", sum)
	}
	return took, nil
}

// counter is a writer that counts.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

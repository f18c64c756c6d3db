package bench

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// server is one of those that are measured in turn, on a fresh folder each time.
type server struct {
	name  string
	start func(b *testing.B) *process
}

var servers = []server{
	{"distribution", func(b *testing.B) *process { return distribution(b, filepath.Join(b.TempDir(), "data")) }},
	{"pratique", func(b *testing.B) *process { return pratique(b, loadedData(b)) }},
}

// measured holds the samples of a figure by the server's name.
type measured map[string][]float64

func (m measured) add(name string, v float64) { m[name] = append(m[name], v) }

func (m measured) median(name string) float64 { return medianOf(m[name]) }

func (m measured) ratio() float64 { return m.median("pratique") / m.median("distribution") }

func medianOf(v []float64) float64 {
	d := make([]time.Duration, len(v))
	for i, x := range v {
		d[i] = time.Duration(x * 1e6)
	}
	return float64(median(d)) / 1e6
}

// versus is a line of the table about a rate.
func (m measured) versus(b *testing.B, name, unit, goal string) {
	b.Helper()
	row(name, fmt.Sprintf("%.0f %s; distribution %.0f; ratio %.2f", m.median("pratique"), unit, m.median("distribution"), m.ratio()), goal)
}

// run lets clients do something until the time is over, and returns how often a second it
// was done, and how long each time took.
func run(b *testing.B, clients int, d time.Duration, do func(client, n int) error) (rate float64, took []time.Duration) {
	b.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	begin := time.Now()
	for i := range clients {
		wg.Go(func() {
			var mine []time.Duration
			for n := 0; time.Since(begin) < d; n++ {
				t := time.Now()
				if err := do(i, n); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
				mine = append(mine, time.Since(t))
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	if failed != nil {
		b.Fatal(failed)
	}
	return float64(len(took)) / time.Since(begin).Seconds(), took
}

func digestOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// pushRaw pushes a blob that lies in memory.
func (c *client) pushRaw(repo string, raw []byte) (descriptor, error) {
	d := descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: digestOf(raw), Size: int64(len(raw))}
	head, err := c.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil, 0, "", http.StatusAccepted, io.Discard)
	if err != nil {
		return d, err
	}
	location := head.Get("Location")
	sep := "?"
	if strings.Contains(location, "?") {
		sep = "&"
	}
	_, err = c.do(http.MethodPut, location+sep+"digest="+d.Digest, bytes.NewReader(raw), d.Size, "application/octet-stream", http.StatusCreated, io.Discard)
	return d, err
}

// layerOf is a layer with one file of that many bytes, which do not compress.
func layerOf(size int) []byte {
	content := make([]byte, size)
	rand.Read(content) // never fails (crypto/rand)
	text := []byte(base64.StdEncoding.EncodeToString(content))[:size]
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	_ = w.WriteHeader(&tar.Header{Name: "srv/data.txt", Mode: 0o644, Size: int64(size)}) // into memory
	_, _ = w.Write(text)
	_ = w.Close()
	_ = z.Close()
	return out.Bytes()
}

// small is an image with one layer of a file of size bytes.
type small struct {
	config, layer descriptor
	raw           []byte
	digest        string
}

func (c *client) pushSmall(repo, tag string, size int) (small, error) {
	config := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"author":"` + hex.EncodeToString(randomBytes(8)) + `"}`)
	var s small
	var err error
	if s.config, err = c.pushRaw(repo, config); err != nil {
		return s, err
	}
	s.config.MediaType = "application/vnd.oci.image.config.v1+json"
	if s.layer, err = c.pushRaw(repo, layerOf(size)); err != nil {
		return s, err
	}
	return s, c.putManifest(repo, tag, &s)
}

const manifestType = "application/vnd.oci.image.manifest.v1+json"

func (c *client) putManifest(repo, tag string, s *small) error {
	s.raw, _ = json.Marshal(manifest{2, manifestType, s.config, []descriptor{s.layer}}) // of strings and numbers
	s.digest = digestOf(s.raw)
	_, err := c.do(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, bytes.NewReader(s.raw), int64(len(s.raw)), manifestType, http.StatusCreated, io.Discard)
	return err
}

func randomBytes(n int) []byte {
	out := make([]byte, n)
	rand.Read(out) // never fails (crypto/rand)
	return out
}

// lines opens n connections to a server.
func lines(b *testing.B, p *process, n int) []*lean {
	b.Helper()
	out := make([]*lean, n)
	for i := range out {
		var err error
		if out[i], err = newLean(p); err != nil {
			b.Fatal(err)
		}
	}
	return out
}

func hangUp(b *testing.B, all []*lean) {
	b.Helper()
	for _, l := range all {
		if err := l.conn.Close(); err != nil {
			b.Error(err)
		}
	}
}

// bigFile is one GiB that does not compress, made once.
func bigFile(b *testing.B) content {
	b.Helper()
	path := filepath.Join(b.TempDir(), "gib")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	part := randomBytes(1 << 20)
	for i := range 1 << 10 {
		part[0], part[1] = byte(i), byte(i>>8)
		if _, err := io.MultiWriter(f, h).Write(part); err != nil {
			b.Fatal(err)
		}
	}
	return content{descriptor: descriptor{"application/octet-stream", "sha256:" + hex.EncodeToString(h.Sum(nil)), 1 << 30}, path: path}
}

const mib = 1 << 20

// BenchmarkOneGiB pushes and pulls one blob of 1 GiB, beside what its bytes cost at the
// least: a plain server that hashes them, writes a file and syncs it; and nginx, which sends
// that file (NGINX_BIN; Debian's package).
func BenchmarkOneGiB(b *testing.B) {
	blob := bigFile(b)
	n := rounds(b, 5)
	push, pull := measured{}, measured{}
	for b.Loop() {
		for range n {
			push.add("limit", barePut(b, blob))
			pull.add("nginx", nginxGet(b, blob))
			for _, s := range servers {
				p := s.start(b)
				c := newClient(p.base, 0)
				begin := time.Now()
				if err := c.upload("bench/gib", blob); err != nil {
					b.Fatal(err)
				}
				push.add(s.name, float64(blob.Size)/mib/time.Since(begin).Seconds())
				pull.add(s.name, fetch(b, p.base, "/v2/bench/gib/blobs/"+blob.Digest, blob.Size))
				c.http.CloseIdleConnections()
				p.stop(b)
			}
		}
	}
	row("push of 1 GiB", fmt.Sprintf("%.0f MiB/s; PUT + sha256 + fsync alone %.0f, ratio %.2f; distribution %.0f, ratio %.2f",
		push.median("pratique"), push.median("limit"), push.median("pratique")/push.median("limit"), push.median("distribution"), push.ratio()), "within 10 % of the limit")
	row("pull of 1 GiB", fmt.Sprintf("%.0f MiB/s; nginx %.0f, ratio %.2f; distribution %.0f, ratio %.2f",
		pull.median("pratique"), pull.median("nginx"), pull.median("pratique")/pull.median("nginx"), pull.median("distribution"), pull.ratio()), "at least 2 × distribution, within 15 % of nginx")
}

// BenchmarkSmall measures what is many and little: layers of 4 KiB and manifests pushed,
// manifests read, images of 32 KiB pulled.
func BenchmarkSmall(b *testing.B) {
	const d = 4 * time.Second
	n := rounds(b, 5)
	alone, layers, manifests, gets, pulls, p99, memory := measured{}, measured{}, measured{}, measured{}, measured{}, measured{}, measured{}
	for b.Loop() {
		for range n {
			for _, s := range servers {
				p := s.start(b)
				c := newClient(p.base, 0)
				image, err := c.pushSmall("bench/small", "1", 32<<10)
				if err != nil {
					b.Fatal(err)
				}
				c.http.CloseIdleConnections()
				all := lines(b, p, 64)
				push := func(i, _ int) error { return all[i].pushBlob("bench/layers", randomBytes(4<<10)) }
				rate, _ := run(b, 1, d/2, push)
				alone.add(s.name, rate)
				rate, _ = run(b, 16, d, push)
				layers.add(s.name, rate)
				rate, _ = run(b, 16, d, func(i, n int) error {
					return all[i].putVariant("bench/small", fmt.Sprintf("v%d-%d", i, n), image)
				})
				manifests.add(s.name, rate)
				rate, _ = run(b, 16, d, func(i, _ int) error { return all[i].get("bench/small", "manifests/1") })
				gets.add(s.name, rate)
				rate, took := run(b, 64, d, func(i, _ int) error { return all[i].pullSmall("bench/small", "1", image) })
				pulls.add(s.name, rate)
				p99.add(s.name, float64(quantile(took, 0.99).Microseconds())/1000)
				memory.add(s.name, float64(p.memory(b, "VmRSS"))/1e6)
				hangUp(b, all)
				p.stop(b)
			}
		}
	}
	alone.versus(b, "layers of 4 KiB pushed, one client", "a second", "")
	layers.versus(b, "layers of 4 KiB pushed, 16 clients", "a second", "at least 2.5 × distribution")
	manifests.versus(b, "manifests pushed, 16 clients, each judged", "a second", "at least 2.5 × distribution")
	gets.versus(b, "manifests read, 16 clients", "a second", "at least 3 × distribution")
	pulls.versus(b, "images of 32 KiB pulled (manifest, config, layer), 64 clients", "a second", "at least 2,000")
	row("the same, p99 of one pull", fmt.Sprintf("%.0f ms; distribution %.0f ms", p99.median("pratique"), p99.median("distribution")), "under 60 ms")
	row("server memory at the end of it", fmt.Sprintf("%.0f MB; distribution %.0f MB", memory.median("pratique"), memory.median("distribution")), "under 80 MB")
}

// variant is the image's manifest with an annotation of its own.
func (s small) variant(name string) []byte {
	raw, _ := json.Marshal(struct { // of strings and numbers
		manifest
		Annotations map[string]string `json:"annotations"`
	}{manifest{2, manifestType, s.config, []descriptor{s.layer}}, map[string]string{"bench": name + hex.EncodeToString(randomBytes(8))}})
	return raw
}

// BenchmarkManyPushes holds 64 pushes of layers of 1 GiB open at once, each a gzip stream of a
// tar with one file, so that they are examined as they come in. The clients take turns with the
// link, and break off once each of them has sent sent bytes: what the server holds for an
// upload does not depend on how much of it has come.
func BenchmarkManyPushes(b *testing.B) {
	const sent = 128 * mib
	for b.Loop() {
		p := pratique(b, loadedData(b))
		var peak atomic.Int64
		stop := make(chan struct{})
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			for {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
					peak.Store(max(peak.Load(), p.memory(b, "VmRSS")))
				}
			}
		}()
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				c := newClient(p.base, 0)
				defer c.http.CloseIdleConnections()
				head, err := c.do(http.MethodPost, "/v2/bench/many/blobs/uploads/", nil, 0, "", http.StatusAccepted, io.Discard)
				if err != nil {
					b.Error(err)
					return
				}
				layer := endlessLayer()
				defer layer.Close()
				body := io.MultiReader(io.LimitReader(layer, sent), broken{})
				_, err = c.do(http.MethodPatch, head.Get("Location"), body, 1<<30, "application/octet-stream", http.StatusAccepted, io.Discard)
				if err == nil {
					b.Error("a push that broke off was accepted")
				}
			})
		}
		wg.Wait()
		close(stop)
		<-watched
		row("server memory, 64 pushes of 1 GiB at once, highest", mb(peak.Load()), "under 300 MB")
		p.stop(b)
	}
}

// endlessLayer is a layer with one file of a GiB of random bytes, which end when it is closed.
func endlessLayer() io.ReadCloser {
	r, w := io.Pipe()
	go func() { // ends with Close
		z, _ := gzip.NewWriterLevel(w, gzip.NoCompression) // the level is a known one
		t := tar.NewWriter(z)
		err := t.WriteHeader(&tar.Header{Name: "srv/data", Mode: 0o644, Size: 1 << 30})
		for part := randomBytes(mib); err == nil; {
			_, err = t.Write(part)
		}
		w.CloseWithError(err)
	}()
	return r
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

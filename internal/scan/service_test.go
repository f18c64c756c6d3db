package scan

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/blob/memblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/extract"
	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/vuln"
)

// world is a Service over a catalog and a store in memory.
type world struct {
	*Service
	t     *testing.T
	cat   *catalog.Catalog
	store blob.Store
	repo  oci.Repository
}

func newWorld(t *testing.T) world {
	t.Helper()
	cat, err := catalog.Open(t.Context(), "sqlite::memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cat.Close(); err != nil {
			t.Error(err)
		}
	})
	repo, err := oci.ParseRepository("team/app")
	if err != nil {
		t.Fatal(err)
	}
	store := memblob.New()
	s := New(cat, store, extract.New(extract.Options{TempDir: t.TempDir()}), Options{Policies: []policy.Policy{policy.Default()}})
	return world{s, t, cat, store, repo}
}

// push stores an image as the registry would; the layers in skip get no bytes in the store.
func (w world) push(img testImage, tag string, skip ...oci.Digest) {
	w.t.Helper()
	for d, content := range img.blobs {
		if !contains(skip, d) {
			w.write(d, content)
		}
		if err := w.cat.FinishUpload(w.t.Context(), "", w.repo, d, int64(len(content)), now); err != nil {
			w.t.Fatal(err)
		}
	}
	w.put(img.manifest, tag)
}

func contains(list []oci.Digest, d oci.Digest) bool {
	for _, x := range list {
		if x == d {
			return true
		}
	}
	return false
}

func (w world) put(m oci.Manifest, tag string) {
	w.t.Helper()
	if _, err := w.cat.PutManifest(w.t.Context(), catalog.NewManifest{Repo: w.repo, Manifest: m, Tags: []string{tag}, Now: now}); err != nil {
		w.t.Fatal(err)
	}
}

func (w world) write(d oci.Digest, content []byte) {
	w.t.Helper()
	up, err := w.store.Begin(w.t.Context(), d.Algorithm())
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := up.Write(content); err != nil {
		w.t.Fatal(err)
	}
	if err := up.Commit(w.t.Context(), d); err != nil {
		w.t.Fatal(err)
	}
}

func (w world) advise(as ...vuln.Advisory) catalog.Loaded {
	w.t.Helper()
	n, err := w.cat.PutAdvisories(w.t.Context(), catalog.Feed{Source: "test", Ecosystem: "Alpine", AsOf: now, Replace: true},
		func(yield func(vuln.Advisory, error) bool) {
			for _, a := range as {
				if !yield(a, nil) {
					return
				}
			}
		})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// decision is what the gate would go by.
func (w world) decision(d oci.Digest) policy.Decision {
	w.t.Helper()
	v, _, err := w.cat.Verdict(w.t.Context(), d)
	if err != nil {
		w.t.Fatal(err)
	}
	return v.Decision
}

func TestNothingIsJudgedBeforeTheAdvisoriesAreIn(t *testing.T) {
	w := newWorld(t)
	img := alpine(t)
	w.push(img, "1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := w.Judge(ctx, img.manifest.Digest); !errors.Is(err, context.Canceled) {
		t.Errorf("Judge before Ready: %v, want to wait", err)
	}
	if got := w.decision(img.manifest.Digest); got != policy.Pending {
		t.Errorf("decision %v, want pending", got)
	}
}

func TestJudge(t *testing.T) {
	w := newWorld(t)
	w.advise(opensslFlaw("1.1.1z-r0"))
	w.Ready()
	img := alpine(t)
	w.push(img, "1")
	v, n, err := w.Judge(t.Context(), img.manifest.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if v.Decision != policy.Quarantine || n.Critical != 1 || n.Fixable != 1 {
		t.Errorf("verdict %+v, counts %+v; want quarantine for one critical", v, n)
	}
	if got := w.decision(img.manifest.Digest); got != policy.Quarantine {
		t.Errorf("kept decision %v, want quarantine", got)
	}
	r, err := w.Report(t.Context(), "team/app:1", img.manifest.Digest)
	if err != nil {
		t.Fatal(err)
	}
	wantAlpine(t, r)
	if f := r.Findings[0]; f.Instruction != "RUN step 2" {
		t.Errorf("instruction %q", f.Instruction)
	}
}

// TestJudgeNew: a manifest that was just put is judged as any other, also where it has become due anew
// since, and once alone.
func TestJudgeNew(t *testing.T) {
	for name, since := range map[string]func(w world, d oci.Digest) error{
		"as it was put":     func(world, oci.Digest) error { return nil },
		"due anew since":    func(w world, _ oci.Digest) error { _, err := w.cat.MakeDue(t.Context()); return err },
		"judged by another": func(w world, d oci.Digest) error { _, _, err := w.Judge(t.Context(), d); return err },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.advise(opensslFlaw("1.1.1z-r0"))
			w.Ready()
			img := alpine(t)
			w.push(img, "1")
			if err := since(w, img.manifest.Digest); err != nil {
				t.Fatal(err)
			}
			v, n, err := w.JudgeNew(t.Context(), img.manifest)
			if err != nil || v.Decision != policy.Quarantine || n.Critical != 1 {
				t.Fatalf("%+v, %+v, %v", v, n, err)
			}
			kept, _, err := w.cat.Verdict(t.Context(), img.manifest.Digest)
			if err != nil || kept.Decision != v.Decision {
				t.Errorf("%v, kept %v, %v", v.Decision, kept.Decision, err)
			}
			if due, err := w.cat.Due(t.Context(), time.Now().Add(time.Hour), time.Minute, 10); len(due) > 0 || err != nil {
				t.Errorf("due still: %v, %v", due, err)
			}
		})
	}
}

func TestNewAdvisoryTurnsTheVerdictWithoutReadingALayer(t *testing.T) {
	w := newWorld(t)
	w.advise(opensslFlaw("1.1.1a-r0"))
	w.Ready()
	img := alpine(t)
	w.push(img, "1")
	if v, _, err := w.Judge(t.Context(), img.manifest.Digest); err != nil || v.Decision != policy.Allow {
		t.Fatalf("before: %v, %v; want allow", v.Decision, err)
	}
	for d := range img.blobs {
		if err := w.store.Delete(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.advise(opensslFlaw("1.1.1z-r0")); n.Images != 1 {
		t.Errorf("%d images became due, want 1", n.Images)
	}
	w.runUntil(img.manifest.Digest, policy.Quarantine)
	w.advise(opensslFlaw("1.1.1a-r0"))
	w.runUntil(img.manifest.Digest, policy.Allow)
}

// runUntil lets the worker run until a manifest has a decision.
func (w world) runUntil(d oci.Digest, want policy.Decision) {
	w.t.Helper()
	ctx, stop := context.WithTimeout(w.t.Context(), 30*time.Second)
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	w.Wake()
	for w.decision(d) != want && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	stop()
	<-done
	if got := w.decision(d); got != want {
		w.t.Fatalf("decision %v, want %v", got, want)
	}
}

func TestLayerIsExaminedBesideItsPush(t *testing.T) {
	w := newWorld(t)
	w.advise(opensslFlaw("1.1.1z-r0"))
	w.Ready()
	img := alpine(t)
	layer := img.manifest.Layers[1].Digest
	w.Begin("upload", func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(string(img.blobs[layer]))), nil
	})
	w.Commit("upload", layer)
	w.running.Wait()
	// The store has no bytes of this layer: what is known of it is from the push.
	w.push(img, "1", layer)
	if v, _, err := w.Judge(t.Context(), img.manifest.Digest); err != nil || v.Decision != policy.Quarantine {
		t.Errorf("%v, %v; want quarantine", v.Decision, err)
	}
}

// halfSent is an upload that nobody goes on with.
func halfSent(ctx context.Context) (io.ReadCloser, error) {
	return io.NopCloser(readerFunc(func([]byte) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	})), nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestCloseDoesNotWaitForUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(nil, nil, extract.New(extract.Options{}), Options{})
		s.Begin("resting", halfSent)
		s.Begin("at its end", halfSent)
		s.Commit("at its end", alpine(t).manifest.Digest)
		start := time.Now()
		s.Close()
		if d := time.Since(start); d > patience {
			t.Errorf("Close took %v", d)
		}
	})
}

func TestAbandonedUploadsGiveTheirPlacesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(nil, nil, extract.New(extract.Options{}), Options{})
		for i := range maxFollowed {
			s.Begin(fmt.Sprint(i), halfSent)
		}
		time.Sleep(patience + followIdle + time.Second)
		begun := false
		s.Begin("next", func(ctx context.Context) (io.ReadCloser, error) {
			begun = true
			return halfSent(ctx)
		})
		synctest.Wait()
		if !begun {
			t.Error("there is no place for an upload after as many were abandoned as are followed")
		}
		s.Close()
	})
}

func TestImageWhoseLayerCannotBeReadStaysPending(t *testing.T) {
	w := newWorld(t)
	w.advise(opensslFlaw("1.1.1z-r0"))
	w.Ready()
	img := alpine(t)
	w.push(img, "1", img.manifest.Layers[1].Digest)
	if _, _, err := w.Judge(t.Context(), img.manifest.Digest); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("got %v, want the missing blob", err)
	}
	if got := w.decision(img.manifest.Digest); got != policy.Pending {
		t.Errorf("decision %v, want pending", got)
	}
}

func TestBrokenLayerIsNeverAllowed(t *testing.T) {
	w := newWorld(t)
	w.advise(opensslFlaw("1.1.1a-r0"))
	w.Ready()
	whole := layerOf(t, map[string]string{"etc/os-release": testdata(t, "alpine-3.10-os-release"), "lib/apk/db/installed": testdata(t, "alpine-3.10-installed")})
	img := imageOf(t, whole[:len(whole)/2])
	w.push(img, "1")
	v, _, err := w.Judge(t.Context(), img.manifest.Digest)
	if err != nil || v.Decision != policy.Quarantine {
		t.Fatalf("%v, %v; want quarantine", v.Decision, err)
	}
	r, err := w.Report(t.Context(), "x", img.manifest.Digest)
	if err != nil || !hasGap(r, inventory.GapArchive) {
		t.Errorf("report does not tell of the broken layer: %+v, %v", r.Coverage, err)
	}
}

func TestNoPolicyAllowsNothing(t *testing.T) {
	w := newWorld(t)
	w.o.Policies = nil
	w.advise(opensslFlaw("1.1.1a-r0"))
	w.Ready()
	img := alpine(t)
	w.push(img, "1")
	if v, _, err := w.Judge(t.Context(), img.manifest.Digest); err != nil || v.Decision != policy.Quarantine {
		t.Errorf("%v, %v; want quarantine", v.Decision, err)
	}
}

// Docker and podman unpack xz and bzip2, and look at no layer's media type.
func TestDisguisedLayerIsNeverAllowed(t *testing.T) {
	decoded := func(s string) []byte {
		raw, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for _, tc := range []struct {
		name, mediaType string
		content         []byte
		want            policy.Decision
	}{
		{"xz", "application/octet-stream", decoded(xzLayer), policy.Quarantine},
		{"bzip2", "application/x-tar", decoded(bzip2Layer), policy.Quarantine},
		{"broken gzip", "application/octet-stream", []byte{0x1f, 0x8b, 8, 0}, policy.Quarantine},
		{"text that claims to be a layer", "application/vnd.oci.image.layer.v1.tar", []byte(`{"critical":{}}`), policy.Quarantine},
		{"a signature's payload", "application/vnd.dev.cosign.simplesigning.v1+json", []byte(`{"critical":{}}`), policy.Allow},
		{"an SBOM", "text/spdx", []byte("SPDXVersion: SPDX-2.3\nCreator: Person: Łukasz\n"), policy.Allow},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.advise(opensslFlaw("1.1.1a-r0"))
			w.Ready()
			img := imageOf(t, tc.content)
			raw := bytes.Replace(img.manifest.Raw, []byte("application/vnd.oci.image.layer.v1.tar+gzip"), []byte(tc.mediaType), 1)
			m, err := oci.ParseManifest(oci.MediaTypeImageManifest, raw)
			if err != nil {
				t.Fatal(err)
			}
			img.manifest = m
			w.push(img, "1")
			if v, _, err := w.Judge(t.Context(), m.Digest); err != nil || v.Decision != tc.want {
				t.Errorf("%v, %v; want %v", v.Decision, err, tc.want)
			}
		})
	}
}

// A tar with one file, compressed with xz -9 and bzip2.
const (
	xzLayer    = "/Td6WFoAAATm1rRGAgAhARwAAAAQz1jM4Af/AExdADKdCIYUsLfY1SEjJaYukFefUeiC2w/5FzYbAL1x3CVmA+XLAe840XEBAEKOx8ZTRE1I29DPZTg+NoI/cE/bV8N7W9RoSQdSxr1D0wAAe8qJjcs+H0UAAWiAEAAAAOe+DcaxxGf7AgAAAAAEWVo="
	bzip2Layer = "QlpoOTFBWSZTWRuLZaMAADBbgMqQQADtkAEAbgDewAkIIABUU1HpGmjQ0xMJ6eqCSiaMgyMgAFIHyHuEEd5QJX2vQMQzSNQpuaIo1DasZ0wlw02qS5qKxII/VuCAYQGXvK1/i7kinChIDcWy0YA="
)

// containerd fetches any layer from the addresses that its descriptor names.
func TestLayerElsewhere(t *testing.T) {
	for mediaType, want := range map[string]policy.Decision{
		"application/vnd.oci.image.layer.v1.tar+gzip":                  policy.Quarantine,
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": policy.Allow, // and the verdict says so
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":    policy.Allow,
	} {
		w := newWorld(t)
		w.advise(opensslFlaw("1.1.1a-r0"))
		w.Ready()
		config := []byte(`{"os":"linux"}`)
		d := oci.DigestOf(oci.SHA256, config)
		raw := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{
			"mediaType":%q,"digest":"sha256:%064d","size":9,"urls":["https://elsewhere.example/layer"]}]}`,
			oci.MediaTypeImageConfig, d, len(config), mediaType, 1)
		m, err := oci.ParseManifest(oci.MediaTypeImageManifest, raw)
		if err != nil {
			t.Fatal(err)
		}
		w.push(testImage{manifest: m, blobs: map[oci.Digest][]byte{d: config}}, "1")
		v, _, err := w.Judge(t.Context(), m.Digest)
		if err != nil || v.Decision != want {
			t.Errorf("%s: %v, %v; want %v", mediaType, v.Decision, err, want)
		}
		if !slices.ContainsFunc(v.Reasons, func(r policy.Reason) bool { return strings.Contains(r.Message, "elsewhere") }) {
			t.Errorf("%s: the reasons do not tell of the layer: %v", mediaType, v.Reasons)
		}
	}
}

func TestReportOnAnIndexIsBounded(t *testing.T) {
	w := newWorld(t)
	w.advise(opensslFlaw("1.1.1z-r0"))
	w.Ready()
	img := alpine(t)
	w.push(img, "1")
	child := func(m oci.Manifest) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, m.MediaType, m.Digest, m.Size)
	}
	index := func(children ...string) oci.Manifest {
		m, err := oci.ParseManifest(oci.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[`+strings.Join(children, ",")+`]}`))
		if err != nil {
			t.Fatal(err)
		}
		w.put(m, "index")
		return m
	}
	var same, distinct []string
	for i := range 2 * maxReported {
		same = append(same, child(img.manifest))
		distinct = append(distinct, child(index(slices.Repeat(same[:1], i+1)...)))
	}
	for _, tc := range []struct {
		children []string
		want     int
	}{{same, 1}, {distinct, maxReported / 2}} { // each of the distinct ones counts with its own
		m := index(tc.children...)
		if _, _, err := w.Judge(t.Context(), m.Digest); err != nil {
			t.Fatal(err)
		}
		r, err := w.Report(t.Context(), "x", m.Digest)
		if err != nil || len(r.Platforms) != tc.want || r.Decision != policy.Quarantine || r.Reasons[len(r.Reasons)-1].Rule != "bound" {
			t.Errorf("%v: %d platforms, want %d; %v %+v", err, len(r.Platforms), tc.want, r.Decision, r.Reasons)
		}
	}
}

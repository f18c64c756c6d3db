package scan

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/extract"
	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/report"
	"pratique.dev/pratique/internal/vuln"
)

var now = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

// fewAdvisories are Advisories held in memory.
type fewAdvisories []vuln.Advisory

func (f fewAdvisories) Lookup(k inventory.Key) ([]vuln.Advisory, error) {
	var out []vuln.Advisory
	for _, a := range f {
		for _, aff := range a.Affected {
			if aff.Ecosystem == k.Ecosystem && aff.Name == k.Name {
				out = append(out, a)
				break
			}
		}
	}
	return out, nil
}

func (f fewAdvisories) Covered(eco string) (vuln.Coverage, bool) {
	for _, a := range f {
		if a.Affected[0].Ecosystem == eco {
			return vuln.Coverage{AsOf: now}, true
		}
	}
	return vuln.Coverage{}, false
}

func (f fewAdvisories) AsOf() time.Time { return now }

func scanTarget(t *testing.T, name string, adv ...vuln.Advisory) (report.Report, error) {
	t.Helper()
	target, err := OpenTarget(t.Context(), name, TargetOptions{TempDir: t.TempDir()})
	if err != nil {
		return report.Report{}, err
	}
	defer target.Close()
	return Local(t.Context(), target, LocalOptions{
		Set:        extract.New(extract.Options{TempDir: t.TempDir()}),
		Advisories: func(context.Context, []inventory.Key) (Advisories, error) { return fewAdvisories(adv), nil },
		Policies:   []policy.Policy{policy.Default()},
		Now:        func() time.Time { return now },
	})
}

// wantAlpine checks the report on the Alpine image with one critical, fixable flaw.
func wantAlpine(t *testing.T, r report.Report) {
	t.Helper()
	if r.Decision != policy.Quarantine || len(r.Findings) != 1 {
		t.Fatalf("decision %v with %d findings, want quarantine with one; reasons %v", r.Decision, len(r.Findings), r.Reasons)
	}
	f := r.Findings[0]
	if f.ID != "CVE-2099-0001" || f.Package != "openssl" || f.Version != "1.1.1d-r2" || f.Fixed != "1.1.1z-r0" || f.Severity != vuln.Critical {
		t.Errorf("finding %+v", f)
	}
	if !strings.Contains(f.Fix, "apk add") || !strings.Contains(f.Fix, "1.1.1z-r0") {
		t.Errorf("fix %q, want an apk command with the fixed version", f.Fix)
	}
	if r.Distro.ID != "alpine" || len(r.Packages) != 14 {
		t.Errorf("distribution %q, %d packages; want alpine, 14", r.Distro.ID, len(r.Packages))
	}
}

func TestScanLayout(t *testing.T) {
	img := alpine(t)
	dir := writeLayout(t, img)
	for _, name := range []string{dir, dir + ":one", "oci:" + dir} {
		r, err := scanTarget(t, name, opensslFlaw("1.1.1z-r0"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		wantAlpine(t, r)
		if f := r.Findings[0]; f.Layer != img.manifest.Layers[1].Digest || f.Instruction != "RUN step 2" {
			t.Errorf("%s: finding of layer %s by %q, want the second layer by RUN step 2", name, f.Layer, f.Instruction)
		}
		for i, l := range r.Layers {
			if want := fmt.Sprintf("RUN step %d", i+1); l.Instruction != want {
				t.Errorf("%s: layer %d with %d packages is by %q, want %q", name, i, l.Packages, l.Instruction, want)
			}
		}
		if r.Digest != img.manifest.Digest {
			t.Errorf("%s: digest %s", name, r.Digest)
		}
	}
}

func TestScanLayoutOfSeveralImagesTakesTheWorst(t *testing.T) {
	clean := imageOf(t, layerOf(t, map[string]string{"etc/os-release": testdata(t, "alpine-3.10-os-release")}))
	r, err := scanTarget(t, writeLayout(t, clean, alpine(t)), opensslFlaw("1.1.1z-r0"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Decision != policy.Quarantine || len(r.Platforms) != 2 {
		t.Errorf("decision %v of %d platforms, want quarantine of 2", r.Decision, len(r.Platforms))
	}
}

// TestScanAttestation takes what BuildKit pushes beside an image, which has the form of one,
// for the documents that it holds; an archive under such a media type is an image all the same.
func TestScanAttestation(t *testing.T) {
	const inToto = "application/vnd.in-toto+json"
	statement := []byte(`{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document"}`)
	for _, tc := range []struct {
		name string
		img  testImage
		want string
	}{
		{"documents", imageOfType(t, inToto, statement), "not-an-image"},
		{"a document called a layer", imageOf(t, statement), "unexamined"},
		{"an archive", imageOfType(t, inToto, layerOf(t, map[string]string{"a": "b"})), "not-covered"},
	} {
		r, err := scanTarget(t, writeLayout(t, tc.img), opensslFlaw("9"))
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if len(r.Reasons) == 0 || r.Reasons[0].Rule != tc.want {
			t.Errorf("%s: %v with reasons %v, want %s first", tc.name, r.Decision, r.Reasons, tc.want)
		}
	}
}

func TestScanFixedImageIsAllowed(t *testing.T) {
	r, err := scanTarget(t, writeLayout(t, alpine(t)), opensslFlaw("1.1.1d-r2"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Decision != policy.Allow || len(r.Findings) != 0 {
		t.Errorf("decision %v with %d findings, want allow with none: %v", r.Decision, len(r.Findings), r.Reasons)
	}
}

func TestScanWithoutAdvisoriesForTheDistributionSaysSo(t *testing.T) {
	other := opensslFlaw("1")
	other.Affected[0].Ecosystem = "npm"
	r, err := scanTarget(t, writeLayout(t, alpine(t)), other)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range r.Coverage.Unknown {
		if g.Kind == inventory.GapNoData && strings.Contains(g.Reason, "Alpine:v3.10") && g.Count == 14 {
			return
		}
	}
	t.Errorf("coverage does not tell that there are no advisories for Alpine:v3.10: %+v", r.Coverage.Unknown)
}

// archiveOf packs a folder into a tar file, gzipped if asked.
func archiveOf(t *testing.T, dir string, zipped bool) string {
	t.Helper()
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	out := raw.Bytes()
	if zipped {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(out); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		out = packed.Bytes()
	}
	name := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(name, out, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestScanArchiveOfLayout(t *testing.T) {
	dir := writeLayout(t, alpine(t))
	for _, zipped := range []bool{false, true} {
		r, err := scanTarget(t, archiveOf(t, dir, zipped), opensslFlaw("1.1.1z-r0"))
		if err != nil {
			t.Fatal(err)
		}
		wantAlpine(t, r)
	}
}

func TestScanDockerSave(t *testing.T) {
	for _, name := range []string{"basic.tar", "multiple-files.tar", "symlink-attack.tar", "symlink-cycle.tar"} {
		r, err := scanTarget(t, filepath.Join("testdata", name), opensslFlaw("1"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.Digest.IsZero() || len(r.Layers) == 0 {
			t.Errorf("%s: digest %s, %d layers", name, r.Digest, len(r.Layers))
		}
		if !hasGap(r, inventory.GapNoOS) {
			t.Errorf("%s: an image without os-release looks clean: %+v", name, r.Coverage)
		}
	}
}

func hasGap(r report.Report, k inventory.GapKind) bool {
	for _, g := range r.Coverage.Unknown {
		if g.Kind == k {
			return true
		}
	}
	return false
}

func TestScanRoot(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"etc/os-release": testdata(t, "alpine-3.10-os-release"), "lib/apk/db/installed": testdata(t, "alpine-3.10-installed")} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := scanTarget(t, dir, opensslFlaw("1.1.1z-r0"))
	if err != nil {
		t.Fatal(err)
	}
	wantAlpine(t, r)
}

func TestScanRefuses(t *testing.T) {
	damaged := writeLayout(t, alpine(t))
	corruptLargest(t, filepath.Join(damaged, "blobs", "sha256"))
	notTar := filepath.Join(t.TempDir(), "x.tar")
	if err := os.WriteFile(notTar, bytes.Repeat([]byte("no tar\n"), 500), 0o644); err != nil {
		t.Fatal(err)
	}
	noLayout := t.TempDir()
	if err := os.WriteFile(filepath.Join(noLayout, "oci-layout"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, target, want string }{
		{"damaged blob", damaged, "is damaged"},
		{"no tar", notTar, "not a tar archive"},
		{"tar of something else", filepath.Join("testdata", "unpack-escape.tar"), "neither index.json"},
		{"layout without index", noLayout, "index.json"},
		{"unknown tag", writeLayout(t, alpine(t)) + ":two", `no image "two"`},
		{"nothing there", "./no/such/thing:x", "no file or folder here"},
		{"folder as layout", "oci:" + t.TempDir(), "no OCI layout"},
		{"file as root", "dir:" + notTar, "not a folder"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := scanTarget(t, tc.target, opensslFlaw("1"))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v with decision %v, want an error with %q", err, r.Decision, tc.want)
			}
		})
	}
}

// corruptLargest changes a byte in the middle of the largest file below dir.
func corruptLargest(t *testing.T, dir string) {
	t.Helper()
	var name string
	var size int64
	if err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err == nil && info.Size() > size {
			name, size = p, info.Size()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 0xff
	if err := os.WriteFile(name, raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestInstructions(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"/bin/sh -c #(nop) COPY file:abc in / ", "COPY file:abc in /"},
		{"/bin/sh -c apt-get update", "RUN apt-get update"},
		{"RUN /bin/sh -c npm ci # buildkit", "RUN /bin/sh -c npm ci"},
		{"", ""},
	} {
		if got := instruction(tc.in); got != tc.want {
			t.Errorf("instruction(%q) = %q, want %q", tc.in, got, tc.want)
		}
	}
	var c imageConfig
	if got := c.instructions(2); len(got) != 2 || got[0] != "" {
		t.Errorf("without history: %q", got)
	}
}

// partlyCovered are Advisories that reach a part of their ecosystem only, and are old.
type partlyCovered struct{ fewAdvisories }

func (p partlyCovered) Covered(eco string) (vuln.Coverage, bool) {
	c, ok := p.fewAdvisories.Covered(eco)
	c.Partial, c.AsOf = "of two packages", now.AddDate(-1, 0, 0)
	return c, ok
}

func TestScanSaysThatAdvisoriesArePartialAndOld(t *testing.T) {
	target, err := OpenTarget(t.Context(), writeLayout(t, alpine(t)), TargetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	r, err := Local(t.Context(), target, LocalOptions{
		Set: extract.New(extract.Options{TempDir: t.TempDir()}),
		Advisories: func(context.Context, []inventory.Key) (Advisories, error) {
			return partlyCovered{fewAdvisories{opensslFlaw("1.1.1a-r0")}}, nil
		},
		Policies: []policy.Policy{policy.Default()}, Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	if !hasGap(r, inventory.GapPartial) {
		t.Errorf("coverage does not tell that the advisories are partial: %+v", r.Coverage.Unknown)
	}
	var old bool
	for _, reason := range r.Reasons {
		old = old || reason.Rule == "old-advisories" && strings.Contains(reason.Message, "2025-11-24")
	}
	if !old {
		t.Errorf("the reasons do not tell how old the advisories are: %+v", r.Reasons)
	}
}

// TestReportHasNoNulls: whoever reads the document need not tell null from empty.
func TestReportHasNoNulls(t *testing.T) {
	clean := imageOf(t, layerOf(t, map[string]string{"etc/os-release": testdata(t, "alpine-3.10-os-release")}))
	for name, images := range map[string][]testImage{"image": {alpine(t)}, "nothing in it": {clean}, "several": {clean, alpine(t)}} {
		r, err := scanTarget(t, writeLayout(t, images...), opensslFlaw("1.1.1z-r0"))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if i := bytes.Index(raw, []byte("null")); i >= 0 {
			t.Errorf("%s: null in …%s", name, raw[max(0, i-80):i+4])
		}
	}
	var pending assessment
	if raw, err := json.Marshal(pending.report("x", oci.Manifest{}, policy.Verdict{})); err != nil || bytes.Contains(raw, []byte("null")) {
		t.Errorf("pending: %s, %v", raw, err)
	}
}

package e2e

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func layerDigest(t *testing.T, img v1.Image, i int) string {
	t.Helper()
	layers, err := img.Layers()
	check(t, err)
	return digest(t, layers[i])
}

// TestFormats pushes the same content in every media type and compression that clients
// write; what is found must not depend on it.
func TestFormats(t *testing.T) {
	s := sharedRegistry(t)
	for _, tc := range []struct {
		name string
		format
	}{
		{"oci-gzip", format{comp: compression.GZip}},
		{"oci-zstd", format{comp: compression.ZStd}},
		{"oci-uncompressed", format{comp: compression.None}},
		{"docker-gzip", format{docker: true, comp: compression.GZip}},
		{"docker-uncompressed", format{docker: true, comp: compression.None}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			repo := "formats/" + tc.name
			old := buildImage(t, tc.format, npmPart(t, handlebarsOld))
			s.push(t, repo, "old", old)
			r := s.show(t, repo+":old")
			r.wantDecision(t, "quarantine")
			wantHandlebars(t, r, layerDigest(t, old, 0))
			if r.gap("archive") || r.gap("unread") {
				t.Errorf("the layer was not read whole: %v", r.Coverage.Unknown)
			}

			fixed := buildImage(t, tc.format, npmPart(t, handlebarsFixed))
			s.push(t, repo, "fixed", fixed)
			s.show(t, repo+":fixed").wantDecision(t, "allow")
			got := s.do(t, http.MethodGet, "/v2/"+repo+"/blobs/"+layerDigest(t, fixed, 0), nil, "").want(t, http.StatusOK)
			if sha256Digest(got.body) != layerDigest(t, fixed, 0) {
				t.Error("the layer came back changed")
			}
		})
	}
}

// TestIndex pushes multi-arch indexes of real programs: each platform is judged by itself.
func TestIndex(t *testing.T) {
	s := sharedRegistry(t)
	old64 := platformImage(t, "old", "amd64", handlebarsOld)
	fixed64 := platformImage(t, "fixed", "amd64", handlebarsFixed)
	fixedArm := platformImage(t, "fixed", "arm64", handlebarsFixed)

	t.Run("all platforms fixed", func(t *testing.T) {
		dir, index := writeIndex(t, map[string]v1.Image{"amd64": fixed64, "arm64": fixedArm})
		s.client(t, "crane", "push", "--insecure", dir, s.ref("index/fixed", "crane")).mustRun(t)
		if r := s.show(t, "index/fixed:crane"); r.Digest != digest(t, index) {
			t.Errorf("digest is %s, pushed was %s", r.Digest, digest(t, index))
		}
		// skopeo writes the index anew; its images stay what they are.
		s.client(t, "skopeo", "--insecure-policy", "copy", "--all", "--dest-tls-verify=false", "oci:"+dir+":latest",
			"docker://"+s.ref("index/fixed", "skopeo")).mustRun(t)
		for _, tag := range []string{"crane", "skopeo"} {
			r := s.show(t, "index/fixed:"+tag)
			r.wantDecision(t, "allow")
			got := map[string]string{}
			for _, p := range r.Platforms {
				got[p.Platform] = p.Digest
			}
			want := map[string]string{"linux/amd64": digest(t, fixed64), "linux/arm64": digest(t, fixedArm)}
			if !maps.Equal(got, want) {
				t.Errorf("platforms of %s are %v, want %v", tag, got, want)
			}
			s.client(t, "crane", "pull", "--insecure", "--format", "oci", s.ref("index/fixed", tag), t.TempDir()+"/p").mustRun(t)
			s.client(t, "skopeo", "--insecure-policy", "copy", "--all", "--src-tls-verify=false",
				"docker://"+s.ref("index/fixed", tag), "oci:"+t.TempDir()+"/p:1").mustRun(t)
		}
	})

	t.Run("one platform vulnerable", func(t *testing.T) {
		dir, _ := writeIndex(t, map[string]v1.Image{"amd64": old64, "arm64": fixedArm})
		s.client(t, "crane", "push", "--insecure", dir, s.ref("index/mixed", "1")).mustRun(t)
		r := s.show(t, "index/mixed:1")
		r.wantDecision(t, "quarantine")
		decisions := map[string]string{}
		for _, p := range r.Platforms {
			if p.Digest == digest(t, old64) {
				p.find(t, "handlebars", handlebarsID)
				if f := p.find(t, "golang.org/x/net", "GO-2023-2102"); f.Version != "0.16.0" || f.Fixed != "0.17.0" {
					t.Errorf("x/net is %q, fixed in %q; want 0.16.0 and 0.17.0", f.Version, f.Fixed)
				}
			}
			decisions[p.Digest] = p.Decision
		}
		if decisions[digest(t, old64)] != "quarantine" || decisions[digest(t, fixedArm)] != "allow" {
			t.Errorf("decisions per platform are %v", decisions)
		}
		s.do(t, http.MethodGet, "/v2/index/mixed/manifests/"+digest(t, old64), nil, "").wantError(t, http.StatusForbidden, "DENIED")
		s.do(t, http.MethodGet, "/v2/index/mixed/manifests/"+digest(t, fixedArm), nil, "").want(t, http.StatusOK)
	})
}

// platformImage is an image with a program built for its platform and a package of npm.
func platformImage(t *testing.T, variant, arch, spec string) v1.Image {
	t.Helper()
	return buildImage(t, format{arch: arch}, part{files: goProgram(t, variant, arch), by: "COPY gobin /usr/bin/gobin"}, npmPart(t, spec))
}

// TestContents pushes each kind of real content that packages are read from, and looks
// for the finding that is known to be in it.
func TestContents(t *testing.T) {
	s := sharedRegistry(t)
	for _, tc := range []struct {
		name              string
		files             tree
		pkg, version      string // of the finding
		id, fixed         string
		fix               string
		decision, pkgPath string
	}{
		{name: "go program", files: goProgram(t, "old", "amd64"), pkg: "golang.org/x/net", version: "0.16.0",
			id: "CVE-2023-39325", fixed: "0.17.0", fix: "go get golang.org/x/net@v0.17.0", decision: "allow", pkgPath: "usr/bin/gobin"},
		{name: "jar", files: shiroJar(t), pkg: "org.apache.shiro:shiro-core", version: "1.3.2",
			id: "GHSA-26gr-cvq3-qxgf", fixed: "1.5.2", fix: "1.5.2", decision: "quarantine", pkgPath: "srv/app/lib/shiro-core-1.3.2.jar"},
		{name: "python", files: pillow(t), pkg: "pillow", version: "9.4.0", id: "CVE-2023-4863", fixed: "10.0.1",
			fix: "pip install", decision: "quarantine"},
		{name: "npm", files: npm(t, jqueryOld), pkg: "jquery", version: "3.4.1", id: "CVE-2020-11023", fixed: "3.5.0",
			fix: "npm install jquery@3.5.0", decision: "quarantine"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			img := buildImage(t, format{}, part{files: tc.files, by: "COPY . /"})
			tag := sha256Digest([]byte(tc.name))[7:19]
			s.push(t, "contents/app", tag, img)
			r := s.show(t, "contents/app:"+tag)
			f := r.find(t, tc.pkg, tc.id)
			if f.Version != tc.version || f.Fixed != tc.fixed {
				t.Errorf("finding is of %q, fixed in %q; want %q and %q", f.Version, f.Fixed, tc.version, tc.fixed)
			}
			wantWords(t, "fix", f.Fix, tc.fix)
			if f.Layer != layerDigest(t, img, 0) || f.Instruction != "COPY . /" {
				t.Errorf("layer %s by %q", f.Layer, f.Instruction)
			}
			r.wantDecision(t, tc.decision)
			if tc.pkgPath != "" && !r.hasPath(tc.pkgPath) {
				t.Errorf("no package was read from %s", tc.pkgPath)
			}
		})
	}
}

// TestAlpine reads the package database of a real Alpine image, which has what its
// release fixed: nothing is found, and what was looked at is said.
func TestAlpine(t *testing.T) {
	s := sharedRegistry(t)
	img := buildImage(t, format{}, part{files: testdata(t, "apk"), by: "ADD alpine-minirootfs.tar.gz /"})
	s.push(t, "contents/alpine", "3.10.4", img)
	r := s.show(t, "contents/alpine:3.10.4")
	r.wantDecision(t, "allow")
	if !r.hasPath("lib/apk/db/installed") || len(r.Packages) != 14 || r.Distro.ID != "alpine" {
		t.Errorf("%d packages of %q, want alpine's 14", len(r.Packages), r.Distro.ID)
	}
	for _, p := range r.Packages {
		if p.Name == "libssl1.1" && (p.Ecosystem != "Alpine:v3.10" || p.Source != "openssl" || p.Version != "1.1.1d-r2") {
			t.Errorf("libssl1.1 is %+v", p)
		}
	}
	if !slices.Contains(r.Coverage.Examined, "apk") {
		t.Errorf("examined is %v, without apk", r.Coverage.Examined)
	}
}

func (r report) hasPath(path string) bool {
	for _, p := range r.Packages {
		for _, have := range p.Paths {
			if have == path {
				return true
			}
		}
	}
	return false
}

// TestUncovered pushes content that the advisories do not cover: it is never just clean.
func TestUncovered(t *testing.T) {
	s := sharedRegistry(t)
	rhel := tree{
		"etc/os-release":         text("NAME=\"Red Hat Enterprise Linux\"\nID=\"rhel\"\nVERSION_ID=\"8.0\"\nPRETTY_NAME=\"Red Hat Enterprise Linux 8.0 (Ootpa)\"\n"),
		"var/lib/rpm/Packages":   testdata(t, "rpm")["Packages"],
		"usr/share/doc/rpm/note": text("the database above is the real one"),
	}
	img := buildImage(t, format{}, part{files: rhel, by: "ADD rootfs.tar.xz /"})
	a := s.push(t, "uncovered/rhel", "1", img)
	r := s.show(t, "uncovered/rhel:1")
	if len(r.Packages) == 0 {
		t.Error("the RPM database was not read")
	}
	if !r.gap("nodata") {
		t.Errorf("the report does not say that no advisories cover this distribution: %s", r.summary())
	}
	if len(r.Reasons) == 0 {
		t.Errorf("the verdict %s (header %q) does not say what was not seen", r.Decision, a.header.Get("Pratique-Decision"))
	}
	wantWords(t, "show", s.pratique("show", "uncovered/rhel:1").mustRun(t).stdout, "Red Hat Enterprise Linux 8.0", "advisories")
}

// TestWhiteout removes a vulnerable package in a later layer: it is no longer found.
func TestWhiteout(t *testing.T) {
	s := sharedRegistry(t)
	removed := tree{"srv/app/node_modules/.wh.handlebars": {mode: 0o644}}
	img := buildImage(t, format{}, npmPart(t, handlebarsOld), part{files: removed, by: "RUN npm uninstall handlebars"})
	s.push(t, "whiteout/app", "1", img)
	r := s.show(t, "whiteout/app:1")
	r.wantDecision(t, "allow")
	for _, p := range r.Packages {
		if p.Name == "handlebars" {
			t.Errorf("handlebars is still listed: %+v", p)
		}
	}
}

// TestBlobRange reads a real layer back in parts, as clients that resume do.
func TestBlobRange(t *testing.T) {
	s := sharedRegistry(t)
	img := buildImage(t, format{}, debian(t))
	s.push(t, "range/debian", "1", img)
	layers, err := img.Layers()
	check(t, err)
	r, err := layers[0].Compressed()
	check(t, err)
	defer r.Close()
	want, err := io.ReadAll(r)
	check(t, err)
	req, err := http.NewRequest(http.MethodGet, "http://"+s.addr+"/v2/range/debian/blobs/"+digest(t, layers[0]), nil)
	check(t, err)
	req.SetBasicAuth("admin", secret)
	req.Header.Set("Range", "bytes=1000000-1999999")
	res, err := http.DefaultClient.Do(req)
	check(t, err)
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	check(t, err)
	if res.StatusCode != http.StatusPartialContent || sha256Digest(got) != sha256Digest(want[1000000:2000000]) {
		t.Errorf("status %d with %d bytes, want 206 with the bytes asked for", res.StatusCode, len(got))
	}
}

package e2e

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Versions of real packages on both sides of a fix that the default policy asks for.
const (
	handlebarsOld   = "handlebars@4.7.8" // GHSA-2w6w-674q-4c4q, critical, fixed in 4.7.9
	handlebarsFixed = "handlebars@4.7.9"
	handlebarsID    = "GHSA-2w6w-674q-4c4q"
	jqueryOld       = "jquery@3.4.1" // CVE-2020-11023, known exploited, fixed in 3.5.0
	jqueryFixed     = "jquery@3.5.1"
)

// epoch is the time of every file of the images, so that equal content has equal digests.
var epoch = time.Unix(1735689600, 0).UTC()

// file is one entry of a layer: content, or the target of a symbolic link.
type file struct {
	body []byte
	mode int64
	link string
}

// tree is the content of a layer by path, without leading slashes.
type tree map[string]file

// text makes a plain file.
func text(s string) file { return file{body: []byte(s), mode: 0o644} }

// merge returns the entries of all trees, the later ones over the earlier.
func merge(trees ...tree) tree {
	out := tree{}
	for _, t := range trees {
		for name, f := range t {
			out[name] = f
		}
	}
	return out
}

// under returns t moved below a folder.
func (tr tree) under(dir string) tree {
	out := tree{}
	for name, f := range tr {
		out[path.Join(dir, name)] = f
	}
	return out
}

// tar returns tr as a tar stream, folders and order as docker writes them.
func (tr tree) tar(t *testing.T) []byte {
	t.Helper()
	var b strings.Builder
	w := tar.NewWriter(&b)
	made := map[string]bool{}
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range tr {
			if !yield(name) {
				return
			}
		}
	}) {
		for _, dir := range parents(name) {
			if !made[dir] {
				made[dir] = true
				check(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: epoch}))
			}
		}
		f := tr[name]
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: f.mode, Size: int64(len(f.body)), ModTime: epoch}
		if f.link != "" {
			h = &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: f.link, Mode: 0o777, ModTime: epoch}
		}
		check(t, w.WriteHeader(h))
		_, err := w.Write(f.body)
		check(t, err)
	}
	check(t, w.Close())
	return []byte(b.String())
}

// write puts tr into a folder of the file system.
func (tr tree) write(t *testing.T, dir string) {
	t.Helper()
	for name, f := range tr {
		p := filepath.Join(dir, name)
		check(t, os.MkdirAll(filepath.Dir(p), 0o755))
		if f.link != "" {
			check(t, os.Symlink(f.link, p))
			continue
		}
		check(t, os.WriteFile(p, f.body, fs.FileMode(f.mode)))
	}
}

func parents(name string) []string {
	var out []string
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		out = append(out, dir)
	}
	slices.Reverse(out)
	return out
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// readTree reads what lies below dir, links and devices left out.
func readTree(t *testing.T, dir string) tree {
	t.Helper()
	out := tree{}
	check(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		body, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		out[filepath.ToSlash(rel)] = file{body: body, mode: int64(info.Mode().Perm())}
		return err
	}))
	return out
}

// testdata reads a folder of the repository.
func testdata(t *testing.T, dir string) tree {
	t.Helper()
	return readTree(t, filepath.Join("testdata", dir))
}

// cached returns a path below the cache, made by build if it is not there. A build
// that breaks off leaves nothing behind.
func cached(t *testing.T, name string, build func(tmp string)) string {
	t.Helper()
	final := filepath.Join(cacheDir, name)
	if _, err := os.Stat(final); err == nil {
		return final
	}
	tmp, err := os.MkdirTemp(cacheDir, "making-")
	check(t, err)
	defer os.RemoveAll(tmp)
	made := filepath.Join(tmp, "made")
	build(made)
	if err := os.Rename(made, final); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	return final
}

// npm returns a package of the npm registry, unpacked as `npm install` lays it down.
func npm(t *testing.T, spec string) tree {
	t.Helper()
	archive := cached(t, "npm-"+spec+".tgz", func(tmp string) {
		dir := t.TempDir()
		command{name: program(t, "npm"), args: []string{"pack", "--silent", spec}, dir: dir}.mustRun(t)
		found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
		if err != nil || len(found) != 1 {
			t.Fatalf("npm pack %s left %q (%v)", spec, found, err)
		}
		body, err := os.ReadFile(found[0])
		check(t, err)
		check(t, os.WriteFile(tmp, body, 0o644))
	})
	f, err := os.Open(archive)
	check(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	check(t, err)
	out := tree{}
	name := spec[:strings.LastIndex(spec, "@")]
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return out
		}
		check(t, err)
		body, err := io.ReadAll(r)
		check(t, err)
		_, rel, _ := strings.Cut(h.Name, "/") // npm packs everything below package/
		out[path.Join("srv/app/node_modules", name, rel)] = file{body: body, mode: 0o644}
	}
}

// deb returns the files of a package of Debian, of those below one of the given folders.
func deb(t *testing.T, pkg string, dirs ...string) tree {
	t.Helper()
	root := cached(t, "deb-"+pkg, func(tmp string) {
		dir := t.TempDir()
		download := command{name: program(t, "apt-get"), args: []string{"download", "-qq", "-o", "APT::Sandbox::User=root", pkg}, dir: dir}
		if download.run(t).code != 0 { // most often there are no package lists yet
			command{name: "apt-get", args: []string{"update", "-qq"}, timeout: 5 * time.Minute}.mustRun(t)
			download.mustRun(t)
		}
		found, err := filepath.Glob(filepath.Join(dir, "*.deb"))
		if err != nil || len(found) != 1 {
			t.Fatalf("apt-get download %s left %q (%v)", pkg, found, err)
		}
		command{name: program(t, "dpkg-deb"), args: []string{"-x", found[0], tmp}}.mustRun(t)
	})
	out := tree{}
	for _, dir := range dirs {
		found, err := filepath.Glob(filepath.Join(root, dir))
		if err != nil || len(found) == 0 {
			t.Fatalf("Debian's %s has no %s (%v)", pkg, dir, err)
		}
		for _, p := range found {
			rel, err := filepath.Rel(root, p)
			check(t, err)
			out = merge(out, readTree(t, p).under(rel))
		}
	}
	return out
}

// shiroJar is a jar with a critical flaw that was fixed long ago (GHSA-26gr-cvq3-qxgf,
// fixed in 1.5.2), outside the reach of a package manager.
func shiroJar(t *testing.T) tree {
	t.Helper()
	for _, f := range deb(t, "libshiro-java", "usr/share/java/shiro-core.jar") {
		return tree{"srv/app/lib/shiro-core-1.3.2.jar": f}
	}
	t.Fatal("Debian's libshiro-java no longer has shiro-core.jar")
	return nil
}

// pillow is the metadata of a Python package with a known exploited flaw (libwebp,
// CVE-2023-4863, fixed in 10.0.1), in a virtual environment.
func pillow(t *testing.T) tree {
	t.Helper()
	out := tree{}
	for name, f := range deb(t, "python3-pil", "usr/lib/python3/dist-packages/Pillow-9.4.0.egg-info*") {
		out["opt/venv/lib/python3.11/site-packages/Pillow-9.4.0.egg-info/"+path.Base(name)] = f
	}
	return out
}

// goProgram builds testdata/gobin-VARIANT for a platform.
func goProgram(t *testing.T, variant, arch string) tree {
	t.Helper()
	out := filepath.Join(t.TempDir(), "gobin")
	command{name: program(t, "go"), args: []string{"build", "-trimpath", "-buildvcs=false", "-o", out, "."},
		dir: filepath.Join("testdata", "gobin-"+variant), timeout: 10 * time.Minute,
		env: []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch, "GOFLAGS=", "GOWORK=off",
			"GOCACHE=" + goEnv(t, "GOCACHE"), "GOMODCACHE=" + goEnv(t, "GOMODCACHE")}}.mustRun(t)
	body, err := os.ReadFile(out)
	check(t, err)
	return tree{"usr/bin/gobin": {body: body, mode: 0o755}}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command(program(t, "go"), "env", name).Output()
	check(t, err)
	return strings.TrimSpace(string(out))
}

// debianRoot is the root folder of a minimal Debian 12, made by debootstrap.
func debianRoot(t *testing.T) string {
	t.Helper()
	return cached(t, "debian-bookworm-minbase", func(tmp string) {
		if os.Geteuid() != 0 {
			t.Fatal("debootstrap makes a Debian root with chroot and needs root; run the tests as root")
		}
		command{name: program(t, "debootstrap"), args: []string{"--variant=minbase", "bookworm", tmp},
			timeout: 15 * time.Minute, env: []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "DEBIAN_FRONTEND=noninteractive"}}.mustRun(t)
		for _, junk := range []string{"var/cache/apt/archives/*.deb", "var/cache/apt/*.bin", "var/lib/apt/lists/*", "var/log/*", "dev/*"} {
			found, err := filepath.Glob(filepath.Join(tmp, junk))
			check(t, err)
			for _, p := range found {
				check(t, os.RemoveAll(p))
			}
		}
	})
}

// debianLayer is that root as a gzip-compressed layer: the path of the file.
func debianLayer(t *testing.T) string {
	t.Helper()
	root := debianRoot(t)
	return cached(t, "debian-bookworm-minbase.tar.gz", func(tmp string) {
		f, err := os.Create(tmp)
		check(t, err)
		z := gzip.NewWriter(f)
		w := tar.NewWriter(z)
		check(t, addRoot(w, root))
		check(t, errors.Join(w.Close(), z.Close(), f.Close()))
	})
}

// addRoot writes a root folder: files, folders, symbolic and hard links.
func addRoot(w *tar.Writer, root string) error {
	firstName := map[uint64]string{} // of each inode with more than one
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		link := ""
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			if link, err = os.Readlink(p); err != nil {
				return err
			}
		case !d.Type().IsRegular() && !d.IsDir():
			return nil // sockets and devices
		}
		h, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		h.Name, h.ModTime, h.Uname, h.Gname = filepath.ToSlash(rel), epoch, "", ""
		if d.IsDir() {
			h.Name += "/"
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 && d.Type().IsRegular() {
			if first, seen := firstName[st.Ino]; seen {
				h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
				return w.WriteHeader(h)
			}
			firstName[st.Ino] = h.Name
		}
		if err := w.WriteHeader(h); err != nil || !d.Type().IsRegular() {
			return err
		}
		body, err := os.Open(p)
		if err != nil {
			return err
		}
		defer body.Close()
		if _, err := io.Copy(w, body); err != nil {
			return fmt.Errorf("add %s: %w", p, err)
		}
		return nil
	})
}

package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"pratique.dev/pratique/internal/oci"
)

// Target is an image, or several, outside of the registry. Content that Fetch gives
// is not yet checked against its digest.
type Target interface {
	Name() string
	Roots(ctx context.Context) ([]oci.Descriptor, error)
	Fetch(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error)
	Close() error
}

// errAbsent says that a Target does not hold some content.
var errAbsent = errors.New("not in the image")

// TargetOptions say how a target is reached.
type TargetOptions struct {
	TempDir   string // for compressed archives; "" is the system's
	User      string // for a registry; "" takes what docker login left
	Password  string
	PlainHTTP bool // for a registry; one on loopback is always spoken to in plain HTTP when its name has a port
}

// OpenTarget finds out what name means: an OCI layout folder (DIR or DIR:TAG), an
// archive (docker save or OCI, plain or compressed), a root folder, or else an image
// in a registry. The prefixes oci:, docker-archive:, oci-archive:, dir: and docker://
// settle it where that is not plain. The caller closes the target.
func OpenTarget(ctx context.Context, name string, o TargetOptions) (Target, error) {
	for prefix, open := range map[string]func(string) (Target, error){
		"docker://":       func(s string) (Target, error) { return openRegistry(s, o) },
		"registry:":       func(s string) (Target, error) { return openRegistry(s, o) },
		"oci:":            openLayout,
		"dir:":            openRoot,
		"docker-archive:": func(s string) (Target, error) { return openArchive(ctx, s, o.TempDir) },
		"oci-archive:":    func(s string) (Target, error) { return openArchive(ctx, s, o.TempDir) },
	} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return open(rest)
		}
	}
	info, err := os.Stat(name)
	switch {
	case err == nil && !info.IsDir():
		return openArchive(ctx, name, o.TempDir)
	case err == nil && isLayout(name):
		return openLayout(name)
	case err == nil:
		return openRoot(name)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if dir, _, ok := cutTag(name); ok && isLayout(dir) {
		return openLayout(name)
	}
	if !namesRegistry(name) {
		return nil, fmt.Errorf("%s is no file or folder here, and does not name a registry (HOST/REPOSITORY:TAG)", name)
	}
	return openRegistry(name, o)
}

// namesRegistry says whether a name begins with a host, by the rule that docker goes
// by: the part before the first slash has a dot or a port, or is localhost.
func namesRegistry(name string) bool {
	host, _, ok := strings.Cut(name, "/")
	return ok && !strings.HasPrefix(host, ".") && (host == "localhost" || strings.ContainsAny(host, ".:"))
}

func isLayout(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "oci-layout"))
	return err == nil
}

// cutTag splits DIR:TAG at the last colon behind the last slash.
func cutTag(s string) (dir, tag string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.Contains(s[i:], "/") {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// rootTarget is a folder that holds a root file system.
type rootTarget struct{ dir string }

func openRoot(dir string) (Target, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("root folder: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("root folder %s is not a folder", dir)
	}
	return &rootTarget{dir}, nil
}

func (t *rootTarget) Name() string                                    { return t.dir }
func (t *rootTarget) Roots(context.Context) ([]oci.Descriptor, error) { return nil, nil }
func (t *rootTarget) Fetch(context.Context, oci.Descriptor) (io.ReadCloser, error) {
	return nil, errAbsent
}
func (t *rootTarget) Close() error { return nil }

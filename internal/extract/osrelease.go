package extract

import (
	"context"
	"errors"
	"strings"

	"pratique.dev/pratique/internal/inventory"
)

// osRelease reads which distribution a root file system is of (os-release(5)).
type osRelease struct{}

func (osRelease) Kind() string { return "os-release" }

func (osRelease) Wants(p string) bool {
	return p == "etc/os-release" || p == "usr/lib/os-release" ||
		strings.HasPrefix(p, "usr/lib/os.release.d/os-release-") // Fedora links to one of these
}

func (osRelease) Extract(_ context.Context, f *File, found *Found) error {
	text, err := f.ReadAll(64 << 10)
	if err != nil {
		return err
	}
	d := parseOSRelease(string(text))
	if d.IsZero() {
		found.Nothing()
		return errors.New("an os-release without an ID")
	}
	found.Distro(d)
	return nil
}

func parseOSRelease(text string) inventory.Distro {
	var d inventory.Distro
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(key, "#") {
			continue
		}
		value = printable(unquote(value), 256)
		switch key {
		case "ID":
			d.ID = value
		case "ID_LIKE":
			d.IDLike = value
		case "VERSION_ID":
			d.VersionID = value
		case "VERSION_CODENAME":
			d.Codename = value
		case "PRETTY_NAME":
			d.PrettyName = value
		case "CPE_NAME":
			d.CPE = value
		}
	}
	return d
}

// unquote undoes what a shell would: quotes around, and backslashes within double ones.
func unquote(v string) string {
	v = strings.TrimSpace(v)
	if len(v) < 2 || v[0] != v[len(v)-1] || v[0] != '"' && v[0] != '\'' {
		return v
	}
	quote, v := v[0], v[1:len(v)-1]
	if quote == '\'' || !strings.Contains(v, `\`) {
		return v
	}
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' && i+1 < len(v) && strings.IndexByte("\"\\$`", v[i+1]) >= 0 {
			i++
		}
		b.WriteByte(v[i])
	}
	return b.String()
}

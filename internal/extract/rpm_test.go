package extract

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	rpmdb "github.com/erikvarga/go-rpmdb/pkg"
	_ "github.com/ncruces/go-sqlite3/driver" // go-rpmdb reads SQLite through it
)

// TestAgainstGoRPMDB compares with an independent reader, field by field and file by file.
func TestAgainstGoRPMDB(t *testing.T) {
	for place, name := range map[string]string{
		"var/lib/rpm/Packages":             "rpm/bdb-libuuid/Packages",
		"usr/lib/sysimage/rpm/Packages.db": "rpm/ndb-sle15-bci/Packages.db.gz",
		"var/lib/rpm/rpmdb.sqlite":         "rpm/sqlite-cbl-mariner-2.0/rpmdb.sqlite.gz",
	} {
		t.Run(name, func(t *testing.T) {
			body := fixture(t, name)
			path := filepath.Join(t.TempDir(), "db")
			if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := rpmdb.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := db.ListPackages()
			if err != nil {
				t.Fatal(err)
			}
			s := New(Options{TempDir: t.TempDir()}).scan()
			s.regular(t.Context(), &File{Path: place, Size: int64(len(body)), Reader: strings.NewReader(body)})
			var got, want []string
			for _, p := range s.read[place] {
				got = append(got, strings.Join([]string{p.Binary, p.BinaryVersion, p.Arch, p.Module, p.Vendor}, "|"))
			}
			for _, p := range theirs {
				if p.Name == "gpg-pubkey" {
					continue
				}
				v := p.Version + "-" + p.Release
				if p.EpochNum() != 0 {
					v = fmt.Sprint(p.EpochNum(), ":", v)
				}
				want = append(want, strings.Join([]string{p.Name, v, p.Arch, p.Modularitylabel, p.Vendor}, "|"))
				files, err := p.InstalledFileNames()
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range files {
					if f != "/" && s.owner(strings.TrimPrefix(f, "/")) == "" {
						t.Errorf("%s owns %s, which is not seen", p.Name, f)
					}
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if len(want) == 0 || !slices.Equal(got, want) {
				t.Errorf("%d packages %q, want %d %q", len(got), got, len(want), want)
			}
		})
	}
}

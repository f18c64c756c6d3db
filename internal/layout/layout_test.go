// Package layout tests the floor plan of the module: a package imports only
// packages of the floors below its own, and some imports have one home.
package layout

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "pratique.dev/pratique/"

// floors lists every package, the ground first.
var floors = [][]string{
	{"internal/inflate", "internal/oci", "internal/version"},
	{"internal/access", "internal/blob", "internal/edge", "internal/inventory", "internal/rules"},
	{"internal/blob/blobtest", "internal/blob/fileblob", "internal/blob/memblob", "internal/condition", "internal/extract", "internal/vuln"},
	{"internal/policy", "internal/remediation"},
	{"internal/report"},
	{"internal/api", "internal/catalog"},
	{"internal/admin", "internal/audit", "internal/catalog/catalogtest", "internal/feed", "internal/identity", "internal/identity/issuertest", "internal/registry", "internal/scan", "internal/upkeep"},
	{"internal/apiserver", "internal/ociserver", "internal/web"},
	{"internal/server"},
	{"internal/cli"},
	{"cmd/pratique"},
}

// homes lists imports that only some packages may have.
var homes = map[string][]string{
	"database/sql": {"internal/catalog", "internal/catalog/catalogtest"},
	"os/exec":      {"internal/catalog/catalogtest"}, // starts the tests' PostgreSQL
}

// TestTour holds the table of ARCHITECTURE.md to the floors, and both to what there is.
func TestTour(t *testing.T) {
	root := os.DirFS("../..")
	var table strings.Builder
	for i, pkgs := range slices.Backward(floors) {
		var names []string
		for _, p := range pkgs {
			if files, err := fs.Glob(root, p+"/*.go"); err != nil || len(files) == 0 {
				t.Errorf("%s is on a floor and is not there (%v)", p, err)
			}
			names = append(names, "`"+strings.TrimPrefix(p, "internal/")+"`")
		}
		fmt.Fprintf(&table, "| %d | %s |\n", i+1, strings.Join(names, " "))
	}
	tour, err := fs.ReadFile(root, "ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(tour), "\n|---|---|\n"+table.String()+"\n") {
		t.Errorf("ARCHITECTURE.md shows other floors than these:\n%s", &table)
	}
}

func TestFloors(t *testing.T) {
	floor := map[string]int{}
	for i, pkgs := range floors {
		for _, p := range pkgs {
			floor[p] = i + 1
		}
	}
	root := os.DirFS("../..")
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && name != ".") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		src, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg := path.Dir(name)
		if floor[pkg] == 0 {
			t.Errorf("%s: %s is on no floor; give it one in this test", name, pkg)
			return nil
		}
		for _, spec := range f.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if users, ok := homes[imp]; ok && !slices.Contains(users, pkg) {
				t.Errorf("%s imports %q, which only %v may", name, imp, users)
			}
			if rel, ok := strings.CutPrefix(imp, module); ok && floor[rel] >= floor[pkg] {
				t.Errorf("%s (floor %d) imports %s (floor %d)", name, floor[pkg], rel, floor[rel])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

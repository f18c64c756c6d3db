package server

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/apiserver"
	"pratique.dev/pratique/internal/ociserver"
)

var update = flag.Bool("update", false, "rewrite the generated parts of documents")

// TestWhoMayDoWhat holds the table of docs/security.md to what both doors ask for; with -update it
// is written anew. That they ask for it, their own tests make sure of.
func TestWhoMayDoWhat(t *testing.T) {
	const path, begin, end = "../../docs/security.md", "<!-- generated: who may do what -->\n", "<!-- end -->\n"
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(doc), begin)
	had, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no %q with %q behind it", path, begin, end)
	}
	want := whoMayDoWhat(t)
	if *update {
		if err := os.WriteFile(path, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		had = want
	}
	if diff := cmp.Diff(had, want); diff != "" {
		t.Errorf("the table of %s is not what the program does; run with -update:\n%s", path, diff)
	}
}

// whoMayDoWhat is a table of kinds of requests, what each needs, and which built-in roles give it.
func whoMayDoWhat(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| request | needs | roles |\n|---|---|---|\n")
	for _, n := range append(ociserver.Needs(), apiserver.Needs()...) {
		var needs, roles []string
		for _, p := range n.AnyOf {
			needs = append(needs, "`"+string(p)+"`")
		}
		for _, r := range access.BuiltIn {
			if n.MetBy(r) {
				roles = append(roles, shortRole(r.Name))
			}
		}
		if n.Request == "" || len(needs) == 0 && n.Else == "" {
			t.Errorf("a kind of request without a name, or nobody's: %+v", n)
		}
		if slices.Contains(roles, "Owner") != (len(needs) > 0) && !slices.Contains(n.AnyOf, access.QuarantinePull) {
			t.Errorf("an Owner may not %s", n.Request)
		}
		if n.Else != "" {
			needs = append(needs, n.Else)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", n.Request, strings.Join(needs, " or "), strings.Join(roles, ", "))
	}
	return b.String()
}

// shortRole leaves out what all of Azure's newer names begin with.
func shortRole(name string) string { return strings.TrimPrefix(name, "Container Registry ") }

package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jedib0t/go-pretty/v6/table"

	"pratique.dev/pratique/internal/api"
)

// TestTable: words stand left, numbers and sizes right, and no line ends in spaces.
func TestTable(t *testing.T) {
	var b strings.Builder
	err := writeTable(&b, table.Row{"image", "count", "size", "note"}, []table.Row{
		{"a:1", 7, "49.4 MB", "short"}, {"team/app:1.0", 12345, "390.2 MB", "a longer one"}, {"b:2", 0, "0.1 kB", ""}})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"IMAGE         COUNT      SIZE  NOTE",
		"a:1               7   49.4 MB  short",
		"team/app:1.0  12345  390.2 MB  a longer one",
		"b:2               0    0.1 kB",
		"",
	}, "\n")
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

// TestReleases: in the order of their numbers, without the distribution's name.
func TestReleases(t *testing.T) {
	for _, tc := range []struct {
		ecosystem string
		releases  []string
		want      string
	}{
		{"Alpine", []string{"Alpine:v3.10", "Alpine:v3.3", "Alpine:v3.9", "Alpine:edge"}, "edge v3.3 v3.9 v3.10"},
		{"Debian", []string{"Debian:10", "Debian:3.0", "Debian:3.1", "Debian:13"}, "3.0 3.1 10 13"},
		{"Go", nil, ""},
	} {
		if got := releasesText(api.Ecosystem{Ecosystem: tc.ecosystem, Releases: tc.releases}); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.ecosystem, got, tc.want)
		}
	}
}

package identity

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
)

// BenchmarkIssue is a login and a token for it, as the token endpoint answers each with; it says the
// slowest of a hundred.
func BenchmarkIssue(b *testing.B) {
	cat, err := catalog.Open(b.Context(), "sqlite:"+filepath.Join(b.TempDir(), "catalog.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer cat.Close()
	i := New(cat, Options{})
	_, secret, _, err := i.Bootstrap(bg, "")
	if err != nil {
		b.Fatal(err)
	}
	asked := []Access{{typeRepository, "team/app", []string{"pull", "push"}}}
	var took []time.Duration
	for b.Loop() {
		begun := time.Now()
		l, err := i.Authenticate(bg, "admin", secret, nowhere)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := i.Issue(bg, l, access.Request{}, asked); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
}

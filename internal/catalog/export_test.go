package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
)

// Engine names the database.
func (c *Catalog) Engine() string { return c.engine.name }

// WithVFS has SQLite reach its files by a registered vfs.VFS.
func WithVFS(name string) Option { return func(c *Catalog) { c.vfs = name } }

// CheckpointAt sets the lengths of the log at which it is copied. Nothing is under way.
func (c *Catalog) CheckpointAt(every, longest int) {
	k := c.write.checkpoints
	k.end()
	k.every, k.longest = every, longest
	k.at.Store(int64(every))
	k.start(c.read, c.write, c.log)
}

// DB is the pool that writes.
func (c *Catalog) DB() *sql.DB { return c.write.db }

// HotTexts are the statements that requests wait for.
var HotTexts = map[string]string{
	"manifest by tag":    manifestByTag,
	"manifest by digest": manifestByDigest,
	"served by tag":      servedByTag,
	"served by digest":   servedByDigest,
	"blobs on a list":    fmt.Sprintf(blobsOnList, marks(2, 256)),
	"manifests on one":   fmt.Sprintf(manifestsOnList, marks(2, 256)),
	"manifest anywhere":  manifestAnywhere,
	"blob":               blobText,
	"linked":             linkedText,
	"findings":           findingsOfImage,
	"advisories for key": advisoriesForKey,
	"advisories by name": advisoriesForName,
}

// Learned calls f with every text that the catalog has run on SQLite.
func (c *Catalog) Learned(f func(text string)) {
	for _, p := range []*pool{c.read, c.write} {
		p.stmts.Range(func(k, _ any) bool { f(k.(string)); return true })
	}
}

// Plan is how SQLite runs a text.
func (c *Catalog) Plan(ctx context.Context, t testing.TB, text string) []string {
	t.Helper()
	text = sqliteWords(text)
	args := make([]any, 400)
	for i := range args {
		args[i] = 1
	}
	n := 0
	for n < len(args) && strings.Contains(text, "?"+itoa(n+1)) {
		n++
	}
	rows, err := c.write.db.QueryContext(ctx, "explain query plan "+text, args[:n]...)
	out, err := collect(rows, err, func(r *sql.Rows) (string, error) {
		var id, parent, unused int
		var s string
		return s, r.Scan(&id, &parent, &unused, &s)
	})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return out
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

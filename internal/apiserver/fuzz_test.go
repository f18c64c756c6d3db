package apiserver

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/blob/memblob"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/registry"
)

// FuzzQuery asks each route of lists, tags, trash and locks with any query and body: none is a
// fault of the server's.
func FuzzQuery(f *testing.F) {
	cat := catalogtest.Open(f)
	s := New(Options{Catalog: cat, Registry: registry.New(cat, memblob.New(), registry.Options{}), Log: slog.New(slog.DiscardHandler),
		Identity: asker{role: access.Role{Name: "all", Permissions: access.Permissions}}})
	paths := map[string]bool{api.PathReport: true, api.PathImages: true, api.PathTagHistory: true, api.PathTagUndo: true,
		api.PathTrash: true, api.PathRestore: true, api.PathPurge: true, api.PathLocks: true, api.PathRules: true}
	for _, q := range []string{
		"", "repository=team/app&reference=1.2", "prefix=team/&tag=v*&decision=allow&decision=pending&after=a:b&limit=3",
		"repository=team/app&tag=1.2&before=7&limit=1000", "prefix=a&after=team/app@9", "after=%00%ff&limit=-1",
		"repository=team/app&digest=sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
		"repository=team/app&reference=1&lock=write,delete&unlock=read", "a=b;c=%zz", "tag=**?*",
	} {
		f.Add(q, "restore: 7d\nquotas: [{prefix: a, bytes: 1GiB}]\n")
	}
	f.Fuzz(func(t *testing.T, query, body string) {
		for _, rt := range routes {
			method, path, _ := strings.Cut(rt.pattern, " ")
			if !paths[path] {
				continue
			}
			req := httptest.NewRequest(method, path, strings.NewReader(body))
			req.URL = &url.URL{Path: path, RawQuery: query}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, req)
			if w.Code >= http.StatusInternalServerError {
				t.Errorf("%s?%q: %d %s", rt.pattern, query, w.Code, w.Body)
			}
		}
	})
}

package apiserver

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/api"
)

// FuzzQuery asks each route but those of long jobs with any query and body: none is a fault of the
// server's.
func FuzzQuery(f *testing.F) {
	w := newWorld(f)
	jobs := map[string]bool{api.PathImport: true, api.PathGC: true, api.PathRetention: true, api.PathKeysRotate: true}
	for _, q := range []string{
		"", "repository=team/app&reference=1.2", "prefix=team/&tag=v*&decision=allow&decision=pending&after=a:b&limit=3",
		"repository=team/app&tag=1.2&before=7&limit=1000", "prefix=a&after=team/app@9", "after=%00%ff&limit=-1",
		"repository=team/app&digest=sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
		"repository=team/app&reference=1&lock=write,delete&unlock=read", "a=b;c=%zz", "tag=**?*", "principal=admin&id=1&role=Owner&scope=team/*&permission=repository.pull&at=2027-01-01T00:00:00Z",
		"actor=a&since=2026-01-01T00:00:00Z&before=3&seq=1&hash=00",
	} {
		f.Add(q, `{"name": "x", "kind": "user", "permissions": ["repository.pull"], "actions": ["a:content/read"]}`)
		f.Add(q, "restore: 7d\nquotas: [{prefix: a, bytes: 1GiB}]\n")
	}
	f.Fuzz(func(t *testing.T, query, body string) {
		for _, rt := range routes {
			method, path, _ := strings.Cut(rt.pattern, " ")
			if jobs[path] {
				continue
			}
			req := httptest.NewRequest(method, path, strings.NewReader(body))
			req.URL = &url.URL{Path: path, RawQuery: query}
			req.SetBasicAuth(w.owner.name, w.owner.secret)
			rec := httptest.NewRecorder()
			w.s.ServeHTTP(rec, req)
			if rec.Code >= http.StatusInternalServerError || rec.Code == http.StatusUnauthorized {
				t.Errorf("%s?%q: %d %s", rt.pattern, query, rec.Code, rec.Body)
			}
		}
	})
}

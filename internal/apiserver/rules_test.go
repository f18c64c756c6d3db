package apiserver

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/rules"
)

func TestRules(t *testing.T) {
	w := newWorld(t)
	send := func(method, body string) (int, string) {
		t.Helper()
		res := w.send(w.owner, method, api.PathRules, body)
		return res.StatusCode, readAll(t, res)
	}
	const document = "# mine\nquotas: [{prefix: a, tags: 5}]\n"
	for _, tc := range []struct {
		name, method, body string
		status             int
		says               string
	}{
		{"none yet", http.MethodGet, "", 200, `"source":""`},
		{"set", http.MethodPut, document, 200, `"usage":[{"bytes":0,"tags":0}]`},
		{"not right", http.MethodPut, "quotas:\n  - {prefix: a}", 400, `"line":2`},
		{"too long", http.MethodPut, strings.Repeat(" ", rules.MaxDocument+100), 400, "at most 65536"},
	} {
		if status, body := send(tc.method, tc.body); status != tc.status || !strings.Contains(body, tc.says) {
			t.Errorf("%s: %d %s; want %d, %s", tc.name, status, body, tc.status, tc.says)
		}
	}
	_, body := send(http.MethodGet, "")
	var got api.Rules
	if err := json.Unmarshal([]byte(body), &got); err != nil || got.Source != document || got.Rules.Quotas[0].Tags != 5 {
		t.Errorf("%v: %s", err, body)
	}
}

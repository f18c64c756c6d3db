package e2e

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
)

// auditRecord is what the tests look at of a record.
type auditRecord struct {
	Seq                                               int64
	Actor, Action, Target, Decision, Address, Request string
	Count                                             int
}

// audited returns the records once one is there that is wanted.
func (s *server) audited(t *testing.T, wanted func(auditRecord) bool, args ...string) []auditRecord {
	t.Helper()
	var out struct{ Records []auditRecord }
	check(t, s.await(20*time.Second, "done with the record that is wanted", func() (bool, error) {
		r := s.pratique(append([]string{"audit", "list", "--limit", "1000", "-o", "json"}, args...)...).run(t)
		if r.code != 0 {
			return false, nil
		}
		out.Records = nil
		err := json.Unmarshal([]byte(r.stdout), &out)
		return slices.ContainsFunc(out.Records, wanted), err
	}))
	return out.Records
}

// TestAudit: what was done and refused is told, by whom and from where; the log can be handed on and
// verified, and whoever changes it is found out.
func TestAudit(t *testing.T) {
	data := loadedData(t)
	s := start(t, data, "--audit-pulls")
	img := smallImage(t, "to be told of")
	s.push(t, "team/app", "v1", img)
	s.pulled(t, "team/app", "v1", img)
	s.pratique("principal", "create", "robot", "--kind", "service", "--role", "AcrPull", "--scope", "team/*").mustRun(t)
	for range 4 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+"/v2/", nil)
		check(t, err)
		req.SetBasicAuth("robot", "wrong")
		res, err := http.DefaultClient.Do(req)
		check(t, err)
		check(t, res.Body.Close())
	}
	s.pratique("gc").mustRun(t)
	all := s.audited(t, func(r auditRecord) bool { return r.Action == "gc" })
	for _, want := range []auditRecord{
		{Action: "push", Actor: "admin", Target: "team/app:v1", Decision: "allowed"},
		{Action: "pull", Actor: "admin", Target: "team/app:v1", Decision: "allowed"},
		{Action: "principal-create", Actor: "admin", Target: "robot", Decision: "allowed"},
		{Action: "secret-add", Actor: "admin", Target: "robot", Decision: "allowed"},
		{Action: "role-assign", Actor: "admin", Target: "robot", Decision: "allowed"},
		{Action: "login", Actor: "robot", Decision: "denied"},
		{Action: "gc", Actor: "admin", Decision: "allowed"},
	} {
		if !slices.ContainsFunc(all, func(r auditRecord) bool {
			return r.Action == want.Action && r.Actor == want.Actor && strings.HasPrefix(r.Target, want.Target) && r.Decision == want.Decision && r.Address == "127.0.0.1" && r.Request != ""
		}) {
			t.Errorf("no record of %+v in %+v", want, all)
		}
	}
	if denied := s.audited(t, func(auditRecord) bool { return true }, "--decision", "denied", "--since", "1h"); len(denied) == len(all) {
		t.Error("the filter lets all through")
	}

	r := s.pratique("audit", "verify").mustRun(t)
	_, head, ok := strings.Cut(strings.TrimSpace(r.stdout), "head  ")
	if !ok {
		t.Fatalf("%s", r.stdout)
	}
	s.pratique("audit", "verify", "--head", head, "-o", "json").mustRun(t)
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	s.pratique("audit", "export", "--file", file).mustRun(t)
	raw, err := os.ReadFile(file)
	check(t, err)
	if n := strings.Count(string(raw), "\n"); n < len(all) || !strings.HasPrefix(string(raw), `{"seq":1,`) {
		t.Errorf("exported %d lines of %d records", n, len(all))
	}
	check(t, s.stop())

	upkeep(t, 0, "audit", "verify", "--data", data, "--head", head)
	db, err := sqlite3.Open("file:" + filepath.Join(data, "catalog.db"))
	check(t, err)
	check(t, errors.Join(db.Exec(`update audit set actor = 'somebody' where seq = 1`), db.Close()))
	upkeep(t, 1, "audit", "verify", "--data", data)
	upkeep(t, 2, "audit", "verify", "--data", t.TempDir())
	upkeep(t, 2, "audit", "verify", "--data", data, "--head", "1:short")
}

package apiserver

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/edge"
)

// heard takes in what the door tells of.
type heard struct {
	mu   sync.Mutex
	told []catalog.Record
}

func (h *heard) Note(r catalog.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told = append(h.told, r)
}

func (h *heard) take() []catalog.Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.told
	h.told = nil
	return out
}

// TestRefusalsAreTold: each kind of request that is refused to who is known, and each wrong secret, is told
// with who, from where and by which request; without credentials there is nothing to tell.
func TestRefusalsAreTold(t *testing.T) {
	w := newWorld(t)
	nothing := w.principal("nothing", access.KindService, nil)
	h := &heard{}
	w.s.o.Audit = h
	door := edge.Proxies{}.Handler(w.s)
	ask := func(rt route, name, secret string) *httptest.ResponseRecorder {
		method, path, _ := strings.Cut(rt.pattern, " ")
		r := httptest.NewRequest(method, path+"?repository=team/app&reference=1&principal=admin", nil)
		if name != "" {
			r.SetBasicAuth(name, secret)
		}
		rec := httptest.NewRecorder()
		door.ServeHTTP(rec, r)
		return rec
	}
	for _, rt := range routes {
		rec := ask(rt, nothing.name, nothing.secret)
		told := h.take()
		if rec.Code == http.StatusForbidden {
			if len(told) != 1 || told[0].Actor != "nothing" || told[0].ActorID == "" || told[0].Kind != "service" || told[0].Decision != catalog.AuditDenied || !strings.HasPrefix(told[0].Target, rt.pattern) ||
				told[0].Address != "192.0.2.1" || told[0].Request == "" || told[0].Request != rec.Header().Get("X-Request-Id") {
				t.Errorf("%s: it is told %+v", rt.pattern, told)
			}
		} else if rt.also == nobody || len(told) > 0 {
			t.Errorf("%s: %d, and it is told %+v", rt.pattern, rec.Code, told)
		}
		rec = ask(rt, "nothing", "wrong secret")
		if told := h.take(); rec.Code != http.StatusUnauthorized || len(told) != 1 || told[0].Action != "login" || told[0].Actor != "nothing" || told[0].ActorID != "" || told[0].Decision != catalog.AuditDenied {
			t.Errorf("%s with a wrong secret: %d, and it is told %+v", rt.pattern, rec.Code, told)
		}
		ask(rt, "", "")
		if told := h.take(); len(told) != 0 {
			t.Errorf("%s without credentials: it is told %+v", rt.pattern, told)
		}
	}
}

// TestEscalationIsTold: who tries to give what they do not have is refused inside of a request that they may send,
// and that is told; what is only wrong is not.
func TestEscalationIsTold(t *testing.T) {
	w, mallory := newManagedWorld(t)
	h := &heard{}
	w.s.o.Audit = h
	for _, tc := range []struct {
		body api.NewAssignment
		want int
		told bool
	}{
		{api.NewAssignment{Principal: "mallory", Role: "Owner"}, http.StatusForbidden, true},
		{api.NewAssignment{Principal: "mallory", Role: "no such role"}, http.StatusNotFound, false},
		{api.NewAssignment{Principal: "mallory", Role: "AcrPull", Scope: "team/app"}, http.StatusOK, false},
	} {
		res := w.send(mallory, http.MethodPost, api.PathAssignments, tc.body)
		told := h.take()
		if (len(told) == 1) != tc.told || tc.told && (res.StatusCode != tc.want || told[0].Actor != "mallory" || told[0].Decision != catalog.AuditDenied || !strings.Contains(told[0].Why, "cannot give")) {
			t.Errorf("%+v: %d, and it is told %+v", tc.body, res.StatusCode, told)
		}
	}
}

// TestDeedsAreTold: what is done and leaves no record in the catalog is told, also where it failed.
func TestDeedsAreTold(t *testing.T) {
	for pattern := range deeds {
		found := false
		for _, rt := range routes {
			found = found || rt.pattern == pattern
		}
		if !found {
			t.Errorf("%s is no kind of request", pattern)
		}
	}
	w := newWorld(t)
	h := &heard{}
	w.s.o.Audit = h
	fault := false
	w.s.o.Collect = func(_ context.Context, _ bool, progress func(api.Collection)) (api.Collection, error) {
		progress(api.Collection{}) // so that the answer has begun
		if fault {
			return api.Collection{}, errors.New("the disk is gone")
		}
		return api.Collection{}, nil
	}
	for _, query := range []string{"", "?dryRun=true"} {
		for _, fault = range []bool{false, true} {
			res := w.send(w.owner, http.MethodPost, api.PathGC+query, nil)
			told := h.take()
			action := map[string]string{"": "gc", "?dryRun=true": "gc-dry-run"}[query]
			if res.StatusCode != http.StatusOK || len(told) != 1 || told[0].Action != action || (told[0].Decision == catalog.AuditFailed) != fault {
				t.Errorf("a collection that fails, %v: it is told %+v", fault, told)
			}
		}
	}
	for _, status := range []int{http.StatusOK, http.StatusTooManyRequests} { // the second comes too soon
		res := w.send(w.owner, http.MethodPost, api.PathKeysRotate, nil)
		told := h.take()
		want := map[bool]string{true: catalog.AuditAllowed, false: catalog.AuditFailed}[status == http.StatusOK]
		if res.StatusCode != status || len(told) != 1 || told[0].Action != "keys-rotate" || told[0].Decision != want {
			t.Errorf("%d, and it is told %+v", res.StatusCode, told)
		}
	}
}

package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running starts a server on a data folder, and returns what it said of itself and how
// to end it, which returns Run's error.
func running(t *testing.T, cfg Config) (Started, func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	up, ended := make(chan Started, 1), make(chan error, 1)
	cfg.Listen, cfg.Log = "127.0.0.1:0", slog.New(slog.DiscardHandler)
	cfg.Started = func(s Started) { up <- s }
	go func() { ended <- Run(ctx, cfg) }()
	select {
	case s := <-up:
		return s, func() error { cancel(); return <-ended }
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	panic("unreachable")
}

func get(t *testing.T, url, user, password string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestRun(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s, end := running(t, Config{Data: data, Version: "1"})
	if !s.Created || !strings.HasPrefix(s.Secret, "pratique_") || s.Admin != "admin" {
		t.Errorf("first start: %+v", s)
	}
	for _, tc := range []struct {
		path, user, password string
		want                 int
	}{
		{"/readyz", "", "", http.StatusOK},
		{"/", "", "", http.StatusOK},
		{"/nothing", "", "", http.StatusNotFound},
		{"/v2/", "", "", http.StatusUnauthorized},
		{"/v2/", s.Admin, s.Secret + "x", http.StatusUnauthorized},
		{"/v2/", s.Admin, s.Secret, http.StatusOK},
		{"/api/v1/images", "", "", http.StatusUnauthorized},
		{"/api/v1/images", s.Admin, "wrong", http.StatusUnauthorized},
		{"/api/v1/images", s.Admin, s.Secret, http.StatusOK},
		{"/api/v1/images?limit=0", s.Admin, s.Secret, http.StatusBadRequest},
		{"/api/v1/report?repository=Bad", s.Admin, s.Secret, http.StatusBadRequest},
		{"/api/v1/report?repository=team/app&reference=1", s.Admin, s.Secret, http.StatusNotFound},
		{"/api/v1/advisories", s.Admin, s.Secret, http.StatusOK},
		{"/api/v1/advisories/import", s.Admin, s.Secret, http.StatusMethodNotAllowed},
		{"/api/v1/status", s.Admin, s.Secret, http.StatusOK},
		{"/api/v2/", s.Admin, s.Secret, http.StatusNotFound},
	} {
		if got, body := get(t, s.URL+tc.path, tc.user, tc.password); got != tc.want {
			t.Errorf("GET %s as %q: %d, want %d: %s", tc.path, tc.user, got, tc.want, body)
		}
	}
	if err := Run(t.Context(), Config{Data: data, Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "in use by another pratique") {
		t.Errorf("a second server on the folder: %v", err)
	}
	if err := end(); err != nil {
		t.Fatalf("end: %v", err)
	}
	if entries, err := os.ReadDir(filepath.Join(data, "tmp")); err != nil || len(entries) > 0 {
		t.Errorf("left in tmp: %v, %v", entries, err)
	}
	again, end := running(t, Config{Data: data, Version: "2"})
	if again.Created || again.Secret != "" {
		t.Errorf("second start shows a secret: %+v", again)
	}
	if code, _ := get(t, again.URL+"/v2/", s.Admin, s.Secret); code != http.StatusOK {
		t.Errorf("the secret of the first start: %d", code)
	}
	if err := end(); err != nil {
		t.Fatalf("end: %v", err)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = Run(t.Context(), Config{Data: t.TempDir(), Listen: l.Addr().String(), Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("got %v, want the address and what to do", err)
	}
}

func TestWeakAdminSecret(t *testing.T) {
	err := Run(t.Context(), Config{Data: t.TempDir(), Listen: "127.0.0.1:0", AdminSecret: "short", Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "first administrator") {
		t.Errorf("got %v, want a refusal", err)
	}
}

// TestNewVersionJudgesAnew starts a later version on the data of an earlier one.
func TestNewVersionJudgesAnew(t *testing.T) {
	data := t.TempDir()
	for _, version := range []string{"1", "1", "2"} {
		p, err := open(t.Context(), Config{Data: data, Version: version, Log: slog.New(slog.DiscardHandler)}, nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := p.cat.Setting(t.Context(), judgedBy); err != nil || string(got) != version+"/"+p.set.Version() {
			t.Errorf("judged by %q, %v", got, err)
		}
		if _, ok, err := p.cat.NextDue(t.Context()); ok || err != nil {
			t.Errorf("something is due in an empty catalog: %v", err)
		}
		if err := p.cat.Close(); err != nil {
			t.Error(err)
		}
		if err := p.store.Close(); err != nil {
			t.Error(err)
		}
	}
}

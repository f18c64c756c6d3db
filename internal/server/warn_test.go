package server

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/api"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/identity"
)

// TestWarn: of a secret that ends an event and a line of the log tell 30, 7 and 1 days before, once
// each, and without the secret.
func TestWarn(t *testing.T) {
	var log bytes.Buffer
	p := &parts{cat: catalogtest.Open(t), cfg: Config{Log: slog.New(slog.NewTextHandler(&log, nil))}}
	ctx, now := t.Context(), time.Now().UTC().Truncate(time.Second)
	by := catalog.Act{By: "ann", Now: now}
	err := p.cat.CreatePrincipal(ctx, catalog.Account{Principal: access.Principal{ID: "1", Kind: access.KindService, Name: "ci"}}, by)
	if err == nil {
		err = p.cat.AddSecret(ctx, catalog.Secret{ID: "s1", Principal: "1", Hash: []byte("hash"), Expires: now.AddDate(0, 0, 60)}, by)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ in, events int }{{0, 0}, {29, 0}, {31, 1}, {31, 1}, {40, 1}, {54, 2}, {59, 3}, {61, 3}} {
		if err := p.warnNow(ctx, now.AddDate(0, 0, tc.in).Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		events, err := p.cat.Events(ctx, 0, 100)
		if err != nil || len(events) != tc.events || strings.Count(log.String(), "a secret ends soon") != tc.events {
			t.Fatalf("after %d days: %d events (%v), log:\n%s", tc.in, len(events), err, &log)
		}
	}
	events, err := p.cat.Events(ctx, 0, 1)
	if err != nil || events[0].Kind != catalog.EventSecretExpires || events[0].By != "ci" || !strings.Contains(string(events[0].Detail), `"days":30`) {
		t.Errorf("%+v (%v)", events, err)
	}
}

// TestJWKS: everybody can have the public keys, and nothing of the private ones.
func TestJWKS(t *testing.T) {
	p := &parts{identity: identity.New(catalogtest.Open(t), identity.Options{}), cfg: Config{Log: slog.New(slog.DiscardHandler)}}
	w := httptest.NewRecorder()
	p.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, api.PathJWKS, nil))
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(w.Body.Bytes(), &set); err != nil || w.Code != http.StatusOK || len(set.Keys) != 1 {
		t.Fatalf("%d %s (%v)", w.Code, w.Body, err)
	}
	if k := set.Keys[0]; k["d"] != nil || k["x"] == nil || k["kid"] == nil {
		t.Errorf("key %v", k)
	}
}

package api

import (
	"net/http"
	"testing"
)

func TestServerAddress(t *testing.T) {
	for server, want := range map[string]string{
		"127.0.0.1:5000":           "http://127.0.0.1:5000",
		"127.9.9.9":                "http://127.9.9.9",
		"localhost:5000":           "http://localhost:5000",
		"LOCALHOST":                "http://LOCALHOST",
		"[::1]:5000":               "http://[::1]:5000",
		"[::ffff:127.0.0.1]":       "http://[::ffff:127.0.0.1]",
		"127.0.0.1.evil.example":   "https://127.0.0.1.evil.example",
		"127.x.evil.example:5000":  "https://127.x.evil.example:5000",
		"localhost.evil.example":   "https://localhost.evil.example",
		"[::1].evil.example":       "",
		"127.0.0.1@evil.example":   "https://127.0.0.1@evil.example",
		"registry.example":         "https://registry.example",
		"http://registry.example":  "http://registry.example",
		"ftp://registry.example":   "",
		"":                         "",
		"https://registry.example": "https://registry.example",
	} {
		c, err := NewClient(server, "", "", http.DefaultClient)
		got := ""
		if err == nil {
			got = c.Server()
		}
		if got != want {
			t.Errorf("NewClient(%q) speaks to %q, %v; want %q", server, got, err, want)
		}
	}
}

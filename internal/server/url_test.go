package server

import (
	"net"
	"testing"
)

func TestExternalURL(t *testing.T) {
	for _, tc := range []struct {
		configured string
		listened   string
		want       string // "" for an error
	}{
		{"", "127.0.0.1:5000", "http://127.0.0.1:5000"},
		{"", "192.0.2.7:80", "http://192.0.2.7:80"},
		{"", "[::]:5000", "http://127.0.0.1:5000"},
		{"", "0.0.0.0:5000", "http://127.0.0.1:5000"},
		{"https://registry.example", "0.0.0.0:5000", "https://registry.example"},
		{"https://registry.example:8443/", "127.0.0.1:5000", "https://registry.example:8443"},
		{"registry.example", "127.0.0.1:5000", ""},
		{"ftp://registry.example", "127.0.0.1:5000", ""},
		{"https://registry.example/under", "127.0.0.1:5000", ""},
	} {
		addr, err := net.ResolveTCPAddr("tcp", tc.listened)
		if err != nil {
			t.Fatal(err)
		}
		got, err := externalURL(tc.configured, "http", addr)
		switch {
		case tc.want == "" && err == nil:
			t.Errorf("%q on %s: got %s, want an error", tc.configured, tc.listened, got)
		case tc.want != "" && (err != nil || got.String() != tc.want):
			t.Errorf("%q on %s: got %v, %v; want %s", tc.configured, tc.listened, got, err, tc.want)
		}
	}
}

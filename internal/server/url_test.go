package server

import (
	"net"
	"testing"
)

func TestExternalURL(t *testing.T) {
	for _, tc := range []struct {
		configured string
		names      []string // that an authority makes certificates for
		listened   string
		want       string // "" for an error
	}{
		{"", nil, "127.0.0.1:5000", "http://127.0.0.1:5000"},
		{"", nil, "192.0.2.7:80", "http://192.0.2.7:80"},
		{"", nil, "[::]:5000", "http://127.0.0.1:5000"},
		{"", nil, "0.0.0.0:5000", "http://127.0.0.1:5000"},
		{"https://registry.example", nil, "0.0.0.0:5000", "https://registry.example"},
		{"https://registry.example:8443/", nil, "127.0.0.1:5000", "https://registry.example:8443"},
		{"", []string{"registry.example", "r.example"}, "0.0.0.0:443", "http://registry.example"},
		{"", []string{"registry.example"}, "127.0.0.1:5000", "http://registry.example:5000"},
		{"https://other.example", []string{"registry.example"}, "127.0.0.1:5000", "https://other.example"},
		{"registry.example", nil, "127.0.0.1:5000", ""},
		{"ftp://registry.example", nil, "127.0.0.1:5000", ""},
		{"https://registry.example/under", nil, "127.0.0.1:5000", ""},
	} {
		addr, err := net.ResolveTCPAddr("tcp", tc.listened)
		if err != nil {
			t.Fatal(err)
		}
		got, err := externalURL(tc.configured, "http", tc.names, addr)
		switch {
		case tc.want == "" && err == nil:
			t.Errorf("%q on %s: got %s, want an error", tc.configured, tc.listened, got)
		case tc.want != "" && (err != nil || got.String() != tc.want):
			t.Errorf("%q on %s: got %v, %v; want %s", tc.configured, tc.listened, got, err, tc.want)
		}
	}
}

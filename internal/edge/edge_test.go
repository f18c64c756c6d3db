package edge

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestParseProxies(t *testing.T) {
	for s, want := range map[string]int{"": 0, "10.0.0.0/8": 1, "10.0.0.0/8, 192.0.2.7,2001:db8::/32,": 3} {
		if p, err := ParseProxies(s); err != nil || len(p) != want {
			t.Errorf("ParseProxies(%q) = %v, %v", s, p, err)
		}
	}
	for _, s := range []string{"x", "10.0.0.0/33", "10.0.0.0/8;10.1.1.1", "proxy.example"} {
		if p, err := ParseProxies(s); err == nil {
			t.Errorf("ParseProxies(%q) = %v", s, p)
		}
	}
}

func TestOrigin(t *testing.T) {
	const proxy, client = "10.0.0.1:1234", "198.51.100.9:1234"
	for name, tc := range map[string]struct {
		peer   string
		header map[string]string
		want   string
	}{
		"nobody's":             {client, nil, "http://r.example 198.51.100.9"},
		"a client lies":        {client, map[string]string{"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.1;proto=https"}, "http://r.example 198.51.100.9"},
		"a proxy says nothing": {proxy, nil, "http://r.example 10.0.0.1"},
		"X":                    {proxy, map[string]string{"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "HTTPS", "X-Forwarded-Host": "e.example:8443"}, "https://e.example:8443 192.0.2.1"},
		"X without an address": {proxy, map[string]string{"X-Forwarded-Proto": "https"}, "https://r.example 10.0.0.1"},
		"X through two":        {proxy, map[string]string{"X-Forwarded-For": "192.0.2.1, 10.0.0.2"}, "http://r.example 192.0.2.1"},
		"X with a lie before":  {proxy, map[string]string{"X-Forwarded-For": "1.1.1.1, 192.0.2.1"}, "http://r.example 192.0.2.1"},
		"X with a port":        {proxy, map[string]string{"X-Forwarded-For": "[2001:db8::1]:99"}, "http://r.example 2001:db8::1"},
		"X of two protocols":   {proxy, map[string]string{"X-Forwarded-Proto": "https, http"}, "http://r.example 10.0.0.1"},
		"Forwarded":            {proxy, map[string]string{"Forwarded": `for="[2001:db8::1]:4711";proto=https;host=e.example`}, "https://e.example 2001:db8::1"},
		"Forwarded before X":   {proxy, map[string]string{"Forwarded": "for=192.0.2.1", "X-Forwarded-For": "192.0.2.2", "X-Forwarded-Proto": "https"}, "http://r.example 192.0.2.1"},
		"Forwarded with a lie": {proxy, map[string]string{"Forwarded": "for=1.1.1.1;proto=https;host=evil.example, for=192.0.2.1;proto=http"}, "http://r.example 192.0.2.1"},
		"Forwarded, quoted":    {proxy, map[string]string{"Forwarded": `for="a,b;c\"d", For=192.0.2.1`}, "http://r.example 192.0.2.1"},
		"hidden":               {proxy, map[string]string{"Forwarded": "for=_secret"}, "http://r.example invalid IP"},
		"no such protocol":     {proxy, map[string]string{"X-Forwarded-Proto": "javascript"}, "http://r.example 10.0.0.1"},
		"a broken host":        {proxy, map[string]string{"X-Forwarded-Host": `e.example" x="`}, "http://r.example 10.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "http://r.example/v2/", nil)
			r.RemoteAddr = tc.peer
			for k, v := range tc.header {
				r.Header.Set(k, v)
			}
			var got Origin
			Proxies{netip.MustParsePrefix("10.0.0.0/8")}.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				got = OriginOf(r)
			})).ServeHTTP(httptest.NewRecorder(), r)
			if text := got.Scheme + "://" + got.Host + " " + got.Addr.String(); text != tc.want {
				t.Errorf("got %s, want %s", text, tc.want)
			}
		})
	}
}

// FuzzOrigin: whatever a proxy hands on, what comes of it can stand in an address, and headers
// of a client change nothing.
func FuzzOrigin(f *testing.F) {
	f.Add(`for=192.0.2.1;proto=https;host=a.example, for="[2001:db8::1]:1"`, "192.0.2.1, 10.0.0.1", "https", "a.example")
	f.Add(`for="\"`, ",", `"`, "[::1]:5000")
	f.Fuzz(func(t *testing.T, fwd, xfor, proto, host string) {
		for _, peer := range []string{"10.0.0.1:1", "198.51.100.9:1"} {
			r := httptest.NewRequest(http.MethodGet, "http://r.example/", nil)
			r.RemoteAddr = peer
			r.Header = http.Header{"Forwarded": {fwd}, "X-Forwarded-For": {xfor}, "X-Forwarded-Proto": {proto}, "X-Forwarded-Host": {host}}
			var got Origin
			Proxies{netip.MustParsePrefix("10.0.0.0/8")}.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				got = OriginOf(r)
			})).ServeHTTP(httptest.NewRecorder(), r)
			if got.Scheme != "http" && got.Scheme != "https" || !isHost(got.Host) {
				t.Errorf("%+v", got)
			}
			if peer[0] == '1' && peer[1] == '9' && (got != Origin{netip.MustParseAddr("198.51.100.9"), "http", "r.example", got.Request} || got.Request == "") {
				t.Errorf("a client is believed: %+v", got)
			}
		}
	})
}

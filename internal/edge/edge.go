// Package edge is what stands between the network and the doors: how many connections
// there may be, by which certificate they are answered, whom a request comes from where
// proxies stand before the server, and how often one may ask. It knows no requests of its
// own; the doors ask it.
package edge

import (
	"context"
	"crypto/rand"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Origin is whom a request comes from and what they asked for, as far as that can be believed.
type Origin struct {
	Addr   netip.Addr // of the client; invalid if it could not be told
	Scheme string     // "http" or "https", as the client spoke
	Host   string     // HOST or HOST:PORT, as the client asked for
	// Request names the request, in logs and in the answer's X-Request-Id; "" outside of
	// Proxies.Handler. It is made here, whatever the client sends.
	Request string
}

type originKey struct{}

// OriginOf is a request's origin: what Proxies.Handler found, else the peer of the connection.
// Forwarding headers alone are never believed.
func OriginOf(r *http.Request) Origin {
	if o, ok := r.Context().Value(originKey{}).(Origin); ok {
		return o
	}
	o := Origin{Addr: peer(r), Scheme: "http", Host: r.Host}
	if r.TLS != nil {
		o.Scheme = "https"
	}
	return o
}

// peer is the other end of the connection.
func peer(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}

// Proxies are the networks whose forwarding headers are believed.
type Proxies []netip.Prefix

// ParseProxies reads a list of networks and addresses, "10.0.0.0/8,192.0.2.7", with commas
// between; "" is none.
func ParseProxies(s string) (Proxies, error) {
	var p Proxies
	for t := range strings.SplitSeq(s, ",") {
		if t = strings.TrimSpace(t); t == "" {
			continue
		}
		n, err := netip.ParsePrefix(t)
		if err != nil {
			a, e := netip.ParseAddr(t)
			if e != nil {
				return nil, err
			}
			n = netip.PrefixFrom(a, a.BitLen())
		}
		p = append(p, n.Masked())
	}
	return p, nil
}

func (p Proxies) trusts(a netip.Addr) bool {
	for _, n := range p {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// Handler has h see a request's origin as the proxies tell it, and gives the request a name. The
// headers of whoever is no such proxy are not looked at.
func (p Proxies) Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := OriginOf(r)
		if len(p) > 0 && p.trusts(peer(r)) {
			o = p.origin(r)
		}
		o.Request = strings.ToLower(rand.Text()[:16])
		w.Header().Set("X-Request-Id", o.Request)
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), originKey{}, o)))
	})
}

// hop is what one proxy says of where a request came from.
type hop struct{ from, scheme, host string }

// origin follows what the proxies say from the nearest on, as long as who says it is one of
// them: what stands further left a client could have sent itself.
func (p Proxies) origin(r *http.Request) Origin {
	o := OriginOf(r)
	hops := forwarded(r.Header)
	for i := len(hops) - 1; i >= 0 && p.trusts(o.Addr); i-- {
		h := hops[i]
		if h.scheme == "http" || h.scheme == "https" {
			o.Scheme = h.scheme
		}
		if isHost(h.host) {
			o.Host = h.host
		}
		if h.from == "" {
			break
		}
		o.Addr = parseNode(h.from)
	}
	return o
}

// maxHops bounds the proxies that are followed.
const maxHops = 16

// forwarded reads Forwarded (RFC 7239), or where there is none the X-Forwarded- headers, whose
// -Proto and -Host count for the nearest proxy alone. The nearest comes last.
func forwarded(h http.Header) []hop {
	if all := strings.Join(h.Values("Forwarded"), ","); all != "" {
		return parseForwarded(all)
	}
	var hops []hop
	if all := h.Values("X-Forwarded-For"); len(all) > 0 {
		for _, from := range lastOf(strings.Split(strings.Join(all, ","), ",")) {
			hops = append(hops, hop{from: strings.TrimSpace(from)})
		}
	}
	near := hop{scheme: lastToken(h, "X-Forwarded-Proto"), host: lastToken(h, "X-Forwarded-Host")}
	if len(hops) == 0 {
		return []hop{near}
	}
	hops[len(hops)-1].scheme, hops[len(hops)-1].host = near.scheme, near.host
	return hops
}

func lastOf[T any](list []T) []T { return list[max(0, len(list)-maxHops):] }

// lastToken is the last of a header's values, in small letters.
func lastToken(h http.Header, name string) string {
	all := strings.Join(h.Values(name), ",")
	return strings.ToLower(strings.TrimSpace(all[strings.LastIndexByte(all, ',')+1:]))
}

// parseForwarded reads the elements of a Forwarded header (RFC 7239, section 4). A part that
// cannot be read is left out.
func parseForwarded(s string) []hop {
	var hops []hop
	for _, element := range lastOf(splitQuoted(s, ',')) {
		var h hop
		for _, pair := range splitQuoted(element, ';') {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			value = unquote(value)
			switch strings.ToLower(name) {
			case "for":
				h.from = value
			case "proto":
				h.scheme = strings.ToLower(value)
			case "host":
				h.host = strings.ToLower(value)
			}
		}
		hops = append(hops, h)
	}
	return hops
}

// splitQuoted cuts s at sep where that does not stand in a quoted-string.
func splitQuoted(s string, sep byte) []string {
	var out []string
	quoted, from := false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && s[i] == sep:
			out, from = append(out, s[from:i]), i+1
		}
	}
	return append(out, s[from:])
}

// unquote reads a token or quoted-string (RFC 9110, section 5.6.4).
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '\\' && i+1 < len(s)-1 {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// parseNode reads an address with or without a port (RFC 7239, section 6). What hides its
// address has none.
func parseNode(s string) netip.Addr {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// isHost says whether s can stand as HOST or HOST:PORT in an address.
func isHost(s string) bool {
	if s == "" || len(s) > 261 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune(".-_:[]", rune(c)) {
			return false
		}
	}
	return true
}

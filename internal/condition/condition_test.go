package condition

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/oci"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func request() access.Request {
	return access.Request{Principal: access.Principal{ID: "1", Kind: access.KindWorkload, Name: "ci"}, Address: netip.MustParseAddr("::ffff:192.0.2.7"),
		Time: noon, Tag: "v1.2", Claims: map[string]any{"ref": "refs/heads/main", "groups": []any{"dev", "ops"}}}
}

func TestHolds(t *testing.T) {
	app, err := oci.ParseRepository("team/app")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		`true`:  true,
		`false`: false,
		`permission == "repository.push" && repository.startsWith("team/")`: true,
		`repository == "team/app2"`:                                         false,
		`tag == "" || tag.matches("^v[0-9.]+$")`:                            true,
		`tag.startsWith("dev-")`:                                            false,
		`principal.kind == "workload" && principal.name == "ci"`:            true,
		`principal.id == "2"`:                                               false,
		`claims.ref == "refs/heads/main"`:                                   true,
		`"ops" in claims.groups`:                                            true,
		`"root" in claims.groups`:                                           false,
		`has(claims.environment) && claims.environment == "prod"`:           false,
		`inNetwork(address, "192.0.2.0/24")`:                                true,
		`inNetwork(address, "198.51.100.0/24")`:                             false,
		`now < timestamp("2027-01-01T00:00:00Z")`:                           true,
		`now.getHours() >= 13`:                                              false,
		`now.getDayOfWeek("Europe/Berlin") == 6`:                            true,
	} {
		c, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, unknown, err := c.Holds(access.RepositoryPush, app, request()); got != want || unknown || err != nil {
			t.Errorf("%s: %v, unknown %v, %v; want %v", text, got, unknown, err, want)
		}
		if c.String() != text {
			t.Errorf("String is %q", c)
		}
	}
}

// TestHoldsNot: what cannot be evaluated is an error, which holds for nobody.
func TestHoldsNot(t *testing.T) {
	for _, text := range []string{`claims.missing == "x"`, `inNetwork(address, "not one")`, `inNetwork(claims.ref, "192.0.2.0/24")`, `claims.ref`,
		`1 / 0 == 1`, `["a","b","c","d"].all(a, ["a","b","c","d"].all(b, ["a","b","c","d"].all(c, ["a","b","c","d"].all(d, ["a","b","c","d"].all(e, ["a","b","c","d"].all(f, ["a","b","c","d"].all(g, true)))))))`} {
		c, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if holds, unknown, err := c.Holds(access.RepositoryPull, oci.Repository{}, request()); holds || unknown || err == nil {
			t.Errorf("%.60s: %v, %v, %v; want an error", text, holds, unknown, err)
		}
	}
	c, err := Parse(`inNetwork(address, "192.0.2.0/24")`)
	if err != nil {
		t.Fatal(err)
	}
	if holds, _, err := c.Holds(access.RepositoryPull, oci.Repository{}, access.Request{}); holds || err == nil {
		t.Errorf("of an unknown address: %v, %v", holds, err)
	}
}

// TestLater: only what depends on the tag waits for it.
func TestLater(t *testing.T) {
	r := request()
	r.Later = true
	for text, want := range map[string][2]bool{ // holds, unknown
		`tag == "v1.2"`: {false, true},
		`principal.name == "ci" && tag == "v1.2"`: {false, true},
		`principal.name == "x" && tag == "v1.2"`:  {false, false},
		`principal.name == "ci" || tag == "v1.2"`: {true, false},
		`principal.name == "ci"`:                  {true, false},
	} {
		c, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if holds, unknown, err := c.Holds(access.RepositoryPush, oci.Repository{}, r); [2]bool{holds, unknown} != want || err != nil {
			t.Errorf("%s: %v, %v, %v; want %v", text, holds, unknown, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{``, `tag ==`, `"text"`, `1 + 1`, `unknown == "x"`, `permission == 1`, `tag.startsWith(1)`,
		`"` + strings.Repeat("a", MaxLength) + `" == "a"`, strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200)} {
		if c, err := Parse(text); err == nil {
			t.Errorf("Parse(%.40q) = %v; want an error", text, c)
		}
	}
	for _, text := range []string{`repository == "a"`, `tag == "a"`, `address == ""`} {
		if _, err := ParseRule(text); err == nil {
			t.Errorf("ParseRule(%q): want an error, a rule knows claims alone", text)
		}
	}
}

func TestRule(t *testing.T) {
	r, err := ParseRule(`claims.repository == "acme/app" && claims.ref.startsWith("refs/tags/")`)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		claims map[string]any
		want   bool
	}{
		{map[string]any{"repository": "acme/app", "ref": "refs/tags/v1"}, true},
		{map[string]any{"repository": "acme/app", "ref": "refs/heads/main"}, false},
		{map[string]any{"repository": "evil/app", "ref": "refs/tags/v1"}, false},
		{map[string]any{"repository": "acme/app"}, false},
		{map[string]any{"repository": "acme/app", "ref": 1.0}, false},
		{nil, false},
	} {
		if got, err := r.Holds(tc.claims); got != tc.want || tc.want && err != nil {
			t.Errorf("%v: %v, %v; want %v", tc.claims, got, err, tc.want)
		}
	}
}

// FuzzParse: no text brings the reader down, and what is read can be evaluated within bounds.
func FuzzParse(f *testing.F) {
	f.Add(`tag == "" || tag.matches("^v[0-9.]+$")`)
	f.Add(`inNetwork(address, "192.0.2.0/24") && "ops" in claims.groups`)
	f.Add(`[1, 2].all(x, x > 0 && now < timestamp("2027-01-01T00:00:00Z"))`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse(text)
		if err != nil {
			return
		}
		if holds, unknown, err := c.Holds(access.RepositoryPull, oci.Repository{}, request()); holds && (unknown || err != nil) {
			t.Fatalf("%q holds though %v, %v", text, unknown, err)
		}
	})
}

func BenchmarkHolds(b *testing.B) {
	c, err := Parse(`tag == "" || tag.matches("^v[0-9.]+$") && inNetwork(address, "192.0.2.0/24")`)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if holds, _, err := c.Holds(access.RepositoryPull, oci.Repository{}, request()); !holds || err != nil {
			b.Fatal(holds, err)
		}
	}
}

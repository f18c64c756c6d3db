package rules

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/oci"
)

const full = `restore: 72h
immutable:
  - {repositories: "prod/**", tags: "v*"}
quotas:
  - {prefix: "team-a/", bytes: 10GiB, tags: 1000}
  - {prefix: "", bytes: 1000}
retention:
  - name: dev
    repositories: "dev/**"
    keepLast: 10
    keepPushedWithin: 720h
    keepPulledWithin: 30d
    untaggedAfter: 168h
`

func repo(t testing.TB, name string) oci.Repository {
	t.Helper()
	r, err := oci.ParseRepository(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParse(t *testing.T) {
	r, err := Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	if r.Restore != Duration(72*time.Hour) || r.Quotas[0].Bytes != 10<<30 || r.Quotas[1].Bytes != 1000 || *r.Retention[0].KeepLast != 10 ||
		*r.Retention[0].KeepPulledWithin != Duration(30*day) || r.Retention[0].Tags.String() != "*" {
		t.Errorf("got %+v", r)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var again Rules
	if err := json.Unmarshal(raw, &again); err != nil || !reflect.DeepEqual(&again, r) {
		t.Errorf("through JSON %s: %+v, %v", raw, again, err)
	}
	for _, empty := range []string{"", " \n", "# nothing\n", "{}"} {
		if r, err := Parse([]byte(empty)); err != nil || !reflect.DeepEqual(r, Default()) {
			t.Errorf("%q: %+v, %v", empty, r, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	rule := func(s string) string { return "retention:\n  - {name: a, repositories: x, " + s + "}" }
	for _, tc := range []struct {
		name, source string
		line         int
		field, says  string
	}{
		{"unknown key", "restore: 1h\nimutable: []\n", 2, "", `unknown field "imutable"`},
		{"unknown key below", "immutable:\n  - {repository: x}\n", 2, "", `unknown field "repository"`},
		{"repeated key", "restore: 1h\nrestore: 2h\n", 2, "", "already defined"},
		{"not YAML", "a: [", 1, "", ""},
		{"a list", "- a\n", 1, "", "sequence was used where mapping is expected"},
		{"restore", "restore: soon", 1, "restore", "as in 90m, 36h or 30d"},
		{"restore below 0", "restore: -1h", 1, "restore", "from 0"},
		{"no repositories", "immutable:\n  - {tags: v*}", 2, "immutable[0].repositories", "expected 1 to 255"},
		{"bad pattern", "immutable:\n  - repositories: '**'\n    tags: '[v]'", 3, "immutable[0].tags", "expected 1 to 255"},
		{"no prefix", "quotas:\n  - {bytes: 1}", 2, "quotas[0].prefix", `"" for all`},
		{"pattern as a prefix", "quotas:\n  - {prefix: 'a/*', bytes: 1}", 2, "quotas[0].prefix", "names begin"},
		{"two of one prefix", "quotas:\n  - {prefix: a, bytes: 1}\n  - {prefix: a, tags: 1}", 3, "quotas[1].prefix", "already"},
		{"size", "quotas:\n  - {prefix: a, bytes: 10XB}", 2, "quotas[0].bytes", "as in 10GiB"},
		{"size too large", "quotas:\n  - {prefix: a, bytes: 9000000000TiB}", 2, "quotas[0].bytes", "as in 10GiB"},
		{"size 0", "quotas:\n  - {prefix: a, bytes: 0}", 2, "quotas[0].bytes", "more than 0"},
		{"tags below 0", "quotas:\n  - {prefix: a, tags: -1}", 2, "quotas[0].tags", "more than 0"},
		{"tags no number", "quotas:\n  - {prefix: a, tags: many}", 2, "", `"many": expected a whole number`},
		{"a list for one value", "restore: [1h]", 1, "", "expected a single value"},
		{"one value for a list", "quotas: 5", 1, "", "int was used where sequence is expected"},
		{"empty quota", "quotas:\n  - {prefix: a}", 2, "quotas[0]", "bytes, tags or both"},
		{"no name", "retention:\n  - {repositories: x, keepLast: 1}", 2, "retention[0].name", "by which the rule is known"},
		{"a name twice", "retention:\n  - {name: a, repositories: x, keepLast: 1}\n  - {name: a, repositories: x, keepLast: 1}", 3, "retention[1].name", "another rule"},
		{"no condition", rule("tags: x"), 2, "retention[0]", "expected keepLast"},
		{"pulled alone", rule("keepPulledWithin: 1h"), 2, "retention[0]", "just pushed would go"},
		{"keepLast", rule("keepLast: -1"), 2, "retention[0].keepLast", "from 0"},
		{"untaggedAfter too short", rule("untaggedAfter: 1m"), 2, "retention[0].untaggedAfter", "1h or more"},
		{"too long", "# " + strings.Repeat("x", MaxDocument), 0, "", "at most 65536"},
		{"too many", "quotas: [" + strings.Repeat("{},", MaxRules) + "{}]", 1, "quotas", "at most 100"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse([]byte(tc.source))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v", err)
			}
			if e.Line != tc.line || e.Field != tc.field || !strings.Contains(e.Problem, tc.says) || strings.Contains(e.Problem, "Go ") {
				t.Errorf("line %d, field %q: %s; want line %d, field %q, %q", e.Line, e.Field, e.Problem, tc.line, tc.field, tc.says)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("quotas: [{prefix: '', bytes: 1e9}]"))
	f.Fuzz(func(t *testing.T, source []byte) {
		r, err := Parse(source)
		var e *Error
		if err != nil && (!errors.As(err, &e) || e.Problem == "") {
			t.Fatalf("%q: %v", source, err)
		}
		if err != nil {
			return
		}
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var again Rules
		if err := json.Unmarshal(raw, &again); err != nil || !reflect.DeepEqual(&again, r) {
			t.Fatalf("%q: %+v came back as %+v, %v", source, r, again, err)
		}
	})
}

func TestPattern(t *testing.T) {
	for _, tc := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "v1", true},
		{"*", "a/b", false},
		{"**", "a/b", true},
		{"prod/**", "prod/a/b", true},
		{"prod/**", "prod", false},
		{"prod/**", "xprod/a", false},
		{"prod/*", "prod/a", true},
		{"prod/*", "prod/a/b", false},
		{"**/app", "team/app", true},
		{"**/app", "app", false},
		{"v*", "v", true},
		{"v?", "v", false},
		{"v?.0", "v1.0", true},
		{"v1.0", "v1x0", false},
		{"a/?b", "a//b", false},
	} {
		p, err := ParsePattern(tc.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Match(tc.name); got != tc.want {
			t.Errorf("%s matches %s: %v", tc.pattern, tc.name, got)
		}
	}
	if (Pattern{}).Match("") {
		t.Error("the zero Pattern matches")
	}
}

func TestImmutable(t *testing.T) {
	r, err := Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := r.ImmutableBy(repo(t, "prod/app"), "latest"); ok {
		t.Error("a tag that no rule matches is immutable")
	}
	if _, ok := r.ImmutableBy(repo(t, "dev/app"), "v1"); ok {
		t.Error("a repository that no rule matches has immutable tags")
	}
	i, ok := r.ImmutableBy(repo(t, "prod/app"), "v1")
	if !ok {
		t.Fatal("it is not immutable")
	}
	said := i.Refuse(repo(t, "prod/app"), "v1", oci.DigestOf(oci.SHA256, []byte("x")), "be moved").Error()
	for _, want := range []string{"v1 of prod/app", "prod/**", "v*", "sha256:", "rules set"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q does not say %q", said, want)
		}
	}
}

func TestQuota(t *testing.T) {
	r, err := Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	if got := r.QuotasOf(repo(t, "team-b/x")); len(got) != 1 || got[0].Prefix != "" {
		t.Errorf("got %+v", got)
	}
	q := r.QuotasOf(repo(t, "team-a/x"))[0]
	for _, tc := range []struct {
		held, add Usage
		want      bool
	}{
		{Usage{}, Usage{Bytes: 10 << 30}, true},
		{Usage{}, Usage{Bytes: 10<<30 + 1}, false},
		{Usage{Bytes: 10 << 30}, Usage{Bytes: 1}, false},
		{Usage{Bytes: 10 << 30}, Usage{}, true},
		{Usage{Bytes: 11 << 30}, Usage{Tags: 1}, true},
		{Usage{Tags: 999}, Usage{Tags: 1}, true},
		{Usage{Tags: 1000}, Usage{Tags: 1}, false},
		{Usage{Tags: 1001}, Usage{Bytes: 1}, true},
		{Usage{Bytes: 1 << 62}, Usage{Bytes: 1 << 62}, false},
	} {
		if got := q.Fits(tc.held, tc.add); got != tc.want {
			t.Errorf("%+v with %+v: fits %v", tc.held, tc.add, got)
		}
	}
	said := q.Refuse(repo(t, "team-a/x"), Usage{Bytes: 10 << 30, Tags: 1000}, Usage{Bytes: 1}).Error()
	if !strings.Contains(said, "10GiB of 10GiB") || !strings.Contains(said, `"team-a/"`) {
		t.Errorf("it says %q", said)
	}
	said = q.Refuse(repo(t, "team-a/x"), Usage{Tags: 1000}, Usage{Tags: 1}).Error()
	if !strings.Contains(said, "1000 of 1000 tags, and one more does not fit") {
		t.Errorf("it says %q", said)
	}
}

package rules

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"pratique.dev/pratique/internal/oci"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func daysAgo(n int) time.Time { return now.AddDate(0, 0, -n) }

func mustParse(t testing.TB, source string) *Rules {
	t.Helper()
	r, err := Parse([]byte(source))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRetain(t *testing.T) {
	r := mustParse(t, `
immutable: [{repositories: "**", tags: "gold"}]
retention:
  - {name: releases, repositories: "**", tags: "v*", keepLast: 1}
  - {name: never, repositories: "dev/**", tags: "keep-*", untaggedAfter: 30d}
  - {name: rest, repositories: "dev/**", keepLast: 1, keepPushedWithin: 10d, keepPulledWithin: 5d}
`)
	sig := "sha256-" + strings.Repeat("a", 64) + ".sig"
	tags := []Tag{
		{Name: "v1", Set: daysAgo(50)},
		{Name: "v2", Set: daysAgo(40)},
		{Name: "keep-me", Set: daysAgo(90)},
		{Name: "newest", Set: daysAgo(20)},
		{Name: "old", Set: daysAgo(30)},
		{Name: "old-pulled", Set: daysAgo(30), Pulled: daysAgo(4)},
		{Name: "old-pulled-once", Set: daysAgo(30), Pulled: daysAgo(6)},
		{Name: "old-locked", Set: daysAgo(30), Held: "locked"},
		{Name: "gold", Set: daysAgo(30)},
		{Name: sig, Set: daysAgo(2)},
		{Name: sig + "x", Set: daysAgo(2), Needed: true},
		{Name: "young", Set: daysAgo(9)},
	}
	want := map[string]string{
		"v1": "goes by releases: set 50 days ago, not pulled, number 2 by age", "v2": "stays by releases: keepLast: 1 of 1",
		"keep-me": "stays by never: the rule is about untagged manifests alone",
		"newest":  "goes by rest: set 20 days ago, not pulled, number 2 by age",
		"young":   "stays by rest: keepLast: 1 of 1",
		"old":     "goes by rest: set 30 days ago, not pulled, number 4 by age", "old-pulled": "stays by rest: keepPulledWithin 5d: pulled 4 days ago",
		"old-pulled-once": "goes by rest: set 30 days ago, pulled 6 days ago, number 7 by age",
		"old-locked":      "stays by rest: set 30 days ago, not pulled, number 5 by age; but it is locked",
		"gold":            "stays by rest: set 30 days ago, not pulled, number 3 by age; but immutable (repositories **, tags gold) keeps it",
		sig:               "goes by rest: the manifest that it belongs to is not here", sig + "x": "stays by rest: belongs to a manifest that is here",
	}
	fates := r.Retain(repo(t, "dev/app"), tags, now)
	if len(fates) != len(tags) {
		t.Fatalf("%d fates of %d tags", len(fates), len(tags))
	}
	for _, f := range fates {
		verb := "stays"
		if f.Goes {
			verb = "goes"
		}
		if got := fmt.Sprintf("%s by %s: %s", verb, f.Rule, f.Why); got != want[f.Tag] {
			t.Errorf("%s %s\nwant %s", f.Tag, got, want[f.Tag])
		}
	}
	for _, f := range r.Retain(repo(t, "other"), tags, now) {
		if f.Goes && f.Rule != "releases" {
			t.Errorf("%s goes by %q", f.Tag, f.Rule)
		}
	}
}

func TestDecideUntagged(t *testing.T) {
	r := mustParse(t, `retention: [{name: tags, repositories: "dev/**", keepLast: 1}, {name: bare, repositories: "dev/**", tags: none, untaggedAfter: 7d, keepPulledWithin: 2d}]`)
	if _, ok := r.UntaggedRule(repo(t, "prod/x")); ok {
		t.Error("a rule decides that does not match")
	}
	rule, ok := r.UntaggedRule(repo(t, "dev/x"))
	if !ok || rule.Name != "bare" {
		t.Fatalf("%+v decides", rule)
	}
	for _, tc := range []struct {
		u    Untagged
		want bool
	}{
		{Untagged{Since: daysAgo(6)}, false},
		{Untagged{Since: daysAgo(8)}, true},
		{Untagged{Since: daysAgo(8), Pulled: daysAgo(1)}, false},
		{Untagged{Since: daysAgo(8), Pulled: daysAgo(3)}, true},
		{Untagged{Since: daysAgo(8), Held: "locked"}, false},
		{Untagged{Since: daysAgo(-1)}, false},
	} {
		if f := rule.Decide(tc.u, now); f.Goes != tc.want || f.Why == "" {
			t.Errorf("%+v: %+v", tc.u, f)
		}
	}
}

// TestRetainProperties: whatever the tags, each has one fate; keepLast of them at least stay if
// there are as many; what is young, pulled, held or immutable stays.
func TestRetainProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		keep := rapid.IntRange(0, 6).Draw(rt, "keepLast")
		r := mustParse(t, fmt.Sprintf(`
immutable: [{repositories: "**", tags: "i*"}]
retention: [{name: a, repositories: "**", keepLast: %d, keepPushedWithin: 10d, keepPulledWithin: 10d}]`, keep))
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z][0-9]`), 0, 20, rapid.ID).Draw(rt, "names")
		tags := make([]Tag, len(names))
		by := map[string]Tag{}
		for i, n := range names {
			tags[i] = Tag{Name: n, Digest: oci.DigestOf(oci.SHA256, []byte(n)), Set: daysAgo(rapid.IntRange(0, 30).Draw(rt, "set"))}
			if rapid.Bool().Draw(rt, "pulled") {
				tags[i].Pulled = daysAgo(rapid.IntRange(0, 30).Draw(rt, "when"))
			}
			if rapid.IntRange(0, 9).Draw(rt, "held") == 0 {
				tags[i].Held = "locked"
			}
			by[n] = tags[i]
		}
		stay := 0
		fates := r.Retain(repo(t, "x"), tags, now)
		for _, f := range fates {
			tag, ok := by[f.Tag]
			delete(by, f.Tag)
			if !ok || f.Digest != tag.Digest || f.Why == "" {
				rt.Fatalf("%+v is the fate of no tag, or of one that had one", f)
			}
			if !f.Goes {
				stay++
				continue
			}
			young := now.Sub(tag.Set) < 10*day || !tag.Pulled.IsZero() && now.Sub(tag.Pulled) < 10*day
			if young || tag.Held != "" || f.Tag[0] == 'i' {
				rt.Fatalf("%+v goes: %+v", tag, f)
			}
		}
		if len(by) > 0 || stay < min(keep, len(names)) {
			rt.Fatalf("%d of %d stay, keepLast %d; no fate: %v", stay, len(names), keep, by)
		}
	})
}

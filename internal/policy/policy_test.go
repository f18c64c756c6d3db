package policy_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/vuln"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func finding(id string, s vuln.Severity, fixed string) vuln.Finding {
	return vuln.Finding{ID: id, Severity: s, Fixed: fixed,
		Package: inventory.Key{Ecosystem: "Debian:12", Name: "openssl", Version: "3.0.1"}}
}

func with(f vuln.Finding, change func(*vuln.Finding)) vuln.Finding {
	change(&f)
	return f
}

func gap(kind inventory.GapKind, path string) inventory.Coverage {
	return inventory.Coverage{Unknown: []inventory.Gap{{Kind: kind, Path: path, Reason: "broken"}}}
}

// judged is what tests compare: the decision, the rules that block and those noted.
type judged struct {
	Decision        string
	Blocking, Notes []string
}

func brief(v policy.Verdict) judged {
	j := judged{Decision: v.Decision.String()}
	for _, r := range v.Reasons {
		if r.Note {
			j.Notes = append(j.Notes, r.Rule)
		} else {
			j.Blocking = append(j.Blocking, r.Rule)
		}
	}
	return j
}

func TestDefault(t *testing.T) {
	for _, tc := range []struct {
		name    string
		subject policy.Subject
		want    judged
	}{
		{"critical with a fix", policy.Subject{Findings: []vuln.Finding{finding("CVE-1", vuln.Critical, "3.0.2")}},
			judged{"quarantine", []string{"critical-with-fix"}, nil}},
		{"known to be exploited, with a fix", policy.Subject{Findings: []vuln.Finding{
			with(finding("CVE-1", vuln.Low, "3.0.2"), func(f *vuln.Finding) { f.Exploited = true })}},
			judged{"quarantine", []string{"known-exploited-with-fix"}, nil}},
		{"malicious without a fix", policy.Subject{Findings: []vuln.Finding{
			with(finding("MAL-1", vuln.Unknown, ""), func(f *vuln.Finding) { f.Malicious = true })}},
			judged{"quarantine", []string{"malicious"}, []string{"unknown-severity"}}},
		{"a layer that clients fetch from elsewhere", policy.Subject{Coverage: gap(inventory.GapForeign, "")},
			judged{"allow", nil, []string{"not-seen"}}},
		{"a broken layer", policy.Subject{Coverage: gap(inventory.GapArchive, "")},
			judged{"quarantine", []string{"unexamined"}, nil}},
		{"a layer left at a bound", policy.Subject{Coverage: gap(inventory.GapBound, "")},
			judged{"quarantine", []string{"unexamined"}, nil}},
		{"an unread dpkg status", policy.Subject{Coverage: gap(inventory.GapUnread, "var/lib/dpkg/status")},
			judged{"quarantine", []string{"unexamined"}, nil}},
		{"an unread distroless status", policy.Subject{Coverage: gap(inventory.GapUnread, "/var/lib/dpkg/status.d/base")},
			judged{"quarantine", []string{"unexamined"}, nil}},
		{"an unread rpm database", policy.Subject{Coverage: gap(inventory.GapBound, "./usr/lib/sysimage/rpm/rpmdb.sqlite")},
			judged{"quarantine", []string{"unexamined"}, nil}},
		{"an unread apk database", policy.Subject{Coverage: gap(inventory.GapUnread, "lib/apk/db/installed")},
			judged{"quarantine", []string{"unexamined"}, nil}},
		{"an unread os-release", policy.Subject{Coverage: gap(inventory.GapUnread, "etc/os-release")},
			judged{"quarantine", []string{"unexamined"}, nil}},
		{"an unread jar", policy.Subject{Coverage: gap(inventory.GapUnread, "app/lib/a.jar")},
			judged{"allow", nil, []string{"not-seen"}}},
		{"a system without advisories", policy.Subject{Coverage: gap(inventory.GapNoData, "")},
			judged{"allow", nil, []string{"not-covered"}}},
		{"no os-release", policy.Subject{Coverage: gap(inventory.GapNoOS, "")},
			judged{"allow", nil, []string{"not-covered"}}},
		{"a program of unknown origin", policy.Subject{Coverage: gap(inventory.GapUnknown, "bin/x")},
			judged{"allow", nil, []string{"not-seen"}}},
		{"a kind of gap that is new", policy.Subject{Coverage: gap("newkind", "x")},
			judged{"quarantine", []string{"not-seen"}, nil}},
		{"critical without a fix", policy.Subject{Findings: []vuln.Finding{finding("CVE-1", vuln.Critical, "")}},
			judged{"allow", nil, []string{"without-fix"}}},
		{"high with a fix", policy.Subject{Findings: []vuln.Finding{finding("CVE-1", vuln.High, "3.0.2")}},
			judged{"allow", nil, nil}},
		{"unknown severity counts as high and says so", policy.Subject{Findings: []vuln.Finding{finding("CVE-1", vuln.Unknown, "3.0.2")}},
			judged{"allow", nil, []string{"unknown-severity"}}},
		{"kernel headers", policy.Subject{Findings: []vuln.Finding{
			with(finding("CVE-1", vuln.Critical, "6.1.2"), func(f *vuln.Finding) { f.Informs = true })}},
			judged{"allow", nil, []string{"kernel-headers"}}},
		{"nothing found", policy.Subject{}, judged{"allow", nil, nil}},
		{"old advisories", policy.Subject{KnownAsOf: now.AddDate(0, -2, 0)}, judged{"allow", nil, []string{"old-advisories"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := tc.subject
			s.Image, s.Packages = true, 10
			if s.KnownAsOf.IsZero() {
				s.KnownAsOf = now
			}
			v := policy.Judge([]policy.Policy{policy.Default()}, s, now)
			if d := cmp.Diff(tc.want, brief(v)); d != "" {
				t.Errorf("Judge (-want +got):\n%s\n%+v", d, v.Reasons)
			}
			if v.Policy != "default" || !v.At.Equal(now) {
				t.Errorf("verdict of %q at %v; want default at %v", v.Policy, v.At, now)
			}
		})
	}
}

func TestFailsClosed(t *testing.T) {
	image := policy.Subject{Image: true, Packages: 3, KnownAsOf: now}
	for _, tc := range []struct {
		name     string
		policies []policy.Policy
		subject  policy.Subject
		want     judged
	}{
		{"no policy", nil, image, judged{"quarantine", []string{"no-policy"}, nil}},
		{"no policy, no image", nil, policy.Subject{}, judged{"quarantine", []string{"no-policy"}, nil}},
		{"no advisories", []policy.Policy{policy.Default()}, policy.Subject{Image: true, Packages: 3},
			judged{"pending", []string{"no-advisories"}, nil}},
		{"no advisories and unexamined", []policy.Policy{policy.Default()},
			policy.Subject{Image: true, Packages: 3, Coverage: gap(inventory.GapArchive, "")},
			judged{"quarantine", []string{"unexamined", "no-advisories"}, nil}},
		{"the zero policy takes any finding", []policy.Policy{{}},
			policy.Subject{Image: true, Packages: 3, KnownAsOf: now, Findings: []vuln.Finding{finding("CVE-1", vuln.None, "")}},
			judged{"quarantine", []string{"none"}, nil}},
		{"the zero policy takes any gap", []policy.Policy{{}},
			policy.Subject{Image: true, Packages: 3, KnownAsOf: now, Coverage: gap(inventory.GapUnknown, "bin/x")},
			judged{"quarantine", []string{"not-seen"}, nil}},
		{"too old advisories", []policy.Policy{{MaxAdvisoryAge: 24 * time.Hour}},
			policy.Subject{Image: true, Packages: 3, KnownAsOf: now.Add(-25 * time.Hour)},
			judged{"quarantine", []string{"old-advisories"}, nil}},
		{"an artifact", []policy.Policy{policy.Default()}, policy.Subject{}, judged{"allow", nil, []string{"not-an-image"}}},
		{"no packages", []policy.Policy{policy.Default()}, policy.Subject{Image: true, KnownAsOf: now},
			judged{"allow", nil, []string{"no-packages"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, brief(policy.Judge(tc.policies, tc.subject, now))); d != "" {
				t.Errorf("Judge (-want +got):\n%s", d)
			}
		})
	}
}

func TestStrictestHolds(t *testing.T) {
	s := policy.Subject{Image: true, Packages: 1, KnownAsOf: now, Findings: []vuln.Finding{
		finding("CVE-2", vuln.High, "3.0.2"), finding("CVE-1", vuln.Unknown, "3.0.3")}}
	high := policy.Policy{Name: "high", MinSeverity: vuln.High, OnlyFixable: true, MaxAdvisoryAge: time.Hour,
		Tolerate: policy.Default().Tolerate}
	for _, order := range [][]policy.Policy{{policy.Default(), high}, {high, policy.Default()}} {
		v := policy.Judge(order, s, now)
		want := judged{"quarantine", []string{"high-with-fix", "high-with-fix"}, []string{"unknown-severity"}}
		if d := cmp.Diff(want, brief(v)); d != "" {
			t.Errorf("Judge (-want +got):\n%s", d)
		}
		if v.Policy != "high" || !v.Until.Equal(now.Add(time.Hour)) {
			t.Errorf("by %q until %v; want high until %v", v.Policy, v.Until, now.Add(time.Hour))
		}
		if m := v.Reasons[0].Message; m != "CVE-2 (high) in openssl 3.0.1, fixed in 3.0.2" {
			t.Errorf("first reason: %q", m)
		}
		if m := v.Reasons[1].Message; !strings.Contains(m, "unknown, counts as high") {
			t.Errorf("second reason does not say how an unknown severity counts: %q", m)
		}
	}
}

func TestGapNotesAreBounded(t *testing.T) {
	var c inventory.Coverage
	for range 200 {
		c.Unknown = append(c.Unknown, inventory.Gap{Kind: inventory.GapUnknown, Path: "bin/x", Reason: "no build information"})
	}
	v := policy.Judge([]policy.Policy{policy.Default()}, policy.Subject{Image: true, Packages: 1, KnownAsOf: now, Coverage: c}, now)
	if len(v.Reasons) != 6 || !strings.Contains(v.Reasons[5].Message, "195 more") {
		t.Errorf("%d reasons, the last %q; want 5 and one that counts 195 more", len(v.Reasons), v.Reasons[len(v.Reasons)-1].Message)
	}
}

func TestWorst(t *testing.T) {
	blocked := policy.Verdict{Decision: policy.Quarantine, Platform: "linux/arm64", Policy: "default",
		Reasons: []policy.Reason{{Rule: "malicious", Message: "bad"}}, Until: now}
	fine := policy.Verdict{Decision: policy.Allow, Platform: "linux/amd64", Policy: "default",
		Reasons: []policy.Reason{{Rule: "not-covered", Message: "unseen", Note: true}}, At: now}
	waiting := policy.Verdict{Platform: "linux/s390x"}
	for _, tc := range []struct {
		name string
		in   []policy.Verdict
		want judged
	}{
		{"none", nil, judged{"pending", []string{"not-judged"}, nil}},
		{"one held back, one waiting", []policy.Verdict{fine, waiting, blocked},
			judged{"quarantine", []string{"malicious"}, []string{"not-covered", "not-judged"}}},
		{"one waiting", []policy.Verdict{fine, waiting}, judged{"pending", []string{"not-judged"}, []string{"not-covered"}}},
		{"all fine", []policy.Verdict{fine, fine}, judged{"allow", nil, []string{"not-covered", "not-covered"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := policy.Worst(tc.in...)
			if d := cmp.Diff(tc.want, brief(v)); d != "" {
				t.Errorf("Worst (-want +got):\n%s", d)
			}
		})
	}
	v := policy.Worst(fine, blocked)
	if v.Reasons[0].Message != "linux/arm64: bad" || !v.Until.Equal(now) || !v.At.Equal(now) || v.Policy != "default" {
		t.Errorf("Worst = %+v", v)
	}
}

func TestDecisionText(t *testing.T) {
	for d, want := range map[policy.Decision]string{policy.Pending: "pending", policy.Allow: "allow", policy.Quarantine: "quarantine",
		policy.Decision(7): "pending", policy.Decision(-1): "pending"} {
		if d.String() != want {
			t.Errorf("Decision(%d) = %q; want %q", int(d), d, want)
		}
	}
	raw, err := json.Marshal(policy.Verdict{Decision: policy.Quarantine})
	if err != nil || !strings.Contains(string(raw), `"decision":"quarantine"`) {
		t.Fatalf("Marshal = %s, %v", raw, err)
	}
	var v policy.Verdict
	if err := json.Unmarshal(raw, &v); err != nil || v.Decision != policy.Quarantine {
		t.Errorf("Unmarshal = %v, %v", v.Decision, err)
	}
	d := policy.Allow
	if err := d.UnmarshalText([]byte("ALLOW")); err == nil || d != policy.Pending {
		t.Errorf("UnmarshalText(ALLOW) = %v, %v; want an error and Pending", d, err)
	}
}

package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/blob/memblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

func manifestOf(config, layer string) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"mediaType":"x/y","digest":%q,"size":%d}]}`,
		oci.MediaTypeImageManifest, oci.MediaTypeImageConfig, sum(config), len(config), sum(layer), len(layer))
}

func putImage(t *testing.T, r *Registry, repo oci.Repository, tag, layer string) Pushed {
	t.Helper()
	push(t, r, repo, "config")
	push(t, r, repo, layer)
	p, err := r.PutManifest(bg, pusher, Push{Repo: repo, Reference: oci.Reference{Tag: tag}, Raw: manifestOf("config", layer)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestFailClosed: whatever goes wrong between a push and its verdict, nothing is served.
func TestFailClosed(t *testing.T) {
	forever := func(ctx context.Context, _ oci.Digest) (policy.Verdict, catalog.Counts, error) {
		<-ctx.Done()
		return policy.Verdict{Decision: policy.Allow}, catalog.Counts{}, ctx.Err()
	}
	for name, judge := range map[string]Judge{
		"no judge": nil,
		"a judge that fails": judgeFunc(func(context.Context, oci.Digest) (policy.Verdict, catalog.Counts, error) {
			return policy.Verdict{Decision: policy.Allow}, catalog.Counts{High: 1}, errors.New("no")
		}),
		"a judge that takes forever": judgeFunc(forever),
	} {
		t.Run(name, func(t *testing.T) {
			cat := catalogtest.Open(t)
			r := New(cat, memblob.New(), Options{Judge: judge, JudgeWait: time.Millisecond})
			p := putImage(t, r, app, "1", "layer")
			if p.Decision != policy.Pending || p.Counts != (catalog.Counts{}) || !p.Created {
				t.Errorf("PutManifest = %+v, want pending", p)
			}
			_, err := r.Manifest(bg, pusher, app, oci.Reference{Tag: "1"})
			wantCode(t, "Manifest", err, oci.CodeDenied)
			if err == nil || !strings.Contains(err.Error(), "pending") {
				t.Errorf("message %v", err)
			}
			_, err = readBlob(t, r, pusher, app, sum("layer"))
			wantCode(t, "Blob", err, oci.CodeDenied)
			if due, err := cat.Due(bg, time.Now(), time.Minute, 10); len(due) != 1 || err != nil {
				t.Errorf("due: %v, %v; want a worker to find it", due, err)
			}
		})
	}
}

// TestVerdictStands: the same manifest once more is not judged once more.
func TestVerdictStands(t *testing.T) {
	cat, judged := catalogtest.Open(t), 0
	r := New(cat, memblob.New(), Options{Judge: judgeFunc(func(ctx context.Context, d oci.Digest) (policy.Verdict, catalog.Counts, error) {
		judged++
		return decide(cat, policy.Verdict{Decision: policy.Quarantine}).Judge(ctx, d)
	})})
	putImage(t, r, app, "1", "layer")
	if p := putImage(t, r, app, "2", "layer"); p.Decision != policy.Quarantine || p.Created || judged != 1 {
		t.Errorf("second push: %+v after %d judgements; want the first verdict", p, judged)
	}
}

func TestWhoMayRead(t *testing.T) {
	pull, both := allowed(access.RepositoryPull), pusher
	special := allowed(access.RepositoryPull, access.QuarantinePull)
	token := Caller{Name: "token", Access: pull.Access, Granted: both.Access}
	for _, tc := range []struct {
		decision policy.Decision
		named    bool // by a manifest
		who      string
		by       Caller
		get, ask bool
	}{
		{policy.Allow, true, "puller", pull, true, true},
		{policy.Quarantine, true, "puller", pull, false, false},
		{policy.Quarantine, true, "pusher", both, false, true},
		{policy.Quarantine, true, "pusher with a token to pull", token, false, true},
		{policy.Quarantine, true, "quarantine puller", special, true, true},
		{policy.Pending, true, "pusher", both, false, true},
		{policy.Pending, true, "nobody", Caller{}, false, false},
		{policy.Pending, true, "quarantine puller", special, true, true},
		{policy.Allow, false, "puller", pull, false, false},
		{policy.Allow, false, "pusher", both, true, true},
		{policy.Allow, false, "pusher with a token to pull", token, true, true},
	} {
		t.Run(fmt.Sprintf("%s, named %v, %s", tc.decision, tc.named, tc.who), func(t *testing.T) {
			cat := catalogtest.Open(t)
			r := New(cat, memblob.New(), Options{Judge: decide(cat, policy.Verdict{Decision: tc.decision})})
			if tc.named {
				putImage(t, r, app, "1", "layer")
			} else {
				push(t, r, app, "layer")
			}
			if _, err := readBlob(t, r, tc.by, app, sum("layer")); (err == nil) != tc.get {
				t.Errorf("read: %v, want %v", err, tc.get)
			}
			if _, err := r.StatBlob(bg, tc.by, app, sum("layer")); (err == nil) != tc.ask {
				t.Errorf("stat: %v, want %v", err, tc.ask)
			}
			if ok, err := r.Mount(bg, tc.by, mine, app, sum("layer")); ok != tc.get || err != nil && tc.get {
				t.Errorf("mount: %v, %v; want %v", ok, err, tc.get)
			}
		})
	}
}

// explain is an Explainer.
type explain struct {
	findings []ExplainedFinding
	err      error
}

func (e explain) Explain(context.Context, oci.Digest) ([]ExplainedFinding, error) {
	return e.findings, e.err
}

func TestRefusal(t *testing.T) {
	held := policy.Verdict{Decision: policy.Quarantine, Policy: "default", Reasons: []policy.Reason{
		{Rule: "note", Message: "some programs are unknown", Note: true},
		{Rule: "critical-with-fix", Message: "CVE-9 in z 1 is critical", Finding: "CVE-9", Package: "z"},
		{Rule: "critical-with-fix", Message: "CVE-8 in y 1 is critical", Finding: "CVE-8", Package: "y"},
		{Rule: "critical-with-fix", Message: "CVE-8 in y 1 is critical", Finding: "CVE-8", Package: "y"}}}
	var many []ExplainedFinding
	for i := range 30 {
		many = append(many, ExplainedFinding{ID: fmt.Sprintf("CVE-%d", i), Package: string(rune('q' + i%10)), Version: "1", Severity: "high"})
	}
	many[9].Fixed, many[9].Fix = "2", "npm install z@2"
	for name, tc := range map[string]struct {
		explainer Explainer
		findings  int
		says      []string
		not       []string
	}{
		"findings that hold it back come first": {explain{findings: many}, 20,
			[]string{"team/app:1 is quarantined: CVE-8 (high) in y 1, no fix yet; CVE-9 (high) in z 1 -> 2, fix: npm install z@2; CVE-0 ", "and 27 more", "pratique show team/app:1 --server https://r.example"}, nil},
		"no explainer":            {nil, 0, []string{"CVE-9 in z 1 is critical; CVE-8 in y 1 is critical. "}, []string{"unknown", "more"}},
		"an explainer that fails": {explain{err: errors.New("database is gone")}, 0, []string{"CVE-9 in z 1 is critical"}, []string{"database"}},
		"nothing to explain":      {explain{}, 0, []string{"CVE-9 in z 1 is critical"}, nil},
		"a hostile package name": {explain{findings: []ExplainedFinding{{ID: "CVE-9", Package: "z\x1b[2J\r\nAllowed\u202e", Version: strings.Repeat("9", 5000)}}}, 1,
			[]string{"pratique show team/app:1 --server https://r.example"}, []string{"\x1b", "\n", "\r", "\u202e"}},
	} {
		t.Run(name, func(t *testing.T) {
			cat := catalogtest.Open(t)
			r := New(cat, memblob.New(), Options{Judge: decide(cat, held), Explainer: tc.explainer, URL: "https://r.example"})
			p := putImage(t, r, app, "1", "layer")
			_, err := r.Manifest(bg, pusher, app, oci.Reference{Tag: "1"})
			var e *oci.Error
			if !errors.As(err, &e) || e.Code != oci.CodeDenied {
				t.Fatalf("Manifest: %v, want DENIED", err)
			}
			for _, s := range tc.says {
				if !strings.Contains(e.Message, s) {
					t.Errorf("message %q lacks %q", e.Message, s)
				}
			}
			for _, s := range tc.not {
				if strings.Contains(e.Message, s) {
					t.Errorf("message %q has %q", e.Message, s)
				}
			}
			if len(e.Message) > maxMessage+10 {
				t.Errorf("message has %d bytes", len(e.Message))
			}
			d, ok := e.Detail.(Refusal)
			if !ok || len(d.Findings) != tc.findings || d.Digest != p.Digest || d.Decision != policy.Quarantine || len(d.Reasons) != 4 {
				t.Errorf("detail %+v", e.Detail)
			}
			_, err = readBlob(t, r, pusher, app, sum("layer"))
			if !errors.As(err, &e) || e.Code != oci.CodeDenied || !strings.Contains(e.Message, "team/app:1") {
				t.Errorf("Blob: %v, want DENIED that names the image", err)
			}
		})
	}
}

// TestManifestIsNoBlob: its bytes, of which the store gets a copy, are served as a manifest alone.
func TestManifestIsNoBlob(t *testing.T) {
	cat, store := catalogtest.Open(t), memblob.New()
	r := New(cat, store, Options{Judge: decide(cat, policy.Verdict{Decision: policy.Allow})})
	p := putImage(t, r, app, "1", "layer")
	_, err := readBlob(t, r, pusher, app, p.Digest)
	wantCode(t, "a manifest as a blob", err, oci.CodeBlobUnknown)
}

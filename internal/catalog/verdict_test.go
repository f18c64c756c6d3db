package catalog_test

import (
	"encoding/json"
	"testing"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

func TestDue(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "app")
		if _, any, err := c.NextDue(ctx); any || err != nil {
			t.Fatalf("an empty catalog has something due: %v", err)
		}
		m := pushImage(t, c, r, "img", "v1")
		if got := due(t, c, now.Add(-time.Second)); len(got) != 0 {
			t.Errorf("due before it was pushed: %v", got)
		}
		equal(t, due(t, c, now), []oci.Digest{m.Digest})
		if got := due(t, c, now.Add(59*time.Second)); len(got) != 0 {
			t.Errorf("claimed twice within the lease: %v", got)
		}
		at, _, err := c.NextDue(ctx)
		ok(t, err)
		equal(t, at, now.Add(time.Minute))
		equal(t, due(t, c, now.Add(time.Minute)), []oci.Digest{m.Digest})
		equal(t, must(c.ManifestByDigest(ctx, m.Digest))(t).Attempts, 2)

		ok(t, c.PostponeVerdict(ctx, m.Digest, now.Add(time.Hour), "no advisories yet"))
		if got := due(t, c, now.Add(59*time.Minute)); len(got) != 0 {
			t.Errorf("due before it was postponed to: %v", got)
		}
		equal(t, due(t, c, now.Add(time.Hour)), []oci.Digest{m.Digest})
		wantErr(t, c.PostponeVerdict(ctx, digest("none"), now, ""), catalog.ErrNotFound)

		ok(t, c.KeepVerdict(ctx, m.Digest, 1, policy.Verdict{Decision: policy.Allow, At: now, Until: now.Add(24 * time.Hour)}, catalog.Counts{Low: 1}))
		at, _, err = c.NextDue(ctx)
		ok(t, err)
		equal(t, at, now.Add(24*time.Hour))
		judge(t, c, m.Digest, policy.Allow, catalog.Counts{Low: 1})
		if _, any, _ := c.NextDue(ctx); any {
			t.Error("a verdict without end is due")
		}
		wantErr(t, c.PostponeVerdict(ctx, m.Digest, now, ""), catalog.ErrNotFound)
	}, catalog.WithClock(clock))
}

// TestUnclaim: what a process had claimed that is gone does not wait for its lease to end.
func TestUnclaim(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "app")
		judged, claimed := pushImage(t, c, r, "judged"), pushImage(t, c, r, "claimed")
		index := indexOf(t, claimed)
		put(t, c, r, index)
		due(t, c, now)
		ok(t, c.KeepVerdict(ctx, judged.Digest, 1, policy.Verdict{Decision: policy.Allow, At: now, Until: now.Add(30 * time.Second)}, catalog.Counts{}))
		later := now.Add(time.Second)
		if got := due(t, c, later); len(got) != 0 {
			t.Fatalf("claimed twice: %v", got)
		}
		equal(t, must(c.Unclaim(ctx, later))(t), 2)
		equal(t, sorted(due(t, c, later)...), sorted(claimed.Digest, index.Digest))
	}, catalog.WithClock(clock))
}

func TestVerdictIsKept(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "app")
		m := pushImage(t, c, r, "img", "v1")
		want := policy.Verdict{Decision: policy.Quarantine, Policy: "default", At: now, Until: now.Add(time.Hour),
			Reasons: []policy.Reason{{Rule: "critical-with-fix", Message: "CVE-2024-1 in openssl", Finding: "CVE-2024-1", Package: "openssl"}, {Rule: "unknown", Note: true}}}
		counts := catalog.Counts{Critical: 1, High: 2, Medium: 3, Low: 4, None: 5, Unknown: 6, Fixable: 7, Exploited: 8}
		ok(t, catalogtest.Judge(ctx, c, m.Digest, want, counts))
		v, n, err := c.Verdict(ctx, m.Digest)
		ok(t, err)
		equal(t, v, want)
		equal(t, n, counts)
		got := must(c.Manifest(ctx, r, oci.Reference{Tag: "v1"}))(t)
		equal(t, got.Verdict, want)
		equal(t, got.Counts, counts)
		equal(t, list(t, c, catalog.ListQuery{})[0].Decision, policy.Quarantine)
		wantErr(t, catalogtest.Judge(ctx, c, digest("none"), want, counts), catalog.ErrNotFound)
		_, _, err = c.Verdict(ctx, digest("none"))
		wantErr(t, err, catalog.ErrNotFound)
	})
}

// A judge that read the manifest before something new came in must not have the last word.
func TestVerdictOnOldKnowledge(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "app")
		m := pushImage(t, c, r, "img", "v1")
		slow := must(c.ManifestByDigest(ctx, m.Digest))(t).Generation
		equal(t, must(c.MakeDue(ctx))(t), 1)
		equal(t, due(t, c, now), []oci.Digest{m.Digest})
		judge(t, c, m.Digest, policy.Quarantine, catalog.Counts{Critical: 1})
		wantErr(t, c.KeepVerdict(ctx, m.Digest, slow, policy.Verdict{Decision: policy.Allow, At: now}, catalog.Counts{}), catalog.ErrConflict)
		v, _, err := c.Verdict(ctx, m.Digest)
		ok(t, err)
		equal(t, v.Decision, policy.Quarantine)
		if _, any, _ := c.NextDue(ctx); any {
			t.Error("still due")
		}
	}, catalog.WithClock(clock))
}

func TestIndexFollowsItsImages(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "app")
		amd, arm := pushImage(t, c, r, "amd"), pushImage(t, c, r, "arm")
		index := indexOf(t, amd, arm)
		put(t, c, r, index, "v1")
		top := indexOf(t, index, amd)
		put(t, c, r, top, "top")
		all := due(t, c, now)
		equal(t, sorted(all[:2]...), sorted(amd.Digest, arm.Digest))
		equal(t, sorted(all[2:]...), sorted(index.Digest, top.Digest))
		for _, d := range []oci.Digest{amd.Digest, arm.Digest, index.Digest, top.Digest} {
			judge(t, c, d, policy.Allow, catalog.Counts{})
		}
		judge(t, c, top.Digest, policy.Allow, catalog.Counts{})
		if got := due(t, c, now); len(got) != 0 {
			t.Fatalf("due after all are judged: %v", got)
		}

		judge(t, c, amd.Digest, policy.Allow, catalog.Counts{}) // as before
		if got := due(t, c, now); len(got) != 0 {
			t.Errorf("due though nothing changed: %v", got)
		}
		judge(t, c, arm.Digest, policy.Allow, catalog.Counts{Low: 1})
		equal(t, due(t, c, now), []oci.Digest{index.Digest})
		judge(t, c, index.Digest, policy.Quarantine, catalog.Counts{Low: 1})
		equal(t, due(t, c, now), []oci.Digest{top.Digest})
		judge(t, c, top.Digest, policy.Quarantine, catalog.Counts{})

		ok(t, c.DeleteManifest(ctx, r, arm.Digest, catalog.Act{}))
		equal(t, due(t, c, now), []oci.Digest{index.Digest})
		judge(t, c, index.Digest, policy.Quarantine, catalog.Counts{Low: 1})
		put(t, c, r, arm)
		equal(t, sorted(due(t, c, now)...), sorted(arm.Digest, index.Digest))
	}, catalog.WithClock(clock))
}

func TestEvents(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "app")
		m := pushImage(t, c, r, "img", "v1")
		for _, d := range append([]oci.Descriptor{m.Config}, m.Layers...) {
			ok(t, c.LinkBlob(ctx, r, repo(t, "copy"), d.Digest, now))
		}
		put(t, c, repo(t, "copy"), m)
		judge(t, c, m.Digest, policy.Allow, catalog.Counts{})
		judge(t, c, m.Digest, policy.Allow, catalog.Counts{Low: 3})
		judge(t, c, m.Digest, policy.Quarantine, catalog.Counts{Critical: 1})
		all := must(c.Events(ctx, 0, 0))(t)
		if len(all) != 4 {
			t.Fatalf("%d events, want one for each turn and repository: %+v", len(all), all)
		}
		var turn catalog.Turn
		ok(t, json.Unmarshal(all[3].Detail, &turn))
		equal(t, []any{all[3].ID, all[3].At, all[3].Kind, all[3].Repo, all[3].Digest, turn.From, turn.To},
			[]any{4, now, catalog.EventVerdict, "copy", m.Digest.String(), policy.Allow, policy.Quarantine})
		equal(t, must(c.Events(ctx, 2, 1))(t), all[2:3])
	})
}

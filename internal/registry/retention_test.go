package registry

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/blob/memblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// retain runs retention, and gives what went.
func retain(t *testing.T, r *Registry, dryRun bool) (gone []string, why map[string]string, out Retained) {
	t.Helper()
	why = map[string]string{}
	out, err := r.Retain(bg, dryRun, func(f Fate) {
		name := f.Repo.String() + ":" + f.Tag
		if f.Tag == "" {
			name = f.Repo.String() + "@" + f.Digest.Short()
		}
		if why[name] = f.Why; f.Goes {
			gone = append(gone, name)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(gone)
	return gone, why, out
}

func wantTags(t *testing.T, r *Registry, repo oci.Repository, want ...string) {
	t.Helper()
	got, _, err := r.Tags(bg, repo, "", 100)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("tags of %s: %v, %v; want %v", repo, got, err, want)
	}
}

func TestRetain(t *testing.T) {
	at := now
	clock := func() time.Time { return at }
	cat := catalogtest.Open(t, catalog.WithClock(clock))
	r := New(cat, memblob.New(), Options{Now: clock, Judge: decide(cat, policy.Verdict{Decision: policy.Allow})})
	if _, err := cat.PutRules(bg, []byte(`
immutable: [{repositories: "**", tags: "gold"}]
retention: [{name: r, repositories: "team/**", keepLast: 1, keepPulledWithin: 2d, untaggedAfter: 10d}]`), catalog.Act{}); err != nil {
		t.Fatal(err)
	}
	day := func(n int) { at = now.AddDate(0, 0, n) }
	one := putImage(t, r, app, "a", "one").Digest
	putImage(t, r, app, "same-as-a", "one")
	putImage(t, r, app, "gold", "gold")
	putImage(t, r, app, "pulled", "pulled")
	lost := putImage(t, r, app, "moves", "lost").Digest
	putImage(t, r, mine, "a", "one")
	day(1)
	putImage(t, r, app, "moves", "moved")
	putImage(t, r, app, "z-new", "new")
	day(5)
	if _, err := r.Manifest(bg, pusher, app, oci.Reference{Tag: "pulled"}); err != nil {
		t.Fatal(err)
	}
	if err := r.WritePulls(bg); err != nil {
		t.Fatal(err)
	}
	day(6)
	// Of the tags that were set at the same time the first by name stays.
	want := []string{"team/app:a", "team/app:same-as-a", "team/app:z-new"}
	gone, why, dry := retain(t, r, true)
	if !slices.Equal(gone, want) || dry.Tags != 3 || dry.Manifests != 0 {
		t.Errorf("dry run: %v, %+v", gone, dry)
	}
	wantTags(t, r, app, "a", "gold", "moves", "pulled", "same-as-a", "z-new")
	if gone, _, out := retain(t, r, false); !slices.Equal(gone, want) || out.Tags != 3 || out.Manifests != 2 {
		t.Errorf("%v, %+v", gone, out)
	}
	wantTags(t, r, app, "gold", "moves", "pulled")
	wantTags(t, r, mine, "a")
	for name, says := range map[string]string{"team/app:gold": "immutable", "team/app:pulled": "pulled 24 hours ago", "team/app:moves": "keepLast: 1 of 1"} {
		if !strings.Contains(why[name], says) {
			t.Errorf("%s: %q, want %q", name, why[name], says)
		}
	}
	if got, err := r.Restore(bg, pusher, app, one); err != nil || !slices.Equal(got.Tags, []string{"a", "same-as-a"}) {
		t.Errorf("restore: %+v, %v", got, err)
	}

	// What lost its tag on day 1 was pushed on day 0: it has ten days since.
	day(10)
	if gone, _, _ := retain(t, r, true); slices.Contains(gone, "team/app@"+lost.Short()) {
		t.Errorf("untagged for 9 days, and gone: %v", gone)
	}
	day(11)
	if gone, _, _ := retain(t, r, false); !slices.Contains(gone, "team/app@"+lost.Short()) {
		t.Errorf("untagged for 10 days, and not gone: %v", gone)
	}
	if _, err := r.Restore(bg, pusher, app, lost); err != nil {
		t.Errorf("it is not in the trash: %v", err)
	}
}

// TestRetainSpares: what an index lists stays, though no tag names it, and what was set anew since
// it was decided about does.
func TestRetainSpares(t *testing.T) {
	cat := catalogtest.Open(t)
	r := New(cat, memblob.New(), Options{Now: func() time.Time { return now }})
	d := putImage(t, r, app, "v", "one").Digest
	e := catalog.Expiry{Repo: app, Digest: d, Tags: map[string]time.Time{"v": now.Add(-time.Hour)}}
	if out, err := cat.Expire(bg, e, catalog.Act{}); err != nil || out.Manifest || len(out.Tags) > 0 {
		t.Errorf("set anew: %+v, %v", out, err)
	}
	if out, err := cat.Expire(bg, catalog.Expiry{Repo: app, Digest: d}, catalog.Act{}); err != nil || out.Manifest {
		t.Errorf("tagged meanwhile: %+v, %v", out, err)
	}
	raw := []byte(`{"schemaVersion":2,"mediaType":"` + oci.MediaTypeImageIndex + `","manifests":[{"mediaType":"` + oci.MediaTypeImageManifest +
		`","digest":"` + d.String() + `","size":` + sizeOf(t, r, d) + `}]}`)
	index, err := r.PutManifest(bg, pusher, Push{Repo: app, Reference: oci.Reference{Tag: "index"}, Raw: raw})
	if err != nil {
		t.Fatal(err)
	}
	e.Tags["v"] = now
	if out, err := cat.Expire(bg, e, catalog.Act{}); err != nil || out.Manifest || !slices.Equal(out.Tags, []string{"v"}) {
		t.Errorf("of an index: %+v, %v", out, err)
	}
	list, err := cat.UntaggedManifests(bg, app, now.Add(time.Hour), 0, 10)
	if err != nil || len(list) > 0 {
		t.Errorf("untagged: %+v, %v", list, err)
	}
	if err := r.DeleteManifest(bg, pusher, app, oci.Reference{Digest: index.Digest}, catalog.Condition{}); err != nil {
		t.Fatal(err)
	}
	if list, err = cat.UntaggedManifests(bg, app, now.Add(time.Hour), 0, 10); err != nil || len(list) != 1 || list[0].Digest != d {
		t.Errorf("after the index is gone: %+v, %v", list, err)
	}
}

func sizeOf(t *testing.T, r *Registry, d oci.Digest) string {
	t.Helper()
	s, err := r.StatManifest(bg, app, oci.Reference{Digest: d})
	if err != nil {
		t.Fatal(err)
	}
	return strconv.FormatInt(s.Size, 10)
}

package catalog_test

import (
	"bufio"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/vuln"
)

// records reads the real advisories of an ecosystem.
func records(t testing.TB, ecosystem string) []vuln.Advisory {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "osv", ecosystem+".jsonl"))
	ok(t, err)
	defer f.Close()
	var out []vuln.Advisory
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		out = append(out, must(vuln.ParseOSV(lines.Bytes(), "OSV"))(t))
	}
	ok(t, lines.Err())
	return out
}

func all(advisories []vuln.Advisory) iter.Seq2[vuln.Advisory, error] {
	return func(yield func(vuln.Advisory, error) bool) {
		for _, a := range advisories {
			if !yield(a, nil) {
				return
			}
		}
	}
}

func feed(ecosystem string) catalog.Feed {
	return catalog.Feed{Source: "OSV", Ecosystem: ecosystem, File: ecosystem + "/all.zip", AsOf: now, Replace: true, Fingerprint: "f1"}
}

func key(ecosystem, name, version string) inventory.Key {
	return inventory.Key{Ecosystem: ecosystem, Name: name, Version: version}
}

var (
	debianSSL  = key("Debian:12", "openssl", "3.0.11-1~deb12u2")
	alpineSSL  = key("Alpine:v3.9", "openssl", "1.1.1a-r0")
	alpineBusy = key("Alpine:v3.9", "busybox", "1.29.3-r10")
	goNet      = key("Go", "golang.org/x/net", "0.17.0")
	lodash     = key("npm", "lodash", "4.17.4")
)

// typeOf is the package URL type of an ecosystem's packages.
func typeOf(ecosystem string) string {
	switch {
	case strings.HasPrefix(ecosystem, "Debian"):
		return "deb"
	case strings.HasPrefix(ecosystem, "Alpine"):
		return "apk"
	case ecosystem == "Go":
		return "golang"
	}
	return ecosystem
}

// holds keeps what an image holds.
func holds(t testing.TB, c *catalog.Catalog, m oci.Manifest, keys ...inventory.Key) {
	t.Helper()
	img := inventory.Image{Manifest: m.Digest, ExtractedBy: "x1", Coverage: inventory.Coverage{Examined: []string{"dpkg"}}}
	for _, k := range keys {
		img.Packages = append(img.Packages, inventory.Placed{Package: inventory.Package{Key: k, Type: typeOf(k.Ecosystem), Binary: k.Name}, Layer: m.Layers[0].Digest})
	}
	ok(t, c.PutImage(t.Context(), img))
}

// wantFindings fails unless an image has the findings that matching its keys against
// advisories from scratch gives, and at least least of them.
func wantFindings(t testing.TB, c *catalog.Catalog, m oci.Manifest, keys []inventory.Key, advisories []vuln.Advisory, least int) {
	t.Helper()
	want := []vuln.Finding{}
	for _, k := range keys {
		found, _ := vuln.Match(k, advisories)
		want = append(want, found...)
	}
	slices.SortStableFunc(want, vuln.Compare)
	got := must(c.Findings(t.Context(), m.Digest))(t)
	if got == nil {
		got = []vuln.Finding{}
	}
	equal(t, got, want)
	if len(got) < least {
		t.Errorf("%d findings, want %d at least", len(got), least)
	}
}

func TestFindingsAreAKeptJoin(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "app")
		debian, alpine, gos, npm := records(t, "Debian"), records(t, "Alpine"), records(t, "Go"), records(t, "npm")
		one, two := pushImage(t, c, r, "one", "v1"), pushImage(t, c, r, "two", "v2")
		for _, m := range []oci.Manifest{one, two} {
			_, err := c.Findings(ctx, m.Digest)
			wantErr(t, err, catalog.ErrNotFound) // unknown is not clean
			_, err = c.Undecided(ctx, m.Digest)
			wantErr(t, err, catalog.ErrNotFound)
		}
		holds(t, c, one, debianSSL, lodash)
		wantFindings(t, c, one, []inventory.Key{debianSSL, lodash}, nil, 0)
		for _, m := range []oci.Manifest{one, two} {
			judge(t, c, m.Digest, policy.Allow, catalog.Counts{})
		}

		// Advisories that come after the image.
		half := len(debian) / 2
		f := feed("Debian")
		f.Replace = false
		l := must(c.PutAdvisories(ctx, f, all(debian[:half])))(t)
		equal(t, l.Added, half)
		l = must(c.PutAdvisories(ctx, f, all(debian)))(t)
		equal(t, []int{l.Added, l.Changed, l.Removed, l.Unchanged}, []int{len(debian) - half, 0, 0, half})
		wantFindings(t, c, one, []inventory.Key{debianSSL, lodash}, debian, 5)
		equal(t, due(t, c, now), []oci.Digest{one.Digest})
		judge(t, c, one.Digest, policy.Quarantine, catalog.Counts{})

		// Advisories of what no image holds make nothing due; they are there for the next image.
		for eco, list := range map[string][]vuln.Advisory{"Alpine": alpine, "Go": gos} {
			equal(t, must(c.PutAdvisories(ctx, feed(eco), all(list)))(t), catalog.Loaded{Added: len(list)})
		}
		equal(t, must(c.PutAdvisories(ctx, feed("npm"), all(npm)))(t), catalog.Loaded{Added: len(npm), Images: 1})
		equal(t, due(t, c, now), []oci.Digest{one.Digest})
		everything := slices.Concat(debian, alpine, gos, npm)
		keys := []inventory.Key{alpineSSL, alpineBusy, goNet, lodash}
		holds(t, c, two, keys...)
		wantFindings(t, c, two, keys, everything, 10)

		// The same again changes nothing.
		judge(t, c, one.Digest, policy.Quarantine, catalog.Counts{})
		equal(t, must(c.PutAdvisories(ctx, feed("npm"), all(npm)))(t), catalog.Loaded{Unchanged: len(npm)})
		if got := due(t, c, now); len(got) != 0 {
			t.Errorf("due after nothing changed: %v", got)
		}

		// Records that go, and records that change.
		fewer := slices.Clone(npm[1:])
		for i := range fewer {
			if i%2 == 0 {
				fewer[i].Withdrawn = true
			}
		}
		l = must(c.PutAdvisories(ctx, feed("npm"), all(fewer)))(t)
		equal(t, l, catalog.Loaded{Changed: (len(fewer) + 1) / 2, Removed: 1, Unchanged: len(fewer) / 2, Images: 2})
		wantFindings(t, c, two, keys, slices.Concat(debian, alpine, gos, fewer), 5)
		wantFindings(t, c, one, []inventory.Key{debianSSL, lodash}, slices.Concat(debian, fewer), 5)
		must(c.PutAdvisories(ctx, feed("npm"), all(nil)))(t)
		wantFindings(t, c, one, []inventory.Key{debianSSL, lodash}, debian, 5)

		// The image is put again with other contents.
		holds(t, c, two, goNet)
		wantFindings(t, c, two, []inventory.Key{goNet}, gos, 3)
		equal(t, must(c.Image(ctx, two.Digest))(t).Packages[0].Key, goNet)
	}, catalog.WithClock(clock))
}

func TestAdvisoriesFor(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		debian := records(t, "Debian")
		must(c.PutAdvisories(ctx, feed("Debian"), all(debian)))(t)
		got := must(c.AdvisoriesFor(ctx, debianSSL))(t)
		want, wantCleared := vuln.Match(debianSSL, debian)
		found, cleared := vuln.Match(debianSSL, got)
		equal(t, found, want)
		equal(t, cleared, wantCleared)
		for _, a := range got {
			for _, x := range a.Affected {
				if x.Name != "openssl" || x.Ecosystem != "Debian:12" {
					t.Errorf("%s brings %s of %s along", a.ID, x.Name, x.Ecosystem)
				}
			}
		}
		// The same record by two files, the newer one counts.
		older := slices.Clone(debian)
		for i := range older {
			older[i].Modified = older[i].Modified.Add(-time.Hour)
			older[i].Withdrawn = true
		}
		must(c.PutAdvisories(ctx, feed("Other"), all(older)))(t)
		found, _ = vuln.Match(debianSSL, must(c.AdvisoriesFor(ctx, debianSSL))(t))
		equal(t, found, want)
	})
}

func TestPutAdvisoriesIsAllOrNothing(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		gos := records(t, "Go")
		broken := errors.New("record 7 is not JSON")
		// The padding makes the reading ahead end before the error.
		long := slices.Clone(gos)
		for i := range long {
			long[i].Summary = strings.Repeat("x", 2<<20)
		}
		for _, list := range [][]vuln.Advisory{gos, long} {
			_, err := c.PutAdvisories(ctx, feed("Go"), func(yield func(vuln.Advisory, error) bool) {
				for _, a := range list {
					if !yield(a, nil) {
						return
					}
				}
				yield(vuln.Advisory{}, broken)
			})
			wantErr(t, err, broken)
			_, err = c.FeedFingerprint(ctx, "OSV", "Go")
			wantErr(t, err, catalog.ErrNotFound)
			equal(t, len(must(c.AdvisoriesFor(ctx, goNet))(t)), 0)
			equal(t, len(must(c.CoveredEcosystems(ctx))(t)), 0)
		}
		_, err := c.PutAdvisories(ctx, feed("Go"), all([]vuln.Advisory{{Summary: "no id"}}))
		if err == nil {
			t.Error("a record without id was taken")
		}
		// The same id twice in one file: the later one counts.
		twice := []vuln.Advisory{gos[0], gos[1], gos[0]}
		twice[2].Summary = "later"
		equal(t, must(c.PutAdvisories(ctx, feed("Go"), all(twice)))(t), catalog.Loaded{Added: 2, Changed: 1})
		equal(t, must(c.AdvisoryStatus(ctx))(t)[0].Records, 2)
		for _, a := range must(c.AdvisoriesFor(ctx, goNet))(t) {
			if a.ID == gos[0].ID && a.Summary != "later" {
				t.Errorf("summary of %s is %q", a.ID, a.Summary)
			}
		}
	})
}

func TestCoverage(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		alpine, npm := records(t, "Alpine"), records(t, "npm")
		must(c.PutAdvisories(ctx, feed("Alpine"), all(alpine)))(t)
		covered := must(c.CoveredEcosystems(ctx))(t)
		equal(t, []time.Time{covered["Alpine:v3.9"].AsOf, covered["npm"].AsOf}, []time.Time{now, {}})

		// A single record is no coverage.
		extra := catalog.Feed{Source: "additions", AsOf: now, Fingerprint: "f"}
		must(c.PutAdvisories(ctx, extra, all(npm[:1])))(t)
		if _, is := must(c.CoveredEcosystems(ctx))(t)["npm"]; is {
			t.Error("one added record makes all of npm covered")
		}
		n := feed("npm")
		n.AsOf = now.Add(-time.Hour)
		must(c.PutAdvisories(ctx, n, all(npm)))(t)
		equal(t, must(c.CoveredEcosystems(ctx))(t)["npm"].AsOf, n.AsOf)
		equal(t, must(c.FeedFingerprint(ctx, "OSV", "npm"))(t), "f1")

		// A feed says how far it reaches; the next loading says so anew.
		n.Covers = map[string]vuln.Coverage{"npm": {AsOf: now.Add(-time.Minute), Partial: "one package"}}
		must(c.PutAdvisories(ctx, n, all(npm)))(t)
		equal(t, must(c.CoveredEcosystems(ctx))(t)["npm"], vuln.Coverage{AsOf: now.Add(-time.Minute), Partial: "one package"})
		n.Covers = nil
		must(c.PutAdvisories(ctx, n, all(npm)))(t)
		equal(t, must(c.CoveredEcosystems(ctx))(t)["npm"], vuln.Coverage{AsOf: n.AsOf})

		newest := time.Time{}
		for _, a := range alpine {
			if a.Modified.After(newest) {
				newest = a.Modified
			}
		}
		status := must(c.AdvisoryStatus(ctx))(t)
		if len(status) != 3 {
			t.Fatalf("status: %+v", status)
		}
		releases := status[0].Releases
		status[0].Releases = nil
		equal(t, status, []catalog.EcosystemStatus{
			{Ecosystem: "Alpine", Source: "OSV", File: "Alpine/all.zip", Records: len(alpine), Newest: newest.Truncate(time.Microsecond), AsOf: now, LoadedAt: now},
			{Ecosystem: "npm", Source: "OSV", File: "npm/all.zip", Records: len(npm), Newest: status[1].Newest, AsOf: n.AsOf, LoadedAt: now},
			{Ecosystem: "npm", Source: "additions", Records: 1, Newest: status[2].Newest, AsOf: now, LoadedAt: now}})
		if !slices.Contains(releases, "Alpine:v3.9") || !slices.IsSorted(releases) {
			t.Errorf("releases: %v", releases)
		}

		// An emptied feed covers nothing.
		must(c.PutAdvisories(ctx, feed("Alpine"), all(nil)))(t)
		if _, is := must(c.CoveredEcosystems(ctx))(t)["Alpine:v3.9"]; is {
			t.Error("a feed without records covers something")
		}
	}, catalog.WithClock(clock))
}

func TestEnrichment(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "app")
		must(c.PutAdvisories(ctx, feed("npm"), all(records(t, "npm"))))(t)
		must(c.PutAdvisories(ctx, feed("Debian"), all(records(t, "Debian"))))(t)
		one, two := pushImage(t, c, r, "one", "v1"), pushImage(t, c, r, "two", "v2")
		holds(t, c, one, debianSSL)
		holds(t, c, two, goNet)
		for _, m := range []oci.Manifest{one, two} {
			judge(t, c, m.Digest, policy.Allow, catalog.Counts{})
		}
		before := must(c.Findings(ctx, one.Digest))(t)
		last := before[len(before)-1]
		if !strings.HasPrefix(last.ID, "CVE-") || last.Exploited {
			t.Fatalf("last finding: %+v", last)
		}
		ok(t, c.PutKEV(ctx, now, []string{"CVE-1999-0001", last.ID, last.ID}))
		equal(t, due(t, c, now), []oci.Digest{one.Digest})
		judge(t, c, one.Digest, policy.Allow, catalog.Counts{})
		got := must(c.Findings(ctx, one.Digest))(t)
		if got[0].ID != last.ID || !got[0].Exploited || got[0].Severity != last.Severity || got[1].Exploited {
			t.Errorf("the exploited one does not come first: %+v", got[:2])
		}
		ok(t, c.PutKEV(ctx, now, []string{last.ID}))
		if got := due(t, c, now); len(got) != 0 {
			t.Errorf("due though nothing changed for them: %v", got)
		}

		scores := func(score float32, err error) iter.Seq2[catalog.EPSS, error] {
			return func(yield func(catalog.EPSS, error) bool) {
				for _, cve := range append(numbered("CVE-2001-", 300), last.ID) {
					if !yield(catalog.EPSS{CVE: cve, Score: score}, nil) {
						return
					}
				}
				if err != nil {
					yield(catalog.EPSS{}, err)
				}
			}
		}
		ok(t, c.PutEPSS(ctx, now, scores(0.25, nil)))
		broken := errors.New("line 301 is broken")
		wantErr(t, c.PutEPSS(ctx, now, scores(0.75, broken)), broken)
		equal(t, must(c.Findings(ctx, one.Digest))(t)[0].EPSS, 0.25)
		ok(t, c.PutEPSS(ctx, now, scores(0.5, nil)))
		equal(t, must(c.Findings(ctx, one.Digest))(t)[0].EPSS, 0.5)
		equal(t, must(c.Enrichments(ctx))(t), []catalog.Enrichment{{"epss", 301, now, now}, {"kev", 1, now, now}})
		ok(t, c.PutKEV(ctx, now, nil))
		equal(t, due(t, c, now), []oci.Digest{one.Digest})
		if must(c.Findings(ctx, one.Digest))(t)[0].Exploited {
			t.Error("still exploited after the list was emptied")
		}
	}, catalog.WithClock(clock))
}

func TestLayersAndImages(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		l := inventory.Layer{Digest: digest("l1"), ExtractedBy: "x1", Removed: []string{"etc/passwd"}, Files: 3, Bytes: 4,
			Packages: []inventory.Package{{Key: debianSSL, Type: "deb", Paths: []string{"var/lib/dpkg/status"}}},
			Written:  inventory.NewPathSet([]uint64{inventory.PathHash("etc/motd"), 7, 1 << 63}),
			Coverage: inventory.Coverage{Examined: []string{"dpkg"}, Unknown: []inventory.Gap{{Kind: inventory.GapUnread, Path: "a.jar", Reason: "not a zip"}}}}
		ok(t, c.PutLayer(ctx, l))
		got := must(c.Layers(ctx, []oci.Digest{digest("l2"), l.Digest, l.Digest}, "x1"))(t)
		equal(t, got, map[oci.Digest]inventory.Layer{l.Digest: l})
		equal(t, len(must(c.Layers(ctx, []oci.Digest{l.Digest}, "x2"))(t)), 0)
		l.ExtractedBy = "x2"
		ok(t, c.PutLayer(ctx, l))
		equal(t, len(must(c.Layers(ctx, []oci.Digest{l.Digest}, "x1"))(t)), 0)

		wantErr(t, c.PutImage(ctx, inventory.Image{Manifest: digest("none")}), catalog.ErrNotFound)
		_, err := c.Image(ctx, digest("none"))
		wantErr(t, err, catalog.ErrNotFound)
		m := pushImage(t, c, repo(t, "app"), "img")
		must(c.PutAdvisories(ctx, feed("npm"), all(records(t, "npm"))))(t)
		img := inventory.Image{Manifest: m.Digest, ExtractedBy: "x1", Packages: []inventory.Placed{
			{Package: inventory.Package{Key: lodash, Type: "npm", OwnedBy: "node-lodash"}, Layer: l.Digest, Instruction: "RUN apt-get install node-lodash"}}}
		ok(t, c.PutImage(ctx, img))
		equal(t, must(c.Image(ctx, m.Digest))(t), img)
		equal(t, len(must(c.Findings(ctx, m.Digest))(t)), 0) // the distribution speaks for it
		judge(t, c, m.Digest, policy.Allow, catalog.Counts{})
		equal(t, must(c.MakeDue(ctx, "x1"))(t), 0)
		equal(t, must(c.MakeDue(ctx, "x2"))(t), 1)
		equal(t, due(t, c, now), []oci.Digest{m.Digest})
	}, catalog.WithClock(clock))
}

// What cannot be told is kept as such, and a match that has come to be wrong is put right.
func TestUndecidedAndRematch(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		npm := records(t, "npm")
		must(c.PutAdvisories(ctx, feed("npm"), all(npm)))(t)
		m := pushImage(t, c, repo(t, "app"), "img")
		odd := key("npm", "lodash", "not a version")
		holds(t, c, m, odd, lodash)
		_, cleared := vuln.Match(odd, npm)
		var want []vuln.Cleared
		for _, x := range cleared {
			if x.Undecided {
				want = append(want, x)
			}
		}
		if len(want) == 0 {
			t.Fatal("nothing is undecided about a version that is none")
		}
		equal(t, must(c.Undecided(ctx, m.Digest))(t), want)

		judge(t, c, m.Digest, policy.Quarantine, catalog.Counts{})
		equal(t, must(c.Rematch(ctx))(t), 0)
		if got := due(t, c, now); len(got) != 0 {
			t.Errorf("due though nothing changed: %v", got)
		}
		found := must(c.Findings(ctx, m.Digest))(t)
		_, err := c.DB().ExecContext(ctx, `delete from findings`)
		ok(t, err)
		equal(t, must(c.Rematch(ctx))(t), 1)
		equal(t, must(c.Findings(ctx, m.Digest))(t), found)
		equal(t, due(t, c, now), []oci.Digest{m.Digest})
	}, catalog.WithClock(clock))
}

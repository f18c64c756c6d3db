package catalog_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// mayScan are the statements whose work is proportional to the table by their nature.
var mayScan = []string{
	"select count(*) from principals",
	"update verdicts set due_at = $1, generation = generation + 1", // all, or all of another extractor set
	"select min(due_at)",                                           // of two rows, the first of images and of indexes
	"from feeds",                                                   // one row for each ecosystem
	"feed_ecosystems",                                              // one for each release
	"from enrichments",
	"select distinct name_id from lookups", // every key is matched
	"select cve from kev",                  // all of it is replaced
	"delete from epss",
	"where h.journaled = 0",                              // by an index of those alone
	"select 0, r.name",                                   // for a snapshot of all
	"select count(*), coalesce(sum(size), 0) from blobs", // before all of them are read
	"with wanted",                                        // the scan is of the values in the statement
	"limit 1000) o",                                      // of what was chosen within the statement
}

// A statement that reads a whole table is fine in a test and not with a million images.
func TestNoStatementScansATable(t *testing.T) {
	c := catalogtest.Open(t, catalog.WithClock(clock))
	useEverything(t, c)
	texts := 0
	check := func(text string) {
		texts++
		for _, step := range c.Plan(t.Context(), t, text) {
			scans := strings.HasPrefix(step, "SCAN") && !strings.HasSuffix(step, "CONSTANT ROW") && !strings.HasSuffix(step, "VALUES CLAUSE")
			if (scans || strings.Contains(step, "AUTOMATIC")) && !slices.ContainsFunc(mayScan, func(may string) bool { return strings.Contains(text, may) }) {
				t.Errorf("%s: %s", strings.Join(strings.Fields(text), " "), step)
			}
		}
	}
	c.Learned(check)
	for _, text := range catalog.HotTexts {
		check(text)
	}
	if texts < 60 {
		t.Errorf("only %d statements were looked at", texts)
	}
}

// However long the list is, it is looked up digest by digest, and not among all that a
// repository has.
func TestListsAreLookedUp(t *testing.T) {
	c := catalogtest.Open(t)
	for text, first := range map[string]string{"blobs on a list": "SEARCH b USING INDEX", "manifests on one": "SEARCH m USING INDEX"} {
		if steps := c.Plan(t.Context(), t, catalog.HotTexts[text]); !strings.HasPrefix(steps[0], first) {
			t.Errorf("%s: %q, want it to begin with %s", text, steps, first)
		}
	}
}

// useEverything calls every method once or more.
func useEverything(t testing.TB, c *catalog.Catalog) {
	t.Helper()
	ctx, r := t.Context(), repo(t, "app")
	ok(t, c.PutUpload(ctx, catalog.Upload{ID: "u1", Repo: r, Started: now, Touched: now}))
	ok(t, c.PutUpload(ctx, catalog.Upload{ID: "u2", Repo: r, Started: now, Touched: now}))
	ok(t, c.SaveUpload(ctx, "u1", []byte("s"), 1, now))
	must(c.Upload(ctx, r, "u1"))(t)
	must(c.StaleUploads(ctx, now))(t)
	must(c.UploadsBy(ctx, "", 10))(t)
	ok(t, c.FinishUpload(ctx, "u1", r, digest("x"), 1, now))
	ok(t, c.DeleteUpload(ctx, "u2"))
	ok(t, c.LinkBlob(ctx, r, repo(t, "b"), digest("x"), now))
	ok(t, c.UnlinkBlob(ctx, r, digest("x"), byAnn()))
	must(c.BlobRepositories(ctx, digest("x")))(t)
	amd := pushImage(t, c, r, "amd", "v1")
	index := indexOf(t, amd)
	put(t, c, r, index, "v2")
	must(c.Manifest(ctx, r, oci.Reference{Tag: "v1"}))(t)
	must(c.TagHistory(ctx, r, "v1", 0, 0))(t)
	must(c.Blob(ctx, r, amd.Config.Digest))(t)
	must(c.HeldBack(ctx, r, amd.Config.Digest, 0))(t)
	for _, ref := range []oci.Reference{{}, {Tag: "v1"}, {Digest: amd.Digest}} {
		must(c.SetLocks(ctx, r, ref, catalog.LockList, 0, catalog.Act{}))(t)
		must(c.SetLocks(ctx, r, ref, 0, catalog.LockList, catalog.Act{}))(t)
	}
	must(c.ReadLock(ctx, r, oci.Reference{Tag: "v1"}))(t)
	must(c.ReadLock(ctx, r, oci.Reference{Digest: amd.Digest}))(t)
	useAttributes(t, c, r, amd.Digest)
	must(c.Tags(ctx, r, "", 0))(t)
	must(c.Repositories(ctx, "", 0))(t)
	_, _, err := c.Referrers(ctx, r, amd.Digest, catalog.ReferrerPage{})
	ok(t, err)
	_, err = c.PutManifest(ctx, catalog.NewManifest{Repo: r, Manifest: index, Tags: []string{"v3"}, Now: now, If: catalog.Condition{Tag: "v3", Absent: true}})
	ok(t, err)
	_, err = c.PutManifest(ctx, catalog.NewManifest{Repo: r, Manifest: index, Now: now, If: catalog.Condition{Present: true}})
	ok(t, err)
	list(t, c, catalog.ListQuery{Prefix: "a", After: "app:a"})
	for eco, one := range map[string]int{"Debian": 0, "Alpine": 0, "Go": 1, "npm": 1} {
		list := records(t, eco)
		holds(t, c, amd, debianSSL, alpineSSL, goNet, lodash)
		must(c.PutAdvisories(ctx, feed(eco), all(list[one:])))(t)
		list[1].Summary = "changed"
		must(c.PutAdvisories(ctx, feed(eco), all(list[:len(list)-1])))(t)
	}
	f := feed("npm")
	f.Replace = false
	must(c.PutAdvisories(ctx, f, all(nil)))(t)
	must(c.FeedFingerprint(ctx, "OSV", "npm"))(t)
	must(c.AdvisoryStatus(ctx))(t)
	must(c.CoveredEcosystems(ctx))(t)
	must(c.AdvisoriesFor(ctx, debianSSL))(t)
	must(c.Findings(ctx, amd.Digest))(t)
	must(c.Undecided(ctx, amd.Digest))(t)
	must(c.Image(ctx, amd.Digest))(t)
	must(c.Layers(ctx, []oci.Digest{digest("l")}, "x"))(t)
	ok(t, c.PutKEV(ctx, now, []string{"CVE-2024-0001", "CVE-2024-0002"}))
	ok(t, c.PutKEV(ctx, now, []string{"CVE-2024-0002"}))
	ok(t, c.PutEPSS(ctx, now, func(yield func(catalog.EPSS, error) bool) { yield(catalog.EPSS{CVE: "CVE-2024-0001", Score: 0.5}, nil) }))
	must(c.Enrichments(ctx))(t)
	must(c.Rematch(ctx))(t)
	due(t, c, now)
	judge(t, c, amd.Digest, policy.Quarantine, catalog.Counts{High: 1})
	ok(t, c.PostponeVerdict(ctx, index.Digest, now, "later"))
	must(c.Events(ctx, 0, 0))(t)
	must(c.MakeDue(ctx))(t)
	must(c.MakeDue(ctx, "x2"))(t)
	_, _, err = c.Verdict(ctx, amd.Digest)
	ok(t, err)
	useGarbage(t, c, r)
	useRules(t, c, r)
	ok(t, c.DeleteTag(ctx, r, "v1", catalog.Act{}))
	must(c.UndoTag(ctx, r, "v1", catalog.Act{}))(t)
	ok(t, c.DeleteManifest(ctx, r, amd.Digest, catalog.Act{}))
	put(t, c, r, amd, "v4")
	ok(t, c.DeleteManifest(ctx, r, amd.Digest, discarding()))
	_, _, err = c.Trash(ctx, "a", "", 0)
	ok(t, err)
	must(c.RestoreManifest(ctx, r, amd.Digest, byAnn()))(t)
	ok(t, c.DeleteManifest(ctx, r, amd.Digest, discarding()))
	must(c.PurgeTrash(ctx, now.Add(window), 1, false))(t)
	wantErr(t, c.PurgeManifest(ctx, r, amd.Digest, byAnn()), catalog.ErrNotFound)
	useAccess(t, c)
	useAudit(t, c)
	must(c.PutSettingOnce(ctx, "k", nil))(t)
	ok(t, c.PutSetting(ctx, "k", nil))
	must(c.Setting(ctx, "k"))(t)
}

// useAccess calls the methods of who may do what.
func useAccess(t testing.TB, c *catalog.Catalog) {
	t.Helper()
	ctx, by := t.Context(), byAnn()
	ok(t, c.PutScopeMap(ctx, access.ScopeMap{Name: "m"}, by))
	must(c.ScopeMaps(ctx))(t)
	must(c.ScopeMap(ctx, "m"))(t)
	ok(t, c.CreatePrincipal(ctx, catalog.Account{Principal: access.Principal{ID: "p", Kind: access.KindToken, Name: "ann"}, ScopeMap: "m", External: "i s"}, by))
	ok(t, c.CreatePrincipal(ctx, catalog.Account{Principal: access.Principal{ID: "g", Kind: access.KindGroup, Name: "team"}}, by))
	ok(t, c.SetScopeMap(ctx, "p", "m", by))
	ok(t, c.AddSecret(ctx, catalog.Secret{ID: "s", Principal: "p"}, by))
	ok(t, c.ExpireSecret(ctx, "p", "s", now.AddDate(0, 0, 1), by))
	for _, e := range must(c.ExpiringSecrets(ctx, now, 0))(t) {
		ok(t, c.MarkWarned(ctx, e, []byte("{}"), now))
	}
	must(c.Secrets(ctx, "p"))(t)
	ok(t, c.DeleteSecret(ctx, "p", "s", by))
	owner := catalog.Assigned{Principal: "p", Role: access.Owner.Name}
	ok(t, c.Assign(ctx, owner, by))
	ok(t, c.PutRole(ctx, access.Role{Name: "r", Permissions: []access.Permission{access.RepositoryPull}}, by))
	must(c.Roles(ctx))(t)
	must(c.Role(ctx, "r"))(t)
	own := catalog.Assigned{Principal: "p", Role: "r", Condition: "true"}
	ok(t, c.Assign(ctx, own, by))
	must(c.Assignments(ctx, catalog.AssignmentQuery{Principal: "p", Role: "r"}))(t)
	ok(t, c.AddMember(ctx, "g", "p", by))
	must(c.Members(ctx, "g", 0))(t)
	must(c.Groups(ctx, "p"))(t)
	must(c.Standing(ctx, "p", []string{"g"}))(t)
	must(c.Given(ctx, must(c.Principal(ctx, "p"))(t)))(t)
	ok(t, c.RemoveMember(ctx, "g", "p", by))
	ok(t, c.CreatePrincipal(ctx, catalog.Account{Principal: access.Principal{ID: "ig", Kind: access.KindGroup, Name: "ig"}, External: "https://issuer.example a"}, by))
	ok(t, c.SetGroups(ctx, "p", "https://issuer.example", []string{"a"}, by))
	ok(t, c.SetGroups(ctx, "p", "https://issuer.example", nil, by))
	ok(t, c.Unassign(ctx, own, by))
	ok(t, c.DeleteRole(ctx, "r", by))
	ok(t, c.PutFederation(ctx, catalog.Federation{Name: "f", Principal: "p"}, by))
	must(c.Federations(ctx))(t)
	must(c.FederationsBy(ctx, "i"))(t)
	must(c.FederationsOf(ctx, "p"))(t)
	ok(t, c.DeleteFederation(ctx, "f", by))
	ok(t, c.UseToken(ctx, "t", now.Add(time.Hour), now))
	must(c.TokenUsed(ctx, "t"))(t)
	must(c.PrincipalByName(ctx, "ann"))(t)
	must(c.PrincipalByExternal(ctx, "i s"))(t)
	_, _, err := c.Principals(ctx, "", "a", "", 0)
	ok(t, err)
	wantErr(t, c.DisablePrincipal(ctx, "p", by), catalog.ErrLastOwner)
	ok(t, c.EnablePrincipal(ctx, "p", by))
	ok(t, c.DeletePrincipal(ctx, "g", by))
	wantErr(t, c.DeleteScopeMap(ctx, "m", by), catalog.ErrConflict)
	must(c.PrincipalCount(ctx))(t)
	ok(t, c.SwapSetting(ctx, "swapped", nil, []byte("1")))
	ok(t, c.SwapSetting(ctx, "swapped", []byte("1"), nil))
}

// useAudit calls the methods of the audit log.
func useAudit(t testing.TB, c *catalog.Catalog) {
	t.Helper()
	ctx := t.Context()
	ok(t, c.WriteAudit(ctx, []catalog.Record{{At: now, Actor: "ann", Action: "look"}}))
	must(c.ChainAudit(ctx, 0))(t)
	for _, q := range []catalog.AuditQuery{{}, {Actor: "ann"}} {
		_, _, err := c.Audit(ctx, q, 0, 0)
		ok(t, err)
	}
	must(c.AuditAfter(ctx, 0, 0))(t)
	must(c.PruneAudit(ctx, now.Add(time.Hour), 1, 1))(t)
	must(c.AuditAnchor(ctx))(t)
	_, _, err := c.AuditChain(ctx, func(catalog.AuditMark) {}, func([]catalog.Record) bool { return true })
	ok(t, err)
	_, _, err = c.AuditState(ctx)
	ok(t, err)
}

// useRules calls what rules are asked in.
func useRules(t testing.TB, c *catalog.Catalog, r oci.Repository) {
	t.Helper()
	ctx := t.Context()
	must(c.PutRules(ctx, []byte(`{immutable: [{repositories: "none"}], quotas: [{prefix: "", bytes: 10GiB, tags: 1000}]}`), catalog.Act{}))(t)
	_, _, err := c.Rules(ctx)
	ok(t, err)
	must(c.Usage(ctx, "a"))(t)
	ok(t, c.CheckQuota(ctx, r, 1))
	pushImage(t, c, r, "ruled", "ruled")
	pushImage(t, c, r, "ruled again", "ruled")
	ok(t, c.DeleteTag(ctx, r, "ruled", catalog.Act{}))
	must(c.AllRepositories(ctx, "", 0))(t)
	must(c.RetainedTags(ctx, r, "", 0))(t)
	must(c.Holds(ctx, r, []oci.Digest{digest("x")}))(t)
	must(c.UntaggedManifests(ctx, r, now, 0, 0))(t)
	ok(t, c.Untagged(ctx, r, map[oci.Digest]time.Time{}))
	m := pushImage(t, c, r, "expires", "expires")
	ok(t, c.NotePulls(ctx, []catalog.Pull{{Repo: r, Ref: oci.Reference{Tag: "expires"}, At: now}, {Repo: r, Ref: oci.Reference{Digest: m.Digest}, At: now}}))
	must(c.Expire(ctx, catalog.Expiry{Repo: r, Digest: m.Digest, Tags: map[string]time.Time{"expires": now}}, catalog.Act{}))(t)
}

// useGarbage calls the methods of collections and long jobs.
func useGarbage(t testing.TB, c *catalog.Catalog, r oci.Repository) {
	t.Helper()
	ctx, later := t.Context(), now.Add(time.Hour)
	old := pushBlob(t, c, r, "nobody needs this").Digest
	ok(t, c.TouchBlob(ctx, r, old, now))
	_, _, err := c.PruneLinks(ctx, catalog.LinkMark{}, later, 0, false)
	ok(t, err)
	_, _, err = c.Orphans(ctx, 0, later, later, 0)
	ok(t, err)
	must(c.DropBlobs(ctx, []oci.Digest{old}, later, later))(t)
	must(c.Strangers(ctx, []oci.Digest{old}))(t)
	ok(t, c.PutLayer(ctx, inventory.Layer{Digest: old, ExtractedBy: "x"}))
	_, _, err = c.PruneLayers(ctx, "", 0, false)
	ok(t, err)
	_, _, err = c.PrunePackages(ctx, 0, 0, false)
	ok(t, err)
	must(c.PruneHistory(ctx, later, 0, false))(t)
	ok(t, c.Lease(ctx, "l", now))
	ok(t, c.Release(ctx, "l"))
	ok(t, c.ReleaseAll(ctx))
	moves := must(c.Unjournaled(ctx, 0))(t)
	ok(t, c.MarkJournaled(ctx, append(moves, catalog.Entry{ID: 1})))
	must(c.LastMove(ctx))(t)
	must(c.All(ctx, func(catalog.Entry) error { return nil }))(t)
	ok(t, c.Remake(ctx, []catalog.Remade{{Repo: repo(t, "again"), Manifest: imageOf(t, oci.Descriptor{Digest: old, Size: 1}, nil, nil), Tags: []catalog.RemadeTag{{Name: "v1"}}}}))
	must(c.Faults(ctx))(t)
	must(c.KeptBlobs(ctx, 0, 0))(t)
	must(c.KeptManifests(ctx, 0, 0))(t)
	_, _, err = c.BlobTotals(ctx)
	ok(t, err)
	must(c.Dependants(ctx, old, 0))(t)
	ok(t, c.AdoptBlob(ctx, old, 1, now))
	must(c.KeptBlob(ctx, old))(t)
	ok(t, c.MarkDamaged(ctx, old, now))
	ok(t, c.ClearDamaged(ctx, old))
	_, _, err = c.Usages(ctx, 0, 0, true)
	ok(t, err)
	_, _, err = c.Job(ctx, "j")
	wantErr(t, err, catalog.ErrNotFound)
}

// A database file of one version of the program opens in the same version, as it was.
func TestReopen(t *testing.T) {
	catalogtest.EachDSN(t, func(t *testing.T, dsn string) {
		if dsn == "sqlite::memory:" {
			return // gone after Close, by its contract
		}
		c := must(catalog.Open(t.Context(), dsn))(t)
		useEverything(t, c)
		want := must(c.AdvisoryStatus(t.Context()))(t)
		ok(t, c.Close())
		c = must(catalog.Open(t.Context(), dsn))(t)
		equal(t, must(c.AdvisoryStatus(t.Context()))(t), want)
		ok(t, c.Close())
		if name, isFile := strings.CutPrefix(dsn, "sqlite:"); isFile {
			left := must(filepath.Glob(name + "-*"))(t)
			if len(left) > 0 {
				t.Errorf("left beside the closed catalog: %v", left)
			}
		}
	})
}

package catalog_test

import (
	"errors"
	"testing"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

func TestUploads(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r, other := t.Context(), repo(t, "team/app"), repo(t, "team/other")
		u := catalog.Upload{ID: "u1", Repo: r, By: "ann", State: []byte{0, 1, 255}, Started: now, Touched: now}
		ok(t, c.PutUpload(ctx, u))
		wantErr(t, c.PutUpload(ctx, u), catalog.ErrConflict)
		equal(t, must(c.Upload(ctx, r, "u1"))(t), u)
		_, err := c.Upload(ctx, other, "u1")
		wantErr(t, err, catalog.ErrNotFound)
		if names := must(c.Repositories(ctx, "", 0))(t); len(names) != 0 {
			t.Errorf("an upload made repositories %v", names)
		}

		later := now.Add(time.Hour)
		ok(t, c.SaveUpload(ctx, "u1", []byte("state"), 42, later))
		u.State, u.Offset, u.Touched = []byte("state"), 42, later
		equal(t, must(c.Upload(ctx, r, "u1"))(t), u)
		wantErr(t, c.SaveUpload(ctx, "u2", nil, 1, now), catalog.ErrNotFound)
		if stale := must(c.StaleUploads(ctx, later))(t); len(stale) != 0 {
			t.Errorf("stale: %v", stale)
		}
		equal(t, must(c.StaleUploads(ctx, later.Add(1000)))(t), []catalog.Upload{u})

		d := digest("content")
		wantErr(t, c.FinishUpload(ctx, "u1", other, d, 7, now), catalog.ErrNotFound)
		ok(t, c.FinishUpload(ctx, "u1", r, d, 7, now))
		wantErr(t, c.FinishUpload(ctx, "u1", r, d, 7, now), catalog.ErrNotFound)
		wantErr(t, c.SaveUpload(ctx, "u1", nil, 1, now), catalog.ErrNotFound)
		equal(t, must(c.Blob(ctx, r, d))(t), catalog.Blob{Digest: d, Size: 7, Linked: true, LinkedAt: now})
		_, err = c.Blob(ctx, other, d)
		wantErr(t, err, catalog.ErrNotFound)

		ok(t, c.PutUpload(ctx, catalog.Upload{ID: "u3", Repo: r, Started: now, Touched: now}))
		ok(t, c.DeleteUpload(ctx, "u3"))
		wantErr(t, c.DeleteUpload(ctx, "u3"), catalog.ErrNotFound)
	})
}

func TestBlobs(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, a, b := t.Context(), repo(t, "a"), repo(t, "b")
		d := pushBlob(t, c, a, "content").Digest
		wantErr(t, c.LinkBlob(ctx, b, a, d, now), catalog.ErrNotFound)
		wantErr(t, c.LinkBlob(ctx, a, b, digest("unknown"), now), catalog.ErrNotFound)
		for range 2 {
			ok(t, c.LinkBlob(ctx, a, b, d, now))
		}
		equal(t, must(c.BlobRepositories(ctx, d))(t), []oci.Repository{a, b})
		ok(t, c.UnlinkBlob(ctx, a, d, byAnn()))
		wantErr(t, c.UnlinkBlob(ctx, a, d, byAnn()), catalog.ErrNotFound)
		_, err := c.Blob(ctx, a, d)
		wantErr(t, err, catalog.ErrNotFound)
		must(c.Blob(ctx, b, d))(t)

		m := pushImage(t, c, b, "img", "v1")
		layer := m.Layers[1].Digest
		wantErr(t, c.UnlinkBlob(ctx, b, layer, byAnn()), catalog.ErrConflict)
		equal(t, must(c.Blob(ctx, b, layer))(t), catalog.Blob{Digest: layer, Size: 9, Linked: true, Referenced: true, Open: true, LinkedAt: now})
		judge(t, c, m.Digest, policy.Quarantine, catalog.Counts{})
		if got := must(c.Blob(ctx, b, layer))(t); got.Served {
			t.Error("a layer of a quarantined image is served")
		}
		// The base layer is also in an image that is let through, in this repository.
		pushImage(t, c, b, "img2", "v2")
		judge(t, c, must(c.Manifest(ctx, b, oci.Reference{Tag: "v2"}))(t).Digest, policy.Allow, catalog.Counts{})
		if got := must(c.Blob(ctx, b, m.Layers[0].Digest))(t); !got.Served {
			t.Error("a layer of an allowed image is not served")
		}
		if got := must(c.Blob(ctx, b, layer))(t); got.Served {
			t.Error("a layer of a quarantined image is served")
		}
		third := pushImage(t, c, b, "img3", "v3")
		equal(t, must(c.HeldBack(ctx, b, m.Layers[0].Digest, 0))(t), []oci.Digest{m.Digest, third.Digest})
		equal(t, must(c.HeldBack(ctx, b, m.Layers[0].Digest, 1))(t), []oci.Digest{m.Digest})
		equal(t, len(must(c.HeldBack(ctx, a, m.Layers[0].Digest, 0))(t)), 0)
		// Linked elsewhere it is not referenced there.
		ok(t, c.LinkBlob(ctx, b, a, m.Layers[0].Digest, now))
		if got := must(c.Blob(ctx, a, m.Layers[0].Digest))(t); got.Referenced || got.Served {
			t.Errorf("a repository without manifests sees %+v", got)
		}
		ok(t, c.DeleteManifest(ctx, b, m.Digest, catalog.Act{}))
		ok(t, c.UnlinkBlob(ctx, b, layer, byAnn()))
	})
}

func TestPutManifest(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "team/app")
		_, err := c.Manifest(ctx, r, oci.Reference{Tag: "v1"})
		wantErr(t, err, catalog.ErrNoRepository)
		wantErr(t, err, catalog.ErrNotFound)

		config, layer := pushBlob(t, c, r, "config"), pushBlob(t, c, r, "layer")
		foreign := oci.Descriptor{MediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar", Digest: digest("elsewhere"), Size: 5, URLs: []string{"https://example.test/l"}}
		unknown := oci.Descriptor{MediaType: layer.MediaType, Digest: digest("not pushed"), Size: 9}
		_, err = c.PutManifest(ctx, catalog.NewManifest{Repo: r, Manifest: imageOf(t, config, []oci.Descriptor{layer, unknown, foreign, unknown}, nil), Tags: []string{"v1"}, Now: now})
		var missing *catalog.Missing
		if !errors.As(err, &missing) {
			t.Fatalf("error is %v, want *Missing", err)
		}
		equal(t, missing.Digests, []oci.Digest{unknown.Digest})
		_, err = c.Manifest(ctx, r, oci.Reference{Tag: "v1"})
		wantErr(t, err, catalog.ErrNotFound)
		if errors.Is(err, catalog.ErrNoRepository) {
			t.Error("the repository has blobs, but is said not to be there")
		}

		m := imageOf(t, config, []oci.Descriptor{layer, foreign, layer}, nil)
		if !put(t, c, r, m, "v1", "latest") {
			t.Error("a new manifest was not created")
		}
		for _, ref := range []oci.Reference{{Tag: "v1"}, {Digest: m.Digest}} {
			got := must(c.Manifest(ctx, r, ref))(t)
			equal(t, string(got.Raw), string(m.Raw))
			equal(t, got.Tags, []string{"latest", "v1"})
			equal(t, []any{got.Digest, got.MediaType, got.Size, got.PushedAt, got.PushedBy, got.Verdict.Decision}, []any{m.Digest, m.MediaType, m.Size, now, "ann", policy.Pending})
			if p := must(got.Parsed())(t); len(p.Layers) != 3 || p.Config.Digest != config.Digest {
				t.Errorf("parsed: %+v", p)
			}
		}
		_, err = c.Manifest(ctx, r, oci.Reference{Tag: "v2"})
		wantErr(t, err, catalog.ErrNotFound)
		_, err = c.Manifest(ctx, repo(t, "team/none"), oci.Reference{Digest: m.Digest})
		wantErr(t, err, catalog.ErrNoRepository)

		judge(t, c, m.Digest, policy.Quarantine, catalog.Counts{Critical: 2, Fixable: 1})
		m2 := imageOf(t, config, []oci.Descriptor{layer}, nil)
		put(t, c, r, m2, "v1")
		if put(t, c, r, m, "v3") {
			t.Error("a manifest that was there was created")
		}
		got := must(c.Manifest(ctx, r, oci.Reference{Tag: "v3"}))(t)
		equal(t, []any{got.Verdict.Decision, got.Counts.Critical, got.Tags}, []any{policy.Quarantine, 2, []string{"latest", "v3"}})
		equal(t, must(c.Manifest(ctx, r, oci.Reference{Tag: "v1"}))(t).Digest, m2.Digest)
	})
}

func TestIndexNeedsItsChildren(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "multi")
		amd, arm := pushImage(t, c, r, "amd"), pushImage(t, c, r, "arm")
		elsewhere := pushImage(t, c, repo(t, "other"), "elsewhere")
		_, err := c.PutManifest(ctx, catalog.NewManifest{Repo: r, Manifest: indexOf(t, amd, elsewhere), Now: now})
		var missing *catalog.Missing
		if !errors.As(err, &missing) || len(missing.Digests) != 1 || missing.Digests[0] != elsewhere.Digest {
			t.Fatalf("error is %v, want %s missing", err, elsewhere.Digest)
		}
		index := indexOf(t, amd, arm)
		put(t, c, r, index, "v1")
		list := list(t, c, catalog.ListQuery{})
		equal(t, list[0].Platforms, []string{"linux/amd64", "linux/arm64"})
		if want := int64(2*len("base layer") + len("amd layer") + len("arm layer") + len("amd config") + len("arm config")); list[0].Size != want {
			t.Errorf("size of the index is %d, want %d", list[0].Size, want)
		}
	})
}

func TestDelete(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, a, b := t.Context(), repo(t, "a"), repo(t, "b")
		m := pushImage(t, c, a, "img", "v1", "v2")
		for _, d := range append([]oci.Descriptor{m.Config}, m.Layers...) {
			ok(t, c.LinkBlob(ctx, a, b, d.Digest, now))
		}
		judge(t, c, m.Digest, policy.Allow, catalog.Counts{})
		put(t, c, b, m, "w1")
		equal(t, must(c.Manifest(ctx, b, oci.Reference{Tag: "w1"}))(t).Verdict.Decision, policy.Allow)

		wantErr(t, c.DeleteTag(ctx, a, "v3", catalog.Act{}), catalog.ErrNotFound)
		wantErr(t, c.DeleteTag(ctx, repo(t, "none"), "v1", catalog.Act{}), catalog.ErrNoRepository)
		ok(t, c.DeleteTag(ctx, a, "v1", catalog.Act{}))
		equal(t, must(c.Tags(ctx, a, "", 0))(t), []string{"v2"})
		must(c.Manifest(ctx, a, oci.Reference{Digest: m.Digest}))(t)

		wantErr(t, c.DeleteManifest(ctx, a, digest("none"), catalog.Act{}), catalog.ErrNotFound)
		wantErr(t, c.DeleteManifest(ctx, repo(t, "none"), m.Digest, catalog.Act{}), catalog.ErrNoRepository)
		ok(t, c.DeleteManifest(ctx, a, m.Digest, catalog.Act{}))
		wantErr(t, c.DeleteManifest(ctx, a, m.Digest, catalog.Act{}), catalog.ErrNotFound)
		_, err := c.Manifest(ctx, a, oci.Reference{Tag: "v2"})
		wantErr(t, err, catalog.ErrNotFound)
		equal(t, len(must(c.Tags(ctx, a, "", 0))(t)), 0)
		equal(t, must(c.ManifestByDigest(ctx, m.Digest))(t).Repo, b)
		ok(t, c.DeleteManifest(ctx, b, m.Digest, catalog.Act{}))
		_, err = c.ManifestByDigest(ctx, m.Digest)
		wantErr(t, err, catalog.ErrNotFound)
		_, _, err = c.Verdict(ctx, m.Digest)
		wantErr(t, err, catalog.ErrNotFound)

		// What comes again is new: an old verdict does not serve it.
		put(t, c, a, m, "v1")
		equal(t, must(c.Manifest(ctx, a, oci.Reference{Tag: "v1"}))(t).Verdict.Decision, policy.Pending)
	})
}

func TestPages(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx := t.Context()
		r := repo(t, "x")
		// In bytes: upper case, then _, then lower case; a collation of a language mixes them.
		m := pushImage(t, c, r, "img", "b", "B", "a", "_", "Z", "a-b", "a.b", "ab", "1")
		want := []string{"1", "B", "Z", "_", "a", "a-b", "a.b", "ab", "b"}
		equal(t, must(c.Tags(ctx, r, "", 0))(t), want)
		equal(t, must(c.Tags(ctx, r, "_", 3))(t), want[4:7])
		equal(t, len(must(c.Tags(ctx, r, "b", 3))(t)), 0)
		_, err := c.Tags(ctx, repo(t, "none"), "", 0)
		wantErr(t, err, catalog.ErrNoRepository)

		for _, name := range []string{"x-y", "x/y", "x.y", "xa", "a"} {
			pushImage(t, c, repo(t, name), "img", "t1", "t2")
		}
		names := []string{"a", "x", "x-y", "x.y", "x/y", "xa"}
		equal(t, must(c.Repositories(ctx, "", 0))(t), names)
		equal(t, must(c.Repositories(ctx, "x", 2))(t), names[2:4])

		var got []string
		for after := ""; ; {
			list := list(t, c, catalog.ListQuery{Prefix: "x", After: after, Limit: 2})
			if len(list) == 0 {
				break
			}
			for _, l := range list {
				after = l.Repo + ":" + l.Tag
				got = append(got, after)
			}
		}
		var all []string
		for _, tag := range want {
			all = append(all, "x:"+tag)
		}
		for _, n := range names[2:] {
			all = append(all, n+":t1", n+":t2")
		}
		equal(t, got, all)
		l := list(t, c, catalog.ListQuery{Prefix: "a", Limit: 1})[0]
		equal(t, []any{l.Digest, l.MediaType, l.PushedAt, l.Decision, l.Size}, []any{m.Digest, m.MediaType, now, policy.Pending, int64(len("base layer") + len("img layer") + len("img config"))})
	})
}

func TestReferrers(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, r := t.Context(), repo(t, "app")
		m := pushImage(t, c, r, "img", "v1")
		config := pushBlob(t, c, r, "{}")
		var want []oci.Descriptor
		for i, seed := range []string{"first", "second", "third"} {
			s := imageOf(t, config, []oci.Descriptor{pushBlob(t, c, r, seed)}, map[string]any{
				"subject": m.Descriptor, "artifactType": "application/vnd.example." + seed, "annotations": map[string]string{"k": seed}})
			_, err := c.PutManifest(ctx, catalog.NewManifest{Repo: r, Manifest: s, Now: now.Add(time.Duration(-i) * time.Minute)})
			ok(t, err)
			want = append(want, oci.Descriptor{MediaType: s.MediaType, Digest: s.Digest, Size: s.Size, ArtifactType: s.ArtifactType, Annotations: s.Annotations})
		}
		all := func(r oci.Repository, d oci.Digest, p catalog.ReferrerPage) (out []oci.Descriptor, pages int) {
			for pages = 1; ; pages++ {
				list, next, err := c.Referrers(ctx, r, d, p)
				ok(t, err)
				out = append(out, list...)
				if next == 0 {
					return out, pages
				}
				p.After = next
			}
		}
		for _, tc := range []struct {
			p     catalog.ReferrerPage
			want  []oci.Descriptor
			pages int
		}{
			{catalog.ReferrerPage{}, want, 1},
			{catalog.ReferrerPage{Limit: 3}, want, 1},
			{catalog.ReferrerPage{Limit: 2}, want, 2},
			{catalog.ReferrerPage{Limit: 1}, want, 3},
			{catalog.ReferrerPage{Bytes: 1}, want, 3},
			{catalog.ReferrerPage{Bytes: 1 << 20}, want, 1},
			{catalog.ReferrerPage{ArtifactType: "application/vnd.example.second", Limit: 1}, want[1:2], 1},
			{catalog.ReferrerPage{ArtifactType: "none"}, nil, 1},
		} {
			got, pages := all(r, m.Digest, tc.p)
			equal(t, got, tc.want)
			equal(t, pages, tc.pages)
		}
		got, _ := all(repo(t, "other"), m.Digest, catalog.ReferrerPage{})
		equal(t, len(got), 0)
		ok(t, c.DeleteManifest(ctx, r, want[1].Digest, catalog.Act{}))
		got, _ = all(r, m.Digest, catalog.ReferrerPage{})
		equal(t, got, []oci.Descriptor{want[0], want[2]})
		// A subject that is not there is fine.
		lone := imageOf(t, config, nil, map[string]any{"subject": oci.Descriptor{MediaType: m.MediaType, Digest: digest("later"), Size: 1}, "layers": []oci.Descriptor{}})
		put(t, c, r, lone)
		got, _ = all(r, digest("later"), catalog.ReferrerPage{})
		equal(t, got[0].Digest, lone.Digest)
	})
}

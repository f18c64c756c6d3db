package scan

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"pratique.dev/pratique/internal/extract"
	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/report"
	"pratique.dev/pratique/internal/vuln"
)

// Advisories are what a scan without a server looks packages up in.
type Advisories interface {
	Lookup(key inventory.Key) ([]vuln.Advisory, error)
	Covered(ecosystem string) (vuln.Coverage, bool)
	AsOf() time.Time
}

// enricher is Advisories that also know which flaws are exploited, and how likely the
// others will be.
type enricher interface {
	Enrich(findings []vuln.Finding) error
}

// LocalOptions are the needs of Local.
type LocalOptions struct {
	Set *extract.Set
	// Advisories opens what packages are looked up in, once it is known which packages there are.
	Advisories func(ctx context.Context, keys []inventory.Key) (Advisories, error)
	Policies   []policy.Policy
	Now        func() time.Time
	// Progress, if not nil, hears how many bytes of the layers have been read, of how many.
	Progress func(read, total int64)
}

// maxPlatforms bounds the images of one index, or of nested ones, that are scanned.
const maxPlatforms = 64

// Local examines and judges an image that no server holds. The error says that this
// could not be done; what the image's content keeps from being seen is in the report.
func Local(ctx context.Context, t Target, o LocalOptions) (report.Report, error) {
	l := &local{Target: t, LocalOptions: o, layers: map[oci.Digest]inventory.Layer{}}
	if dir, ok := t.(*rootTarget); ok {
		return l.root(ctx, dir)
	}
	roots, err := t.Roots(ctx)
	if err != nil {
		return report.Report{}, err
	}
	images, err := l.manifests(ctx, roots)
	if err != nil {
		return report.Report{}, err
	}
	if err := l.readLayers(ctx, images); err != nil {
		return report.Report{}, err
	}
	assembled, err := l.assemble(ctx, images)
	if err != nil {
		return report.Report{}, err
	}
	reports, err := l.judge(ctx, images, assembled)
	if err != nil {
		return report.Report{}, err
	}
	if len(roots) == 1 && len(reports) == 1 && roots[0].Digest == images[0].manifest.Digest {
		reports[0].Target = t.Name()
		return reports[0], nil
	}
	return l.index(roots, reports), nil
}

type local struct {
	Target
	LocalOptions
	layers map[oci.Digest]inventory.Layer
}

// localImage is one manifest to judge and the platform that an index gives it.
type localImage struct {
	manifest oci.Manifest
	platform string
}

// manifests reads the roots and, of indexes, all that they list.
func (l *local) manifests(ctx context.Context, roots []oci.Descriptor) ([]localImage, error) {
	var out []localImage
	seen := map[oci.Digest]bool{}
	queue := slices.Clone(roots)
	for len(queue) > 0 {
		d := queue[0]
		queue = queue[1:]
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		if len(seen) > 4*maxPlatforms || len(out) >= maxPlatforms {
			return nil, fmt.Errorf("%s lists more than %d images; name one of them", l.Name(), maxPlatforms)
		}
		m, err := l.manifest(ctx, d)
		if err != nil {
			return nil, err
		}
		if m.IsIndex() {
			queue = append(queue, m.Manifests...)
			continue
		}
		img := localImage{manifest: m}
		if d.Platform != nil {
			img.platform = d.Platform.String()
		}
		out = append(out, img)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s holds no image", l.Name())
	}
	return out, nil
}

func (l *local) manifest(ctx context.Context, d oci.Descriptor) (oci.Manifest, error) {
	if m, ok := l.Target.(manifester); ok {
		return m.manifest(d)
	}
	raw, err := l.fetch(ctx, d, oci.MaxManifestSize)
	if err != nil {
		return oci.Manifest{}, err
	}
	return oci.ParseManifestAs(d.Digest.Algorithm(), d.MediaType, raw)
}

// manifester is a Target whose manifests are not stored as such.
type manifester interface {
	manifest(d oci.Descriptor) (oci.Manifest, error)
}

// fetch reads small content whole and checks it against its digest.
func (l *local) fetch(ctx context.Context, d oci.Descriptor, limit int64) ([]byte, error) {
	r, err := l.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.Digest, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", d.Digest, limit)
	}
	if got := oci.DigestOf(d.Digest.Algorithm(), raw); got != d.Digest {
		return nil, fmt.Errorf("%s of %s is damaged: its content has the digest %s", d.Digest, l.Name(), got)
	}
	return raw, nil
}

// readLayers takes down every distinct layer, the largest first, one on each core.
func (l *local) readLayers(ctx context.Context, images []localImage) error {
	distinct := map[oci.Digest]oci.Descriptor{}
	for _, img := range images {
		if img.manifest.IsImage() {
			for _, d := range img.manifest.Layers {
				distinct[d.Digest] = d
			}
		}
	}
	todo := make([]oci.Descriptor, 0, len(distinct))
	var total int64
	for _, d := range distinct {
		todo = append(todo, d)
		total += d.Size
	}
	slices.SortFunc(todo, func(a, b oci.Descriptor) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Digest.String(), b.Digest.String()))
	})
	read := make([]inventory.Layer, len(todo))
	var done atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, d := range todo {
		g.Go(func() (err error) {
			read[i], err = l.readLayer(ctx, d, func(n int) {
				if now := done.Add(int64(n)); l.Progress != nil {
					l.Progress(now, total)
				}
			})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, d := range todo {
		l.layers[d.Digest] = read[i]
	}
	return nil
}

func (l *local) readLayer(ctx context.Context, d oci.Descriptor, progress func(int)) (inventory.Layer, error) {
	r, err := l.Fetch(ctx, d)
	if errors.Is(err, errAbsent) && len(d.URLs) > 0 {
		return foreignLayer(d, l.Set.Version()), nil
	}
	if err != nil {
		return inventory.Layer{}, err
	}
	defer r.Close()
	h := d.Digest.Algorithm().New()
	counted := &counting{r: io.TeeReader(r, h), report: progress}
	layer, err := l.Set.Layer(ctx, d.Digest, d.MediaType, counted)
	if err != nil {
		return inventory.Layer{}, fmt.Errorf("read layer %s of %s: %w", d.Digest, l.Name(), err)
	}
	if _, err := io.Copy(io.Discard, counted); err != nil {
		return inventory.Layer{}, fmt.Errorf("read layer %s of %s: %w", d.Digest, l.Name(), err)
	}
	if got := oci.DigestFrom(d.Digest.Algorithm(), h); got != d.Digest {
		return inventory.Layer{}, fmt.Errorf("layer %s of %s is damaged: its content has the digest %s", d.Digest, l.Name(), got)
	}
	return layer, nil
}

type counting struct {
	r      io.Reader
	report func(int)
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.report(n)
	return n, err
}

// assemble puts each image together.
func (l *local) assemble(ctx context.Context, images []localImage) ([]inventory.Image, error) {
	out := make([]inventory.Image, len(images))
	for i := range images {
		m := images[i].manifest
		if !m.IsImage() {
			out[i] = inventory.Image{Manifest: m.Digest}
			continue
		}
		raw, err := l.fetch(ctx, m.Config, maxConfig)
		if err != nil {
			return nil, err
		}
		cfg, err := readConfig(bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		if images[i].platform == "" && cfg.OS != "" {
			images[i].platform = oci.Platform{OS: cfg.OS, Architecture: cfg.Architecture, Variant: cfg.Variant}.String()
		}
		layers := make([]inventory.Layer, len(m.Layers))
		for j, d := range m.Layers {
			layers[j] = l.layers[d.Digest]
		}
		out[i] = assemble(m, cfg, layers)
	}
	return out, nil
}

func (l *local) judge(ctx context.Context, images []localImage, assembled []inventory.Image) ([]report.Report, error) {
	adv, err := l.Advisories(ctx, distinctKeys(assembled))
	if err != nil {
		return nil, err
	}
	var out []report.Report
	for i, img := range assembled {
		a, err := l.assess(img, adv)
		if err != nil {
			return nil, err
		}
		a.artifact = img.Artifact || !images[i].manifest.IsImage() && !images[i].manifest.Digest.IsZero()
		now := l.Now()
		v := policy.Judge(l.Policies, a.subject(img.Manifest), now)
		r := a.report(l.Name(), images[i].manifest, v)
		r.Platform = images[i].platform
		out = append(out, r)
	}
	return out, nil
}

func distinctKeys(images []inventory.Image) []inventory.Key {
	seen := map[inventory.Key]bool{}
	var keys []inventory.Key
	for _, img := range images {
		for _, p := range img.Packages {
			if !isOwned(p.Package) && !seen[p.Key] {
				seen[p.Key] = true
				keys = append(keys, p.Key)
			}
		}
	}
	return keys
}

// assess matches an image's packages, as the catalog does for a server.
func (l *local) assess(img inventory.Image, adv Advisories) (assessment, error) {
	var found []vuln.Finding
	var undecided []vuln.Cleared
	covered := map[string]vuln.Coverage{}
	for _, k := range distinctKeys([]inventory.Image{img}) {
		for _, eco := range vuln.LookupEcosystems(k) {
			if c, ok := adv.Covered(eco); ok {
				covered[eco] = c
			}
		}
		candidates, err := adv.Lookup(k)
		if err != nil {
			return assessment{}, fmt.Errorf("look up %s %s: %w", k.Ecosystem, k.Name, err)
		}
		fs, cleared := vuln.Match(k, candidates)
		found = append(found, fs...)
		undecided = append(undecided, cleared...)
	}
	if e, ok := adv.(enricher); ok {
		if err := e.Enrich(found); err != nil {
			return assessment{}, fmt.Errorf("look up what is exploited: %w", err)
		}
	}
	a := newAssessment(img, found, undecided, covered)
	a.asOf = adv.AsOf()
	return a, nil
}

func (l *local) root(ctx context.Context, t *rootTarget) (report.Report, error) {
	layer, err := l.Set.Root(ctx, t.dir)
	if err != nil {
		return report.Report{}, err
	}
	img := inventory.Assemble(oci.Digest{}, []inventory.Layer{layer})
	reports, err := l.judge(ctx, []localImage{{}}, []inventory.Image{img})
	if err != nil {
		return report.Report{}, err
	}
	return reports[0], nil
}

// index is the report of several images: the worst governs.
func (l *local) index(roots []oci.Descriptor, reports []report.Report) report.Report {
	return indexReport(l.Name(), roots, reports, l.Now())
}

// indexReport lays the reports of an index's images side by side.
func indexReport(target string, roots []oci.Descriptor, reports []report.Report, now time.Time) report.Report {
	var platforms []policy.Verdict
	out := report.Report{Target: target, Packages: []report.Package{}, Findings: []report.Finding{}, Fixes: []report.Fix{},
		Coverage:   inventory.Coverage{Examined: []string{}, Unknown: []inventory.Gap{}},
		Advisories: report.Advisories{Ecosystems: map[string]time.Time{}}}
	if len(roots) == 1 {
		out.Digest = roots[0].Digest
	}
	for i := range reports {
		name := cmp.Or(reports[i].Platform, reports[i].Digest.Short())
		platforms = append(platforms, policy.Verdict{Platform: name,
			Decision: reports[i].Decision, Policy: reports[i].Policy, Reasons: reports[i].Reasons})
		out.Counts = out.Counts.Add(reports[i].Counts)
		if reports[i].Advisories.AsOf.After(out.Advisories.AsOf) {
			out.Advisories.AsOf = reports[i].Advisories.AsOf
		}
		maps.Copy(out.Advisories.Ecosystems, reports[i].Advisories.Ecosystems)
	}
	v := policy.Worst(platforms...)
	out.Decision, out.Policy, out.Reasons, out.JudgedAt, out.Platforms = v.Decision, v.Policy, v.Reasons, now, reports
	return out
}

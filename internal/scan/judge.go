package scan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/report"
	"pratique.dev/pratique/internal/vuln"
)

// maxConfig bounds the image configuration that is read for history, in bytes.
const maxConfig = 4 << 20

type judgement struct {
	verdict policy.Verdict
	counts  catalog.Counts
}

// Judge brings a manifest of the registry to a verdict, keeps and returns it. It
// examines what layers are not known yet. Until Ready it waits. When ctx ends first, the
// judgement goes on for others who wait, and the catalog still knows it to be due.
func (s *Service) Judge(ctx context.Context, d oci.Digest) (policy.Verdict, catalog.Counts, error) {
	return s.shared(ctx, d, func(ctx context.Context) (judgement, error) { return s.judgeOnce(ctx, d) })
}

// JudgeNew is Judge of a manifest that the catalog has just been given, and did not hold before.
func (s *Service) JudgeNew(ctx context.Context, m oci.Manifest) (policy.Verdict, catalog.Counts, error) {
	return s.shared(ctx, m.Digest, func(ctx context.Context) (judgement, error) { return s.judgeAt(ctx, m, catalog.FirstGeneration) })
}

// shared judges a manifest once for all who ask at the same time. first is how it is tried first.
func (s *Service) shared(ctx context.Context, d oci.Digest, first func(context.Context) (judgement, error)) (policy.Verdict, catalog.Counts, error) {
	select {
	case <-ctx.Done():
		return policy.Verdict{}, catalog.Counts{}, ctx.Err()
	case <-s.ready:
	}
	ch := s.judged.DoChan(d.String(), func() (any, error) {
		return s.judge(context.WithoutCancel(ctx), d, first)
	})
	select {
	case <-ctx.Done():
		return policy.Verdict{}, catalog.Counts{}, ctx.Err()
	case r := <-ch:
		j, _ := r.Val.(judgement)
		return j.verdict, j.counts, r.Err
	}
}

// maxTries bounds how often a judgement is begun anew because what it rests on changed meanwhile.
const maxTries = 5

func (s *Service) judge(ctx context.Context, d oci.Digest, first func(context.Context) (judgement, error)) (j judgement, err error) {
	j, err = first(ctx)
	for n := 1; n < maxTries && errors.Is(err, catalog.ErrConflict); n++ {
		j, err = s.judgeOnce(ctx, d)
	}
	if err != nil {
		return judgement{}, fmt.Errorf("judge %s: %w", d, err)
	}
	s.Wake() // indexes that list d may be due now
	s.o.Log.InfoContext(ctx, "image judged", "digest", d, "decision", j.verdict.Decision, "critical", j.counts.Critical, "high", j.counts.High)
	return j, nil
}

func (s *Service) judgeOnce(ctx context.Context, d oci.Digest) (judgement, error) {
	m, generation, err := s.cat.ToJudge(ctx, d)
	if err != nil {
		return judgement{}, err
	}
	return s.judgeAt(ctx, m, generation)
}

// judgeAt judges a manifest as it was at a generation of its verdict.
func (s *Service) judgeAt(ctx context.Context, m oci.Manifest, generation int64) (j judgement, err error) {
	if m.IsIndex() {
		j, err = s.judgeIndex(ctx, m)
	} else {
		j, err = s.judgeImage(ctx, m)
	}
	if err != nil {
		return judgement{}, err
	}
	return j, s.cat.KeepVerdict(ctx, m.Digest, generation, j.verdict, j.counts)
}

// judgeIndex takes the worst of the manifests that the index lists.
func (s *Service) judgeIndex(ctx context.Context, m oci.Manifest) (judgement, error) {
	var j judgement
	if len(m.Manifests) == 0 {
		j.verdict = policy.Verdict{Decision: policy.Allow, At: s.o.Now(), Reasons: []policy.Reason{{
			Rule: "not-an-image", Message: "an index that lists nothing: there is nothing to judge", Note: true}}}
		return j, nil
	}
	var children []policy.Verdict
	for _, c := range m.Manifests {
		v, n, err := s.cat.Verdict(ctx, c.Digest)
		if err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return judgement{}, err
		}
		if err == nil && v.Decision == policy.Pending {
			// The worker's turn for the child has not come yet; the index needs it now.
			if cv, cn, err := s.Judge(ctx, c.Digest); err == nil {
				v, n = cv, cn
			}
		}
		v.Platform = platformName(c)
		children = append(children, v)
		j.counts = j.counts.Add(n)
	}
	j.verdict = policy.Worst(children...)
	j.verdict.At = s.o.Now()
	return j, nil
}

func platformName(d oci.Descriptor) string {
	if d.Platform != nil {
		return d.Platform.String()
	}
	return d.Digest.Short()
}

func (s *Service) judgeImage(ctx context.Context, m oci.Manifest) (judgement, error) {
	a, err := s.assess(ctx, m)
	if err != nil {
		return judgement{}, err
	}
	v := policy.Judge(s.o.Policies, a.subject(m.Digest), s.o.Now())
	return judgement{v, report.Count(a.findings)}, nil
}

// assess gathers all that is known of a manifest that is no index.
func (s *Service) assess(ctx context.Context, m oci.Manifest) (assessment, error) {
	if !m.IsImage() {
		return assessment{image: inventory.Image{Manifest: m.Digest}, artifact: true}, nil
	}
	img, err := s.image(ctx, m)
	if err != nil {
		return assessment{}, err
	}
	var found []vuln.Finding
	var undecided []vuln.Cleared
	if len(img.Packages) > 0 {
		if found, err = s.cat.Findings(ctx, m.Digest); err != nil {
			return assessment{}, err
		}
		if undecided, err = s.cat.Undecided(ctx, m.Digest); err != nil {
			return assessment{}, err
		}
	}
	covered, err := s.cat.CoveredEcosystems(ctx)
	if err != nil {
		return assessment{}, err
	}
	a := newAssessment(img, found, undecided, covered)
	a.artifact = img.Artifact
	return a, nil
}

// image gives an image's inventory: as it was kept, else put together from its
// layers, those read that are not known.
func (s *Service) image(ctx context.Context, m oci.Manifest) (inventory.Image, error) {
	img, err := s.cat.Image(ctx, m.Digest)
	if err == nil && img.ExtractedBy == s.set.Version() {
		return img, nil
	}
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return inventory.Image{}, err
	}
	layers, err := s.layersOf(ctx, m)
	if err != nil {
		return inventory.Image{}, err
	}
	cfg, err := s.config(ctx, m)
	if err != nil {
		return inventory.Image{}, err
	}
	img = assemble(m, cfg, layers)
	img.ExtractedBy = s.set.Version()
	if err := s.cat.PutImage(ctx, img); err != nil {
		return inventory.Image{}, fmt.Errorf("keep image %s: %w", m.Digest, err)
	}
	return img, nil
}

func (s *Service) layersOf(ctx context.Context, m oci.Manifest) ([]inventory.Layer, error) {
	digests := make([]oci.Digest, len(m.Layers))
	for i, l := range m.Layers {
		digests[i] = l.Digest
	}
	known, err := s.cat.Layers(ctx, digests, s.set.Version())
	if err != nil {
		return nil, err
	}
	out := make([]inventory.Layer, len(m.Layers))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * s.o.Workers)
	for i, d := range m.Layers {
		if l, ok := known[d.Digest]; ok {
			out[i] = l
			continue
		}
		g.Go(func() error {
			l, err := s.layer(ctx, d)
			if errors.Is(err, blob.ErrNotFound) && len(d.URLs) > 0 {
				l, err = foreignLayer(d, s.set.Version()), nil
			}
			out[i] = l
			return err
		})
	}
	return out, g.Wait()
}

// asLayer leaves out what was said of text that does not claim to be a layer, such as the
// payload of a signature whose manifest looks like an image's. All else stays: runtimes
// unpack layers whatever their media types say, and from compressions that are not read here.
func asLayer(d oci.Descriptor, l inventory.Layer) inventory.Layer {
	if isDocument(d, l) {
		return inventory.Layer{Digest: d.Digest, ExtractedBy: l.ExtractedBy}
	}
	return l
}

// isDocument says whether what a manifest lists as a layer is text that nobody would unpack.
func isDocument(d oci.Descriptor, l inventory.Layer) bool {
	return l.Files == 0 && l.Text && !oci.IsLayerType(d.MediaType)
}

func (s *Service) config(ctx context.Context, m oci.Manifest) (imageConfig, error) {
	r, err := s.store.Open(ctx, m.Config.Digest, 0)
	if err != nil {
		return imageConfig{}, fmt.Errorf("open config %s: %w", m.Config.Digest, err)
	}
	defer r.Close()
	return readConfig(r)
}

// imageConfig is what is used of an image's configuration (image-spec config.md).
type imageConfig struct {
	Created      time.Time `json:"created"`
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Variant      string    `json:"variant"`
	History      []struct {
		CreatedBy  string `json:"created_by"`
		EmptyLayer bool   `json:"empty_layer"`
	} `json:"history"`
}

// readConfig reads a configuration. A broken one costs the build instructions and no more.
func readConfig(r io.Reader) (imageConfig, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxConfig))
	if err != nil {
		return imageConfig{}, fmt.Errorf("read config: %w", err)
	}
	var c imageConfig
	if json.Unmarshal(raw, &c) != nil {
		return imageConfig{}, nil
	}
	return c, nil
}

// instructions gives the build step of each of n layers, "" where history does not tell.
func (c imageConfig) instructions(n int) []string {
	out := make([]string, n)
	i := 0
	for _, h := range c.History {
		if h.EmptyLayer {
			continue
		}
		if i == n {
			break
		}
		out[i] = instruction(h.CreatedBy)
		i++
	}
	if i != n {
		return make([]string, n) // the history is not of these layers
	}
	return out
}

// instruction takes the marks of the builders off a history entry.
func instruction(s string) string {
	s = strings.TrimSuffix(s, " # buildkit")
	if rest, ok := strings.CutPrefix(s, "/bin/sh -c #(nop) "); ok {
		return strings.TrimSpace(rest)
	}
	if rest, ok := strings.CutPrefix(s, "/bin/sh -c "); ok {
		return "RUN " + strings.TrimSpace(rest)
	}
	return strings.TrimSpace(s)
}

// undeclared makes layers that are elsewhere ones that could not be examined, unless
// their media type says that they may not be distributed (image-spec layer.md, "Non-Distributable
// Layers"): other layers have no cause to be kept off a registry, yet containerd fetches any layer
// from the addresses that its descriptor names.
func undeclared(gaps []inventory.Gap, layers []oci.Descriptor) {
	for i, g := range gaps {
		if g.Kind != inventory.GapForeign {
			continue
		}
		declared := slices.ContainsFunc(layers, func(d oci.Descriptor) bool { return d.Digest == g.Layer && oci.IsForeignType(d.MediaType) })
		if !declared {
			gaps[i].Kind = inventory.GapArchive
		}
	}
}

// assemble puts the layers together as they were read, and says of each package which step
// brought it.
func assemble(m oci.Manifest, cfg imageConfig, read []inventory.Layer) inventory.Image {
	documents := len(read) > 0
	layers := make([]inventory.Layer, len(read))
	for i, l := range read {
		documents = documents && isDocument(m.Layers[i], l)
		layers[i] = asLayer(m.Layers[i], l)
	}
	img := inventory.Assemble(m.Digest, layers)
	undeclared(img.Coverage.Unknown, m.Layers)
	if documents {
		return inventory.Image{Manifest: m.Digest, Artifact: true}
	}
	img.Instructions = cfg.instructions(len(layers))
	steps := map[oci.Digest]string{}
	for i, s := range img.Instructions {
		if _, ok := steps[layers[i].Digest]; !ok {
			steps[layers[i].Digest] = s
		}
	}
	for i := range img.Packages {
		img.Packages[i].Instruction = steps[img.Packages[i].Layer]
	}
	return img
}

package registry

import (
	"fmt"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// maxHint bounds one hint, in bytes.
const maxHint = 1000

// hints is what a client should know of a manifest that it pushed: that it is not served, and
// why, and what of it the specifications have given up.
func (r *Registry) hints(p Push, m oci.Manifest, v policy.Verdict) []string {
	var out []string
	if v.Decision != policy.Allow {
		ref := p.Reference.String()
		if p.Reference.Tag == "" && len(p.Tags) > 0 {
			ref = p.Tags[0]
		}
		out = append(out, r.heldBack(image(p.Repo, ref), m, v))
	}
	for _, l := range m.Layers {
		if oci.IsForeignType(l.MediaType) {
			out = append(out, "non-distributable layers are deprecated (image-spec 1.1); push the layer's bytes under a type of layers that are distributed")
			break
		}
	}
	return out
}

// heldBack is one line that says that an image is not served, from the verdict alone.
func (r *Registry) heldBack(name string, m oci.Manifest, v policy.Verdict) string {
	d := Refusal{Decision: v.Decision, Image: name, Digest: m.Digest, Reasons: v.Reasons,
		ReadOn: ReadOn{Command: "pratique show " + name, URL: r.o.URL}}
	return d.line(maxHint)
}

// ServedAnyway is the hint beside a manifest that is held back and served to a caller who
// was granted that; none where it is allowed.
func (r *Registry) ServedAnyway(repo oci.Repository, m catalog.Served) []string {
	if m.Decision == policy.Allow {
		return nil
	}
	return []string{fmt.Sprintf("%s@%s is held back from others: %s", repo, m.Digest, m.Decision)}
}

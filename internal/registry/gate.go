package registry

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// Bounds of a refusal: what a terminal's line and what a program can use.
const (
	toldFindings  = 3
	maxFindings   = 20
	maxReasons    = 20
	maxMessage    = 1500 // bytes
	maxHeldBackBy = 3    // manifests that a refused blob names
)

// Refusal is the structured part of DENIED: the "detail" of the error's JSON.
type Refusal struct {
	Decision policy.Decision    `json:"decision"`
	Image    string             `json:"image"` // REPO:TAG or REPO@DIGEST, as it was asked for
	Digest   oci.Digest         `json:"digest"`
	Policy   string             `json:"policy,omitempty"`
	Reasons  []policy.Reason    `json:"reasons"`
	Findings []ExplainedFinding `json:"findings"` // those that hold it back first, at most 20
	// Omitted is how many findings there are beyond those.
	Omitted int            `json:"omitted,omitempty"`
	Counts  catalog.Counts `json:"counts"`
	ReadOn  ReadOn         `json:"readOn"`
}

// ReadOn is where to learn more.
type ReadOn struct {
	Command string `json:"command"`
	URL     string `json:"url,omitempty"`
}

// image writes a repository and a tag or digest as clients do.
func image(repo oci.Repository, ref string) string {
	if strings.Contains(ref, ":") {
		return repo.String() + "@" + ref
	}
	return repo.String() + ":" + ref
}

// refuse says why a manifest is held back. It refuses in any case: a lookup that fails
// makes the message shorter, never the answer milder.
func (r *Registry) refuse(ctx context.Context, repo oci.Repository, ref oci.Reference) *oci.Error {
	name := image(repo, ref.String())
	m, err := r.cat.Manifest(ctx, repo, ref)
	if err != nil {
		r.o.Log.ErrorContext(ctx, "refusal not explained", "image", name, "err", err)
		return oci.Errorf(oci.CodeDenied, "%s is held back; why could not be told, try again shortly", name)
	}
	if m.Verdict.Decision == policy.Allow { // it was judged while this request was answered
		m.Verdict = policy.Verdict{}
	}
	d := r.explain(ctx, name, m)
	return &oci.Error{Code: oci.CodeDenied, Message: d.message(), Detail: d}
}

func (r *Registry) explain(ctx context.Context, name string, m catalog.Manifest) Refusal {
	d := Refusal{Decision: m.Verdict.Decision, Image: name, Digest: m.Digest, Policy: m.Verdict.Policy, Counts: m.Counts,
		Reasons: m.Verdict.Reasons[:min(len(m.Verdict.Reasons), maxReasons)], Findings: []ExplainedFinding{},
		ReadOn: ReadOn{Command: "pratique show " + name, URL: r.o.URL}}
	if d.Reasons == nil {
		d.Reasons = []policy.Reason{}
	}
	if m.Verdict.Decision != policy.Quarantine || r.o.Explainer == nil {
		return d
	}
	v, err := r.tell(ctx, m)
	if err != nil {
		r.o.Log.ErrorContext(ctx, "refusal not explained", "digest", m.Digest, "err", err)
		return d
	}
	d.Findings, d.Omitted = append(d.Findings, v.findings...), v.omitted
	return d
}

// holdingFirst puts the findings that the verdict names before the others, and leaves
// the order otherwise.
func holdingFirst(all []ExplainedFinding, reasons []policy.Reason) []ExplainedFinding {
	holds := func(f ExplainedFinding) bool {
		return slices.ContainsFunc(reasons, func(r policy.Reason) bool {
			return !r.Note && r.Finding == f.ID && (r.Package == "" || r.Package == f.Package)
		})
	}
	out := make([]ExplainedFinding, 0, len(all))
	for _, want := range []bool{true, false} {
		for _, f := range all {
			if holds(f) == want {
				out = append(out, f)
			}
		}
	}
	return out
}

// message is the refusal in one line, as docker prints it behind "denied: ".
func (d Refusal) message() string { return d.line(maxMessage) }

// line is the refusal in one line of at most limit bytes, of which the end stays.
func (d Refusal) line(limit int) string {
	var b strings.Builder
	if d.Decision == policy.Quarantine {
		fmt.Fprintf(&b, "%s is quarantined", d.Image)
	} else {
		fmt.Fprintf(&b, "%s is pending: it is not judged yet, and nothing is served before", d.Image)
	}
	if told := d.told(); len(told) > 0 {
		b.WriteString(": " + strings.Join(told, "; "))
	}
	b.WriteString(". ")
	if d.Decision != policy.Quarantine {
		b.WriteString("Try again shortly, or see ")
	} else {
		b.WriteString("Read on: ")
	}
	tail := d.ReadOn.Command
	if d.ReadOn.URL != "" {
		tail += " --server " + d.ReadOn.URL
	}
	return oneLine(b.String(), limit-len(tail)) + tail
}

// told is what the message says of the worst findings, or of the reasons where there
// are none to tell.
func (d Refusal) told() []string {
	var out []string
	for _, f := range d.Findings[:min(len(d.Findings), toldFindings)] {
		out = append(out, f.line())
	}
	more := len(d.Findings) + d.Omitted - len(out)
	if len(out) > 0 {
		if more > 0 {
			out = append(out, fmt.Sprintf("and %d more", more))
		}
		return out
	}
	said := map[string]bool{}
	for _, r := range d.Reasons {
		if r.Note || said[r.Message] {
			continue // many layers may have the same fault
		}
		said[r.Message] = true
		if len(out) < toldFindings {
			out = append(out, strings.TrimSuffix(r.Message, "."))
			continue
		}
		more++
	}
	if more > 0 {
		out = append(out, fmt.Sprintf("and %d more", more))
	}
	return out
}

// line is "CVE-2021-23337 (high) in lodash 4.17.20 -> 4.17.21, fix: npm install lodash@4.17.21".
func (f ExplainedFinding) line() string {
	var b strings.Builder
	b.WriteString(f.ID)
	if f.Severity != "" {
		fmt.Fprintf(&b, " (%s", f.Severity)
		if f.Exploited {
			b.WriteString(", exploited")
		}
		b.WriteString(")")
	}
	fmt.Fprintf(&b, " in %s %s", f.Package, f.Version)
	if f.Platform != "" {
		fmt.Fprintf(&b, " on %s", f.Platform)
	}
	if f.Fixed != "" {
		fmt.Fprintf(&b, " -> %s", f.Fixed)
	} else {
		b.WriteString(", no fix yet")
	}
	if f.Fix != "" {
		fmt.Fprintf(&b, ", fix: %s", f.Fix)
	}
	return b.String()
}

// oneLine keeps a message to one line of printable text and to limit bytes. What an
// image's author wrote into package names must not move a terminal's cursor.
func oneLine(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return ' '
		}
		return r
	}, s)
	if limit = max(limit, 0); len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "… "
	}
	return s
}

// refuseBlob says what holds a blob back.
func (r *Registry) refuseBlob(ctx context.Context, repo oci.Repository, b catalog.Blob) *oci.Error {
	if b.Locks&catalog.LockRead != 0 {
		return refuseLocked(catalog.Locked{Repo: repo, Lock: catalog.LockRead})
	}
	if b.Referenced && !b.Open {
		return oci.Errorf(oci.CodeDenied, "blob %s is not served from %s: each manifest that names it is locked against reading", b.Digest, repo)
	}
	if !b.Referenced {
		return oci.Errorf(oci.CodeDenied, "blob %s is part of no manifest in %s yet; only who may push there can read it", b.Digest, repo)
	}
	plain := oci.Errorf(oci.CodeDenied, "blob %s is held back in %s: no manifest that names it is allowed", b.Digest, repo)
	by, err := r.cat.HeldBack(ctx, repo, b.Digest, maxHeldBackBy)
	if err != nil {
		r.o.Log.ErrorContext(ctx, "refusal not explained", "digest", b.Digest, "err", err)
		return plain
	}
	var details []Refusal
	var lines []string
	for _, d := range by {
		m, err := r.cat.Manifest(ctx, repo, oci.Reference{Digest: d})
		if err != nil {
			r.o.Log.ErrorContext(ctx, "refusal not explained", "digest", d, "err", err)
			continue
		}
		ref := d.String()
		if len(m.Tags) > 0 {
			ref = m.Tags[0]
		}
		e := r.explain(ctx, image(repo, ref), m)
		details, lines = append(details, e), append(lines, e.message())
	}
	if len(details) == 0 {
		return plain
	}
	return &oci.Error{Code: oci.CodeDenied, Detail: details[0],
		Message: oneLine("blob "+b.Digest.Short()+" is held back: "+strings.Join(lines, "; "), maxMessage)}
}

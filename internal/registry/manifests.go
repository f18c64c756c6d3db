package registry

import (
	"context"
	"errors"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// Push is a manifest that is put.
type Push struct {
	Repo      oci.Repository
	Reference oci.Reference
	Tags      []string // further tags that shall name it
	MediaType string   // as the client says; "" takes the document's word
	Raw       []byte
	// Digest is what a manifest that is put by tag shall be known by; zero: its SHA-256.
	Digest oci.Digest
	// If must hold of what Reference names for the push to be done; its Tag is not used.
	If catalog.Condition
}

// Pushed is what came of a Push.
type Pushed struct {
	Digest   oci.Digest
	Subject  oci.Digest // of the manifest, zero if it has none
	Created  bool       // the repository did not hold it before
	Decision policy.Decision
	Counts   catalog.Counts
	Hints    []string // what the client should know of it, a line each
}

// PutManifest checks a manifest, makes it part of its repository and waits for its
// verdict, at most Options.JudgeWait. If none is reached by then it stands as pending,
// is not served, and is judged later. Nothing is kept of a manifest that is refused.
func (r *Registry) PutManifest(ctx context.Context, by Caller, p Push) (Pushed, error) {
	m, err := r.parse(ctx, p)
	if err != nil {
		return Pushed{}, err
	}
	if err := mayPut(by, p, m); err != nil {
		return Pushed{}, err
	}
	put, err := r.keepManifest(ctx, by, p, m)
	if err != nil {
		return Pushed{}, err
	}
	out := Pushed{Digest: m.Digest, Created: put.Created}
	if m.Subject != nil {
		out.Subject = m.Subject.Digest
	}
	v, n := r.judge(ctx, m, put.New)
	out.Decision, out.Counts = v.Decision, n
	out.Hints = r.hints(p, m, v)
	return out, nil
}

func (r *Registry) parse(ctx context.Context, p Push) (oci.Manifest, error) {
	select {
	case r.parsing <- struct{}{}:
		defer func() { <-r.parsing }()
	case <-ctx.Done():
		return oci.Manifest{}, ctx.Err()
	}
	d := p.Digest
	if !p.Reference.Digest.IsZero() {
		d = p.Reference.Digest
	}
	alg := oci.SHA256
	if !d.IsZero() {
		alg = d.Algorithm()
	}
	m, err := oci.ParseManifestAs(alg, p.MediaType, p.Raw)
	if err != nil {
		return oci.Manifest{}, oci.Errorf(oci.CodeManifestInvalid, "%v", err)
	}
	if !d.IsZero() && d != m.Digest {
		return oci.Manifest{}, oci.Errorf(oci.CodeDigestInvalid, "the manifest was put as %s, but its bytes are %s", d, m.Digest)
	}
	return m, nil
}

// keepManifest writes the manifest to the catalog, with its bytes. The store gets a copy
// within about a second from the journal (upkeep.Journal), for a rebuild of the catalog.
func (r *Registry) keepManifest(ctx context.Context, by Caller, p Push, m oci.Manifest) (put catalog.Put, err error) {
	// The collection may be about to remove an old copy.
	release, err := r.contents.share(ctx, m.Digest)
	if err != nil {
		return catalog.Put{}, err
	}
	defer release()
	tags := p.Tags
	if t := p.Reference.Tag; t != "" {
		tags = append([]string{t}, tags...)
	}
	p.If.Tag = p.Reference.Tag
	put, err = r.cat.Put(ctx, catalog.NewManifest{Repo: p.Repo, Manifest: m, Tags: tags, By: by.Name, Now: r.o.Now(), If: p.If, Trace: by.Trace})
	return put, known(err, oci.CodeManifestUnknown, "manifest "+m.Digest.String())
}

// judge gives the verdict that stands, or waits for one; fresh says that there is none yet. Whatever
// goes wrong, the answer is Pending, and the catalog knows that the manifest is due.
func (r *Registry) judge(ctx context.Context, m oci.Manifest, fresh bool) (policy.Verdict, catalog.Counts) {
	var v policy.Verdict
	var n catalog.Counts
	var err error
	if !fresh {
		v, n, err = r.cat.Verdict(ctx, m.Digest)
	}
	if err == nil && v.Decision == policy.Pending && r.o.Judge != nil {
		wait, cancel := context.WithTimeout(ctx, r.o.JudgeWait)
		defer cancel()
		if fresh {
			v, n, err = r.o.Judge.JudgeNew(wait, m)
		} else {
			v, n, err = r.o.Judge.Judge(wait, m.Digest)
		}
	}
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
			r.o.Log.ErrorContext(ctx, "pushed manifest not judged yet", "digest", m.Digest, "err", err)
		}
		return policy.Verdict{}, catalog.Counts{}
	}
	return v, n
}

// Manifest returns a manifest if the gate lets it through, or the caller may pull what
// is held back; else DENIED with the reasons. What is locked against reading is denied to
// everybody.
func (r *Registry) Manifest(ctx context.Context, by Caller, repo oci.Repository, ref oci.Reference) (catalog.Served, error) {
	s, err := r.served(ctx, by, repo, ref)
	if err != nil {
		return catalog.Served{}, err
	}
	if s.Decision != policy.Allow {
		r.o.Audit.Note(r.record(by, "quarantine-pull", image(repo, ref.String()), "the image is "+s.Decision.String()+", and the caller may pull what is held back"))
	}
	r.o.Audit.NotePull(r.record(by, "pull", image(repo, ref.String()), ""))
	r.pulls.note(repo, ref, r.o.Now(), 1)
	return s, nil
}

// AskManifest is Manifest for who asks whether it would be served and comes again for it, as Docker's engine
// does: it is no pull yet, but what is asked for is in use.
func (r *Registry) AskManifest(ctx context.Context, by Caller, repo oci.Repository, ref oci.Reference) (catalog.Served, error) {
	s, err := r.served(ctx, by, repo, ref)
	if err == nil {
		r.pulls.note(repo, ref, r.o.Now(), 0)
	}
	return s, err
}

// served is a manifest that the gate lets through to the caller.
func (r *Registry) served(ctx context.Context, by Caller, repo oci.Repository, ref oci.Reference) (catalog.Served, error) {
	s, err := r.StatManifest(ctx, repo, ref)
	if err != nil {
		return catalog.Served{}, err
	}
	if err := r.readLocked(ctx, repo, ref, s.Closed); err != nil {
		return catalog.Served{}, err
	}
	if s.Decision != policy.Allow && !by.may(access.QuarantinePull, repo) {
		return catalog.Served{}, r.refuse(ctx, repo, ref)
	}
	return s, nil
}

// record is a record of what a caller was served.
func (r *Registry) record(by Caller, action, target, why string) catalog.Record {
	return catalog.Record{At: r.o.Now(), Actor: by.Name, ActorID: by.ByID, Kind: by.ByKind, Action: action, Target: target, Decision: catalog.AuditAllowed, Why: why,
		Address: by.Address, Request: by.Request}
}

// StatManifest returns a manifest whatever its verdict, for those who may know of it:
// a client asks whether it is there before it pulls or pushes. Its bytes are for
// nobody's eyes.
func (r *Registry) StatManifest(ctx context.Context, repo oci.Repository, ref oci.Reference) (catalog.Served, error) {
	s, err := r.cat.Served(ctx, repo, ref)
	return s, known(err, oci.CodeManifestUnknown, image(repo, ref.String()))
}

// DeleteManifest takes a tag out of repo; or, by digest, a manifest with its tags, to the
// trash for as long as Options.Restore says. PRECONDITION_FAILED if must does not hold of it.
func (r *Registry) DeleteManifest(ctx context.Context, by Caller, repo oci.Repository, ref oci.Reference, must catalog.Condition) error {
	var err error
	act := r.act(by)
	act.If = must
	if ref.Tag != "" {
		err = r.cat.DeleteTag(ctx, repo, ref.Tag, act)
	} else {
		err = r.cat.DeleteManifest(ctx, repo, ref.Digest, act)
	}
	return known(err, oci.CodeManifestUnknown, image(repo, ref.String()))
}

// explainWait bounds how long a refusal waits to be explained.
const explainWait = 5 * time.Second

package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/rules"
)

// RetentionName is who deletes what the rules for retention let go.
const RetentionName = "retention"

// Fate is what retention has for a tag or an untagged manifest of a repository.
type Fate struct {
	Repo oci.Repository `json:"repository"`
	rules.Fate
}

// Retained counts what a run of retention came to.
type Retained struct {
	DryRun       bool      `json:"dryRun,omitempty"`
	Repositories int       `json:"repositories"` // that a rule matches
	Kept         int       `json:"kept"`         // tags and untagged manifests that were decided about and stay
	Tags         int       `json:"tags"`         // that went, or would
	Manifests    int       `json:"manifests"`    // that went with them or by themselves; of a dry run only the latter
	Started      time.Time `json:"started"`
	Ended        time.Time `json:"ended"`
}

// ErrRetaining is returned by Retain while it runs already.
var ErrRetaining = errors.New("retention runs already")

// How many tags, and untagged manifests, are read at a time; for each page of the latter the
// history of the repository is read once.
const (
	retainPage   = 1000
	untaggedPage = 10_000
)

// retention is one run.
type retention struct {
	*Registry
	rules  *rules.Rules
	dryRun bool
	report func(Fate)
	act    catalog.Act
	out    Retained
}

// Retain deletes what the rules for retention let go, repository by repository, and tells of each tag and
// untagged manifest that a rule decides about what becomes of it and why. What was pushed,
// set or locked while it ran stays. It holds the tags of one repository in memory at a time.
func (r *Registry) Retain(ctx context.Context, dryRun bool, report func(Fate)) (Retained, error) {
	select {
	case r.retaining <- struct{}{}:
		defer func() { <-r.retaining }()
	default:
		return Retained{}, ErrRetaining
	}
	held, _, err := r.cat.Rules(ctx)
	if err != nil {
		return Retained{}, err
	}
	run := &retention{Registry: r, rules: held, dryRun: dryRun, report: report, act: r.act(Caller{Name: RetentionName})}
	run.out = Retained{DryRun: dryRun, Started: run.act.Now}
	err = run.all(ctx)
	run.out.Ended = r.o.Now()
	return run.out, err
}

func (r *retention) all(ctx context.Context) error {
	if len(r.rules.Retention) == 0 {
		return nil
	}
	for after := ""; ; {
		names, err := r.cat.AllRepositories(ctx, after, retainPage)
		if err != nil || len(names) == 0 {
			return err
		}
		for _, name := range names {
			repo, err := oci.ParseRepository(name)
			if err != nil {
				return err
			}
			if !r.rules.DecidesTags(repo) {
				continue
			}
			r.out.Repositories++
			if err := errors.Join(r.tags(ctx, repo), ctx.Err()); err != nil {
				return fmt.Errorf("retention of %s: %w", repo, err)
			}
			if err := r.untagged(ctx, repo); err != nil {
				return fmt.Errorf("retention of %s: %w", repo, err)
			}
		}
		after = names[len(names)-1]
	}
}

// tell reports a fate. ended is what kept it from coming true, if anything did.
func (r *retention) tell(repo oci.Repository, f rules.Fate, ended string) {
	if ended != "" {
		f.Goes, f.Why = false, f.Why+"; but "+ended
	}
	switch {
	case !f.Goes:
		r.out.Kept++
	case f.Tag != "":
		r.out.Tags++
	}
	r.report(Fate{repo, f})
}

func (r *retention) tags(ctx context.Context, repo oci.Repository) error {
	tags, err := r.read(ctx, repo)
	if err != nil {
		return err
	}
	set := map[string]time.Time{}
	for _, t := range tags {
		set[t.Name] = t.Set
	}
	going := map[oci.Digest][]rules.Fate{}
	var order []oci.Digest
	for _, f := range r.rules.Retain(repo, tags, r.act.Now) {
		switch {
		case f.Rule == "":
		case !f.Goes:
			r.tell(repo, f, "")
		default:
			if len(going[f.Digest]) == 0 {
				order = append(order, f.Digest)
			}
			going[f.Digest] = append(going[f.Digest], f)
		}
	}
	for _, d := range order {
		e := catalog.Expiry{Repo: repo, Digest: d, Tags: map[string]time.Time{}}
		for _, f := range going[d] {
			e.Tags[f.Tag] = set[f.Tag]
		}
		if err := r.expire(ctx, e, going[d]); err != nil {
			return err
		}
	}
	return nil
}

// read returns all tags of a repository.
func (r *retention) read(ctx context.Context, repo oci.Repository) ([]rules.Tag, error) {
	var out []rules.Tag
	subjects := map[int]oci.Digest{}
	for after := ""; ; {
		page, err := r.cat.RetainedTags(ctx, repo, after, retainPage)
		if err != nil {
			return nil, err
		}
		for _, t := range page {
			after = t.Name
			if d, ok := rules.IsAttachment(t.Name); ok {
				subjects[len(out)] = d
			}
			out = append(out, rules.Tag{Name: t.Name, Digest: t.Digest, Set: t.Set, Pulled: t.Pulled, Held: lockedText(t.Locked)})
		}
		if len(page) < retainPage {
			break
		}
	}
	for i, d := range subjects {
		held, err := r.cat.Holds(ctx, repo, []oci.Digest{d})
		if err != nil {
			return nil, err
		}
		out[i].Needed = held[d]
	}
	return out, nil
}

func lockedText(locked bool) string {
	if locked {
		return "locked against deletion (it, its manifest or its repository; 'pratique unlock')"
	}
	return ""
}

// expire makes fates of one manifest come true, and tells of them.
func (r *retention) expire(ctx context.Context, e catalog.Expiry, fates []rules.Fate) error {
	gone := catalog.Expired{Manifest: len(e.Tags) == 0}
	ended := ""
	if !r.dryRun {
		var err error
		gone, err = r.cat.Expire(ctx, e, r.act)
		var said *oci.Error
		switch err = known(err, oci.CodeManifestUnknown, e.Repo.String()); {
		case errors.As(err, &said) && said.Code == oci.CodeDenied:
			ended = said.Message
		case err != nil:
			return err
		}
	}
	if gone.Manifest {
		r.out.Manifests++
	}
	still := map[string]bool{}
	for _, t := range gone.Tags {
		still[t] = true
	}
	for _, f := range fates {
		came := r.dryRun || f.Tag == "" && gone.Manifest || still[f.Tag]
		if !came && ended == "" {
			ended = "it was changed meanwhile"
		}
		if came {
			r.tell(e.Repo, f, "")
		} else {
			r.tell(e.Repo, f, ended)
		}
	}
	return nil
}

// untagged decides about what no tag names.
func (r *retention) untagged(ctx context.Context, repo oci.Repository) error {
	rule, ok := r.rules.UntaggedRule(repo)
	if !ok {
		return nil
	}
	before := r.act.Now.Add(-time.Duration(*rule.UntaggedAfter))
	for after := int64(0); ; {
		page, err := r.cat.UntaggedManifests(ctx, repo, before, after, untaggedPage)
		if err != nil || len(page) == 0 {
			return err
		}
		since := map[oci.Digest]time.Time{}
		for _, m := range page {
			since[m.Digest], after = m.Pushed, m.ID
		}
		if err := r.cat.Untagged(ctx, repo, since); err != nil {
			return err
		}
		for _, m := range page {
			f := rule.Decide(rules.Untagged{Digest: m.Digest, Since: since[m.Digest], Pulled: m.Pulled, Held: lockedText(m.Locked)}, r.act.Now)
			if !f.Goes {
				r.tell(repo, f, "")
				continue
			}
			if err := r.expire(ctx, catalog.Expiry{Repo: repo, Digest: m.Digest}, []rules.Fate{f}); err != nil {
				return err
			}
		}
	}
}

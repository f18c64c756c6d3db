package rules

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"time"

	"pratique.dev/pratique/internal/oci"
)

// Retention says which tags and untagged manifests stay. A tag is decided by the first rule
// that matches its repository and its name, and stays if any condition of that rule keeps it;
// of a rule that has none for tags all stay. Manifests without a tag are decided by the first rule with
// UntaggedAfter that matches their repository.
type Retention struct {
	Name         string  `json:"name"`
	Repositories Pattern `json:"repositories"`
	Tags         Pattern `json:"tags"`
	// KeepLast is how many of the tags that the rule decides in one repository stay, those
	// that were set last.
	KeepLast         *int      `json:"keepLast,omitempty"`
	KeepPushedWithin *Duration `json:"keepPushedWithin,omitempty"` // since it was set
	KeepPulledWithin *Duration `json:"keepPulledWithin,omitempty"` // since its manifest was pulled
	UntaggedAfter    *Duration `json:"untaggedAfter,omitempty"`    // since a manifest was pushed or lost its last tag
}

// Tag is a tag as retention sees it.
type Tag struct {
	Name   string
	Digest oci.Digest
	Set    time.Time // when it was last set
	Pulled time.Time // when it, or the manifest that it names, was last pulled; zero: not known to be
	// Held is why it cannot go ("locked"); "": it can.
	Held string
	// Needed says of an attachment (IsAttachment) that the repository holds what it belongs to.
	Needed bool
}

// Fate is what retention has for a tag or an untagged manifest.
type Fate struct {
	Tag    string     `json:"tag,omitempty"` // "": the manifest, which no tag names
	Digest oci.Digest `json:"digest"`
	Goes   bool       `json:"goes"`
	Rule   string     `json:"rule"` // its name; "" where no rule decides
	Why    string     `json:"why"`
}

var attachment = regexp.MustCompile(`^(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})(\..*)?$`)

// IsAttachment says whether a tag's name says that it belongs to a manifest: that of a signature,
// an attestation or the fallback for referrers (distribution-spec 1.1, "Referrers Tag Schema").
// It returns that manifest's digest.
func IsAttachment(tag string) (oci.Digest, bool) {
	m := attachment.FindStringSubmatch(tag)
	if m == nil {
		return oci.Digest{}, false
	}
	d, err := oci.ParseDigest(m[1][:6] + ":" + m[1][7:])
	return d, err == nil
}

// AttachmentGrace is how long an attachment stays whose manifest is not there: that may come yet.
const AttachmentGrace = Duration(day)

// DecidesTags says whether any rule may delete tags or manifests of a repository.
func (r *Rules) DecidesTags(repo oci.Repository) bool {
	return slices.ContainsFunc(r.Retention, func(t Retention) bool { return t.Repositories.Match(repo.String()) })
}

// Retain decides about all tags of a repository at a time: one Fate each, in the order of names.
// It holds in memory what it is given.
func (r *Rules) Retain(repo oci.Repository, tags []Tag, now time.Time) []Fate {
	var rules []Retention
	for _, t := range r.Retention {
		if t.Repositories.Match(repo.String()) {
			rules = append(rules, t)
		}
	}
	decided := make([][]Tag, len(rules))
	out := make([]Fate, 0, len(tags))
next:
	for _, t := range tags {
		for i, rule := range rules {
			if rule.Tags.Match(t.Name) {
				decided[i] = append(decided[i], t)
				continue next
			}
		}
		out = append(out, Fate{Tag: t.Name, Digest: t.Digest, Why: "no rule matches it"})
	}
	for i, rule := range rules {
		out = append(out, rule.retain(r, repo, decided[i], now)...)
	}
	slices.SortFunc(out, func(a, b Fate) int { return cmp.Compare(a.Tag, b.Tag) })
	return out
}

// retain decides about the tags that are the rule's.
func (t Retention) retain(r *Rules, repo oci.Repository, tags []Tag, now time.Time) []Fate {
	slices.SortFunc(tags, func(a, b Tag) int {
		return cmp.Or(b.Set.Compare(a.Set), cmp.Compare(a.Name, b.Name))
	})
	out := make([]Fate, len(tags))
	rank := 0 // attachments do not count
	for i, tag := range tags {
		f := Fate{Tag: tag.Name, Digest: tag.Digest, Rule: t.Name}
		if _, ok := IsAttachment(tag.Name); ok {
			f.Goes, f.Why = t.attached(tag, now)
		} else {
			rank++
			f.Goes, f.Why = t.decide(tag, rank, now)
		}
		if f.Goes {
			f.Goes, f.Why = held(r, repo, tag, f.Why)
		}
		out[i] = f
	}
	return out
}

// held lets what a rule would delete stay if something else keeps it.
func held(r *Rules, repo oci.Repository, tag Tag, why string) (goes bool, because string) {
	if i, ok := r.ImmutableBy(repo, tag.Name); ok {
		return false, fmt.Sprintf("%s; but immutable (repositories %s, tags %s) keeps it", why, i.Repositories, i.Tags)
	}
	if tag.Held != "" {
		return false, why + "; but it is " + tag.Held
	}
	return true, why
}

// decidesTags says whether the rule has a condition for tags.
func (t Retention) decidesTags() bool { return t.KeepLast != nil || t.KeepPushedWithin != nil }

// decide says whether the tag of a rank goes, the one that was set last being the first.
func (t Retention) decide(tag Tag, rank int, now time.Time) (goes bool, why string) {
	if !t.decidesTags() {
		return false, "the rule is about untagged manifests alone"
	}
	if t.KeepLast != nil && rank <= *t.KeepLast {
		return false, fmt.Sprintf("keepLast: %d of %d", rank, *t.KeepLast)
	}
	if within(t.KeepPushedWithin, tag.Set, now) {
		return false, fmt.Sprintf("keepPushedWithin %s: set %s ago", t.KeepPushedWithin, ago(tag.Set, now))
	}
	if within(t.KeepPulledWithin, tag.Pulled, now) {
		return false, fmt.Sprintf("keepPulledWithin %s: pulled %s ago", t.KeepPulledWithin, ago(tag.Pulled, now))
	}
	return true, fmt.Sprintf("set %s ago, %s, %s", ago(tag.Set, now), pulled(tag.Pulled, now), place(rank))
}

// attached says whether an attachment goes: once what it belongs to is gone.
func (t Retention) attached(tag Tag, now time.Time) (goes bool, why string) {
	grace := AttachmentGrace
	switch {
	case !t.decidesTags():
		return false, "the rule is about untagged manifests alone"
	case tag.Needed:
		return false, "belongs to a manifest that is here"
	case within(&grace, tag.Set, now):
		return false, fmt.Sprintf("the manifest that it belongs to is not here, and it was set %s ago; stays for %s", ago(tag.Set, now), grace)
	}
	return true, "the manifest that it belongs to is not here"
}

// Untagged is a manifest that no tag names, no index that the repository holds lists and whose
// subject the repository does not hold.
type Untagged struct {
	Digest oci.Digest
	Since  time.Time // when it was pushed, or lost its last tag
	Pulled time.Time // zero: not known to be
	Held   string    // why it cannot go; "": it can
}

// UntaggedRule returns the rule that decides about the untagged manifests of a repository.
func (r *Rules) UntaggedRule(repo oci.Repository) (Retention, bool) {
	for _, t := range r.Retention {
		if t.UntaggedAfter != nil && t.Repositories.Match(repo.String()) {
			return t, true
		}
	}
	return Retention{}, false
}

// Decide says what becomes of an untagged manifest by a rule with UntaggedAfter.
func (t Retention) Decide(u Untagged, now time.Time) Fate {
	f := Fate{Digest: u.Digest, Rule: t.Name}
	switch {
	case within(t.UntaggedAfter, u.Since, now):
		f.Why = fmt.Sprintf("untaggedAfter %s: untagged for %s", t.UntaggedAfter, ago(u.Since, now))
	case within(t.KeepPulledWithin, u.Pulled, now):
		f.Why = fmt.Sprintf("keepPulledWithin %s: pulled %s ago", t.KeepPulledWithin, ago(u.Pulled, now))
	default:
		f.Goes, f.Why = true, fmt.Sprintf("untagged for %s, %s", ago(u.Since, now), pulled(u.Pulled, now))
		if u.Held != "" {
			f.Goes, f.Why = false, f.Why+"; but it is "+u.Held
		}
	}
	return f
}

// within says whether something happened less than d ago. What lies ahead, by a clock that was
// set back, did.
func within(d *Duration, at, now time.Time) bool {
	return d != nil && !at.IsZero() && now.Sub(at) < time.Duration(*d)
}

// ago is the time since, as people say it.
func ago(at, now time.Time) string {
	switch d := max(0, now.Sub(at)); {
	case d >= 2*day:
		return fmt.Sprintf("%d days", d/day)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	default:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
}

func pulled(at, now time.Time) string {
	if at.IsZero() {
		return "not pulled"
	}
	return fmt.Sprintf("pulled %s ago", ago(at, now))
}

// place is a rank among the tags of a rule.
func place(rank int) string { return fmt.Sprintf("number %d by age", rank) }

// Package rules holds what an operator lays down for repositories: which tags may not be
// moved, how much may be kept, what is deleted after a while and how long it can be had
// back. It reads one YAML document, strictly, and answers questions about names, sizes and
// times; it does no I/O and reads no clock. The catalog asks within the transactions that
// would break a rule.
package rules

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"pratique.dev/pratique/internal/oci"
)

// DefaultRestore is how long what was deleted can be had back unless the rules say otherwise.
const DefaultRestore = Duration(7 * 24 * time.Hour)

// Rules are one document's. The zero Rules allow everything and delete for good; Default has
// what stands where no document was set.
type Rules struct {
	// Restore is how long deleted manifests can be had back; 0: not at all.
	Restore   Duration    `json:"restore"`
	Immutable []Immutable `json:"immutable"`
	Quotas    []Quota     `json:"quotas"`
	Retention []Retention `json:"retention"`
}

// Default are the rules where no document was set.
func Default() *Rules {
	return &Rules{Restore: DefaultRestore, Immutable: []Immutable{}, Quotas: []Quota{}, Retention: []Retention{}}
}

// Refusal is the error of something that a rule does not allow. Its message says which rule
// that is and what can be done.
type Refusal struct{ Message string }

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

// Immutable keeps tags where they are: once set they are neither moved nor deleted.
type Immutable struct {
	Repositories Pattern `json:"repositories"`
	Tags         Pattern `json:"tags"`
}

// Refuse is the error of doing what ("be moved", "be deleted") to a tag that names is.
func (i Immutable) Refuse(repo oci.Repository, tag string, is oci.Digest, what string) *Refusal {
	return &Refusal{fmt.Sprintf("tag %s of %s cannot %s: the rule immutable (repositories %s, tags %s) keeps it at %s; use another tag, or have an administrator change the rule with 'pratique rules set'",
		tag, repo, what, i.Repositories, i.Tags, is)}
}

// ImmutableBy returns the first rule that keeps a tag where it is.
func (r *Rules) ImmutableBy(repo oci.Repository, tag string) (Immutable, bool) {
	for _, i := range r.Immutable {
		if i.Repositories.Match(repo.String()) && i.Tags.Match(tag) {
			return i, true
		}
	}
	return Immutable{}, false
}

// Usage is what repositories hold.
type Usage struct {
	Bytes int64 `json:"bytes"` // of their blobs; one that two of them have counts twice
	Tags  int64 `json:"tags"`
}

// Plus is the sum of two usages.
func (u Usage) Plus(v Usage) Usage { return Usage{u.Bytes + v.Bytes, u.Tags + v.Tags} }

// Quota bounds what the repositories hold together whose names begin with Prefix.
type Quota struct {
	Prefix string `json:"prefix"`
	Bytes  Size   `json:"bytes,omitempty"` // 0: any number
	Tags   int64  `json:"tags,omitempty"`  // 0: any number
}

// QuotasOf returns the quotas that a repository counts towards.
func (r *Rules) QuotasOf(repo oci.Repository) []Quota {
	var out []Quota
	for _, q := range r.Quotas {
		if strings.HasPrefix(repo.String(), q.Prefix) {
			out = append(out, q)
		}
	}
	return out
}

// Fits says whether what is held and what comes to it are within the quota together, as far
// as what comes asks for it: a quota that is exceeded in tags lets bytes come.
func (q Quota) Fits(held, add Usage) bool {
	return !(add.Bytes > 0 && q.overBytes(held, add) || add.Tags > 0 && q.overTags(held, add))
}

func (q Quota) overBytes(held, add Usage) bool {
	return q.Bytes > 0 && held.Bytes > int64(q.Bytes)-add.Bytes
}

func (q Quota) overTags(held, add Usage) bool { return q.Tags > 0 && held.Tags > q.Tags-add.Tags }

// Refuse is the error of adding what does not fit.
func (q Quota) Refuse(repo oci.Repository, held, add Usage) *Refusal {
	var has, more string
	if add.Bytes > 0 && q.overBytes(held, add) {
		has, more = fmt.Sprintf("%s of %s", Size(held.Bytes), q.Bytes), fmt.Sprintf("%s more do", Size(add.Bytes))
	} else {
		has, more = fmt.Sprintf("%d of %d tags", held.Tags, q.Tags), fmt.Sprintf("%d more do", add.Tags)
		if add.Tags == 1 {
			more = "one more does"
		}
	}
	whose := fmt.Sprintf("the repositories that begin with %q", q.Prefix)
	if q.Prefix == "" {
		whose = "all repositories"
	}
	return &Refusal{fmt.Sprintf("the quota of %s is used up: they hold %s, and %s not fit; delete what is not needed (space of deleted images counts until 'pratique gc' has freed it), or have an administrator raise the quota (prefix %q) with 'pratique rules set'",
		whose, has, more, q.Prefix)}
}

// Size is a number of bytes, written as in 10GiB.
type Size int64

var units = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

// ParseSize reads a number of bytes: digits, then B, kB, MB, GB, TB, KiB, MiB, GiB, TiB or nothing.
func ParseSize(s string) (Size, error) {
	number, unit := s, int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			number, unit = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || int64(n) > math.MaxInt64/unit {
		return 0, fmt.Errorf("%.40q: expected a size as in 10GiB, 500MB or 1000", s)
	}
	return Size(int64(n) * unit), nil
}

// String writes the size in the largest unit that divides it, or rounded where none does.
func (s Size) String() string {
	for _, u := range units {
		if int64(s) >= u.bytes && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return "0B"
}

// Duration is a time span, written as in 36h or 30d.
type Duration time.Duration

const day = 24 * time.Hour

// maxDuration is about a hundred years; with it added to any time of ours nothing overflows.
const maxDuration = 36500 * day

// ParseDuration reads a span from 0 to a hundred years: a number of days as in 30d, or what
// time.ParseDuration takes.
func ParseDuration(s string) (Duration, error) {
	var d time.Duration
	var err error
	if number, ok := strings.CutSuffix(s, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(number, 10, 16)
		d = time.Duration(n) * day
	} else {
		d, err = time.ParseDuration(s)
	}
	if err != nil || d < 0 || d > maxDuration {
		return 0, fmt.Errorf("%.40q: expected a time span from 0 to 36500d, as in 90m, 36h or 30d", s)
	}
	return Duration(d), nil
}

// String writes whole days as such.
func (d Duration) String() string {
	t := time.Duration(d)
	switch {
	case t >= day && t%day == 0:
		return strconv.FormatInt(int64(t/day), 10) + "d"
	case t%time.Hour == 0 && t > 0:
		return strconv.FormatInt(int64(t/time.Hour), 10) + "h"
	}
	return t.String()
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDuration(string(b))
	return err
}

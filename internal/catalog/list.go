package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// Listed is one tag in a list over repositories.
type Listed struct {
	Repo      string
	Tag       string
	Digest    oci.Digest
	MediaType string
	Platforms []string // of an index; an image's own stands in its configuration
	PushedAt  time.Time
	Decision  policy.Decision
	Counts    Counts
	Pulls     int64 // of its manifest from the repository, by whatever name: most clients ask for a tag and then pull a digest
	Size      int64 // of the config and all layers, for an index of all its images
	Locks     Locks // of the tag, its manifest and its repository together
}

// ListQuery asks for a page of tags.
type ListQuery struct {
	Prefix string // with which the names of repositories begin
	After  string // "REPO:TAG", as the page before gave it as next; "": the first page
	Limit  int    // of tags in the page; 0 or less: maxPage
	// Tag says which tags are wanted; nil: all.
	Tag func(tag string) bool
	// Decisions are those that are wanted; none: all.
	Decisions []policy.Decision
	// Sees says whether a repository is shown; nil: all are.
	Sees func(repository string) bool
}

func (q ListQuery) filters() bool { return q.Tag != nil || len(q.Decisions) > 0 || q.Sees != nil }

func (q ListQuery) wants(l Listed) bool {
	return (q.Sees == nil || q.Sees(l.Repo)) && (q.Tag == nil || q.Tag(l.Tag)) && (len(q.Decisions) == 0 || slices.Contains(q.Decisions, l.Decision))
}

// maxLooked bounds the tags that are looked at for one page of those that are wanted.
const maxLooked = 1000

const listedColumns = `select r.name, t.name, m.digest, m.media_type, m.platforms, h.pushed_at, v.decision, v.counts, m.content_size,
		r.closed | h.closed | t.closed, h.pulls
	from repositories r
	join tags t on t.repository_id = r.id
	join manifests m on m.id = t.manifest_id
	join holdings h on h.repository_id = r.id and h.manifest_id = m.id
	join verdicts v on v.manifest_id = m.id
`

const listWithinText = listedColumns + `where r.name = $1 and t.name > $2 order by t.name limit $3`

const listBehindText = listedColumns + `where r.name >= $1 and r.name < $2 and r.name > $3 order by r.name, t.name limit $4`

// List returns a page of tags, ordered by repository and tag, and the After of the page that follows,
// "" at the end. It looks at no more than maxLooked tags where not all are wanted: a
// page may hold fewer than the limit, even none, though others follow.
func (c *Catalog) List(ctx context.Context, q ListQuery) (out []Listed, next string, err error) {
	limit := page(q.Limit)
	look := limit
	if q.filters() {
		look = maxLooked
	}
	looked, err := c.list(ctx, q.Prefix, q.After, look)
	if err != nil {
		return nil, "", fmt.Errorf("list %q: %w", q.Prefix, err)
	}
	for i, l := range looked {
		next = l.Repo + ":" + l.Tag
		if q.wants(l) {
			out = append(out, l)
		}
		if len(out) == limit && i < len(looked)-1 {
			return out, next, nil
		}
	}
	if len(looked) < look {
		next = ""
	}
	return out, next, nil
}

// list returns up to limit tags behind after: the rest of its repository, then those behind.
func (c *Catalog) list(ctx context.Context, prefix, after string, limit int) (out []Listed, err error) {
	repo, tag, _ := strings.Cut(after, ":")
	if repo != "" && strings.HasPrefix(repo, prefix) {
		rows, err := c.read.query(ctx, listWithinText, repo, tag, limit)
		if out, err = collect(rows, err, scanListed); err != nil || len(out) == limit {
			return out, err
		}
	}
	rows, err := c.read.query(ctx, listBehindText, max(prefix, repo), prefix+"\x7f", repo, limit-len(out))
	behind, err := collect(rows, err, scanListed)
	return append(out, behind...), err
}

func scanListed(r *sql.Rows) (Listed, error) {
	var l Listed
	var digest, platforms, counts string
	var pushed, decision int64
	err := r.Scan(&l.Repo, &l.Tag, &digest, &l.MediaType, &platforms, &pushed, &decision, &counts, &l.Size, &l.Locks, &l.Pulls)
	if err != nil {
		return l, err
	}
	l.Platforms, l.PushedAt, l.Decision = strings.Fields(platforms), fromMicros(&pushed), policy.Decision(decision)
	if err := json.Unmarshal([]byte(counts), &l.Counts); err != nil {
		return l, fmt.Errorf("counts of %s: %w", digest, err)
	}
	l.Digest, err = oci.ParseDigest(digest)
	return l, err
}

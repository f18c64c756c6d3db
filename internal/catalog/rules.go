package catalog

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/rules"
)

// rulesSetting is the setting that holds the document of rules as it was written.
const rulesSetting = "registry.rules"

// memory is what is remembered between transactions, of one process.
type memory struct {
	rules atomic.Pointer[readRules] // nil: not read yet
	mu    sync.Mutex
	sums  map[string]sum // by quota's prefix
}

// readRules is a document with what was read in it, so that the same need not be read again.
type readRules struct {
	source []byte
	rules  *rules.Rules
}

// parsed returns the rules of a document that was kept.
func (m *memory) parsed(source []byte) (*rules.Rules, error) {
	if last := m.rules.Load(); last != nil && bytes.Equal(last.source, source) {
		return last.rules, nil
	}
	r, err := rules.Parse(source)
	if err != nil {
		return nil, fmt.Errorf("the rules that are kept: %w", err)
	}
	m.rules.Store(&readRules{bytes.Clone(source), r})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sums = map[string]sum{} // so there are no more than quotas
	return r, nil
}

const rulesText = `select value from settings where name = '` + rulesSetting + `'`

// Rules returns the rules that hold, which are not to be changed, and the document that they
// were read from, nil where none was put.
func (c *Catalog) Rules(ctx context.Context) (*rules.Rules, []byte, error) {
	var source []byte
	err := c.read.row(ctx, rulesText).Scan(&source)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, nil, fmt.Errorf("rules: %w", asKnown(err))
	}
	r, err := c.memory.parsed(source)
	return r, source, err
}

// PutRules puts a document in place of the one before, and returns what it says. The error is
// a *rules.Error if it is not one. It holds for every transaction that begins afterwards.
func (c *Catalog) PutRules(ctx context.Context, source []byte, a Act) (*rules.Rules, error) {
	r, err := rules.Parse(source)
	if err != nil {
		return nil, err
	}
	a = c.actNow(a)
	err = c.tx(ctx, func(t *tx) error {
		if err := t.putSetting(ctx, rulesSetting, source); err != nil {
			return err
		}
		return t.audit(ctx, a, "rules-set", "", map[string]string{"document": string(source)})
	})
	if err != nil {
		return nil, fmt.Errorf("put rules: %w", err)
	}
	return r, nil
}

// rules returns the rules that hold in this transaction.
func (t *tx) rules(ctx context.Context) (*rules.Rules, error) {
	var source []byte
	if err := t.row(ctx, rulesText).Scan(&source); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	return t.memory.parsed(source)
}

const usageText = `select coalesce(sum(u.bytes), 0), coalesce(sum(u.tags), 0)
	from repositories r join usage u on u.repository_id = r.id where r.name >= $1 and r.name < $2`

// Usage returns what the repositories hold together whose names begin with prefix. It reads a
// row for each of them.
func (c *Catalog) Usage(ctx context.Context, prefix string) (u rules.Usage, err error) {
	err = c.read.row(ctx, usageText, prefix, prefix+"\x7f").Scan(&u.Bytes, &u.Tags)
	if err != nil {
		return u, fmt.Errorf("usage of %q: %w", prefix, asKnown(err))
	}
	return u, nil
}

// guardTag returns the refusal of doing what to a tag that names a manifest, if a rule keeps it there.
func (t *tx) guardTag(ctx context.Context, repository int64, tag string, manifest oci.Digest, what string) error {
	r, err := t.rules(ctx)
	if err != nil || len(r.Immutable) == 0 {
		return err
	}
	repo, err := t.repositoryName(ctx, repository)
	if err != nil {
		return err
	}
	if i, ok := r.ImmutableBy(repo, tag); ok {
		return i.Refuse(repo, tag, manifest, what)
	}
	return nil
}

// guardMove is guardTag for one that is about to be pointed elsewhere.
func (t *tx) guardMove(ctx context.Context, repository int64, tag string, manifest int64) error {
	var digest string
	if err := t.row(ctx, `select digest from manifests where id = $1`, manifest).Scan(&digest); err != nil {
		return err
	}
	d, err := oci.ParseDigest(digest)
	if err != nil {
		return err
	}
	return t.guardTag(ctx, repository, tag, d, "be moved")
}

func (t *tx) repositoryName(ctx context.Context, repository int64) (oci.Repository, error) {
	var name string
	if err := t.row(ctx, `select name from repositories where id = $1`, repository).Scan(&name); err != nil {
		return oci.Repository{}, err
	}
	return oci.ParseRepository(name)
}

// sum is what the repositories of a quota held, or less than that, and when that was read.
type sum struct {
	held rules.Usage
	read time.Time
}

// sumLife bounds for how long a sum is believed without being read again, and so by how much
// the processes of one PostgreSQL can exceed a quota together: by what each adds in that time.
const sumLife = 10 * time.Second

// take counts what is added to a quota, if it fits by what is remembered.
func (m *memory) take(q rules.Quota, add rules.Usage) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.sums[q.Prefix]
	if !ok || time.Since(s.read) > sumLife || !q.Fits(s.held, add) {
		return false
	}
	s.held = s.held.Plus(add)
	m.sums[q.Prefix] = s
	return true
}

func (m *memory) keep(q rules.Quota, held rules.Usage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sums != nil {
		m.sums[q.Prefix] = sum{held, time.Now()}
	}
}

// fits returns the refusal of what is about to be added to a repository, if a quota does not
// allow it. A refusal is by what the transaction sees; what is remembered counts also what was
// not committed or has been deleted since, so it only lets pass what fits.
func (t *tx) fits(ctx context.Context, repository int64, add rules.Usage) error {
	r, err := t.rules(ctx)
	if err != nil || len(r.Quotas) == 0 || add.Bytes <= 0 && add.Tags <= 0 {
		return err
	}
	repo, err := t.repositoryName(ctx, repository)
	if err != nil {
		return err
	}
	for _, q := range r.QuotasOf(repo) {
		if t.memory.take(q, add) {
			continue
		}
		var held rules.Usage
		if err := t.row(ctx, usageText, q.Prefix, q.Prefix+"\x7f").Scan(&held.Bytes, &held.Tags); err != nil {
			return err
		}
		if !q.Fits(held, add) {
			return q.Refuse(repo, held, add)
		}
		t.memory.keep(q, held.Plus(add))
	}
	return nil
}

// CheckQuota returns a *rules.Refusal if the quotas of the repository, which need not exist yet, do
// not let so many bytes be added to what is there.
func (c *Catalog) CheckQuota(ctx context.Context, repo oci.Repository, bytes int64) error {
	r, _, err := c.Rules(ctx)
	if err != nil {
		return err
	}
	added := rules.Usage{Bytes: bytes}
	for _, q := range r.QuotasOf(repo) {
		if c.memory.roomy(q, added) {
			continue
		}
		held, err := c.Usage(ctx, q.Prefix)
		if err != nil {
			return err
		}
		if !q.Fits(held, added) {
			return q.Refuse(repo, held, added)
		}
		c.memory.keep(q, held)
	}
	return nil
}

// roomy says whether what is added fits by what is remembered, and counts nothing.
func (m *memory) roomy(q rules.Quota, add rules.Usage) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.sums[q.Prefix]
	return ok && time.Since(s.read) <= sumLife && q.Fits(s.held, add)
}

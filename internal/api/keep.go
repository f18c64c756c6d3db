package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// Move is one move of a tag.
type Move struct {
	ID     int64      `json:"id"`   // rises
	Kind   string     `json:"kind"` // tag, or untag where it was removed
	Digest oci.Digest `json:"digest"`
	At     time.Time  `json:"at"`
	By     string     `json:"by"`
}

// TagHistory is a page of a tag's moves, the newest first.
type TagHistory struct {
	Moves []Move `json:"moves"`
	// Next, if not zero, is the value of before for the next page.
	Next int64 `json:"next,omitempty"`
}

// Undone is what undoing a tag's last move came to.
type Undone struct {
	From oci.Digest `json:"from,omitzero"` // absent where the tag had been removed
	To   oci.Digest `json:"to"`
}

// Trashed is a deleted manifest that can be restored.
type Trashed struct {
	Repository string     `json:"repository"`
	Digest     oci.Digest `json:"digest"`
	MediaType  string     `json:"mediaType"`
	Tags       []string   `json:"tags"` // that named it
	Size       int64      `json:"size"` // bytes of all that it names
	PushedAt   time.Time  `json:"pushedAt"`
	PushedBy   string     `json:"pushedBy"`
	DeletedAt  time.Time  `json:"deletedAt"`
	DeletedBy  string     `json:"deletedBy"`
	Until      time.Time  `json:"until"` // it can be restored at least until then
}

// Trash is a page of the trash in the order of repositories.
type Trash struct {
	Manifests []Trashed `json:"manifests"`
	// Next, if not empty, is the value of after for the next page.
	Next string `json:"next,omitempty"`
}

// Restored is what the restoring of a manifest came to.
type Restored struct {
	Tags     []string        `json:"tags"` // that name it again
	Left     []string        `json:"left"` // that named it, and were pointed elsewhere since
	Decision policy.Decision `json:"decision"`
}

// Locks is what is locked of a repository, a manifest or a tag.
type Locks struct {
	Target string   `json:"target"` // the repository, REPO:TAG or REPO@DIGEST
	Locks  []string `json:"locks"`  // of write, delete, read and list
}

// TagHistory fetches the moves of a tag before the one with an id; 0: the newest ones.
func (c *Client) TagHistory(ctx context.Context, repo oci.Repository, tag string, before int64, limit int) (TagHistory, error) {
	var h TagHistory
	q := url.Values{"repository": {repo.String()}, "tag": {tag}, "limit": {strconv.Itoa(limit)}}
	if before > 0 {
		q.Set("before", strconv.FormatInt(before, 10))
	}
	err := c.get(ctx, PathTagHistory, q, &h)
	return h, err
}

// UndoTag points a tag back to what it named before its last move.
func (c *Client) UndoTag(ctx context.Context, repo oci.Repository, tag string) (Undone, error) {
	var u Undone
	err := c.post(ctx, PathTagUndo, url.Values{"repository": {repo.String()}, "tag": {tag}}, &u)
	return u, err
}

// Trash fetches the page of the trash that follows after.
func (c *Client) Trash(ctx context.Context, prefix, after string, limit int) (Trash, error) {
	var t Trash
	err := c.get(ctx, PathTrash, url.Values{"prefix": {prefix}, "after": {after}, "limit": {strconv.Itoa(limit)}}, &t)
	return t, err
}

// Restore takes a manifest out of the trash.
func (c *Client) Restore(ctx context.Context, repo oci.Repository, d oci.Digest) (Restored, error) {
	var r Restored
	err := c.post(ctx, PathRestore, url.Values{"repository": {repo.String()}, "digest": {d.String()}}, &r)
	return r, err
}

// Purge removes a manifest from the trash for good.
func (c *Client) Purge(ctx context.Context, repo oci.Repository, d oci.Digest) error {
	return c.post(ctx, PathPurge, url.Values{"repository": {repo.String()}, "digest": {d.String()}}, new(struct{}))
}

// Lock locks and unlocks a repository, or with a reference a tag or a manifest of it.
func (c *Client) Lock(ctx context.Context, repo oci.Repository, reference string, lock, unlock []string) (Locks, error) {
	q := url.Values{"repository": {repo.String()}, "lock": {strings.Join(lock, ",")}, "unlock": {strings.Join(unlock, ",")}}
	if reference != "" {
		q.Set("reference", reference)
	}
	var l Locks
	err := c.post(ctx, PathLocks, q, &l)
	return l, err
}

func (c *Client) post(ctx context.Context, path string, q url.Values, into any) error {
	req, err := c.request(ctx, http.MethodPost, path, q, nil)
	if err != nil {
		return err
	}
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("%s%s: the answer is damaged: %w", c.base, path, err)
	}
	return nil
}

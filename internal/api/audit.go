package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"pratique.dev/pratique/internal/oci"
)

// Paths of the audit log.
const (
	PathAudit       = "/api/v1/audit"        // GET ?actor=&action=&target=&decision=&since=&until=&before=&limit= -> AuditList
	PathAuditExport = "/api/v1/audit/export" // GET ?after= -> an AuditRecord a line
	PathAuditVerify = "/api/v1/audit/verify" // GET ?seq=&hash= -> a VerifyEvent a line
)

// AuditRecord is one act in the audit log. Each is chained to the one before: Hash is the SHA-256
// of that one's hash and what this one says.
type AuditRecord struct {
	Seq      int64           `json:"seq"` // from 1 on, without gaps
	At       time.Time       `json:"at"`
	Actor    string          `json:"actor"`
	ActorID  string          `json:"actorId,omitempty"`
	Kind     string          `json:"kind,omitempty"` // of the principal: user, service, token, …
	Action   string          `json:"action"`
	Target   string          `json:"target,omitempty"`
	Decision string          `json:"decision"` // allowed, denied, failed
	Why      string          `json:"why,omitempty"`
	Address  string          `json:"address,omitempty"`
	Request  string          `json:"request,omitempty"`
	Count    int             `json:"count,omitempty"` // of acts that were alike, where they are more than one
	Detail   json.RawMessage `json:"detail,omitempty"`
	Hash     string          `json:"hash,omitempty"`
}

// AuditQuery says which records are asked for; what is empty is not asked.
type AuditQuery struct {
	Actor, Action, Target, Decision string // Target is what theirs begins with
	Since, Until                    time.Time
	Before                          int64 // Next of the page before
	Limit                           int   // from 1 to MaxPage
}

// AuditList is a page of records, the newest first. A page of those that were asked for may hold few or
// none, though others follow.
type AuditList struct {
	Records []AuditRecord `json:"records"`
	Next    int64         `json:"next,omitempty"` // the value of before for the next page
}

// AuditMark is a place in the chain: a record and its hash.
type AuditMark struct {
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"`
}

// AuditVerified is what came of a verification.
type AuditVerified struct {
	Records int64     `json:"records"`          // whose chain was followed
	Behind  AuditMark `json:"behind"`           // the last record that was pruned
	Head    AuditMark `json:"head"`             // the last record
	Open    int       `json:"open"`             // written just now, and not chained yet
	Broken  string    `json:"broken,omitempty"` // where the chain does not hold, in words
	At      int64     `json:"at,omitempty"`     // the seq at which it breaks
}

// VerifyEvent is one line of the answer to a verification: how many records are followed, and at last
// what came of it, or an error.
type VerifyEvent struct {
	Done   int64          `json:"done,omitempty"`
	Result *AuditVerified `json:"result,omitempty"`
	Error  *oci.Error     `json:"error,omitempty"`
}

// Audit asks for a page of records.
func (c *Client) Audit(ctx context.Context, q AuditQuery) (AuditList, error) {
	v := url.Values{}
	for name, text := range map[string]string{"actor": q.Actor, "action": q.Action, "target": q.Target, "decision": q.Decision} {
		if text != "" {
			v.Set(name, text)
		}
	}
	for name, at := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !at.IsZero() {
			v.Set(name, at.UTC().Format(time.RFC3339))
		}
	}
	if q.Before > 0 {
		v.Set("before", strconv.FormatInt(q.Before, 10))
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	var out AuditList
	err := c.get(ctx, PathAudit, v, &out)
	return out, err
}

// ExportAudit writes all records behind after to w, a line of JSON each, and returns the last one's Seq.
// What was written before an error is right, and can be gone on with from there.
func (c *Client) ExportAudit(ctx context.Context, after int64, w io.Writer, progress func(seq int64)) (last int64, err error) {
	last = after
	err = c.lines(ctx, PathAuditExport, url.Values{"after": {strconv.FormatInt(after, 10)}}, func(line []byte) error {
		var r struct {
			Seq int64 `json:"seq"`
		}
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("the server's answer is damaged: %w", err)
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
		last = r.Seq
		progress(last)
		return nil
	})
	return last, err
}

// VerifyAudit has the server follow the chain; head is the Head of an earlier verification, or zero.
func (c *Client) VerifyAudit(ctx context.Context, head AuditMark, progress func(done int64)) (AuditVerified, error) {
	v := url.Values{}
	if head.Seq > 0 {
		v.Set("seq", strconv.FormatInt(head.Seq, 10))
		v.Set("hash", head.Hash)
	}
	var got *AuditVerified
	err := c.lines(ctx, PathAuditVerify, v, func(line []byte) error {
		var e VerifyEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("the server's answer is damaged: %w", err)
		}
		if e.Error != nil {
			return e.Error
		}
		got = e.Result
		progress(e.Done)
		return nil
	})
	if err == nil && got == nil {
		err = fmt.Errorf("verify the audit log: the server broke off; try again")
	}
	if err != nil {
		return AuditVerified{}, err
	}
	return *got, nil
}

// lines asks for an answer of lines and hands each on.
func (c *Client) lines(ctx context.Context, path string, q url.Values, each func([]byte) error) error {
	req, err := c.request(ctx, http.MethodGet, path, q, nil)
	if err != nil {
		return err
	}
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if err := each(lines.Bytes()); err != nil {
			return err
		}
	}
	return lines.Err()
}

package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/rules"
)

// Fate is what retention has for a tag of a repository, or for a manifest that no tag names.
type Fate struct {
	Repository oci.Repository `json:"repository"`
	rules.Fate
}

// Retained is what a run of retention came to.
type Retained struct {
	DryRun       bool      `json:"dryRun,omitempty"`
	Repositories int       `json:"repositories"` // that a rule matches
	Kept         int       `json:"kept"`         // tags and untagged manifests that were decided about and stay
	Tags         int       `json:"tags"`         // that went, or would
	Manifests    int       `json:"manifests"`    // that went with their last tag or by themselves; of a dry run the latter only
	Started      time.Time `json:"started"`
	Ended        time.Time `json:"ended"`
}

// RetentionEvent is one line of the answer to a run of retention: a fate, and at last the result or an
// error.
type RetentionEvent struct {
	Fate   *Fate      `json:"fate,omitempty"`
	Result *Retained  `json:"result,omitempty"`
	Error  *oci.Error `json:"error,omitempty"`
}

// Retain runs retention, and hears of each fate. If the connection breaks the server
// stops; what was deleted by then stays so.
func (c *Client) Retain(ctx context.Context, dryRun bool, each func(Fate) error) (Retained, error) {
	req, err := c.request(ctx, http.MethodPost, PathRetention, url.Values{"dryRun": {strconv.FormatBool(dryRun)}}, nil)
	if err != nil {
		return Retained{}, err
	}
	resp, err := c.do(req)
	if err != nil {
		return Retained{}, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		var e RetentionEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return Retained{}, fmt.Errorf("retention: the server's answer is damaged: %w", err)
		}
		switch {
		case e.Error != nil:
			return Retained{}, e.Error
		case e.Result != nil:
			return *e.Result, nil
		case e.Fate != nil:
			if err := each(*e.Fate); err != nil {
				return Retained{}, err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return Retained{}, fmt.Errorf("retention: %w", err)
	}
	return Retained{}, fmt.Errorf("retention: the server broke off; it is safe to run it again")
}

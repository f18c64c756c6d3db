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
)

// Collection is what a collection of garbage has freed so far, or on a dry run would free.
type Collection struct {
	DryRun    bool      `json:"dryRun,omitempty"`
	Phase     string    `json:"phase,omitempty"` // what it is at; absent once it is through
	Started   time.Time `json:"started"`
	Ended     time.Time `json:"ended,omitzero"`
	Manifests int       `json:"manifests"` // whose time in the trash was over
	Links     int       `json:"links"`     // blobs taken out of one repository
	Blobs     int       `json:"blobs"`     // that no repository has any more
	Files     int       `json:"files"`     // in the store, that the catalog does not know
	Bytes     int64     `json:"bytes"`     // of those blobs and files
	Records   int       `json:"records"`   // inventories, package versions and moves of tags
	// Held is why blobs were left where they are, absent if they were not.
	Held string `json:"held,omitempty"`
}

// CollectEvent is one line of the answer to a collection: how far it has come, and at
// last what it came to, or an error.
type CollectEvent struct {
	Progress *Collection `json:"progress,omitempty"`
	Result   *Collection `json:"result,omitempty"`
	Error    *oci.Error  `json:"error,omitempty"`
}

// Collect has the server collect garbage and hears of its progress. If the connection
// breaks the server stops; what was freed by then stays freed.
func (c *Client) Collect(ctx context.Context, dryRun bool, progress func(Collection)) (Collection, error) {
	req, err := c.request(ctx, http.MethodPost, PathGC, url.Values{"dryRun": {strconv.FormatBool(dryRun)}}, nil)
	if err != nil {
		return Collection{}, err
	}
	resp, err := c.do(req)
	if err != nil {
		return Collection{}, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		var e CollectEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return Collection{}, fmt.Errorf("collect: the server's answer is damaged: %w", err)
		}
		switch {
		case e.Error != nil:
			return Collection{}, e.Error
		case e.Result != nil:
			return *e.Result, nil
		case e.Progress != nil && progress != nil:
			progress(*e.Progress)
		}
	}
	if err := lines.Err(); err != nil {
		return Collection{}, fmt.Errorf("collect: %w", err)
	}
	return Collection{}, fmt.Errorf("collect: the server broke off; it is safe to collect again")
}

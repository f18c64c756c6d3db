package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// EventVerdict is the kind of the event of a verdict that turned; its Detail is a Turn.
const EventVerdict = "verdict"

// Turn says how a verdict turned.
type Turn struct {
	From    policy.Decision `json:"from"`
	To      policy.Decision `json:"to"`
	Policy  string          `json:"policy,omitempty"`
	Reasons []policy.Reason `json:"reasons,omitempty"` // the first few
}

// Event is something that happened and that others may want to know. IDs rise in the
// order of commits: who has seen one has seen, or can find, all that are lower.
type Event struct {
	ID     int64           `json:"id"`
	At     time.Time       `json:"at"`
	Kind   string          `json:"kind"`
	Repo   string          `json:"repo,omitempty"`
	Digest string          `json:"digest,omitempty"`
	By     string          `json:"by,omitempty"`
	Detail json.RawMessage `json:"detail,omitempty"`
}

// Events returns up to limit events with a higher ID than after, in their order.
func (c *Catalog) Events(ctx context.Context, after int64, limit int) ([]Event, error) {
	rows, err := c.read.query(ctx, `select id, at, kind, repository, digest, caused_by, doc from events where id > $1 order by id limit $2`, after, page(limit))
	out, err := collect(rows, err, func(r *sql.Rows) (Event, error) {
		var e Event
		var at int64
		var doc string
		err := r.Scan(&e.ID, &at, &e.Kind, &e.Repo, &e.Digest, &e.By, &doc)
		e.At, e.Detail = fromMicros(&at), json.RawMessage(doc)
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("events after %d: %w", after, err)
	}
	return out, nil
}

// maxEventReasons bounds the reasons that an event repeats.
const maxEventReasons = 5

// verdictTurned writes an event for each repository that holds the manifest.
func (t *tx) verdictTurned(ctx context.Context, manifest int64, d oci.Digest, from policy.Decision, v policy.Verdict) error {
	doc, err := json.Marshal(Turn{from, v.Decision, v.Policy, v.Reasons[:min(len(v.Reasons), maxEventReasons)]})
	if err != nil {
		return err
	}
	rows, err := t.query(ctx, `select r.name from holdings h join repositories r on r.id = h.repository_id where h.manifest_id = $1 order by r.name`, manifest)
	repos, err := collect(rows, err, scanText)
	if err != nil {
		return err
	}
	for _, repo := range repos {
		e := Event{At: v.At, Kind: EventVerdict, Repo: repo, Digest: d.String(), Detail: doc}
		if err := t.writeEvent(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// writeEvent gives e the next ID. The counter's row is held until the transaction
// ends, so that IDs are committed in their order.
func (t *tx) writeEvent(ctx context.Context, e Event) error {
	var id int64
	if err := t.row(ctx, `update counters set value = value + 1 where name = 'events' returning value`).Scan(&id); err != nil {
		return err
	}
	_, err := t.exec(ctx, `insert into events (id, at, kind, repository, digest, caused_by, doc) values ($1, $2, $3, $4, $5, $6, $7)`,
		id, e.At.UnixMicro(), e.Kind, e.Repo, e.Digest, e.By, string(e.Detail))
	return err
}

package upkeep

import (
	"context"
	"encoding/json"
	"time"

	"pratique.dev/pratique/internal/catalog"
)

// record tells the audit log what was done to a data folder. By whom is not known here: somebody who can
// write to it.
func record(ctx context.Context, cat *catalog.Catalog, action string, now time.Time, detail map[string]any) error {
	raw, err := json.Marshal(detail)
	if err != nil {
		return err
	}
	return cat.WriteAudit(ctx, []catalog.Record{{At: now, Actor: "pratique", Action: action, Decision: catalog.AuditAllowed, Detail: raw}})
}

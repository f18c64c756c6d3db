package registry

import (
	"context"
	"errors"
	"fmt"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/catalog"
)

// Recover forgets the uploads whose bytes are no more: an earlier run ended after it had
// finished or dropped them and before it could say so. It is for the start, before
// anybody else uses the store; of more than maxListed uploads it looks at the oldest, and
// the others are forgotten when they are next asked for.
func (r *Registry) Recover(ctx context.Context) error {
	rows, err := r.cat.StaleUploads(ctx, r.o.Now().AddDate(100, 0, 0))
	if err != nil {
		return fmt.Errorf("recover uploads: %w", err)
	}
	gone := 0
	for _, u := range rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		up, err := r.store.Resume(ctx, u.State)
		if err == nil {
			_, err = up.Save(ctx) // rests again
		}
		if !errors.Is(err, blob.ErrNotFound) {
			continue // it is there; what else is wrong with it tells who continues it
		}
		if err := r.cat.DeleteUpload(ctx, u.ID); err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return fmt.Errorf("recover uploads: %w", err)
		}
		gone++
	}
	if gone > 0 {
		r.o.Log.InfoContext(ctx, "uploads forgotten whose bytes are no more", "uploads", gone)
	}
	return nil
}

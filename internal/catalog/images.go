package catalog

import (
	"context"
	"errors"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
)

var errSoon = errors.New("comes with the next commit")

// PutImage keeps what an image holds.
func (c *Catalog) PutImage(ctx context.Context, img inventory.Image) error { return errSoon }

// Image returns what an image holds.
func (c *Catalog) Image(ctx context.Context, manifest oci.Digest) (inventory.Image, error) {
	return inventory.Image{}, errSoon
}

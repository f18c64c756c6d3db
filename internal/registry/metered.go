package registry

import (
	"context"
	"errors"
	"io"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/rules"
)

// meterEvery is how many bytes of a body whose size is not known come in between two looks at the
// quotas, which is by how much it can exceed them on the disk.
const meterEvery = 16 << 20

// receive takes a chunk into an upload, unless the quotas of repo have no room for what there would
// be then.
func (r *Registry) receive(ctx context.Context, repo oci.Repository, up opened, c Chunk) error {
	fits := func(total int64) error { return r.cat.CheckQuota(ctx, repo, max(total, 1)) }
	if c.Size >= 0 {
		if err := fits(up.Size() + c.Size); err != nil {
			return err
		}
		return receive(up, c)
	}
	c.Body = &metered{Reader: c.Body, total: up.Size(), next: up.Size() + meterEvery, fits: fits}
	return receive(up, c)
}

// metered is a body that ends with a refusal once what came does not fit.
type metered struct {
	io.Reader
	total, next int64
	fits        func(total int64) error
}

// Read implements io.Reader.
func (m *metered) Read(p []byte) (int, error) {
	if m.total >= m.next {
		if err := m.fits(m.total); err != nil {
			return 0, err
		}
		m.next = m.total + meterEvery
	}
	n, err := m.Reader.Read(p)
	m.total += int64(n)
	return n, err
}

// hopeless says whether an upload that was broken off for a reason cannot be gone on with.
func hopeless(broken error) bool {
	return errors.Is(broken, blob.ErrNoSpace) || errors.As(broken, new(*rules.Refusal))
}

package catalog

import (
	"context"
	"fmt"
	"time"
)

// Job returns what a long job has written down of itself, and when. ErrNotFound if there
// is nothing.
func (c *Catalog) Job(ctx context.Context, name string) (doc []byte, updated time.Time, err error) {
	var at int64
	if err := c.read.row(ctx, `select doc, updated from jobs where name = $1`, name).Scan(&doc, &at); err != nil {
		return nil, time.Time{}, fmt.Errorf("job %q: %w", name, asKnown(err))
	}
	return doc, fromMicros(&at), nil
}

// PutJob keeps what a long job has to say of itself, in JSON, in place of what was there.
func (c *Catalog) PutJob(ctx context.Context, name string, doc []byte, now time.Time) error {
	err := c.tx(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `insert into jobs (name, doc, updated) values ($1, $2, $3)
			on conflict (name) do update set doc = excluded.doc, updated = excluded.updated`, name, string(doc), now.UnixMicro())
		return err
	})
	if err != nil {
		return fmt.Errorf("put job %q: %w", name, err)
	}
	return nil
}

// DeleteJob forgets a job. Forgetting what is not there is no error.
func (c *Catalog) DeleteJob(ctx context.Context, name string) error {
	err := c.tx(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `delete from jobs where name = $1`, name)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete job %q: %w", name, err)
	}
	return nil
}

// LeaseLife is how long a lease holds after it was last taken or renewed.
const LeaseLife = 2 * time.Minute

// Leases are jobs of this prefix; '/' is the byte behind '.'.
const (
	leasePrefix = "lease."
	leasedText  = `select exists (select 1 from jobs where name > 'lease.' and name < 'lease/' and updated > $1)`
)

func leaseSince(now time.Time) int64 { return now.Add(-LeaseLife).UnixMicro() }

// Lease keeps all blobs from being collected for LeaseLife from now on; called again with
// the same name it renews the lease.
func (c *Catalog) Lease(ctx context.Context, name string, now time.Time) error {
	return c.PutJob(ctx, leasePrefix+name, []byte("{}"), now)
}

// ReleaseAll ends all leases, as in a copy of a catalog, which nobody copies.
func (c *Catalog) ReleaseAll(ctx context.Context) error {
	err := c.tx(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `delete from jobs where name > 'lease.' and name < 'lease/'`)
		return err
	})
	if err != nil {
		return fmt.Errorf("end leases: %w", err)
	}
	return nil
}

// Release ends a lease.
func (c *Catalog) Release(ctx context.Context, name string) error {
	return c.DeleteJob(ctx, leasePrefix+name)
}

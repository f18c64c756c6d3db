package catalog

import (
	"context"
	"fmt"
)

// Setting returns what was kept under key. ErrNotFound if nothing was.
func (c *Catalog) Setting(ctx context.Context, key string) ([]byte, error) {
	var value []byte
	err := c.read.row(ctx, `select value from settings where name = $1`, key).Scan(&value)
	if err != nil {
		return nil, fmt.Errorf("setting %q: %w", key, asKnown(err))
	}
	return value, nil
}

// PutSetting keeps value under key, in place of what was there.
func (c *Catalog) PutSetting(ctx context.Context, key string, value []byte) error {
	if err := c.tx(ctx, func(t *tx) error { return t.putSetting(ctx, key, value) }); err != nil {
		return fmt.Errorf("put setting %q: %w", key, err)
	}
	return nil
}

func (t *tx) putSetting(ctx context.Context, key string, value []byte) error {
	_, err := t.exec(ctx, `insert into settings (name, value) values ($1, $2)
		on conflict (name) do update set value = excluded.value`, key, notNil(value))
	return err
}

// PutSettingOnce keeps value under key unless something is there already, and returns
// what stands then: of many who call it at once, all get the same.
func (c *Catalog) PutSettingOnce(ctx context.Context, key string, value []byte) ([]byte, error) {
	var stored []byte
	err := c.tx(ctx, func(t *tx) error {
		if _, err := t.exec(ctx, `insert into settings (name, value) values ($1, $2)
			on conflict (name) do nothing`, key, notNil(value)); err != nil {
			return err
		}
		return t.row(ctx, `select value from settings where name = $1`, key).Scan(&stored)
	})
	if err != nil {
		return nil, fmt.Errorf("put setting %q: %w", key, err)
	}
	return stored, nil
}

// notNil keeps an empty value from becoming null.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// SwapSetting keeps value under key if old stands there now; a nil old means that nothing does.
// ErrConflict, and nothing changed, if something else does.
func (c *Catalog) SwapSetting(ctx context.Context, key string, old, value []byte) error {
	err := c.tx(ctx, func(t *tx) error {
		var n int64
		var err error
		if old == nil {
			n, err = t.exec(ctx, `insert into settings (name, value) values ($1, $2) on conflict (name) do nothing`, key, notNil(value))
		} else {
			n, err = t.exec(ctx, `update settings set value = $3 where name = $1 and value = $2`, key, old, notNil(value))
		}
		if err == nil && n == 0 {
			return ErrConflict
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("swap setting %q: %w", key, err)
	}
	return nil
}

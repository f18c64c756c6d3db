package memblob

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/oci"
)

// SetAside implements blob.Shelf.
func (s *Store) SetAside(ctx context.Context, d oci.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.blobs[d]
	if !ok {
		return fmt.Errorf("set %s aside: %w", d, blob.ErrNotFound)
	}
	s.used -= int64(len(s.aside[d]))
	s.aside[d] = b
	delete(s.blobs, d)
	delete(s.since, d)
	return nil
}

// PutBack implements blob.Shelf.
func (s *Store) PutBack(ctx context.Context, d oci.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.aside[d]
	if !ok {
		return fmt.Errorf("put %s back: %w", d, blob.ErrNotFound)
	}
	s.used -= int64(len(s.blobs[d]))
	s.blobs[d], s.since[d] = b, time.Now()
	delete(s.aside, d)
	return nil
}

// OpenAside implements blob.Shelf.
func (s *Store) OpenAside(ctx context.Context, d oci.Digest) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.aside[d]
	if !ok {
		return nil, fmt.Errorf("open what was set aside of %s: %w", d, blob.ErrNotFound)
	}
	return reader{bytes.NewReader(b)}, nil
}

func checkRecord(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !blob.RecordName(name) {
		return fmt.Errorf("record %.120q: %w", name, blob.ErrName)
	}
	return nil
}

// Keep implements blob.Records.
func (s *Store) Keep(ctx context.Context, name string, content []byte) error {
	if err := checkRecord(ctx, name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[name] = bytes.Clone(content)
	return nil
}

// Record implements blob.Records.
func (s *Store) Record(ctx context.Context, name string) ([]byte, error) {
	if err := checkRecord(ctx, name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	content, ok := s.records[name]
	if !ok {
		return nil, fmt.Errorf("record %s: %w", name, blob.ErrNotFound)
	}
	return bytes.Clone(content), nil
}

// Names implements blob.Records.
func (s *Store) Names(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.records)), nil
}

// Forget implements blob.Records.
func (s *Store) Forget(ctx context.Context, name string) error {
	if err := checkRecord(ctx, name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, name)
	return nil
}

package blobtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/oci"
)

// testConcurrent pushes, reads and deletes the same few blobs from many goroutines.
func testConcurrent(t *testing.T, p Pair) {
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			b := content(200_000, uint64(200+i%4))
			s := []blob.Store{p.Store, p.Other}[i%2]
			if err := pushAndRead(s, b); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(list(t, p.Store)); n != 4 {
		t.Errorf("List yields %d blobs, want 4", n)
	}
}

func pushAndRead(s blob.Store, b []byte) error {
	u, err := s.Begin(bg, oci.SHA256)
	if err != nil {
		return err
	}
	if _, err := io.Copy(u, bytes.NewReader(b)); err != nil {
		return errors.Join(err, u.Abort(bg))
	}
	if err := u.Commit(bg, sum(b)); err != nil {
		return err
	}
	r, err := s.Open(bg, sum(b), 0)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if !bytes.Equal(got, b) {
		return fmt.Errorf("%d bytes come back, want %d", len(got), len(b))
	}
	return nil
}

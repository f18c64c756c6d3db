package memblob_test

import (
	"context"
	"errors"
	"testing"

	"go.uber.org/goleak"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/blob/blobtest"
	"pratique.dev/pratique/internal/blob/memblob"
	"pratique.dev/pratique/internal/oci"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	fresh := func(*testing.T) blobtest.Pair {
		s := memblob.New()
		return blobtest.Pair{Store: s, Other: s}
	}
	blobtest.Run(t, fresh)
	blobtest.RunFollow(t, fresh)
}

func TestLimit(t *testing.T) {
	s := memblob.New()
	s.Limit = 4
	u, err := s.Begin(context.Background(), oci.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := u.Write([]byte("12345")); n != 4 || !errors.Is(err, blob.ErrNoSpace) {
		t.Errorf("Write of 5 bytes with room for 4 = %d, %v; want 4, ErrNoSpace", n, err)
	}
	if err := u.Abort(context.Background()); err != nil {
		t.Fatal(err)
	}
	u, err = s.Begin(context.Background(), oci.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := u.Write([]byte("1234")); n != 4 || err != nil {
		t.Errorf("Write after the abort of a full upload = %d, %v; want the room back", n, err)
	}
}

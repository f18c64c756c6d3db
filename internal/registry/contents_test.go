package registry

import (
	"context"
	"errors"
	"testing"
	"time"

	"pratique.dev/pratique/internal/blob/memblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
)

// TestContents: many share, one claims, and each waits for the other's end or stands back.
func TestContents(t *testing.T) {
	var c contents
	d := sum("x")
	leave1, err := c.share(bg, d)
	if err != nil {
		t.Fatal(err)
	}
	leave2, err := c.share(bg, d)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.claim(d); ok {
		t.Fatal("claimed while it is shared by two")
	}
	leave1()
	if _, ok := c.claim(d); ok {
		t.Fatal("claimed while it is shared by one")
	}
	if other, ok := c.claim(sum("y")); !ok {
		t.Fatal("another digest is in the way")
	} else {
		other()
	}
	leave2()
	end, ok := c.claim(d)
	if !ok {
		t.Fatal("not claimed though nobody holds it")
	}
	if _, ok := c.claim(d); ok {
		t.Fatal("claimed twice")
	}
	gone, cancel := context.WithCancel(bg)
	cancel()
	if _, err := c.share(gone, d); !errors.Is(err, context.Canceled) {
		t.Fatalf("share of a client that has left = %v", err)
	}
	shared := make(chan error)
	go func() {
		leave, err := c.share(bg, d)
		if err == nil {
			leave()
		}
		shared <- err
	}()
	end()
	if err := <-shared; err != nil {
		t.Fatal(err)
	}
	if len(c.held) > 0 {
		t.Errorf("%d digests are still held", len(c.held))
	}
}

// TestCollectStandsBack: what is being pushed at the moment is not collected, a second
// collection is refused, and a backup's lease keeps blobs.
func TestCollectStandsBack(t *testing.T) {
	at := now
	clock := func() time.Time { return at }
	cat := catalogtest.Open(t, catalog.WithClock(clock))
	store := memblob.New()
	store.Now = clock
	reg := New(cat, store, Options{Now: clock})
	d := push(t, reg, app, "content")
	stray := writeStray(t, store, "stray")
	at = at.Add(2 * DefaultGrace)

	there := func(d oci.Digest) bool {
		_, err := store.Stat(bg, d)
		return err == nil
	}
	collect := func() Collection {
		t.Helper()
		c, err := reg.Collect(bg, CollectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	dry, err := reg.Collect(bg, CollectOptions{DryRun: true})
	if err != nil || dry.Links != 1 || dry.Blobs != 1 || dry.Files != 1 || dry.Bytes != int64(len("content")+len("stray")) || !there(d) || !there(stray) {
		t.Fatalf("dry run: %+v, %v", dry, err)
	}
	leaveBlob, err := reg.contents.share(bg, d)
	if err != nil {
		t.Fatal(err)
	}
	leaveStray, err := reg.contents.share(bg, stray)
	if err != nil {
		t.Fatal(err)
	}
	if c := collect(); c.Blobs+c.Files != 0 || !there(d) || !there(stray) {
		t.Fatalf("collected while it is pushed: %+v", c)
	}
	leaveStray()
	if c := collect(); c.Files != 1 || there(stray) {
		t.Fatalf("not collected: %+v", c)
	}
	leaveBlob()
	if err := cat.Lease(bg, "backup", at); err != nil {
		t.Fatal(err)
	}
	if c := collect(); c.Held == "" || !there(d) {
		t.Fatalf("collected while a backup copies it: %+v", c)
	}
	at = at.Add(catalog.LeaseLife)
	reg.collecting <- struct{}{}
	if _, err := reg.Collect(bg, CollectOptions{}); !errors.Is(err, ErrCollecting) {
		t.Fatalf("a second collection: %v", err)
	}
	<-reg.collecting
	if c := collect(); c.Blobs != 1 || c.Bytes != int64(len("content")) || there(d) {
		t.Fatalf("not collected: %+v", c)
	}
}

// TestManifestAsBlob: a manifest that was pushed as a blob too keeps its bytes when that is collected.
func TestManifestAsBlob(t *testing.T) {
	at := now
	clock := func() time.Time { return at }
	store := memblob.New()
	store.Now = clock
	reg := New(catalogtest.Open(t, catalog.WithClock(clock)), store, Options{Now: clock})
	m := indexOf(nil)
	if err := reg.PutBlob(bg, app, chunk(0, string(m.Raw)), m.Digest); err != nil {
		t.Fatal(err)
	}
	if _, err := reg.PutManifest(bg, pusher, Push{Repo: app, Reference: oci.Reference{Tag: "v1"}, Raw: m.Raw}); err != nil {
		t.Fatal(err)
	}
	at = at.Add(2 * DefaultGrace)
	c, err := reg.Collect(bg, CollectOptions{})
	if err != nil || c.Blobs != 1 || c.Bytes != 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	if _, err := store.Stat(bg, m.Digest); err != nil {
		t.Fatal(err)
	}
}

// writeStray leaves bytes in the store that the catalog does not know, as a crash does.
func writeStray(t *testing.T, s *memblob.Store, content string) oci.Digest {
	t.Helper()
	up, err := s.Begin(bg, oci.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := up.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := up.Commit(bg, sum(content)); err != nil {
		t.Fatal(err)
	}
	return sum(content)
}

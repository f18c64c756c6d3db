package upkeep

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

func backUp(t *testing.T, h *house, to string, o BackupOptions) Generation {
	t.Helper()
	g, err := Backup(bg, h.Data, to, o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// ticks is a clock that shows another second each time, to whoever asks.
func ticks() func() time.Time {
	start := time.Date(2026, 11, 24, 4, 0, 0, 0, time.UTC)
	var n atomic.Int64
	return func() time.Time { return start.Add(time.Duration(n.Add(1)) * time.Second) }
}

// inBackup is where a backup folder has a blob.
func inBackup(to string, d oci.Digest) string {
	return filepath.Join(to, "blobs", string(d.Algorithm()), d.Hex()[:2], d.Hex())
}

// TestBackup backs a running registry up twice, destroys it, and brings both states back.
func TestBackup(t *testing.T) {
	h := build(t, t.TempDir())
	to, now := filepath.Join(t.TempDir(), "backup"), ticks()
	h.index(t, "team/app", "all", h.image(t, "team/app", "v1", "one"))
	before := standing(t, h.Cat)
	first := backUp(t, h, to, BackupOptions{Now: now})
	if first.Blobs != 2 || first.Copied != 2 || first.Manifests != 2 || len(first.Problems) > 0 {
		t.Errorf("first: %+v", first)
	}
	h.image(t, "team/app", "v1", "two")
	second := backUp(t, h, to, BackupOptions{Now: now})
	if second.Blobs != 4 || second.Copied != 2 || second.CopiedBytes != int64(len("two config")+len("two layer")) {
		t.Errorf("second: %+v", second)
	}
	after := standing(t, h.Cat)
	if err := errors.Join(h.Close(), os.RemoveAll(h.Dir)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		generation string
		want       []string
		blobs      int
	}{{"", after, 4}, {first.Name, before, 2}, {second.Name, after, 4}} {
		dir := filepath.Join(t.TempDir(), "data")
		got, err := Restore(bg, to, dir, RestoreOptions{Generation: tc.generation})
		if err != nil || got.Blobs != tc.blobs || got.Manifests == 0 || len(got.Problems) > 0 {
			t.Fatalf("restored %+v, %v", got, err)
		}
		r := build(t, dir)
		same(t, standing(t, r.Cat), tc.want)
		r.whole(t, "team/app:v1", "team/app:all")
		if c := fsck(t, r, FsckOptions{}); len(c.Problems) > 0 || c.Resumed {
			t.Errorf("after the restore: %+v", c)
		}
		if _, err := r.Cat.DropBlobs(bg, nil, time.Now(), time.Now()); err != nil {
			t.Errorf("the backup's lease was restored: %v", err)
		}
		// The journal goes on from what was restored.
		writeJournal(t, journalOf(t, r))
		if r, _ = rebuild(t, r); len(standing(t, r.Cat)) != len(tc.want) {
			t.Error("what was restored cannot be rebuilt")
		}
	}
}

// TestBackupBrokenOff: a backup that was broken off is no generation, and what it has
// copied is not copied again. While it copies, no blobs are collected.
func TestBackupBrokenOff(t *testing.T) {
	h := build(t, t.TempDir())
	to, now := t.TempDir(), ticks()
	for _, seed := range []string{"a", "b", "c"} {
		h.image(t, "team/app", seed, seed)
	}
	ctx, cancel := context.WithCancel(bg)
	_, err := Backup(ctx, h.Data, to, BackupOptions{Now: now, Progress: func(done, _ int64) {
		if _, err := h.Cat.DropBlobs(bg, nil, now(), now()); !errors.Is(err, catalog.ErrLeased) {
			t.Errorf("blobs may be collected during a backup: %v", err)
		}
		if done > 20 {
			cancel()
		}
	}})
	cancel()
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("backup = %v", err)
	}
	if _, err := h.Cat.DropBlobs(bg, nil, now(), now()); err != nil {
		t.Errorf("the lease was not given back: %v", err)
	}
	if _, err := Restore(bg, to, filepath.Join(t.TempDir(), "data"), RestoreOptions{}); err == nil || !strings.Contains(err.Error(), "no backup that was finished") {
		t.Errorf("restored from half a backup: %v", err)
	}
	if g := backUp(t, h, to, BackupOptions{Now: now}); g.Blobs != 6 || g.Copied == 0 || g.Copied == 6 {
		t.Errorf("the next backup: %+v", g)
	}
	if left, _ := filepath.Glob(filepath.Join(to, generationsDir, begun+"*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestBackupOfDamage: what the registry or the backup does not have whole is named, is
// never restored as if it were, and comes with the next push or backup.
func TestBackupOfDamage(t *testing.T) {
	h := build(t, t.TempDir())
	to, now := t.TempDir(), ticks()
	image := h.image(t, "team/app", "v1", "one")
	h.image(t, "team/app", "v2", "two")
	layer, other := sum("one layer"), sum("two layer")
	spoil(t, h.file(layer))
	g := backUp(t, h, to, BackupOptions{Now: now})
	if len(g.Problems) != 1 || g.Problems[0].Digest != layer.String() || len(g.Problems[0].Images) != 1 {
		t.Fatalf("backup of a damaged registry: %+v", g)
	}
	h.image(t, "team/app", "v1", "one") // mends the registry
	spoil(t, inBackup(to, other))
	if g := backUp(t, h, to, BackupOptions{Now: now}); len(g.Problems) > 0 || g.Copied != 1 {
		t.Fatalf("backup of a mended registry: %+v", g)
	}
	dir := filepath.Join(t.TempDir(), "data")
	got, err := Restore(bg, to, dir, RestoreOptions{})
	if err != nil || len(got.Problems) != 1 || got.Problems[0].Digest != other.String() {
		t.Fatalf("restore from a damaged backup: %+v, %v", got, err)
	}
	r := build(t, dir)
	r.whole(t, "team/app@"+image.String())
	if _, err := r.reg.StatBlob(bg, pusher, repo("team/app"), other); err == nil {
		t.Error("what the backup does not have whole is said to be there")
	}
	if g := backUp(t, h, to, BackupOptions{Now: now, Verify: true}); g.Copied != 1 {
		t.Fatalf("backup that verifies: %+v", g)
	}
	if got, err := Restore(bg, to, filepath.Join(t.TempDir(), "data"), RestoreOptions{}); err != nil || len(got.Problems) > 0 {
		t.Fatalf("restore: %+v, %v", got, err)
	}
	spoil(t, filepath.Join(to, generationsDir, g.Name, CatalogFile))
	if _, err := Restore(bg, to, filepath.Join(t.TempDir(), "data"), RestoreOptions{Generation: g.Name}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("restored a damaged catalog: %v", err)
	}
}

// TestRestoreRefuses: only an empty folder is restored into, or one that a restore was
// broken off in, on which no registry starts.
func TestRestoreRefuses(t *testing.T) {
	h := build(t, t.TempDir())
	to := t.TempDir()
	h.image(t, "team/app", "v1", "one")
	h.image(t, "team/app", "v2", "two")
	backUp(t, h, to, BackupOptions{})
	if _, err := Backup(bg, h.Data, h.Dir, BackupOptions{}); err == nil {
		t.Error("backed up into itself")
	}
	if _, err := Restore(bg, to, h.Dir, RestoreOptions{}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("restored over a registry: %v", err)
	}
	if _, err := Restore(bg, to, t.TempDir(), RestoreOptions{Generation: "x"}); err == nil {
		t.Error("restored a generation that there is not")
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(bg)
	_, err := Restore(ctx, to, dir, RestoreOptions{Progress: func(int64, int64) { cancel() }})
	cancel()
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("restore = %v", err)
	}
	if _, err := Lock(dir); err == nil || !strings.Contains(err.Error(), "broken off") {
		t.Errorf("a registry starts on half a restore: %v", err)
	}
	got, err := Restore(bg, to, dir, RestoreOptions{})
	if err != nil || got.Blobs != 4 || got.Bytes >= got.Generation.Bytes {
		t.Fatalf("restored %+v, %v", got, err)
	}
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	build(t, dir).whole(t, "team/app:v1", "team/app:v2")
}

// TestBackupsAtOnce: generations have names of their own, however soon they follow each other.
func TestBackupsAtOnce(t *testing.T) {
	h := build(t, t.TempDir())
	to := t.TempDir()
	h.image(t, "team/app", "v1", "one")
	at := time.Date(2026, 11, 24, 4, 0, 0, 0, time.UTC)
	for range 3 {
		backUp(t, h, to, BackupOptions{Now: func() time.Time { return at }})
	}
	if all, err := Generations(to); err != nil || len(all) != 3 {
		t.Errorf("%d generations of three, %v", len(all), err)
	}
}

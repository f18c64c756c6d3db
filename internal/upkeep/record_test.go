package upkeep

import (
	"path/filepath"
	"testing"

	"pratique.dev/pratique/internal/catalog"
)

// TestRecords: what is done to a data folder by command is in its audit log.
func TestRecords(t *testing.T) {
	h := build(t, t.TempDir())
	h.image(t, "app", "v1", "one")
	writeJournal(t, journalOf(t, h))
	told := func(h *house, action string, want int) {
		t.Helper()
		for must(h.Cat.ChainAudit(bg, 100)) > 0 {
		}
		list, _, err := h.Cat.Audit(bg, catalog.AuditQuery{Action: action}, 0, 0)
		if err != nil || len(list) != want {
			t.Errorf("%s: %+v, %v", action, list, err)
		}
	}
	fsck(t, h, FsckOptions{})
	told(h, "fsck-repair", 0) // a check alone changes nothing
	fsck(t, h, FsckOptions{Repair: true})
	told(h, "fsck-repair", 1)
	to, dir := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "data")
	backUp(t, h, to, BackupOptions{})
	must(Restore(bg, to, dir, RestoreOptions{}))
	r := build(t, dir)
	told(r, "fsck-repair", 1)
	told(r, "restore-backup", 1)
	again, _ := rebuild(t, h)
	told(again, "rebuild", 1)
	told(again, "fsck-repair", 0) // the log goes with the catalog
}

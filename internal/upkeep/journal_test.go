package upkeep

import "testing"

// TestJournalCompletes: a push that was killed between the catalog and the store is whole
// once it is in the journal.
func TestJournalCompletes(t *testing.T) {
	h := build(t, t.TempDir())
	image := h.image(t, "app", "1", "a")
	if err := h.Store.Delete(bg, image); err != nil {
		t.Fatal(err)
	}
	writeJournal(t, journalOf(t, h))
	got, err := Fsck(bg, h.Cat, h.Store, FsckOptions{})
	if err != nil || len(got.Problems) > 0 {
		t.Errorf("problems %+v, %v", got.Problems, err)
	}
	h, _ = rebuild(t, h)
	h.whole(t, "app:1")
}

package upkeep

import (
	"errors"
	"testing"

	"pratique.dev/pratique/internal/blob"
)

// TestJournalCompletes: the bytes of a manifest are in the store once it is in the journal.
func TestJournalCompletes(t *testing.T) {
	h := build(t, t.TempDir())
	image := h.image(t, "app", "1", "a")
	if _, err := h.Store.Stat(bg, image); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	writeJournal(t, journalOf(t, h))
	got, err := Fsck(bg, h.Cat, h.Store, FsckOptions{})
	if err != nil || len(got.Problems) > 0 {
		t.Errorf("problems %+v, %v", got.Problems, err)
	}
	h, _ = rebuild(t, h)
	h.whole(t, "app:1")
}

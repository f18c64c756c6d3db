package upkeep

import (
	"testing"

	"github.com/klauspost/compress/zstd"

	"pratique.dev/pratique/internal/blob/memblob"
)

// FuzzJournal reads a journal of a store that somebody else may have written to: whatever is in
// it, reading and replaying end, and nothing stands that is not named.
func FuzzJournal(f *testing.F) {
	zip, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	packed := func(text string) []byte { return zip.EncodeAll([]byte(text), nil) }
	const push = `{"id":1,"repo":"team/app","kind":"push","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","type":"application/vnd.oci.image.manifest.v1+json","at":"2026-11-24T04:00:00Z","by":"ann"}`
	f.Add(segmentName("e", 1, 2), packed(push+"\n"+push+"\n"))
	f.Add(snapshotName("e", 1, "00000001"), packed(push+"\n"))
	f.Add(snapshotName("e", 1, endPart), []byte("1"))
	f.Add(snapshotName("e", -1, endPart), []byte("x"))
	f.Add("j-e-zz-1", []byte("no zstd"))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		store := memblob.New()
		if store.Keep(bg, name, content) != nil {
			return // no record's name
		}
		if err := store.Keep(bg, segmentName("e", 1, 1), packed(push)); err != nil {
			t.Fatal(err)
		}
		j, err := readJournal(bg, store)
		if err != nil {
			return
		}
		for _, h := range replay(j) {
			if h.repo == "" && h.digest == "" && len(h.tags) > 0 {
				t.Errorf("tags of nothing: %+v", h)
			}
		}
		for i := 1; i < len(j.moves); i++ {
			if j.moves[i-1].ID >= j.moves[i].ID {
				t.Fatalf("moves are out of order: %d, %d", j.moves[i-1].ID, j.moves[i].ID)
			}
		}
	})
}

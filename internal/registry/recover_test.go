package registry

import (
	"testing"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
)

// TestRecover: a kill between the end of an upload's bytes and that of its row leaves no
// upload that cannot be continued.
func TestRecover(t *testing.T) {
	cat, store := catalogtest.Open(t), fileStore(t, t.TempDir())
	r := New(cat, store, Options{})
	finished, dropped, whole := begin(t, r), begin(t, r), begin(t, r)
	for id, end := range map[string]func(blob.Upload) error{
		finished: func(u blob.Upload) error { return u.Commit(bg, sum("so far")) },
		dropped:  func(u blob.Upload) error { return u.Abort(bg) },
		whole:    func(u blob.Upload) error { _, err := u.Save(bg); return err },
	} {
		if _, err := r.Append(bg, app, id, chunk(0, "so far")); err != nil {
			t.Fatal(err)
		}
		row, err := cat.Upload(bg, app, id)
		if err != nil {
			t.Fatal(err)
		}
		up, err := store.Resume(bg, row.State)
		if err != nil {
			t.Fatal(err)
		}
		if err := end(up); err != nil {
			t.Fatal(err)
		}
	}
	if err := New(cat, store, Options{}).Recover(bg); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{finished, dropped} {
		_, err := r.UploadStatus(bg, app, id)
		wantCode(t, "an upload without bytes", err, oci.CodeBlobUploadUnknown)
	}
	if st, err := r.Append(bg, app, whole, chunk(6, " and on")); err != nil || st.Offset != 13 {
		t.Errorf("an upload that goes on: %+v, %v", st, err)
	}
}

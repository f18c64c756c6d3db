package registry

import (
	"errors"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/blob/memblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/rules"
)

// TestRestoreByRules: what is deleted can be had back for as long as the rules say.
func TestRestoreByRules(t *testing.T) {
	cat := catalogtest.Open(t)
	r := New(cat, memblob.New(), Options{})
	for _, tc := range []struct{ document, want string }{
		{"", "7d"}, {"restore: 1h", "1h"}, {"restore: 0s", "0s"},
	} {
		if _, err := cat.PutRules(bg, []byte(tc.document), catalog.Act{}); err != nil {
			t.Fatal(err)
		}
		if got := rules.Duration(r.act(pusher).Restore).String(); got != tc.want {
			t.Errorf("%q: %s, want %s", tc.document, got, tc.want)
		}
	}
}

// TestQuotaRefusesUploads: a repository whose quota is used up takes no upload; one that would
// exceed it is refused at its end, and leaves nothing to go on with.
func TestQuotaRefusesUploads(t *testing.T) {
	cat := catalogtest.Open(t)
	r := New(cat, memblob.New(), Options{})
	if _, err := cat.PutRules(bg, []byte(`quotas: [{prefix: "team/", bytes: 10}]`), catalog.Act{}); err != nil {
		t.Fatal(err)
	}
	push(t, r, app, "12345")
	id := begin(t, r)
	err := r.FinishUpload(bg, app, id, chunk(0, "abcdef"), sum("abcdef"))
	wantCode(t, "finish", err, oci.CodeDenied)
	if !strings.Contains(err.Error(), `"team/"`) || !strings.Contains(err.Error(), "5B of 10B") {
		t.Errorf("it says %q", err)
	}
	if _, err := r.UploadStatus(bg, app, id); !errors.Is(err, &oci.Error{Code: oci.CodeBlobUploadUnknown}) {
		t.Errorf("the upload: %v", err)
	}
	if _, err := cat.Blob(bg, app, sum("abcdef")); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("the blob: %v", err)
	}
	wantCode(t, "single request", r.PutBlob(bg, app, chunk(0, "abcdef"), sum("abcdef")), oci.CodeDenied)
	push(t, r, app, "67890")
	_, err = r.BeginUpload(bg, pusher, app, oci.SHA256)
	wantCode(t, "begin", err, oci.CodeDenied)
	wantCode(t, "single request", r.PutBlob(bg, app, chunk(0, "x"), sum("x")), oci.CodeDenied)
	if _, err = r.BeginUpload(bg, pusher, mine, oci.SHA256); err != nil {
		t.Errorf("another repository: %v", err)
	}
}

// TestLockRefusesUploads: an upload whose repository was locked meanwhile is over, and counts no
// more among those that are open.
func TestLockRefusesUploads(t *testing.T) {
	cat := catalogtest.Open(t)
	r := New(cat, memblob.New(), Options{MaxOpenUploads: 1})
	push(t, r, app, "12345")
	id := begin(t, r)
	if _, err := r.Lock(bg, pusher, app, oci.Reference{}, catalog.LockWrite, 0); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "finish", r.FinishUpload(bg, app, id, chunk(0, "abcdef"), sum("abcdef")), oci.CodeDenied)
	_, err := r.UploadStatus(bg, app, id)
	wantCode(t, "the upload", err, oci.CodeBlobUploadUnknown)
	if _, err := r.BeginUpload(bg, pusher, mine, oci.SHA256); err != nil {
		t.Errorf("the next upload: %v", err)
	}
}

// zeros is a body without an end.
type zeros struct{ n int64 }

func (z *zeros) Read(p []byte) (int, error) {
	clear(p)
	z.n += int64(len(p))
	return len(p), nil
}

// TestQuotaEndsStreams: an upload that exceeds its quota is ended while it comes in, whether it says how
// large it is or not.
func TestQuotaEndsStreams(t *testing.T) {
	cat := catalogtest.Open(t)
	r := New(cat, memblob.New(), Options{})
	if _, err := cat.PutRules(bg, []byte(`quotas: [{prefix: "team/", bytes: 20MiB}]`), catalog.Act{}); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int64{"a size that does not fit": 21 << 20, "no size": -1} {
		id, body := begin(t, r), &zeros{}
		_, err := r.Append(bg, app, id, Chunk{At: 0, Size: size, Body: body})
		wantCode(t, name, err, oci.CodeDenied)
		if size > 0 && body.n > 0 || body.n > 2*meterEvery+1<<20 {
			t.Errorf("%s: %d bytes were read", name, body.n)
		}
		if _, err := r.UploadStatus(bg, app, id); !errors.Is(err, &oci.Error{Code: oci.CodeBlobUploadUnknown}) {
			t.Errorf("%s: the upload: %v", name, err)
		}
	}
	push(t, r, app, "small")
}

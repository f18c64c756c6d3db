package registry

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/blob/memblob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
)

// TestTrashServesNobody: what was deleted is neither pulled nor mounted from, not even by who
// may pull what is held back, and is both again once it is restored.
func TestTrashServesNobody(t *testing.T) {
	cat := catalogtest.Open(t)
	r := New(cat, memblob.New(), Options{Judge: decide(cat, policy.Verdict{Decision: policy.Allow})})
	everybody := allowed(access.Permissions...)
	other := must(oci.ParseRepository("team/other"))
	p := putImage(t, r, app, "1", "layer")
	if ok, err := r.Mount(bg, everybody, other, app, sum("config")); !ok || err != nil {
		t.Fatalf("mount from an image that is there: %v, %v", ok, err)
	}
	if err := r.DeleteManifest(bg, everybody, app, oci.Reference{Digest: p.Digest}, catalog.Condition{}); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []oci.Reference{{Tag: "1"}, {Digest: p.Digest}} {
		_, err := r.Manifest(bg, everybody, app, ref)
		wantCode(t, "Manifest of the trash", err, oci.CodeManifestUnknown)
		_, err = r.StatManifest(bg, app, ref)
		wantCode(t, "StatManifest of the trash", err, oci.CodeManifestUnknown)
	}
	for _, from := range []oci.Repository{app, {}} {
		if ok, err := r.Mount(bg, everybody, other, from, sum("layer")); ok || err != nil {
			t.Errorf("mount of what only the trash needs from %q: %v, %v", from, ok, err)
		}
	}
	_, err := r.UndoTag(bg, everybody, app, "1")
	wantCode(t, "UndoTag of what is in the trash", err, oci.CodeManifestUnknown)
	if !strings.Contains(err.Error(), "pratique trash restore "+app.String()+"@"+p.Digest.String()) {
		t.Errorf("undo does not say how to go on: %v", err)
	}
	got, err := r.Restore(bg, everybody, app, p.Digest)
	if err != nil || got.Decision != policy.Allow || !slices.Equal(got.Tags, []string{"1"}) || got.Left != nil {
		t.Fatalf("Restore = %+v, %v", got, err)
	}
	if _, err := r.Manifest(bg, pusher, app, oci.Reference{Tag: "1"}); err != nil {
		t.Error(err)
	}
	if ok, err := r.Mount(bg, everybody, other, app, sum("layer")); !ok || err != nil {
		t.Errorf("mount from what was restored: %v, %v", ok, err)
	}
	_, err = r.Restore(bg, everybody, app, p.Digest)
	wantCode(t, "Restore again", err, oci.CodeManifestUnknown)
	wantCode(t, "Purge of what is not in the trash", r.Purge(bg, everybody, app, p.Digest), oci.CodeManifestUnknown)
	wantCode(t, "Purge in no repository", r.Purge(bg, everybody, must(oci.ParseRepository("none")), p.Digest), oci.CodeNameUnknown)
}

// TestReadLock: what is locked against reading is refused to everybody, with what is locked
// and the command that unlocks it; another manifest that names the same blobs still serves them.
func TestReadLock(t *testing.T) {
	everybody := allowed(access.Permissions...)
	for _, decision := range []policy.Decision{policy.Allow, policy.Quarantine, policy.Pending} {
		cat := catalogtest.Open(t)
		r := New(cat, memblob.New(), Options{Judge: decide(cat, policy.Verdict{Decision: decision})})
		p := putImage(t, r, app, "1", "layer")
		for _, tc := range []struct {
			ref   oci.Reference
			blobs bool // are locked with it
		}{{oci.Reference{Tag: "1"}, false}, {oci.Reference{Digest: p.Digest}, true}, {oci.Reference{}, true}} {
			locked := (&catalog.Locked{Repo: app, Ref: tc.ref}).What()
			if _, err := r.Lock(bg, pusher, app, tc.ref, catalog.LockRead, 0); err != nil {
				t.Fatal(err)
			}
			_, err := r.Manifest(bg, everybody, app, oci.Reference{Tag: "1"})
			wantCode(t, "Manifest", err, oci.CodeDenied)
			var e *oci.Error
			if errors.As(err, &e) {
				d, ok := e.Detail.(LockRefusal)
				if !ok || d.Locked != locked || d.ReadOn.Command != "pratique unlock "+locked+" --read" || !strings.Contains(e.Message, d.ReadOn.Command) {
					t.Errorf("with %s locked: %s, %+v", locked, e.Message, e.Detail)
				}
			}
			_, err = readBlob(t, r, everybody, app, sum("layer"))
			if !tc.blobs && err != nil {
				t.Errorf("blob with %s locked: %v", locked, err)
			}
			if tc.blobs {
				wantCode(t, "Blob with "+locked+" locked", err, oci.CodeDenied)
				if ok, err := r.Mount(bg, everybody, must(oci.ParseRepository("team/other")), app, sum("layer")); ok || err != nil {
					t.Errorf("mount with %s locked: %v, %v", locked, ok, err)
				}
			}
			if _, err := r.Lock(bg, pusher, app, tc.ref, 0, catalog.LockRead); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Lock(bg, pusher, app, oci.Reference{Digest: p.Digest}, catalog.LockRead, 0); err != nil {
			t.Fatal(err)
		}
		push(t, r, app, "config")
		push(t, r, app, "more")
		putImage(t, r, app, "2", "more")
		if _, err := readBlob(t, r, everybody, app, sum("config")); err != nil {
			t.Errorf("a blob that another manifest names: %v", err)
		}
		_, err := r.Lock(bg, pusher, app, oci.Reference{Tag: "none"}, catalog.LockRead, 0)
		wantCode(t, "Lock of no tag", err, oci.CodeManifestUnknown)
	}
}

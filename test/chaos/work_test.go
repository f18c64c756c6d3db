package chaos

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// work does one thing after the other until the server is gone; then the error is
// errKilled. Any other error is a fault of the server's.
func (w *worker) work(s *server) error {
	for {
		if err := w.step(s); err != nil {
			return err
		}
	}
}

// steps are what workers do, as often as they stand here.
var steps = []func(*worker, *server) error{
	(*worker).pushImage, (*worker).pushImage, (*worker).pushImage, (*worker).pushImage,
	(*worker).chunk, (*worker).chunk, (*worker).chunk, (*worker).chunk,
	(*worker).mount, (*worker).mount,
	(*worker).pushIndex, (*worker).pushReferrer, (*worker).moveTag, (*worker).moveTag,
	(*worker).deleteTag, (*worker).deleteManifest, (*worker).deleteBlob, (*worker).cancel, (*worker).pullOne, (*worker).pushAgain,
	(*worker).restore,
}

func (w *worker) step(s *server) error {
	return steps[w.rng.IntN(len(steps))](w, s)
}

// request sends one. want are the statuses that are no fault.
func (w *worker) request(s *server, method, path string, body []byte, header map[string]string, want ...int) (answer, error) {
	a, err := s.do(method, path, body, header)
	if err != nil {
		w.note("%s %.120s: %v", method, path, err)
		return a, errKilled
	}
	w.note("%s %.120s: %d", method, path, a.code)
	if !slices.Contains(want, a.code) {
		return a, fmt.Errorf("%s: %s %s: %s, want %v", w.repo, method, path, a, want)
	}
	w.acked++
	return a, nil
}

func (w *worker) v2(format string, args ...any) string {
	return "/v2/" + w.repo + "/" + fmt.Sprintf(format, args...)
}

// putBlob pushes a blob in one request of its own, or in two, as chance wants.
func (w *worker) putBlob(s *server, body []byte) error {
	d := digestOf(body)
	b := w.blob(d, len(body))
	begun := time.Now()
	var err error
	if w.rng.IntN(2) == 0 {
		err = w.putWhole(s, w.v2("blobs/uploads/?digest=%s", d), http.MethodPost, body, b)
	} else {
		var a answer
		if a, err = w.request(s, http.MethodPost, w.v2("blobs/uploads/"), nil, nil, http.StatusAccepted); err != nil {
			return err
		}
		err = w.putWhole(s, with(a.location(), "digest="+d), http.MethodPut, body, b)
	}
	if err != nil {
		return err
	}
	b.fate, b.touched = present, begun
	w.shared.put(offer{w.repo, d, len(body)})
	return nil
}

func (w *worker) putWhole(s *server, path, method string, body []byte, b *blob) error {
	if b.fate == absent {
		b.fate = unknown
	}
	_, err := w.request(s, method, path, body, map[string]string{"Content-Type": "application/octet-stream"}, http.StatusCreated)
	return err
}

// putManifest puts a manifest under a tag, or by its digest where tag is empty.
func (w *worker) putManifest(s *server, d string, p *pushed, tag string) error {
	ref, before := d, p.fate
	if tag != "" {
		ref = tag
		w.names(tag, append(w.possible(tag), d)...)
	}
	if before == absent {
		p.fate = unknown
	}
	_, err := w.request(s, http.MethodPut, w.v2("manifests/%s", ref), p.raw, map[string]string{"Content-Type": p.mediaType}, http.StatusCreated)
	if err != nil {
		return err
	}
	p.fate = present
	for _, c := range p.children {
		w.manifests[c].isChild = true
	}
	if tag != "" {
		w.names(tag, d)
	}
	return nil
}

func (w *worker) anyTag() string { return fmt.Sprintf("t%d", w.rng.IntN(40)) }

// size is that of a layer: small mostly, sometimes many buffers long.
func (w *worker) size() int {
	if w.rng.IntN(12) == 0 {
		return 1<<20 + w.rng.IntN(1<<20)
	}
	return 1 + w.rng.IntN(20_000)
}

// pushImage pushes the base, which all push, a layer and a config, and names them.
func (w *worker) pushImage(s *server) error {
	top := layer(w.rng, w.size())
	base := w.shared.base
	cfg := config(base, top)
	// As clients do: what is said to be there is not sent.
	a, err := w.request(s, http.MethodHead, w.v2("blobs/%s", digestOf(base)), nil, nil, http.StatusOK, http.StatusNotFound)
	if err != nil {
		return err
	}
	if b := w.blob(digestOf(base), len(base)); a.code == http.StatusNotFound {
		if b.fate == present && !w.mayBeGone(digestOf(base)) {
			return fmt.Errorf("%s: the base layer was acknowledged and is gone", w.repo)
		}
		b.fate = absent
		if err := w.putBlob(s, base); err != nil {
			return err
		}
	} else {
		b.fate, b.touched = present, time.Now()
	}
	for _, body := range [][]byte{top, cfg} {
		if err := w.putBlob(s, body); err != nil {
			return err
		}
	}
	c := describe(configType, cfg)
	d, p := w.manifest(imageType, manifest{MediaType: imageType, Config: &c, Layers: []descriptor{describe(layerType, base), describe(layerType, top)}})
	tag := w.anyTag()
	if w.rng.IntN(4) == 0 {
		tag = ""
	}
	return w.putManifest(s, d, p, tag)
}

func (w *worker) pushIndex(s *server) error {
	images := w.held(func(p *pushed) bool { return p.mediaType == imageType })
	if len(images) < 2 {
		return w.pushImage(s)
	}
	var list []descriptor
	for range 2 {
		raw := w.manifests[images[w.rng.IntN(len(images))]].raw
		list = append(list, describe(imageType, raw))
	}
	d, p := w.manifest(indexType, manifest{MediaType: indexType, Manifests: list})
	return w.putManifest(s, d, p, w.anyTag())
}

// pushReferrer puts a document beside an image.
func (w *worker) pushReferrer(s *server) error {
	images := w.held(func(p *pushed) bool { return p.mediaType == imageType })
	if len(images) == 0 {
		return w.pushImage(s)
	}
	empty := []byte("{}")
	if err := w.putBlob(s, empty); err != nil {
		return err
	}
	subject := describe(imageType, w.manifests[images[w.rng.IntN(len(images))]].raw)
	c := describe(emptyType, empty)
	d, p := w.manifest(imageType, manifest{MediaType: imageType, ArtifactType: "application/vnd.example.note", Config: &c,
		Layers: []descriptor{c}, Subject: &subject})
	return w.putManifest(s, d, p, "")
}

func (w *worker) moveTag(s *server) error {
	all := w.held(func(*pushed) bool { return true })
	if len(all) == 0 {
		return w.pushImage(s)
	}
	d := all[w.rng.IntN(len(all))]
	return w.putManifest(s, d, w.manifests[d], w.anyTag())
}

func (w *worker) deleteTag(s *server) error {
	tags := w.tagNames()
	if len(tags) == 0 {
		return nil
	}
	tag := tags[w.rng.IntN(len(tags))]
	w.names(tag, append(w.possible(tag), "")...)
	if _, err := w.request(s, http.MethodDelete, w.v2("manifests/%s", tag), nil, nil, http.StatusAccepted); err != nil {
		return err
	}
	w.names(tag, "")
	return nil
}

// deleteManifest deletes what is part of no index.
func (w *worker) deleteManifest(s *server) error {
	all := w.held(func(p *pushed) bool { return !p.isChild })
	if len(all) < 5 {
		return nil
	}
	d := all[w.rng.IntN(len(all))]
	w.gone(d, true)
	if _, err := w.request(s, http.MethodDelete, w.v2("manifests/%s", d), nil, nil, http.StatusAccepted); err != nil {
		return err
	}
	w.gone(d, false)
	return nil
}

// pushAgain pushes an image that was deleted and may lie in the trash, if its blobs are
// still there.
func (w *worker) pushAgain(s *server) error {
	var gone []string
	for _, d := range w.order {
		if p := w.manifests[d]; p.fate == absent && len(p.blobs) > 0 {
			gone = append(gone, d)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	d := gone[w.rng.IntN(len(gone))]
	p := w.manifests[d]
	for _, part := range p.blobs {
		a, err := w.request(s, http.MethodHead, w.v2("blobs/%s", part), nil, nil, http.StatusOK, http.StatusNotFound)
		if err != nil || a.code == http.StatusNotFound {
			return err
		}
		b := w.blobs[part]
		b.fate, b.touched = present, time.Now()
	}
	return w.putManifest(s, d, p, w.anyTag())
}

// restore takes a manifest out of the trash, if it is there, with those of its tags that
// are free.
func (w *worker) restore(s *server) error {
	var gone []string
	for _, d := range w.order {
		if w.manifests[d].fate == absent {
			gone = append(gone, d)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	d := gone[w.rng.IntN(len(gone))]
	p := w.manifests[d]
	before := map[string][]string{}
	for _, tag := range p.named {
		if may := w.possible(tag); slices.Contains(may, "") {
			before[tag] = may
			w.names(tag, append(w.possible(tag), d)...)
		}
	}
	p.fate = unknown
	a, err := w.request(s, http.MethodPost, "/api/v1/trash/restore?repository="+w.repo+"&digest="+d, nil, nil, http.StatusOK, http.StatusNotFound)
	if err != nil {
		return err
	}
	for tag, may := range before {
		w.names(tag, may...)
	}
	if a.code == http.StatusNotFound {
		p.fate = absent
		return nil
	}
	var got struct{ Tags []string }
	if err := json.Unmarshal(a.body, &got); err != nil {
		return err
	}
	p.fate = present
	w.restored++
	for _, tag := range got.Tags {
		if !slices.Contains(p.named, tag) {
			return fmt.Errorf("%s: %s came back with the tag %s, which did not name it", w.repo, d, tag)
		}
		w.names(tag, d)
	}
	for _, b := range p.blobs {
		w.blobs[b].fate, w.blobs[b].touched = present, time.Now()
	}
	return nil
}

// deleteBlob deletes a blob, or is refused where a manifest names it.
func (w *worker) deleteBlob(s *server) error {
	if len(w.blobOrder) == 0 {
		return nil
	}
	d := w.blobOrder[w.rng.IntN(len(w.blobOrder))]
	b := w.blobs[d]
	was, needed := b.fate, w.needed(d)
	if was == absent {
		return nil
	}
	b.fate = unknown
	a, err := w.request(s, http.MethodDelete, w.v2("blobs/%s", d), nil, nil, http.StatusAccepted, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusConflict)
	if err != nil {
		return err
	}
	switch a.code {
	case http.StatusAccepted:
		if needed {
			return fmt.Errorf("%s: blob %s was deleted, though a manifest names it", w.repo, d)
		}
		b.fate = absent
	case http.StatusNotFound:
		if was == present && !w.mayBeGone(d) {
			return fmt.Errorf("%s: blob %s was acknowledged and is gone", w.repo, d)
		}
		b.fate = absent
	default:
		// Also a manifest in the trash holds on to it.
		b.fate = was
	}
	return nil
}

// mount takes a blob of another repository, which may be gone by now.
func (w *worker) mount(s *server) error {
	o, ok := w.shared.any(w.rng)
	if !ok || o.repo == w.repo {
		return nil
	}
	b := w.blob(o.digest, o.size)
	if b.fate == absent {
		b.fate = unknown
	}
	begun := time.Now()
	a, err := w.request(s, http.MethodPost, w.v2("blobs/uploads/?mount=%s&from=%s", o.digest, o.repo), nil, nil, http.StatusCreated, http.StatusAccepted)
	if err != nil {
		return err
	}
	if a.code == http.StatusCreated {
		b.fate, b.touched = present, begun
		return nil
	}
	// An upload was begun instead, which brings nothing by itself.
	_, err = w.request(s, http.MethodDelete, a.location(), nil, nil, http.StatusNoContent)
	return err
}

// chunk takes one step of an upload in chunks: it begins one, goes on with one, or
// finishes one. Uploads outlive the server.
func (w *worker) chunk(s *server) error {
	if len(w.uploads) < 3 {
		a, err := w.request(s, http.MethodPost, w.v2("blobs/uploads/"), nil, nil, http.StatusAccepted)
		if err == nil {
			w.uploads = append(w.uploads, &upload{fate: present, path: a.location(), body: layer(w.rng, 2000+w.size())})
		}
		return err
	}
	i := w.rng.IntN(len(w.uploads))
	u := w.uploads[i]
	n := min(len(u.body)-u.acked, 1+w.rng.IntN(len(u.body)/2))
	if u.acked > 0 && (w.rng.IntN(3) == 0 || n == 0) {
		return w.finish(s, i)
	}
	u.fate, u.sent = unknown, u.acked+n
	a, err := w.request(s, http.MethodPatch, u.path, u.body[u.acked:u.sent], map[string]string{
		"Content-Type": "application/octet-stream", "Content-Range": fmt.Sprintf("%d-%d", u.acked, u.sent-1)}, http.StatusAccepted)
	if err != nil {
		return err
	}
	if got, want := a.header.Get("Range"), fmt.Sprintf("0-%d", u.sent-1); got != want {
		return fmt.Errorf("%s: the upload is at %q, want %q", w.repo, got, want)
	}
	u.fate, u.acked, u.path = present, u.sent, a.location()
	return nil
}

// finish sends the rest of an upload with its digest.
func (w *worker) finish(s *server, i int) error {
	u := w.uploads[i]
	d := digestOf(u.body)
	b := w.blob(d, len(u.body))
	u.fate, u.sent = unknown, len(u.body)
	begun := time.Now()
	if err := w.putWhole(s, with(u.path, "digest="+d), http.MethodPut, u.body[u.acked:], b); err != nil {
		return err
	}
	b.fate, b.touched = present, begun
	w.uploads = slices.Delete(w.uploads, i, i+1)
	w.shared.put(offer{w.repo, d, len(u.body)})
	return nil
}

func (w *worker) cancel(s *server) error {
	if len(w.uploads) == 0 || w.rng.IntN(3) > 0 {
		return nil
	}
	i := w.rng.IntN(len(w.uploads))
	w.uploads[i].fate = unknown
	if _, err := w.request(s, http.MethodDelete, w.uploads[i].path, nil, nil, http.StatusNoContent); err != nil {
		return err
	}
	w.uploads = slices.Delete(w.uploads, i, i+1)
	return nil
}

// pullOne reads a manifest that may still be judged.
func (w *worker) pullOne(s *server) error {
	all := w.held(func(*pushed) bool { return true })
	if len(all) == 0 {
		return nil
	}
	d := all[w.rng.IntN(len(all))]
	a, err := w.request(s, http.MethodGet, w.v2("manifests/%s", d), nil, nil, http.StatusOK, http.StatusForbidden)
	if err == nil && a.code == http.StatusOK && digestOf(a.body) != d {
		return fmt.Errorf("%s: manifest %s came back as %s", w.repo, d, digestOf(a.body))
	}
	return err
}

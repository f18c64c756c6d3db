package chaos

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sample is how many acknowledged things of each kind are read after every restart.
const sample = 4

// check holds a server that has just come up to what a worker knows: all that was open
// when the last one was killed is whole or absent, every tag names what it may name, and
// a sample of what was acknowledged, or all of it, is whole.
func (w *worker) check(s *server, all bool) error {
	for _, f := range []func(*server) error{w.checkOpen, w.checkTags, w.checkUploads} {
		if err := f(s); err != nil {
			return err
		}
	}
	manifests := w.held(func(*pushed) bool { return true })
	var blobs []string
	for _, d := range w.blobOrder {
		if w.blobs[d].fate == present {
			blobs = append(blobs, d)
		}
	}
	if !all {
		manifests, blobs = w.some(manifests), w.some(blobs)
	}
	for _, d := range manifests {
		if err := w.checkManifest(s, d); err != nil {
			return err
		}
	}
	for _, d := range blobs {
		if err := w.checkBlob(s, d); err != nil {
			return err
		}
	}
	return nil
}

// some takes a few of a list, the latest among them.
func (w *worker) some(list []string) []string {
	if len(list) <= sample {
		return list
	}
	out := slices.Clone(list[len(list)-sample/2:])
	for len(out) < sample {
		out = append(out, list[w.rng.IntN(len(list))])
	}
	return out
}

// get sends a request to a server that must not break off.
func (w *worker) get(s *server, method, path string, want ...int) (answer, error) {
	a, err := s.do(method, path, nil, nil)
	if err != nil {
		return a, fmt.Errorf("%s: %s %s: %w", w.repo, method, path, err)
	}
	if !slices.Contains(want, a.code) {
		return a, fmt.Errorf("%s: after the restart %s %s: %s, want %v", w.repo, method, path, a, want)
	}
	return a, nil
}

// checkOpen finds out what became of what was under way.
func (w *worker) checkOpen(s *server) error {
	for _, d := range w.order {
		p := w.manifests[d]
		if p.fate != unknown {
			continue
		}
		a, err := w.get(s, http.MethodHead, w.v2("manifests/%s", d), http.StatusOK, http.StatusNotFound)
		if err != nil {
			return err
		}
		if a.code == http.StatusNotFound {
			w.gone(d, false)
			continue
		}
		p.fate = present
		for _, c := range p.children {
			w.manifests[c].isChild = true
		}
		if err := w.checkManifest(s, d); err != nil {
			return err
		}
	}
	for _, d := range w.blobOrder {
		b := w.blobs[d]
		if b.fate != unknown {
			continue
		}
		a, err := w.get(s, http.MethodHead, w.v2("blobs/%s", d), http.StatusOK, http.StatusNotFound)
		if err != nil {
			return err
		}
		if a.code == http.StatusNotFound {
			b.fate = absent
			continue
		}
		b.fate, b.touched = present, time.Now()
		if err := w.checkBlob(s, d); err != nil {
			return err
		}
	}
	return nil
}

// checkManifest reads a manifest back and asks for each of its parts.
func (w *worker) checkManifest(s *server, d string) error {
	p := w.manifests[d]
	a, err := w.get(s, http.MethodHead, w.v2("manifests/%s", d), http.StatusOK)
	if err != nil {
		return err
	}
	if got := a.header.Get("Docker-Content-Digest"); got != d {
		return fmt.Errorf("%s: manifest %s says that it is %s", w.repo, d, got)
	}
	if err := w.reread(s, w.v2("manifests/%s", d), d); err != nil {
		return err
	}
	for _, b := range p.blobs {
		if _, err := w.get(s, http.MethodHead, w.v2("blobs/%s", b), http.StatusOK); err != nil {
			return fmt.Errorf("a part of manifest %s is missing: %w", d, err)
		}
	}
	for _, c := range p.children {
		if _, err := w.get(s, http.MethodHead, w.v2("manifests/%s", c), http.StatusOK); err != nil {
			return fmt.Errorf("a part of index %s is missing: %w", d, err)
		}
	}
	return nil
}

func (w *worker) checkBlob(s *server, d string) error {
	b := w.blobs[d]
	a, err := w.get(s, http.MethodHead, w.v2("blobs/%s", d), http.StatusOK, http.StatusNotFound)
	if err != nil {
		return err
	}
	if a.code == http.StatusNotFound {
		if !w.mayBeGone(d) {
			return fmt.Errorf("%s: blob %s was acknowledged and is gone", w.repo, d)
		}
		b.fate = absent
		return nil
	}
	if got := a.header.Get("Content-Length"); got != strconv.Itoa(b.size) {
		return fmt.Errorf("%s: blob %s has %s bytes, want %d", w.repo, d, got, b.size)
	}
	return w.reread(s, w.v2("blobs/%s", d), d)
}

// reread reads content and hashes it. What is not judged yet is not served, which passes.
func (w *worker) reread(s *server, path, d string) error {
	var a answer
	err := s.await(time.Minute, "done with judging "+path, func() (ok bool, err error) {
		a, err = w.get(s, http.MethodGet, path, http.StatusOK, http.StatusForbidden)
		return a.code == http.StatusOK, err
	})
	if err != nil {
		return fmt.Errorf("%w; its last answer: %s", err, a)
	}
	if got := digestOf(a.body); got != d {
		return fmt.Errorf("%s: GET %s came back as %s", w.repo, path, got)
	}
	return nil
}

// checkTags compares the list of tags, and what each that was open or is in the sample names.
func (w *worker) checkTags(s *server) error {
	a, err := w.get(s, http.MethodGet, w.v2("tags/list"), http.StatusOK, http.StatusNotFound)
	if err != nil {
		return err
	}
	var list struct{ Tags []string }
	if a.code == http.StatusOK {
		if err := json.Unmarshal(a.body, &list); err != nil {
			return fmt.Errorf("%s: tags: %w", w.repo, err)
		}
	}
	for _, tag := range list.Tags {
		if w.tags[tag] == nil {
			return fmt.Errorf("%s: tag %s is there, which nobody made", w.repo, tag)
		}
	}
	for _, tag := range w.tagNames() {
		may := w.possible(tag)
		if !slices.Contains(list.Tags, tag) {
			if !slices.Contains(may, "") {
				return fmt.Errorf("%s: tag %s was acknowledged and is gone; it named one of %v", w.repo, tag, may)
			}
			w.names(tag, "")
			continue
		}
		a, err := w.get(s, http.MethodHead, w.v2("manifests/%s", tag), http.StatusOK)
		if err != nil {
			return fmt.Errorf("a tag to nowhere: %w", err)
		}
		d := a.header.Get("Docker-Content-Digest")
		if !slices.Contains(may, d) {
			return fmt.Errorf("%s: tag %s names %s, want one of %v", w.repo, tag, d, may)
		}
		if w.manifests[d].fate != present {
			return fmt.Errorf("%s: tag %s names %s, which is not there", w.repo, tag, d)
		}
		w.names(tag, d)
	}
	return nil
}

// checkUploads asks how far each upload has come.
func (w *worker) checkUploads(s *server) error {
	var left []*upload
	for _, u := range w.uploads {
		a, err := w.get(s, http.MethodGet, u.path, http.StatusNoContent, http.StatusNotFound)
		if err != nil {
			return err
		}
		if a.code == http.StatusNotFound {
			if u.fate == present {
				return fmt.Errorf("%s: an upload of which %d bytes were acknowledged is gone", w.repo, u.acked)
			}
			continue // finished or cancelled; checkOpen has looked for its blob
		}
		at := 0
		if r := a.header.Get("Range"); r != "" {
			_, end, _ := strings.Cut(r, "-")
			if at, err = strconv.Atoi(end); err != nil {
				return fmt.Errorf("%s: an upload is at %q: %w", w.repo, r, err)
			}
			at++
			if r == "0-0" && u.acked == 0 && u.sent != 1 {
				at = 0 // the protocol has no other word for nothing
			}
		}
		if u.fate == present && at != u.acked || at < u.acked || at > u.sent {
			return fmt.Errorf("%s: an upload is at %d, of which %d bytes were acknowledged and %d sent", w.repo, at, u.acked, u.sent)
		}
		u.fate, u.acked, u.sent = present, at, at
		if l := a.location(); l != "" {
			u.path = l
		}
		left = append(left, u)
	}
	w.uploads = left
	return nil
}

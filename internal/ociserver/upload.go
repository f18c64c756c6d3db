package ociserver

import (
	"errors"
	"net/http"
	"strconv"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/registry"
)

// uploadBegin answers the POST: a mount, a blob in one request, or a new upload.
func (s *server) uploadBegin(w http.ResponseWriter, r *http.Request, c call) error {
	q := r.URL.Query()
	if q.Has("mount") {
		if ok, err := s.mount(w, r, c); ok || err != nil {
			return err
		}
	}
	if q.Has("digest") {
		return s.putBlob(w, r, c)
	}
	alg := oci.SHA256
	if a := q.Get("digest-algorithm"); a != "" {
		if alg = oci.Algorithm(a); alg.New() == nil {
			return oci.Errorf(oci.CodeDigestInvalid, "digest-algorithm %.20q is not supported; use sha256 or sha512", a)
		}
	}
	st, err := s.reg.BeginUpload(r.Context(), c.by, c.repo, alg)
	if err != nil {
		return err
	}
	progress(w, c.repo, st)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// mount takes the blob from another repository; ok is false where it cannot, and the
// client is given an upload instead.
func (s *server) mount(w http.ResponseWriter, r *http.Request, c call) (ok bool, err error) {
	q := r.URL.Query()
	d, err := oci.ParseDigest(q.Get("mount"))
	if err != nil {
		return false, oci.Errorf(oci.CodeDigestInvalid, "mount: %v", err)
	}
	var from oci.Repository
	if name := q.Get("from"); name != "" {
		if from, err = oci.ParseRepository(name); err != nil {
			return false, oci.Errorf(oci.CodeNameInvalid, "from: %v", err)
		}
	}
	if ok, err = s.reg.Mount(r.Context(), c.by, c.repo, from, d); ok {
		created(w, c.repo, d)
	}
	return ok, err
}

func (s *server) putBlob(w http.ResponseWriter, r *http.Request, c call) error {
	d, err := queryDigest(r)
	if err != nil {
		return err
	}
	if err := s.reg.PutBlob(r.Context(), c.repo, registry.Chunk{At: 0, Size: r.ContentLength, Body: r.Body}, d); err != nil {
		return err
	}
	created(w, c.repo, d)
	return nil
}

func queryDigest(r *http.Request) (oci.Digest, error) {
	d, err := oci.ParseDigest(r.URL.Query().Get("digest"))
	if err != nil {
		return oci.Digest{}, oci.Errorf(oci.CodeDigestInvalid, "the digest parameter: %v", err)
	}
	return d, nil
}

// created answers that a blob is in the repository.
func created(w http.ResponseWriter, repo oci.Repository, d oci.Digest) {
	h := w.Header()
	h.Set("Location", "/v2/"+repo.String()+"/blobs/"+d.String())
	h.Set(headerDigest, d.String())
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
}

// progress tells how far an upload is and where it goes on.
func progress(w http.ResponseWriter, repo oci.Repository, st registry.Status) {
	h := w.Header()
	h.Set("Location", "/v2/"+repo.String()+"/blobs/uploads/"+st.ID)
	h.Set("Range", "0-"+strconv.FormatInt(max(0, st.Offset-1), 10))
	h.Set("Docker-Upload-UUID", st.ID)
	h.Set("Content-Length", "0")
}

// chunkOf is what the request says of the bytes that it brings.
func chunkOf(r *http.Request) (registry.Chunk, error) {
	c := registry.Chunk{At: -1, Size: r.ContentLength, Body: r.Body}
	if text := r.Header.Get("Content-Range"); text != "" {
		cr, err := parseContentRange(text)
		if err != nil {
			return c, oci.Errorf(oci.CodeBlobUploadInvalid, "%v", err)
		}
		if c.Size >= 0 && c.Size != cr.size() {
			return c, oci.Errorf(oci.CodeSizeInvalid, "Content-Range %.60s names %d bytes, but Content-Length is %d", text, cr.size(), c.Size)
		}
		c.At, c.Size = cr.first, cr.size()
	}
	return c, nil
}

// outOfOrder adds to the refusal of a chunk where the upload really is (distribution-spec,
// "Pushing a blob in chunks": 416).
func (s *server) outOfOrder(w http.ResponseWriter, r *http.Request, c call, err error) error {
	if errors.Is(err, &oci.Error{Code: oci.CodeRangeInvalid}) {
		if st, e := s.reg.UploadStatus(r.Context(), c.repo, c.upload); e == nil {
			progress(w, c.repo, st)
			w.Header().Del("Content-Length")
		}
	}
	return err
}

func (s *server) uploadAppend(w http.ResponseWriter, r *http.Request, c call) error {
	chunk, err := chunkOf(r)
	if err != nil {
		return err
	}
	st, err := s.reg.Append(r.Context(), c.repo, c.upload, chunk)
	if err != nil {
		return s.outOfOrder(w, r, c, err)
	}
	progress(w, c.repo, st)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (s *server) uploadFinish(w http.ResponseWriter, r *http.Request, c call) error {
	d, err := queryDigest(r)
	if err != nil {
		return err
	}
	chunk, err := chunkOf(r)
	if err != nil {
		return err
	}
	if err := s.reg.FinishUpload(r.Context(), c.repo, c.upload, chunk, d); err != nil {
		return s.outOfOrder(w, r, c, err)
	}
	created(w, c.repo, d)
	return nil
}

func (s *server) uploadStatus(w http.ResponseWriter, r *http.Request, c call) error {
	st, err := s.reg.UploadStatus(r.Context(), c.repo, c.upload)
	if err != nil {
		return err
	}
	progress(w, c.repo, st)
	w.Header().Del("Content-Length") // a 204 has none (RFC 9110, section 8.6)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *server) uploadCancel(w http.ResponseWriter, r *http.Request, c call) error {
	if err := s.reg.CancelUpload(r.Context(), c.repo, c.upload); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

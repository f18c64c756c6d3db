package ociserver

import (
	"bytes"
	"errors"
	"io"
	"net/http"

	"pratique.dev/pratique/internal/oci"
)

// largeManifest is how many bytes a manifest may have without being a large one. Those of images
// have a few thousand.
const largeManifest = 64 << 10

// places are those of requests that hold a large manifest in memory: from when it comes in until
// it is judged, or until a client has taken it, each of which may be slow.
type places chan struct{}

func (p places) enter() (leave func(), err error) {
	select {
	case p <- struct{}{}:
		return func() { <-p }, nil
	default:
		return nil, oci.Errorf(oci.CodeTooManyRequests, "%d manifests of more than %d bytes are under way, which is the limit; try again shortly", cap(p), largeManifest)
	}
}

// readManifest takes a manifest's bytes and no more than there may be. The caller calls leave
// once it holds them no more, also after an error.
func (s *server) readManifest(w http.ResponseWriter, r *http.Request) (raw []byte, leave func(), err error) {
	leave = func() {}
	tooLarge := statusError{oci.Errorf(oci.CodeManifestInvalid, "the manifest has more than %d bytes, which is the most that is accepted", oci.MaxManifestSize),
		http.StatusRequestEntityTooLarge}
	if r.ContentLength > oci.MaxManifestSize {
		return nil, leave, tooLarge
	}
	body := http.MaxBytesReader(w, r.Body, oci.MaxManifestSize)
	raw, err = io.ReadAll(io.LimitReader(body, largeManifest+1))
	if err == nil && len(raw) > largeManifest {
		if leave, err = s.in.enter(); err != nil {
			return nil, func() {}, err
		}
		whole := bytes.NewBuffer(raw)
		_, err = whole.ReadFrom(body)
		raw = whole.Bytes()
	}
	var max *http.MaxBytesError
	switch {
	case errors.As(err, &max):
		return nil, leave, tooLarge
	case err != nil:
		return nil, leave, oci.Errorf(oci.CodeManifestInvalid, "the request broke off after %d bytes", len(raw))
	}
	return raw, leave, nil
}

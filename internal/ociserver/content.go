package ociserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/registry"
)

const (
	headerDigest   = "Docker-Content-Digest"
	headerDecision = "Pratique-Decision"
	headerFindings = "Pratique-Findings"
)

// ping answers whether the registry speaks this protocol (distribution-spec,
// "Determining Support").
func (s *server) ping(w http.ResponseWriter, r *http.Request, _ call) error {
	writeJSON(w, r, http.StatusOK, "application/json", struct{}{})
	return nil
}

func (s *server) manifestGet(w http.ResponseWriter, r *http.Request, c call) error {
	m, err := s.reg.Manifest(r.Context(), c.by, c.repo, c.ref)
	if err != nil {
		return err
	}
	if len(m.Raw) > largeManifest {
		leave, err := s.out.enter()
		if err != nil {
			return err
		}
		defer leave()
	}
	warn(w.Header(), s.reg.ServedAnyway(c.repo, m))
	sendManifest(w, r, m)
	return nil
}

// manifestHead answers without asking the gate: clients ask by HEAD before they pull
// and show only the answer to the GET, and a push asks what is there already. The
// decision is in the header. Only Docker's own engine is told no at once.
func (s *server) manifestHead(w http.ResponseWriter, r *http.Request, c call) error {
	stat := s.reg.StatManifest
	if c.ref.Tag != "" && asksAgain(r.UserAgent()) {
		stat = func(ctx context.Context, repo oci.Repository, ref oci.Reference) (catalog.Served, error) {
			return s.reg.AskManifest(ctx, c.by, repo, ref)
		}
	}
	m, err := stat(r.Context(), c.repo, c.ref)
	if err != nil {
		return err
	}
	sendManifest(w, r, m)
	return nil
}

// asksAgain says whether a client that is refused a HEAD sends a GET to learn why.
// Docker's engine does so, and takes a registry whose HEAD and GET differ for a broken one;
// containerd, also inside of Docker, shows the user the refused HEAD, which has no text.
func asksAgain(userAgent string) bool {
	return strings.HasPrefix(userAgent, "docker/") && !strings.Contains(userAgent, "containerd-client/")
}

func sendManifest(w http.ResponseWriter, r *http.Request, m catalog.Served) {
	w.Header().Set("Content-Type", m.MediaType)
	w.Header().Set(headerDecision, m.Decision.String())
	serve(w, r, m.Digest, int64(len(m.Raw)), bytes.NewReader(m.Raw))
}

// serve sends content that is named by its digest, or the range of it that was asked for.
func serve(w http.ResponseWriter, r *http.Request, d oci.Digest, size int64, content io.ReadSeeker) {
	bound(w, size)
	h := w.Header()
	h.Set(headerDigest, d.String())
	h.Set("ETag", `"`+d.String()+`"`)
	// The content never changes, but whether it may be had does: ask each time.
	h.Set("Cache-Control", "private, no-cache")
	http.ServeContent(w, r, "", time.Time{}, content)
}

func (s *server) manifestPut(w http.ResponseWriter, r *http.Request, c call) error {
	push, err := pushOf(r, c)
	if err != nil {
		return err
	}
	var leave func()
	push.Raw, leave, err = s.readManifest(w, r)
	defer leave()
	if err != nil {
		return err
	}
	p, err := s.reg.PutManifest(r.Context(), c.by, push)
	if err != nil {
		return err
	}
	h := w.Header()
	for _, t := range push.Tags {
		h.Add("OCI-Tag", t)
	}
	warn(h, p.Hints)
	h.Set("Location", "/v2/"+c.repo.String()+"/manifests/"+p.Digest.String())
	h.Set(headerDigest, p.Digest.String())
	if !p.Subject.IsZero() {
		h.Set("OCI-Subject", p.Subject.String())
	}
	h.Set(headerDecision, p.Decision.String())
	if p.Decision != policy.Pending {
		h.Set(headerFindings, findings(p.Counts))
	}
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
	return nil
}

// findings writes counts as the header has them.
func findings(n catalog.Counts) string {
	return fmt.Sprintf("critical=%d, high=%d, medium=%d, low=%d, none=%d, unknown=%d, fixable=%d, exploited=%d",
		n.Critical, n.High, n.Medium, n.Low, n.None, n.Unknown, n.Fixable, n.Exploited)
}

func (s *server) manifestDelete(w http.ResponseWriter, r *http.Request, c call) error {
	must, err := conditionOf(r.Header)
	if err != nil {
		return err
	}
	if err := s.reg.DeleteManifest(r.Context(), c.by, c.repo, c.ref, must); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (s *server) blobGet(w http.ResponseWriter, r *http.Request, c call) error {
	b, err := s.reg.Blob(r.Context(), c.by, c.repo, c.digest)
	if err != nil {
		return err
	}
	content, err := b.Open(r.Context(), 0)
	if err != nil {
		return err
	}
	// A file goes to the connection as it is, so that the kernel can send it.
	seeker, ok := content.(io.ReadSeeker)
	if !ok {
		lazy := &lazySeeker{ctx: r.Context(), content: b, r: content}
		content, seeker = lazy, lazy
	}
	defer content.Close() // only read from
	w.Header().Set("Content-Type", "application/octet-stream")
	serve(w, r, b.Digest, b.Size, seeker)
	return nil
}

func (s *server) blobHead(w http.ResponseWriter, r *http.Request, c call) error {
	size, err := s.reg.StatBlob(r.Context(), c.by, c.repo, c.digest)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	serve(w, r, c.digest, size, &sized{size: size})
	return nil
}

// sized is content of which only the size is asked.
type sized struct{ at, size int64 }

func (s *sized) Read([]byte) (int, error) { return 0, io.EOF }

func (s *sized) Seek(offset int64, whence int) (int64, error) {
	s.at = seek(s.at, s.size, offset, whence)
	return s.at, nil
}

// seek is where a Seek from at leads.
func seek(at, size, offset int64, whence int) int64 {
	switch whence {
	case io.SeekCurrent:
		return at + offset
	case io.SeekEnd:
		return size + offset
	}
	return offset
}

// lazySeeker makes a blob of a store that can only read on from an offset look like a file:
// it opens the blob anew when it was moved and is read.
type lazySeeker struct {
	ctx     context.Context //nolint:containedctx // an io.Reader cannot take one
	content registry.Content
	r       io.ReadCloser // positioned at opened, nil when closed
	opened  int64
	at      int64
}

func (l *lazySeeker) Seek(offset int64, whence int) (int64, error) {
	at := seek(l.at, l.content.Size, offset, whence)
	if at < 0 {
		return 0, errors.New("seek before the beginning")
	}
	l.at = at
	return at, nil
}

func (l *lazySeeker) Read(p []byte) (int, error) {
	if l.at >= l.content.Size {
		return 0, io.EOF
	}
	if l.r == nil || l.opened != l.at {
		if err := l.Close(); err != nil {
			return 0, err
		}
		r, err := l.content.Open(l.ctx, l.at)
		if err != nil {
			return 0, err
		}
		l.r, l.opened = r, l.at
	}
	n, err := l.r.Read(p)
	l.at += int64(n)
	l.opened = l.at
	return n, err
}

// Close implements io.Closer.
func (l *lazySeeker) Close() error {
	if l.r == nil {
		return nil
	}
	err := l.r.Close()
	l.r = nil
	return err
}

func (s *server) blobDelete(w http.ResponseWriter, r *http.Request, c call) error {
	if err := s.reg.DeleteBlob(r.Context(), c.by, c.repo, c.digest); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

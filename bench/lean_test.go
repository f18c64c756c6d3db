package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// lean is a client on one connection that does as little as HTTP/1.1 allows: of what is
// small, the figure shall be the server's, and net/http's client takes as long as a server does.
type lean struct {
	base string
	conn net.Conn
	r    *bufio.Reader
	out  []byte
}

func newLean(p *process) (*lean, error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.base, "http://"))
	if err != nil {
		return nil, err
	}
	return &lean{base: p.base, conn: conn, r: bufio.NewReaderSize(conn, 64<<10)}, nil
}

// do sends a request, throws the body of the answer away and returns its Location.
func (l *lean) do(method, path, media string, body []byte, want int) (location string, err error) {
	path = strings.TrimPrefix(path, l.base)
	l.out = fmt.Appendf(l.out[:0], "%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Basic %s\r\nAccept: %s, */*\r\n", method, path,
		strings.TrimPrefix(l.base, "http://"), basic, manifestType)
	if media != "" {
		l.out = fmt.Appendf(l.out, "Content-Type: %s\r\n", media)
	}
	if method != http.MethodGet {
		l.out = fmt.Appendf(l.out, "Content-Length: %d\r\n", len(body))
	}
	l.out = append(append(l.out, "\r\n"...), body...)
	if _, err := l.conn.Write(l.out); err != nil {
		return "", err
	}
	line, err := l.r.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	status := 0
	if len(line) > 12 {
		status, _ = strconv.Atoi(string(line[9:12])) // 0 is no status
	}
	length := -1
	for {
		if line, err = l.r.ReadSlice('\n'); err != nil {
			return "", err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return "", err
			}
		case bytes.EqualFold(name, []byte("Location")):
			location = string(value)
		}
	}
	if length < 0 {
		return "", fmt.Errorf("%s %s: %d without a length", method, path, status)
	}
	if status != want {
		text, _ := l.r.Peek(min(length, 2000)) // for the message
		return "", fmt.Errorf("%s %s: status %d, want %d: %s", method, path, status, want, text)
	}
	_, err = l.r.Discard(length)
	return location, err
}

// pushBlob pushes bytes as clients do: an upload is begun, and ended with all of them.
func (l *lean) pushBlob(repo string, raw []byte) error {
	location, err := l.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/", "", nil, http.StatusAccepted)
	if err != nil {
		return err
	}
	sep := "?"
	if strings.Contains(location, "?") {
		sep = "&"
	}
	_, err = l.do(http.MethodPut, location+sep+"digest="+digestOf(raw), "application/octet-stream", raw, http.StatusCreated)
	return err
}

func (l *lean) get(repo, what string) error {
	_, err := l.do(http.MethodGet, "/v2/"+repo+"/"+what, "", nil, http.StatusOK)
	return err
}

// pullSmall fetches what a client does: the manifest by its tag, then config and layer.
func (l *lean) pullSmall(repo, tag string, s small) error {
	for _, what := range []string{"manifests/" + tag, "blobs/" + s.config.Digest, "blobs/" + s.layer.Digest} {
		if err := l.get(repo, what); err != nil {
			return err
		}
	}
	return nil
}

// putVariant puts an image's manifest with an annotation of its own.
func (l *lean) putVariant(repo, tag string, s small) error {
	_, err := l.do(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, manifestType, s.variant(tag), http.StatusCreated)
	return err
}

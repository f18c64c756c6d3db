package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/report"
)

// maxAnswer bounds the answer that a client reads, in bytes.
const maxAnswer = 256 << 20

// Client speaks to one registry as one principal.
type Client struct {
	base           *url.URL
	user, password string
	http           *http.Client
	warn           func(text string) // nil: nobody hears
}

// OnWarning has tell hear of what the server warns of, as of a secret that ends soon.
func (c *Client) OnWarning(tell func(text string)) { c.warn = tell }

// NewClient makes a client of the registry at server ("https://registry.example",
// "127.0.0.1:5000"; without a scheme, http for loopback and https elsewhere).
func NewClient(server, user, password string, h *http.Client) (*Client, error) {
	if !strings.Contains(server, "://") {
		scheme := "https://"
		if isLoopback(server) {
			scheme = "http://"
		}
		server = scheme + server
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("server %q: expected http://HOST:PORT or https://HOST", server)
	}
	u.Path, u.RawQuery, u.Fragment = "", "", ""
	return &Client{base: u, user: user, password: password, http: h}, nil
}

// isLoopback says whether HOST or HOST:PORT is this machine by its text alone: a name that
// only looks like a loopback address belongs to somebody.
func isLoopback(hostport string) bool {
	u, err := url.Parse("//" + hostport)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(u.Hostname(), "localhost")
}

// Server is the address that the client speaks to.
func (c *Client) Server() string { return c.base.String() }

// Report fetches the report of a manifest.
func (c *Client) Report(ctx context.Context, repo oci.Repository, ref oci.Reference) (report.Report, error) {
	var r report.Report
	err := c.get(ctx, PathReport, url.Values{"repository": {repo.String()}, "reference": {ref.String()}}, &r)
	return r, err
}

// Images fetches a page of images.
func (c *Client) Images(ctx context.Context, q ImageQuery) (ImageList, error) {
	v := url.Values{"prefix": {q.Prefix}, "after": {q.After}, "limit": {strconv.Itoa(q.Limit)}}
	if q.Tag != "" {
		v.Set("tag", q.Tag)
	}
	for _, d := range q.Decisions {
		v.Add("decision", d.String())
	}
	var l ImageList
	err := c.get(ctx, PathImages, v, &l)
	return l, err
}

// Advisories fetches what findings are looked up in.
func (c *Client) Advisories(ctx context.Context) (AdvisoryList, error) {
	var l AdvisoryList
	err := c.get(ctx, PathAdvisories, nil, &l)
	return l, err
}

// Import sends one ecosystem's dump (a zip of OSV records) and hears of its progress.
func (c *Client) Import(ctx context.Context, ecosystem string, zip io.Reader, size int64, progress func(Progress)) ([]Imported, error) {
	req, err := c.request(ctx, http.MethodPost, PathImport, url.Values{"ecosystem": {ecosystem}}, zip)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", "application/zip")
	resp, err := c.do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e ImportEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("import %s: the server's answer is damaged: %w", ecosystem, err)
		}
		switch {
		case e.Error != nil:
			return nil, e.Error
		case e.Done:
			return e.Results, nil
		case e.Progress != nil && progress != nil:
			progress(*e.Progress)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("import %s: %w", ecosystem, err)
	}
	return nil, fmt.Errorf("import %s: the server broke off; it is safe to import again", ecosystem)
}

func (c *Client) request(ctx context.Context, method, path string, q url.Values, body io.Reader) (*http.Request, error) {
	u := *c.base
	u.Path, u.RawQuery = path, q.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	if c.user != "" {
		req.SetBasicAuth(c.user, c.password)
	}
	return req, nil
}

// do sends the request; an answer other than 2xx becomes an *oci.Error.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, fmt.Errorf("reach %s: %w; is the server running, and is --server right?", c.base, err)
	}
	c.heed(resp.Header)
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	var body Errors
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if json.Unmarshal(raw, &body) == nil && len(body.Errors) > 0 {
		return nil, &body.Errors[0]
	}
	return nil, fmt.Errorf("%s answered %s", c.base, resp.Status)
}

// maxWarning bounds a warning that is told, in bytes.
const maxWarning = 500

// heed tells of the answer's warnings (RFC 7234, section 5.5: 299 - "text").
func (c *Client) heed(h http.Header) {
	for _, v := range h.Values("Warning") {
		text, ok := strings.CutPrefix(v, "299 - ")
		if said, err := strconv.Unquote(text); ok && err == nil && c.warn != nil {
			c.warn(strings.Map(printable, said[:min(len(said), maxWarning)]))
		}
	}
}

// printable keeps what a terminal could take for a command from it.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return -1
}

// send sends a document, if body is one, and reads the answer into into, if that is not nil.
func (c *Client) send(ctx context.Context, method, path string, q url.Values, body, into any) error {
	var doc io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		doc = bytes.NewReader(raw)
	}
	req, err := c.request(ctx, method, path, q, doc)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if into == nil {
		into = new(struct{})
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("%s%s: the answer is damaged: %w", c.base, path, err)
	}
	return nil
}

func (c *Client) get(ctx context.Context, path string, q url.Values, into any) error {
	req, err := c.request(ctx, http.MethodGet, path, q, nil)
	if err != nil {
		return err
	}
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("%s%s: the answer is damaged: %w", c.base, path, err)
	}
	return nil
}

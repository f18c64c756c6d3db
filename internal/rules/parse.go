package rules

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Bounds of a document.
const (
	MaxDocument = 64 << 10 // bytes
	MaxRules    = 100      // of each kind
	// MinUntagged is the least time for which a manifest without a tag is spared: it may be
	// on its way, its tag or its index yet to come.
	MinUntagged = Duration(time.Hour)
)

// Error is what is wrong with a document.
type Error struct {
	Line    int    // 0: not known
	Field   string // "retention[0].keepLast"; "": the document as a whole
	Problem string // and what was expected
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", e.Line)
	}
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	return b.String() + e.Problem
}

// document is the YAML as it is written. Sizes and times are texts, so that what is wrong
// with one is said in our words.
type document struct {
	Restore   *string `yaml:"restore"`
	Immutable []struct {
		Repositories string  `yaml:"repositories"`
		Tags         *string `yaml:"tags"`
	} `yaml:"immutable"`
	Quotas []struct {
		Prefix *string `yaml:"prefix"`
		Bytes  *string `yaml:"bytes"`
		Tags   *int64  `yaml:"tags"`
	} `yaml:"quotas"`
	Retention []retentionDocument `yaml:"retention"`
}

type retentionDocument struct {
	Name             string  `yaml:"name"`
	Repositories     string  `yaml:"repositories"`
	Tags             *string `yaml:"tags"`
	KeepLast         *int    `yaml:"keepLast"`
	KeepPushedWithin *string `yaml:"keepPushedWithin"`
	KeepPulledWithin *string `yaml:"keepPulledWithin"`
	UntaggedAfter    *string `yaml:"untaggedAfter"`
}

// Parse reads a document. An empty one is the same as none: Default. An unknown or repeated
// key is an error, as is everything else that is not understood. The error is an *Error.
func Parse(source []byte) (*Rules, error) {
	if len(source) > MaxDocument {
		return nil, &Error{Problem: fmt.Sprintf("the document has %d bytes; at most %d are read", len(source), MaxDocument)}
	}
	var d document
	if len(bytes.TrimSpace(source)) > 0 {
		if err := yaml.NewDecoder(bytes.NewReader(source), yaml.Strict()).Decode(&d); err != nil && err.Error() != "EOF" {
			return nil, yamlError(err)
		}
	}
	p := parser{source: source, out: Default()}
	p.document(d)
	if p.err != nil {
		return nil, p.err
	}
	return p.out, nil
}

// yamlError says what the YAML library found, without Go's words and the excerpt.
func yamlError(err error) *Error {
	var e yaml.Error
	if !errors.As(err, &e) {
		return &Error{Problem: "not YAML of this kind: " + err.Error()}
	}
	out := &Error{Problem: e.GetMessage()}
	var wrong *yaml.TypeError
	if errors.As(err, &wrong) {
		out.Problem = "expected " + expected(wrong.DstType.Kind())
	}
	if t := e.GetToken(); t != nil {
		if t.Position != nil {
			out.Line = t.Position.Line
		}
		if wrong != nil {
			out.Problem = fmt.Sprintf("%.40q: %s", t.Value, out.Problem)
		}
	}
	return out
}

// expected says in YAML's words what a Go value is decoded from.
func expected(k reflect.Kind) string {
	switch k {
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Slice:
		return "a list"
	case reflect.Struct:
		return "keys with their values"
	}
	return "a single value"
}

// parser turns a document into rules. Its first error stands.
type parser struct {
	source []byte
	out    *Rules
	err    error
}

// fail keeps the first thing that is wrong, with the line of its field.
func (p *parser) fail(field, format string, args ...any) {
	if p.err != nil {
		return
	}
	e := &Error{Field: field, Problem: fmt.Sprintf(format, args...)}
	for at := field; e.Line == 0 && at != ""; at = at[:max(0, strings.LastIndexAny(at, ".["))] {
		e.Line = lineOf(p.source, at)
	}
	p.err = e
}

// lineOf is where a field stands; 0 if it does not.
func lineOf(source []byte, field string) int {
	path, err := yaml.PathString("$." + field)
	if err != nil {
		return 0
	}
	node, err := path.ReadNode(bytes.NewReader(source))
	if err != nil || node == nil || node.GetToken() == nil || node.GetToken().Position == nil {
		return 0
	}
	return node.GetToken().Position.Line
}

func (p *parser) document(d document) {
	p.duration("restore", d.Restore, &p.out.Restore)
	p.count("immutable", len(d.Immutable))
	p.count("quotas", len(d.Quotas))
	p.count("retention", len(d.Retention))
	if p.err != nil {
		return
	}
	for i, im := range d.Immutable {
		at := fmt.Sprintf("immutable[%d].", i)
		p.out.Immutable = append(p.out.Immutable, Immutable{
			Repositories: p.pattern(at+"repositories", &im.Repositories), Tags: p.tags(at+"tags", im.Tags)})
	}
	for i, q := range d.Quotas {
		p.quota(fmt.Sprintf("quotas[%d]", i), q.Prefix, q.Bytes, q.Tags)
	}
	for i, r := range d.Retention {
		p.retention(fmt.Sprintf("retention[%d]", i), r)
	}
}

func (p *parser) count(field string, n int) {
	if n > MaxRules {
		p.fail(field, "%d rules; at most %d are taken", n, MaxRules)
	}
}

// duration reads a span into out; one that is not given leaves it.
func (p *parser) duration(field string, s *string, out *Duration) {
	if s == nil {
		return
	}
	d, err := ParseDuration(*s)
	if err != nil {
		p.fail(field, "%v", err)
	}
	*out = d
}

func (p *parser) pattern(field string, s *string) Pattern {
	out, err := ParsePattern(*s)
	if err != nil {
		p.fail(field, "%v", err)
	}
	return out
}

// tags reads a pattern of tags; all where none is given.
func (p *parser) tags(field string, s *string) Pattern {
	all := "*"
	if s == nil {
		s = &all
	}
	return p.pattern(field, s)
}

var prefixText = regexp.MustCompile(`^[a-z0-9._/-]{0,255}$`)

func (p *parser) quota(at string, prefix, size *string, tags *int64) {
	if prefix == nil || !prefixText.MatchString(*prefix) {
		p.fail(at+".prefix", `expected how the repositories' names begin, as in "team-a/"; "" for all`)
		return
	}
	for _, q := range p.out.Quotas {
		if q.Prefix == *prefix {
			p.fail(at+".prefix", "%q has a quota already; give both its bytes and its tags there", *prefix)
		}
	}
	q := Quota{Prefix: *prefix}
	if size != nil {
		var err error
		if q.Bytes, err = ParseSize(*size); err == nil && q.Bytes == 0 {
			err = errors.New("expected more than 0; to allow any number leave it out")
		}
		if err != nil {
			p.fail(at+".bytes", "%v", err)
		}
	}
	if tags != nil {
		if q.Tags = *tags; q.Tags <= 0 {
			p.fail(at+".tags", "%d: expected more than 0; to allow any number leave it out", q.Tags)
		}
	}
	if size == nil && tags == nil {
		p.fail(at, "expected bytes, tags or both")
	}
	p.out.Quotas = append(p.out.Quotas, q)
}

var ruleName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (p *parser) retention(at string, d retentionDocument) {
	r := Retention{Name: d.Name, KeepLast: d.KeepLast}
	if !ruleName.MatchString(d.Name) {
		p.fail(at+".name", "%.40q: expected 1 to 64 letters, digits, . _ - by which the rule is known", d.Name)
	}
	for _, o := range p.out.Retention {
		if o.Name == d.Name {
			p.fail(at+".name", "%q is the name of another rule", d.Name)
		}
	}
	r.Repositories = p.pattern(at+".repositories", &d.Repositories)
	r.Tags = p.tags(at+".tags", d.Tags)
	if d.KeepLast != nil && (*d.KeepLast < 0 || *d.KeepLast > 1_000_000) {
		p.fail(at+".keepLast", "%d: expected a number from 0 to 1000000", *d.KeepLast)
	}
	p.span(at+".keepPushedWithin", d.KeepPushedWithin, &r.KeepPushedWithin)
	p.span(at+".keepPulledWithin", d.KeepPulledWithin, &r.KeepPulledWithin)
	p.span(at+".untaggedAfter", d.UntaggedAfter, &r.UntaggedAfter)
	if u := r.UntaggedAfter; u != nil && *u < MinUntagged {
		p.fail(at+".untaggedAfter", "%s: expected %s or more, since what is untagged may be on its way", *u, MinUntagged)
	}
	if d.KeepLast == nil && r.KeepPushedWithin == nil && r.UntaggedAfter == nil {
		p.fail(at, "expected keepLast, keepPushedWithin or untaggedAfter: by keepPulledWithin alone whatever was just pushed would go")
	}
	p.out.Retention = append(p.out.Retention, r)
}

func (p *parser) span(field string, s *string, out **Duration) {
	if s == nil {
		return
	}
	*out = new(Duration)
	p.duration(field, s, *out)
}

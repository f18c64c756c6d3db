package feed

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/vuln"
)

// lists are CISA's Known Exploited Vulnerabilities and FIRST's EPSS scores.
type lists struct {
	exploited map[string]time.Time // CVE id to the day it was listed
	cves      []uint32             // cveNumber, ascending
	scores    []uint32             // of cves, in units of epssUnit
}

// epssUnit is the last decimal that FIRST publishes.
const epssUnit = 1e-5

const (
	maxList    = 256 << 20
	cveBits    = 26 // a year's numbers go to some two million
	firstYear  = 1999
	lastYear   = firstYear + 1<<(32-cveBits) - 1
	kevHeading = "CVE\tlisted\n"
)

// cveNumber packs a CVE id in order; ok is false for what is no CVE id.
func cveNumber(id string) (n uint32, ok bool) {
	rest, isCVE := strings.CutPrefix(id, "CVE-")
	y, s, two := strings.Cut(rest, "-")
	year, err1 := strconv.ParseUint(y, 10, 16)
	seq, err2 := strconv.ParseUint(s, 10, 32)
	if !isCVE || !two || err1 != nil || err2 != nil || len(y) != 4 || len(s) < 4 || len(s) > 4 && s[0] == '0' ||
		year < firstYear || year > lastYear || seq >= 1<<cveBits {
		return 0, false
	}
	return uint32(year-firstYear)<<cveBits | uint32(seq), true
}

func cveID(n uint32) string {
	return fmt.Sprintf("CVE-%d-%04d", n>>cveBits+firstYear, n&(1<<cveBits-1))
}

// Exploited says whether a CVE was in CISA's list of known exploited vulnerabilities.
// It says no where the list cannot be read, which Enrich reports as an error.
func (s *Snapshot) Exploited(cve string) bool {
	l, err := s.lists()
	if err != nil {
		return false
	}
	_, ok := l.exploited[cve]
	return ok
}

// EPSS is the probability, from 0 to 1, that a CVE is exploited within 30 days, as FIRST
// estimated it; ok is false where there is no estimate.
func (s *Snapshot) EPSS(cve string) (score float32, ok bool) {
	l, err := s.lists()
	if err != nil {
		return 0, false
	}
	n, ok := cveNumber(cve)
	if !ok {
		return 0, false
	}
	i, ok := slices.BinarySearch(l.cves, n)
	if !ok {
		return 0, false
	}
	return l.score(i), true
}

// Enrich sets Exploited and EPSS of findings by their ID and aliases; the highest score
// holds. It returns an error if the lists cannot be read, and changes nothing then.
func (s *Snapshot) Enrich(findings []vuln.Finding) error {
	if _, err := s.lists(); err != nil {
		return err
	}
	for i := range findings {
		f := &findings[i]
		for _, id := range append([]string{f.ID}, f.Aliases...) {
			f.Exploited = f.Exploited || s.Exploited(id)
			if score, ok := s.EPSS(id); ok {
				f.EPSS = max(f.EPSS, score)
			}
		}
	}
	return nil
}

// readLists reads the parts that hold lists.
func (s *Snapshot) readLists() (*lists, error) {
	l := &lists{exploited: map[string]time.Time{}}
	for _, p := range s.parts {
		if p.Kind == kindOSV {
			continue
		}
		raw, err := s.readList(p.File)
		if err == nil && p.Kind == kindKEV {
			l.exploited, err = decodeKEV(raw)
		} else if err == nil {
			l.cves, l.scores, err = decodeEPSS(raw)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s of the snapshot: %w", p.File, err)
		}
	}
	return l, nil
}

func (s *Snapshot) readList(name string) ([]byte, error) {
	packed, err := fs.ReadFile(s.folder, name)
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxList))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	return dec.DecodeAll(packed, nil)
}

// encodeKEV writes the list as text: a heading, then "CVE-2021-44228\t2021-12-10" a line.
func encodeKEV(kev map[string]time.Time) []byte {
	ids := make([]string, 0, len(kev))
	for id := range kev {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	out := []byte(kevHeading)
	for _, id := range ids {
		out = fmt.Appendf(out, "%s\t%s\n", id, kev[id].Format(time.DateOnly))
	}
	return out
}

func decodeKEV(raw []byte) (map[string]time.Time, error) {
	body, ok := strings.CutPrefix(string(raw), kevHeading)
	if !ok {
		return nil, errors.New("the heading is missing")
	}
	kev := map[string]time.Time{}
	for line := range strings.Lines(body) {
		id, day, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		at, err := time.Parse(time.DateOnly, day)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		kev[id] = at
	}
	return kev, nil
}

// encodeEPSS writes the scores, which lose nothing: the count and the differences of the
// ascending numbers as uvarints, then the scores' low, middle and high bytes, each
// apart, because that packs best.
func encodeEPSS(cves, scores []uint32) []byte {
	out := binary.AppendUvarint(nil, uint64(len(cves)))
	var before uint32
	for _, n := range cves {
		out = binary.AppendUvarint(out, uint64(n-before))
		before = n
	}
	for shift := 0; shift < 24; shift += 8 {
		for _, s := range scores {
			out = append(out, byte(s>>shift))
		}
	}
	return out
}

func decodeEPSS(raw []byte) (cves, scores []uint32, err error) {
	r := &indexReader{rest: raw}
	n := r.count()
	if n > len(raw)/4 {
		return nil, nil, errors.New("the scores are cut off")
	}
	cves, scores = make([]uint32, n), make([]uint32, n)
	at := 0
	for i := range cves {
		at += r.number(math.MaxUint32)
		cves[i] = uint32(at)
		if at > math.MaxUint32 || i > 0 && cves[i] <= cves[i-1] {
			r.fail("the ids are out of order")
		}
		if r.err != nil {
			return nil, nil, r.err
		}
	}
	if len(r.rest) != 3*n {
		return nil, nil, errors.New("the scores do not match the ids")
	}
	for i := range scores {
		scores[i] = uint32(r.rest[i]) | uint32(r.rest[n+i])<<8 | uint32(r.rest[2*n+i])<<16
	}
	return cves, scores, nil
}

// all iterates over the scores, until ctx ends.
func (l *lists) all(ctx context.Context) iter.Seq2[catalog.EPSS, error] {
	return func(yield func(catalog.EPSS, error) bool) {
		for i, n := range l.cves {
			if err := ctx.Err(); err != nil {
				yield(catalog.EPSS{}, err)
				return
			}
			if !yield(catalog.EPSS{CVE: cveID(n), Score: l.score(i)}, nil) {
				return
			}
		}
	}
}

func (l *lists) score(i int) float32 { return float32(float64(l.scores[i]) * epssUnit) }

// ids lists the known exploited vulnerabilities in order.
func (l *lists) ids() []string {
	ids := make([]string, 0, len(l.exploited))
	for id := range l.exploited {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// ParseKEV reads CISA's catalogue in the JSON form that it is published in
// (known_exploited_vulnerabilities.json): CVE id to the day it was listed.
func ParseKEV(r io.Reader) (kev map[string]time.Time, released time.Time, err error) {
	var doc struct {
		Released        time.Time `json:"dateReleased"`
		Vulnerabilities []struct {
			ID    string `json:"cveID"`
			Added string `json:"dateAdded"`
		} `json:"vulnerabilities"`
	}
	if err := json.NewDecoder(io.LimitReader(r, maxList)).Decode(&doc); err != nil {
		return nil, released, fmt.Errorf("read the known exploited vulnerabilities: %w", err)
	}
	kev = map[string]time.Time{}
	for i, v := range doc.Vulnerabilities {
		at, err := time.Parse(time.DateOnly, v.Added)
		if _, ok := cveNumber(v.ID); !ok || err != nil {
			return nil, released, fmt.Errorf("known exploited vulnerability %d: cveID %q, dateAdded %q: expected a CVE id and a date", i, v.ID, v.Added)
		}
		kev[v.ID] = at
	}
	if len(kev) == 0 || doc.Released.IsZero() {
		return nil, released, errors.New("known exploited vulnerabilities: no dateReleased or no entries")
	}
	return kev, doc.Released, nil
}

// ParseEPSS reads the scores in the form that FIRST publishes them in: a comment with
// score_date, a heading, then cve,epss,percentile a line.
func ParseEPSS(r io.Reader) (cves, scores []uint32, scored time.Time, err error) {
	in := bufio.NewReader(io.LimitReader(r, maxList))
	comment, err := in.ReadString('\n')
	if err != nil {
		return nil, nil, scored, fmt.Errorf("read EPSS scores: %w", err)
	}
	_, date, _ := strings.Cut(strings.TrimSpace(comment), "score_date:")
	if scored, err = parseScoreDate(date); err != nil {
		return nil, nil, scored, fmt.Errorf("read EPSS scores: first line %q: expected score_date:…: %w", comment, err)
	}
	rows := csv.NewReader(in)
	rows.FieldsPerRecord, rows.ReuseRecord = 3, true
	if head, err := rows.Read(); err != nil || head[0] != "cve" || head[1] != "epss" {
		return nil, nil, scored, fmt.Errorf("read EPSS scores: second line: expected cve,epss,percentile: %w", err)
	}
	var all []uint64
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, scored, fmt.Errorf("read EPSS scores: %w", err)
		}
		n, ok := cveNumber(row[0])
		p, err := strconv.ParseFloat(row[1], 64)
		if !ok || err != nil || !(p >= 0 && p <= 1) {
			return nil, nil, scored, fmt.Errorf("read EPSS scores: %q: expected a CVE id and a score from 0 to 1", row)
		}
		all = append(all, uint64(n)<<32|uint64(math.Round(p/epssUnit)))
	}
	if len(all) == 0 {
		return nil, nil, scored, errors.New("read EPSS scores: there are no scores")
	}
	slices.Sort(all)
	for i, v := range all {
		if i > 0 && v>>32 == all[i-1]>>32 {
			return nil, nil, scored, fmt.Errorf("read EPSS scores: %s comes twice", cveID(uint32(v>>32)))
		}
		cves, scores = append(cves, uint32(v>>32)), append(scores, uint32(v))
	}
	return cves, scores, scored, nil
}

// parseScoreDate takes both forms of offset that FIRST has used.
func parseScoreDate(s string) (time.Time, error) {
	if t, err := time.Parse("2006-01-02T15:04:05-0700", s); err == nil {
		return t, nil
	}
	return time.Parse(time.RFC3339, s)
}

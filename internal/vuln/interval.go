package vuln

import (
	"cmp"
	"regexp"
	"slices"

	"pratique.dev/pratique/internal/version"
)

// interval is a stretch of affected versions: from low on, up to high. No low is from
// the first version on, no high is to the last.
type interval struct {
	low, high version.Version
	through   bool // high is affected too
}

func (iv interval) has(v version.Version) (bool, error) {
	if !iv.low.IsZero() {
		if c, err := v.Compare(iv.low); err != nil || c < 0 {
			return false, err
		}
	}
	if iv.high.IsZero() {
		return true, nil
	}
	c, err := v.Compare(iv.high)
	return c < 0 || c == 0 && iv.through, err
}

// point is an Event with its version parsed. A zero version is "0", before all others.
type point struct {
	kind int
	at   version.Version
}

const (
	pointFixed = iota // of events at one version the later kind has the last word
	pointLastAffected
	pointIntroduced
	pointLimit
)

// compile turns a range's events into intervals, by OSV's evaluation ("Evaluation",
// schema 1.7): events in ascending order switch between affected and not; where there
// are limits, nothing from the highest on is affected.
func compile(ecosystem string, events []Event) ([]interval, error) {
	points := make([]point, 0, len(events))
	var limit version.Version
	limited, endless := false, false
	var alone []interval
	for _, e := range events {
		if iv, ok := releaseAlone(ecosystem, e); ok {
			alone = append(alone, iv)
		}
		p, err := parseEvent(ecosystem, e)
		if err != nil {
			return nil, err
		}
		if p.kind != pointLimit {
			points = append(points, p)
			continue
		}
		limited = true
		if e.Limit == "*" {
			endless = true
		} else if c, err := compareAt(limit, p.at); err != nil {
			return nil, err
		} else if c < 0 {
			limit = p.at
		}
	}
	if err := sortPoints(points); err != nil {
		return nil, err
	}
	out := append(walk(points), alone...)
	if limited && !endless {
		return cutAt(out, limit)
	}
	return out, nil
}

func sortPoints(points []point) (err error) {
	slices.SortStableFunc(points, func(p, q point) int {
		c, e := compareAt(p.at, q.at)
		if e != nil {
			err = e
		}
		return cmp.Or(c, cmp.Compare(p.kind, q.kind))
	})
	return err
}

// walk goes through ordered points.
func walk(points []point) []interval {
	var out []interval
	open := false
	for _, p := range points {
		switch {
		case p.kind == pointIntroduced && !open:
			out, open = append(out, interval{low: p.at}), true
		case p.kind != pointIntroduced && open:
			last := &out[len(out)-1]
			last.high, last.through = p.at, p.kind == pointLastAffected
			open = false
		}
	}
	return out
}

// cutAt ends all intervals before limit at the latest.
func cutAt(in []interval, limit version.Version) ([]interval, error) {
	var out []interval
	for _, iv := range in {
		if c, err := compareAt(iv.low, limit); err != nil {
			return nil, err
		} else if c >= 0 {
			continue
		}
		if c, err := compareHigh(iv.high, limit); err != nil {
			return nil, err
		} else if c >= 0 {
			iv.high, iv.through = limit, false
		}
		out = append(out, iv)
	}
	return out, nil
}

func parseEvent(ecosystem string, e Event) (p point, err error) {
	text := ""
	switch {
	case e.Introduced != "":
		p.kind, text = pointIntroduced, e.Introduced
		if text == "0" {
			return p, nil
		}
	case e.Fixed != "":
		p.kind, text = pointFixed, e.Fixed
	case e.LastAffected != "":
		p.kind, text = pointLastAffected, e.LastAffected
	default:
		p.kind, text = pointLimit, e.Limit
		if text == "*" {
			return p, nil
		}
	}
	p.at, err = version.Parse(ecosystem, text)
	return p, err
}

// pep440 is a version as PEP 440 has it (Appendix B), pythonRelease the numbers that it begins with.
var (
	pep440 = regexp.MustCompile(`(?i)^v?(\d+!)?\d+(\.\d+)*([-_.]?(alpha|a|beta|b|preview|pre|c|rc)[-_.]?\d*)?` +
		`(-\d+|[-_.]?(post|rev|r)[-_.]?\d*)?([-_.]?dev[-_.]?\d*)?(\+[a-z0-9]+([-_.][a-z0-9]+)*)?$`)
	pythonRelease = regexp.MustCompile(`^\d+(\.\d+)*`)
)

// releaseAlone gives the interval of the one release that a last affected version names
// which is no version: records converted from NVD's write "2.6.0-NA" and "2.6.0-cu124" for
// torch 2.6.0. Such a text has no place in Python's order (it would come before all), so
// that it says nothing of any other release.
func releaseAlone(ecosystem string, e Event) (interval, bool) {
	if ecosystem != "PyPI" || e.LastAffected == "" || pep440.MatchString(e.LastAffected) {
		return interval{}, false
	}
	v, err := version.Parse(ecosystem, pythonRelease.FindString(e.LastAffected))
	return interval{low: v, high: v, through: true}, err == nil
}

// compareAt compares lower ends: the zero version comes first.
func compareAt(a, b version.Version) (int, error) {
	if a.IsZero() || b.IsZero() {
		return rank(b.IsZero()) - rank(a.IsZero()), nil
	}
	return a.Compare(b)
}

// compareHigh compares upper ends: the zero version comes last.
func compareHigh(a, b version.Version) (int, error) {
	if a.IsZero() || b.IsZero() {
		return rank(a.IsZero()) - rank(b.IsZero()), nil
	}
	return a.Compare(b)
}

func rank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// firstOutside gives the first of candidates that lies above installed and in none of
// intervals. It sorts both and goes through them once.
func firstOutside(installed version.Version, candidates []version.Version, intervals []interval) (version.Version, error) {
	var failed error
	order := func(c int, err error) int {
		if err != nil {
			failed = err
		}
		return c
	}
	slices.SortFunc(candidates, func(a, b version.Version) int { return order(a.Compare(b)) })
	slices.SortFunc(intervals, func(a, b interval) int { return order(compareAt(a.low, b.low)) })
	var reach interval // the interval seen so far that goes furthest up
	next, seen := 0, false
	for _, c := range candidates {
		if order(c.Compare(installed)) <= 0 {
			continue
		}
		for ; next < len(intervals) && order(compareAt(intervals[next].low, c)) <= 0; next++ {
			iv := intervals[next]
			further := order(compareHigh(iv.high, reach.high))
			if !seen || further > 0 || further == 0 && iv.through {
				reach, seen = iv, true
			}
		}
		if failed != nil {
			return version.Version{}, failed
		}
		reach.low = version.Version{}
		if inside, err := reach.has(c); err != nil {
			return version.Version{}, err
		} else if !seen || !inside {
			return c, nil
		}
	}
	return version.Version{}, failed
}

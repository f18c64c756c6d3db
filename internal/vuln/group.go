package vuln

import (
	"cmp"
	"fmt"
	"slices"

	"pratique.dev/pratique/internal/version"
)

// sameFlaw joins ids that name the same flaw (a union-find over them).
type sameFlaw map[string]string

// root gives the id that stands for all ids of a flaw.
func (f sameFlaw) root(id string) string {
	top := id
	for up, ok := f[top]; ok && up != top; up, ok = f[top] {
		top = up
	}
	for id != top { // shorten the way for the next
		f[id], id = top, cmp.Or(f[id], top)
	}
	return top
}

func (f sameFlaw) join(a, b string) {
	ra, rb := f.root(a), f.root(b)
	if ra != rb {
		f[max(ra, rb)] = min(ra, rb)
	}
}

// flawGroup is one flaw, and all that is said of it.
type flawGroup struct {
	members []candidate // affected
	also    []candidate // not affected; of the same flaw all the same
	cleared string      // the rule of a vendor's "not affected"
}

// findings makes one finding of each flaw that an affected candidate names.
func (m *matcher) findings() []Finding {
	same := sameFlaw{}
	for _, c := range m.candidates {
		if len(c.Related) > 0 {
			continue
		}
		same.join(flawOf(c.ID), c.ID)
		for _, alias := range c.Aliases {
			same.join(c.ID, alias)
			same.join(flawOf(alias), alias)
		}
	}
	groups := m.groups(same)
	var out []Finding
	for _, root := range slices.Sorted(mapKeys(groups)) {
		g := groups[root]
		switch {
		case len(g.members) == 0:
		case g.cleared != "":
			for _, c := range g.members {
				m.clear(c.ID, g.cleared)
			}
		default:
			out = append(out, m.finding(root, g, same))
		}
	}
	return out
}

func (m *matcher) groups(same sameFlaw) map[string]*flawGroup {
	groups := map[string]*flawGroup{}
	of := func(id string) *flawGroup {
		root := same.root(id)
		if groups[root] == nil {
			groups[root] = &flawGroup{}
		}
		return groups[root]
	}
	for _, c := range m.candidates {
		named := c.Related
		if len(named) == 0 {
			named = []string{c.ID}
		}
		for _, id := range named {
			g := of(id)
			switch {
			case c.affected:
				g.members = append(g.members, c)
			case len(c.Related) == 0:
				g.also = append(g.also, c)
			}
			if c.notAffected {
				g.cleared = c.rule
			}
		}
		if !c.affected {
			m.cleared = append(m.cleared, Cleared{Advisory: c.ID, Package: m.key, Rule: c.rule, Undecided: c.undecided})
		}
	}
	return groups
}

func mapKeys(groups map[string]*flawGroup) func(func(string) bool) {
	return func(yield func(string) bool) {
		for key := range groups {
			if !yield(key) {
				return
			}
		}
	}
}

// finding merges a flaw's records.
func (m *matcher) finding(root string, g *flawGroup, same sameFlaw) Finding {
	slices.SortFunc(g.members, func(a, b candidate) int { return cmp.Compare(a.ID, b.ID) })
	f := Finding{Package: m.key}
	f.ID, f.Aliases = m.names(root, g, same)
	var intervals []interval
	var fixes []version.Version
	listed := map[string]bool{}
	for _, c := range g.members {
		m.merge(&f, c)
		intervals = append(intervals, c.intervals...)
		fixes = append(fixes, c.fixes...)
		for _, v := range c.versions {
			listed[v] = true
		}
	}
	for _, c := range g.also { // where these say it is affected further up, they name the way out
		intervals = append(intervals, c.intervals...)
		fixes = append(fixes, c.fixes...)
		for _, v := range c.versions {
			listed[v] = true
		}
	}
	f.Severity, f.SeveritySource = Rate(m.key.Ecosystem, f.Ratings)
	fixes = slices.DeleteFunc(fixes, func(v version.Version) bool { return listed[v.String()] })
	if !m.installed.IsZero() {
		if fixed, err := firstOutside(m.installed, fixes, intervals); err == nil {
			f.Fixed = fixed.String()
		}
	}
	if f.Fixed != "" {
		f.Status = StatusFixed
	} else if f.Status == StatusFixed {
		f.Status = StatusUnfixed
	}
	d := decisive(f.Fixed, g.members)
	f.Advisory, f.Why = d.ID, d.why
	f.Summary, f.URL = words(d, g.members)
	if f.Fixed != "" && d.fixesIn(f.Fixed) {
		f.Why = fmt.Sprintf("%s is below %s, the version that fixes it (%s)", m.key.Version, f.Fixed, d.ID)
	}
	return f
}

// merge adds what one record says beyond its versions.
func (m *matcher) merge(f *Finding, c candidate) {
	for _, r := range slices.Concat(c.Severity, c.ratings) {
		if !slices.Contains(f.Ratings, r) {
			f.Ratings = append(f.Ratings, r)
		}
	}
	f.Exploited = f.Exploited || c.Exploited
	f.Malicious = f.Malicious || c.Malicious
	f.EPSS = max(f.EPSS, c.EPSS)
	if c.status == StatusWontFix || f.Status == StatusFixed {
		f.Status = c.status
	}
	if c.Module != "" && !slices.Contains(f.Modules, c.Module) {
		f.Modules = append(f.Modules, c.Module)
	}
}

// names picks the id that people know, a CVE if there is one, and lists all others.
func (m *matcher) names(root string, g *flawGroup, same sameFlaw) (id string, aliases []string) {
	count := map[string]int{}
	for _, c := range slices.Concat(g.members, g.also) {
		for _, list := range [][]string{{c.ID, flawOf(c.ID)}, c.Aliases, c.Related} {
			for _, id := range list {
				if same.root(id) == root || id == c.ID {
					count[id]++
				}
			}
		}
	}
	all := make([]string, 0, len(count))
	for id := range count {
		all = append(all, id)
	}
	slices.SortFunc(all, func(a, b string) int {
		return cmp.Or(cmp.Compare(idRank(a), idRank(b)), cmp.Compare(count[b], count[a]), cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	aliases = all[1:]
	slices.Sort(aliases)
	return all[0], aliases
}

// idRank orders ids by how well they are known.
func idRank(id string) int {
	switch {
	case isCVE(id):
		return 0
	case len(id) > 5 && id[:5] == "GHSA-":
		return 1
	case isUpdate(id):
		return 3
	}
	return 2
}

// decisive is the record that names the fix, else one of the flaw itself, else the first.
func decisive(fixed string, members []candidate) candidate {
	best, rank := members[0], -1
	for _, c := range members {
		n := 0
		if fixed != "" && c.fixesIn(fixed) {
			n += 4
		}
		if len(c.Related) == 0 {
			n++
		}
		if n > rank {
			best, rank = c, n
		}
	}
	return best
}

func (o *outcome) fixesIn(fixed string) bool {
	return slices.ContainsFunc(o.fixes, func(v version.Version) bool { return v.String() == fixed })
}

// words takes summary and address of the decisive record, or of the first that has any.
func words(d candidate, members []candidate) (summary, url string) {
	summary, url = d.Summary, d.URL
	for _, c := range members {
		summary, url = cmp.Or(summary, c.Summary), cmp.Or(url, c.URL)
	}
	return summary, url
}

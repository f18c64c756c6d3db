package vuln

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Bounds on one OSV record. The largest of OSV's dumps have 0.1 MB (AlmaLinux) and
// 4 MB (kernel updates of SUSE).
const (
	maxRecord  = 16 << 20 // bytes
	maxSummary = 200      // bytes that are kept
	maxID      = 128
	maxName    = 512
)

// osvRecord is what is read of a record. (https://ossf.github.io/osv-schema/, 1.7)
type osvRecord struct {
	ID         string        `json:"id"`
	Modified   string        `json:"modified"`
	Published  string        `json:"published"`
	Withdrawn  string        `json:"withdrawn"`
	Aliases    []string      `json:"aliases"`
	Upstream   []string      `json:"upstream"`
	Related    []string      `json:"related"`
	Summary    string        `json:"summary"`
	Details    string        `json:"details"`
	Severity   []osvSeverity `json:"severity"`
	Affected   []osvAffected `json:"affected"`
	References []struct {
		Type string `json:"type"`
		URL  string `json:"url"`
	} `json:"references"`
	Specific osvSpecific `json:"database_specific"`
}

type osvSeverity struct {
	Type  string `json:"type"`
	Score string `json:"score"`
}

type osvAffected struct {
	Package struct {
		Ecosystem string `json:"ecosystem"`
		Name      string `json:"name"`
	} `json:"package"`
	Severity  []osvSeverity `json:"severity"`
	Ranges    []osvRange    `json:"ranges"`
	Versions  []string      `json:"versions"`
	Ecosystem osvSpecific   `json:"ecosystem_specific"`
	Database  osvSpecific   `json:"database_specific"`
}

type osvRange struct {
	Type   string  `json:"type"`
	Events []Event `json:"events"`
}

// osvSpecific is what databases add to the schema in fields of their own. Their types
// are not promised, so one that is not as expected counts as absent.
type osvSpecific struct {
	Severity      string   // GHSA, Ubuntu
	Urgency       string   // Debian
	Source        string   // where a converted record comes from
	Informational string   // RustSec: no vulnerability, "unmaintained"
	Categories    []string // RustSec
	CWEs          []string // GHSA
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *osvSpecific) UnmarshalJSON(raw []byte) error {
	if len(raw) <= len("null") {
		return nil
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return nil
	}
	for name, to := range map[string]any{
		"severity": &s.Severity, "urgency": &s.Urgency, "source": &s.Source, "informational": &s.Informational,
		"categories": &s.Categories, "cwe_ids": &s.CWEs,
	} {
		if value, ok := fields[name]; ok {
			_ = json.Unmarshal(value, to) // another type than the one we know: absent
		}
	}
	return nil
}

// ParseOSV reads one record in OSV's JSON (schema 1.7), as it came by the feed source.
// It is strict in what decides whether a package is affected, and its error names the
// field; ranges of type GIT and a rating that cannot be read are passed over. Names come
// out in the form of inventory.Key.
func ParseOSV(raw []byte, source string) (Advisory, error) {
	if len(raw) > maxRecord {
		return Advisory{}, fmt.Errorf("OSV record: %d bytes, more than %d", len(raw), maxRecord)
	}
	var rec osvRecord
	if err := json.Unmarshal(raw, &rec); err != nil {
		return Advisory{}, fmt.Errorf("OSV record: %w", err)
	}
	if err := checkID(rec.ID); err != nil {
		return Advisory{}, fmt.Errorf("OSV record: id: %w", err)
	}
	a, err := rec.advisory(source)
	if err != nil {
		return Advisory{}, fmt.Errorf("OSV record %s: %w", rec.ID, err)
	}
	return a, nil
}

func (rec *osvRecord) advisory(source string) (Advisory, error) {
	a := Advisory{ID: rec.ID, Source: source, Withdrawn: rec.Withdrawn != "", Summary: rec.summary(), URL: rec.url()}
	var err error
	if a.Modified, err = parseTime("modified", rec.Modified); err != nil {
		return a, err
	}
	if a.Published, err = parseTime("published", rec.Published); err != nil {
		return a, err
	}
	if _, err = parseTime("withdrawn", rec.Withdrawn); err != nil {
		return a, err
	}
	if isUpdate(rec.ID) {
		a.Related = flaws(rec.ID, rec.Upstream, rec.Related, rec.Aliases)
	} else {
		a.Aliases = ids(rec.ID, rec.Aliases, rec.Upstream)
	}
	a.Severity = rec.ratings()
	a.Malicious = rec.malicious()
	for i := range rec.Affected {
		aff, ok, err := rec.Affected[i].affected(rec.ID)
		if err != nil {
			return a, fmt.Errorf("affected[%d]%w", i, err)
		}
		if ok {
			a.Affected = append(a.Affected, aff)
		}
	}
	a.Module = moduleOf(a)
	return a, nil
}

// affected checks one entry. It is not ok where it tells of no package, as entries with
// nothing but GIT ranges do. Errors begin with the rest of the field's path.
func (o *osvAffected) affected(id string) (Affected, bool, error) {
	out := Affected{Ecosystem: o.Package.Ecosystem, Versions: o.Versions}
	for i, r := range o.Ranges {
		switch r.Type {
		case "GIT":
			continue
		case "SEMVER", "ECOSYSTEM":
		default:
			return out, false, fmt.Errorf(".ranges[%d].type: %.40q is none of GIT, SEMVER, ECOSYSTEM", i, r.Type)
		}
		if err := checkEvents(r.Events); err != nil {
			return out, false, fmt.Errorf(".ranges[%d]%w", i, err)
		}
		out.Ranges = append(out.Ranges, Range{Events: r.Events})
	}
	if o.Package.Name == "" && o.Package.Ecosystem == "" {
		if len(out.Ranges) > 0 {
			return out, false, errors.New(".package: missing, though there are ranges of versions")
		}
		return out, false, nil
	}
	if err := checkName(o.Package.Ecosystem); err != nil {
		return out, false, fmt.Errorf(".package.ecosystem: %w", err)
	}
	if err := checkName(o.Package.Name); err != nil {
		return out, false, fmt.Errorf(".package.name: %w", err)
	}
	out.Name = NormalName(o.Package.Ecosystem, o.Package.Name)
	if len(out.Ranges) == 0 && len(out.Versions) == 0 {
		return out, false, nil
	}
	out.Severity = o.ratings(id)
	return out, true, nil
}

// checkEvents holds a range to the schema: each event says one thing, and one at least
// says from where on.
func checkEvents(events []Event) error {
	introduced := false
	for i, e := range events {
		n := 0
		for _, field := range []string{e.Introduced, e.Fixed, e.LastAffected, e.Limit} {
			if field != "" {
				n++
			}
		}
		if n != 1 {
			return fmt.Errorf(".events[%d]: has %d of introduced, fixed, last_affected and limit; want 1", i, n)
		}
		introduced = introduced || e.Introduced != ""
	}
	if !introduced {
		return errors.New(".events: none says introduced")
	}
	return nil
}

func checkID(id string) error {
	if id == "" {
		return errors.New("missing")
	}
	if len(id) > maxID {
		return fmt.Errorf("longer than %d bytes", maxID)
	}
	for i := range len(id) {
		c := id[i]
		word := '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
		if !word && (i == 0 || !strings.ContainsRune("-_.:+", rune(c))) {
			return fmt.Errorf("%.40q has a character that ids do not have", id)
		}
	}
	return nil
}

func checkName(name string) error {
	if name == "" {
		return errors.New("missing")
	}
	if len(name) > maxName {
		return fmt.Errorf("longer than %d bytes", maxName)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%.40q has a control character", name)
	}
	return nil
}

func parseTime(field, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%s: %.40q is no time as RFC 3339 writes it", field, text)
	}
	return t.UTC(), nil
}

// ids merges lists of ids without doubles and without self. What is no id is left out.
func ids(self string, lists ...[]string) []string {
	var out []string
	for _, list := range lists {
		for _, id := range list {
			if id != self && checkID(id) == nil && !contains(out, id) {
				out = append(out, id)
			}
		}
	}
	return out
}

// flaws lists what an update fixes: the CVEs among lists, a distribution's own ids for
// them left out as they say the same.
func flaws(self string, lists ...[]string) []string {
	var out []string
	for _, id := range ids(self, lists...) {
		if id = flawOf(id); isCVE(id) && !contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// contains suits the short lists of ids; past 64 a double does no harm.
func contains(list []string, id string) bool {
	for _, have := range list[:min(len(list), 64)] {
		if have == id {
			return true
		}
	}
	return false
}

package feed

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/zstd"

	"pratique.dev/pratique/internal/vuln"
)

// The program reads snapshots; only these tests write them. See TestBuildSnapshot.

// blockSize is at how many bytes a block is closed. Larger blocks pack better, smaller
// ones make a lookup unpack less: at 256 KiB a part is 15 % larger than in one block.
const blockSize = 256 << 10

// osvDoc is an OSV record reduced to what ParseOSV reads, in the order of a part file.
type osvDoc struct {
	ID         string          `json:"id"`
	Modified   string          `json:"modified,omitempty"`
	Published  string          `json:"published,omitempty"`
	Withdrawn  string          `json:"withdrawn,omitempty"`
	Aliases    []string        `json:"aliases,omitempty"`
	Upstream   []string        `json:"upstream,omitempty"`
	Related    []string        `json:"related,omitempty"`
	Summary    string          `json:"summary,omitempty"`
	Details    string          `json:"details,omitempty"`
	Severity   json.RawMessage `json:"severity,omitempty"`
	References []osvReference  `json:"references,omitempty"`
	Specific   map[string]any  `json:"database_specific,omitempty"`
	Affected   []osvPackage    `json:"affected"`
}

type osvReference struct {
	Type string `json:"type"`
	URL  string `json:"url"`
}

type osvPackage struct {
	Package struct {
		Ecosystem string `json:"ecosystem"`
		Name      string `json:"name"`
	} `json:"package"`
	Severity  json.RawMessage `json:"severity,omitempty"`
	Ranges    []osvRange      `json:"ranges,omitempty"`
	Versions  []string        `json:"versions,omitempty"`
	Ecosystem map[string]any  `json:"ecosystem_specific,omitempty"`
	Database  map[string]any  `json:"database_specific,omitempty"`
}

type osvRange struct {
	Type   string          `json:"type"`
	Events json.RawMessage `json:"events"`
}

// reduced is a record of a part, and what it is sorted and found by.
type reduced struct {
	lines    []byte
	id       string
	packages []packageName
	modified time.Time
}

// reduce leaves out of a record what matching and explaining do not need, and makes sure
// that it still means the same.
func reduce(raw []byte, ecosystem string) (reduced, error) {
	d := dump{ecosystem: ecosystem}
	full, err := d.parse(raw)
	if err != nil {
		return reduced{}, err
	}
	var doc osvDoc
	if err := json.Unmarshal(raw, &doc); err != nil {
		return reduced{}, err
	}
	doc.Details = ""
	doc.Summary = full.Summary
	doc.References = nil
	if full.URL != "" {
		doc.References = []osvReference{{"ADVISORY", full.URL}}
	}
	doc.Specific = keepOnly(doc.Specific, "severity")
	doc.Affected = slices.DeleteFunc(doc.Affected, func(p osvPackage) bool { return base(p.Package.Ecosystem) != ecosystem })
	for i := range doc.Affected {
		p := &doc.Affected[i]
		p.Package.Name = vuln.NormalName(p.Package.Ecosystem, p.Package.Name)
		p.Ranges = slices.DeleteFunc(p.Ranges, func(r osvRange) bool { return r.Type == "GIT" })
		p.Ecosystem = keepOnly(p.Ecosystem, "severity", "urgency")
		p.Database = keepOnly(p.Database, "severity", "informational", "categories")
	}
	doc.Affected = slices.DeleteFunc(doc.Affected, func(p osvPackage) bool { return len(p.Ranges) == 0 && len(p.Versions) == 0 })
	out := reduced{id: doc.ID, modified: full.Modified}
	for _, f := range full.Affected {
		out.packages = append(out.packages, packageName{f.Ecosystem, f.Name})
	}
	if out.lines, err = doc.lines(); err != nil {
		return reduced{}, err
	}
	small, err := d.parse(out.lines)
	if err != nil {
		return reduced{}, fmt.Errorf("reduced: %w", err)
	}
	if diff := gocmp.Diff(full, small, cmpopts.EquateEmpty()); diff != "" {
		return reduced{}, fmt.Errorf("the reduced record means something else (-full +reduced):\n%s", diff)
	}
	return out, nil
}

// keepOnly keeps the named fields that say something.
func keepOnly(m map[string]any, names ...string) map[string]any {
	out := map[string]any{}
	for _, n := range names {
		switch v := m[n].(type) {
		case string:
			if v != "" {
				out[n] = v
			}
		case []any:
			if slices.Contains(v, any("malicious")) {
				out[n] = v
			}
		}
	}
	if s, _ := m["source"].(string); strings.HasPrefix(s, "RetireJS/") {
		out["source"] = s
	}
	if c, ok := m["cwe_ids"].([]any); ok && slices.Contains(c, any("CWE-506")) {
		out["cwe_ids"] = c
	}
	return out
}

// lines writes the record as a part file holds it.
func (d *osvDoc) lines() ([]byte, error) {
	packages := d.Affected
	d.Affected = []osvPackage{}
	out, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	out, ok := bytes.CutSuffix(out, []byte("]}"))
	if !ok {
		return nil, fmt.Errorf("%s: affected is not its last member", d.ID)
	}
	out = append(out, '\n')
	for i, p := range packages {
		line, err := json.Marshal(p)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(out, line...), '\n')
	}
	return append(out, "]}\n"...), nil
}

// writePart puts a part file together. Records on the same package lie side by side,
// which packs well and makes a lookup touch few blocks.
func writePart(records []reduced) ([]byte, error) {
	first := func(r reduced) packageName {
		if len(r.packages) == 0 {
			return packageName{}
		}
		return r.packages[0]
	}
	slices.SortFunc(records, func(a, b reduced) int {
		x, y := first(a), first(b)
		return cmp.Or(cmp.Compare(x.ecosystem, y.ecosystem), cmp.Compare(x.name, y.name), cmp.Compare(a.id, b.id))
	})
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	out, refs, n := []byte(partMagic), []byte(nil), 0
	for from := 0; from < len(records); n++ {
		var raw []byte
		to := from
		for to < len(records) && (to == from || len(raw)+len(records[to].lines) <= blockSize) {
			raw = append(raw, records[to].lines...)
			to++
		}
		before := len(out)
		out = enc.EncodeAll(raw, out)
		refs = binary.AppendUvarint(refs, uint64(len(out)-before))
		refs = binary.AppendUvarint(refs, uint64(len(raw)))
		refs = binary.AppendUvarint(refs, uint64(to-from))
		from = to
	}
	index := append(binary.AppendUvarint(nil, uint64(n)), refs...)
	index = appendNames(index, records)
	before := len(out)
	out = enc.EncodeAll(index, out)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(out)-before))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(index)))
	return append(out, indexMagic...), nil
}

// appendNames writes which records name which packages.
func appendNames(index []byte, records []reduced) []byte {
	byName := map[string]map[string][]int{}
	for i, r := range records {
		for _, p := range r.packages {
			if byName[p.ecosystem] == nil {
				byName[p.ecosystem] = map[string][]int{}
			}
			if list := byName[p.ecosystem][p.name]; len(list) == 0 || list[len(list)-1] != i {
				byName[p.ecosystem][p.name] = append(list, i)
			}
		}
	}
	index = binary.AppendUvarint(index, uint64(len(byName)))
	for _, e := range sortedKeys(byName) {
		index = appendText(index, e)
		index = binary.AppendUvarint(index, uint64(len(byName[e])))
		before := ""
		for _, name := range sortedKeys(byName[e]) {
			shared := 0
			for shared < min(len(before), len(name)) && before[shared] == name[shared] {
				shared++
			}
			index = binary.AppendUvarint(index, uint64(shared))
			index = appendText(index, name[shared:])
			index = binary.AppendUvarint(index, uint64(len(byName[e][name])))
			last := -1
			for _, i := range byName[e][name] {
				index = binary.AppendUvarint(index, uint64(i-last-1))
				last = i
			}
			before = name
		}
	}
	return index
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// holds expects the advisory among got, with what it says of one package.
func holds(got []vuln.Advisory, want vuln.Advisory, n packageName) error {
	want.Affected = slices.DeleteFunc(slices.Clone(want.Affected), func(f vuln.Affected) bool {
		return f.Ecosystem != n.ecosystem || f.Name != n.name
	})
	i := slices.IndexFunc(got, func(a vuln.Advisory) bool { return a.ID == want.ID })
	if i < 0 {
		return fmt.Errorf("%s is not found", want.ID)
	}
	if reflect.DeepEqual(got[i], want) {
		return nil
	}
	if diff := gocmp.Diff(want, got[i], cmpopts.EquateEmpty()); diff != "" {
		return fmt.Errorf("%s (-want +got):\n%s", want.ID, diff)
	}
	return nil
}

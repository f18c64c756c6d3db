package feed

import (
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"
	"time"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/vuln"
)

//go:embed snapshot
var embedded embed.FS

// Part is one ecosystem's advisories, or one list beside them, and where they come from.
type Part struct {
	Kind string `json:"kind"` // "osv", "kev" or "epss"
	// Ecosystem is whose advisories these are, without a release: "Debian".
	Ecosystem string    `json:"ecosystem,omitempty"`
	File      string    `json:"file"`
	Records   int       `json:"records"`
	AsOf      time.Time `json:"asOf"`            // the state of the source that it shows
	Newest    time.Time `json:"newest,omitzero"` // when the newest record was changed
	// Covers says of each ecosystem, as packages name it ("Debian:12"), how far it is covered.
	Covers      map[string]vuln.Coverage `json:"covers,omitempty"`
	Licence     string                   `json:"licence,omitempty"`
	Attribution string                   `json:"attribution,omitempty"`
	Sources     []string                 `json:"sources,omitempty"` // public repository, commit, date
	Note        string                   `json:"note,omitempty"`    // what is missing
	SHA256      string                   `json:"sha256,omitempty"`  // of File
}

// The kinds of parts.
const (
	kindOSV  = "osv"
	kindKEV  = "kev"
	kindEPSS = "epss"
)

// Snapshot is the dated set of advisories that is built into the program. Its methods
// may be called at once.
type Snapshot struct {
	folder fs.FS
	parts  []Part
	files  []*partFile // of each part, nil if it holds no advisories
	blocks blockCache
	lists  func() (*lists, error)
}

type manifest struct {
	Parts []Part `json:"parts"`
}

func openEmbedded() (*Snapshot, error) {
	folder, err := fs.Sub(embedded, "snapshot")
	if err != nil {
		return nil, err
	}
	return openSnapshot(folder)
}

var embeddedOnce = sync.OnceValues(openEmbedded)

// Embedded returns the snapshot that is built into the program. It reads the manifest
// only; a part is opened when something of it is asked for.
func Embedded() (*Snapshot, error) { return embeddedOnce() }

// openSnapshot opens the snapshot in a folder; its files must be io.ReaderAt.
func openSnapshot(folder fs.FS) (*Snapshot, error) {
	raw, err := fs.ReadFile(folder, "MANIFEST.json")
	if err != nil {
		return nil, fmt.Errorf("read the snapshot's manifest: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("read the snapshot's manifest: %w", err)
	}
	s := &Snapshot{folder: folder, parts: m.Parts, files: make([]*partFile, len(m.Parts))}
	for i, p := range s.parts {
		if p.Kind != kindOSV {
			continue
		}
		if s.files[i], err = openPart(folder, p.File); err != nil {
			return nil, err
		}
	}
	s.lists = sync.OnceValues(s.readLists)
	return s, nil
}

func openPart(folder fs.FS, name string) (*partFile, error) {
	f, err := folder.Open(path.Clean(name))
	if err != nil {
		return nil, fmt.Errorf("open part of the snapshot: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open part of the snapshot: %w", err)
	}
	r, ok := f.(io.ReaderAt)
	if !ok {
		return nil, fmt.Errorf("part %s of the snapshot cannot be read at an offset", name)
	}
	return &partFile{r: r, size: info.Size()}, nil
}

// AsOf is the date of the snapshot's newest part. Single ecosystems can be older, see Covered.
func (s *Snapshot) AsOf() time.Time { return latest(s.parts) }

func latest(parts []Part) time.Time {
	var t time.Time
	for _, p := range parts {
		if p.Kind == kindOSV && p.AsOf.After(t) {
			t = p.AsOf
		}
	}
	return t
}

// Parts lists what the snapshot is made of. The caller must not change it.
func (s *Snapshot) Parts() []Part { return s.parts }

// Covers says whether the advisories of an ecosystem ("Debian:12", "npm") are in the
// snapshot: only then does no advisory mean that none is known.
func (s *Snapshot) Covers(ecosystem string) bool {
	_, ok := s.Covered(ecosystem)
	return ok
}

// Covered is Covers with how far the ecosystem is covered.
func (s *Snapshot) Covered(ecosystem string) (vuln.Coverage, bool) {
	return covered(s.parts, ecosystem)
}

func covered(parts []Part, ecosystem string) (vuln.Coverage, bool) {
	for _, n := range vuln.LookupEcosystems(inventory.Key{Ecosystem: ecosystem}) {
		// A record that leaves out the release does not cover the releases that others name.
		bare := n != ecosystem && n == base(ecosystem)
		for _, p := range parts {
			if c, ok := p.Covers[n]; ok && (!bare || len(p.Covers) == 1) {
				return c, true
			}
		}
	}
	return vuln.Coverage{}, false
}

// holds says whether some record of the part names the ecosystem.
func (p *Part) holds(ecosystem string) bool {
	_, ok := p.Covers[ecosystem]
	return ok
}

// Lookup returns the advisories that name a package, in the order of the snapshot. Their
// Affected holds only what is said of that package; of a package that no advisory
// names, none are returned.
func (s *Snapshot) Lookup(key inventory.Key) ([]vuln.Advisory, error) {
	ecosystems := vuln.LookupEcosystems(key)
	heads := make([][]byte, 0, len(ecosystems))
	for _, e := range ecosystems {
		h, err := packageHead(e, key.Name)
		if err != nil {
			return nil, fmt.Errorf("look up %s %s: %w", e, key.Name, err)
		}
		heads = append(heads, h)
	}
	var out []vuln.Advisory
	for i := range s.parts {
		p := &s.parts[i]
		if s.files[i] == nil || !slices.ContainsFunc(ecosystems, p.holds) {
			continue
		}
		found, err := s.lookupPart(i, ecosystems, key.Name, heads)
		if err != nil {
			return nil, fmt.Errorf("look up %s %s in the snapshot: %w", key.Ecosystem, key.Name, err)
		}
		out = append(out, found...)
	}
	return out, nil
}

func (s *Snapshot) lookupPart(part int, ecosystems []string, name string, heads [][]byte) ([]vuln.Advisory, error) {
	f := s.files[part]
	idx, err := f.index()
	if err != nil {
		return nil, err
	}
	var numbers []uint32
	for _, e := range ecosystems {
		numbers = append(numbers, idx.ecosystems[e].find(name)...)
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	out := make([]vuln.Advisory, 0, len(numbers))
	var doc []byte
	for _, n := range numbers {
		at := idx.blockOf(int(n))
		b, err := s.blocks.get(f, idx, at)
		if err != nil {
			return nil, err
		}
		doc = only(doc[:0], b.record(int(n)-idx.blocks[at].first), heads)
		a, err := vuln.ParseOSV(doc, Source)
		if err != nil {
			return nil, err
		}
		a.Affected = slices.DeleteFunc(a.Affected, func(f vuln.Affected) bool {
			return f.Name != name || !slices.Contains(ecosystems, f.Ecosystem)
		})
		out = append(out, a)
	}
	return out, nil
}

// blockCache keeps the blocks that were used last, up to cacheSize bytes.
type blockCache struct {
	mu    sync.Mutex
	used  []cached // the last used one last
	bytes int
}

type cached struct {
	file *partFile
	n    int
	b    *block
}

// cacheSize holds all that one distribution's packages ask for, as a rule.
const cacheSize = 16 << 20

// get returns block n of a file, from the cache or unpacked.
func (c *blockCache) get(f *partFile, idx *partIndex, n int) (*block, error) {
	if b := c.find(f, n); b != nil {
		return b, nil
	}
	b, err := f.readBlock(idx, n)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used = append(c.used, cached{f, n, b})
	c.bytes += len(b.raw)
	for c.bytes > cacheSize && len(c.used) > 1 {
		c.bytes -= len(c.used[0].b.raw)
		c.used = slices.Delete(c.used, 0, 1)
	}
	return b, nil
}

func (c *blockCache) find(f *partFile, n int) *block {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.used, func(u cached) bool { return u.file == f && u.n == n })
	if i < 0 {
		return nil
	}
	u := c.used[i]
	c.used = append(slices.Delete(c.used, i, i+1), u)
	return u.b
}

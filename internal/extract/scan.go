package extract

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"pratique.dev/pratique/internal/inventory"
)

// scan is the reading of one layer, from its first entry to its inventory. One
// goroutine uses it.
type scan struct {
	set   *Set
	fatal error // the temporary folder failed

	written  []uint64
	aliases  []uint64 // of written paths that a merged /usr calls by another name
	folders  []uint64
	removed  []string
	files    int64
	examined map[string]bool
	distros  map[string]inventory.Distro
	links    map[string]string // symbolic links that stand where an os-release may
	read     map[string][]inventory.Package
	packages int // read, counted once for each path
	programs map[string]sum

	owners     map[uint64]int32
	ownerNames []string
	ownerIndex map[string]int32
	claimable  map[uint64]bool // owned paths that may hold packages or programs
	diversions []diversion

	gaps map[inventory.GapKind]*gapList
	buf  []byte // for files that are held in memory, reused
	head [elfHead]byte
}

type diversion struct{ pkg, path, to string }

// gapList is the gaps of one kind: the first of them, and how many more there are.
type gapList struct {
	listed []inventory.Gap
	more   int
}

func (s *Set) scan() *scan {
	return &scan{
		set:        s,
		examined:   map[string]bool{},
		distros:    map[string]inventory.Distro{},
		links:      map[string]string{},
		read:       map[string][]inventory.Package{},
		programs:   map[string]sum{},
		owners:     map[uint64]int32{},
		ownerIndex: map[string]int32{},
		claimable:  map[uint64]bool{},
		gaps:       map[inventory.GapKind]*gapList{},
	}
}

// gap notes what could not be seen. Text out of the layer is made fit to print.
func (s *scan) gap(kind inventory.GapKind, path, reason string) {
	l := s.gaps[kind]
	if l == nil {
		l = &gapList{}
		s.gaps[kind] = l
	}
	if len(l.listed) >= s.set.limits.Gaps {
		l.more++
		return
	}
	l.listed = append(l.listed, inventory.Gap{Kind: kind, Path: printable(path, 512), Reason: printable(reason, 300)})
}

// printable makes outside text fit for a report: valid, without control characters, of bounded length.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}

// place makes room for an entry at p: whatever this layer had there before is replaced.
func (s *scan) place(p string) {
	s.forget(p)
	s.written = append(s.written, inventory.PathHash(p))
	if merged := inventory.MergedUsr(p); merged != p {
		s.aliases = append(s.aliases, inventory.PathHash(merged))
	}
}

// forget drops what was read from p.
func (s *scan) forget(p string) {
	if old, ok := s.read[p]; ok {
		s.packages -= len(old)
		delete(s.read, p)
	}
	delete(s.programs, p)
	delete(s.distros, p)
	delete(s.links, p)
}

// regular looks into a file: f's kind by its name, or else by its first bytes.
func (s *scan) regular(ctx context.Context, f *File) {
	f.s = s
	s.place(f.Path)
	defer func() { f.spool.close() }()
	for _, x := range s.set.extractors {
		if x.Wants(f.Path) {
			s.extract(ctx, x, f)
			return
		}
	}
	s.program(f)
}

// extract lets x read f. A panic in a parser is a file that could not be read.
func (s *scan) extract(ctx context.Context, x Extractor, f *File) {
	found := &Found{s: s, file: f, read: true}
	err := func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("the %s reader gave up: %v", x.Kind(), p)
			}
		}()
		return x.Extract(ctx, f, found)
	}()
	if found.read && (err == nil || len(s.read[f.Path]) > 0) {
		s.examined[x.Kind()] = true
	}
	s.failed(f.Path, x.Kind(), err)
}

// failed sorts an extractor's error: a limit, the temporary folder, or bad content.
func (s *scan) failed(path, kind string, err error) {
	var bound *boundError
	var temp *tempError
	switch {
	case err == nil:
	case errors.As(err, &temp):
		s.fatal = cmp.Or(s.fatal, err)
	case errors.As(err, &bound):
		s.gap(inventory.GapBound, path, bound.what)
	case errors.Is(err, io.ErrUnexpectedEOF):
		s.gap(inventory.GapUnread, path, "broken off: not a whole "+kind+" file")
	default:
		s.gap(inventory.GapUnread, path, err.Error())
	}
}

// addPackage keeps a package that was read from the file at p.
func (s *scan) addPackage(p string, pkg inventory.Package) {
	if s.packages >= s.set.limits.Packages {
		s.gap(inventory.GapBound, "", fmt.Sprintf("more than %d packages in the layer", s.set.limits.Packages))
		return
	}
	s.packages++
	s.read[p] = append(s.read[p], pkg)
}

// own notes that pkg installed p. Files are looked up by the names of a merged /usr.
func (s *scan) own(pkg, p string) {
	p = inventory.MergedUsr(p)
	if p == "" || p == "." {
		return
	}
	if len(s.owners) >= s.set.limits.Owned {
		s.gap(inventory.GapBound, "", fmt.Sprintf("the package databases of the layer list more than %d files", s.set.limits.Owned))
		return
	}
	at, ok := s.ownerIndex[pkg]
	if !ok {
		at = int32(len(s.ownerNames))
		s.ownerNames = append(s.ownerNames, pkg)
		s.ownerIndex[pkg] = at
	}
	h := inventory.PathHash(p)
	s.owners[h] = at
	if s.mayHold(p) {
		s.claimable[h] = true
	}
}

// mayHold says whether a file of that name could be read as a package or be a program: only
// such files need an owner in another layer.
func (s *scan) mayHold(p string) bool {
	for _, x := range s.set.extractors {
		if x.Wants(p) {
			return true
		}
	}
	return !strings.HasPrefix(p, "usr/share/") && !strings.HasPrefix(p, "etc/") && path.Ext(p) == ""
}

// owner returns the package that installed p, "" if none did.
func (s *scan) owner(p string) string {
	at, ok := s.owners[inventory.PathHash(inventory.MergedUsr(p))]
	if !ok {
		return ""
	}
	return s.ownerNames[at]
}

// hardLink gives p what was found at target: both are names of one file.
func (s *scan) hardLink(p, target string) {
	if p == target {
		s.gap(inventory.GapUnusable, p, "a hard link to itself")
		return
	}
	pkgs, hadPackages := s.read[target]
	content, wasProgram := s.programs[target]
	distro, wasDistro := s.distros[target]
	s.place(p)
	for _, pkg := range pkgs {
		pkg.Paths = slices.Clone(pkg.Paths)
		for i, old := range pkg.Paths {
			pkg.Paths[i] = p + strings.TrimPrefix(old, target)
		}
		s.addPackage(p, pkg)
	}
	if wasProgram {
		s.programs[p] = content
	}
	if wasDistro {
		distro.Path = p
		s.distros[p] = distro
	}
	if hadPackages || wasProgram || wasDistro {
		return
	}
	for _, x := range s.set.extractors {
		if x.Wants(p) && !x.Wants(target) {
			s.gap(inventory.GapUnread, p, "a hard link to "+target+", which does not tell by its name what it is")
			return
		}
	}
}

// finish makes the layer's inventory of all that was read.
func (s *scan) finish() inventory.Layer {
	s.divert()
	l := inventory.Layer{
		ExtractedBy: version,
		Distro:      s.distro(),
		Removed:     s.removed,
		Written:     inventory.NewPathSet(s.written),
		Folders:     inventory.NewPathSet(s.folders),
		Files:       s.files,
	}
	l.Packages = s.grouped(l.Distro)
	l.Programs, l.Vouched = s.unknown()
	l.Claims = s.claims(l.Written)
	l.Coverage = s.coverage()
	return l
}

// divert moves the ownership of diverted files.
func (s *scan) divert() {
	for _, d := range s.diversions {
		from := inventory.PathHash(inventory.MergedUsr(d.path))
		if at, ok := s.owners[from]; ok && s.ownerNames[at] != d.pkg {
			s.owners[inventory.PathHash(inventory.MergedUsr(d.to))] = at
		}
	}
}

// distro picks the layer's os-release as os-release(5) says. A link is followed only
// to another file that was read as one.
func (s *scan) distro() inventory.Distro {
	for _, p := range []string{"etc/os-release", "usr/lib/os-release"} {
		for hops := 0; p != "" && hops < 8; hops++ {
			if d, ok := s.distros[p]; ok {
				return d
			}
			p = s.links[p]
		}
	}
	return inventory.Distro{}
}

// grouped merges packages of the same identity and owner, which then have several
// paths, and sorts them.
func (s *scan) grouped(d inventory.Distro) []inventory.Package {
	type identity struct{ kind, name, version, binary, binaryVersion, arch, owner string }
	at := make(map[identity]int, s.packages)
	out := make([]inventory.Package, 0, s.packages)
	for _, p := range slices.Sorted(maps.Keys(s.read)) {
		owns := s.owner(p)
		for _, pkg := range s.read[p] {
			owner := owns
			if pkg.IsOS() {
				owner = "" // a database's packages stand for themselves
			}
			id := identity{pkg.Type, pkg.Name, pkg.Version, pkg.Binary, pkg.BinaryVersion, pkg.Arch, owner}
			if i, ok := at[id]; ok {
				// Files come in order, so that only the last path can come again.
				have := out[i].Paths
				for _, more := range pkg.Paths {
					if more != have[len(have)-1] {
						have = append(have, more)
					}
				}
				out[i].Paths = have
				continue
			}
			pkg.OwnedBy = owner
			pkg.PURL = inventory.PackageURL(&pkg, d)
			at[id] = len(out)
			out = append(out, pkg)
		}
	}
	slices.SortStableFunc(out, func(a, b inventory.Package) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Binary, b.Binary),
			cmp.Compare(a.BinaryVersion, b.BinaryVersion), cmp.Compare(a.Arch, b.Arch))
	})
	return out
}

// unknown parts the programs into those that no package of this layer owns and the
// sums of those that one does.
func (s *scan) unknown() ([]inventory.Program, inventory.PathSet) {
	var open []inventory.Program
	var vouched []uint64
	for _, p := range slices.Sorted(maps.Keys(s.programs)) {
		sum := inventory.ProgramSum(p, s.programs[p])
		if s.owner(p) != "" {
			vouched = append(vouched, sum)
			continue
		}
		open = append(open, inventory.Program{Path: p, Sum: sum})
	}
	if n := s.set.limits.Programs; len(open) > n {
		l := s.gaps[inventory.GapUnknown]
		if l == nil {
			l = &gapList{}
			s.gaps[inventory.GapUnknown] = l
		}
		l.more += len(open) - n
		open = open[:n]
	}
	return open, inventory.NewPathSet(vouched)
}

// claims are the owned files that may matter and lie in another layer.
func (s *scan) claims(written inventory.PathSet) []inventory.Claim {
	for _, here := range [][]uint64{written, s.aliases} {
		for _, h := range here {
			delete(s.claimable, h)
		}
	}
	byOwner := map[int32][]uint64{}
	for h := range s.claimable {
		byOwner[s.owners[h]] = append(byOwner[s.owners[h]], h)
	}
	var out []inventory.Claim
	for _, at := range slices.Sorted(maps.Keys(byOwner)) {
		out = append(out, inventory.Claim{Package: s.ownerNames[at], Paths: inventory.NewPathSet(byOwner[at])})
	}
	slices.SortFunc(out, func(a, b inventory.Claim) int { return cmp.Compare(a.Package, b.Package) })
	return out
}

// moreOf says in words what gaps beyond the listed ones are.
var moreOf = map[inventory.GapKind]string{
	inventory.GapUnread:   "more files that could not be read",
	inventory.GapBound:    "more places where a limit was reached",
	inventory.GapUnknown:  "more programs of unknown origin",
	inventory.GapUnusable: "more entries that cannot be placed",
	inventory.GapArchive:  "more faults of the archive",
}

func (s *scan) coverage() inventory.Coverage {
	c := inventory.Coverage{Examined: slices.Sorted(maps.Keys(s.examined)), Unknown: []inventory.Gap{}}
	for _, kind := range slices.Sorted(maps.Keys(s.gaps)) {
		l := s.gaps[kind]
		c.Unknown = append(c.Unknown, l.listed...)
		if l.more > 0 {
			c.Unknown = append(c.Unknown, inventory.Gap{Kind: kind, Reason: moreOf[kind], Count: l.more})
		}
	}
	return c
}

// clean brings a name in the archive to the form of an inventory: no leading slash, no
// "." and no "..". ok is false for a name that leaves the root: some container runtimes
// cut it off there, others refuse the layer.
func clean(name string) (p string, ok bool) {
	p = path.Clean(strings.TrimLeft(name, "/"))
	if p == ".." || strings.HasPrefix(p, "../") || strings.IndexByte(p, 0) >= 0 {
		return "", false
	}
	if p == "." {
		return "", true
	}
	return p, true
}

func executable(m fs.FileMode) bool { return m&0o111 != 0 }

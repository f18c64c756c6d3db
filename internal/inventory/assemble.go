package inventory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"pratique.dev/pratique/internal/oci"
)

// listedPrograms is how many programs of unknown origin an Image lists one by one.
const listedPrograms = 20

// Assemble puts an image together out of its layers, the lowest first, as a container
// runtime would unpack them (image-spec layer.md, "Applying Changesets"): what an
// upper layer removes or writes over is gone. A package belongs to the layer that
// brought its present version: one that an upper layer's database or copied-up file
// repeats unchanged stays with the lower layer, and keeps its owner.
//
// Assemble also says what only the whole image tells: the ecosystem and package URL
// of operating system packages, that no os-release or no package database was found,
// and which programs nothing explains.
func Assemble(manifest oci.Digest, layers []Layer) Image {
	a := assembly{layers: layers, near: newCover(layers), live: map[unitKey]*unit{}}
	img := Image{Manifest: manifest, Distro: a.distro()}
	for i := len(layers) - 1; i >= 0; i-- {
		a.take(i)
		a.near.add(i, &layers[i])
	}
	a.claim()
	img.Packages = a.placed(img.Distro)
	img.Coverage = a.coverage()
	if img.Distro.IsZero() {
		a.gap(&img, GapNoOS, "", "no os-release was found: the distribution is unknown")
		return img
	}
	img.Distro.Ecosystem = img.Distro.ownEcosystem()
	if !slices.ContainsFunc(img.Packages, func(p Placed) bool { return p.IsOS() }) {
		a.gap(&img, GapUnread, "", fmt.Sprintf("%s has no readable package database: the operating system's packages are unknown", name(img.Distro)))
	}
	return img
}

func name(d Distro) string {
	if d.PrettyName != "" {
		return d.PrettyName
	}
	return strings.TrimSpace(d.ID + " " + d.VersionID)
}

// unitKey names one package read from one path.
type unitKey struct {
	kind, binary, version, arch, path string
}

// unit is one package at one path that the finished image has.
type unit struct {
	pkg   *Package
	path  string
	owner string
	home  int // the lowest layer that brought this version, as far as seen
}

type assembly struct {
	layers   []Layer
	near     *cover
	live     map[unitKey]*unit
	order    []*unit
	gaps     []Gap
	programs []placedProgram
}

type placedProgram struct {
	Program
	layer int
}

// take adds what layer i holds and the layers above have left of it.
func (a *assembly) take(i int) {
	l := &a.layers[i]
	above := map[string]int{} // many packages share the path of their database
	for n := range l.Packages {
		p := &l.Packages[n]
		for _, path := range p.Paths {
			file := outer(path)
			by, seen := above[file]
			if !seen {
				by = a.near.above(file)
				above[file] = by
			}
			a.takePackage(i, p, path, by)
		}
	}
	for _, p := range l.Programs {
		if a.near.above(p.Path) == nowhere {
			a.programs = append(a.programs, placedProgram{p, i})
		}
	}
	for n := len(l.Coverage.Unknown) - 1; n >= 0; n-- {
		g := l.Coverage.Unknown[n]
		if (g.Kind == GapUnread || g.Kind == GapBound) && g.Path != "" && a.near.above(outer(g.Path)) != nowhere {
			continue // what could not be read is no longer there
		}
		if g.Layer.IsZero() {
			g.Layer = l.Digest
		}
		a.gaps = append(a.gaps, g)
	}
}

// takePackage adds p, read from path in layer i. by is the next layer above that
// wrote or removed path; if that one brought the same package again, it is i that
// brought it first.
func (a *assembly) takePackage(i int, p *Package, path string, by int) {
	key := unitKey{p.Type, p.Binary, p.BinaryVersion, p.Arch, path}
	if by == nowhere {
		if a.live[key] == nil {
			u := &unit{pkg: p, path: path, owner: p.OwnedBy, home: i}
			a.live[key] = u
			a.order = append(a.order, u)
		}
		return
	}
	if u := a.live[key]; u != nil && u.home == by {
		u.home = i
		if u.owner == "" {
			u.owner = p.OwnedBy
		}
	}
}

// claim looks for the owners of what no database in its own layer owns: in some
// images the database lies in a layer of its own, above the files.
func (a *assembly) claim() {
	claims := a.claims()
	installed := map[string]bool{}
	for _, u := range a.order {
		if u.pkg.IsOS() {
			installed[u.pkg.Binary] = true
		}
	}
	for _, u := range a.order {
		if u.pkg.IsOS() {
			continue
		}
		if u.owner == "" {
			u.owner = claims.owner(a, outer(u.path), u.home)
		}
		if !installed[u.owner] {
			u.owner = "" // gone from the database, whose advisories no longer speak for its files
		}
	}
	a.programs = slices.DeleteFunc(a.programs, func(p placedProgram) bool {
		for _, l := range a.layers[:p.layer] {
			if l.Vouched.hasHash(p.Sum) {
				return true // copied up unchanged
			}
		}
		return claims.owner(a, p.Path, p.layer) != ""
	})
}

type claimant struct {
	pkg   string
	layer int
}

type claims map[uint64]claimant

func (a *assembly) claims() claims {
	out := claims{}
	for i := range a.layers {
		for _, c := range a.layers[i].Claims {
			for _, h := range c.Paths {
				out[h] = claimant{c.Package, i}
			}
		}
	}
	return out
}

// owner returns the package that claims path, which layer i brought. Only a database
// above the file counts, and only if i was the first to write it: a package cannot
// answer for a file that somebody wrote over.
func (c claims) owner(a *assembly, path string, i int) string {
	if len(c) == 0 {
		return ""
	}
	by, ok := c[PathHash(MergedUsr(path))]
	if !ok || by.layer < i {
		return ""
	}
	for _, l := range a.layers[:i] {
		if l.Written.Has(path) {
			return ""
		}
	}
	return by.pkg
}

// placed groups what is live by package, layer and owner.
func (a *assembly) placed(d Distro) []Placed {
	type group struct {
		kind, name, binary, version, arch, owner string
		home                                     int
	}
	at := make(map[group]int, len(a.order))
	out := make([]Placed, 0, len(a.order))
	for _, u := range a.order {
		p := u.pkg
		g := group{p.Type, p.Name, p.Binary, p.BinaryVersion, p.Arch, u.owner, u.home}
		if n, ok := at[g]; ok {
			out[n].Paths = append(out[n].Paths, u.path)
			continue
		}
		at[g] = len(out)
		placed := Placed{Package: *p, Layer: a.layers[u.home].Digest}
		placed.Paths, placed.OwnedBy = []string{u.path}, u.owner
		if p.IsOS() {
			placed.Ecosystem = d.EcosystemOf(p.Type)
			placed.PURL = PackageURL(p, d)
		}
		out = append(out, placed)
	}
	for n := range out {
		slices.Sort(out[n].Paths)
	}
	slices.SortStableFunc(out, func(x, y Placed) int {
		return cmp.Or(cmp.Compare(x.Type, y.Type), cmp.Compare(x.Binary, y.Binary),
			cmp.Compare(x.BinaryVersion, y.BinaryVersion), cmp.Compare(x.Arch, y.Arch),
			cmp.Compare(x.Paths[0], y.Paths[0]))
	})
	return out
}

// coverage merges the layers' coverage and adds the programs that nothing explains.
func (a *assembly) coverage() Coverage {
	c := Coverage{Examined: []string{}}
	for i := range a.layers {
		c.Examined = append(c.Examined, a.layers[i].Coverage.Examined...)
	}
	slices.Sort(c.Examined)
	c.Examined = slices.Compact(c.Examined)
	slices.Reverse(a.gaps) // lowest layer first
	c.Unknown = append([]Gap{}, a.gaps...)
	slices.SortFunc(a.programs, func(x, y placedProgram) int {
		return cmp.Or(cmp.Compare(x.layer, y.layer), cmp.Compare(x.Path, y.Path))
	})
	for n, p := range a.programs {
		g := Gap{Kind: GapUnknown, Path: p.Path, Layer: a.layers[p.layer].Digest,
			Reason: "a program that no package and no build information explains"}
		if n == listedPrograms {
			g.Path, g.Layer = "", oci.Digest{}
			g.Reason = "more programs that no package and no build information explains"
			g.Count = len(a.programs) - n
			c.Unknown = append(c.Unknown, g)
			break
		}
		c.Unknown = append(c.Unknown, g)
	}
	return c
}

func (a *assembly) gap(img *Image, kind GapKind, path, reason string) {
	img.Coverage.Unknown = append(img.Coverage.Unknown, Gap{Kind: kind, Path: path, Reason: reason})
}

// outer cuts the inside of an archive off a path: "a.jar!/b.jar" lies in "a.jar".
func outer(path string) string {
	file, _, _ := strings.Cut(path, "!/")
	return file
}

package inventory

import (
	"slices"
	"strings"
)

// nowhere is the layer that no layer is.
const nowhere = -1

// cover knows, while an image is put together from its top layer down, which of the
// layers above last wrote or removed a path. It holds hashes, as PathSet does.
type cover struct {
	whole  map[uint64]int32 // written or removed: goes for the path and what lies below
	below  map[uint64]int32 // opaque folders: only for what lies below
	exact  map[uint64]int32 // folders put where a file was: only for the path itself
	hashes map[string]uint64
}

func newCover(layers []Layer) *cover {
	n := 0
	for i := 1; i < len(layers); i++ {
		n += len(layers[i].Written)
	}
	return &cover{
		whole:  make(map[uint64]int32, n),
		below:  map[uint64]int32{},
		exact:  map[uint64]int32{},
		hashes: map[string]uint64{},
	}
}

// add lets the layer below see what layer i does. The layers come from the top down.
func (c *cover) add(i int, l *Layer) {
	if i == 0 {
		return // nothing lies below
	}
	at := int32(i)
	for _, h := range l.Written {
		c.whole[h] = at
	}
	for _, h := range l.Folders {
		c.exact[h] = at
	}
	for _, r := range l.Removed {
		if folder, opaque := strings.CutSuffix(r, "/"); opaque {
			c.below[PathHash(folder)] = at
			continue
		}
		c.whole[PathHash(r)] = at
	}
}

// above returns the lowest of the layers seen that wrote or removed path, or nowhere.
func (c *cover) above(path string) int {
	if len(c.whole) == 0 && len(c.below) == 0 && len(c.exact) == 0 {
		return nowhere
	}
	best := int32(nowhere)
	take := func(m map[uint64]int32, h uint64) {
		if at, ok := m[h]; ok && (best == nowhere || at < best) {
			best = at
		}
	}
	h := c.hash(path)
	take(c.whole, h)
	take(c.exact, h)
	for path != "" {
		path = path[:max(0, strings.LastIndexByte(path, '/'))]
		h := c.hash(path)
		take(c.below, h)
		if path != "" {
			take(c.whole, h)
		}
	}
	return int(best)
}

// hash remembers the hashes of paths: the same folders come again and again.
func (c *cover) hash(path string) uint64 {
	h, ok := c.hashes[path]
	if !ok {
		h = PathHash(path)
		c.hashes[path] = h
	}
	return h
}

// hiddenAbove says whether a layer above i wrote or removed path.
func (a *assembly) hiddenAbove(path string, i int) bool {
	for k := i + 1; k < len(a.layers); k++ {
		l := &a.layers[k]
		if l.Written.HasOrBelow(path) || l.Folders.Has(path) || slices.ContainsFunc(l.Removed, func(r string) bool {
			return removes(r, path)
		}) {
			return true
		}
	}
	return false
}

// removes says whether the whiteout r, as it stands in Layer.Removed, takes path away.
func removes(r, path string) bool {
	folder, opaque := strings.CutSuffix(r, "/")
	if folder == "" || strings.HasPrefix(path, folder+"/") {
		return true
	}
	return !opaque && folder == path
}

// distro picks the os-release that a process in the image would read: etc/os-release
// if it is there, else usr/lib/os-release (os-release(5)). Distributions make the
// first a link to the second.
func (a *assembly) distro() Distro {
	var fallback Distro
	for i := len(a.layers) - 1; i >= 0; i-- {
		d := a.layers[i].Distro
		if d.IsZero() || a.hiddenAbove(d.Path, i) {
			continue
		}
		if d.Path == "etc/os-release" {
			return d
		}
		if fallback.IsZero() {
			fallback = d
		}
	}
	return fallback
}

package remediation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/vuln"
)

// Step is one command that mends some of an image's findings.
type Step struct {
	Command string `json:"command"`
	// Note is what must be known beside the command: "in /app", what has to be rebuilt.
	Note string `json:"note,omitempty"`
	// Layer is the layer that brought the packages, zero if it is more than one.
	Layer    oci.Digest `json:"layer,omitzero"`
	Findings int        `json:"findings"` // how many it mends
}

// Plan gives the fewest commands that mend all findings of an image for which a fix is
// known: one for the operating system's packages, and for each language one for each
// place that its packages are installed in. Every package goes to the highest of the
// versions that fix one of its findings. The operating system's step comes first.
func Plan(img inventory.Image, findings []vuln.Finding) []Step {
	fixes := map[inventory.Key]*fix{}
	for _, f := range findings {
		if f.Fixed == "" || f.Informs {
			continue
		}
		switch have := fixes[f.Package]; {
		case have == nil:
			fixes[f.Package] = &fix{version: f.Fixed, findings: 1}
		default:
			have.findings++
			if less(f.Package.Ecosystem, have.version, f.Fixed) {
				have.version = f.Fixed
			}
		}
	}
	groups := map[place]*group{}
	for _, p := range img.Packages {
		have := fixes[p.Key]
		if have == nil {
			continue
		}
		where := placeOf(p)
		if groups[where] == nil {
			groups[where] = &group{keys: map[inventory.Key]int{}}
		}
		groups[where].add(p, have)
	}
	manager := managersOf(img)
	places := make([]place, 0, len(groups))
	for where := range groups {
		places = append(places, where)
	}
	slices.SortFunc(places, place.compare)
	var out []Step
	for _, where := range places {
		if step, ok := groups[where].step(where, manager); ok {
			out = append(out, step)
		}
	}
	return out
}

type fix struct {
	version  string
	findings int
}

// place is where one command works: a tool, and the folder or layer that it works in.
type place struct {
	tool   tool
	folder string // npm: the project; pip: the interpreter's prefix
	layer  string // what is built in: the layer of the program
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(osLast(p.tool), osLast(q.tool)), cmp.Compare(p.tool, q.tool),
		cmp.Compare(p.folder, q.folder), cmp.Compare(p.layer, q.layer))
}

func osLast(t tool) int {
	switch t {
	case toolApt, toolApk, toolDnf, toolMicrodnf, toolYum, toolTdnf, toolZypper:
		return 0
	}
	return 1
}

func placeOf(p inventory.Placed) place {
	where := place{tool: toolOf(p)}
	switch where.tool {
	case toolNpm:
		where.folder, _ = npmFolder(p)
	case toolPip:
		where.folder = pipPrefix(p)
	case toolGo, toolGoBuild, toolMaven, toolCargo, toolGem, toolComposer, toolNuGet:
		where.layer = p.Layer.String()
	}
	return where
}

// group is what one command brings in.
type group struct {
	wants []want
	keys  map[inventory.Key]int // with their numbers of findings
	base  bool                  // some of it comes with the base image
}

func (g *group) add(p inventory.Placed, f *fix) {
	g.wants = append(g.wants, want{p, f.version})
	g.keys[p.Key] = f.findings
	g.base = g.base || fromBase(p.Instruction)
}

func (g *group) step(where place, manager map[tool]tool) (Step, bool) {
	var s Step
	for i, w := range g.wants {
		if i == 0 {
			s.Layer = w.Layer
		} else if s.Layer != w.Layer {
			s.Layer = oci.Digest{}
		}
	}
	for _, n := range g.keys {
		s.Findings += n
	}
	wants := first(sensible(g.wants), "")
	if len(wants) == 0 {
		return Step{}, false
	}
	switch where.tool {
	case toolNpm:
		s.Command, s.Note = npmStep(where.folder, wants)
	case toolPip:
		s.Command = pipStep(where.folder, wants)
	case toolGo, toolGoBuild:
		s.Command, s.Note = where.tool.render(wants), "then build anew: "+pathsOf(g.wants)
	case toolMaven:
		s.Command, s.Note = where.tool.render(wants), "then build anew: "+pathsOf(g.wants)
	default:
		s.Command, s.Note = g.osStep(where.tool, wants, manager)
	}
	return s, true
}

// osStep writes the step of an operating system's packages. A file system without its
// package manager, as of distroless images, can only be built on a newer base.
func (g *group) osStep(t tool, wants []want, manager map[tool]tool) (command, note string) {
	if osLast(t) != 0 {
		return t.render(wants), ""
	}
	own, ok := manager[t]
	if !ok {
		return t.render(wants), fmt.Sprintf("the image has no %s of its own: rebuild it on a newer base", t)
	}
	command = own.render(wants)
	if t == toolApt && !strings.HasPrefix(command, "apt-get update") {
		command = "apt-get update && " + command
	}
	if g.base {
		note = "or rebuild on a newer base: the packages come with it"
	}
	return command, note
}

// managersOf finds which package managers an image has itself, and which stands in for
// another.
func managersOf(img inventory.Image) map[tool]tool {
	has := map[string]bool{}
	for _, p := range img.Packages {
		if p.IsOS() {
			has[p.Binary] = true
		}
	}
	out := map[tool]tool{}
	for t, names := range map[tool][]string{
		toolApt: {"apt"}, toolApk: {"apk-tools"}, toolZypper: {"zypper"}, toolTdnf: {"tdnf", "dnf"},
		toolYum: {"yum"}, toolDnf: {"dnf", "dnf5", "dnf-data"},
	} {
		if slices.ContainsFunc(names, func(n string) bool { return has[n] }) {
			out[t] = t
		}
	}
	if _, ok := out[toolDnf]; !ok && has["microdnf"] {
		out[toolDnf] = toolMicrodnf
	} else if !ok && has["yum"] {
		out[toolDnf] = toolYum
	}
	return out
}

// fromBase says whether a build instruction puts a whole root file system in place, as
// those of base images do.
func fromBase(instruction string) bool {
	return strings.Contains(instruction, "ADD file:") && strings.Contains(instruction, " in /") ||
		strings.HasPrefix(instruction, "ADD ") && strings.HasSuffix(strings.TrimSpace(strings.TrimSuffix(instruction, "# buildkit")), " /") ||
		strings.HasPrefix(instruction, "COPY / /") || strings.HasPrefix(instruction, "# debian.sh")
}

// npmFolder is the project that a package is installed in, and the package that brings
// it in, "" if none: a/node_modules/b/node_modules/c/package.json lies in a and comes
// with b.
func npmFolder(p inventory.Placed) (folder, within string) {
	if len(p.Paths) == 0 {
		return "", ""
	}
	folder, below, ok := strings.Cut("/"+p.Paths[0], "/node_modules/")
	if !ok {
		return strings.TrimPrefix(folder, "/"), ""
	}
	if top, _, nested := strings.Cut(below, "/node_modules/"); nested {
		within = top
	}
	return strings.TrimPrefix(folder, "/"), within
}

func npmStep(folder string, wants []want) (command, note string) {
	var nested []string
	for _, w := range wants {
		if _, within := npmFolder(w.Placed); within != "" {
			nested = append(nested, fmt.Sprintf("%s comes with %.80q", w.Key.Name, within))
		}
	}
	command = toolNpm.render(wants)
	if folder == "usr/lib" || folder == "usr/local/lib" {
		command = strings.Replace(command, "npm install", "npm install --global", 1)
	} else {
		command = "cd " + shellQuote("/"+folder) + " && " + command
	}
	if len(nested) > 0 {
		note = strings.Join(nested[:min(len(nested), 5)], ", ")
		if len(nested) > 5 {
			note += fmt.Sprintf(" and %d more", len(nested)-5)
		}
		note += ": update what brings it, or set it under \"overrides\" in package.json"
	}
	return command, note
}

// pipPrefix is the prefix of the interpreter that a package is installed for; "" for the
// system's own.
func pipPrefix(p inventory.Placed) string {
	if len(p.Paths) == 0 {
		return ""
	}
	prefix, _, ok := strings.Cut("/"+p.Paths[0], "/lib/python")
	prefix = strings.TrimPrefix(prefix, "/")
	if !ok || prefix == "usr" || prefix == "usr/local" {
		return ""
	}
	return prefix
}

func pipStep(prefix string, wants []want) string {
	command := toolPip.render(wants)
	if prefix == "" {
		return command
	}
	return shellQuote("/"+prefix+"/bin/pip") + strings.TrimPrefix(command, "pip")
}

// pathsOf names the files that packages are built into, the first five.
func pathsOf(wants []want) string {
	var paths []string
	for _, w := range wants {
		for _, p := range w.Paths {
			if p = fmt.Sprintf("%.160q", "/"+p); !slices.Contains(paths, p) {
				paths = append(paths, p)
			}
		}
	}
	slices.Sort(paths)
	text := strings.Join(paths[:min(len(paths), 5)], ", ")
	if len(paths) > 5 {
		text += fmt.Sprintf(" and %d more", len(paths)-5)
	}
	return text
}

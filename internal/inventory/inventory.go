// Package inventory says what is in a layer and in an image: packages, where they
// lie, which distribution they belong to, and what could not be read. It puts
// layers together to images (Assemble) and leaves reading them to extract and
// judging them to vuln and policy.
package inventory

import (
	"pratique.dev/pratique/internal/oci"
)

// Key is what advisories are looked up by. Two packages with the same Key have the
// same flaws, so findings are kept per Key and not per image.
//
// For an operating system's packages Ecosystem carries the release as OSV writes it
// ("Debian:12", "Alpine:v3.18", "AlmaLinux:9"), Name is the name that this
// distribution's advisories use (Debian and Alpine: the SOURCE package; the RPM
// distributions: the binary package) and Version is that package's version, epoch
// included ("1:2.3-4"). For languages Ecosystem is OSV's ("npm", "PyPI", "Go",
// "Maven", "crates.io", "RubyGems", "NuGet", "Packagist"), Maven names are "group:artifact", PyPI
// names are normalised (PEP 503), the Go standard library is "stdlib".
// An operating system without advisories in OSV still gets its own Ecosystem
// (its os-release ID and VERSION_ID, as in "wolfi:20230201"), so that it is seen as not covered.
type Key struct {
	Ecosystem string `json:"ecosystem"`
	Name      string `json:"name"`
	Version   string `json:"version"`
}

// Package is one installed package as a layer holds it.
type Package struct {
	Key
	// Type is the package URL's type: deb, apk, rpm, golang, npm, pypi, maven, cargo, ….
	Type string `json:"type"`
	// Binary and BinaryVersion are what the package manager calls the installed
	// package; equal to Name and Version for languages.
	Binary        string `json:"binary"`
	BinaryVersion string `json:"binaryVersion"`
	// Source and SourceVersion are what it was built from, where that is known (deb, apk, rpm).
	Source        string `json:"source,omitempty"`
	SourceVersion string `json:"sourceVersion,omitempty"`
	Arch          string `json:"arch,omitempty"`
	Module        string `json:"module,omitempty"` // rpm module label, "nodejs:18:8060020…"
	Vendor        string `json:"vendor,omitempty"`
	PURL          string `json:"purl"`
	// Paths are where the package was read from, without a leading slash: the package
	// database, the program, the package.json, the jar ("a.jar!/lib/b.jar" when nested).
	Paths []string `json:"paths"`
	// OwnedBy is the operating-system package that installed these paths, if one did.
	OwnedBy string `json:"ownedBy,omitempty"`
}

// Distro is what os-release (os-release(5)) says of a root file system.
type Distro struct {
	ID         string `json:"id"`                   // "debian"
	VersionID  string `json:"versionId,omitempty"`  // "12"
	Codename   string `json:"codename,omitempty"`   // "bookworm"
	PrettyName string `json:"prettyName,omitempty"` // "Debian GNU/Linux 12 (bookworm)"
	IDLike     string `json:"idLike,omitempty"`
	// CPE is CPE_NAME; Red Hat's advisories are kept per CPE and not per version.
	CPE string `json:"cpe,omitempty"`
	// Ecosystem is the Key.Ecosystem of this distribution's packages. Assemble sets it.
	Ecosystem string `json:"ecosystem,omitempty"`
	// Path is the file that this was read from: etc/os-release outranks usr/lib/os-release.
	Path string `json:"path,omitempty"`
}

// IsZero says whether no os-release was seen.
func (d Distro) IsZero() bool { return d.ID == "" }

// GapKind groups what could not be seen.
type GapKind string

// The kinds of gaps.
const (
	GapUnread   GapKind = "unread"   // a package database or archive that could not be parsed
	GapBound    GapKind = "bound"    // a limit on size, depth or number was reached
	GapForeign  GapKind = "foreign"  // a layer whose bytes are not in this registry
	GapUnknown  GapKind = "unknown"  // a program whose origin no package database or build information tells
	GapNoData   GapKind = "nodata"   // packages of an ecosystem or release that the advisories do not cover
	GapNoOS     GapKind = "noos"     // no os-release, or none that is known
	GapArchive  GapKind = "archive"  // the layer's own compression or tar stream is broken
	GapPartial  GapKind = "partial"  // packages of an ecosystem of which the advisories cover a part only
	GapVersion  GapKind = "version"  // packages whose version cannot be put in order, so that no advisory can be applied
	GapUnusable GapKind = "unusable" // an entry whose name leaves the root, or that cannot be placed
)

// Gap is one thing that could not be seen.
type Gap struct {
	Kind   GapKind    `json:"kind"`
	Path   string     `json:"path,omitempty"`
	Reason string     `json:"reason"`
	Layer  oci.Digest `json:"layer,omitzero"`
	// Count is how many like this there are, where only the first are listed.
	Count int `json:"count,omitempty"`
}

// Coverage is the honest part: what was looked at, and what could not be read.
type Coverage struct {
	// Examined names what was read: "dpkg", "apk", "rpm", "go", "npm", "python", "java", "os-release".
	Examined []string `json:"examined"`
	Unknown  []Gap    `json:"unknown"`
}

// Layer is all that one layer's bytes tell, independent of any image it is part of.
type Layer struct {
	Digest oci.Digest `json:"digest"`
	// ExtractedBy is the version of the extractor set; another set reads the layer anew.
	ExtractedBy string    `json:"extractedBy"`
	Distro      Distro    `json:"distro,omitzero"`
	Packages    []Package `json:"packages"`
	// Removed holds the whiteouts (image-spec layer.md): "etc/passwd" removes that
	// path and everything below it from lower layers; "srv/app/" (an opaque
	// folder) removes what lies below it in lower layers but not the folder.
	Removed []string `json:"removed,omitempty"`
	// Text says that the content begins as plain text does, so it is in no compression, and
	// no archive either where Files is 0.
	Text bool `json:"text,omitempty"`
	// Written is the set of paths of all files, links and devices in this layer. What a lower layer
	// had read from such a path is replaced, whatever kind of file it is now.
	Written PathSet `json:"written,omitempty"`
	// Folders are folders whose names an extractor would read as files (a folder
	// "a.jar"). What a lower layer had read from a file of that name is gone; what
	// lies below such a folder stays.
	Folders PathSet `json:"folders,omitempty"`
	// Programs are executables that no package and no build information in this
	// layer explains, a bounded list (what is beyond it is in Coverage).
	Programs []Program `json:"programs,omitempty"`
	// Vouched holds the Sums of this layer's executables that one of its operating
	// system packages owns: a copy of such a file in an upper layer is still known.
	Vouched PathSet `json:"vouched,omitempty"`
	// Claims are the files that this layer's package databases list, that may hold
	// packages or programs, and that do not lie in this layer.
	Claims   []Claim  `json:"claims,omitempty"`
	Coverage Coverage `json:"coverage"`
	// Files and Bytes count the entries and the unpacked bytes of the tar stream.
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

// Program is an executable file.
type Program struct {
	Path string `json:"path"`
	// Sum is 64 bits of a SHA-256 over path and content (ProgramSum).
	Sum uint64 `json:"sum"`
}

// Claim says that an operating system package installed files.
type Claim struct {
	Package string  `json:"package"`
	Paths   PathSet `json:"paths"` // of MergedUsr paths
}

// Placed is a package of an image and the layer that brought its present version.
type Placed struct {
	Package
	Layer oci.Digest `json:"layer"`
	// Instruction is the build step that made the layer, from the image's history.
	Instruction string `json:"instruction,omitempty"`
}

// Image is what a container of an image would find on its root file system.
type Image struct {
	Manifest oci.Digest `json:"manifest"`
	// ExtractedBy is the extractor set of the layers it was assembled from.
	ExtractedBy string   `json:"extractedBy,omitempty"`
	Distro      Distro   `json:"distro,omitzero"`
	Packages    []Placed `json:"packages"`
	Coverage    Coverage `json:"coverage"`
	// Artifact says that the manifest, though it has the form of an image's, holds documents and
	// nothing that unpacks: the attestations that BuildKit pushes beside an image.
	Artifact bool `json:"artifact,omitempty"`
	// Instructions are the build steps of the manifest's layers, lowest first, "" where the
	// history does not tell. Assemble leaves them out.
	Instructions []string `json:"instructions,omitempty"`
}

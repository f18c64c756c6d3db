// Package api is the registry's own interface, /api/v1/: its wire types, which the
// server answers with, and a client for it, which the command line uses. It holds no
// rules of its own.
package api

import (
	"time"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/report"
)

// Paths of the interface. Repositories and references are query parameters, since
// the names of repositories hold slashes.
const (
	PathReport     = "/api/v1/report"     // GET ?repository=team/app&reference=1.2 -> report.Report
	PathImages     = "/api/v1/images"     // GET ?prefix=&tag=&decision=&after=&limit= -> ImageList
	PathAdvisories = "/api/v1/advisories" // GET -> AdvisoryList
	PathImport     = "/api/v1/advisories/import"
	PathStatus     = "/api/v1/status"        // GET -> Status
	PathTagHistory = "/api/v1/tags/history"  // GET ?repository=&tag=&before=&limit= -> TagHistory
	PathTagUndo    = "/api/v1/tags/undo"     // POST ?repository=&tag= -> Undone
	PathTrash      = "/api/v1/trash"         // GET ?prefix=&after=&limit= -> Trash
	PathRestore    = "/api/v1/trash/restore" // POST ?repository=&digest= -> Restored
	PathPurge      = "/api/v1/trash/purge"   // POST ?repository=&digest=
	PathLocks      = "/api/v1/locks"         // POST ?repository=&reference=&lock=write,delete&unlock=read -> Locks
	PathGC         = "/api/v1/gc"            // POST ?dryRun=true -> a CollectEvent a line
	PathRules      = "/api/v1/rules"         // GET, PUT a document -> Rules
	PathRetention  = "/api/v1/retention"     // POST ?dryRun=true -> a RetentionEvent a line
)

// MaxPage is the most images that one page holds, and how many it holds unless asked.
const MaxPage = 1000

// Image is one tag of a repository.
type Image struct {
	Repository string          `json:"repository"`
	Tag        string          `json:"tag"`
	Digest     oci.Digest      `json:"digest"`
	MediaType  string          `json:"mediaType"`
	Size       int64           `json:"size"` // bytes of the manifest and all that it names
	PushedAt   time.Time       `json:"pushedAt"`
	Pulls      int64           `json:"pulls"` // of its manifest from the repository, by whatever name; to a minute
	Decision   policy.Decision `json:"decision"`
	Counts     report.Counts   `json:"counts"`
	Locks      []string        `json:"locks,omitempty"` // of the tag, its manifest and its repository together
}

// ImageQuery says which images are asked for.
type ImageQuery struct {
	Prefix    string            // with which their repositories begin
	Tag       string            // pattern as in package rules; "": all
	Decisions []policy.Decision // none: all
	After     string            // Next of the page before
	Limit     int               // from 1 to MaxPage
}

// ImageList is a page of images in the order of repository and tag. A page of those of some tags
// or decisions may hold few or none, though others follow.
type ImageList struct {
	Images []Image `json:"images"`
	// Next, if not empty, is the value of after for the next page.
	Next string `json:"next,omitempty"`
}

// Ecosystem says which advisories there are for one ecosystem.
type Ecosystem struct {
	Ecosystem string    `json:"ecosystem"`
	Releases  []string  `json:"releases,omitempty"` // of a distribution
	Source    string    `json:"source"`
	File      string    `json:"file,omitempty"` // "embedded snapshot", or what was imported
	Records   int       `json:"records"`
	Newest    time.Time `json:"newest,omitzero"`   // the newest record
	AsOf      time.Time `json:"asOf,omitzero"`     // when the source was taken
	LoadedAt  time.Time `json:"loadedAt,omitzero"` // when it came into this registry
	AgeDays   int       `json:"ageDays"`           // from AsOf to now
}

// AdvisoryList is what findings are looked up in.
type AdvisoryList struct {
	Ecosystems []Ecosystem `json:"ecosystems"`
	// Loading tells of a load under way, most of all that of the embedded snapshot at the first start.
	Loading *Progress `json:"loading,omitempty"`
}

// Progress is how far a load of advisories has come.
type Progress struct {
	Part  string `json:"part"`
	Done  int    `json:"done"`
	Total int    `json:"total,omitempty"`
}

// Imported is what the import of one file of advisories did.
type Imported struct {
	Ecosystem string `json:"ecosystem"`
	File      string `json:"file"`
	Records   int    `json:"records"`
	Added     int    `json:"added"`
	Changed   int    `json:"changed"`
	Removed   int    `json:"removed"`
	Unchanged int    `json:"unchanged"`
	Images    int    `json:"images"` // judged anew
}

// ImportEvent is one line of the answer to an import: progress, and at last results
// or an error.
type ImportEvent struct {
	Progress *Progress  `json:"progress,omitempty"`
	Results  []Imported `json:"results,omitempty"`
	Error    *oci.Error `json:"error,omitempty"`
	Done     bool       `json:"done,omitempty"`
}

// Status is what a running registry says of itself.
type Status struct {
	Version string    `json:"version"`
	Ready   bool      `json:"ready"` // advisories are in, images are judged
	Loading *Progress `json:"loading,omitempty"`
}

// Errors is the body of every refusal, as in the distribution specification.
type Errors struct {
	Errors []oci.Error `json:"errors"`
}

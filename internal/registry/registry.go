// Package registry takes content in, gives it out and takes it away: uploads, blobs,
// manifests, tags, referrers. The gate is here: what is not allowed by its verdict is
// served to nobody but those who were granted to pull what is held back. It knows no
// HTTP; ociserver translates.
//
// Errors that a client shall see are *oci.Error. All others are faults of the house.
package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/rules"
)

// Examiner looks at a layer while it is pushed. Its methods return at once and must
// neither fail nor slow a push; what they miss is read from the store later.
type Examiner interface {
	// Begin hears that an upload receives bytes. open gives a reader that follows it
	// (blob.Follower). It is called again for the same id when an upload goes on.
	Begin(uploadID string, open func(context.Context) (io.ReadCloser, error))
	// Commit hears under which digest the upload ended and was recorded.
	Commit(uploadID string, d oci.Digest)
	// Abort hears that the upload is given up.
	Abort(uploadID string)
}

// Judge brings a manifest that the catalog holds to its verdict, and keeps that there.
type Judge interface {
	Judge(ctx context.Context, d oci.Digest) (policy.Verdict, catalog.Counts, error)
	// JudgeNew is Judge of a manifest that the catalog has just been given, and did not hold before.
	JudgeNew(ctx context.Context, m oci.Manifest) (policy.Verdict, catalog.Counts, error)
}

// ExplainedFinding is a finding as a refusal tells of it.
type ExplainedFinding struct {
	ID        string `json:"id"`
	Package   string `json:"package"`
	Version   string `json:"version"`
	Fixed     string `json:"fixed,omitempty"` // "" where no fix is known
	Severity  string `json:"severity"`
	Exploited bool   `json:"exploited,omitempty"`
	Fix       string `json:"fix,omitempty"` // the command that fixes it
	Platform  string `json:"platform,omitempty"`
}

// Explainer lists the findings of a manifest, the worst first.
type Explainer interface {
	Explain(ctx context.Context, d oci.Digest) ([]ExplainedFinding, error)
}

// Allower says what the caller may do: access.Grants, or what a token holds.
type Allower interface {
	Allows(p access.Permission, repo oci.Repository) bool
}

// Caller is who asks, and what they may do. The doors check the permission that a
// request needs; the registry asks Access where it depends on the content.
type Caller struct {
	Name   string
	Access Allower // nil: nothing
	// Granted is all that the caller was granted, of which a token holds only what was
	// asked for. nil: Access is all.
	Granted Allower
	catalog.Trace
}

func (c Caller) may(p access.Permission, repo oci.Repository) bool {
	return c.Access != nil && c.Access.Allows(p, repo)
}

// was says whether the caller was granted p, be it in the present token or not.
func (c Caller) was(p access.Permission, repo oci.Repository) bool {
	return c.may(p, repo) || c.Granted != nil && c.Granted.Allows(p, repo)
}

// Auditor takes in what is served. Its methods must not wait.
type Auditor interface {
	// Note hears of what was served though it is held back.
	Note(catalog.Record)
	// NotePull hears of every pull.
	NotePull(catalog.Record)
}

type noAuditor struct{}

func (noAuditor) Note(catalog.Record)     {}
func (noAuditor) NotePull(catalog.Record) {}

// Options are the needs of a Registry beyond its stores. Each has a usable default.
type Options struct {
	Examiner  Examiner         // nil: layers are read once their manifest is judged
	Judge     Judge            // nil: manifests stay pending until a worker judges them
	Explainer Explainer        // nil: refusals give the verdict's reasons alone
	Audit     Auditor          // nil: what is served is not recorded
	JudgeWait time.Duration    // how long a push waits for its verdict; default 2 minutes
	URL       string           // of this registry, for "read on"; "" leaves it out
	Now       func() time.Time // default time.Now
	Log       *slog.Logger     // default: discard
	// Grace is how long Collect spares what nothing needs; default DefaultGrace.
	Grace time.Duration
	// Restore says how long a manifest that is deleted now can be restored; 0: it is gone at
	// once. Default: as the rules say.
	Restore func() time.Duration
	// MaxTransfers bounds the requests that bring blob bytes at the same time; beyond it
	// they are told to come again. Default 256.
	MaxTransfers int
	// MaxOpenUploads bounds the uploads that one principal has begun and not ended; beyond it
	// they are told to end some first. Default 1000.
	MaxOpenUploads int
}

// Registry is the service. Its methods may be called at once.
type Registry struct {
	cat        *catalog.Catalog
	store      blob.Store
	o          Options
	locks      locks // of uploads, by id
	contents   contents
	collecting chan struct{} // holds one token while Collect runs
	retaining  chan struct{} // holds one token while Retain runs
	transfers  chan struct{}
	parsing    chan struct{} // held while a manifest is parsed
	told       told
	pulls      pulls
}

// maxParsed bounds the manifests that are parsed at once: one of 4 MiB that is all keys takes
// a second of a core and 60 MiB.
const maxParsed = 4

// New makes a Registry over what the catalog lists and the store holds.
func New(cat *catalog.Catalog, store blob.Store, o Options) *Registry {
	if o.JudgeWait <= 0 {
		o.JudgeWait = 2 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Grace <= 0 {
		o.Grace = DefaultGrace
	}
	if o.Restore == nil {
		o.Restore = func() time.Duration { return restoreByRules(cat, o.Log) }
	}
	if o.MaxTransfers <= 0 {
		o.MaxTransfers = 256
	}
	if o.MaxOpenUploads <= 0 {
		o.MaxOpenUploads = 1000
	}
	if o.Examiner == nil {
		o.Examiner = noExaminer{}
	}
	if o.Audit == nil {
		o.Audit = noAuditor{}
	}
	return &Registry{cat: cat, store: store, o: o, transfers: make(chan struct{}, o.MaxTransfers),
		parsing: make(chan struct{}, maxParsed), collecting: make(chan struct{}, 1), retaining: make(chan struct{}, 1)}
}

type noExaminer struct{}

func (noExaminer) Begin(string, func(context.Context) (io.ReadCloser, error)) {}
func (noExaminer) Commit(string, oci.Digest)                                  {}
func (noExaminer) Abort(string)                                               {}

// known turns the errors of the floors below that a client can do something about
// into the specification's words, and leaves all others as they are. code is what
// stands for a thing that was not found.
func known(err error, code, what string) error {
	var missing *catalog.Missing
	var size *catalog.Size
	var refusal *rules.Refusal
	var locked *catalog.Locked
	switch {
	case err == nil:
		return nil
	case errors.As(err, &missing):
		return &oci.Error{Code: oci.CodeManifestBlobUnknown, Message: fmt.Sprintf("%s; push it first, then the manifest again", missing), Detail: missing.Digests}
	case errors.As(err, &size):
		field := "config"
		if size.Blob > 0 {
			field = fmt.Sprintf("layers[%d]", size.Blob-1)
		}
		return oci.Errorf(oci.CodeManifestInvalid, "%s.size is %d, but blob %s has %d bytes", field, size.Stated, size.Digest, size.Has)
	case errors.As(err, &refusal):
		return oci.Errorf(oci.CodeDenied, "%s", refusal.Message)
	case errors.As(err, &locked):
		return refuseLocked(*locked)
	case errors.Is(err, catalog.ErrCondition):
		return oci.Errorf(oci.CodePrecondition, "%s is not what the request's If-Match or If-None-Match asks for; nothing was changed", what)
	case errors.Is(err, catalog.ErrNoRepository):
		return oci.Errorf(oci.CodeNameUnknown, "%s: there is no such repository", what)
	case errors.Is(err, catalog.ErrNotFound), errors.Is(err, blob.ErrNotFound):
		return oci.Errorf(code, "%s is not here", what)
	case errors.Is(err, blob.ErrNoSpace), errors.Is(err, catalog.ErrNoSpace):
		return oci.Errorf(oci.CodeUnavailable, "the registry's disk is full: nothing of this request was kept; its operator must make room")
	case errors.Is(err, catalog.ErrReadOnly):
		return oci.Errorf(oci.CodeUnavailable, "the registry's disk is read-only: nothing of this request was kept; its operator must remount it")
	}
	return err
}

// Tags lists up to limit tags that sort behind after; more says whether others follow.
func (r *Registry) Tags(ctx context.Context, repo oci.Repository, after string, limit int) (tags []string, more bool, err error) {
	tags, err = r.cat.Tags(ctx, repo, after, limit+1)
	if err != nil {
		return nil, false, known(err, oci.CodeNameUnknown, repo.String())
	}
	tags, more = cut(tags, limit)
	return tags, more, nil
}

// A page of repositories ends with the first that the caller may see once it was chosen from maxLooked
// names, which are read lookedPage at a time.
const (
	maxLooked  = 20_000
	lookedPage = 1000
)

// Repositories lists up to limit repositories that sort behind after, of those that the caller
// may see; next is the after of the page that follows, "" if there is none. A page may hold
// fewer than the limit though others follow. Next is always a name of the page: what the caller may
// not see is not told by where a page ends.
func (r *Registry) Repositories(ctx context.Context, by Caller, after string, limit int) (names []string, next string, err error) {
	return listed(by, after, limit, func(after string, limit int) ([]catalog.NamedRepository, error) {
		names, err := r.cat.Repositories(ctx, after, limit)
		page := make([]catalog.NamedRepository, len(names))
		for i, n := range names {
			page[i].Name = n
		}
		return page, err
	})
}

// listed takes from the pages that more gives those that the caller may see and that are not empty.
func listed(by Caller, after string, limit int, more func(after string, limit int) ([]catalog.NamedRepository, error)) (names []string, next string, err error) {
	all := by.was(access.CatalogList, oci.Repository{})
	read := max(limit+1, lookedPage)
	for looked := 0; looked < maxLooked || len(names) == 0; looked += read {
		page, err := more(after, read)
		if err != nil {
			return nil, "", err
		}
		for _, n := range page {
			if len(names) == limit {
				if limit > 0 {
					after = names[limit-1]
				}
				return names, after, nil
			}
			after = n.Name
			if !n.Empty && (all || by.sees(n.Name)) {
				names = append(names, n.Name)
			}
		}
		if len(page) < read {
			return names, "", nil
		}
	}
	return names, names[len(names)-1], nil
}

// sees says whether a caller may know that there is a repository.
func (c Caller) sees(name string) bool {
	repo, err := oci.ParseRepository(name)
	return err == nil && (c.was(access.RepositoryList, repo) || c.was(access.RepositoryPull, repo))
}

func cut(list []string, limit int) ([]string, bool) {
	if len(list) > limit {
		return list[:limit], true
	}
	return list, false
}

// maxReferrers bounds a page of referrers, in entries, and maxReferrerBytes in bytes of JSON:
// clients read no index that is larger than a manifest may be.
const (
	maxReferrers     = 1000
	maxReferrerBytes = oci.MaxManifestSize * 3 / 4
)

// Referrers lists the manifests of repo whose subject is d, those of one artifact type
// if that is given (distribution-spec, "Listing Referrers"): the page behind after, 0 for the
// first. next is the after of the page that follows, 0 if there is none.
func (r *Registry) Referrers(ctx context.Context, repo oci.Repository, d oci.Digest, artifactType string, after int64) (list []oci.Descriptor, next int64, err error) {
	list, next, err = r.cat.Referrers(ctx, repo, d, catalog.ReferrerPage{ArtifactType: artifactType, After: after,
		Limit: maxReferrers, Bytes: maxReferrerBytes})
	if list == nil {
		list = []oci.Descriptor{}
	}
	return list, next, err
}

// Package identity proves who asks: it checks secrets and issues and verifies the
// registry's own tokens. What a principal may do is access's to say, and what it was
// granted the catalog's.
package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// ErrUnauthenticated says that a name and secret, or a token, prove nothing. It never
// says which part was wrong.
var ErrUnauthenticated = errors.New("wrong name or secret, or the token is not valid any more")

// ErrWeakSecret says that a secret chosen by the operator cannot be taken.
var ErrWeakSecret = errors.New("secret cannot be used")

// ErrBusy says that too many secrets wait to be checked; it is an *oci.Error.
var ErrBusy error = oci.Errorf(oci.CodeTooManyRequests, "too many logins are being checked; try again shortly")

// Options are the needs of an Identity. The zero value of each has a usable meaning.
type Options struct {
	// Issuer is the "iss" claim of tokens and Service their "aud", which clients hear in
	// the challenge as "service". Tokens of another issuer or service are refused.
	// Default: "pratique" both.
	Issuer, Service string
	Lifetime        time.Duration    // of a token; default 5 minutes
	Now             func() time.Time // default time.Now
	Log             *slog.Logger     // default: discard
}

// Bounds. A verified secret is remembered for at most rememberSecret, and no longer than
// nothing changes of principals, secrets and assignments (catalog.AccessVersion); so are
// grants. A secret in use is checked again from renewSecret on, beside the requests that it
// comes with: none of them waits for argon2id but the first. A token is remembered until it
// expires.
const (
	maxName        = 255
	maxSecret      = 1024 // bytes; longer ones are refused before they are hashed
	maxToken       = 16 << 10
	rememberSecret = time.Minute
	renewSecret    = 30 * time.Second
	maxRemembered  = 4096 // secrets, and as many tokens
	// slowAtOnce bounds argon2id computations, each of which takes 19 MiB and 40 ms of a
	// core: whoever guesses secrets waits in line and takes no more memory. The line has
	// slowWaiting places, so that it is gone seconds after those who filled it are.
	slowAtOnce  = 2
	slowWaiting = 64
)

// Identity checks who asks. Its methods may be called at once.
type Identity struct {
	cat *catalog.Catalog
	o   Options

	cacheKey [32]byte // keys the hash under which verified secrets are remembered
	secrets  *memory[proven]
	grants   *memory[granted]
	tokens   *memory[verified]
	slow     chan struct{}
	line     chan struct{} // who waits for slow, or has it
	checks   singleflight.Group

	mu   sync.Mutex
	keys *keys // nil until first used
}

// New makes an Identity over the principals in cat.
func New(cat *catalog.Catalog, o Options) *Identity {
	if o.Issuer == "" {
		o.Issuer = "pratique"
	}
	if o.Service == "" {
		o.Service = "pratique"
	}
	if o.Lifetime <= 0 {
		o.Lifetime = 5 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	i := &Identity{cat: cat, o: o, slow: make(chan struct{}, slowAtOnce), line: make(chan struct{}, slowAtOnce+slowWaiting),
		secrets: newMemory[proven](maxRemembered), grants: newMemory[granted](maxRemembered), tokens: newMemory[verified](maxRemembered)}
	rand.Read(i.cacheKey[:]) // never fails (crypto/rand)
	return i
}

// Service is the name under which clients ask for tokens.
func (i *Identity) Service() string { return i.o.Service }

// The first administrator.
const (
	adminName     = "admin"
	adminSecretID = "admin-first"
	bootstrapDone = "identity.bootstrapped" // setting; there once the first administrator is complete
)

// Bootstrap makes the first administrator, exactly once in the life of a catalog, also
// if several processes start at once or one breaks off halfway. With an empty secret
// one is made and returned to be shown; it cannot be had again. A given secret is
// checked (ErrWeakSecret), kept and not returned. created is false, and nothing is
// changed, where the administrator is there already.
func (i *Identity) Bootstrap(ctx context.Context, secret string) (name, shownSecret string, created bool, err error) {
	if secret != "" {
		// Checked also when it is not used any more: a start must not depend on the day.
		if err := checkChosen(secret); err != nil {
			return adminName, "", false, err
		}
	}
	if _, err := i.cat.Setting(ctx, bootstrapDone); err == nil {
		return adminName, "", false, nil
	} else if !errors.Is(err, catalog.ErrNotFound) {
		return adminName, "", false, fmt.Errorf("bootstrap: %w", err)
	}
	p, err := i.firstPrincipal(ctx)
	if err != nil {
		return adminName, "", false, fmt.Errorf("bootstrap: %w", err)
	}
	hash, shown, err := i.firstSecret(secret)
	if err != nil {
		return adminName, "", false, fmt.Errorf("bootstrap: %w", err)
	}
	// The secret's fixed id decides between processes: one of them can add it.
	err = i.cat.AddSecret(ctx, catalog.Secret{ID: adminSecretID, Principal: p.ID, Hash: hash, Created: i.o.Now()})
	if errors.Is(err, catalog.ErrConflict) {
		shown, created = "", false
	} else if err != nil {
		return adminName, "", false, fmt.Errorf("bootstrap: %w", err)
	} else {
		created = true
	}
	if err := i.cat.PutSetting(ctx, bootstrapDone, []byte(i.o.Now().UTC().Format(time.RFC3339))); err != nil {
		// The secret holds all the same, so it must not be lost over this.
		i.o.Log.ErrorContext(ctx, "bootstrap not marked as done", "err", err)
	}
	return adminName, shown, created, nil
}

// firstPrincipal makes the administrator with its role, or takes the one that an
// earlier start left without a secret.
func (i *Identity) firstPrincipal(ctx context.Context) (access.Principal, error) {
	p := access.Principal{ID: newID(), Kind: access.KindUser, Name: adminName}
	err := i.cat.CreatePrincipal(ctx, p, i.o.Now())
	if errors.Is(err, catalog.ErrConflict) {
		p, err = i.cat.PrincipalByName(ctx, adminName)
	}
	if err != nil {
		return access.Principal{}, err
	}
	return p, i.cat.Assign(ctx, p.ID, access.Administrator.Name, "")
}

func (i *Identity) firstSecret(chosen string) (hash []byte, shown string, err error) {
	if chosen == "" {
		shown = NewSecret()
		return hashGenerated(shown), shown, nil
	}
	if isGenerated(chosen) {
		return hashGenerated(chosen), "", nil
	}
	return hashChosen(chosen), "", nil
}

// Authenticate returns the principal that name and secret prove. ErrUnauthenticated
// if they prove nothing; any other error, ErrBusy among them, means that it could not be told.
//
// Which work is done depends on what was presented and not on what is kept, so that
// the time of a refusal does not tell whether the name exists.
func (i *Identity) Authenticate(ctx context.Context, name, secret string) (access.Principal, error) {
	if name == "" || len(name) > maxName || secret == "" || len(secret) > maxSecret {
		return access.Principal{}, ErrUnauthenticated
	}
	version, err := i.cat.AccessVersion(ctx)
	if err != nil {
		return access.Principal{}, fmt.Errorf("authenticate: %w", err)
	}
	key := i.rememberedAs(name, secret)
	p, ok := i.secrets.get(key, i.o.Now())
	ok = ok && p.version == version
	if ok && i.o.Now().Before(p.renew) {
		return p.Principal, nil
	}
	prove := func() (any, error) { return i.prove(context.WithoutCancel(ctx), key, name, secret, version) }
	if isGenerated(secret) {
		v, err := prove()
		p, _ := v.(access.Principal)
		return p, err
	}
	// Clients send the same credentials in many requests at once; one check is enough.
	ch := i.checks.DoChan(key, prove)
	if ok {
		return p.Principal, nil
	}
	select {
	case <-ctx.Done():
		return access.Principal{}, ctx.Err()
	case r := <-ch:
		p, _ := r.Val.(access.Principal)
		return p, r.Err
	}
}

// proven is what is remembered of a checked secret.
type proven struct {
	access.Principal
	version int64
	renew   time.Time
}

// prove checks a secret and remembers, or forgets, what came of it. version is what access
// stood at before.
func (i *Identity) prove(ctx context.Context, key, name, secret string, version int64) (access.Principal, error) {
	begun := i.o.Now()
	p, until, err := i.check(ctx, name, secret)
	switch {
	case err == nil:
		if end := begun.Add(rememberSecret); until.IsZero() || until.After(end) {
			until = end
		}
		i.secrets.put(key, proven{p, version, begun.Add(renewSecret)}, begun, until)
	case errors.Is(err, ErrUnauthenticated):
		i.secrets.forget(key)
	}
	return p, err
}

// check returns whom a secret proves, and when it, or another that its owner has, expires
// first: zero if none does.
func (i *Identity) check(ctx context.Context, name, secret string) (p access.Principal, until time.Time, err error) {
	p, err = i.cat.PrincipalByName(ctx, name)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return access.Principal{}, until, fmt.Errorf("authenticate: %w", err)
	}
	var kept []catalog.Secret
	// Asked for a principal that does not exist as well: equal work.
	if kept, err = i.cat.Secrets(ctx, p.ID); err != nil {
		return access.Principal{}, until, fmt.Errorf("authenticate: %w", err)
	}
	now := i.o.Now()
	hashes := make([][]byte, 0, len(kept))
	for _, s := range kept {
		if !s.Expires.IsZero() && !now.Before(s.Expires) {
			continue
		}
		hashes = append(hashes, s.Hash)
		if !s.Expires.IsZero() && (until.IsZero() || s.Expires.Before(until)) {
			until = s.Expires
		}
	}
	ok, err := i.matches(ctx, secret, hashes)
	if err != nil {
		return access.Principal{}, until, fmt.Errorf("authenticate: %w", err)
	}
	if !ok || p.IsZero() {
		return access.Principal{}, until, ErrUnauthenticated
	}
	return p, until, nil
}

// granted is what is remembered of a principal's grants.
type granted struct {
	access.Grants
	version int64
}

// Grants returns what a principal was granted.
func (i *Identity) Grants(ctx context.Context, p access.Principal) (access.Grants, error) {
	if p.IsZero() {
		return access.Grants{}, nil
	}
	version, err := i.cat.AccessVersion(ctx)
	if err != nil {
		return access.Grants{}, err
	}
	now := i.o.Now()
	if g, ok := i.grants.get(p.ID, now); ok && g.version == version {
		return g.Grants, nil
	}
	g, err := i.cat.Grants(ctx, p.ID)
	if err == nil {
		i.grants.put(p.ID, granted{g, version}, now, now.Add(rememberSecret))
	}
	return g, err
}

// newID is a random name for a row: 128 bits.
func newID() string { return strings.ToLower(rand.Text()) }

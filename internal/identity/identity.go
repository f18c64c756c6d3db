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
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/edge"
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
	Lifetime        time.Duration // of a token; default 5 minutes
	RefreshLifetime time.Duration // of a refresh token; default 3 hours
	RotateKeys      time.Duration // how long a signing key signs; default 7 days
	Rates           *edge.Rates   // how often one may try; nil: as often as they like
	// Issuers sends the requests to issuers of identities; default one with timeouts. It is asked for https
	// alone, http on this machine excepted.
	Issuers http.RoundTripper
	Entra   Entra            // whose service principals may log in by their own secrets; the zero Entra: nobody's
	SignIn  SignIn           // where people sign in with a browser; the zero SignIn: nowhere
	Now     func() time.Time // default time.Now
	Log     *slog.Logger     // default: discard
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

	cacheKey  [32]byte // keys the hash under which verified secrets are remembered
	secrets   *memory[proven]
	standings *memory[standing]
	tokens    *memory[verified]
	slow      chan struct{}
	line      chan struct{} // who waits for slow, or has it
	checks    singleflight.Group
	issuers   *issuers
	entra     chan struct{} // who asks Entra ID

	mu   sync.Mutex
	keys keys // as they were when last read
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
	if o.RefreshLifetime <= 0 {
		o.RefreshLifetime = 3 * time.Hour
	}
	if o.RotateKeys <= 0 {
		o.RotateKeys = 7 * 24 * time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	i := &Identity{cat: cat, o: o, slow: make(chan struct{}, slowAtOnce), line: make(chan struct{}, slowAtOnce+slowWaiting),
		secrets: newMemory[proven](maxRemembered), standings: newMemory[standing](maxRemembered), tokens: newMemory[verified](maxRemembered)}
	i.issuers = newIssuers(o.Issuers, o.Now, o.Log)
	i.entra = make(chan struct{}, entraAtOnce)
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
	err = i.cat.AddSecret(ctx, catalog.Secret{ID: adminSecretID, Principal: p.ID, Name: "first", Hash: hash}, i.itself())
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
	p := catalog.Account{Principal: access.Principal{ID: newID(), Kind: access.KindUser, Name: adminName}, Description: "the first administrator"}
	err := i.cat.CreatePrincipal(ctx, p, i.itself())
	if errors.Is(err, catalog.ErrConflict) {
		p, err = i.cat.PrincipalByName(ctx, adminName)
	}
	if err != nil {
		return access.Principal{}, err
	}
	return p.Principal, i.cat.Assign(ctx, catalog.Assigned{Principal: p.ID, Role: access.Owner.Name}, i.itself())
}

// itself is who acts where nobody asked for it.
func (i *Identity) itself() catalog.Act { return catalog.Act{By: "pratique", Now: i.o.Now()} }

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

// newID is a random name for a row: 128 bits.
func newID() string { return strings.ToLower(rand.Text()) }

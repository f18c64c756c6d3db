// Package admin changes who may do what: principals, their secrets, roles, scope maps, groups
// and assignments. It holds the rules that keep those who may from giving themselves or
// others more than they have:
//
//   - what someone gives, by an assignment, a role, a scope map, a group or a secret of somebody else,
//     they were given themselves, at least as widely and without a condition;
//   - an owner of the whole registry may give everything, and nobody else changes an owner;
//   - the last owner stays.
//
// Proving who asks is identity's, what is given access's, and remembering it the catalog's.
// Errors that a client shall see are *oci.Error.
package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// Options are the needs of a Service.
type Options struct {
	// NewSecret makes a secret, and the hash of it that is kept.
	NewSecret func() (secret string, hash []byte)
	// ParseKey reads a public key as it is to be kept.
	ParseKey func(jwk []byte) ([]byte, error)
	Reserved []string         // names that no principal may have
	Now      func() time.Time // default time.Now
}

// Service changes who may do what. Its methods may be called at once.
type Service struct {
	cat *catalog.Catalog
	o   Options
	// mu is held from asking whether something may be given to giving it.
	mu sync.Mutex
}

// New makes a Service over what the catalog holds.
func New(cat *catalog.Catalog, o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Service{cat: cat, o: o}
}

// Actor is who asks for a change. The zero Actor may change nothing.
type Actor struct {
	access.Principal
	Grants access.Grants // all that it was given
	// May says what the request may do; nil: nothing.
	May func(access.Permission) bool
	// Secret is the ID of the secret that was shown with the request; "" where none was.
	Secret string
	Act    catalog.Act // By is the actor's name
}

// Bounds. The catalog bounds what one principal has.
const (
	maxDescription = 500 // bytes
	maxRoles       = 1000
	maxScopeMaps   = 10_000
	maxPrincipals  = 1_000_000
)

// newID is a random name for a row: 128 bits.
func newID() string { return strings.ToLower(rand.Text()) }

func checkDescription(s string) error {
	if len(s) > maxDescription || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return oci.Errorf(oci.CodeInvalid, "description: expected at most %d bytes of text in one line", maxDescription)
	}
	return nil
}

// account finds a principal by its name.
func (s *Service) account(ctx context.Context, name string) (catalog.Account, error) {
	p, err := s.cat.PrincipalByName(ctx, name)
	if errors.Is(err, catalog.ErrNotFound) {
		return p, oci.Errorf(oci.CodeNameUnknown, "there is no principal %.255q; 'pratique principal list' shows those that there are", name)
	}
	return p, err
}

// mayGive refuses to give what the actor does not have.
func mayGive(by Actor, given ...access.Assignment) error {
	err := by.Grants.MayGive(given...)
	var lack *access.Lack
	if errors.As(err, &lack) {
		return oci.Errorf(oci.CodeDenied, "%s cannot give what it was not given itself without a condition: %s; ask an Owner", by.Name, lack)
	}
	return err
}

// mayTouch refuses to change a principal that has more than the actor.
func (s *Service) mayTouch(ctx context.Context, by Actor, p catalog.Account) error {
	if by.ID != "" && by.ID == p.ID || by.Grants.Owner() {
		return nil
	}
	has, err := s.cat.Given(ctx, p)
	if err != nil {
		return err
	}
	if has.OwnerAtTimes() {
		return oci.Errorf(oci.CodeDenied, "%s is an Owner of the registry: only another one may change it", p.Name)
	}
	err = by.Grants.MayGive(has.Assigned()...)
	var lack *access.Lack
	if errors.As(err, &lack) {
		return oci.Errorf(oci.CodeDenied, "%s has %s, which %s was not given without a condition: only who has all that it has may change it; ask an Owner", p.Name, lack, by.Name)
	}
	return err
}

// NewPrincipal is a principal to be made.
type NewPrincipal struct {
	Name, Description string
	Kind              access.Kind
	ScopeMap          string // of a token, which needs one
	External          string // what an issuer calls it (catalog.Account)
	NoSecret          bool   // none is made
	Secret            NewSecret
	Assign            *Assignment // its first role; nil: none
}

// Made is a principal that was made.
type Made struct {
	catalog.Account
	Secret *MadeSecret // nil where none was made
}

// Create makes a principal, with a first secret where its kind has any and NoSecret is not set, and
// a first role. If a part of it fails, nothing of it is left.
func (s *Service) Create(ctx context.Context, by Actor, n NewPrincipal) (Made, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.checkNew(ctx, by, n); err != nil {
		return Made{}, err
	}
	m := Made{Account: catalog.Account{Principal: access.Principal{ID: newID(), Kind: n.Kind, Name: n.Name}, Description: n.Description, ScopeMap: n.ScopeMap, External: n.External}}
	if n.Assign != nil {
		// Everything that can be wrong with it is found before there is anything to take back.
		if _, err := s.checkAssign(ctx, by, m.Account, *n.Assign); err != nil {
			return Made{}, err
		}
	}
	var until time.Time
	if n.Kind.HasSecrets() && !n.NoSecret {
		var err error
		if until, err = s.until(m.Account, n.Secret, false); err != nil {
			return Made{}, err
		}
	}
	err := s.cat.CreatePrincipal(ctx, m.Account, by.Act)
	if errors.Is(err, catalog.ErrConflict) {
		return Made{}, oci.Errorf(oci.CodeConflict, "there is a principal %s already; 'pratique principal show %s' prints it", n.Name, n.Name)
	}
	if err != nil {
		return Made{}, err
	}
	if err := s.furnish(ctx, by, &m, n, until); err != nil {
		undo := s.cat.DeletePrincipal(context.WithoutCancel(ctx), m.ID, by.Act)
		return Made{}, errors.Join(err, undo)
	}
	m.Created, m.CreatedBy = s.o.Now().UTC(), by.Name
	return m, nil
}

// furnish gives a new principal its role and its secret.
func (s *Service) furnish(ctx context.Context, by Actor, m *Made, n NewPrincipal, until time.Time) error {
	if n.Assign != nil {
		if _, err := s.assign(ctx, by, m.Account, *n.Assign); err != nil {
			return err
		}
	}
	if !n.Kind.HasSecrets() || n.NoSecret {
		return nil
	}
	made, err := s.addSecret(ctx, by, m.Account, NewSecret{Name: n.Secret.Name}, until)
	m.Secret = &made
	return err
}

func (s *Service) checkNew(ctx context.Context, by Actor, n NewPrincipal) error {
	if err := access.CheckName(n.Name); err != nil {
		return oci.Errorf(oci.CodeNameInvalid, "%v", err)
	}
	if slices.Contains(s.o.Reserved, n.Name) {
		return oci.Errorf(oci.CodeNameInvalid, "%s cannot be anybody's name: it goes with refresh tokens", n.Name)
	}
	if _, err := access.ParseKind(string(n.Kind)); err != nil {
		return oci.Errorf(oci.CodeInvalid, "%v", err)
	}
	if err := checkDescription(n.Description); err != nil {
		return err
	}
	if (n.Kind == access.KindToken) != (n.ScopeMap != "") {
		return oci.Errorf(oci.CodeInvalid, "a token has a scope map, which says what it may do, and nobody else has: give --scope-map with --kind token; 'pratique scope-map create' makes one")
	}
	if n.Kind == access.KindToken {
		if err := s.mayMap(ctx, by, n.ScopeMap); err != nil {
			return err
		}
	}
	if n.Assign != nil && (by.May == nil || !by.May(access.RolesManage)) {
		return oci.Errorf(oci.CodeDenied, "%s has not been granted %s, and so cannot give a role", by.Name, access.RolesManage)
	}
	count, err := s.cat.PrincipalCount(ctx)
	if err == nil && count >= maxPrincipals {
		err = oci.Errorf(oci.CodeConflict, "there are %d principals, and no more can be made; delete some first", count)
	}
	return err
}

// mayMap refuses to give a token what a scope map holds.
func (s *Service) mayMap(ctx context.Context, by Actor, name string) error {
	m, err := s.cat.ScopeMap(ctx, name)
	if errors.Is(err, catalog.ErrNotFound) {
		return oci.Errorf(oci.CodeNameUnknown, "there is no scope map %.255q; 'pratique scope-map list' shows those that there are", name)
	}
	if err != nil {
		return err
	}
	return mayGive(by, m.Assignments("")...)
}

// SetDisabled disables a principal, or enables it again.
func (s *Service) SetDisabled(ctx context.Context, by Actor, name string, disabled bool) error {
	change := s.cat.EnablePrincipal
	if disabled {
		change = s.cat.DisablePrincipal
	}
	return s.change(ctx, by, name, change)
}

// Delete forgets a principal with all that it has.
func (s *Service) Delete(ctx context.Context, by Actor, name string) error {
	if name == access.Anonymous.Name {
		return oci.Errorf(oci.CodeDenied, "anonymous stands for whoever brings no credentials, and cannot be deleted; 'pratique principal disable anonymous' shuts them out")
	}
	return s.change(ctx, by, name, s.cat.DeletePrincipal)
}

// SetScopeMap gives a token another scope map.
func (s *Service) SetScopeMap(ctx context.Context, by Actor, name, scopeMap string) error {
	return s.change(ctx, by, name, func(ctx context.Context, id string, a catalog.Act) error {
		if err := s.mayMap(ctx, by, scopeMap); err != nil {
			return err
		}
		err := s.cat.SetScopeMap(ctx, id, scopeMap, a)
		if errors.Is(err, catalog.ErrNotFound) {
			return oci.Errorf(oci.CodeInvalid, "%s is no repository token; roles are what others have", name)
		}
		return err
	})
}

// change does something to a principal that the actor may change.
func (s *Service) change(ctx context.Context, by Actor, name string, do func(context.Context, string, catalog.Act) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.account(ctx, name)
	if err != nil {
		return err
	}
	if err := s.mayTouch(ctx, by, p); err != nil {
		return err
	}
	return lastOwner(do(ctx, p.ID, by.Act), name)
}

// lastOwner says in words why the last owner stays.
func lastOwner(err error, name string) error {
	if errors.Is(err, catalog.ErrLastOwner) {
		return oci.Errorf(oci.CodeConflict, "%s is the last Owner of the registry, and nobody could undo this; make another first: pratique role assign PRINCIPAL Owner", name)
	}
	return err
}

// roleName is how a role is called in messages.
func roleName(r access.Role) string {
	if strings.Contains(r.Name, " ") {
		return fmt.Sprintf("%q", r.Name)
	}
	return r.Name
}

package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
)

// standing is what is remembered of how a principal stands, as long as nothing changes of access.
type standing struct {
	catalog.Standing
	secrets     []catalog.Secret
	federations []string
	version     int64
}

// standing returns how a login stands now. ErrUnauthenticated if there is no such principal any
// more, if it is disabled, or if what it was proved by is gone or has run out.
func (i *Identity) standing(ctx context.Context, l Login) (standing, error) {
	version, err := i.cat.AccessVersion(ctx)
	if err != nil {
		return standing{}, err
	}
	key, now := l.ID, i.o.Now()
	if len(l.Groups) > 0 {
		key += " " + strings.Join(l.Groups, " ")
	}
	s, ok := i.standings.get(key, now)
	if !ok || s.version != version {
		if s, err = i.look(ctx, l); err != nil {
			return standing{}, err
		}
		s.version = version
		i.standings.put(key, s, now, now.Add(rememberSecret))
	}
	if !s.has(l.Credential, now.Unix()) {
		return standing{}, fmt.Errorf("%w: what it was got with is gone", ErrUnauthenticated)
	}
	return s, nil
}

// look asks the catalog.
func (i *Identity) look(ctx context.Context, l Login) (s standing, err error) {
	s.Standing, err = i.cat.Standing(ctx, l.ID, l.Groups)
	if errors.Is(err, catalog.ErrNotFound) {
		return s, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	if err != nil {
		return s, err
	}
	if s.Kind == access.KindAnonymous {
		s.Grants = readingAlone(s.Grants)
	}
	if s.secrets, err = i.cat.Secrets(ctx, l.ID); err != nil {
		return s, err
	}
	by, err := i.cat.FederationsOf(ctx, l.ID)
	for _, f := range by {
		s.federations = append(s.federations, f.Name)
	}
	return s, err
}

// has says whether a credential is still there. Logins without one prove themselves anew each time.
func (s standing) has(credential string, unix int64) bool {
	kind, id, _ := strings.Cut(credential, " ")
	switch kind {
	case "", "oidc":
		return true
	case "secret", "key":
		return slices.ContainsFunc(s.secrets, func(x catalog.Secret) bool {
			return x.ID == id && (x.Expires.IsZero() || unix < x.Expires.Unix())
		})
	case "federation":
		return slices.Contains(s.federations, id)
	}
	return false
}

// readingAlone leaves of grants what the anonymous may have.
func readingAlone(g access.Grants) access.Grants {
	assigned := g.Assigned()
	for n, a := range assigned {
		var may []access.Permission
		for _, p := range a.Role.Permissions {
			if p == access.RepositoryPull || p == access.RepositoryList {
				may = append(may, p)
			}
		}
		assigned[n].Role.Permissions = may
	}
	return access.NewGrants(assigned...)
}

// Grants returns all that a login has been granted. ErrUnauthenticated as for a request.
func (i *Identity) Grants(ctx context.Context, l Login) (access.Grants, error) {
	if l.IsZero() {
		return access.Grants{}, nil
	}
	s, err := i.standing(ctx, l)
	return s.Grants, err
}

package identity

import (
	"context"
	"net/http"
	"strings"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/edge"
	"pratique.dev/pratique/internal/oci"
)

// Caller is who sent a request, and what it may do. The zero Caller is nobody, who may nothing.
type Caller struct {
	Login
	grants  access.Grants
	token   bool    // it was proved by an access token
	held    Granted // what that holds
	request access.Request
}

// Anonymous says whether the request brought no credentials.
func (c Caller) Anonymous() bool { return c.Kind == access.KindAnonymous }

// ByToken says whether the caller holds no more than its token was asked for.
func (c Caller) ByToken() bool { return c.token }

// Allows says whether the request may do p to repo: it was granted, and a token that the
// request came with holds it.
func (c Caller) Allows(p access.Permission, repo oci.Repository) bool {
	return (!c.token || c.held.Allows(p, repo)) && c.Was(p, repo)
}

// Was says whether p was granted to the caller for such a request, be it in the token or not.
func (c Caller) Was(p access.Permission, repo oci.Repository) bool {
	return c.grants.For(c.request).Allows(p, repo)
}

// MayList says whether the caller may ask for lists over repositories, in which it is shown what
// it may see: all that have proved who they are, but with a token one that was asked for it.
func (c Caller) MayList() bool {
	return !c.IsZero() && !c.Anonymous() && (!c.token || c.held.Allows(access.CatalogList, oci.Repository{}))
}

// All is what was granted to the caller, be it in the token or not.
func (c Caller) All() Allower { return c.grants.For(c.request) }

// Tagged is the caller of a request that names a tag.
func (c Caller) Tagged(tag string) Caller {
	c.request.Tag = tag
	return c
}

// Caller returns who sent a request, by its Authorization header: HTTP Basic, or Bearer with
// an access token. Without one it is access.Anonymous, which has what was assigned to it, if
// anything. ErrUnauthenticated if the header proves nobody; an *edge.Limited if too many from there
// were wrong; any other error means that it could not be told.
func (i *Identity) Caller(r *http.Request) (Caller, error) {
	ctx := r.Context()
	scheme, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	from := edge.OriginOf(r).Addr
	switch {
	case len(r.Header.Values("Authorization")) > 1:
		return Caller{}, ErrUnauthenticated // which of them counts is not to be guessed
	case strings.EqualFold(scheme, "Bearer"):
		l, held, err := i.Verify(ctx, strings.TrimSpace(credentials))
		if err != nil {
			return Caller{}, err
		}
		c, err := i.caller(ctx, l, r)
		c.token, c.held = true, held
		return c, err
	case strings.EqualFold(scheme, "Basic"):
		name, secret, ok := r.BasicAuth()
		if !ok {
			return Caller{}, ErrUnauthenticated
		}
		l, err := i.Authenticate(ctx, name, secret, from)
		if err != nil {
			return Caller{}, err
		}
		return i.caller(ctx, l, r)
	case scheme != "":
		return Caller{}, ErrUnauthenticated
	}
	return i.caller(ctx, Login{Principal: access.Anonymous}, r)
}

func (i *Identity) caller(ctx context.Context, l Login, r *http.Request) (Caller, error) {
	s, err := i.standing(ctx, l)
	if err != nil {
		return Caller{}, err
	}
	l.Principal = s.Principal // the name may have changed since a token was issued
	return Caller{Login: l, grants: s.Grants, request: i.requestOf(l, r)}, nil
}

// requestOf is what conditions may ask of a request.
func (i *Identity) requestOf(l Login, r *http.Request) access.Request {
	return access.Request{Principal: l.Principal, Claims: l.Claims, Address: edge.OriginOf(r).Addr, Time: i.o.Now()}
}

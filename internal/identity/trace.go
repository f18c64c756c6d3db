package identity

import (
	"errors"
	"net/http"

	"github.com/go-jose/go-jose/v4/jwt"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/edge"
)

// TraceOf is where a request of a login came from.
func TraceOf(l Login, r *http.Request) catalog.Trace {
	o := edge.OriginOf(r)
	t := catalog.Trace{ByID: l.ID, ByKind: string(l.Kind), Request: o.Request}
	if o.Addr.IsValid() {
		t.Address = o.Addr.String()
	}
	return t
}

// FailedLogin is the record of a request whose credentials prove nobody, or were not looked at, and false if that is nothing to
// record: it brought none, or a token that has run out. It tells the name that was given, and
// nothing of what is kept.
func FailedLogin(r *http.Request, err error) (catalog.Record, bool) {
	if errors.Is(err, jwt.ErrExpired) {
		return catalog.Record{}, false
	}
	name, _, basic := r.BasicAuth()
	if r.PostForm != nil && !basic {
		name = r.PostForm.Get("username") + r.PostForm.Get("client_id")
		if r.PostForm.Has("subject_token") {
			name = FederatedUser // what a token says of itself before it is verified is nobody's name
		}
	} else if r.Header.Get("Authorization") == "" {
		return catalog.Record{}, false
	}
	why := "the credentials are wrong, or have run out"
	if errors.As(err, new(*edge.Limited)) {
		why = "too many were wrong before, so that these were not looked at"
	}
	t := TraceOf(Login{}, r)
	return catalog.Record{Actor: name[:min(len(name), maxName)], Action: "login", Decision: catalog.AuditDenied, Address: t.Address, Request: t.Request, Why: why}, true
}

package cli

import (
	"cmp"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/identity"
)

// issuerFlags say which issuers of identities the registry asks, besides those of its federations.
type issuerFlags struct {
	tenant, authority, audience    string
	issuer, clientID, clientSecret string
	scopes, groups, name, allow    string
}

func (f *issuerFlags) register(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.tenant, "entra-tenant", "", "ID of the Entra ID tenant whose service principals log in by their ID and secret (PRATIQUE_ENTRA_TENANT; default none)")
	fs.StringVar(&f.authority, "entra-authority", "", "where that tenant is (PRATIQUE_ENTRA_AUTHORITY; default "+identity.DefaultEntraAuthority+")")
	fs.StringVar(&f.audience, "entra-audience", "", "audience of the tokens that their secrets are checked by (PRATIQUE_ENTRA_AUDIENCE; default "+identity.DefaultEntraAudience+")")
	fs.StringVar(&f.issuer, "oidc-issuer", "", "OpenID Connect issuer at which people sign in with a browser (PRATIQUE_OIDC_ISSUER; default none)")
	fs.StringVar(&f.clientID, "oidc-client-id", "", "by which that issuer knows this registry (PRATIQUE_OIDC_CLIENT_ID)")
	fs.StringVar(&f.clientSecret, "oidc-client-secret-file", "", "file with the client's secret, unless it is a public client (or the secret itself in PRATIQUE_OIDC_CLIENT_SECRET)")
	fs.StringVar(&f.scopes, "oidc-scopes", "openid,profile,email", "what the issuer is asked for, with commas between")
	fs.StringVar(&f.groups, "oidc-groups-claim", "groups", "claim with a user's groups")
	fs.StringVar(&f.name, "oidc-name-claim", "preferred_username", "claim that a user is called by at the first sign-in")
	fs.StringVar(&f.allow, "oidc-allow", "", `rule in CEL over the claims that must hold of who signs in, as in 'claims.email.endsWith("@example.com")' (default: all may, and nothing is granted to them)`)
}

func (f *issuerFlags) read() (identity.Entra, identity.SignIn, error) {
	secret := os.Getenv("PRATIQUE_OIDC_CLIENT_SECRET")
	if f.clientSecret != "" {
		var err error
		if secret, err = readSecret(f.clientSecret); err != nil {
			return identity.Entra{}, identity.SignIn{}, err
		}
	}
	entra := identity.Entra{Tenant: strings.ToLower(cmp.Or(f.tenant, os.Getenv("PRATIQUE_ENTRA_TENANT"))), Authority: cmp.Or(f.authority, os.Getenv("PRATIQUE_ENTRA_AUTHORITY")),
		Audience: cmp.Or(f.audience, os.Getenv("PRATIQUE_ENTRA_AUDIENCE"))}
	return entra, identity.SignIn{Issuer: cmp.Or(f.issuer, os.Getenv("PRATIQUE_OIDC_ISSUER")), ClientID: cmp.Or(f.clientID, os.Getenv("PRATIQUE_OIDC_CLIENT_ID")),
		ClientSecret: secret, Scopes: strings.FieldsFunc(f.scopes, func(r rune) bool { return r == ',' || r == ' ' }),
		NameClaim: f.name, GroupsClaim: f.groups, Allow: f.allow}, nil
}

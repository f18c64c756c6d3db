package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
)

func repo(name string) oci.Repository {
	r, err := oci.ParseRepository(name)
	if err != nil {
		return oci.Repository{}
	}
	return r
}

func admin(t testing.TB, i *Identity) Login {
	t.Helper()
	_, secret, _, err := i.Bootstrap(bg, "")
	if err != nil {
		t.Fatal(err)
	}
	p, err := i.Authenticate(bg, "admin", secret, nowhere)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func scopes(t *testing.T, text ...string) []Access {
	t.Helper()
	a, err := ParseScopes(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestTokenHoldsWhatWasAskedAndGranted(t *testing.T) {
	i, cat, c := fresh(t)
	p := admin(t, i)
	tok, err := i.Issue(bg, p, access.Request{}, scopes(t, "repository:app:pull repository:other:push", "registry:catalog:*"))
	if err != nil {
		t.Fatal(err)
	}
	if !tok.Expires.Equal(c.now().Add(5 * time.Minute)) {
		t.Errorf("expires %v, want in 5 minutes", tok.Expires)
	}
	got, g, err := i.Verify(bg, tok.Text)
	if err != nil || got.Principal != p.Principal || got.Credential != p.Credential {
		t.Fatalf("Verify = %+v, %v; want %+v", got, err, p)
	}
	for _, tc := range []struct {
		p    access.Permission
		repo string
		want bool
	}{
		{access.RepositoryPull, "app", true},
		{access.RepositoryList, "app", true},
		{access.RepositoryPush, "app", false},
		{access.RepositoryDelete, "app", false},
		{access.QuarantinePull, "app", false}, // the administrator was not granted it
		{access.RepositoryPush, "other", true},
		{access.RepositoryPull, "other", false},
		{access.RepositoryPull, "third", false},
		{access.RepositoryPull, "", false},
		{access.CatalogList, "", true},
		{access.PrincipalsManage, "", false},
		{access.PolicyWrite, "app", false},
		{"", "app", false},
	} {
		if got := g.Allows(tc.p, repo(tc.repo)); got != tc.want {
			t.Errorf("token allows %s on %q: %v, want %v", tc.p, tc.repo, got, tc.want)
		}
	}
	nobody := access.Principal{ID: "n", Kind: access.KindService, Name: "n"}
	if err := cat.CreatePrincipal(bg, catalog.Account{Principal: nobody}, catalog.Act{Now: c.now()}); err != nil {
		t.Fatal(err)
	}
	tok, err = i.Issue(bg, Login{Principal: nobody}, access.Request{}, scopes(t, "repository:app:*", "registry:catalog:*"))
	if err != nil || len(tok.Granted) != 1 || tok.Granted[0].Type != typeRegistry {
		t.Errorf("a principal without grants is given %v, %v; want a list of what it may see", tok.Granted, err)
	}
	if _, err := i.Issue(bg, Login{}, access.Request{}, nil); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("Issue to nobody = %v", err)
	}
}

func TestQuarantineComesWithPull(t *testing.T) {
	all := access.NewGrants(access.Assignment{Role: access.Role{Permissions: access.Permissions}})
	got := grant([]Access{{typeRepository, "app", []string{"pull"}}}, all)
	if len(got) != 1 || !slices.Equal(got[0].Actions, []string{"pull", "metadata_read", "quarantine"}) {
		t.Errorf("pull gives %v", got)
	}
	got = grant([]Access{{typeRepository, "app", []string{"*"}}}, all)
	if len(got) != 1 || len(got[0].Actions) != 7 {
		t.Errorf("* gives %v", got)
	}
	if got := grant([]Access{{typeRepository, "app", []string{"push"}}, {typeRegistry, "catalog", []string{"pull"}}, {typeRepository, "Not A Name", []string{"pull"}}}, all); len(got) != 1 ||
		!slices.Equal(got[0].Actions, []string{"push", "sign"}) {
		t.Errorf("push gives %v", got)
	}
}

func TestDockersForm(t *testing.T) {
	i, _, _ := fresh(t)
	tok, err := i.Issue(bg, admin(t, i), access.Request{}, scopes(t, "repository:team/app:pull,push"))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(tok.Text, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	var header struct{ Typ, Alg, Kid string }
	var body map[string]any
	for n, v := range []any{&header, &body} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[n])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, v); err != nil {
			t.Fatal(err)
		}
	}
	if header.Typ != "JWT" || header.Alg != "ES256" || header.Kid == "" {
		t.Errorf("header %+v", header)
	}
	for _, claim := range []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "access"} {
		if body[claim] == nil {
			t.Errorf("claim %s is missing", claim)
		}
	}
	a, _ := json.Marshal(body["access"])
	if want := `[{"actions":["pull","push","metadata_read","sign"],"name":"team/app","type":"repository"}]`; string(a) != want {
		t.Errorf("access %s, want %s", a, want)
	}
}

// forge signs claims as told.
func forge(t *testing.T, alg jose.SignatureAlgorithm, key any, kid string, c claims) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", kid))
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(s).Claims(c).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestVerifyRefuses(t *testing.T) {
	i, cat, c := fresh(t)
	p := admin(t, i)
	good, err := i.Issue(bg, p, access.Request{}, scopes(t, "repository:app:pull"))
	if err != nil {
		t.Fatal(err)
	}
	stored, err := cat.Setting(bg, signingKeys)
	if err != nil {
		t.Fatal(err)
	}
	var set storedKeys
	if err := json.Unmarshal(stored, &set); err != nil {
		t.Fatal(err)
	}
	ours, kid := set.Keys[0].Key.(*ecdsa.PrivateKey), set.Keys[0].KeyID
	theirs, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := c.now()
	base := func(change func(*claims)) claims {
		v := claims{Name: "admin", Access: []Access{{typeRepository, "app", []string{"push"}}}, Claims: jwt.Claims{Issuer: "pratique", Subject: p.ID,
			Audience: jwt.Audience{"pratique"}, Expiry: jwt.NewNumericDate(now.Add(time.Minute)), NotBefore: jwt.NewNumericDate(now), IssuedAt: jwt.NewNumericDate(now)}}
		if change != nil {
			change(&v)
		}
		return v
	}
	sign := func(change func(*claims)) string { return forge(t, jose.ES256, ours, kid, base(change)) }
	if _, _, err := i.Verify(bg, sign(nil)); err != nil {
		t.Fatalf("the token that the others differ from: %v", err)
	}
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"`+kid+`"}`)) + "." + strings.Split(sign(nil), ".")[1] + "."
	parts := strings.Split(good.Text, ".")
	pub, err := json.Marshal(jose.JSONWebKey{Key: &ours.PublicKey, KeyID: kid})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":                        "",
		"no token":                     "x.y.z",
		"unsigned":                     unsigned,
		"signature cut off":            parts[0] + "." + parts[1] + ".",
		"claims of another token":      parts[0] + "." + strings.Split(sign(nil), ".")[1] + "." + parts[2],
		"another key, our key id":      forge(t, jose.ES256, theirs, kid, base(nil)),
		"another key, its own id":      forge(t, jose.ES256, theirs, "theirs", base(nil)),
		"our key, unknown id":          forge(t, jose.ES256, ours, "other", base(nil)),
		"our public key as a password": forge(t, jose.HS256, pub, kid, base(nil)),
		"another issuer":               sign(func(c *claims) { c.Issuer = "other" }),
		"another audience":             sign(func(c *claims) { c.Audience = jwt.Audience{"other"} }),
		"no audience":                  sign(func(c *claims) { c.Audience = nil }),
		"expired":                      sign(func(c *claims) { c.Expiry = jwt.NewNumericDate(now) }),
		"without expiry":               sign(func(c *claims) { c.Expiry = nil }),
		"not valid yet":                sign(func(c *claims) { c.NotBefore = jwt.NewNumericDate(now.Add(time.Minute)) }),
		"without not-before":           sign(func(c *claims) { c.NotBefore = nil }),
		"without subject":              sign(func(c *claims) { c.Subject = "" }),
		"issued in the future":         sign(func(c *claims) { c.IssuedAt = jwt.NewNumericDate(now.Add(time.Minute)) }),
		"too long":                     strings.Repeat("a", maxToken+1),
	} {
		if p, g, err := i.Verify(bg, text); !errors.Is(err, ErrUnauthenticated) || !p.IsZero() || g != nil {
			t.Errorf("%s: Verify = %+v, %v, %v; want ErrUnauthenticated", name, p, g, err)
		}
	}
	// Remembered or not, a token ends when it ends.
	if _, _, err := i.Verify(bg, good.Text); err != nil {
		t.Fatal(err)
	}
	c.advance(5 * time.Minute)
	if _, _, err := i.Verify(bg, good.Text); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("after its end: %v, want ErrUnauthenticated", err)
	}
}

// TestReplicas: every process over the same catalog takes the tokens of every other.
func TestReplicas(t *testing.T) {
	i, cat, c := fresh(t)
	tok, err := i.Issue(bg, admin(t, i), access.Request{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := New(cat, Options{Now: c.now}).Verify(bg, tok.Text); err != nil {
		t.Errorf("another process: %v", err)
	}
	if _, _, err := New(cat, Options{Now: c.now, Service: "another.example"}).Verify(bg, tok.Text); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("another service: %v, want ErrUnauthenticated", err)
	}
}

func TestBrokenKeys(t *testing.T) {
	elsewhere, _, _ := fresh(t)
	issued, err := elsewhere.Issue(bg, admin(t, elsewhere), access.Request{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := issued.Text
	for _, stored := range []string{"", "{}", `{"keys":[]}`, `{"keys":[{"kty":"oct","k":"AAAA","kid":"a"}]}`, "nonsense"} {
		i, cat, _ := fresh(t)
		p := admin(t, i)
		if err := cat.PutSetting(bg, signingKeys, []byte(stored)); err != nil {
			t.Fatal(err)
		}
		if _, err := i.Issue(bg, p, access.Request{}, nil); err == nil || errors.Is(err, ErrUnauthenticated) {
			t.Errorf("keys %q: Issue = %v, want an error of its own", stored, err)
		}
		if _, _, err := i.Verify(bg, other); err == nil || errors.Is(err, ErrUnauthenticated) {
			t.Errorf("keys %q: Verify = %v, want an error of its own", stored, err)
		}
	}
}

func TestParseScopes(t *testing.T) {
	for _, tc := range []struct {
		in   []string
		want []Access
	}{
		{nil, nil},
		{[]string{""}, nil},
		{[]string{"repository:a/b:pull,push"}, []Access{{"repository", "a/b", []string{"pull", "push"}}}},
		{[]string{"repository:a:pull repository:b:push", "registry:catalog:*"},
			[]Access{{"repository", "a", []string{"pull"}}, {"repository", "b", []string{"push"}}, {"registry", "catalog", []string{"*"}}}},
		{[]string{"repository(plugin):a:pull,pull,"}, []Access{{"repository", "a", []string{"pull"}}}},
		{[]string{"aaa:x:y", "registry:other:*"}, nil},
	} {
		got, err := ParseScopes(tc.in)
		if err != nil || len(got) != len(tc.want) {
			t.Errorf("ParseScopes(%q) = %v, %v; want %v", tc.in, got, err, tc.want)
			continue
		}
		for n := range got {
			if got[n].Type != tc.want[n].Type || got[n].Name != tc.want[n].Name || !slices.Equal(got[n].Actions, tc.want[n].Actions) {
				t.Errorf("ParseScopes(%q) = %v; want %v", tc.in, got, tc.want)
			}
		}
	}
	for _, in := range []string{"repository", "repository:a", "repository:A:pull", "repository::pull", "repository:host:5000/a:pull",
		strings.Repeat("repository:a:pull ", maxScopes+1)} {
		if got, err := ParseScopes([]string{in}); !errors.Is(err, ErrScope) {
			t.Errorf("ParseScopes(%.60q) = %v, %v; want ErrScope", in, got, err)
		}
	}
}

// TestScopeOf: what a client is told to ask for gives it the permission.
func TestScopeOf(t *testing.T) {
	all := access.NewGrants(access.Assignment{Role: access.Role{Permissions: access.Permissions}})
	for _, p := range []access.Permission{access.RepositoryPull, access.RepositoryPush, access.RepositoryDelete, access.RepositoryList, access.QuarantinePull, access.CatalogList} {
		r := repo("team/app")
		if p == access.CatalogList {
			r = oci.Repository{}
		}
		if g := Granted(grant(scopes(t, ScopeOf(p, r)), all)); !g.Allows(p, r) {
			t.Errorf("%s: the scope %q does not give it", p, ScopeOf(p, r))
		}
	}
	if s := ScopeOf(access.PolicyWrite, repo("a")) + ScopeOf(access.RepositoryPull, oci.Repository{}); s != "" {
		t.Errorf("scopes %q for what no token can give", s)
	}
}

func FuzzParseScopes(f *testing.F) {
	f.Add("repository:a/b:pull,push registry:catalog:*")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseScopes([]string{s})
		if err != nil && got != nil || len(got) > maxScopes {
			t.Fatalf("ParseScopes(%q) = %v, %v", s, got, err)
		}
		for _, a := range got {
			if a.Type == typeRepository && repo(a.Name).IsZero() {
				t.Fatalf("ParseScopes(%q) let the name %q through", s, a.Name)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	i := New(catalogtest.Open(b), Options{})
	l := admin(b, i)
	t, err := i.Issue(bg, l, access.Request{}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("first", func(b *testing.B) { // what the memory saves
		for b.Loop() {
			if _, err := i.verify(bg, t.Text, i.o.Service, time.Now()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("remembered", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := i.Verify(bg, t.Text); err != nil {
				b.Fatal(err)
			}
		}
	})
}

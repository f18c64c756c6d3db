package identity

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/identity/issuertest"
)

const redirect = "http://127.0.0.1:5000/login/callback"

// signInAt is a registry at which people sign in by an issuer that gives an ID token of claims, with what is
// changed in them, for every code.
func signInAt(t *testing.T, changes map[string]any, o SignIn) federated {
	t.Helper()
	issuer := issuertest.New(t)
	o.Issuer, o.ClientID = issuer.URL, "pratique"
	f := newFederated(t, Options{SignIn: o})
	issuer.Answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/token" {
			return false
		}
		code := r.FormValue("code") // the nonce: the issuer of this test has no memory
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if _, challenge, _ := strings.Cut(code, " "); base64.RawURLEncoding.EncodeToString(sum[:]) != challenge {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error":"invalid_grant"}`)
			return true
		}
		nonce, _, _ := strings.Cut(code, " ")
		now := f.clock.now().Unix()
		claims := map[string]any{"iss": issuer.URL, "aud": "pratique", "sub": "s-1", "nonce": nonce, "iat": now, "exp": now + 60, "preferred_username": "jane"}
		maps.Copy(claims, changes)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": issuer.Sign(claims)})
		return true
	})
	return f
}

// begin begins a sign-in and returns what the browser keeps, and what the issuer sends it back with.
func (f federated) begin(t *testing.T) (kept, state, code string) {
	t.Helper()
	address, kept, err := f.BeginSignIn(bg, redirect, "/account")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if q.Get("code_challenge_method") != "S256" || q.Get("redirect_uri") != redirect || !strings.Contains(q.Get("scope"), "openid") {
		t.Errorf("the issuer is asked for %v", q)
	}
	return kept, q.Get("state"), q.Get("nonce") + " " + q.Get("code_challenge")
}

func TestSignIn(t *testing.T) {
	f := signInAt(t, map[string]any{"groups": []string{"devs", "unknown"}}, SignIn{})
	g := catalog.Account{Principal: access.Principal{ID: "g", Kind: access.KindGroup, Name: "devs"}, External: f.o.SignIn.Issuer + " devs"}
	if err := errors.Join(f.cat.CreatePrincipal(bg, g, catalog.Act{By: "test"}), f.cat.Assign(bg, catalog.Assigned{Principal: "g", Role: "AcrPull"}, catalog.Act{By: "test"})); err != nil {
		t.Fatal(err)
	}
	kept, state, code := f.begin(t)
	in, err := f.EndSignIn(bg, kept, state, code)
	if err != nil || in.Name != "jane" || in.Kind != access.KindUser || in.Next != "/account" || in.Warning != "" {
		t.Fatalf("EndSignIn = %+v, %v", in, err)
	}
	if grants, err := f.Grants(bg, in.Login); err != nil || !grants.Allows(access.RepositoryPull, repo("team/app")) || grants.Allows(access.RepositoryPush, repo("team/app")) {
		t.Errorf("what the group was granted is not the user's: %v", err)
	}
	if _, err := f.EndSignIn(bg, kept, state, code); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("the same answer again: %v", err)
	}
	kept, state, code = f.begin(t)
	if again, err := f.EndSignIn(bg, kept, state, code); err != nil || again.ID != in.ID {
		t.Errorf("the second sign-in is of %+v, %v; want the same user", again, err)
	}
	if _, _, _, err := f.Bootstrap(bg, ""); err != nil { // somebody has to be an owner
		t.Fatal(err)
	}
	if err := f.cat.DisablePrincipal(bg, in.ID, catalog.Act{By: "test"}); err != nil {
		t.Fatal(err)
	}
	kept, state, code = f.begin(t)
	if again, err := f.EndSignIn(bg, kept, state, code); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("once disabled: %+v, %v", again, err)
	}
}

// TestSignInRefuses: an answer that is not that of this browser's own sign-in signs nobody in.
func TestSignInRefuses(t *testing.T) {
	f := signInAt(t, nil, SignIn{})
	kept, state, code := f.begin(t)
	otherKept, otherState, otherCode := f.begin(t)
	session, err := f.IssueSession(bg, Login{Principal: access.Principal{ID: "id-ci", Kind: access.KindUser, Name: "ci"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, kept, state, code string }{
		{"another's state", kept, otherState, code},
		{"no state", kept, "", code},
		{"no code", kept, state, ""},
		{"nothing kept", "", state, code},
		{"a session in its place", session.Text, state, code},
		{"another's code, whose verifier this browser has not", otherKept, otherState, code},
	} {
		if in, err := f.EndSignIn(bg, tc.kept, tc.state, tc.code); !errors.Is(err, ErrUnauthenticated) || !in.IsZero() {
			t.Errorf("%s: %+v, %v", tc.name, in, err)
		}
	}
	f.clock.advance(signInAge + time.Minute)
	if in, err := f.EndSignIn(bg, kept, state, code); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("after too long: %+v, %v", in, err)
	}
	_ = otherCode
	for name, changes := range map[string]map[string]any{
		"another nonce":                {"nonce": "another"},
		"no nonce":                     {"nonce": ""},
		"for another client":           {"aud": "other"},
		"for several, authorized none": {"aud": []string{"pratique", "other"}},
		"authorized another":           {"azp": "other"},
		"of another issuer":            {"iss": "https://evil.example"},
		"without a subject":            {"sub": ""},
		"expired":                      {"exp": 1},
	} {
		f := signInAt(t, changes, SignIn{})
		kept, state, code := f.begin(t)
		if in, err := f.EndSignIn(bg, kept, state, code); !errors.Is(err, ErrUnauthenticated) || !in.IsZero() {
			t.Errorf("an ID token %s: %+v, %v", name, in, err)
		}
	}
	if _, _, err := New(f.cat, Options{}).BeginSignIn(bg, redirect, ""); !errors.Is(err, ErrNoSignIn) {
		t.Errorf("without an issuer: %v", err)
	}
}

// TestSignInAllow: a rule that does not hold, or cannot be told, lets nobody in, and no user is made.
func TestSignInAllow(t *testing.T) {
	for rule, ok := range map[string]bool{`claims.preferred_username == "jane"`: true, `claims.sub == "other"`: false, `claims.missing == "x"`: false} {
		f := signInAt(t, nil, SignIn{Allow: rule})
		kept, state, code := f.begin(t)
		_, err := f.EndSignIn(bg, kept, state, code)
		if (err == nil) != ok || !ok && !errors.Is(err, ErrNotAllowed) {
			t.Errorf("%s: %v", rule, err)
		}
		if _, err := f.cat.PrincipalByName(bg, "jane"); (err == nil) != ok {
			t.Errorf("%s: the user: %v", rule, err)
		}
	}
}

// TestSignInNames: nobody becomes another by what the issuer lets them call themselves.
func TestSignInNames(t *testing.T) {
	for says, want := range map[any]string{
		"jane@example.com": "jane@example.com", "ci": "ci-", "anonymous": "anonymous-", FederatedUser: FederatedUser + "-", RefreshUser: RefreshUser + "-",
		"11111111-2222-3333-4444-555555555555": "11111111-2222-3333-4444-555555555555-", "": "user-", 7: "user-", "Jane Döe<script>": "Jane-D-e-script-", "../../x": "x", strings.Repeat("ü", 300): "user-",
	} {
		f := signInAt(t, map[string]any{"preferred_username": says}, SignIn{})
		kept, state, code := f.begin(t)
		in, err := f.EndSignIn(bg, kept, state, code)
		if err != nil || !strings.HasPrefix(in.Name, want) || access.CheckName(in.Name) != nil || strings.HasSuffix(want, "-") == (in.Name == want) && want != "Jane-D-e-script-" {
			t.Errorf("who calls themselves %v is %q, %v; want %q", says, in.Name, err, want)
		}
		if in.ID == "id-ci" {
			t.Errorf("%v became another", says)
		}
	}
}

func TestGroupsOf(t *testing.T) {
	many := make([]any, maxIssuerGroups+1)
	for n := range many {
		many[n] = fmt.Sprint("g", n)
	}
	for name, tc := range map[string]struct {
		claims map[string]any
		want   int
		warned bool
	}{
		"a list":         {map[string]any{"groups": []any{"a", "b"}}, 2, false},
		"one":            {map[string]any{"groups": "a"}, 1, false},
		"none":           {map[string]any{}, 0, false},
		"other types":    {map[string]any{"groups": []any{1, nil, "a", ""}}, 1, false},
		"too many":       {map[string]any{"groups": many}, 0, true},
		"overage":        {map[string]any{"_claim_names": map[string]any{"groups": "src1"}}, 0, true},
		"overage beside": {map[string]any{"groups": []any{"a"}, "_claim_names": map[string]any{"groups": "src1"}}, 0, true},
		"hasgroups":      {map[string]any{"hasgroups": "true"}, 0, true},
	} {
		got, warning := groupsOf(tc.claims, "groups")
		if len(got) != tc.want || (warning != "") != tc.warned {
			t.Errorf("%s: %v, %q", name, got, warning)
		}
	}
}

// TestSession: a session stands as its user does, ends when it is ended, and is no other kind of token.
func TestSession(t *testing.T) {
	f := signInAt(t, nil, SignIn{})
	kept, state, code := f.begin(t)
	in, err := f.EndSignIn(bg, kept, state, code)
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.IssueSession(bg, in.Login)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := f.Session(bg, s.Text); err != nil || l.ID != in.ID {
		t.Fatalf("Session = %+v, %v", l, err)
	}
	refresh, err := f.IssueRefresh(bg, in.Login)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Session(bg, refresh.Text); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("a refresh token as a session: %v", err)
	}
	if _, err := f.Refreshed(bg, s.Text); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("a session as a refresh token: %v", err)
	}
	if _, _, err := f.Verify(bg, s.Text); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("a session as an access token: %v", err)
	}
	if IsFormToken(FormToken("other"), s.Text) || IsFormToken("", s.Text) || IsFormToken(FormToken(""), "") || !IsFormToken(FormToken(s.Text), s.Text) {
		t.Error("form tokens of other sessions count")
	}
	shown, _, err := f.MakeOwnSecret(bg, in.Login, 1, catalog.Trace{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Authenticate(bg, in.Name, shown, nowhere); err != nil {
		t.Errorf("the own secret: %v", err)
	}
	if _, _, err := f.MakeOwnSecret(bg, in.Login, 365, catalog.Trace{}); err == nil {
		t.Error("an own secret for a year is made")
	}
	if err := f.EndSession(bg, s.Text); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Session(bg, s.Text); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("an ended session: %v", err)
	}
	if err := errors.Join(f.EndSession(bg, s.Text), f.EndSession(bg, "none")); err != nil {
		t.Errorf("to end it again: %v", err)
	}
}

// TestCode: a code counts once, for whoever has the verifier, at the address it was sent to.
func TestCode(t *testing.T) {
	f := signInAt(t, nil, SignIn{})
	kept, state, code := f.begin(t)
	in, err := f.EndSignIn(bg, kept, state, code)
	if err != nil {
		t.Fatal(err)
	}
	const to = "http://127.0.0.1:12345/"
	sum := sha256.Sum256([]byte("verifier"))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	for _, bad := range []string{"http://evil.example/", "https://127.0.0.1:1/", "http://127.0.0.1.evil.example:1/", "http://localhost:1/", "http://a@127.0.0.1:1/", "http://127.0.0.1/", "", "javascript:alert(1)"} {
		if _, err := f.IssueCode(bg, in.Login, challenge, bad); err == nil {
			t.Errorf("a code is sent to %q", bad)
		}
	}
	if _, err := f.IssueCode(bg, in.Login, "short", to); err == nil {
		t.Error("a challenge that is none is taken")
	}
	issue := func() string {
		c, err := f.IssueCode(bg, in.Login, challenge, to)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := issue()
	for name, try := range map[string][3]string{"another verifier": {c, "other", to}, "no verifier": {c, "", to}, "another address": {c, "verifier", to + "x"}, "no code": {"", "verifier", to}} {
		if l, err := f.RedeemCode(bg, try[0], try[1], try[2], nowhere); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	if l, err := f.RedeemCode(bg, c, "verifier", to, nowhere); err != nil || l.ID != in.ID {
		t.Errorf("RedeemCode = %+v, %v", l, err)
	}
	if l, err := f.RedeemCode(bg, c, "verifier", to, nowhere); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("a second time: %+v, %v", l, err)
	}
	late := issue()
	f.clock.advance(codeLifetime + 10*time.Second)
	if l, err := f.RedeemCode(bg, late, "verifier", to, nowhere); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("too late: %+v, %v", l, err)
	}
}

func TestEntraCheck(t *testing.T) {
	const tenant = "72f988bf-86f1-41af-91ab-2d7cd011db47"
	for _, tc := range []struct {
		e  Entra
		ok bool
	}{
		{Entra{}, true}, {Entra{Tenant: tenant}, true}, {Entra{Tenant: tenant, Authority: "https://login.chinacloudapi.cn/"}, true},
		{Entra{Tenant: "contoso.onmicrosoft.com"}, false}, {Entra{Tenant: "common"}, false}, {Entra{Tenant: tenant, Authority: "http://login.example"}, false},
	} {
		if err := tc.e.Check(); (err == nil) != tc.ok {
			t.Errorf("%+v: %v", tc.e, err)
		}
	}
	for s, want := range map[string]bool{tenant: true, strings.ToUpper(tenant): true, tenant[1:]: false, tenant + "0": false, "72f988bf_86f1-41af-91ab-2d7cd011db47": false,
		"g2f988bf-86f1-41af-91ab-2d7cd011db47": false, "----------------------------------- ": false, "": false} {
		if isGUID(s) != want {
			t.Errorf("isGUID(%q) = %v", s, !want)
		}
	}
}

package identity

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	bg      = context.Background()
	nowhere netip.Addr // that a request comes from
)

// clock is the time of a test.
type clock struct{ unix atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.unix.Store(1_790_000_000)
	return c
}

func (c *clock) now() time.Time          { return time.Unix(c.unix.Load(), 0) }
func (c *clock) advance(d time.Duration) { c.unix.Add(int64(d / time.Second)) }

func fresh(t *testing.T) (*Identity, *catalog.Catalog, *clock) {
	t.Helper()
	cat, c := catalogtest.Open(t), newClock()
	return New(cat, Options{Now: c.now}), cat, c
}

func TestBootstrap(t *testing.T) {
	i, cat, _ := fresh(t)
	name, secret, created, err := i.Bootstrap(bg, "")
	if err != nil || name != "admin" || !created || !isGenerated(secret) {
		t.Fatalf("Bootstrap = %q, %q, %v, %v; want admin with a new secret", name, secret, created, err)
	}
	p, err := i.Authenticate(bg, name, secret, nowhere)
	if err != nil || p.Name != "admin" || p.Kind != access.KindUser {
		t.Fatalf("Authenticate = %+v, %v", p, err)
	}
	g, err := i.Grants(bg, p)
	if err != nil || !g.Allows(access.PrincipalsManage, repo("")) || g.Allows(access.QuarantinePull, repo("app")) {
		t.Errorf("the administrator's grants are not an owner's: %v", err)
	}
	for _, other := range []*Identity{i, New(cat, Options{})} {
		if _, again, created, err := other.Bootstrap(bg, "another secret that is long"); again != "" || created || err != nil {
			t.Errorf("second Bootstrap = %q, %v, %v; want nothing done", again, created, err)
		}
	}
	if _, err := i.Authenticate(bg, name, "another secret that is long", nowhere); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("the second Bootstrap's secret: %v, want ErrUnauthenticated", err)
	}
	kept, err := cat.Secrets(bg, p.ID)
	if err != nil || len(kept) != 1 || strings.Contains(string(kept[0].Hash), secret) {
		t.Errorf("kept secrets: %d, %v; want one hash", len(kept), err)
	}
}

func TestBootstrapGiven(t *testing.T) {
	for _, given := range []string{"correct horse battery", NewSecret()} {
		i, _, _ := fresh(t)
		_, shown, created, err := i.Bootstrap(bg, given)
		if shown != "" || !created || err != nil {
			t.Fatalf("Bootstrap(given) = %q, %v, %v; want it kept and not shown", shown, created, err)
		}
		if _, err := i.Authenticate(bg, "admin", given, nowhere); err != nil {
			t.Errorf("Authenticate with the given secret: %v", err)
		}
	}
}

// TestBootstrapGoesOn: a start that was broken off between two steps is completed.
func TestBootstrapGoesOn(t *testing.T) {
	i, cat, c := fresh(t)
	if err := cat.CreatePrincipal(bg, catalog.Account{Principal: access.Principal{ID: "x", Kind: access.KindUser, Name: "admin"}}, catalog.Act{Now: c.now()}); err != nil {
		t.Fatal(err)
	}
	_, secret, created, err := i.Bootstrap(bg, "")
	if err != nil || !created {
		t.Fatalf("Bootstrap = %v, %v", created, err)
	}
	p, err := i.Authenticate(bg, "admin", secret, nowhere)
	if err != nil || p.ID != "x" {
		t.Errorf("Authenticate = %+v, %v", p, err)
	}
}

func TestBootstrapAtOnce(t *testing.T) {
	i, cat, c := fresh(t)
	others := []*Identity{i, New(cat, Options{Now: c.now}), New(cat, Options{Now: c.now})}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var shown []string
	for n := range 9 {
		wg.Go(func() {
			_, secret, created, err := others[n%3].Bootstrap(bg, "")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			if created {
				shown = append(shown, secret)
			}
		})
	}
	wg.Wait()
	if len(shown) != 1 {
		t.Fatalf("%d administrators' secrets were made, want 1", len(shown))
	}
	if _, err := i.Authenticate(bg, "admin", shown[0], nowhere); err != nil {
		t.Errorf("Authenticate: %v", err)
	}
}

func TestWeakSecrets(t *testing.T) {
	for _, s := range []string{"x", "elevenchars", "aaaaaaaaaaaaaaaa", "has a line\nend in it", "not utf-8 \xff\xff\xff",
		strings.Repeat("long", 300), NewSecret()[:30], "pratique_but not as it makes them"} {
		i, cat, _ := fresh(t)
		if _, _, created, err := i.Bootstrap(bg, s); !errors.Is(err, ErrWeakSecret) || created {
			t.Errorf("Bootstrap(%.20q) = %v, %v; want ErrWeakSecret", s, created, err)
		}
		if n, err := cat.PrincipalCount(bg); n != 0 || err != nil {
			t.Errorf("%d principals after a refused secret, %v", n, err)
		}
	}
}

func TestAuthenticateRefuses(t *testing.T) {
	i, cat, c := fresh(t)
	_, secret, _, err := i.Bootstrap(bg, "")
	if err != nil {
		t.Fatal(err)
	}
	other := access.Principal{ID: "other", Kind: access.KindService, Name: "other"}
	if err := cat.CreatePrincipal(bg, catalog.Account{Principal: other}, catalog.Act{Now: c.now()}); err != nil {
		t.Fatal(err)
	}
	expired := NewSecret()
	if err := cat.AddSecret(bg, catalog.Secret{ID: "e", Principal: "other", Hash: hashGenerated(expired), Expires: c.now()}, catalog.Act{Now: c.now()}); err != nil {
		t.Fatal(err)
	}
	// A hash of a kind that this version does not know must open nothing.
	if err := cat.AddSecret(bg, catalog.Secret{ID: "z", Principal: "other", Hash: []byte("plain$chosen secret")}, catalog.Act{Now: c.now()}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, secret string }{
		{"", secret}, {"admin", ""}, {"", ""},
		{"admin", secret + "x"}, {"admin", secret[:len(secret)-1]}, {"admin", NewSecret()}, {"admin", "chosen secret"},
		{"Admin", secret}, {"nobody", secret}, {"nobody", "chosen secret"}, {"other", secret},
		{"other", expired}, {"other", "chosen secret"}, {"other", "plain$chosen secret"},
		{strings.Repeat("n", 256), secret}, {"admin", strings.Repeat("s", 1025)},
	} {
		if p, err := i.Authenticate(bg, tc.name, tc.secret, nowhere); !errors.Is(err, ErrUnauthenticated) || !p.IsZero() {
			t.Errorf("Authenticate(%.12q, %.20q) = %+v, %v; want ErrUnauthenticated", tc.name, tc.secret, p, err)
		}
	}
}

// TestEqualWork: whether a name exists does not decide whether the slow hash is
// computed.
func TestEqualWork(t *testing.T) {
	i, _, _ := fresh(t)
	if _, _, _, err := i.Bootstrap(bg, ""); err != nil {
		t.Fatal(err)
	}
	i.slow <- struct{}{}
	i.slow <- struct{}{} // all places taken: whoever needs one waits
	for _, name := range []string{"admin", "nobody"} {
		ctx, cancel := context.WithCancel(bg)
		cancel()
		if _, err := i.matches(ctx, "a chosen secret", nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: matches without hashes = %v; want it to wait for a place", name, err)
		}
		if _, err := i.Authenticate(bg, name, NewSecret(), nowhere); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%s: a generated secret waited for the slow hash: %v", name, err)
		}
	}
}

func TestRemembered(t *testing.T) {
	i, cat, c := fresh(t)
	const chosen = "correct horse battery"
	if _, _, _, err := i.Bootstrap(bg, chosen); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 20 { // one check for all of them
		wg.Go(func() {
			if _, err := i.Authenticate(bg, "admin", chosen, nowhere); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c.advance(29 * time.Second)
	for range slowAtOnce { // no check gets through
		i.slow <- struct{}{}
	}
	if _, err := i.Authenticate(bg, "admin", chosen, nowhere); err != nil {
		t.Errorf("within a minute: %v, want it remembered", err)
	}
	for range slowAtOnce {
		<-i.slow
	}
	admin, err := cat.PrincipalByName(bg, "admin")
	if err != nil {
		t.Fatal(err)
	}
	if err := cat.DeleteSecret(bg, admin.ID, adminSecretID, catalog.Act{}); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Authenticate(bg, "admin", chosen, nowhere); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("after the secret was deleted: %v, want ErrUnauthenticated at once", err)
	}
	for k := range i.secrets.m {
		if strings.Contains(k, chosen) || strings.Contains(k, "admin") {
			t.Error("a secret or name lies in memory as it is")
		}
	}
}

// TestRenewed: a secret in use is checked again beside its requests, none of which waits
// for a place among the checks; what the check says then holds.
func TestRenewed(t *testing.T) {
	i, _, c := fresh(t)
	const chosen = "correct horse battery"
	if _, _, _, err := i.Bootstrap(bg, chosen); err != nil {
		t.Fatal(err)
	}
	begun := c.now()
	if _, err := i.Authenticate(bg, "admin", chosen, nowhere); err != nil {
		t.Fatal(err)
	}
	for range slowAtOnce { // no check gets through
		i.slow <- struct{}{}
	}
	c.advance(renewSecret)
	for range 3 {
		if _, err := i.Authenticate(bg, "admin", chosen, nowhere); err != nil {
			t.Fatal(err)
		}
	}
	key := i.rememberedAs("admin", chosen)
	renewed := i.checks.DoChan(key, func() (any, error) { return nil, errors.New("no check was under way") })
	for range slowAtOnce {
		<-i.slow
	}
	if r := <-renewed; r.Err != nil {
		t.Fatalf("the check beside the requests: %v", r.Err)
	}
	c.advance(rememberSecret - renewSecret)
	if _, ok := i.secrets.get(key, c.now()); !ok {
		t.Errorf("%v after the first check nothing is remembered of the second", c.now().Sub(begun))
	}
}

// TestExpires: a secret is not remembered beyond its end, nor are grants beyond a change.
func TestExpires(t *testing.T) {
	i, cat, c := fresh(t)
	if _, _, _, err := i.Bootstrap(bg, ""); err != nil {
		t.Fatal(err)
	}
	p := access.Principal{ID: "p", Kind: access.KindUser, Name: "robot"}
	if err := cat.CreatePrincipal(bg, catalog.Account{Principal: p}, catalog.Act{Now: c.now()}); err != nil {
		t.Fatal(err)
	}
	secret := NewSecret()
	if err := cat.AddSecret(bg, catalog.Secret{ID: "s", Principal: p.ID, Hash: hashGenerated(secret), Expires: c.now().Add(20 * time.Second)}, catalog.Act{Now: c.now()}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after time.Duration
		want  error
	}{{0, nil}, {19 * time.Second, nil}, {time.Second, ErrUnauthenticated}} {
		c.advance(step.after)
		if _, err := i.Authenticate(bg, "robot", secret, nowhere); !errors.Is(err, step.want) {
			t.Errorf("%v later: %v, want %v", step.after, err, step.want)
		}
	}
	allows := func() bool {
		g, err := i.Grants(bg, Login{Principal: p})
		if err != nil {
			t.Fatal(err)
		}
		return g.Allows(access.RepositoryPull, repo("app"))
	}
	before := allows()
	if err := cat.Assign(bg, catalog.Assigned{Principal: p.ID, Role: access.Owner.Name}, catalog.Act{}); err != nil {
		t.Fatal(err)
	}
	if before || !allows() {
		t.Errorf("allowed before the assignment: %v, after it: %v; want false, true", before, allows())
	}
}

// TestLineIsBounded: guesses whose senders have left do not pile up, and none of it
// touches generated secrets.
func TestLineIsBounded(t *testing.T) {
	i, _, _ := fresh(t)
	_, generated, _, err := i.Bootstrap(bg, "")
	if err != nil {
		t.Fatal(err)
	}
	for range slowAtOnce {
		i.slow <- struct{}{} // nothing is computed
	}
	left, leave := context.WithCancel(bg)
	defer leave()
	var senders sync.WaitGroup
	var busy atomic.Int64
	for n := range 2 * cap(i.line) {
		senders.Go(func() {
			_, err := i.Authenticate(left, "admin", fmt.Sprintf("a guess that is long %d", n), nowhere)
			if errors.Is(err, ErrBusy) {
				if busy.Add(1) == int64(cap(i.line)) {
					leave()
				}
			} else if !errors.Is(err, context.Canceled) {
				t.Errorf("guess %d: %v", n, err)
			}
		})
	}
	senders.Wait()
	if len(i.line) != cap(i.line) {
		t.Errorf("%d wait, want %d", len(i.line), cap(i.line))
	}
	var e *oci.Error
	if _, err := i.Authenticate(bg, "admin", "one guess more", nowhere); !errors.As(err, &e) || e.Code != oci.CodeTooManyRequests {
		t.Errorf("one guess more: %v, want TOOMANYREQUESTS", err)
	}
	if _, err := i.Authenticate(bg, "admin", generated, nowhere); err != nil {
		t.Errorf("a generated secret: %v", err)
	}
	for range slowAtOnce {
		<-i.slow
	}
	for range cap(i.line) { // all have left once each place can be taken
		i.line <- struct{}{}
	}
}

func TestGeneratedSecret(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		s := NewSecret()
		if !isGenerated(s) || seen[s] || len(s) != len(secretPrefix)+secretDigits {
			t.Fatalf("NewSecret gave %q", s)
		}
		seen[s] = true
	}
	for _, s := range []string{"", "pratique_", NewSecret()[1:], NewSecret() + "0", "pratique_" + strings.Repeat("-", 43)} {
		if isGenerated(s) {
			t.Errorf("isGenerated(%q)", s)
		}
	}
}

func TestMemory(t *testing.T) {
	m, now := newMemory[int](8), time.Unix(100, 0)
	for n := range 100 {
		m.put(string(rune('a'+n)), n, now, now.Add(time.Duration(n)*time.Second))
		if len(m.m) > 8 {
			t.Fatalf("%d entries, at most 8 are allowed", len(m.m))
		}
	}
	m.put("k", 1, now, now.Add(time.Second))
	if v, ok := m.get("k", now); v != 1 || !ok {
		t.Error("an entry just put is not there")
	}
	if _, ok := m.get("k", now.Add(time.Second)); ok {
		t.Error("an expired entry is there")
	}
}

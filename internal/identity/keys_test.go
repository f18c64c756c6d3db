package identity

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"pratique.dev/pratique/internal/access"
)

// TestKeysRotate: each token holds until it runs out, whatever keys have come since, in each process.
func TestKeysRotate(t *testing.T) {
	w := newWorld(t)
	l := w.login("ci", w.principal("ci", "AcrPull", "", ""))
	other := New(w.cat, Options{Now: w.clock.now}) // another replica
	issued := map[string]time.Time{}
	ids := map[string]bool{}
	for range 24 * 30 {
		for _, i := range []*Identity{w.Identity, other} {
			tok, err := i.IssueRefresh(bg, l)
			w.ok(err)
			issued[tok.Text] = tok.Expires
			set, err := i.PublicKeys(bg)
			w.ok(err)
			if n := len(set.Keys); n < 1 || n > 3 {
				t.Fatalf("%d keys are published", n)
			}
			for _, k := range set.Keys {
				if !k.IsPublic() {
					t.Fatal("a private key is published")
				}
				ids[k.KeyID] = true
			}
		}
		for text, end := range issued {
			if !w.clock.now().Before(end) {
				delete(issued, text)
				continue
			}
			for _, i := range []*Identity{w.Identity, other} {
				if _, err := i.Refreshed(bg, text); err != nil {
					t.Fatalf("%v before its end: %v", end.Sub(w.clock.now()), err)
				}
			}
		}
		w.clock.advance(time.Hour)
	}
	if n := len(ids); n != 5 { // 30 days of 7 each
		t.Errorf("%d keys in 30 days", n)
	}
}

// TestKeysOfOthers: a key that another process has made just now is known as soon as a token
// names it, and signs only once all have had the time to learn of it.
func TestKeysOfOthers(t *testing.T) {
	w := newWorld(t)
	l := w.login("ci", w.principal("ci", "AcrPull", "", ""))
	other := New(w.cat, Options{Now: w.clock.now})
	before := w.token(l)
	w.ok(other.RotateKeys(bg))
	tok, err := other.Issue(bg, l, access.Request{}, nil)
	w.ok(err)
	if keyOf(t, tok.Text) != keyOf(t, before) {
		t.Error("a key signs that others may not know of")
	}
	w.clock.advance(keysAge)
	if tok, err = other.Issue(bg, l, access.Request{}, nil); err != nil || keyOf(t, tok.Text) == keyOf(t, before) {
		t.Fatalf("the new key does not sign: %v", err)
	}
	for _, text := range []string{before, tok.Text} {
		if _, _, err := w.Verify(bg, text); err != nil {
			t.Errorf("%v", err)
		}
	}
	// Unknown keys are not looked for at each request.
	w.ok(other.RotateKeys(bg))
	if _, err := w.verifyingKey(bg, "nobody's"); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("an unknown key: %v", err)
	}
}

// TestKeysAtOnce: of many processes that find no key one has its way.
func TestKeysAtOnce(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]int{}
	for range 8 {
		wg.Go(func() {
			set, err := New(w.cat, Options{Now: w.clock.now}).PublicKeys(bg)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || len(set.Keys) != 1 {
				t.Errorf("%d keys, %v", len(set.Keys), err)
				return
			}
			seen[set.Keys[0].KeyID]++
		})
	}
	wg.Wait()
	if len(seen) != 1 {
		t.Errorf("%d keys", len(seen))
	}
}

// TestKeysOfTheFirstRelease: the key that it kept goes on to verify what it signed.
func TestKeysOfTheFirstRelease(t *testing.T) {
	w := newWorld(t)
	l := w.login("ci", w.principal("ci", "AcrPull", "", ""))
	text := w.token(l)
	raw, err := w.cat.Setting(bg, signingKeys)
	w.ok(err)
	var set map[string][]map[string]any
	w.ok(json.Unmarshal(raw, &set))
	delete(set["keys"][0], "created")
	former, err := json.Marshal(set)
	w.ok(err)
	w.ok(w.cat.PutSetting(bg, signingKeys, former))
	if _, _, err := New(w.cat, Options{Now: w.clock.now}).Verify(bg, text); err != nil {
		t.Error(err)
	}
}

func keyOf(t *testing.T, token string) string {
	t.Helper()
	head, _, _ := strings.Cut(token, ".")
	return head
}

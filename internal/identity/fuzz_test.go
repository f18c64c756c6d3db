package identity

import (
	"errors"
	"testing"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog/catalogtest"
)

// FuzzVerify: no text but one that was issued is a token.
func FuzzVerify(f *testing.F) {
	c := newClock()
	i := New(catalogtest.Open(f), Options{Now: c.now})
	if _, _, _, err := i.Bootstrap(bg, "correct horse battery"); err != nil {
		f.Fatal(err)
	}
	p, err := i.Authenticate(bg, "admin", "correct horse battery", nowhere)
	if err != nil {
		f.Fatal(err)
	}
	issued, err := i.Issue(bg, p, access.Request{}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(issued.Text)
	f.Add(issued.Text[:len(issued.Text)-4])
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add(`{"payload":"e30","signatures":[{"protected":"e30","signature":""}]}`)
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		who, granted, err := i.Verify(bg, text)
		if err == nil && who.Principal != p.Principal {
			t.Fatalf("%q is taken for %+v", text, who)
		}
		if err != nil && (!errors.Is(err, ErrUnauthenticated) || !who.IsZero() || granted != nil) {
			t.Fatalf("%q: %+v, %v, %v", text, who, granted, err)
		}
	})
}

// FuzzAuthenticate: nobody comes in by a name and secret that were not given out.
func FuzzAuthenticate(f *testing.F) {
	const right = "correct horse battery"
	i := New(catalogtest.Open(f), Options{})
	if _, _, _, err := i.Bootstrap(bg, right); err != nil {
		f.Fatal(err)
	}
	f.Add("admin", right)
	f.Add("admin", right+"\x00")
	f.Add("ADMIN ", "pratique_")
	f.Add("", NewSecret())
	f.Fuzz(func(t *testing.T, name, secret string) {
		p, err := i.Authenticate(bg, name, secret, nowhere)
		if (err == nil) != (name == "admin" && secret == right) || err == nil && p.IsZero() {
			t.Fatalf("%q with %q: %+v, %v", name, secret, p, err)
		}
	})
}

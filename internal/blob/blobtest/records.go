package blobtest

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/blob"
	"pratique.dev/pratique/internal/oci"
)

// need is a Store as what it is besides.
func need[T any](t *testing.T, s blob.Store) T {
	t.Helper()
	v, ok := s.(T)
	if !ok {
		t.Fatalf("%T is no %T", s, *new(T))
	}
	return v
}

func testAge(t *testing.T, p Pair) {
	d := put(t, p.Store, content(10, 1))
	at, err := need[blob.Aged](t, p.Other).Since(bg, d)
	if err != nil || at.IsZero() {
		t.Errorf("Since = %v, %v", at, err)
	}
	for _, d := range []oci.Digest{sum([]byte("none")), {}} {
		if _, err := need[blob.Aged](t, p.Store).Since(bg, d); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("Since of what is not there = %v", err)
		}
	}
}

func testShelf(t *testing.T, p Pair) {
	s, other := need[blob.Shelf](t, p.Store), need[blob.Shelf](t, p.Other)
	none := sum([]byte("none"))
	_, err := s.OpenAside(bg, none)
	for what, err := range map[string]error{"SetAside": s.SetAside(bg, none), "PutBack": s.PutBack(bg, none), "OpenAside": err,
		"SetAside of nothing": s.SetAside(bg, oci.Digest{}), "PutBack of nothing": s.PutBack(bg, oci.Digest{})} {
		if !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("%s of what is not there = %v", what, err)
		}
	}
	b := content(1000, 2)
	d := put(t, p.Store, b)
	for range 2 {
		if err := s.SetAside(bg, d); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Other.Stat(bg, d); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("Stat of what was set aside = %v", err)
		}
		r, err := other.OpenAside(bg, d)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || !slices.Equal(got, b) {
			t.Errorf("%d bytes were set aside, %v", len(got), err)
		}
		put(t, p.Store, b) // and again
	}
	if err := other.PutBack(bg, d); err != nil {
		t.Fatal(err)
	}
	if got := read(t, p.Store, d, 0); !slices.Equal(got, b) {
		t.Error("put back as something else")
	}
	if err := s.PutBack(bg, d); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("PutBack twice = %v", err)
	}
}

func testRecords(t *testing.T, p Pair) {
	s, other := need[blob.Records](t, p.Store), need[blob.Records](t, p.Other)
	if names, err := s.Names(bg); len(names) > 0 || err != nil {
		t.Errorf("records of an empty store: %q, %v", names, err)
	}
	if _, err := s.Record(bg, "a"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Record of what is not there = %v", err)
	}
	for _, bad := range []string{"", ".", "..", "-a", ".a", "a/b", "A", "a\x00", "ä", strings.Repeat("a", 101)} {
		_, err := s.Record(bg, bad)
		for what, err := range map[string]error{"Keep": s.Keep(bg, bad, nil), "Record": err, "Forget": s.Forget(bg, bad)} {
			if !errors.Is(err, blob.ErrName) {
				t.Errorf("%s(%q) = %v", what, bad, err)
			}
		}
	}
	for _, name := range []string{"b.1", "a-2", "b.1", strings.Repeat("z", 100)} {
		if err := s.Keep(bg, name, []byte("first of "+name)); err != nil {
			t.Fatal(err)
		}
		if err := s.Keep(bg, name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	names, err := other.Names(bg)
	if want := []string{"a-2", "b.1", strings.Repeat("z", 100)}; err != nil || !slices.Equal(names, want) {
		t.Errorf("records %q, %v; want %q", names, err, want)
	}
	for _, name := range names {
		if got, err := other.Record(bg, name); err != nil || string(got) != name {
			t.Errorf("record %q is %q, %v", name, got, err)
		}
	}
	for range 2 {
		if err := other.Forget(bg, "b.1"); err != nil {
			t.Error(err)
		}
	}
	if names, err := s.Names(bg); len(names) != 2 || err != nil {
		t.Errorf("after one was forgotten: %q, %v", names, err)
	}
	for d, err := range p.Store.List(bg) {
		t.Errorf("a record is listed as a blob: %s, %v", d, err)
	}
}

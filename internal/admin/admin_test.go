package admin_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/admin"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
)

// newService is a Service over a catalog with an owner, and that owner.
func newService(t *testing.T) (*admin.Service, *catalog.Catalog, admin.Actor) {
	t.Helper()
	cat := catalogtest.Open(t)
	boss := catalog.Account{Principal: access.Principal{ID: "boss", Kind: access.KindUser, Name: "boss"}}
	by := catalog.Act{By: "boss"}
	if err := errors.Join(cat.CreatePrincipal(t.Context(), boss, by), cat.Assign(t.Context(), catalog.Assigned{Principal: "boss", Role: "Owner"}, by)); err != nil {
		t.Fatal(err)
	}
	given, err := cat.Given(t.Context(), boss)
	if err != nil {
		t.Fatal(err)
	}
	s := admin.New(cat, admin.Options{NewSecret: func() (string, []byte) { return "text", []byte("hash") },
		ParseKey: func(b []byte) ([]byte, error) { return b, nil }})
	return s, cat, admin.Actor{Principal: boss.Principal, Grants: given, Act: by, May: func(access.Permission) bool { return true }}
}

// TestZeroActor: nobody in particular changes nothing.
func TestZeroActor(t *testing.T) {
	s, cat, boss := newService(t)
	ctx := t.Context()
	for _, n := range []admin.NewPrincipal{{Name: "ci", Kind: access.KindService}, {Name: "group", Kind: access.KindGroup}} {
		if _, err := s.Create(ctx, boss, n); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Assign(ctx, boss, "group", admin.Assignment{Role: "AcrPull"}); err != nil {
		t.Fatal(err)
	}
	m := access.ScopeMap{Name: "map", Actions: []access.Rule{{Scope: "a", Permissions: []access.Permission{access.RepositoryPull}}}}
	before, err := cat.AccessVersion(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func(context.Context, admin.Actor) error{
		"create": func(ctx context.Context, a admin.Actor) error {
			_, err := s.Create(ctx, a, admin.NewPrincipal{Name: "x", Kind: access.KindUser, Assign: &admin.Assignment{Role: "AcrPull"}})
			return err
		},
		"assign": func(ctx context.Context, a admin.Actor) error {
			_, err := s.Assign(ctx, a, "ci", admin.Assignment{Role: "AcrPull"})
			return err
		},
		"secret": func(ctx context.Context, a admin.Actor) error {
			_, err := s.AddSecret(ctx, a, "ci", admin.NewSecret{})
			return err
		},
		"secret of an owner": func(ctx context.Context, a admin.Actor) error {
			_, err := s.AddSecret(ctx, a, "boss", admin.NewSecret{})
			return err
		},
		"unassign": func(ctx context.Context, a admin.Actor) error {
			return s.Unassign(ctx, a, "group", "AcrPull", access.Scope{})
		},
		"disable":   func(ctx context.Context, a admin.Actor) error { return s.SetDisabled(ctx, a, "boss", true) },
		"delete":    func(ctx context.Context, a admin.Actor) error { return s.Delete(ctx, a, "group") },
		"member":    func(ctx context.Context, a admin.Actor) error { return s.AddMember(ctx, a, "group", "ci") },
		"scope map": func(ctx context.Context, a admin.Actor) error { return s.PutScopeMap(ctx, a, m, false) },
		"role": func(ctx context.Context, a admin.Actor) error {
			return s.PutRole(ctx, a, access.Role{Name: "r", Permissions: []access.Permission{access.RepositoryPull}}, false)
		},
	} {
		if err := do(ctx, admin.Actor{}); !errors.Is(err, &oci.Error{Code: oci.CodeDenied}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after, err := cat.AccessVersion(ctx); err != nil || after != before {
		t.Errorf("something was changed (%v)", err)
	}
}

// TestCreateLeavesNothing: a principal is made whole or not at all.
func TestCreateLeavesNothing(t *testing.T) {
	s, cat, boss := newService(t)
	past := admin.NewSecret{Expires: time.Now().Add(-time.Hour)}
	for name, n := range map[string]admin.NewPrincipal{
		"unknown role":     {Assign: &admin.Assignment{Role: "None"}},
		"broken condition": {Assign: &admin.Assignment{Role: "AcrPull", Condition: "1 +"}},
		"secret of before": {Secret: past},
		"secret's name":    {Secret: admin.NewSecret{Name: "a\nb"}},
	} {
		n.Name, n.Kind = "ci", access.KindService
		if _, err := s.Create(t.Context(), boss, n); err == nil {
			t.Errorf("%s: made", name)
		}
		if _, err := cat.PrincipalByName(t.Context(), "ci"); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("%s: there is a principal (%v)", name, err)
		}
	}
}

// TestSecretsAtOnce: however many are asked for at once, two are given.
func TestSecretsAtOnce(t *testing.T) {
	s, cat, boss := newService(t)
	m, err := s.Create(t.Context(), boss, admin.NewPrincipal{Name: "ci", Kind: access.KindService, NoSecret: true})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := s.AddSecret(t.Context(), boss, "ci", admin.NewSecret{}); err != nil && !errors.Is(err, &oci.Error{Code: oci.CodeConflict}) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if list, err := cat.Secrets(t.Context(), m.ID); err != nil || len(list) != 2 {
		t.Errorf("%d secrets (%v)", len(list), err)
	}
}

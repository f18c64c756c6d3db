package apiserver

import (
	"errors"
	"net/url"
	"testing"

	"pratique.dev/pratique/internal/oci"
)

func TestListQuery(t *testing.T) {
	for _, tc := range []struct{ query, code string }{
		{"", ""},
		{"prefix=a&after=a:b&limit=5&tag=v*&decision=allow&decision=pending", ""},
		{"limit=0", oci.CodePaginationInvalid},
		{"limit=1001", oci.CodePaginationInvalid},
		{"tag=[v]", oci.CodeTagInvalid},
		{"decision=maybe", oci.CodeManifestInvalid},
		{"decision=", oci.CodeManifestInvalid},
	} {
		v, err := url.ParseQuery(tc.query)
		if err != nil {
			t.Fatal(err)
		}
		q, err := listQuery(v)
		if tc.code == "" && err != nil || tc.code != "" && !errors.Is(err, &oci.Error{Code: tc.code}) {
			t.Errorf("%q: %v, want %q", tc.query, err, tc.code)
		}
		if err == nil && tc.query != "" && (q.Limit != 5 || len(q.Decisions) != 2 || !q.Tag("v1") || q.Tag("x")) {
			t.Errorf("%q: %+v", tc.query, q)
		}
	}
}

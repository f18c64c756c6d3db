package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"
	"oras.land/oras-go/v2/registry/remote/retry"

	"pratique.dev/pratique/internal/oci"
)

// registryTarget is an image in a registry, reached over the distribution protocol.
type registryTarget struct {
	name string
	repo *remote.Repository
}

func openRegistry(name string, o TargetOptions) (Target, error) {
	repo, err := remote.NewRepository(name)
	if err != nil {
		return nil, fmt.Errorf("image reference: %w", err)
	}
	if repo.Reference.Reference == "" {
		repo.Reference.Reference = "latest"
	}
	repo.PlainHTTP = o.PlainHTTP || isLoopback(repo.Reference.Registry)
	c := &auth.Client{Client: retry.DefaultClient, Cache: auth.NewCache(), Header: http.Header{"User-Agent": {"pratique"}}}
	if o.User != "" {
		c.Credential = auth.StaticCredential(repo.Reference.Host(), auth.Credential{Username: o.User, Password: o.Password})
	} else if store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{}); err == nil {
		c.Credential = credentials.Credential(store)
	}
	repo.Client = c
	return &registryTarget{name: name, repo: repo}, nil
}

// isLoopback says whether host:port is on this machine, where registries are
// spoken to without TLS, as docker does.
func isLoopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (t *registryTarget) Name() string { return t.name }
func (t *registryTarget) Close() error { return nil }

// Roots resolves the tag or digest.
func (t *registryTarget) Roots(ctx context.Context) ([]oci.Descriptor, error) {
	d, err := t.repo.Resolve(ctx, t.repo.Reference.Reference)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, fmt.Errorf("%s: the registry has no such image", t.name)
	}
	if err != nil {
		return nil, t.explain(err)
	}
	found, err := oci.ParseDigest(string(d.Digest))
	if err != nil {
		return nil, fmt.Errorf("%s: the registry answered with an %w", t.name, err)
	}
	return []oci.Descriptor{{MediaType: d.MediaType, Digest: found, Size: d.Size}}, nil
}

// Fetch gets a manifest or a blob, by the descriptor's media type.
func (t *registryTarget) Fetch(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	r, err := t.repo.Fetch(ctx, ocispec.Descriptor{MediaType: d.MediaType, Digest: digest.Digest(d.Digest.String()), Size: d.Size})
	if err != nil {
		return nil, t.explain(err)
	}
	return r, nil
}

const logIn = "log in with docker login, or give --user and --password-file"

// explain turns a client error into what to do.
func (t *registryTarget) explain(err error) error {
	var e *errcode.ErrorResponse
	switch {
	case errors.Is(err, errdef.ErrNotFound):
		return fmt.Errorf("%s: %w: %w", t.name, errAbsent, err)
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return fmt.Errorf("%s: the registry wants to know who asks; %s", t.name, logIn)
	case errors.As(err, &e) && e.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("%s: the registry refused: %s; %s", t.name, said(e), logIn)
	case errors.As(err, &e) && e.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%s: the registry refused: %s", t.name, said(e))
	}
	return fmt.Errorf("%s: %w", t.name, err)
}

// said is what the registry gave as the reason, without the details meant for programs.
func said(e *errcode.ErrorResponse) string {
	var out []string
	for _, one := range e.Errors {
		out = append(out, fmt.Sprintf("%.2000s", cmp.Or(one.Message, one.Code)))
	}
	if len(out) == 0 {
		return http.StatusText(e.StatusCode)
	}
	return strings.Join(out, "; ")
}

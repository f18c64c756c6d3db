package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	azcr "github.com/Azure/azure-sdk-for-go/sdk/containers/azcontainerregistry"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"pratique.dev/pratique/internal/identity/issuertest"
)

// azureAudience is what Azure's SDKs ask Entra ID's tokens for.
const azureAudience = "https://containerregistry.azure.net"

// entra is a credential as azidentity has them, over an issuer.
type entra struct {
	issuer  *issuertest.Issuer
	subject string
	asked   []string // scopes
}

// GetToken implements azcore.TokenCredential.
func (e *entra) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	e.asked = append(e.asked, o.Scopes...)
	now := time.Now()
	claims := map[string]any{"iss": e.issuer.URL, "aud": azureAudience, "sub": e.subject, "jti": rand.Text(), "tid": "tenant", "name": "Zoë? ~",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	return azcore.AccessToken{Token: e.issuer.Sign(claims), ExpiresOn: now.Add(time.Hour)}, nil
}

// azureServer is a server with a certificate, and what Azure's SDK reaches it by.
type azureServer struct {
	*server
	dir  string // has ca.crt
	http *http.Client
}

func startAzure(t *testing.T) azureServer {
	t.Helper()
	a := azureServer{dir: t.TempDir()}
	cert, key := filepath.Join(a.dir, "ca.crt"), filepath.Join(t.TempDir(), "key.pem")
	trust := selfSigned(t, cert, key)
	s, err := spawnWith(loadedData(t), "--tls-cert", cert, "--tls-key", key)
	check(t, err)
	t.Cleanup(func() {
		check(t, s.stop())
		if t.Failed() {
			t.Logf("output of the server:\n%s", s.log)
		}
	})
	a.server, a.http = s, trusting(trust)
	t.Cleanup(a.http.CloseIdleConnections)
	check(t, s.await(time.Minute, "ready", func() (bool, error) {
		res, err := a.http.Get(a.url() + "/readyz")
		if err != nil {
			return false, nil // not listening yet
		}
		return res.StatusCode == http.StatusOK, res.Body.Close()
	}))
	return a
}

func trusting(roots *x509.CertPool) *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
}

func (a azureServer) url() string { return "https://" + a.addr }

// run is a command of the program's, as the administrator.
func (a azureServer) run(args ...string) command {
	return command{name: binary, args: args, env: []string{"PRATIQUE_SERVER=" + a.url(), "PRATIQUE_USER=admin", "PRATIQUE_PASSWORD=" + secret,
		"SSL_CERT_FILE=" + filepath.Join(a.dir, "ca.crt")}}
}

func (a azureServer) options() azcore.ClientOptions { return azcore.ClientOptions{Transport: a.http} }

func (a azureServer) clients(t *testing.T, c azcore.TokenCredential) (*azcr.Client, *azcr.BlobClient) {
	t.Helper()
	client, err := azcr.NewClient(a.url(), c, &azcr.ClientOptions{ClientOptions: a.options()})
	check(t, err)
	blobs, err := azcr.NewBlobClient(a.url(), c, &azcr.BlobClientOptions{ClientOptions: a.options()})
	check(t, err)
	return client, blobs
}

// azurePush pushes an image with Azure's SDK, each layer in two chunks.
func azurePush(t *testing.T, c *azcr.Client, b *azcr.BlobClient, repo, tag string, img v1.Image) (digest string) {
	t.Helper()
	ctx := t.Context()
	layers, err := img.Layers()
	check(t, err)
	config, err := img.RawConfigFile()
	check(t, err)
	contents := [][]byte{config}
	for _, l := range layers {
		r, err := l.Compressed()
		check(t, err)
		raw, err := io.ReadAll(r)
		check(t, err)
		contents = append(contents, raw)
	}
	for _, raw := range contents {
		begun, err := b.StartUpload(ctx, repo, nil)
		check(t, err)
		at, sum := begun.Location, azcr.NewBlobDigestCalculator()
		for _, chunk := range [][]byte{raw[:len(raw)/2], raw[len(raw)/2:]} {
			up, err := b.UploadChunk(ctx, *at, bytes.NewReader(chunk), sum, nil)
			check(t, err)
			at = up.Location
		}
		_, err = b.CompleteUpload(ctx, *at, sum, nil)
		check(t, err)
	}
	raw, err := img.RawManifest()
	check(t, err)
	kind, err := img.MediaType()
	check(t, err)
	up, err := c.UploadManifest(ctx, repo, tag, azcr.ContentType(kind), streaming.NopCloser(bytes.NewReader(raw)), nil)
	check(t, err)
	return *up.DockerContentDigest
}

// wantAzure fails the test unless Azure's SDK tells of this status.
func wantAzure(t *testing.T, what string, err error, status int) {
	t.Helper()
	var e *azcore.ResponseError
	if !errors.As(err, &e) || e.StatusCode != status {
		t.Errorf("%s: %v; want status %d", what, err, status)
	}
}

// TestAzureSDK: Azure's SDK for Go, given a token of an issuer that is trusted, pushes, lists, locks and
// deletes, as far as the workload was granted that.
func TestAzureSDK(t *testing.T) {
	a, i, ctx := startAzure(t), issuertest.New(t), t.Context()
	for name, role := range map[string]string{"contributor": "Container Registry Repository Contributor", "puller": "AcrPull"} {
		a.run("federation", "create", name, "--issuer", i.URL, "--audience", azureAudience, "--rule", `claims.tid == "tenant" && claims.sub == "`+name+`"`,
			"--role", role, "--scope", "team/*").mustRun(t)
	}
	me := &entra{issuer: i, subject: "contributor"}
	c, b := a.clients(t, me)
	img := smallImage(t, "by Azure's SDK")
	digest := azurePush(t, c, b, "team/app", "v1", img)
	azurePush(t, c, b, "team/app", "v2", img)
	if !slices.Contains(me.asked, azureAudience+"/.default") {
		t.Errorf("the SDK asked its credential for %v", me.asked)
	}
	m, err := c.GetManifest(ctx, "team/app", "v1", nil)
	check(t, err)
	check(t, m.ManifestData.Close())
	for p := c.NewListRepositoriesPager(nil); p.More(); {
		page, err := p.NextPage(ctx)
		check(t, err)
		if len(page.Names) != 1 || *page.Names[0] != "team/app" {
			t.Errorf("repositories: %v", page.Names)
		}
	}
	attributes, err := c.GetRepositoryProperties(ctx, "team/app", nil)
	check(t, err)
	if *attributes.RegistryLoginServer != a.addr || *attributes.TagCount != 2 || *attributes.ManifestCount != 1 {
		t.Errorf("the repository is %+v", attributes.ContainerRepositoryProperties)
	}
	_, err = c.UpdateTagProperties(ctx, "team/app", "v1", &azcr.ClientUpdateTagPropertiesOptions{Value: &azcr.TagWriteableProperties{CanDelete: to.Ptr(false)}})
	check(t, err)
	_, err = c.DeleteManifest(ctx, "team/app", digest, nil)
	wantAzure(t, "delete what is locked", err, http.StatusForbidden)
	_, err = c.DeleteTag(ctx, "team/app", "v2", nil)
	check(t, err)

	reader, _ := a.clients(t, &entra{issuer: i, subject: "puller"})
	_, err = reader.GetTagProperties(ctx, "team/app", "v1", nil)
	check(t, err)
	_, err = reader.DeleteTag(ctx, "team/app", "v1", nil)
	wantAzure(t, "delete by who may pull", err, http.StatusForbidden)
	_, err = reader.GetRepositoryProperties(ctx, "private/app", nil)
	wantAzure(t, "a repository of others", err, http.StatusForbidden)
	for what, credential := range map[string]azcore.TokenCredential{
		"a workload that is not known": &entra{issuer: i, subject: "somebody"}, "an issuer that is not trusted": &entra{issuer: issuertest.New(t), subject: "puller"}, "nobody": nil} {
		stranger, _ := a.clients(t, credential)
		_, err = stranger.GetTagProperties(ctx, "team/app", "v1", nil)
		wantAzure(t, what, err, http.StatusUnauthorized)
	}

	_, err = c.UpdateTagProperties(ctx, "team/app", "v1", &azcr.ClientUpdateTagPropertiesOptions{Value: &azcr.TagWriteableProperties{CanDelete: to.Ptr(true)}})
	check(t, err)
	_, err = c.DeleteRepository(ctx, "team/app", nil)
	check(t, err)
	_, err = c.GetRepositoryProperties(ctx, "team/app", nil)
	wantAzure(t, "a repository that was deleted", err, http.StatusNotFound)
}

// TestAzureRefreshToken: public clients log in with the user name that Azure has for it and a refresh token,
// until what that was got with is gone.
func TestAzureRefreshToken(t *testing.T) {
	const refreshUser = "00000000-0000-0000-0000-000000000000"
	a, i := startAzure(t), issuertest.New(t)
	a.run("federation", "create", "puller", "--issuer", i.URL, "--audience", azureAudience, "--rule", `claims.sub == "puller"`, "--role", "AcrPush", "--scope", "team/*").mustRun(t)
	me := &entra{issuer: i, subject: "puller"}
	c, b := a.clients(t, me)
	azurePush(t, c, b, "team/app", "v1", smallImage(t, "for the refresh token"))
	auth, err := azcr.NewAuthenticationClient(a.url(), &azcr.AuthenticationClientOptions{ClientOptions: a.options()})
	check(t, err)
	token, err := me.GetToken(t.Context(), policy.TokenRequestOptions{})
	check(t, err)
	refresh, err := auth.ExchangeAADAccessTokenForACRRefreshToken(t.Context(), azcr.PostContentSchemaGrantTypeAccessToken, a.addr,
		&azcr.AuthenticationClientExchangeAADAccessTokenForACRRefreshTokenOptions{AccessToken: &token.Token, Tenant: to.Ptr("tenant")})
	check(t, err)

	dir, env := newHome(t)
	env = append(env, "SSL_CERT_FILE="+filepath.Join(a.dir, "ca.crt"))
	check(t, os.MkdirAll(filepath.Join(dir, "docker"), 0o700))
	authfile := filepath.Join(dir, "docker", "config.json")
	image := "docker://" + a.ref("team/app", "v1")
	inspect := command{name: program(t, "skopeo"), args: []string{"inspect", "--cert-dir", a.dir, "--authfile", authfile, image}, env: env}
	command{name: program(t, "skopeo"), args: []string{"login", "--cert-dir", a.dir, "--authfile", authfile, "-u", refreshUser, "-p", *refresh.RefreshToken, a.addr}, env: env}.mustRun(t)
	inspect.mustRun(t)
	command{name: program(t, "crane"), args: []string{"auth", "login", a.addr, "-u", refreshUser, "-p", *refresh.RefreshToken}, env: env}.mustRun(t)
	command{name: program(t, "crane"), args: []string{"copy", a.ref("team/app", "v1"), a.ref("team/app", "v2")}, env: env}.mustRun(t)
	if r := (command{name: program(t, "skopeo"), args: []string{"login", "--cert-dir", a.dir, "--authfile", authfile, "-u", "admin", "-p", *refresh.RefreshToken, a.addr}, env: env}).run(t); r.code == 0 {
		t.Error("a refresh token is taken for somebody else's")
	}
	a.run("federation", "delete", "puller").mustRun(t)
	if r := inspect.run(t); r.code == 0 {
		t.Error("the refresh token outlives its federation")
	}
}

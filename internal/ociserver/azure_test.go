package ociserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	azcr "github.com/Azure/azure-sdk-for-go/sdk/containers/azcontainerregistry"

	"pratique.dev/pratique/internal/access"
	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/identity/issuertest"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/ociserver"
)

// workload is a credential that is a token of the issuer.
type workload string

// GetToken implements azcore.TokenCredential.
func (w workload) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(w), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// azure is a registry as Azure's SDK sees it, and an issuer that it trusts.
type azure struct {
	*world
	issuer *issuertest.Issuer
}

// newAzure makes a registry for which the issuer's token of each name proves a principal that has a
// role everywhere.
func newAzure(t *testing.T, roles map[string]string) *azure {
	t.Helper()
	a := &azure{world: newWorldBy(t, httptest.NewTLSServer, ociserver.Options{}), issuer: issuertest.New(t)}
	for name, role := range roles {
		a.known(name, role, "")
	}
	return a
}

func (a *azure) known(name, role, pattern string) {
	a.t.Helper()
	a.principal(name, role, pattern)
	a.trust(a.issuer, name)
}

// trust has an issuer's tokens of a name prove the principal of that name.
func (a *azure) trust(i *issuertest.Issuer, name string) {
	a.t.Helper()
	f := catalog.Federation{Name: name + " at " + i.URL, Principal: "id-" + name, Issuer: i.URL, Audience: "pratique", Rule: `claims.sub == "` + name + `"`}
	if err := a.cat.PutFederation(bg, f, catalog.Act{}); err != nil {
		a.t.Fatal(err)
	}
}

// tokenOf is an issuer's token of a name.
func tokenOf(i *issuertest.Issuer, name string) string {
	now := time.Now().Unix()
	return i.Sign(map[string]any{"iss": i.URL, "sub": name, "aud": "pratique", "iat": now, "nbf": now, "exp": now + 600, "jti": oci.DigestOf(oci.SHA256, []byte(name)).String(), "name": "Jürgen? ~> 𝄞"})
}

func (a *azure) options() azcore.ClientOptions {
	return azcore.ClientOptions{Transport: a.http, Retry: policy.RetryOptions{MaxRetries: -1}}
}

// as is who a name's token proves; "" brings none.
func (a *azure) as(name string) azcore.TokenCredential {
	if name == "" {
		return nil
	}
	return workload(tokenOf(a.issuer, name))
}

func (a *azure) client(name string) *azcr.Client {
	a.t.Helper()
	c, err := azcr.NewClient(a.url, a.as(name), &azcr.ClientOptions{ClientOptions: a.options()})
	return done(c, err)(a.t)
}

func (a *azure) blobs(name string) *azcr.BlobClient {
	a.t.Helper()
	c, err := azcr.NewBlobClient(a.url, a.as(name), &azcr.BlobClientOptions{ClientOptions: a.options()})
	return done(c, err)(a.t)
}

func (a *azure) auth() *azcr.AuthenticationClient {
	a.t.Helper()
	c, err := azcr.NewAuthenticationClient(a.url, &azcr.AuthenticationClientOptions{ClientOptions: a.options()})
	return done(c, err)(a.t)
}

// done fails the test at an error.
func done[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// refused checks that Azure's SDK tells of a status and a code.
func refused[T any](_ T, err error) func(t *testing.T, status int, code string) {
	return func(t *testing.T, status int, code string) {
		t.Helper()
		var e *azcore.ResponseError
		if !errors.As(err, &e) || e.StatusCode != status || !strings.Contains(e.Error(), `"code":"`+code+`"`) && !strings.Contains(e.Error(), `"code": "`+code+`"`) {
			t.Fatalf("%v; want %d %s", err, status, code)
		}
	}
}

// all reads a list to its end.
func all[P, E any](t *testing.T, p *runtime.Pager[P], of func(P) []E) (out []E, pages int) {
	t.Helper()
	for p.More() {
		page := done(p.NextPage(bg))(t)
		out = append(out, of(page)...)
		pages++
	}
	return out, pages
}

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// upload pushes a blob in chunks and returns its digest.
func upload(t *testing.T, c *azcr.BlobClient, repo string, chunks ...string) string {
	t.Helper()
	at := done(c.StartUpload(bg, repo, nil))(t).Location
	sum := azcr.NewBlobDigestCalculator()
	n := 0
	for _, chunk := range chunks {
		up := done(c.UploadChunk(bg, *at, strings.NewReader(chunk), sum, &azcr.BlobClientUploadChunkOptions{
			RangeStart: to.Ptr(int32(n)), RangeEnd: to.Ptr(int32(n + len(chunk) - 1))}))(t)
		at, n = up.Location, n+len(chunk)
		if status := done(c.GetUploadStatus(bg, *at, nil))(t); *status.Range != fmt.Sprintf("0-%d", n-1) {
			t.Errorf("after %d bytes: %s", n, *status.Range)
		}
	}
	return *done(c.CompleteUpload(bg, *at, sum, nil))(t).DockerContentDigest
}

func uploadManifest(t *testing.T, c *azcr.Client, repo, ref, raw string) string {
	t.Helper()
	up := done(c.UploadManifest(bg, repo, ref, azcr.ContentTypeApplicationVndOciImageManifestV1JSON, streaming.NopCloser(strings.NewReader(raw)), nil))(t)
	return *up.DockerContentDigest
}

const azureConfig = `{"architecture":"arm64","os":"linux"}`

// uploadImage pushes an image of one layer with Azure's SDK.
func uploadImage(t *testing.T, a *azure, by, repo, tag, layer string) (digest, raw string) {
	t.Helper()
	b, c := a.blobs(by), a.client(by)
	upload(t, b, repo, azureConfig)
	upload(t, b, repo, layer)
	raw = manifestOf(azureConfig, layer, "")
	return uploadManifest(t, c, repo, tag, raw), raw
}

// TestAzureContent: Azure's SDK pushes, reads and mounts blobs and manifests.
func TestAzureContent(t *testing.T) {
	a := newAzure(t, map[string]string{"pusher": "AcrPush"})
	b, c := a.blobs("pusher"), a.client("pusher")
	layer := "the first half, and the second half"
	digest := upload(t, b, "team/app", layer[:15], layer[15:])
	if digest != sum(layer).String() {
		t.Fatalf("uploaded as %s", digest)
	}
	upload(t, b, "team/app", azureConfig)
	raw := manifestOf(azureConfig, layer, "")
	if got := uploadManifest(t, c, "team/app", "1.0", raw); got != sum(raw).String() {
		t.Errorf("the manifest is %s", got)
	}
	m := done(c.GetManifest(bg, "team/app", "1.0", nil))(t)
	content := done(azcr.NewDigestValidationReader(*m.DockerContentDigest, m.ManifestData))(t)
	if got := done(io.ReadAll(content))(t); string(got) != raw {
		t.Errorf("the manifest reads %s", got)
	}
	_ = m.ManifestData.Close()
	if got := done(b.CheckBlobExists(bg, "team/app", digest, nil))(t); *got.ContentLength != int64(len(layer)) || *got.DockerContentDigest != digest {
		t.Errorf("the blob has %d bytes, %s", *got.ContentLength, *got.DockerContentDigest)
	}
	whole := done(b.GetBlob(bg, "team/app", digest, nil))(t)
	if got := done(io.ReadAll(whole.BlobData))(t); string(got) != layer {
		t.Errorf("the blob reads %s", got)
	}
	_ = whole.BlobData.Close()
	part := done(b.GetChunk(bg, "team/app", digest, "bytes=4-8", nil))(t)
	if got := done(io.ReadAll(part.ChunkData))(t); string(got) != layer[4:9] || *part.ContentRange != fmt.Sprintf("bytes 4-8/%d", len(layer)) {
		t.Errorf("the chunk reads %s, %s", got, *part.ContentRange)
	}
	_ = part.ChunkData.Close()
	if got := done(b.MountBlob(bg, "team/other", "team/app", digest, nil))(t); got.DockerContentDigest == nil || *got.DockerContentDigest != digest {
		t.Errorf("mounted: %+v", got)
	}
	at := *done(b.StartUpload(bg, "team/app", nil))(t).Location
	done(b.CancelUpload(bg, at, nil))(t)
	refused(b.GetUploadStatus(bg, at, nil))(t, 404, "BLOB_UPLOAD_UNKNOWN")
	// It may not delete.
	refused(c.DeleteManifest(bg, "team/app", *m.DockerContentDigest, nil))(t, 403, "DENIED")
	refused(b.DeleteBlob(bg, "team/other", digest, nil))(t, 403, "DENIED")
}

// TestAzureAttributes: what Azure's SDK lists, shows and changes of repositories, tags and manifests.
func TestAzureAttributes(t *testing.T) {
	a := newAzure(t, map[string]string{"owner": "Owner"})
	c := a.client("owner")
	one, _ := uploadImage(t, a, "owner", "team/app", "v1", "layer one")
	two, rawTwo := uploadImage(t, a, "owner", "team/app", "v2", "layer two")
	uploadManifest(t, c, "team/app", "latest", rawTwo)
	uploadImage(t, a, "owner", "other", "v1", "layer")
	upload(t, a.blobs("owner"), "blobs", "no manifest yet")

	name := func(p azcr.ClientListRepositoriesResponse) []*string { return p.Names }
	names, pages := all(t, c.NewListRepositoriesPager(&azcr.ClientListRepositoriesOptions{MaxNum: to.Ptr[int32](1)}), name)
	if equal(t, "repositories", texts(names), []string{"other", "team/app"}); pages < 2 {
		t.Errorf("in %d pages", pages)
	}

	r := done(c.GetRepositoryProperties(bg, "team/app", nil))(t)
	host := strings.TrimPrefix(a.url, "https://")
	if *r.Name != "team/app" || *r.RegistryLoginServer != host || *r.ManifestCount != 2 || *r.TagCount != 3 || r.CreatedOn.IsZero() || r.LastUpdatedOn.Before(*r.CreatedOn) {
		t.Errorf("repository: %+v", r.ContainerRepositoryProperties)
	}
	if ch := r.ChangeableAttributes; !*ch.CanDelete || !*ch.CanList || !*ch.CanRead || !*ch.CanWrite {
		t.Errorf("something of a new repository is locked")
	}

	m := done(c.GetManifestProperties(bg, "team/app", two, nil))(t).Manifest
	if *m.Digest != two || *m.Architecture != azcr.ArtifactArchitectureArm64 || *m.OperatingSystem != azcr.ArtifactOperatingSystemLinux ||
		*m.Size != int64(len(azureConfig)+len("layer two")) || *m.MediaType != oci.MediaTypeImageManifest || *m.ConfigMediaType != oci.MediaTypeImageConfig {
		t.Errorf("manifest: %+v", m)
	}
	equal(t, "tags of the manifest", texts(m.Tags), []string{"latest", "v2"})
	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"platform":{"architecture":"arm64","os":"linux"}}]}`,
		oci.MediaTypeImageIndex, oci.MediaTypeImageManifest, two, len(rawTwo))
	a.want(a.do(request{method: "PUT", path: "/v2/team/app/manifests/multi", body: index, header: map[string]string{"Content-Type": oci.MediaTypeImageIndex}}), 201, "")
	x := done(c.GetManifestProperties(bg, "team/app", sum(index).String(), nil))(t).Manifest
	if len(x.RelatedArtifacts) != 1 || *x.RelatedArtifacts[0].Digest != two || *x.RelatedArtifacts[0].Architecture != azcr.ArtifactArchitectureArm64 {
		t.Errorf("index: %+v", x)
	}

	for order, want := range map[azcr.ArtifactManifestOrderBy][]string{
		azcr.ArtifactManifestOrderByLastUpdatedOnAscending:  {one, two, sum(index).String()},
		azcr.ArtifactManifestOrderByLastUpdatedOnDescending: {sum(index).String(), two, one},
		azcr.ArtifactManifestOrderByNone:                    {one, two, sum(index).String()},
	} {
		o := &azcr.ClientListManifestsOptions{OrderBy: to.Ptr(order), MaxNum: to.Ptr[int32](1)}
		got, _ := all(t, c.NewListManifestsPager("team/app", o), func(p azcr.ClientListManifestsResponse) []string {
			return digestsOf(p.Attributes)
		})
		equal(t, string(order), got, want)
		o.Last = &want[0]
		got, _ = all(t, c.NewListManifestsPager("team/app", o), func(p azcr.ClientListManifestsResponse) []string { return digestsOf(p.Attributes) })
		equal(t, string(order)+" behind the first", got, want[1:])
	}
	for order, want := range map[azcr.ArtifactTagOrderBy][]string{
		azcr.ArtifactTagOrderByLastUpdatedOnAscending:  {"v1", "v2", "latest", "multi"},
		azcr.ArtifactTagOrderByLastUpdatedOnDescending: {"multi", "latest", "v2", "v1"},
		azcr.ArtifactTagOrderByNone:                    {"latest", "multi", "v1", "v2"},
	} {
		o := &azcr.ClientListTagsOptions{OrderBy: to.Ptr(order), MaxNum: to.Ptr[int32](1)}
		tags := func(p azcr.ClientListTagsResponse) (out []string) {
			for _, t := range p.Tags {
				out = append(out, *t.Name)
			}
			return out
		}
		got, _ := all(t, c.NewListTagsPager("team/app", o), tags)
		equal(t, string(order), got, want)
		o.Last = &want[0]
		got, _ = all(t, c.NewListTagsPager("team/app", o), tags)
		equal(t, string(order)+" behind the first", got, want[1:])
		o.Last, o.Digest = nil, &two
		if got, _ = all(t, c.NewListTagsPager("team/app", o), tags); len(got) != 2 {
			t.Errorf("%s of one manifest: %v", order, got)
		}
	}

	tag := done(c.GetTagProperties(bg, "team/app", "v1", nil))(t).Tag
	if *tag.Name != "v1" || *tag.Digest != one || tag.CreatedOn.IsZero() || tag.LastUpdatedOn.IsZero() {
		t.Errorf("tag: %+v", tag)
	}
	refused(c.GetTagProperties(bg, "team/app", "none", nil))(t, 404, "MANIFEST_UNKNOWN")
	refused(c.GetManifestProperties(bg, "team/app", sum("none").String(), nil))(t, 404, "MANIFEST_UNKNOWN")
	refused(c.GetRepositoryProperties(bg, "none", nil))(t, 404, "NAME_UNKNOWN")
	refused(c.GetRepositoryProperties(bg, "blobs", nil))(t, 404, "NAME_UNKNOWN")
	refused(c.NewListTagsPager("none", nil).NextPage(bg))(t, 404, "NAME_UNKNOWN")
	refused(c.NewListManifestsPager("none", nil).NextPage(bg))(t, 404, "NAME_UNKNOWN")
}

func texts(list []*string) (out []string) {
	for _, s := range list {
		out = append(out, *s)
	}
	return out
}

func digestsOf(list []*azcr.ManifestAttributes) (out []string) {
	for _, m := range list {
		out = append(out, *m.Digest)
	}
	return out
}

// TestAzureLocks: what is not enabled is locked, and can be enabled again.
func TestAzureLocks(t *testing.T) {
	a := newAzure(t, map[string]string{"owner": "Owner", "reader": "AcrPull"})
	c, b := a.client("owner"), a.blobs("owner")
	digest, raw := uploadImage(t, a, "owner", "team/app", "v1", "layer")
	uploadManifest(t, c, "team/app", "v2", raw)
	no, yes := to.Ptr(false), to.Ptr(true)

	tag := done(c.UpdateTagProperties(bg, "team/app", "v1", &azcr.ClientUpdateTagPropertiesOptions{Value: &azcr.TagWriteableProperties{CanDelete: no}}))(t).Tag
	if *tag.ChangeableAttributes.CanDelete || !*tag.ChangeableAttributes.CanWrite {
		t.Errorf("tag: %+v", tag.ChangeableAttributes)
	}
	refused(c.DeleteTag(bg, "team/app", "v1", nil))(t, 403, "DENIED")
	refused(c.DeleteManifest(bg, "team/app", digest, nil))(t, 403, "DENIED")
	refused(c.DeleteRepository(bg, "team/app", nil))(t, 403, "DENIED")
	done(c.DeleteTag(bg, "team/app", "v2", nil))(t)

	m := done(c.UpdateManifestProperties(bg, "team/app", digest, &azcr.ClientUpdateManifestPropertiesOptions{
		Value: &azcr.ManifestWriteableProperties{CanRead: no, CanList: no}}))(t).Manifest
	if *m.ChangeableAttributes.CanRead || *m.ChangeableAttributes.CanList || !*m.ChangeableAttributes.CanDelete {
		t.Errorf("manifest: %+v", m.ChangeableAttributes)
	}
	refused(c.GetManifest(bg, "team/app", "v1", nil))(t, 403, "DENIED")
	if list := done(c.NewListManifestsPager("team/app", nil).NextPage(bg))(t); len(list.Attributes) != 0 {
		t.Errorf("what is hidden is listed: %v", digestsOf(list.Attributes))
	}
	if list := done(c.NewListTagsPager("team/app", nil).NextPage(bg))(t); len(list.Tags) != 0 {
		t.Errorf("the tag of what is hidden is listed: %s", *list.Tags[0].Name)
	}
	done(c.UpdateManifestProperties(bg, "team/app", digest, &azcr.ClientUpdateManifestPropertiesOptions{
		Value: &azcr.ManifestWriteableProperties{CanRead: yes, CanList: yes}}))(t)

	r := done(c.UpdateRepositoryProperties(bg, "team/app", &azcr.ClientUpdateRepositoryPropertiesOptions{
		Value: &azcr.RepositoryWriteableProperties{CanWrite: no, CanList: no}}))(t)
	if *r.ChangeableAttributes.CanWrite || *r.ChangeableAttributes.CanList || !*r.ChangeableAttributes.CanRead {
		t.Errorf("repository: %+v", r.ChangeableAttributes)
	}
	refused(b.StartUpload(bg, "team/app", nil))(t, 403, "DENIED")
	if list := done(c.NewListRepositoriesPager(nil).NextPage(bg))(t); len(list.Names) != 0 {
		t.Errorf("what is hidden is listed: %v", texts(list.Names))
	}
	done(c.UpdateRepositoryProperties(bg, "team/app", &azcr.ClientUpdateRepositoryPropertiesOptions{
		Value: &azcr.RepositoryWriteableProperties{CanWrite: yes, CanList: yes}}))(t)

	// Who may not lock or delete does neither.
	reader := a.client("reader")
	done(reader.GetTagProperties(bg, "team/app", "v1", nil))(t)
	refused(reader.UpdateTagProperties(bg, "team/app", "v1", &azcr.ClientUpdateTagPropertiesOptions{Value: &azcr.TagWriteableProperties{CanDelete: yes}}))(t, 403, "DENIED")
	refused(reader.UpdateRepositoryProperties(bg, "team/app", &azcr.ClientUpdateRepositoryPropertiesOptions{Value: &azcr.RepositoryWriteableProperties{}}))(t, 403, "DENIED")
	refused(reader.DeleteTag(bg, "team/app", "v1", nil))(t, 403, "DENIED")
	refused(reader.DeleteRepository(bg, "team/app", nil))(t, 403, "DENIED")

	done(c.UpdateTagProperties(bg, "team/app", "v1", &azcr.ClientUpdateTagPropertiesOptions{Value: &azcr.TagWriteableProperties{CanDelete: yes}}))(t)
	done(c.DeleteRepository(bg, "team/app", nil))(t)
	refused(c.GetRepositoryProperties(bg, "team/app", nil))(t, 404, "NAME_UNKNOWN")
	if list := done(c.NewListRepositoriesPager(nil).NextPage(bg))(t); len(list.Names) != 0 {
		t.Errorf("what is deleted is listed: %v", texts(list.Names))
	}
	done(c.DeleteRepository(bg, "team/app", nil))(t) // which is not there is fine for the SDK
}

// TestAzureSees: lists show what the caller may see; the rest is as if it were not there.
func TestAzureSees(t *testing.T) {
	a := newAzure(t, map[string]string{"owner": "Owner"})
	for _, repo := range []string{"mine/app", "public/app", "yours/app"} {
		uploadImage(t, a, "owner", repo, "v1", "layer")
	}
	a.known("me", "Container Registry Repository Contributor", "mine/*")
	a.known("nobody", "", "")
	a.assign(access.Anonymous.ID, "AcrPull", "public/*", "")
	c := a.client("me")
	equal(t, "repositories", texts(done(c.NewListRepositoriesPager(nil).NextPage(bg))(t).Names), []string{"mine/app"})
	if none := done(a.client("nobody").NewListRepositoriesPager(nil).NextPage(bg))(t).Names; len(none) > 0 {
		t.Errorf("nobody sees %v", texts(none))
	}
	done(c.GetRepositoryProperties(bg, "mine/app", nil))(t)
	for _, repo := range []string{"yours/app", "none/app"} {
		refused(c.GetRepositoryProperties(bg, repo, nil))(t, 403, "DENIED")
		refused(c.NewListTagsPager(repo, nil).NextPage(bg))(t, 403, "DENIED")
		refused(c.NewListManifestsPager(repo, nil).NextPage(bg))(t, 403, "DENIED")
		refused(c.UpdateTagProperties(bg, repo, "v1", &azcr.ClientUpdateTagPropertiesOptions{Value: &azcr.TagWriteableProperties{}}))(t, 403, "DENIED")
		refused(c.DeleteRepository(bg, repo, nil))(t, 403, "DENIED")
	}
	// Without credentials there is what was opened.
	anyone := a.client("")
	done(anyone.GetTagProperties(bg, "public/app", "v1", nil))(t)
	refused(anyone.GetTagProperties(bg, "mine/app", "v1", nil))(t, 401, "UNAUTHORIZED")
	refused(a.client("stranger").GetTagProperties(bg, "mine/app", "v1", nil))(t, 401, "UNAUTHORIZED")
}

// TestAzureTokens: an issuer's token gives a refresh token, that gives access tokens for what was asked
// and granted, and nothing else gives either.
func TestAzureTokens(t *testing.T) {
	a := newAzure(t, map[string]string{"puller": "AcrPull"})
	a.putImage("app", "1", "layer")
	c := a.auth()
	exchange := func(grant azcr.PostContentSchemaGrantType, o azcr.AuthenticationClientExchangeAADAccessTokenForACRRefreshTokenOptions) (string, error) {
		r, err := c.ExchangeAADAccessTokenForACRRefreshToken(bg, grant, "pratique", &o)
		if err != nil {
			return "", err
		}
		return *r.RefreshToken, nil
	}
	type options = azcr.AuthenticationClientExchangeAADAccessTokenForACRRefreshTokenOptions
	away := issuertest.New(t)
	a.trust(away, "puller")
	token, wrong, down := to.Ptr(tokenOf(a.issuer, "puller")), to.Ptr(tokenOf(a.issuer, "somebody")), to.Ptr(tokenOf(away, "puller"))
	away.Answer(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusBadGateway); return true })
	refresh := done(exchange(azcr.PostContentSchemaGrantTypeAccessToken, options{AccessToken: token, Tenant: to.Ptr("contoso")}))(t)
	done(exchange(azcr.PostContentSchemaGrantTypeAccessTokenRefreshToken, options{AccessToken: token, RefreshToken: to.Ptr("unread")}))(t)
	refused(exchange(azcr.PostContentSchemaGrantTypeAccessToken, options{AccessToken: wrong}))(t, 401, "UNAUTHORIZED")
	refused(exchange(azcr.PostContentSchemaGrantTypeAccessToken, options{AccessToken: down}))(t, 503, "UNAVAILABLE")
	refused(exchange(azcr.PostContentSchemaGrantTypeAccessToken, options{AccessToken: &refresh}))(t, 401, "UNAUTHORIZED")
	refused(exchange(azcr.PostContentSchemaGrantTypeAccessToken, options{}))(t, 400, "UNSUPPORTED")
	refused(exchange(azcr.PostContentSchemaGrantTypeRefreshToken, options{RefreshToken: to.Ptr("Entra's")}))(t, 400, "UNSUPPORTED")
	refused(exchange("password", options{AccessToken: token}))(t, 400, "UNSUPPORTED")

	access := func(scope, refresh string) (string, error) {
		r, err := c.ExchangeACRRefreshTokenForACRAccessToken(bg, "pratique", scope, refresh, &azcr.AuthenticationClientExchangeACRRefreshTokenForACRAccessTokenOptions{
			GrantType: to.Ptr(azcr.TokenGrantTypeRefreshToken)})
		if err != nil {
			return "", err
		}
		return *r.AccessToken, nil
	}
	scope := "repository:app:pull,push,metadata_read,metadata_write,delete registry:catalog:*"
	got := done(access(scope, refresh))(t)
	a.want(a.do(request{method: "GET", path: "/v2/app/manifests/1", token: got}), 200, "")
	a.want(a.do(request{method: "GET", path: "/acr/v1/app/_tags", token: got}), 200, "")
	a.want(a.do(request{method: "GET", path: "/acr/v1/_catalog", token: got}), 200, "")
	a.want(a.do(request{method: "PATCH", path: "/acr/v1/app", token: got, body: "{}"}), 403, "DENIED")
	// A token for another repository gives nothing here; it can be asked for again.
	a.want(a.do(request{method: "GET", path: "/acr/v1/app/_tags", token: done(access("repository:other:pull", refresh))(t)}), 401, "UNAUTHORIZED")
	refused(access(scope, got))(t, 401, "UNAUTHORIZED") // an access token is no refresh token
	refused(access(scope, refresh+"x"))(t, 401, "UNAUTHORIZED")
	refused(access("nonsense", refresh))(t, 400, "UNSUPPORTED")
	a.want(a.do(request{method: "GET", path: "/acr/v1/app/_tags", token: refresh}), 401, "UNAUTHORIZED")

	// The forms in which clients of Docker bring it.
	for _, r := range []request{
		{method: "GET", path: "/oauth2/token?service=pratique&scope=repository:app:pull&scope=repository:app:metadata_read",
			header: map[string]string{"Authorization": basicAuth(identity.RefreshUser, refresh)}},
		{method: "POST", path: "/oauth2/token?api-version=2021-07-01", body: "grant_type=password&service=pratique&scope=repository:app:pull&username=" + identity.RefreshUser + "&password=" + refresh},
		{method: "POST", path: "/oauth2/token", body: "grant_type=password&service=pratique&scope=repository:app:pull&username=admin&password=" + strings.ReplaceAll(secret, " ", "+")},
		{method: "GET", path: "/v2/app/manifests/1", header: map[string]string{"Authorization": basicAuth(identity.RefreshUser, refresh)}},
	} {
		r.anonymous = true
		if r.body != "" {
			r.header = map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
		}
		res := a.want(a.do(r), 200, "")
		if strings.HasPrefix(r.path, "/oauth2") && (res.Header.Get("Cache-Control") != "no-store" || !bytes.Contains(res.body, []byte(`"access_token":"`))) {
			t.Errorf("%s %s: %v %s", r.method, r.path, res.Header, res.body)
		}
	}
	// A disabled principal has neither.
	if err := a.cat.DisablePrincipal(bg, "id-puller", catalog.Act{}); err != nil {
		t.Fatal(err)
	}
	refused(access(scope, refresh))(t, 401, "UNAUTHORIZED")
	refused(exchange(azcr.PostContentSchemaGrantTypeAccessToken, options{AccessToken: token}))(t, 401, "UNAUTHORIZED")
	a.want(a.do(request{method: "GET", path: "/acr/v1/app/_tags", token: got}), 401, "UNAUTHORIZED")
}

// TestAzureRefuses: what makes no sense is refused with a word why, and changes nothing.
func TestAzureRefuses(t *testing.T) {
	w := newWorld(t)
	w.putImage("app", "1", "layer")
	form := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	for _, tc := range []struct {
		method, path, body string
		status             int
		code, says         string
	}{
		{"PATCH", "/acr/v1/app/_tags/1", `{"quarantineState":"Passed"}`, 400, "UNSUPPORTED", "quarantineState"},
		{"PATCH", "/acr/v1/app/_tags/1", `{"DeleteEnabled":false}`, 400, "UNSUPPORTED", "DeleteEnabled"},
		{"PATCH", "/acr/v1/app/_tags/1", `{"deleteEnabled":"false"}`, 400, "UNSUPPORTED", "expected true or false"},
		{"PATCH", "/acr/v1/app/_tags/1", `{"deleteEnabled":null}`, 400, "UNSUPPORTED", "expected true or false"},
		{"PATCH", "/acr/v1/app/_tags/1", `{"writeEnabled":false,"nonsense":true}`, 400, "UNSUPPORTED", "nonsense"},
		{"PATCH", "/acr/v1/app/_tags/1", `{"writeEnabled":false`, 400, "UNSUPPORTED", "no JSON object"},
		{"PATCH", "/acr/v1/app/_tags/1", `{} {}`, 400, "UNSUPPORTED", "no JSON object"},
		{"PATCH", "/acr/v1/app/_tags/1", `null`, 400, "UNSUPPORTED", "no JSON object"},
		{"PATCH", "/acr/v1/app/_tags/1", `[]`, 400, "UNSUPPORTED", "no JSON object"},
		{"PATCH", "/acr/v1/app/_tags/1", ``, 400, "UNSUPPORTED", "no JSON object"},
		{"PATCH", "/acr/v1/app/_tags/1", `{"writeEnabled":` + strings.Repeat(" ", 5000) + `false}`, 413, "UNSUPPORTED", "4096"},
		{"PATCH", "/acr/v1/app/_tags/2", `{"writeEnabled":false}`, 404, "MANIFEST_UNKNOWN", "not here"},
		{"PATCH", "/acr/v1/app/_manifests/" + someDigest, `{"writeEnabled":false}`, 404, "MANIFEST_UNKNOWN", "not here"},
		{"PATCH", "/acr/v1/none", `{"writeEnabled":false}`, 404, "NAME_UNKNOWN", "no such repository"},
		{"PATCH", "/acr/v1/app/_manifests/1", `{}`, 400, "DIGEST_INVALID", ""},
		{"DELETE", "/acr/v1/none", ``, 404, "NAME_UNKNOWN", ""},
		{"GET", "/acr/v1/../app", ``, 400, "NAME_INVALID", ""},
		{"GET", "/acr/v1/%2e%2e/app", ``, 400, "NAME_INVALID", ""},
		{"GET", "/acr/v1//app", ``, 400, "NAME_INVALID", ""},
		{"GET", "/acr/v1/app%2f", ``, 400, "NAME_INVALID", ""},
		{"GET", "/acr/v1/App", ``, 400, "NAME_INVALID", ""},
		{"GET", "/acr/v1/app%00", ``, 400, "NAME_INVALID", ""},
		{"GET", "/acr/v1/app/_tags?orderby=size", ``, 400, "UNSUPPORTED", "timeasc"},
		{"GET", "/acr/v1/app/_tags?digest=latest", ``, 400, "DIGEST_INVALID", ""},
		{"GET", "/acr/v1/app/_tags?n=0", ``, 400, "PAGINATION_NUMBER_INVALID", ""},
		{"GET", "/acr/v1/app/_tags?n=-1", ``, 400, "PAGINATION_NUMBER_INVALID", ""},
		{"GET", "/acr/v1/app/_tags?orderby=timeasc&last=none", ``, 400, "PAGINATION_NUMBER_INVALID", ""},
		{"GET", "/acr/v1/app/_tags?orderby=timeasc&last=x:y", ``, 400, "PAGINATION_NUMBER_INVALID", ""},
		{"GET", "/acr/v1/app/_manifests?last=none", ``, 400, "PAGINATION_NUMBER_INVALID", ""},
		{"GET", "/acr/v1/app/_manifests?last=" + someDigest, ``, 400, "PAGINATION_NUMBER_INVALID", ""},
		{"GET", "/acr/v1/app/_manifests?orderby=none,timeasc", ``, 400, "UNSUPPORTED", ""},
		{"PUT", "/acr/v1/app", ``, 405, "UNSUPPORTED", ""},
		{"POST", "/oauth2/exchange", "grant_type=access_token&access_token=x", 401, "UNAUTHORIZED", "proves nobody"},
		{"POST", "/oauth2/exchange", "grant_type=access_token&access_token=" + strings.Repeat("x", 70_000), 400, "UNSUPPORTED", "65536"},
		{"POST", "/oauth2/token", "grant_type=magic", 400, "UNSUPPORTED", ""},
		{"POST", "/oauth2/token", "grant_type=refresh_token", 401, "UNAUTHORIZED", ""},
	} {
		r := request{method: tc.method, path: tc.path, body: tc.body}
		if strings.HasPrefix(tc.path, "/oauth2") {
			r.header, r.anonymous = form, true
		}
		a := w.want(w.do(r), tc.status, tc.code)
		if e := a.errorOf(t); !strings.Contains(e.Message, tc.says) {
			t.Errorf("%s %s %.60s: %q does not say %q", tc.method, tc.path, tc.body, e.Message, tc.says)
		}
		if strings.HasPrefix(tc.path, "/oauth2") && a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be cached", tc.path)
		}
	}
	a := w.want(w.do(request{method: "GET", path: "/acr/v1/app/_tags/1"}), 200, "")
	if !bytes.Contains(a.body, []byte(`"changeableAttributes":{"deleteEnabled":true,"writeEnabled":true,"readEnabled":true,"listEnabled":true}`)) {
		t.Errorf("something was changed: %s", a.body)
	}
	if a := w.do(request{method: "PUT", path: "/acr/v1/app"}); a.Header.Get("Allow") != "GET, PATCH, DELETE" {
		t.Errorf("Allow: %q", a.Header.Get("Allow"))
	}
}

package ociserver_test

import (
	"encoding/json"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/policy"
)

func TestGate(t *testing.T) {
	w := newWorld(t)
	w.judge.set(quarantineAll)
	w.judge.counts.Critical = 1
	raw := w.putImage("team/app", "1.0", "bad layer")
	path := "/v2/team/app/manifests/"
	a := w.want(w.do(request{method: "HEAD", path: path + "1.0"}), 200, "")
	if a.Header.Get("Pratique-Decision") != "quarantine" {
		t.Errorf("HEAD: %v", a.Header)
	}
	for _, ref := range []string{"1.0", sum(raw).String()} {
		a := w.want(w.do(request{method: "GET", path: path + ref, header: map[string]string{"If-None-Match": `"` + sum(raw).String() + `"`}}), 403, "DENIED")
		e := a.errorOf(t)
		for _, word := range []string{"quarantined", "CVE-2021-44228 (critical, exploited) in log4j-core 2.14.1 -> 2.17.1, fix: mvn", "pratique show team/app", "https://registry.example"} {
			if !strings.Contains(e.Message, word) {
				t.Errorf("message %q lacks %q", e.Message, word)
			}
		}
		if strings.ContainsAny(e.Message, "\n\r\x1b") {
			t.Errorf("message %q is not one line", e.Message)
		}
		var detail struct {
			Decision, Image string
			Findings        []struct{ ID, Fixed string }
			Reasons         []policy.Reason
			Counts          struct{ Critical int }
			ReadOn          struct{ Command, URL string }
		}
		if err := json.Unmarshal(e.Detail, &detail); err != nil || detail.Decision != "quarantine" || len(detail.Findings) != 1 || detail.Findings[0].Fixed != "2.17.1" ||
			len(detail.Reasons) != 1 || detail.Counts.Critical != 1 || !strings.HasPrefix(detail.ReadOn.Command, "pratique show team/app") {
			t.Errorf("detail %s, %v", e.Detail, err)
		}
		if strings.Contains(string(a.body), sum("bad layer").String()) {
			t.Error("the refusal gives the manifest away")
		}
	}
	layer := "/v2/team/app/blobs/" + sum("bad layer").String()
	e := w.want(w.do(request{method: "GET", path: layer, header: map[string]string{"Range": "bytes=0-1"}}), 403, "DENIED").errorOf(t)
	if !strings.Contains(e.Message, "team/app:1.0") || !strings.Contains(e.Message, "CVE-2021-44228") {
		t.Errorf("blob's refusal %q", e.Message)
	}
	w.want(w.do(request{method: "HEAD", path: layer}), 200, "") // who may push may ask
	// Not by way of a mount either: the client is asked to send the bytes.
	for _, from := range []string{"&from=team/app", ""} {
		w.want(w.do(request{method: "POST", path: "/v2/mine/blobs/uploads/?mount=" + sum("bad layer").String() + from}), 202, "")
	}
	// The fixed image under the same tag is served at once, and shares a layer.
	w.judge.set(allowAll)
	fixed := w.putImage("team/app", "1.0", "good layer")
	if a := w.want(w.do(request{method: "GET", path: path + "1.0"}), 200, ""); string(a.body) != fixed {
		t.Errorf("after the fix: %s", a.body)
	}
	w.want(w.do(request{method: "GET", path: path + sum(raw).String()}), 403, "DENIED")
	w.want(w.do(request{method: "GET", path: layer}), 403, "DENIED")
	w.want(w.do(request{method: "GET", path: "/v2/team/app/blobs/" + sum("good layer").String()}), 200, "")
	w.want(w.do(request{method: "GET", path: "/v2/team/app/blobs/" + sum(`{"architecture":"amd64","os":"linux"}`).String()}), 200, "")
	w.want(w.do(request{method: "POST", path: "/v2/mine/blobs/uploads/?mount=" + sum("good layer").String() + "&from=team/app"}), 201, "")
}

// TestMountNeedsPull: a mount reads the source, so a caller who may not gets an upload.
func TestMountNeedsPull(t *testing.T) {
	w := newWorld(t)
	w.putImage("secret/app", "1", "layer")
	token := w.tokenFor(w.principal("dev", "Owner", "dev/*"), "repository:dev/app:pull,push", "repository:secret/app:pull")
	for _, from := range []string{"&from=secret/app", "", "&from=none/such"} {
		w.want(w.do(request{method: "POST", path: "/v2/dev/app/blobs/uploads/?mount=" + sum("layer").String() + from, token: token}), 202, "")
		w.want(w.do(request{method: "GET", path: "/v2/dev/app/blobs/" + sum("layer").String(), token: token}), 404, "BLOB_UNKNOWN")
	}
	w.want(w.do(request{method: "POST", path: "/v2/dev/app/blobs/uploads/?mount=nonsense&from=secret/app", token: token}), 400, "DIGEST_INVALID")
	w.want(w.do(request{method: "POST", path: "/v2/dev/app/blobs/uploads/?from=Bad&mount=" + someDigest, token: token}), 400, "NAME_INVALID")
}

// TestMountAsksForPullOfItsSource: a token for the target alone is sent back for one that
// may read the source too, where its bearer was granted that.
func TestMountAsksForPullOfItsSource(t *testing.T) {
	w := newWorld(t)
	w.putImage("team/base", "1", "layer")
	name := w.principal("dev", "Owner", "team/*")
	mount := request{method: "POST", path: "/v2/team/app/blobs/uploads/?mount=" + sum("layer").String() + "&from=team/base"}
	mount.token = w.tokenFor(name, "repository:team/app:pull,push")
	a := w.want(w.do(mount), 401, "UNAUTHORIZED")
	if got := a.Header.Get("WWW-Authenticate"); !strings.Contains(got, `repository:team/base:pull"`) {
		t.Errorf("challenge %q does not ask for the source", got)
	}
	mount.token = w.tokenFor(name, "repository:team/app:pull,push", "repository:team/base:pull")
	w.want(w.do(mount), 201, "")
}

// TestHeadOfHeldBack: who shows the answer to HEAD is told there that it exists; Docker's
// engine, which asks again by GET when it is refused, is refused.
func TestHeadOfHeldBack(t *testing.T) {
	w := newWorld(t)
	w.judge.set(quarantineAll)
	raw := w.putImage("team/app", "1", "layer")
	for _, tc := range []struct {
		agent, ref string
		want       int
	}{
		{"docker/20.10.24+dfsg1 go/go1.19.8 os/linux UpstreamClient(Docker-Client/28.2.2)", "1", 403},
		{"docker/20.10.24+dfsg1 go/go1.19.8 os/linux UpstreamClient(Docker-Client/28.2.2)", sum(raw).String(), 200},
		{"docker/29.0.0 go/go1.25 containerd-client/2.2.0 storage-driver/overlayfs", "1", 200},
		{"containerd/1.6.20", "1", 200},
		{"", "1", 200},
	} {
		a := w.do(request{method: "HEAD", path: "/v2/team/app/manifests/" + tc.ref, header: map[string]string{"User-Agent": tc.agent}})
		if a.StatusCode != tc.want {
			t.Errorf("HEAD of %s by %q: %d, want %d", tc.ref, tc.agent, a.StatusCode, tc.want)
		}
	}
}

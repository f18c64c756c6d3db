package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pushWith and pullWith are the two clients that the story is told with.
var storyClients = []struct {
	name       string
	push, pull func(s *server, t *testing.T, layout, ref, to string) command
}{
	{"skopeo",
		func(s *server, t *testing.T, layout, ref, _ string) command {
			return s.client(t, "skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "oci:"+layout+":latest", "docker://"+ref)
		},
		func(s *server, t *testing.T, _, ref, to string) command {
			return s.client(t, "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "docker://"+ref, "oci:"+to+":latest")
		}},
	{"crane",
		func(s *server, t *testing.T, layout, ref, _ string) command {
			return s.client(t, "crane", "push", "--insecure", layout, ref)
		},
		func(s *server, t *testing.T, _, ref, to string) command {
			return s.client(t, "crane", "pull", "--insecure", "--format", "oci", ref, to)
		}},
}

// TestStory is the main job: a real image with a flaw is pushed, judged and refused
// with reasons; fixed under the same tag, it is pulled.
func TestStory(t *testing.T) {
	s := sharedRegistry(t)
	base := debian(t)
	old := buildImage(t, format{}, base, npmPart(t, handlebarsOld))
	fixed := buildImage(t, format{}, base, npmPart(t, handlebarsFixed))
	oldLayout, fixedLayout := writeLayout(t, old), writeLayout(t, fixed)

	for _, client := range storyClients {
		t.Run(client.name, func(t *testing.T) {
			repo := "story/" + client.name
			ref := s.ref(repo, "1")

			client.push(s, t, oldLayout, ref, "").mustRun(t)
			r := s.show(t, repo+":1")
			r.wantDecision(t, "quarantine")
			if r.Digest != digest(t, old) {
				t.Errorf("digest is %s, pushed was %s", r.Digest, digest(t, old))
			}
			wantHandlebars(t, r, layerDigest(t, old, 1))
			wantShowText(t, s.pratique("show", repo+":1").mustRun(t).stdout)

			to := filepath.Join(t.TempDir(), "pulled")
			refused := client.pull(s, t, "", ref, to).run(t)
			if refused.code == 0 {
				t.Fatalf("%s pulled a quarantined image", client.name)
			}
			wantWords(t, client.name+"'s message", refused.stderr, "denied", "handlebars", "4.7.9")
			if found, _ := filepath.Glob(filepath.Join(to, "blobs", "sha256", "*")); len(found) > 0 {
				t.Errorf("%s got %q of a quarantined image", client.name, found)
			}

			client.push(s, t, fixedLayout, ref, "").mustRun(t)
			client.pull(s, t, "", ref, to).mustRun(t)
			index, err := os.ReadFile(filepath.Join(to, "index.json"))
			check(t, err)
			if !strings.Contains(string(index), digest(t, fixed)) {
				t.Errorf("pulled was not %s: %s", digest(t, fixed), index)
			}
			s.show(t, repo+":1").wantDecision(t, "allow")
			// The old image is still there by its digest, and still held back.
			s.do(t, http.MethodGet, "/v2/"+repo+"/manifests/"+digest(t, old), nil, "").wantError(t, http.StatusForbidden, "DENIED")
		})
	}
}

func wantHandlebars(t *testing.T, r report, layer string) {
	t.Helper()
	f := r.find(t, "handlebars", handlebarsID)
	for _, c := range []struct{ field, got, want string }{
		{"ecosystem", f.Ecosystem, "npm"},
		{"version", f.Version, "4.7.8"},
		{"fixed", f.Fixed, "4.7.9"},
		{"severity", f.Severity, "critical"},
		{"layer", f.Layer, layer},
		{"instruction", f.Instruction, "RUN /bin/sh -c npm install handlebars@4.7.8"},
	} {
		if c.got != c.want {
			t.Errorf("%s is %q, want %q", c.field, c.got, c.want)
		}
	}
	if f.SeveritySource == "" || f.Why == "" {
		t.Errorf("severitySource %q and why %q must not be empty", f.SeveritySource, f.Why)
	}
	wantWords(t, "fix", f.Fix, "npm install handlebars@4.7.9")
	for _, p := range r.Packages {
		if p.Name == "handlebars" {
			if p.PURL != "pkg:npm/handlebars@4.7.8" || p.Layer != layer || len(p.Paths) != 1 ||
				p.Paths[0] != "srv/app/node_modules/handlebars/package.json" {
				t.Errorf("package handlebars is %+v", p)
			}
			return
		}
	}
	t.Errorf("handlebars is not among the %d packages", len(r.Packages))
}

// wantShowText checks the report for people: what is wrong, where it came from, what to run.
func wantShowText(t *testing.T, text string) {
	t.Helper()
	wantWords(t, "show", text, "quarantine", "critical", "handlebars 4.7.8", "fixed in 4.7.9",
		"npm install handlebars@4.7.9", "RUN /bin/sh -c npm install handlebars@4.7.8", "Debian GNU/Linux 12")
	if strings.Contains(text, "\x1b[") {
		t.Errorf("show colours its output though it is no terminal: %q", text)
	}
}

// wantWords fails the test for each word that is missing from text, whatever its case.
func wantWords(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(strings.ToLower(text), strings.ToLower(w)) {
			t.Errorf("%s does not say %q:\n%s", what, w, text)
		}
	}
}

// TestAnswers checks what a program sees: the headers of a push and the body of a refusal.
func TestAnswers(t *testing.T) {
	s := sharedRegistry(t)
	old := buildImage(t, format{}, npmPart(t, jqueryOld))
	fixed := buildImage(t, format{}, npmPart(t, jqueryFixed))

	a := s.push(t, "answers/app", "1", old)
	if got := a.header.Get("Pratique-Decision"); got != "quarantine" {
		t.Errorf("Pratique-Decision is %q, want quarantine", got)
	}
	if got := a.header.Get("Pratique-Findings"); got == "" {
		t.Error("no Pratique-Findings header")
	}

	refused := s.do(t, http.MethodGet, "/v2/answers/app/manifests/1", nil, "")
	wantWords(t, "the refusal", refused.wantError(t, http.StatusForbidden, "DENIED"), "CVE-2020-11023", "jquery", "3.5.0")
	var doc struct {
		Errors []struct {
			Detail map[string]any `json:"detail"`
		} `json:"errors"`
	}
	check(t, json.Unmarshal(refused.body, &doc))
	detail, err := json.Marshal(doc.Errors[0].Detail)
	check(t, err)
	wantWords(t, "the refusal's detail", string(detail), "CVE-2020-11023", "3.5.0", "quarantine")

	// Who may push may ask whether content is there; its bytes stay held back.
	layer := layerDigest(t, old, 0)
	s.do(t, http.MethodHead, "/v2/answers/app/blobs/"+layer, nil, "").want(t, http.StatusOK)
	s.do(t, http.MethodGet, "/v2/answers/app/blobs/"+layer, nil, "").wantError(t, http.StatusForbidden, "DENIED")

	a = s.push(t, "answers/app", "1", fixed)
	if got := a.header.Get("Pratique-Decision"); got != "allow" {
		t.Errorf("Pratique-Decision is %q, want allow: %s", got, s.show(t, "answers/app:1").summary())
	}
	got := s.do(t, http.MethodGet, "/v2/answers/app/manifests/1", nil, "").want(t, http.StatusOK)
	if sha256Digest(got.body) != digest(t, fixed) {
		t.Errorf("pulled %s, want %s", sha256Digest(got.body), digest(t, fixed))
	}
}

// TestNobody checks that nothing is open to those who do not say who they are.
func TestNobody(t *testing.T) {
	s := sharedRegistry(t)
	img := buildImage(t, format{}, npmPart(t, jqueryFixed))
	s.push(t, "nobody/app", "1", img)
	for i, path := range []string{"/v2/", "/v2/_catalog", "/v2/nobody/app/manifests/1", "/v2/nobody/app/tags/list",
		"/v2/nobody/app/blobs/" + layerDigest(t, img, 0), "/api/v1/images", "/api/v1/advisories"} {
		for _, password := range []string{"", "wrong"} {
			req, err := http.NewRequest(http.MethodGet, "http://"+s.addr+path, nil)
			check(t, err)
			if password != "" {
				// Of the same name some more would have to wait.
				req.SetBasicAuth([]string{"admin", "nobody"}[i%2], password)
			}
			res, err := http.DefaultClient.Do(req)
			check(t, err)
			check(t, res.Body.Close())
			if res.StatusCode != http.StatusUnauthorized {
				t.Errorf("GET %s with password %q: status %d, want 401", path, password, res.StatusCode)
			}
			if strings.HasPrefix(path, "/v2/") && res.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("GET %s with password %q: no WWW-Authenticate", path, password)
			}
		}
	}
}

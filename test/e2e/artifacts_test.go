package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// signed is an image in the registry and its name by digest.
func signed(t *testing.T, s *server, repo string) string {
	t.Helper()
	img := buildImage(t, format{}, part{files: goProgram(t, "fixed", "amd64"), by: "COPY gobin /usr/bin/gobin"})
	s.push(t, repo, "1", img)
	return s.addr + "/" + repo + "@" + digest(t, img)
}

// TestCosign signs an image as cosign does by default, with a bundle that refers to it, and as it
// did before, with a tag; and attaches an attestation.
func TestCosign(t *testing.T) {
	s := sharedRegistry(t)
	image := signed(t, s, "sign/cosign")
	dir := t.TempDir()
	run := func(args ...string) result {
		t.Helper()
		c := s.client(t, "cosign", args...)
		c.dir = dir
		c.env = append(c.env, "COSIGN_PASSWORD=", "COSIGN_YES=true")
		return c.mustRun(t)
	}
	plain := func(args ...string) []string {
		return append(args, "--allow-insecure-registry", "--allow-http-registry", image)
	}
	run("generate-key-pair")
	check(t, os.WriteFile(filepath.Join(dir, "signing.json"), []byte(run("signing-config", "create").stdout), 0o644))
	run(plain("sign", "--key", "cosign.key", "--signing-config", "signing.json")...)
	run(plain("verify", "--key", "cosign.pub", "--insecure-ignore-tlog", "--private-infrastructure")...)
	before := []string{"--key", "cosign.key", "--use-signing-config=false", "--new-bundle-format=false", "--tlog-upload=false"}
	run(plain(append([]string{"sign"}, before...)...)...)
	run(plain("verify", "--key", "cosign.pub", "--new-bundle-format=false", "--insecure-ignore-tlog", "--private-infrastructure")...)
	check(t, os.WriteFile(filepath.Join(dir, "predicate.json"), []byte("{}"), 0o644))
	run(plain(append([]string{"attest", "--type", "custom", "--predicate", "predicate.json"}, before...)...)...)
	tree := run("tree", "--allow-insecure-registry", "--allow-http-registry", image)
	wantWords(t, "cosign tree", tree.stdout+tree.stderr, "sha256:")
}

func TestNotation(t *testing.T) {
	s := sharedRegistry(t)
	image := signed(t, s, "sign/notation")
	run := func(args ...string) result {
		t.Helper()
		c := s.client(t, "notation", args...)
		c.env = append(c.env, "XDG_CONFIG_HOME="+s.home, "NOTATION_USERNAME=admin", "NOTATION_PASSWORD="+secret)
		return c.mustRun(t)
	}
	run("cert", "generate-test", "--default", "e2e.test")
	run("sign", "--insecure-registry", image)
	wantWords(t, "notation list", run("list", "--insecure-registry", image).stdout, "application/vnd.cncf.notary.signature", "sha256:")
}

func TestHelm(t *testing.T) {
	s := sharedRegistry(t)
	dir := t.TempDir()
	run := func(args ...string) result {
		t.Helper()
		c := s.client(t, "helm", args...)
		c.dir = dir
		c.env = append(c.env, "HELM_REGISTRY_CONFIG="+filepath.Join(s.home, "config.json"))
		return c.mustRun(t)
	}
	run("create", "chart")
	run("package", "chart")
	pushed := run("push", "--plain-http", "chart-0.1.0.tgz", "oci://"+s.addr+"/charts")
	wantWords(t, "helm push", pushed.stdout+pushed.stderr, "sha256:")
	run("pull", "--plain-http", "oci://"+s.addr+"/charts/chart", "--version", "0.1.0", "--destination", t.TempDir())
	s.show(t, "charts/chart:0.1.0").wantDecision(t, "allow")
}

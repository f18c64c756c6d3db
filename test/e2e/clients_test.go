package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// TestClients pushes and pulls with the other public clients, each in its own way.
func TestClients(t *testing.T) {
	s := sharedRegistry(t)
	img := buildImage(t, format{}, part{files: goProgram(t, "fixed", "amd64"), by: "COPY gobin /usr/bin/gobin"})
	layout := writeLayout(t, img)
	old := platformImage(t, "old", "amd64", handlebarsOld)
	s.push(t, "clients/old", "1", old)
	refused := s.ref("clients/old", "1")

	t.Run("oras", func(t *testing.T) {
		dir := t.TempDir()
		ref := s.ref("clients/oras", "1")
		s.client(t, "oras", "cp", "--from-oci-layout", "--to-plain-http", layout+":latest", ref).mustRun(t)
		s.client(t, "oras", "cp", "--from-plain-http", "--to-oci-layout", ref, filepath.Join(dir, "l:1")).mustRun(t)
		wantRefused(t, s.client(t, "oras", "cp", "--from-plain-http", "--to-oci-layout", refused, filepath.Join(dir, "r:1")))

		check(t, os.WriteFile(filepath.Join(dir, "sbom.json"), []byte(`{"bomFormat":"CycloneDX"}`), 0o644))
		attach := s.client(t, "oras", "attach", "--plain-http", ref, "--artifact-type", "application/vnd.cyclonedx+json", "sbom.json:application/vnd.cyclonedx+json")
		attach.dir = dir
		attach.mustRun(t)
		found := s.client(t, "oras", "discover", "--plain-http", "--distribution-spec", "v1.1-referrers-api", "--format", "json", ref).mustRun(t)
		wantWords(t, "oras discover", found.stdout, "application/vnd.cyclonedx+json")
	})

	t.Run("regctl", func(t *testing.T) {
		s.client(t, "regctl", "registry", "set", "--tls", "disabled", s.addr).mustRun(t)
		ref := s.ref("clients/regctl", "1")
		s.client(t, "regctl", "image", "copy", "ocidir://"+layout+":latest", ref).mustRun(t)
		s.client(t, "regctl", "image", "copy", ref, "ocidir://"+filepath.Join(t.TempDir(), "l")+":1").mustRun(t)
		wantRefused(t, s.client(t, "regctl", "image", "copy", refused, "ocidir://"+filepath.Join(t.TempDir(), "r")+":1"))
		wantWords(t, "regctl tag ls", s.client(t, "regctl", "tag", "ls", s.addr+"/clients/regctl").mustRun(t).stdout, "1")
	})

	for _, name := range []string{"podman", "buildah"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			run := func(args ...string) command {
				return s.client(t, name, append([]string{"--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs"}, args...)...)
			}
			from, to := s.ref("clients/"+name, "1"), s.ref("clients/"+name, "2")
			s.push(t, "clients/"+name, "1", img)
			run("pull", "--tls-verify=false", from).mustRun(t)
			run("tag", from, to).mustRun(t)
			run("push", "--tls-verify=false", to).mustRun(t)
			s.show(t, "clients/"+name+":2").wantDecision(t, "allow")
			wantRefused(t, run("pull", "--tls-verify=false", refused))
		})
	}
}

// wantRefused runs a pull that the gate must stop, in words that reach the user.
func wantRefused(t *testing.T, c command) {
	t.Helper()
	got := c.run(t)
	if got.code == 0 {
		t.Fatalf("%s %q pulled a quarantined image", c.name, c.args)
	}
	wantWords(t, filepath.Base(c.name)+"'s message", got.stdout+got.stderr, "denied", "handlebars", "4.7.9")
}

// TestCopyBetweenRepositories copies inside the registry: blobs are mounted, not sent.
func TestCopyBetweenRepositories(t *testing.T) {
	s := sharedRegistry(t)
	img := buildImage(t, format{}, part{files: goProgram(t, "fixed", "amd64"), by: "COPY gobin /usr/bin/gobin"})
	s.push(t, "copy/from", "1", img)
	s.client(t, "crane", "copy", "--insecure", s.ref("copy/from", "1"), s.ref("copy/to", "1")).mustRun(t)
	got := s.client(t, "crane", "digest", "--insecure", s.ref("copy/to", "1")).mustRun(t)
	wantWords(t, "crane digest", got.stdout, digest(t, img))
	s.show(t, "copy/to:1").wantDecision(t, "allow")
}

// TestList reads what the registry holds with its own command and with the protocol.
func TestList(t *testing.T) {
	s := sharedRegistry(t)
	for tag, spec := range map[string]string{"old": jqueryOld, "fixed": jqueryFixed} {
		s.push(t, "list/app", tag, buildImage(t, format{}, npmPart(t, spec)))
	}
	wantWords(t, "list", s.pratique("list").mustRun(t).stdout, "list/app", "old", "fixed", "quarantine", "allow")
	wantWords(t, "crane catalog", s.client(t, "crane", "catalog", "--insecure", s.addr).mustRun(t).stdout, "list/app")
	wantWords(t, "crane ls", s.client(t, "crane", "ls", "--insecure", s.addr+"/list/app").mustRun(t).stdout, "old", "fixed")
}

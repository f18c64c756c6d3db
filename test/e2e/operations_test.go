package e2e

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// operation is something that a public client does, as a line of its own documentation
// would have it. It is run by bash in the folder $W, of which $L is an OCI layout with the tags
// amd64 and latest, an index of two platforms. $REG is the registry, USERNAME and SECRET open it.
type operation struct{ client, does, line string }

// words are what lines may use besides: image is the name of an image by digest; has and line look
// for a text and for a whole line, and read all that comes, so that nobody's pipe breaks.
const words = `set -eo pipefail
image() { echo $REG/c/skopeo@$(crane digest --insecure $REG/c/skopeo:1); }
has() { grep -F -- "$1" | cat >/dev/null; }
line() { grep -Fx -- "$1" | cat >/dev/null; }
`

// operations go in this order: what some of them push, others read.
var operations = []operation{
	{"skopeo", "login", `skopeo login --tls-verify=false -u $USERNAME -p $SECRET $REG`},
	{"crane", "login", `crane auth login -u $USERNAME -p $SECRET $REG`},
	{"oras", "login", `oras login --plain-http -u $USERNAME -p $SECRET $REG`},
	{"regctl", "login", `regctl registry set --tls disabled $REG; regctl registry login -u $USERNAME -p $SECRET $REG`},

	{"skopeo", "push one platform", `skopeo copy --dest-tls-verify=false oci:$L:amd64 docker://$REG/c/skopeo:1`},
	{"skopeo", "push an index", `skopeo copy --all --dest-tls-verify=false oci:$L:latest docker://$REG/c/skopeo:multi`},
	{"skopeo", "push as docker schema 2", `skopeo copy --format v2s2 --dest-tls-verify=false oci:$L:amd64 docker://$REG/c/skopeo:v2`},
	{"skopeo", "inspect", `skopeo inspect --tls-verify=false docker://$REG/c/skopeo:1 | has Layers`},
	{"skopeo", "list-tags", `skopeo list-tags --tls-verify=false docker://$REG/c/skopeo | has multi`},
	{"skopeo", "pull", `skopeo copy --src-tls-verify=false docker://$REG/c/skopeo:1 oci:$W/pulled:x`},
	{"skopeo", "copy between repositories", `skopeo copy --src-tls-verify=false --dest-tls-verify=false docker://$REG/c/skopeo:1 docker://$REG/c/skopeo2:1`},
	{"skopeo", "push zstd layers", `skopeo copy --dest-compress-format zstd --dest-tls-verify=false oci:$L:amd64 docker://$REG/c/skopeoz:1`},
	{"skopeo", "delete", `skopeo delete --tls-verify=false docker://$REG/c/skopeo2:1
		! skopeo inspect --tls-verify=false docker://$REG/c/skopeo2:1`},

	{"crane", "push a layout", `crane push --insecure --index $L $REG/c/crane:1`},
	{"crane", "pull as docker's tar", `crane pull --insecure --platform linux/amd64 $REG/c/crane:1 $W/crane.tar`},
	{"crane", "pull as a layout", `crane pull --insecure --format oci $REG/c/crane:1 $W/crane-oci`},
	{"crane", "ls", `crane ls --insecure $REG/c/crane | line 1`},
	{"crane", "catalog", `crane catalog --insecure $REG | line c/crane`},
	{"crane", "copy", `crane copy --insecure $REG/c/crane:1 $REG/c/crane2:1`},
	{"crane", "append", `tar cf a.tar f.txt; crane append --insecure -b $REG/c/skopeo:1 -f a.tar -t $REG/c/crane:app`},
	{"crane", "mutate", `crane mutate --insecure --label a=b $REG/c/skopeo:1 -t $REG/c/crane:mut`},
	{"crane", "delete by digest", `crane delete --insecure $REG/c/crane2@$(crane digest --insecure $REG/c/crane2:1)
		! crane digest --insecure $REG/c/crane2:1`},

	{"oras", "push an artifact", `oras push --plain-http $REG/c/oras:1 --artifact-type application/x.test f.txt:text/plain`},
	{"oras", "pull", `mkdir op; oras pull --plain-http -o op $REG/c/oras:1; cmp op/f.txt f.txt`},
	{"oras", "attach", `oras attach --plain-http $REG/c/skopeo:1 --artifact-type application/x.sbom f.txt:text/plain`},
	{"oras", "discover", `oras discover --plain-http --format json $REG/c/skopeo:1 | has application/x.sbom`},
	{"oras", "discover by the referrers API", `oras discover --plain-http --distribution-spec v1.1-referrers-api --format json $REG/c/skopeo:1 | has application/x.sbom`},
	{"oras", "cp -r with referrers", `oras cp -r --from-plain-http --to-plain-http $REG/c/skopeo:1 $REG/c/orascp:1
		oras discover --plain-http --format json $REG/c/orascp:1 | has application/x.sbom`},
	{"oras", "repo tags", `oras repo tags --plain-http $REG/c/oras | line 1`},
	{"oras", "repo ls", `oras repo ls --plain-http $REG | line c/oras`},
	{"oras", "manifest delete", `oras manifest delete -f --plain-http $REG/c/oras:1`},

	{"regctl", "copy a layout", `regctl image copy ocidir://$L:latest $REG/c/regctl:1`},
	{"regctl", "copy with referrers", `regctl image copy --referrers $REG/c/skopeo:1 $REG/c/regctl3:1
		regctl artifact list $REG/c/regctl3:1 --format '{{json .}}' | has application/x.sbom`},
	{"regctl", "pull", `regctl image copy $REG/c/regctl:1 ocidir://$W/reg:x`},
	{"regctl", "tag ls", `regctl tag ls $REG/c/regctl | line 1`},
	{"regctl", "repo ls", `regctl repo ls $REG | line c/regctl`},
	{"regctl", "artifact put --subject", `echo hi | regctl artifact put --subject $REG/c/regctl:1 --artifact-type application/x.reg`},
	{"regctl", "artifact list", `regctl artifact list $REG/c/regctl:1 --format '{{json .}}' | has application/x.reg`},
	{"regctl", "blob put and get", `d=$(echo blob | regctl blob put $REG/c/regctl); regctl blob get $REG/c/regctl $d | has blob`},
	{"regctl", "tag delete", `regctl tag delete $REG/c/regctl:1`},
	{"regctl", "manifest delete", `regctl manifest delete $REG/c/regctl3@$(regctl manifest head $REG/c/regctl3:1)`},

	{"umoci", "unpack what was pulled", `umoci unpack --rootless --image $W/pulled:x $W/bundle; test -x bundle/rootfs/usr/bin/gobin`},

	{"buildah", "pull", `buildah $STORAGE pull --tls-verify=false $REG/c/skopeo:1`},
	{"buildah", "commit and push", `c=$(buildah $STORAGE from --pull-never $REG/c/skopeo:1); buildah $STORAGE copy $c f.txt /f.txt
		buildah $STORAGE commit $c $REG/c/buildah:1; buildah $STORAGE push --tls-verify=false $REG/c/buildah:1`},
	{"buildah", "push a manifest list", `buildah $STORAGE manifest create mm; buildah $STORAGE manifest add --tls-verify=false --all mm docker://$REG/c/skopeo:multi
		buildah $STORAGE manifest push --tls-verify=false --all mm docker://$REG/c/buildah:multi`},
	{"podman", "pull", `podman $STORAGE pull --tls-verify=false $REG/c/skopeo:1`},
	{"podman", "push", `podman $STORAGE push --tls-verify=false $REG/c/skopeo:1 $REG/c/podman:1`},
	{"podman", "run", `podman $STORAGE --runtime runc run --rm --network=host $ULIMITS $REG/c/skopeo:1 | has gobin`},
	{"podman", "run without network", `podman $STORAGE --runtime runc run --rm --network=none $ULIMITS $REG/c/skopeo:1 | has gobin`},

	{"docker", "login", `docker login -u $USERNAME -p $SECRET $REG`},
	{"docker", "pull", `docker pull $REG/c/skopeo:1`},
	{"docker", "push", `docker tag $REG/c/skopeo:1 $REG/c/docker:1; docker push $REG/c/docker:1`},
	{"docker", "run", `docker run --rm --network=host $REG/c/skopeo:1 | has gobin`},
	{"docker", "run without network", `docker run --rm --network=none $REG/c/skopeo:1 | has gobin`},
	{"docker", "manifest inspect", `docker manifest inspect --insecure $REG/c/skopeo:multi | has arm64`},

	{"ctr", "pull", `ctr -n t images pull --user $USERNAME:$SECRET --plain-http $REG/c/skopeo:1`},
	{"ctr", "pull all platforms", `ctr -n t images pull --user $USERNAME:$SECRET --plain-http --all-platforms $REG/c/skopeo:multi`},
	{"ctr", "push", `ctr -n t images tag --force $REG/c/skopeo:1 $REG/c/ctr:1; ctr -n t images push --user $USERNAME:$SECRET --plain-http $REG/c/ctr:1`},
	{"ctr", "run", `ctr -n t run --rm --net-host $REG/c/skopeo:1 once | has gobin`},

	{"cosign", "generate a key", `cosign generate-key-pair`},
	{"cosign", "sign with a bundle", `cosign signing-config create >sc.json; cosign sign --key cosign.key --signing-config sc.json $HTTP $(image)`},
	{"cosign", "verify a bundle", `cosign verify --key cosign.pub --insecure-ignore-tlog --private-infrastructure $HTTP $(image)`},
	{"cosign", "sign with a tag", `cosign sign --key cosign.key $BYTAG $HTTP $(image)`},
	{"cosign", "verify a tag", `cosign verify --key cosign.pub --new-bundle-format=false --insecure-ignore-tlog --private-infrastructure $HTTP $(image)`},
	{"cosign", "attest", `echo {} >p.json; cosign attest --key cosign.key $BYTAG --type custom --predicate p.json $HTTP $(image)`},
	{"cosign", "tree", `cosign tree $HTTP $REG/c/skopeo:1 | has sha256:`},

	{"notation", "make a certificate", `notation cert generate-test --default t.test`},
	{"notation", "sign", `notation sign --insecure-registry $(image)`},
	{"notation", "list", `notation list --insecure-registry $(image) | has application/vnd.cncf.notary.signature`},

	{"helm", "push", `helm create ch; helm package ch; helm push --plain-http ch-0.1.0.tgz oci://$REG/c/charts`},
	{"helm", "pull", `mkdir hp; helm pull --plain-http oci://$REG/c/charts/ch --version 0.1.0 -d hp; test -s hp/ch-0.1.0.tgz`},
}

// TestOperations does with each public client what it is used for.
func TestOperations(t *testing.T) {
	s := sharedRegistry(t)
	w := t.TempDir()
	env := append(containerd(t), operationsEnv(t, s, w)...)
	check(t, os.WriteFile(filepath.Join(w, "f.txt"), []byte("hello\n"), 0o644))
	for _, o := range operations {
		t.Run(o.client+" "+o.does, func(t *testing.T) {
			program(t, o.client) // fails where it is missing
			command{name: "bash", dir: w, env: env, args: []string{"-c", words + o.line}}.mustRun(t)
		})
	}
}

// operationsEnv has clients that know no credentials until they log in, and keep all they have in w.
func operationsEnv(t *testing.T, s *server, w string) []string {
	t.Helper()
	config := filepath.Join(w, "config.json")
	check(t, os.WriteFile(config, []byte("{}"), 0o600))
	return []string{"PATH=" + filepath.Join(cacheDir, "bin") + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin",
		"REG=" + s.addr, "USERNAME=admin", "SECRET=" + secret, "W=" + w, "L=" + twoTags(t),
		"HOME=" + w, "XDG_RUNTIME_DIR=" + w, "XDG_CONFIG_HOME=" + filepath.Join(w, "xdg"), "DOCKER_CONFIG=" + w, "REGISTRY_AUTH_FILE=" + config, "HELM_REGISTRY_CONFIG=" + config,
		"STORAGE=--root " + w + "/st --runroot " + w + "/run --storage-driver vfs",
		"ULIMITS=--ulimit nofile=1024:1024 --ulimit nproc=1024:1024", "DOCKER_CLI_EXPERIMENTAL=enabled",
		"COSIGN_PASSWORD=", "COSIGN_YES=true", "HTTP=--allow-insecure-registry --allow-http-registry",
		"BYTAG=--use-signing-config=false --new-bundle-format=false --tlog-upload=false",
	}
}

// twoTags is an OCI layout with an image that can be run under the tag amd64, and an index of
// it and one of another platform under the tag latest.
func twoTags(t *testing.T) string {
	t.Helper()
	runs := func(arch string) v1.Image {
		img := buildImage(t, format{arch: arch}, part{files: goProgram(t, "fixed", arch), by: "COPY gobin /usr/bin/gobin"})
		cfg, err := img.ConfigFile()
		check(t, err)
		cfg = cfg.DeepCopy()
		cfg.Config.Cmd, cfg.Config.Entrypoint = nil, []string{"/usr/bin/gobin"}
		img, err = mutate.ConfigFile(img, cfg)
		check(t, err)
		return img
	}
	amd64 := runs("amd64")
	dir, _ := writeIndex(t, map[string]v1.Image{"amd64": amd64, "arm64": runs("arm64")})
	p, err := layout.FromPath(dir)
	check(t, err)
	check(t, p.AppendImage(amd64, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "amd64"})))
	return dir
}

// containerd starts containerd and Docker's engine for this test alone, and returns the
// environment by which their clients find them.
func containerd(t *testing.T) []string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctd") // the path of a socket is short
	check(t, err)
	t.Cleanup(func() {
		// The engine leaves the network of the host mounted; where none was, there is nothing to unmount.
		_ = syscall.Unmount(filepath.Join(dir, "drun/netns/default"), 0)
		check(t, os.RemoveAll(dir))
	})
	ctd, docker := filepath.Join(dir, "c.sock"), filepath.Join(dir, "d.sock")
	daemon(t, ctd, program(t, "containerd"), "--root", dir+"/croot", "--state", dir+"/crun", "--address", ctd)
	daemon(t, docker, program(t, "/usr/sbin/dockerd"), "--data-root", dir+"/droot", "--exec-root", dir+"/drun", "--pidfile", dir+"/d.pid",
		"--host", "unix://"+docker, "--containerd", ctd, "--storage-driver", "vfs", "--bridge", "none", "--iptables=false", "--ip6tables=false")
	return []string{"CONTAINERD_ADDRESS=" + ctd, "DOCKER_HOST=unix://" + docker}
}

// daemon runs a program until the test ends, and returns once its address takes connections: the
// path of a socket, or HOST:PORT.
func daemon(t *testing.T, addr, name string, args ...string) {
	t.Helper()
	log := new(logBuffer)
	cmd := exec.Command(name, args...)
	cmd.Env = append(baseEnv(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.Stdout, cmd.Stderr = io.Writer(log), io.Writer(log)
	check(t, cmd.Start())
	done := make(chan struct{})
	go func() { // ends with the process
		_ = cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
		if t.Failed() {
			t.Logf("output of %s:\n%s", filepath.Base(name), log)
		}
	})
	s := &server{cmd: cmd, log: log, done: done}
	network := "tcp"
	if filepath.IsAbs(addr) {
		network = "unix"
	}
	check(t, s.await(time.Minute, "listening on "+addr, func() (bool, error) {
		c, err := net.Dial(network, addr)
		if err != nil {
			return false, nil // not listening yet
		}
		return true, c.Close()
	}))
}

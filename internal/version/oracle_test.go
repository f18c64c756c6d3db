package version_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "ask dpkg, rpm and node for their order and write testdata/*-oracle.txt")

// TestUpdateOracles writes, under -update, what the package managers themselves say of
// pairs made at random from a fixed seed. TestVectors reads it back.
func TestUpdateOracles(t *testing.T) {
	if !*update {
		for _, name := range []string{"dpkg", "rpm", "npm"} {
			if _, err := os.Stat(filepath.Join("testdata", name+"-oracle.txt")); err != nil {
				t.Error(err)
			}
		}
		return
	}
	write(t, "dpkg", askDpkg(t, pairs(4600, 1, dpkgVersion)))
	write(t, "rpm", askRPM(t, pairs(4500, 2, rpmVersion)))
	write(t, "npm", askNode(t, pairs(7000, 3, npmVersion)))
}

type pair struct{ a, b string }

// pairs makes n pairs; in half of them the second is the first with one byte changed.
func pairs(n int, seed uint64, make func(*rand.Rand) string) []pair {
	r := rand.New(rand.NewPCG(seed, 20261124))
	out := []pair{}
	for len(out) < n {
		p := pair{make(r), make(r)}
		if r.IntN(2) == 0 {
			i, j := r.IntN(len(p.a)), r.IntN(len(p.b))
			p.b = p.a[:i] + p.b[j:j+1] + p.a[i+r.IntN(2):]
		}
		out = append(out, p)
	}
	return out
}

func text(r *rand.Rand, alphabet string, most int) string {
	b := []byte{}
	for range 1 + r.IntN(most) {
		b = append(b, alphabet[r.IntN(len(alphabet))])
	}
	return string(b)
}

func dpkgVersion(r *rand.Rand) string {
	v := strconv.Itoa(r.IntN(12)) + text(r, "0019ab~+.Z", 6)
	if r.IntN(3) == 0 {
		v = strconv.Itoa(r.IntN(3)) + ":" + v
	}
	if r.IntN(2) == 0 {
		v += "-" + text(r, "0129~+.ud", 5)
	}
	return v
}

func rpmVersion(r *rand.Rand) string {
	v := text(r, "00129ab~^._+Z", 6)
	if r.IntN(3) == 0 {
		v = strconv.Itoa(r.IntN(3)) + ":" + v
	}
	return v + "-" + text(r, "0129~^._el", 5)
}

func npmVersion(r *rand.Rand) string {
	v := fmt.Sprintf("%d.%d.%d", r.IntN(3), r.IntN(12), r.IntN(3))
	if r.IntN(3) > 0 {
		v += "-" + text(r, "0129ab-.Z", 6)
	}
	if r.IntN(5) == 0 {
		v += "+" + text(r, "01ab", 3)
	}
	return v
}

func write(t *testing.T, name string, lines []string) {
	t.Helper()
	file := filepath.Join("testdata", name+"-oracle.txt")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d lines", file, len(lines))
}

func askDpkg(t *testing.T, ps []pair) (lines []string) {
	t.Helper()
	holds := func(p pair, op string) bool {
		out, err := exec.Command("dpkg", "--compare-versions", p.a, op, p.b).CombinedOutput()
		if len(out) > 0 {
			return false // a warning: not a version by dpkg's own measure
		}
		return err == nil
	}
	for _, p := range ps {
		if p.b[0] == '+' {
			continue // dpkg reads "+1:2" as epoch 1, which deb-version(7) does not allow
		}
		for op, sign := range map[string]string{"lt": "<", "eq": "=", "gt": ">"} {
			if holds(p, op) {
				lines = append(lines, p.a+" "+sign+" "+p.b)
			}
		}
	}
	return lines
}

func askRPM(t *testing.T, ps []pair) (lines []string) {
	t.Helper()
	for i := 0; i < len(ps); i += 100 {
		var lua strings.Builder
		for _, p := range ps[i:min(i+100, len(ps))] {
			fmt.Fprintf(&lua, "print(rpm.vercmp(%q,%q)..' ') ", p.a, p.b)
		}
		out, err := exec.Command("rpm", "--eval", "%{lua:"+lua.String()+"}").Output()
		if err != nil {
			t.Fatal(err)
		}
		for j, word := range strings.Fields(string(out)) {
			n, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, ps[i+j].a+" "+"<=>"[n+1:n+2]+" "+ps[i+j].b)
		}
	}
	return lines
}

func askNode(t *testing.T, ps []pair) (lines []string) {
	t.Helper()
	var in strings.Builder
	for _, p := range ps {
		in.WriteString(p.a + " " + p.b + "\n")
	}
	cmd := exec.Command("node", "-e", `
const semver = require("/usr/lib/node_modules/npm/node_modules/semver");
for (const line of require("fs").readFileSync(0, "utf8").split("\n")) {
	const [a, b] = line.split(" ");
	if (semver.valid(a) && semver.valid(b)) console.log(a, "<=>"[semver.compare(a, b) + 1], b);
}`)
	cmd.Stdin = strings.NewReader(in.String())
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// Package remediation says what to do about findings: the command that brings in the
// fixed version, for one finding (Command) and for a whole image in the fewest steps
// (Plan). Names and versions come out of images and feeds, so they are hostile: a
// command is given only for names that the package manager itself would accept, and
// whatever a shell might read differently is quoted.
package remediation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/version"
	"pratique.dev/pratique/internal/vuln"
)

// Command is what brings the fixed version of one finding into the packages that have
// its Key: `apt-get install openssl=3.0.17-1~deb12u3`. For an operating system's
// packages give all binaries of the source package, for they go together. It is "" if
// no fix is known or no command can be given; Advice says which.
func Command(pkgs []inventory.Placed, f vuln.Finding) string {
	wants := make([]want, 0, len(pkgs))
	for _, p := range pkgs {
		wants = append(wants, want{p, f.Fixed})
	}
	wants = sensible(wants)
	if len(wants) == 0 {
		return ""
	}
	tool := toolOf(wants[0].Placed)
	wants = slices.DeleteFunc(wants, func(w want) bool { return toolOf(w.Placed) != tool })
	return tool.render(first(wants, f.Package.Name))
}

// Advice is one sentence on what can be done about a finding, in place of a command
// where there is none.
func Advice(pkgs []inventory.Placed, f vuln.Finding) string {
	name := fmt.Sprintf("%.80q", f.Package.Name)
	switch {
	case f.Malicious:
		return fmt.Sprintf("Remove %s: the package itself is the attack, and whatever it could read must be taken as known to others.", name)
	case f.Status == vuln.StatusWontFix:
		return fmt.Sprintf("The vendor will not fix %s; replace it or do without it.", name)
	case f.Fixed == "":
		return fmt.Sprintf("No fixed version of %s is known; do without it, or watch %s.", name, f.ID)
	}
	if command := Command(pkgs, f); command != "" {
		return "Run: " + command
	}
	return fmt.Sprintf("%s is fixed in %.80q; no command is given, since this package's type or name is none that one is known for.",
		name, f.Fixed)
}

// want is an installed package and the version it should have.
type want struct {
	inventory.Placed
	fixed string
}

// sensible keeps what a command can be given for, each binary of an operating system
// once.
func sensible(wants []want) []want {
	type named struct {
		tool tool
		name string
	}
	var out []want
	at := map[named]int{}
	for _, w := range wants {
		tool := toolOf(w.Placed)
		if w.fixed == "" || !validVersion(w.fixed) || !tool.known() || !tool.validName(w.name()) {
			continue
		}
		i, have := at[named{tool, w.name()}]
		switch {
		case !have:
			at[named{tool, w.name()}] = len(out)
			out = append(out, w)
		case less(w.Ecosystem, out[i].fixed, w.fixed):
			out[i].fixed = w.fixed
		}
	}
	return out
}

// name is what the package manager calls the package.
func (w want) name() string {
	if w.IsOS() {
		return w.Binary
	}
	return w.Key.Name
}

// first sorts by name, with the one that people know the finding by at the front.
func first(wants []want, known string) []want {
	slices.SortFunc(wants, func(a, b want) int {
		return cmp.Or(cmp.Compare(differs(a.name(), known), differs(b.name(), known)), cmp.Compare(a.name(), b.name()))
	})
	return wants
}

func differs(a, b string) int {
	if a == b {
		return 0
	}
	return 1
}

// less says whether a comes before b. Versions without an order stay as they are.
func less(ecosystem, a, b string) bool {
	c, err := version.Compare(ecosystem, a, b)
	return err == nil && c < 0
}

// shellQuote writes s so that a POSIX shell reads it as one word (Shell Command
// Language, 2.2).
func shellQuote(s string) string {
	safe := s != "" && s[0] != '~' && !strings.Contains(s, "=~") && !strings.Contains(s, ":~")
	for i := 0; i < len(s) && safe; i++ {
		c := s[i]
		safe = 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("@%+=:,./_~-", c) >= 0
	}
	if safe {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

package cli

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "rewrite the generated documents")

// TestConfigurationReference holds docs/configuration.md to the command tree; with
// -update it is written anew.
func TestConfigurationReference(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Commands and flags\n\nGenerated from the program by `go test ./internal/cli -run Reference -update`.\n" +
		"Flags go before the environment, which goes before the client's configuration file\n" +
		"(`PRATIQUE_CONFIG`, else `pratique/config.yaml` in the user's configuration folder,\n" +
		"with the keys `server`, `user` and `passwordFile`), which goes before the logins that\n" +
		"`pratique login` keeps beside it.\n")
	reference(&b, newRoot(Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}))
	const path = "../../docs/configuration.md"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("docs/configuration.md is not what the program has; run with -update:\n%s", diff)
	}
}

func reference(b *strings.Builder, c *cobra.Command) {
	if c.Name() == "help" || c.Hidden {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n%s.\n", c.CommandPath(), c.Short)
	if c.Long != "" {
		fmt.Fprintf(b, "\n```text\n%s\n```\n", strings.TrimSpace(c.Long))
	}
	if c.Runnable() && !c.HasSubCommands() {
		fmt.Fprintf(b, "\n```text\n%s\n```\n", c.UseLine())
	}
	if c.Example != "" {
		fmt.Fprintf(b, "\n```sh\n%s\n```\n", strings.ReplaceAll(strings.TrimSpace(c.Example), "\n  ", "\n"))
	}
	if flags := c.LocalFlags(); flags.HasAvailableFlags() {
		fmt.Fprintf(b, "\n```text\n%s```\n", flags.FlagUsages())
	}
	for _, sub := range c.Commands() {
		reference(b, sub)
	}
}

// TestEveryCommandHelps holds every command to a summary, an example and an output
// format where it prints.
func TestEveryCommandHelps(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "help" || c.Name() == "completion" {
			return
		}
		if c.Short == "" || c.Example == "" {
			t.Errorf("%s has no summary or no example", c.CommandPath())
		}
		if !c.HasSubCommands() && c.Name() != "serve" && c.Name() != "docker-credential" && c.Flags().Lookup("output") == nil {
			t.Errorf("%s has no -o", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}))
}

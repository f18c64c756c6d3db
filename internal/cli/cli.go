// Package cli is the command tree: what is typed, what is printed, and the exit code.
// It calls the packages below and decides nothing about images itself.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes. Every command documents which of them it uses.
const (
	ExitOK      = 0
	ExitRefused = 1 // scan: the image would be quarantined; fsck, rebuild, backup, restore: problems are left; rules: the document is not right; access check: it is not allowed
	ExitError   = 2 // the command could not do what was asked, or could not tell
)

// Streams are the program's own standard streams.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// exitError carries an exit code other than ExitError. Its message, if any, is printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// helperName is what docker calls the program by as its credential helper.
const helperName = "docker-credential-pratique"

// Arguments are those of a command line for Run: without the program's name, which stands for a
// command where it is that of docker's credential helper.
func Arguments(argv []string) []string {
	if len(argv) > 0 && strings.TrimSuffix(filepath.Base(argv[0]), ".exe") == helperName {
		return append([]string{"docker-credential"}, argv[1:]...)
	}
	return argv[min(len(argv), 1):]
}

// Run executes a command line without the program's name and returns the exit code.
// An interrupt or SIGTERM ends what is running in good order; a second one ends it at once.
func Run(args []string, s Streams) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	root := newRoot(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	var exit *exitError
	if errors.As(err, &exit) {
		if exit.err != nil {
			fmt.Fprintln(s.Err, "pratique:", exit.err)
		}
		return exit.code
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	fmt.Fprintln(s.Err, "pratique:", err)
	return ExitError
}

// newRoot builds the command tree.
func newRoot(s Streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "pratique",
		Short: "A container registry that serves an image only once it has cleared it",
		Long: `Pratique is a private container registry. Push to it as to any registry; by the
time the push returns, every layer has been examined, every package matched against
advisories, and a verdict stands: allow, or quarantine with the reasons and the exact
commands that fix them.`,
		Example: `  pratique serve --data ./data --listen 127.0.0.1:5000
  pratique show team/app:1.2
  pratique scan ./image-layout`,
		Version:                    Version,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: nearCommand,
		Args:                       takesNone,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetVersionTemplate("pratique {{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newServe(), newShow(), newList(), newScan(), newAdvisories(), newGC(), newFsck(), newRebuild(), newBackup(), newRestore(), newVersion())
	root.AddCommand(newRules(), newRetention(), newTags(), newTrash(), newLock(), newUnlock())
	root.AddCommand(newPrincipal(), newSecret(), newPassword(), newRole(), newScopeMap(), newGroup(), newAccess(), newWhoami(), newKeys(), newAudit())
	root.AddCommand(newFederation(), newLogin(), newLogout(), newDockerCredential())
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; see '%s --help'", err, c.CommandPath())
	})
	return root
}

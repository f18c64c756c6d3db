package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// nearCommand is how many letters may differ between a command that there is not and one
// that is suggested in its place.
const nearCommand = 2

// name is how a command is called behind the program's name.
func name(c *cobra.Command) string {
	return strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ")
}

// takesNone refuses arguments. On a command that has others below it an argument is the
// name of one that there is not.
func takesNone(c *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case !c.HasSubCommands():
		return fmt.Errorf("%s takes no arguments, got %q; see '%s --help'", name(c), args[0], c.CommandPath())
	}
	hint := ""
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("did you mean '%s %s'? ", c.CommandPath(), near[0])
	}
	return fmt.Errorf("unknown command %q; %ssee '%s --help'", args[0], hint, c.CommandPath())
}

// takesOne wants one argument, which what names.
func takesOne(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return fmt.Errorf("%s needs %s; see '%s --help'", name(c), what, c.CommandPath())
		case 1:
			return nil
		}
		return fmt.Errorf("%s takes one %s, got %q; see '%s --help'", name(c), what, args, c.CommandPath())
	}
}

// takesOneOrNone wants one argument at most, which what names.
func takesOneOrNone(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return takesOne(what)(c, args)
	}
}

// takes wants these arguments, and as many of the optional ones as there are.
func takes(names []string, optional ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("%s needs %s; see '%s --help'", name(c), strings.Join(names[len(args):], " and "), c.CommandPath())
		case len(args) > len(names)+len(optional):
			return fmt.Errorf("%s takes %s, got %q; see '%s --help'", name(c), strings.Join(append(append([]string{}, names...), optional...), " "), args, c.CommandPath())
		}
		return nil
	}
}

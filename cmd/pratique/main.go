// Command pratique is a container registry that serves only what it has cleared, and
// the client of one.
package main

import (
	"os"

	"pratique.dev/pratique/internal/cli"
)

func main() {
	os.Exit(cli.Run(cli.Arguments(os.Args), cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}

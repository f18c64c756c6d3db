package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// lockFlags are what there is to lock, and what that means.
var lockFlags = []struct{ name, usage string }{
	{"write", "a tag is not pointed elsewhere, no tag to or from a manifest, nothing put into a repository"},
	{"delete", "it is not deleted, nor is what a tag names"},
	{"read", "it is served to nobody"},
	{"list", "it is left out of the lists of tags, repositories and referrers"},
}

func newLock() *cobra.Command {
	return lockCommand("lock", "Lock a repository, a tag or a manifest against changes", `Lock forbids what its flags say, to everybody, until 'pratique unlock' allows it again;
without flags it forbids writing and deleting. What is locked of a repository holds for all
that is in it. A refusal says what is locked and how to unlock it. 'pratique list' shows locks.

Exit codes: 0 locked; 2 not locked, and the message says why.`, `  pratique lock team/app:1.2
  pratique lock team/app --write
  pratique lock team/app@sha256:... --read`)
}

func newUnlock() *cobra.Command {
	return lockCommand("unlock", "Allow again what was locked", `Unlock allows again what its flags say; without flags, all.

Exit codes: 0 unlocked; 2 not unlocked, and the message says why.`, `  pratique unlock team/app:1.2 --delete
  pratique unlock team/app`)
}

// lockCommand is lock or unlock.
func lockCommand(verb, short, long, example string) *cobra.Command {
	var (
		conn connection
		out  output
	)
	chosen := make([]bool, len(lockFlags))
	c := &cobra.Command{
		Use:     verb + " REPOSITORY[:TAG|@DIGEST]",
		Short:   short,
		Long:    long,
		Example: example,
		Args:    takesOne("REPOSITORY[:TAG|@DIGEST]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			cl, err := conn.client()
			if err != nil {
				return err
			}
			repo, ref, err := parseTarget(cl, args[0])
			if err != nil {
				return err
			}
			lock, unlock := chosenLocks(chosen, verb == "lock"), []string(nil)
			if verb == "unlock" {
				lock, unlock = nil, lock
			}
			got, err := cl.Lock(cmd.Context(), repo, ref.String(), lock, unlock)
			if err != nil {
				return err
			}
			if out.json() {
				return writeJSON(cmd.OutOrStdout(), got)
			}
			said := "is not locked"
			if len(got.Locks) > 0 {
				said = "is locked: " + strings.Join(got.Locks, ", ")
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), got.Target, said)
			return err
		},
	}
	conn.register(c)
	out.register(c)
	for i, f := range lockFlags {
		c.Flags().BoolVar(&chosen[i], f.name, false, f.usage)
	}
	return c
}

// chosenLocks names the locks whose flags were given; if none was, those that are meant.
func chosenLocks(chosen []bool, locking bool) []string {
	var given, all []string
	for i, f := range lockFlags {
		if all = append(all, f.name); chosen[i] {
			given = append(given, f.name)
		}
	}
	switch {
	case given != nil:
		return given
	case locking:
		return []string{"write", "delete"}
	}
	return all
}

package cli

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/identity"
	"pratique.dev/pratique/internal/upkeep"
)

func newRecover() *cobra.Command {
	var (
		data dataFlag
		out  output
	)
	c := &cobra.Command{
		Use:   "recover [NAME]",
		Short: "Make oneself an Owner again, on the data folder of a stopped registry",
		Long: `Recover works on the data folder itself, for whoever has lost the last Owner's secret. It
enables the user or service principal NAME (default admin), makes it an Owner of the registry
and gives it a fresh secret, which is printed this once. If it has two secrets already, the
older one ends. The registry must be stopped.

Exit codes: 0 recovered; 2 not recovered, and the message says why.`,
		Example: `  systemctl stop pratique
  pratique principal recover --data /var/lib/pratique`,
		Args: takesOneOrNone("NAME"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := out.check(); err != nil {
				return err
			}
			who := cmp.Or(strings.Join(args, ""), "admin")
			file := filepath.Join(data.path(), upkeep.CatalogFile)
			if _, err := os.Stat(file); err != nil {
				return fmt.Errorf("%s is no data folder of a registry: %w; choose one with --data", data.path(), err)
			}
			unlock, err := upkeep.Lock(data.path())
			if err != nil {
				return err
			}
			defer unlock()
			cat, err := catalog.Open(cmd.Context(), "sqlite:"+file)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, cat.Close()) }()
			secret, err := identity.New(cat, identity.Options{}).Recover(cmd.Context(), who)
			if errors.Is(err, identity.ErrNoSuchOwner) {
				return fmt.Errorf("there is no user and no service principal %q; without a name it is admin, made anew if need be", who)
			}
			if err != nil {
				return err
			}
			return say(cmd, out, map[string]string{"principal": who, "secret": secret}, "%s is an Owner of the registry\n  secret  %s   (shown this once)", who, secret)
		},
	}
	data.register(c)
	out.register(c)
	return c
}

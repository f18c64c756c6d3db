package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"pratique.dev/pratique/internal/extract"
	"pratique.dev/pratique/internal/feed"
	"pratique.dev/pratique/internal/inventory"
	"pratique.dev/pratique/internal/policy"
	"pratique.dev/pratique/internal/report"
	"pratique.dev/pratique/internal/scan"
)

type scanFlags struct {
	connection
	output
	advisories string
	tempDir    string
	plainHTTP  bool
	packages   bool
}

func newScan() *cobra.Command {
	var f scanFlags
	c := &cobra.Command{
		Use:   "scan TARGET",
		Short: "Examine and judge an image without a server",
		Long: `Scan gives the same report as a push to the registry would, without a server.
TARGET is one of:

  an OCI layout folder (DIR, or DIR:TAG for one image of it)
  an archive made by docker save, or of an OCI layout, plain or compressed
  a root folder
  an image in a registry (HOST/REPOSITORY:TAG or @DIGEST), with the credentials that
  docker login left unless --user is given

Where a name could mean two of them, put oci:, docker-archive:, oci-archive:, dir: or
docker:// before it. Packages are looked up in the embedded advisories, or with
--advisories in a folder of OSV dumps alone.

Exit codes: 0 the image would be allowed; 1 it would be quarantined; 2 that could not
be told.`,
		Example: `  pratique scan ./layout:latest
  docker save app:1.2 -o app.tar && pratique scan app.tar
  pratique scan registry.example/team/app:1.2 -o json
  pratique scan / --advisories ./osv`,
		Args: takesOne("TARGET"),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	f.output.register(c)
	c.Flags().StringVar(&f.user, "user", "", "name to pull as, if TARGET is in a registry (default what docker login left)")
	c.Flags().StringVar(&f.passwordFile, "password-file", "", "file that holds the secret of --user (or the secret itself in PRATIQUE_PASSWORD)")
	c.Flags().BoolVar(&f.plainHTTP, "plain-http", false, "speak to the registry without TLS; one on loopback always is")
	c.Flags().StringVar(&f.advisories, "advisories", "", "folder or zip of OSV dumps (<Ecosystem>/all.zip) to use instead of the embedded ones")
	c.Flags().StringVar(&f.tempDir, "temp-dir", "", "where large files are unpacked to while they are read (default the system's)")
	c.Flags().BoolVar(&f.packages, "packages", false, "list every package too")
	return c
}

func (f *scanFlags) run(cmd *cobra.Command, name string) error {
	if err := f.check(); err != nil {
		return err
	}
	var user, password string
	if f.user != "" {
		// Those of the environment are for the user's own registry, not for any that is named.
		var err error
		if user, password, err = f.credentials(clientConfig{}); err != nil {
			return err
		}
	}
	ctx := cmd.Context()
	t, err := scan.OpenTarget(ctx, name, scan.TargetOptions{TempDir: f.tempDir, User: user, Password: password, PlainHTTP: f.plainHTTP})
	if err != nil {
		return err
	}
	defer t.Close()
	p := newProgress(cmd.ErrOrStderr())
	r, err := scan.Local(ctx, t, scan.LocalOptions{
		Set: extract.New(extract.Options{TempDir: f.tempDir}),
		Advisories: func(ctx context.Context, keys []inventory.Key) (scan.Advisories, error) {
			return openAdvisories(ctx, f.advisories, keys, p)
		},
		Policies: []policy.Policy{policy.Default()},
		Now:      time.Now,
		Progress: func(read, total int64) { p.update("reading layers", read, total, sizeText) },
	})
	p.done()
	if err != nil {
		return err
	}
	if f.json() {
		err = writeJSON(cmd.OutOrStdout(), r)
	} else {
		err = report.WriteText(cmd.OutOrStdout(), r, report.TextOptions{Color: useColor(cmd.OutOrStdout()), Packages: f.packages})
	}
	if err != nil {
		return err
	}
	return scanExit(r)
}

// scanExit turns a decision into the exit code.
func scanExit(r report.Report) error {
	switch r.Decision {
	case policy.Allow:
		return nil
	case policy.Quarantine:
		return &exitError{code: ExitRefused}
	}
	return &exitError{code: ExitError, err: fmt.Errorf("%s could not be judged", r.Target)}
}

// openAdvisories opens the dumps at path, or the embedded snapshot if path is empty.
func openAdvisories(ctx context.Context, path string, keys []inventory.Key, p *progress) (scan.Advisories, error) {
	if path == "" {
		return feed.Embedded()
	}
	return feed.OpenDumps(ctx, path, keys, feedProgress(p))
}

func feedProgress(p *progress) feed.Progress {
	return func(e feed.Event) {
		p.update("reading advisories: "+e.Part, int64(e.Done), int64(e.Total), countText)
	}
}

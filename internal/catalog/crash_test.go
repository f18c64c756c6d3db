package catalog_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/oci"
)

// crashDir tells the test binary that it is the process to be killed.
const crashDir = "PRATIQUE_TEST_CRASH"

// TestKilled kills a process that pushes as fast as it can, and finds all that it had
// been told was kept.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(crashDir); dir != "" {
		pushUntilKilled(t, dir)
		return
	}
	dir := t.TempDir()
	for round := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), crashDir+"="+dir, "PRATIQUE_TEST_ROUND="+strconv.Itoa(round))
		out, err := cmd.StdoutPipe()
		ok(t, err)
		ok(t, cmd.Start())
		var told []string
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if name, is := strings.CutPrefix(lines.Text(), "kept "); is {
				told = append(told, name)
			}
			if len(told) == 200 {
				ok(t, cmd.Process.Kill())
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the process ended by itself")
		}
		if len(told) < 200 {
			t.Fatalf("the process kept %d images and then failed", len(told))
		}
		c := must(catalog.Open(t.Context(), "sqlite:"+filepath.Join(dir, "catalog.db")))(t)
		r := repo(t, "app")
		for _, tag := range told {
			m := must(must(c.Manifest(t.Context(), r, oci.Reference{Tag: tag}))(t).Parsed())(t)
			for _, b := range m.Blobs() {
				must(c.Blob(t.Context(), r, b.Digest))(t)
			}
		}
		recorded(t, c, told)
		var sound string
		ok(t, c.DB().QueryRowContext(t.Context(), `pragma integrity_check`).Scan(&sound))
		equal(t, sound, "ok")
		ok(t, c.Close())
	}
}

// recorded finds the record of each push that was told of, and the chain whole, be it that the process was
// killed before a record was chained.
func recorded(t *testing.T, c *catalog.Catalog, tags []string) {
	t.Helper()
	for must(c.ChainAudit(t.Context(), 1000))(t) > 0 {
	}
	has := map[string]bool{}
	var at catalog.AuditMark
	last, open, err := c.AuditChain(t.Context(), func(m catalog.AuditMark) { at = m }, func(page []catalog.Record) bool {
		for _, r := range page {
			has[r.Action+" "+r.Target] = true
			if at = must(at.Next(r))(t); at.Seq != r.Seq || at.Hash != r.Hash {
				t.Fatalf("the chain breaks at %d", at.Seq)
			}
		}
		return true
	})
	ok(t, err)
	if last != at.Seq || open != 0 {
		t.Errorf("%d are chained of %d, and %d wait", at.Seq, last, open)
	}
	for _, tag := range tags {
		if !has["push app:"+tag] {
			t.Errorf("no record of the push of %s", tag)
		}
	}
}

func pushUntilKilled(t *testing.T, dir string) {
	c := must(catalog.Open(t.Context(), "sqlite:"+filepath.Join(dir, "catalog.db")))(t)
	var mu sync.Mutex
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			must(c.ChainAudit(t.Context(), 100))(t)
		}
	})
	for worker := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				tag := fmt.Sprintf("r%s-%d-%d", os.Getenv("PRATIQUE_TEST_ROUND"), worker, i)
				pushImage(t, c, repo(t, "app"), tag, tag)
				mu.Lock()
				fmt.Println("kept", tag)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

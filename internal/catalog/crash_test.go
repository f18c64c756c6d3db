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
		var sound string
		ok(t, c.DB().QueryRowContext(t.Context(), `pragma integrity_check`).Scan(&sound))
		equal(t, sound, "ok")
		ok(t, c.Close())
	}
}

func pushUntilKilled(t *testing.T, dir string) {
	c := must(catalog.Open(t.Context(), "sqlite:"+filepath.Join(dir, "catalog.db")))(t)
	var mu sync.Mutex
	var wg sync.WaitGroup
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

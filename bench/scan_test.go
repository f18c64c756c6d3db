package bench

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver"
)

// decision reads a report's decision.
func decision(report []byte) string {
	var r struct {
		Decision string `json:"decision"`
	}
	if json.Unmarshal(report, &r) != nil {
		return ""
	}
	return r.Decision
}

// measure runs a program to its end: wall time and highest memory. Exit codes up to
// most are as expected.
func measure(b *testing.B, most int, env []string, name string, args ...string) (time.Duration, int64, []byte) {
	b.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	begin := time.Now()
	out, err := cmd.Output()
	took := time.Since(begin)
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() > most || cmd.ProcessState.ExitCode() < 0 {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			b.Fatalf("%s %q: %v: %.2000s", name, args, err, exit.Stderr)
		}
		b.Fatalf("%s %q: %v", name, args, err)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		b.Fatal("this system does not tell the memory of a process")
	}
	return took, usage.Maxrss << 10, out
}

// BenchmarkScan scans `big` without a server and with nothing kept from a run before, in
// turns with trivy, which lists packages only: it has no advisories here.
func BenchmarkScan(b *testing.B) {
	dir := filepath.Join(os.Getenv("IMAGES"), "big")
	image(b, "big")
	bin, trivy := find(b, "PRATIQUE_BIN", "pratique"), find(b, "TRIVY_BIN", "trivy")
	n := rounds(b, 5)
	var ours, theirs []time.Duration
	var ourPeak, theirPeak int64
	var ourPackages, theirPackages int
	for b.Loop() {
		for range n {
			home := b.TempDir()
			took, peak, out := measure(b, 1, []string{"HOME=" + home, "XDG_CACHE_HOME=" + home}, bin, "scan", dir, "-o", "json")
			ours, ourPeak = append(ours, took), max(ourPeak, peak)
			ourPackages = countPackages(b, out)

			took, peak, out = measure(b, 0, nil, trivy, "image", "--input", dir, "--cache-dir", trivyCache(b), "--quiet",
				"--offline-scan", "--skip-db-update", "--skip-java-db-update", "--disable-telemetry", "--skip-version-check",
				"--format", "cyclonedx")
			theirs, theirPeak = append(theirs, took), max(theirPeak, peak)
			theirPackages = countComponents(b, out)
		}
	}
	ratio := float64(median(ours)) / float64(median(theirs))
	row("`scan` of `big`, cold, packages and findings", fmt.Sprintf("%s, %d packages; trivy, packages only, %s, %d packages; ratio %.2f",
		sec(median(ours)), ourPackages, sec(median(theirs)), theirPackages, ratio), "ratio at most 0.75")
	row("`scan` of `big`, highest memory", fmt.Sprintf("%s; trivy %s", mb(ourPeak), mb(theirPeak)), "at most 150 MB")
	b.ReportMetric(ratio, "scan-ratio")
	b.ReportMetric(float64(ourPeak)/1e6, "peak-MB")
}

// trivyCache is a fresh cache folder with a Java index that is empty: without one trivy
// wants to download it and reads no jars.
func trivyCache(b *testing.B) string {
	b.Helper()
	cache := b.TempDir()
	dir := filepath.Join(cache, "java-db")
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	meta := `{"Version":1,"NextUpdate":"2099-01-01T00:00:00Z","UpdatedAt":"2026-11-01T00:00:00Z","DownloadedAt":"2026-11-01T00:00:00Z"}`
	if err := os.WriteFile(filepath.Join(dir, "metadata.json"), []byte(meta), 0o644); err != nil {
		b.Fatal(err)
	}
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "trivy-java.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`create table artifacts(id integer primary key, group_id text, artifact_id text);
		create table indices(artifact_id integer, version text, sha1 blob, archive_type text)`); err != nil {
		b.Fatal(err)
	}
	return cache
}

func countPackages(b *testing.B, report []byte) int {
	b.Helper()
	var r struct {
		Packages []json.RawMessage `json:"packages"`
	}
	if err := json.Unmarshal(report, &r); err != nil {
		b.Fatal(err)
	}
	return len(r.Packages)
}

func countComponents(b *testing.B, bom []byte) int {
	b.Helper()
	var r struct {
		Components []struct {
			Type string `json:"type"`
			PURL string `json:"purl"`
		} `json:"components"`
	}
	if err := json.Unmarshal(bom, &r); err != nil {
		b.Fatal(err)
	}
	n := 0
	for _, c := range r.Components {
		if c.Type == "library" && c.PURL != "" {
			n++
		}
	}
	return n
}

// BenchmarkFirstStart starts the registry on an empty folder: until it answers, and until
// its embedded advisories are loaded.
func BenchmarkFirstStart(b *testing.B) {
	var ready, loaded []time.Duration
	var peak, idle int64
	n := rounds(b, 5)
	for b.Loop() {
		for range n {
			begin := time.Now()
			p := pratique(b, filepath.Join(b.TempDir(), "data"))
			ready = append(ready, time.Since(begin))
			p.awaitAdvisories(b)
			loaded = append(loaded, time.Since(begin))
			peak = max(peak, p.memory(b, "VmHWM"))
			p.stop(b)
		}
		p := pratique(b, loadedData(b))
		time.Sleep(10 * time.Second)
		idle = p.memory(b, "VmRSS")
		p.stop(b)
	}
	row("first start to ready", sec(median(ready)), "under 2 s")
	row("first start to all embedded advisories loaded", sec(median(loaded)), "under 20 s")
	row("server memory, loading the advisories, highest", mb(peak), "under 400 MB")
	row("server memory, idle", mb(idle), "under 60 MB")
	b.ReportMetric(median(ready).Seconds(), "ready-s")
	b.ReportMetric(median(loaded).Seconds(), "loaded-s")
}

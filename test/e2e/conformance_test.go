package e2e

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestConformance runs the Open Container Initiative's suite for the distribution
// specification, whole, for the release and for what its main branch adds: not one leaf of
// it may fail.
func TestConformance(t *testing.T) {
	for _, version := range []string{"1.1", "dev"} {
		t.Run(version, func(t *testing.T) { conformance(t, version) })
	}
}

func conformance(t *testing.T, version string) {
	s := sharedRegistry(t)
	dir := t.TempDir()
	got := command{name: program(t, "conformance"), dir: dir, timeout: 10 * time.Minute, env: []string{
		"OCI_REGISTRY=" + s.addr, "OCI_TLS=disabled", "OCI_USERNAME=admin", "OCI_PASSWORD=" + secret,
		"OCI_RESULTS_DIR=" + dir, "OCI_VERSION=" + version, "OCI_LOG=error",
		// What the specification leaves open and this registry does.
		"OCI_API_BLOBS_DIGEST_HEADER=true", "OCI_API_MANIFESTS_DIGEST_HEADER=true", "OCI_API_BLOBS_UPLOAD_CANCEL=true",
		"OCI_API_MANIFESTS_TAG_PARAM=true", "OCI_REPO1=conformance/" + version + "-1", "OCI_REPO2=conformance/" + version + "-2",
	}}.run(t)

	raw, err := os.ReadFile(filepath.Join(dir, "junit.xml"))
	if err != nil {
		t.Fatalf("the suite left no results (exit code %d): %v\n%s%s", got.code, err, got.stdout, got.stderr)
	}
	passed, skipped := 0, 0
	for _, c := range testCases(t, raw) {
		name := strings.TrimPrefix(c.Name, "OCI Conformance Test/")
		switch c.Status {
		case "passed":
			passed++
		case "failure", "error":
			t.Errorf("%s: %s %s", name, c.Failure, c.Out)
		default:
			skipped++
			t.Logf("%s: %s", name, c.Status)
		}
	}
	t.Logf("%d passed, %d skipped", passed, skipped)
	if passed < 700 {
		t.Errorf("%d tests passed; the suite has more than 700", passed)
	}
	if got.code != 0 {
		t.Errorf("the suite's exit code is %d\n%s%s", got.code, got.stdout, got.stderr)
	}
}

// testCase is one leaf of the suite's report.
type testCase struct {
	Name    string `xml:"name,attr"`
	Status  string `xml:"status,attr"`
	Failure string `xml:"failure"`
	Out     string `xml:"system-out"`
}

func testCases(t *testing.T, raw []byte) []testCase {
	t.Helper()
	var doc struct {
		Suites []struct {
			Cases []testCase `xml:"testcase"`
		} `xml:"testsuite"`
	}
	check(t, xml.Unmarshal(raw, &doc))
	var out []testCase
	for _, s := range doc.Suites {
		out = append(out, s.Cases...)
	}
	return out
}

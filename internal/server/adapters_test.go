package server

import (
	"testing"

	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/report"
)

func TestFindingsAreToldOnce(t *testing.T) {
	a, b := oci.DigestOf(oci.SHA256, []byte("a")), oci.DigestOf(oci.SHA256, []byte("b"))
	one := report.Finding{ID: "CVE-1", Package: "jquery", Version: "3.4.1", Layer: a}
	again, newer := one, one
	again.Layer, newer.Version = b, "3.4.2"
	got := distinct(report.Report{Platforms: []report.Report{
		{Platform: "linux/amd64", Findings: []report.Finding{one, again, newer}},
		{Platform: "linux/arm64", Findings: []report.Finding{one}},
	}})
	if len(got) != 2 || got[0].Version != "3.4.1" || got[0].Platform != "" || got[1].Version != "3.4.2" || got[1].Platform != "linux/amd64" {
		t.Errorf("%+v", got)
	}
}

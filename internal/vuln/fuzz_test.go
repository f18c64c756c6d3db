package vuln

import (
	"math"
	"testing"
)

// FuzzVector: whatever a record gives for a CVSS vector has a rating on the scale, or none.
func FuzzVector(f *testing.F) {
	for _, s := range []string{"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N",
		"CVSS:3.0/AV:L/AC:H/PR:L/UI:R/S:C/C:L/I:L/A:N", "(AV:N/AC:L/Au:N/C:P/I:P/A:P)", "CVSS:9/", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := rateVector("x", s)
		if math.IsNaN(r.Score) || r.Score < 0 || r.Score > 10 || r.Vector != s {
			t.Fatalf("%q: %+v", s, r)
		}
	})
}

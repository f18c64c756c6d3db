package cli

import (
	"testing"
	"time"
)

func TestParseWhen(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		text string
		want time.Time
	}{
		{"90d", now.AddDate(0, 0, 90)},
		{"0d", now},
		{"12h", now.Add(12 * time.Hour)},
		{"2027-01-31", time.Date(2027, 1, 31, 0, 0, 0, 0, time.Local)},
		{"2027-01-31T10:00:00+02:00", time.Date(2027, 1, 31, 8, 0, 0, 0, time.UTC)},
		{"-1d", time.Time{}},
		{"-1h", time.Time{}},
		{"90", time.Time{}},
		{"999999999999d", time.Time{}},
		{"", time.Time{}},
	} {
		got, err := parseWhen(tc.text, now)
		if (err == nil) != !tc.want.IsZero() || !got.Equal(tc.want) {
			t.Errorf("%q: %v, %v; want %v", tc.text, got, err, tc.want)
		}
	}
}

package ociserver_test

import "time"

var testTime = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

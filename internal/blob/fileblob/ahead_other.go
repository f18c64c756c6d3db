//go:build !linux

package fileblob

// writeAhead is for Linux alone; elsewhere a Sync has all to do.
func writeAhead(file, int64, int64) {}

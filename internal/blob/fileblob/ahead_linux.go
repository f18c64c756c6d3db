package fileblob

import (
	"os"
	"syscall"
)

// syncRangeWrite is SYNC_FILE_RANGE_WRITE of sync_file_range(2): begin to write, do not wait.
const syncRangeWrite = 2

// writeAhead has the kernel begin to write a part of a file to the disk. It is a hint: what
// comes of it the next Sync tells.
func writeAhead(f file, from, size int64) {
	real, ok := f.(*os.File)
	if !ok {
		return
	}
	if raw, err := real.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = syscall.SyncFileRange(int(fd), from, size, syncRangeWrite) })
	}
}

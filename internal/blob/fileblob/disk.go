package fileblob

import (
	"io"
	"io/fs"
	"os"
)

// disk is what a Store does to its folder. There is one but for tests, which let each
// operation fail in turn, or lose what was not synced.
type disk interface {
	// OpenFile opens or makes a file or opens a folder, as os.OpenFile does.
	OpenFile(name string, flag int, perm fs.FileMode) (file, error)
	MkdirAll(name string, perm fs.FileMode) error
	Rename(from, to string) error
	Remove(name string) error
	Stat(name string) (fs.FileInfo, error)
	// FS is the folder for reading lists.
	FS() fs.FS
	Close() error
}

// file is an open file or folder of a disk; on a real one it is an *os.File.
type file interface {
	io.ReadWriteSeeker
	io.Closer
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Sync() error
}

// folder is the real disk: no name, whatever it holds, leads out of it.
type folder struct{ *os.Root }

// OpenFile implements disk.
func (f folder) OpenFile(name string, flag int, perm fs.FileMode) (file, error) {
	opened, err := f.Root.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err // a nil *os.File in an interface would not be nil
	}
	return opened, nil
}

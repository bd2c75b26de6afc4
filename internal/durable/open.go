package durable

import (
	"fmt"
	"io/fs"
	"os"
)

// Open opens a regular file for reading. It refuses named pipes, devices and symbolic
// links with an error that wraps fs.ErrInvalid, and never blocks on them.
func Open(path string) (*os.File, error) { return openAs(plain{}, path, os.O_RDONLY, regular) }

// OpenIn is [Open] with name relative to root.
func OpenIn(root *os.Root, name string) (*os.File, error) {
	return openAs(root, name, os.O_RDONLY, regular)
}

// OpenDirIn opens a folder with name relative to root; it refuses other files.
func OpenDirIn(root *os.Root, name string) (*os.File, error) {
	return openAs(root, name, os.O_RDONLY, fs.FileInfo.IsDir)
}

// Ours reports whether a file is a regular file that belongs to this user, has only one
// name and is not writable by others. Otherwise another user could have put it there,
// could have linked a file of this user into another folder, or could change it later.
// On systems without file owners every regular file is ours.
func Ours(fi fs.FileInfo) bool { return regular(fi) && ours(fi) }

func regular(fi fs.FileInfo) bool { return fi.Mode().IsRegular() }

// openAs opens a file only if it is of the wanted kind. It checks before opening,
// because opening some devices has effects, and after it, because the file may have
// been replaced in between; noWait prevents blocking on such a file.
func openAs(in folder, name string, flag int, kind func(fs.FileInfo) bool) (*os.File, error) {
	other := &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("unexpected kind of file: %w", fs.ErrInvalid)}
	// A writer may legitimately replace the file between two steps. The next try then
	// opens the new file.
	for range 100 {
		was, err := in.Lstat(name)
		if err != nil {
			return nil, err
		}
		if !kind(was) {
			return nil, other
		}
		f, err := in.OpenFile(name, flag|noWait|noFollow, 0)
		if err != nil {
			return nil, err
		}
		is, err := f.Stat()
		if err == nil && kind(is) && os.SameFile(was, is) {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
		if !kind(is) {
			return nil, other
		}
	}
	return nil, other
}

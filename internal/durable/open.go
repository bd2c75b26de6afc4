package durable

import (
	"fmt"
	"io/fs"
	"os"
)

// Open opens a regular file for reading, and nothing else: a named pipe, a device
// or a symbolic link with its name is refused with an error that wraps
// fs.ErrInvalid, and is not waited for.
func Open(path string) (*os.File, error) { return openAs(plain{}, path, os.O_RDONLY, regular) }

// OpenIn is [Open] with name relative to root.
func OpenIn(root *os.Root, name string) (*os.File, error) {
	return openAs(root, name, os.O_RDONLY, regular)
}

// OpenDirIn opens a folder, and nothing else, with name relative to root.
func OpenDirIn(root *os.Root, name string) (*os.File, error) {
	return openAs(root, name, os.O_RDONLY, fs.FileInfo.IsDir)
}

// Ours reports whether a file is a regular one that belongs to this user, has one
// name only and cannot be written to by everybody: others could have put theirs in
// its place, have given a name in their folder to another file of this user, or
// could change it later. Where files have no owner that could be told, a regular
// file is ours.
func Ours(fi fs.FileInfo) bool { return regular(fi) && ours(fi) }

func regular(fi fs.FileInfo) bool { return fi.Mode().IsRegular() }

// openAs opens what has the name only where it is of the wanted kind. It looks
// before, because the opening of some devices has effects, and after, because
// something else may have taken the name in between; noWait keeps that from being
// waited for.
func openAs(in folder, name string, flag int, kind func(fs.FileInfo) bool) (*os.File, error) {
	other := &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("not the kind of file that belongs here: %w", fs.ErrInvalid)}
	// A writer may replace the file between two of the steps, which is no attack:
	// then the next try finds the new one.
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

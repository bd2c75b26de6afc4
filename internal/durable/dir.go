package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// WriteFile gives path the content data, durably and at once. perm is taken as
// it is, without the umask. The folder must exist. Writers of the same path
// don't disturb each other: one of their contents stays, whole.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	f, err := Create(path)
	return write(f, err, data, perm)
}

// WriteFileIn is [WriteFile] with name relative to root.
func WriteFileIn(root *os.Root, name string, data []byte, perm fs.FileMode) error {
	f, err := CreateIn(root, name)
	return write(f, err, data, perm)
}

func write(f *File, err error, data []byte, perm fs.FileMode) error {
	if err != nil {
		return err
	}
	defer f.Abort()
	f.SetPerm(perm)
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit()
}

// MkdirAll makes the folder dir and those above it that are missing, and flushes
// their names.
func MkdirAll(dir string, perm fs.FileMode) error {
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(dir, perm) // which says what is wrong, if it is not a folder
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(parent)
}

// SyncDir flushes the names in dir: files created, renamed and removed there.
// Where folders can't be flushed, or this one may not be opened, it does nothing and
// reports no error.
func SyncDir(dir string) error {
	_, err := syncDir(plain{}, dir)
	return err
}

// SyncDirIn is [SyncDir] with dir relative to root, "." for the root itself.
func SyncDirIn(root *os.Root, dir string) error {
	_, err := syncDir(root, dir)
	return err
}

// syncDir returns as skipped why a folder was not flushed that may be written to.
func syncDir(in folder, dir string) (skipped, err error) {
	switch runtime.GOOS {
	case "windows", "plan9", "js", "wasip1":
		return nil, nil
	}
	d, err := openFolder(in, dir)
	if errors.Is(err, fs.ErrPermission) {
		return err, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	err = flush(d)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
		return nil, nil // the file system's way of saying that it does not do this
	}
	return nil, err
}

const (
	tempPrefix = ".visum-"
	tempSuffix = ".tmp"
)

// IsTemp reports whether the last element of name is one that this package
// gives to temporary files.
func IsTemp(name string) bool { return hasForm(name, tempSuffix) }

func hasForm(name, suffix string) bool {
	name, ok := strings.CutPrefix(filepath.Base(name), tempPrefix)
	name, ok2 := strings.CutSuffix(name, suffix)
	return ok && ok2 && len(name) == 16 && strings.Trim(name, "0123456789abcdef") == ""
}

// RemoveTemp removes from dir, and not from folders in it, what interrupted
// writes have left: regular files with a name of ours, last written before
// olderThan. A write that still goes on is taken for a leftover when it wrote
// nothing since then, and fails at its commit; so leave it some hours.
// A dir that does not exist has no leftovers. The first error is returned after
// everything has been tried.
func RemoveTemp(dir string, olderThan time.Time) error {
	entries, err := readFolder(dir)
	return removeTemp(plain{}, dir, entries, err, IsTemp, olderThan)
}

// openFolder opens a folder, which a symbolic link may lead to.
func openFolder(in folder, dir string) (*os.File, error) {
	d, err := in.OpenFile(dir, os.O_RDONLY|noWait, 0)
	if err != nil {
		return nil, err
	}
	if fi, err := d.Stat(); err != nil || !fi.IsDir() {
		d.Close()
		return nil, errors.Join(err, &fs.PathError{Op: "open", Path: dir, Err: fmt.Errorf("not a folder: %w", fs.ErrInvalid)})
	}
	return d, nil
}

func readFolder(dir string) ([]fs.DirEntry, error) {
	d, err := openFolder(plain{}, dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.ReadDir(-1)
}

// RemoveTempIn is [RemoveTemp] with dir relative to root.
func RemoveTempIn(root *os.Root, dir string, olderThan time.Time) error {
	d, err := OpenDirIn(root, dir)
	if err != nil {
		return removeTemp(root, dir, nil, err, IsTemp, olderThan)
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	return removeTemp(root, dir, entries, err, IsTemp, olderThan)
}

func removeTemp(in folder, dir string, entries []fs.DirEntry, err error, mine func(name string) bool, olderThan time.Time) error {
	err = ignoreAbsent(err)
	for _, e := range entries {
		if !mine(e.Name()) || !e.Type().IsRegular() {
			continue
		}
		info, err2 := e.Info()
		if err2 == nil && info.ModTime().Before(olderThan) {
			err2 = in.Remove(filepath.Join(dir, e.Name()))
		}
		// Somebody else may clean up too.
		if err == nil {
			err = ignoreAbsent(err2)
		}
	}
	return err
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

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

// WriteFile atomically and durably sets the content of path. It ignores the umask for
// perm. The folder must exist. Concurrent writers of a path do not interfere: the
// content of one of them remains, whole.
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

// MkdirAll creates the folder dir and its missing parents, and flushes their names.
func MkdirAll(dir string, perm fs.FileMode) error {
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(dir, perm) // returns the right error if dir is not a folder
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

// SyncDir flushes the names in dir: created, renamed and removed files. It does
// nothing, without an error, if folders can't be flushed or dir may not be opened.
func SyncDir(dir string) error {
	_, err := syncDir(plain{}, dir)
	return err
}

// SyncDirIn is [SyncDir] with dir relative to root, "." for the root itself.
func SyncDirIn(root *os.Root, dir string) error {
	_, err := syncDir(root, dir)
	return err
}

// syncDir returns in skipped why a folder was not flushed that may not be opened.
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
		return nil, nil // not supported by the file system
	}
	return nil, err
}

const (
	tempPrefix = ".visum-"
	tempSuffix = ".tmp"
)

// IsTemp reports whether the last element of name has the form of this package's
// temporary files.
func IsTemp(name string) bool { return hasForm(name, tempSuffix) }

func hasForm(name, suffix string) bool {
	name, ok := strings.CutPrefix(filepath.Base(name), tempPrefix)
	name, ok2 := strings.CutSuffix(name, suffix)
	return ok && ok2 && len(name) == 16 && strings.Trim(name, "0123456789abcdef") == ""
}

// RemoveTemp removes temporary files of interrupted writes from dir, not from its
// subfolders: regular files with such a name, last written before olderThan. A
// running write that wrote nothing since then fails at its commit, so olderThan
// should be some hours ago. If dir does not exist, there is nothing to remove.
// RemoveTemp tries to remove all files and returns the first error.
func RemoveTemp(dir string, olderThan time.Time) error {
	entries, err := readFolder(dir)
	return removeTemp(plain{}, dir, entries, err, IsTemp, olderThan)
}

// openFolder opens a folder; the last element may be a symbolic link.
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
		// Another process may remove them at the same time.
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

package durable

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
)

// folder has the operations of a write. *os.Root implements it; plain implements it
// with plain paths, because os.Root does not work everywhere.
type folder interface {
	OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error)
	Rename(from, to string) error
	Link(from, to string) error
	Lstat(name string) (fs.FileInfo, error)
	Remove(name string) error
}

// flush is a variable so that tests can observe it.
var flush = (*os.File).Sync

type plain struct{}

func (plain) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, perm)
}
func (plain) Rename(from, to string) error           { return os.Rename(from, to) }
func (plain) Link(from, to string) error             { return os.Link(from, to) }
func (plain) Lstat(name string) (fs.FileInfo, error) { return os.Lstat(name) }
func (plain) Remove(name string) error               { return os.Remove(name) }

// File is a file being written. Commit or CommitNew gives it its name, Abort removes
// it, Keep leaves it for later; each of them ends the File. It is not safe for
// concurrent use.
type File struct {
	in   folder
	f    *os.File // nil once ended
	temp string
	name string
	perm fs.FileMode
	err  error // the first failed write; prevents the commit
	left bool  // a part that could not be renamed still exists

	skipped []error
}

// Create starts writing a file that the commit will name path. The folder must exist.
// Until the commit path does not change, and only the owner can read the file.
func Create(path string) (*File, error) { return create(plain{}, path, randomName(tempSuffix)) }

// CreateIn is [Create] with name relative to root.
func CreateIn(root *os.Root, name string) (*File, error) {
	return create(root, name, randomName(tempSuffix))
}

func randomName(suffix string) string {
	var r [8]byte
	rand.Read(r[:])
	return tempPrefix + hex.EncodeToString(r[:]) + suffix
}

func create(in folder, name, temp string) (*File, error) {
	temp = filepath.Join(filepath.Dir(name), temp)
	f, err := in.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	file := &File{in: in, f: f, temp: temp, name: name, perm: 0o644}
	if err != nil {
		return nil, file.named(err)
	}
	return file, nil
}

// named returns err with the final name instead of the temporary one.
func (f *File) named(err error) error {
	switch e := err.(type) {
	case *fs.PathError:
		return &fs.PathError{Op: e.Op, Path: f.name, Err: e.Err}
	case *os.LinkError:
		return &fs.PathError{Op: e.Op, Path: f.name, Err: e.Err}
	}
	return err
}

// Skipped returns the steps that were skipped, nil for none: permissions that could
// not be set or determined, and the flush of a folder that could not be opened.
func (f *File) Skipped() error { return errors.Join(f.skipped...) }

func (f *File) skip(err error) {
	if err != nil {
		f.skipped = append(f.skipped, f.named(err))
	}
}

// refused reports whether the system or the file system does not support an
// operation: sandboxes, network mounts and file systems without permissions refuse
// chmod or opening a folder.
func refused(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL)
}

// SetPerm sets the permissions of the file at its commit; the default is 0644. The
// umask is ignored, because publishing and serving often run as different users.
func (f *File) SetPerm(perm fs.FileMode) { f.perm = perm.Perm() }

// KeepPerm sets the permissions that other programs would use: those of the existing
// regular file with the name, or else 0666 without the umask. Others never get write
// permission, nor does the group if a file of another user grants it. On Windows
// permissions do not change. If the umask can't be determined, only the owner gets
// permissions.
func (f *File) KeepPerm() {
	if runtime.GOOS == "windows" {
		return
	}
	fi, err := f.in.Lstat(f.name)
	switch {
	case err == nil && regular(fi) && owned(fi):
		f.SetPerm(fi.Mode() &^ 0o002)
	case err == nil && regular(fi):
		f.SetPerm(fi.Mode()&^0o022 | 0o600)
	default:
		f.SetPerm(f.umasked() &^ 0o002)
	}
}

// umasked returns 0666 without the umask. It creates a file to determine the umask.
func (f *File) umasked() fs.FileMode {
	name := filepath.Join(filepath.Dir(f.name), randomName(tempSuffix))
	trial, err := f.in.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		f.skip(err)
		return 0o600
	}
	defer func() {
		trial.Close()
		f.skip(f.in.Remove(name)) // after an error RemoveTemp removes it
	}()
	fi, err := trial.Stat()
	if err != nil {
		f.skip(err)
		return 0o600
	}
	return fi.Mode()
}

// Write appends to the file. After an error the file can't be committed.
func (f *File) Write(p []byte) (int, error) {
	switch {
	case f.f == nil:
		return 0, f.ended("write")
	case f.err != nil:
		return 0, f.err
	}
	n, err := f.f.Write(p)
	f.err = f.named(err)
	return n, f.err
}

// ReadAt reads written bytes, until the File is ended.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if f.f == nil {
		return 0, f.ended("read")
	}
	n, err := f.f.ReadAt(p, off)
	return n, f.named(err)
}

// Commit gives the file its name and replaces an existing file. It ignores two
// failures, which [File.Skipped] returns: if the system refuses to set permissions,
// the file keeps its own, usually 0600; and a folder that may not be opened is not
// flushed. A part that can't be renamed remains, flushed, see [File.Keep].
func (f *File) Commit() error { return f.commit(replace) }

// CommitNew gives the file its name if no file has it. At most one of several
// processes succeeds; the others get an error that is [fs.ErrExist].
//
// It links the finished file. On file systems without hard links (FAT, some network
// mounts) it checks the name and then renames. Goroutines of one process still exclude
// each other then, but processes need a [Lock].
func (f *File) CommitNew() error { return f.commit(place) }

// Abort removes the file. After a commit, successful or not, it does nothing, so it
// can be deferred.
func (f *File) Abort() {
	if f.f == nil {
		return
	}
	f.f.Close()
	f.f = nil
	f.in.Remove(f.temp)
}

func (f *File) commit(move func(in folder, from, to string) error) error {
	if f.f == nil {
		return f.ended("commit")
	}
	defer f.Abort()
	if f.err != nil {
		return f.err
	}
	// Permissions are set before the flush, so that both are durable.
	if err := f.setPerm(); err != nil {
		return f.named(err)
	}
	if err := flush(f.f); err != nil {
		return f.named(err)
	}
	// Closed before the rename: Windows does not rename open files, and some file
	// systems report failed writes only when closing.
	err := f.f.Close()
	f.f = nil
	if err == nil {
		if err = move(f.in, f.temp, f.name); err != nil && IsPart(f.temp) {
			f.left = true
			return f.named(err)
		}
	}
	if err != nil {
		f.in.Remove(f.temp)
		return f.named(err)
	}
	skipped, err := syncDir(f.in, filepath.Dir(f.name))
	f.skip(skipped)
	return err
}

func (f *File) setPerm() error {
	if fi, err := f.f.Stat(); err == nil && fi.Mode().Perm() == f.perm {
		return nil
	}
	err := f.f.Chmod(f.perm)
	if refused(err) {
		f.skip(err)
		return nil
	}
	return err
}

func (f *File) ended(op string) error {
	return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
}

func replace(in folder, from, to string) error {
	return Retry(func() error { return in.Rename(from, to) })
}

// placing serialises check and rename among the goroutines of this process.
var placing sync.Mutex

func place(in folder, from, to string) error {
	err := Retry(func() error { return in.Link(from, to) })
	if err == nil {
		in.Remove(from) // after an error RemoveTemp removes this second name
		return nil
	}
	if errors.Is(err, fs.ErrExist) {
		return taken(to)
	}
	// Systems report missing link support in many ways (not supported, not permitted,
	// invalid function). After any other error the rename fails too.
	placing.Lock()
	defer placing.Unlock()
	switch _, err := in.Lstat(to); {
	case err == nil:
		return taken(to)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return replace(in, from, to)
}

func taken(name string) error {
	return &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
}

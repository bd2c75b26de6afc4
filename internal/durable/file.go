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

// folder is what a write needs of the place it happens in. *os.Root is one; the
// plain file system is another, because os.Root does not work everywhere that
// plain paths do.
type folder interface {
	OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error)
	Rename(from, to string) error
	Link(from, to string) error
	Lstat(name string) (fs.FileInfo, error)
	Remove(name string) error
}

// flush is a variable for the tests to listen to.
var flush = (*os.File).Sync

type plain struct{}

func (plain) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, perm)
}
func (plain) Rename(from, to string) error           { return os.Rename(from, to) }
func (plain) Link(from, to string) error             { return os.Link(from, to) }
func (plain) Lstat(name string) (fs.FileInfo, error) { return os.Lstat(name) }
func (plain) Remove(name string) error               { return os.Remove(name) }

// File is a file being written. Commit or CommitNew gives it its name, Abort
// drops it, Keep leaves it for later; each ends the File. Not for concurrent use.
type File struct {
	in   folder
	f    *os.File // nil once ended
	temp string
	name string
	perm fs.FileMode
	err  error // first failed write: what follows it must not be committed
	left bool  // a part that could not get its name lies there still

	skipped []error
}

// Create begins a file that will be called path. The folder must exist. Until
// the commit path is untouched, and only the owner may read what is written.
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

// named is err with the file's name in the place of the temporary one, which says
// nothing to whoever reads it.
func (f *File) named(err error) error {
	switch e := err.(type) {
	case *fs.PathError:
		return &fs.PathError{Op: e.Op, Path: f.name, Err: e.Err}
	case *os.LinkError:
		return &fs.PathError{Op: e.Op, Path: f.name, Err: e.Err}
	}
	return err
}

// Skipped is what was done without, nil for nothing: permissions that could not be
// set or found out, and the flush of a folder that could not be opened.
func (f *File) Skipped() error { return errors.Join(f.skipped...) }

func (f *File) skip(err error) {
	if err != nil {
		f.skipped = append(f.skipped, f.named(err))
	}
}

// refused reports whether a system or a file system does not do what was asked for:
// sandboxes, network mounts and file systems without permissions refuse chmod, or to
// open a folder, for good.
func refused(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL)
}

// SetPerm sets the permissions the file will have at its commit; 0644 unless
// set. They are taken as they are, without the umask: who publishes and who
// serves are often different users.
func (f *File) SetPerm(perm fs.FileMode) { f.perm = perm.Perm() }

// KeepPerm sets the permissions as a program that writes a file of its own would:
// those of the regular file that has the name now, else those that the umask leaves
// of 0666. Users who are neither owner nor in the group never get the right to write,
// nor does the group because a file of another user says so. On Windows permissions
// stay as they are. Where the umask can't be found out, only the owner gets rights.
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

// umasked is what the umask leaves of 0666, which can't be asked for, only tried out.
func (f *File) umasked() fs.FileMode {
	name := filepath.Join(filepath.Dir(f.name), randomName(tempSuffix))
	trial, err := f.in.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		f.skip(err)
		return 0o600
	}
	defer func() {
		trial.Close()
		f.skip(f.in.Remove(name)) // else RemoveTemp can have it
	}()
	fi, err := trial.Stat()
	if err != nil {
		f.skip(err)
		return 0o600
	}
	return fi.Mode()
}

// Write appends to the file. After an error the file can only be dropped.
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

// ReadAt reads back what was written, until the File is ended.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if f.f == nil {
		return 0, f.ended("read")
	}
	n, err := f.f.ReadAt(p, off)
	return n, f.named(err)
}

// Commit gives the file its name, in place of whatever had it. Permissions that the
// system refuses to set are passed over: the file keeps those that it has, which are
// 0600 where there are any; so is the flush of a folder that may not be opened. See
// [RootFile.Skipped]. A part that can't get its name stays, flushed, see [RootFile.Keep].
func (f *File) Commit() error { return f.commit(replace) }

// CommitNew gives the file its name if nobody has it: of several processes at
// most one succeeds and the others get an error that is [fs.ErrExist].
//
// It links the finished file. Where the file system has no hard links (FAT,
// some network mounts) it looks and then renames: goroutines of one process
// still exclude each other, but processes that must, have to hold a [Lock].
func (f *File) CommitNew() error { return f.commit(place) }

// Abort drops the file. After a commit, failed or not, it does nothing, so it
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
	// Permissions before the flush, which makes both of them durable.
	if err := f.setPerm(); err != nil {
		return f.named(err)
	}
	if err := flush(f.f); err != nil {
		return f.named(err)
	}
	// Closed before the move: Windows does not rename an open file, and some
	// file systems tell of a failed write only here.
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

// placing orders the look and the rename of the goroutines of this process.
var placing sync.Mutex

func place(in folder, from, to string) error {
	err := Retry(func() error { return in.Link(from, to) })
	if err == nil {
		in.Remove(from) // a second name of a published file: RemoveTemp can have it
		return nil
	}
	if errors.Is(err, fs.ErrExist) {
		return taken(to)
	}
	// Systems say in many ways that they have no links (not supported, not
	// permitted, invalid function). If it was something else, rename says so too.
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

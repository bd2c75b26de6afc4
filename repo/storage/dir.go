package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"github.com/visum-dev/visum/internal/ctxio"
	"github.com/visum-dev/visum/internal/durable"
)

const (
	lockName = ".lock"
	// A temporary file that has not changed for so long is considered abandoned.
	leftoverAge = 24 * time.Hour
)

// Dir returns the storage in a directory of a file system. The first write creates the
// directory. The storage needs no closing. Any number of handles and processes may use
// the directory at the same time. Writes are flushed to disk.
//
// Files are world-readable (0644), so that a web server can serve them directly. The
// web server should not serve names that begin with a dot: ".lock" is the lock of
// publishers, and ".visum-*.tmp" are files being written. A later write to the same
// directory removes temporary files of a dead publisher after a day. Publishers that
// run as different users need a common group with write access to the directories and
// read access to ".lock".
//
// Symbolic links may point to other names inside the directory, never outside it.
// Writes fail on file systems without file locks, because concurrent publishers would
// not be safe there.
func Dir(dir string) Storage {
	d := &directory{ready: map[string]bool{}}
	// Make the path absolute now: the process may change its working directory later.
	if dir == "" {
		d.err = fmt.Errorf("storage: directory: empty name: %w", fs.ErrInvalid)
	} else if d.dir, d.err = filepath.Abs(dir); d.err != nil {
		d.err = fmt.Errorf("storage: directory: %w", d.err)
	}
	return d
}

type directory struct {
	dir string
	err error

	mu    sync.Mutex
	ready map[string]bool // subdirectories this handle has prepared
}

func (d *directory) Read(ctx context.Context, name string) ([]byte, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	root, err := d.open(ctx, name, false)
	if err != nil {
		return nil, failed("read", name, err)
	}
	defer root.Close()
	data, err := read(root, name)
	if err != nil {
		return nil, failed("read", name, err)
	}
	return data, nil
}

func (d *directory) Create(ctx context.Context, name string, r io.Reader) error {
	if err := CheckName(name); err != nil {
		return err
	}
	root, err := d.open(ctx, name, true)
	if err != nil {
		return failed("create", name, err)
	}
	defer root.Close()
	if err := d.create(ctx, root, name, ctxio.NewReader(ctx, r)); err != nil {
		return failed("create", name, err)
	}
	return nil
}

func (d *directory) create(ctx context.Context, root *os.Root, name string, r io.Reader) error {
	// An existing file is compared without writing a second copy to disk.
	there, err := openRegular(root, name)
	if err == nil {
		defer there.Close()
		return d.again(ctx, root, name, there, r)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	w, err := durable.CreateIn(root, name)
	if err != nil {
		return err
	}
	defer w.Abort()
	n, err := io.Copy(w, r)
	if err != nil {
		return err
	}
	placed, err := d.commit(ctx, root, name, w)
	if placed || err != nil {
		return err
	}
	// Another writer was faster. Compare without the lock, since this may take long.
	if there, err = openRegular(root, name); err != nil {
		return err
	}
	defer there.Close()
	return d.again(ctx, root, name, there, io.NewSectionReader(w, 0, n))
}

// again completes a Create of an existing file.
func (d *directory) again(ctx context.Context, root *os.Root, name string, there *os.File, r io.Reader) error {
	if err := compare(there, r); err != nil {
		return err
	}
	unlock, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return freshen(root, name, there)
}

// commit commits w under the lock, unless name is taken.
func (d *directory) commit(ctx context.Context, root *os.Root, name string, w *durable.File) (placed bool, err error) {
	unlock, err := d.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	if _, err := root.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, w.CommitNew()
}

func (d *directory) Replace(ctx context.Context, name string, old, new []byte) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if len(new) > MaxRead {
		return failed("replace", name, errLarge)
	}
	root, err := d.open(ctx, name, true)
	if err != nil {
		return failed("replace", name, err)
	}
	defer root.Close()
	if err := d.replace(ctx, root, name, old, new); err != nil {
		return failed("replace", name, err)
	}
	return nil
}

func (d *directory) replace(ctx context.Context, root *os.Root, name string, old, new []byte) error {
	// Write before locking, so that other writers wait for the rename only.
	w, err := durable.CreateIn(root, name)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(new); err != nil {
		return err
	}
	unlock, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := read(root, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if old != nil {
			return fmt.Errorf("%w: the file does not exist any more", ErrConflict)
		}
	case errors.Is(err, errLarge): // no Replace wrote it, so it is not old
		return ErrConflict
	case err != nil:
		return err
	case old == nil || !bytes.Equal(now, old):
		return ErrConflict
	}
	return w.Commit()
}

// open opens the directory. For a write it also creates and prepares the subdirectory
// of name.
func (d *directory) open(ctx context.Context, name string, write bool) (*os.Root, error) {
	if d.err != nil {
		return nil, d.err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if write {
		if err := durable.MkdirAll(d.dir, 0o777); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(d.dir)
	if err != nil || !write {
		return root, err
	}
	if err := d.prepare(root, path.Dir(name)); err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// prepare creates the subdirectory sub. Once per handle it also flushes its parent
// directories, which a process that died may have created, and removes abandoned
// temporary files from it.
func (d *directory) prepare(root *os.Root, sub string) error {
	if err := root.MkdirAll(sub, 0o777); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ready[sub] {
		return nil
	}
	for dir := path.Dir(sub); ; dir = path.Dir(dir) {
		if err := durable.SyncDirIn(root, dir); err != nil {
			return err
		}
		if dir == "." {
			break
		}
	}
	// Abandoned files only take space, so a failure to remove them is not an error.
	_ = durable.RemoveTempIn(root, sub, time.Now().Add(-leftoverAge))
	d.ready[sub] = true
	return nil
}

func (d *directory) lock(ctx context.Context) (func(), error) {
	return durable.Lock(ctx, filepath.Join(d.dir, lockName))
}

func failed(op, name string, err error) error {
	return fmt.Errorf("storage: %s %s: %w", op, name, err)
}

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
	folderLock = ".lock"
	// A write that has not moved for so long is taken for dead.
	leftoverAge = 24 * time.Hour
)

// Folder is the storage in a folder of a file system, made with the first
// write. Nothing needs to be closed. Any number of handles and processes may
// use it at once; what was written is flushed to the disk.
//
// Files are readable to everybody (0644), for a web server to serve them as
// they are; it should not serve names that begin with a dot: ".lock" excludes
// other publishers while a file gets its name, and ".visum-*.tmp" are files
// being written. Those of a publisher that died are removed by a later write in
// the same folder, after a day. Publishers of different users must share a
// group that may write the folders and read ".lock".
//
// Symbolic links inside may lead to other places inside, never out of it.
// On file systems without hard links or file locks see package durable: without
// locks there is no safe second publisher, so writes fail there.
func Dir(dir string) Storage {
	f := &folder{ready: map[string]bool{}}
	// Absolute now: the process may change its working directory later.
	if dir == "" {
		f.err = fmt.Errorf("storage: folder: empty name: %w", fs.ErrInvalid)
	} else if f.dir, f.err = filepath.Abs(dir); f.err != nil {
		f.err = fmt.Errorf("storage: folder: %w", f.err)
	}
	return f
}

type folder struct {
	dir string
	err error

	mu    sync.Mutex
	ready map[string]bool // sub-folders this handle has prepared
}

func (f *folder) Read(ctx context.Context, name string) ([]byte, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	root, err := f.open(ctx, name, false)
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

func (f *folder) Create(ctx context.Context, name string, r io.Reader) error {
	if err := CheckName(name); err != nil {
		return err
	}
	root, err := f.open(ctx, name, true)
	if err != nil {
		return failed("create", name, err)
	}
	defer root.Close()
	if err := f.create(ctx, root, name, ctxio.NewReader(ctx, r)); err != nil {
		return failed("create", name, err)
	}
	return nil
}

func (f *folder) create(ctx context.Context, root *os.Root, name string, r io.Reader) error {
	// A file that is there needs no second copy on the disk to be compared.
	there, err := openRegular(root, name)
	if err == nil {
		defer there.Close()
		return f.again(ctx, root, name, there, r)
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
	placed, err := f.place(ctx, root, name, w)
	if placed || err != nil {
		return err
	}
	// Somebody was faster. The lock is free again: comparing may take long.
	if there, err = openRegular(root, name); err != nil {
		return err
	}
	defer there.Close()
	return f.again(ctx, root, name, there, io.NewSectionReader(w, 0, n))
}

// again is the Create of what is there already.
func (f *folder) again(ctx context.Context, root *os.Root, name string, there *os.File, r io.Reader) error {
	if err := compare(there, r); err != nil {
		return err
	}
	unlock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return freshen(root, name, there)
}

// place commits w under the lock, unless name is taken.
func (f *folder) place(ctx context.Context, root *os.Root, name string, w *durable.File) (placed bool, err error) {
	unlock, err := f.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	if _, err := root.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, w.CommitNew()
}

func (f *folder) Replace(ctx context.Context, name string, old, new []byte) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if len(new) > MaxRead {
		return failed("replace", name, errLarge)
	}
	root, err := f.open(ctx, name, true)
	if err != nil {
		return failed("replace", name, err)
	}
	defer root.Close()
	if err := f.replace(ctx, root, name, old, new); err != nil {
		return failed("replace", name, err)
	}
	return nil
}

func (f *folder) replace(ctx context.Context, root *os.Root, name string, old, new []byte) error {
	// Written before the lock is taken: the others wait for a rename only.
	w, err := durable.CreateIn(root, name)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(new); err != nil {
		return err
	}
	unlock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := read(root, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if old != nil {
			return fmt.Errorf("%w: the file is gone", ErrConflict)
		}
	case errors.Is(err, errLarge): // not ours, and not what old can be
		return ErrConflict
	case err != nil:
		return err
	case old == nil || !bytes.Equal(now, old):
		return ErrConflict
	}
	return w.Commit()
}

// open opens the folder; for a write it also makes and
// prepares the sub-folder that name is in.
func (f *folder) open(ctx context.Context, name string, write bool) (*os.Root, error) {
	if f.err != nil {
		return nil, f.err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if write {
		if err := durable.MkdirAll(f.dir, 0o777); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(f.dir)
	if err != nil || !write {
		return root, err
	}
	if err := f.prepare(root, path.Dir(name)); err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// prepare makes the sub-folder sub. Once for each handle it also flushes the
// folders on the way to it, which somebody may have made and died, and removes
// what dead writers have left in it.
func (f *folder) prepare(root *os.Root, sub string) error {
	if err := root.MkdirAll(sub, 0o777); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ready[sub] {
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
	// Leftovers only take space; a write does not fail for them.
	_ = durable.RemoveTempIn(root, sub, time.Now().Add(-leftoverAge))
	f.ready[sub] = true
	return nil
}

func (f *folder) lock(ctx context.Context) (func(), error) {
	return durable.Lock(ctx, filepath.Join(f.dir, folderLock))
}

func failed(op, name string, err error) error {
	return fmt.Errorf("storage: %s %s: %w", op, name, err)
}

package client

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
	"time"

	"github.com/visum-dev/visum/internal/durable"
)

// DirStore returns a Store in the directory dir, which is created if absent; its parent
// must be writable then.
//
// An attacker with write access to dir can make clients forget their state, but cannot
// make them write elsewhere: links that lead outside are not followed, and anything
// that occupies the name of a file is replaced.
func DirStore(dir string) Store { return dirStore{dir} }

type dirStore struct{ dir string }

func (f dirStore) Lock(ctx context.Context) (func(), error) {
	if err := durable.MkdirAll(f.dir, 0o700); err != nil {
		return nil, err
	}
	lock := filepath.Join(f.dir, "lock")
	if fi, err := os.Lstat(lock); err == nil && !fi.Mode().IsRegular() {
		// No process holds such a lock: durable refuses it.
		if err := os.RemoveAll(lock); err != nil {
			return nil, err
		}
	}
	unlock, err := durable.Lock(ctx, lock)
	if err != nil {
		return nil, err
	}
	// Temporary files of killed processes only take space, so a failure to remove them
	// is ignored.
	_ = f.in(func(root *os.Root) error {
		for _, d := range []string{".", "roots", "roles", "evidence", "recovery", "trying"} {
			_ = durable.RemoveTempIn(root, d, time.Now().Add(-time.Hour))
		}
		return nil
	})
	return unlock, nil
}

// in calls fn with the directory opened as a root that no link leads out of.
func (f dirStore) in(fn func(*os.Root) error) error {
	// Opening a named pipe would block.
	if fi, err := os.Stat(f.dir); err != nil {
		return err
	} else if !fi.IsDir() {
		return &fs.PathError{Op: "open", Path: f.dir, Err: fmt.Errorf("not a folder: %w", fs.ErrInvalid)}
	}
	root, err := os.OpenRoot(f.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fn(root)
}

func notFolder(root *os.Root, name string) bool {
	fi, err := root.Lstat(name)
	return err != nil || !fi.IsDir()
}

func (f dirStore) Read(name string, limit int64) (data []byte, err error) {
	absent := &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	if !storeName(name) {
		return nil, absent
	}
	err = f.in(func(root *os.Root) error {
		if dir := path.Dir(name); notFolder(root, dir) {
			return absent
		}
		// On Windows a file that is being replaced cannot be opened for a moment.
		return durable.Retry(func() (err error) {
			data, err = readIn(root, name, limit)
			return err
		})
	})
	if errors.Is(err, fs.ErrInvalid) || errors.Is(err, errTooLong) {
		return nil, absent
	}
	return data, err
}

// readIn reads a regular file of at most limit bytes.
func readIn(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := durable.OpenIn(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() > limit {
		return nil, errTooLong
	}
	var data bytes.Buffer
	data.Grow(int(fi.Size()) + bytes.MinRead)
	if _, err = data.ReadFrom(io.LimitReader(f, fi.Size()+1)); err == nil && int64(data.Len()) > fi.Size() {
		err = errTooLong // the file grew while it was read
	}
	return data.Bytes(), err
}

func (f dirStore) Write(name string, data []byte) error {
	if !storeName(name) {
		return &fs.PathError{Op: "write", Path: name, Err: fs.ErrInvalid}
	}
	return f.in(func(root *os.Root) error {
		if err := makeFolder(root, path.Dir(name)); err != nil {
			return err
		}
		if fi, err := root.Lstat(name); err == nil && fi.IsDir() { // a file cannot replace a directory
			if err := root.RemoveAll(name); err != nil {
				return err
			}
		}
		return durable.WriteFileIn(root, name, data, 0o600)
	})
}

// makeFolder creates a directory, and replaces anything else of that name.
func makeFolder(root *os.Root, name string) error {
	fi, err := root.Lstat(name)
	if err == nil && fi.IsDir() {
		return nil
	}
	if err == nil {
		if err := root.RemoveAll(name); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) { // another process may have created it
		return err
	}
	return durable.SyncDirIn(root, ".")
}

func (f dirStore) Remove(name string) error {
	if !storeName(name) {
		return nil
	}
	err := f.in(func(root *os.Root) error {
		if notFolder(root, path.Dir(name)) {
			return nil
		}
		return durable.Retry(func() error { return root.RemoveAll(name) })
	})
	return present(err)
}

func (f dirStore) List(name string) (map[string]int64, error) {
	out := map[string]int64{}
	err := f.in(func(root *os.Root) error {
		if !storeName(name) || notFolder(root, name) {
			return nil
		}
		d, err := durable.OpenDirIn(root, name)
		if errors.Is(err, fs.ErrInvalid) {
			return nil
		}
		if err != nil {
			return err
		}
		defer d.Close()
		list, err := d.ReadDir(-1)
		for _, e := range list {
			if fi, err := e.Info(); err == nil && storeName(e.Name()) {
				out[e.Name()] = fi.Size()
			}
		}
		return err
	})
	return out, present(err)
}

// present returns err unless it reports that the directory does not exist yet.
func present(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

package durable

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// Lock locks the lock file path exclusively, among processes and among the goroutines
// of this process. It waits until ctx ends. unlock releases the lock; further calls do
// nothing. The end of a process releases its locks.
//
// The lock is advisory: it excludes only other users of Lock. It is not reentrant.
// The file is created with mode 0600, because any user who can read it can block all
// others; if users share a folder, make the file readable for their group beforehand.
// The file is empty and is not removed. Anything else than a regular file, such as a
// symbolic link, is refused.
//
// Lock polls with pauses of up to 50 ms and without fairness between processes. It is
// as reliable as the locks of the file system; without file locks the error wraps
// [errors.ErrUnsupported].
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// The goroutines of this process queue here, so that only one of them polls.
	leave, err := enter(ctx, path)
	if err != nil {
		return nil, err
	}
	fl, err := poll(ctx, path)
	if err != nil {
		leave()
		return nil, err
	}
	return sync.OnceFunc(func() {
		fl.Close()
		leave()
	}), nil
}

// TryLock is [Lock] without waiting: unlock is nil if the lock is taken.
func TryLock(path string) (unlock func(), err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	leave := tryEnter(path)
	if leave == nil {
		return nil, nil
	}
	fl := flock.New(path, lockFlags())
	ok, err := try(fl)
	if !ok {
		leave()
		return nil, err
	}
	return sync.OnceFunc(func() {
		fl.Close()
		leave()
	}), nil
}

func poll(ctx context.Context, path string) (*flock.Flock, error) {
	fl := flock.New(path, lockFlags())
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("waiting for lock %s: %w", path, err)
		}
		if ok, err := try(fl); ok || err != nil {
			return fl, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// lockFlags are the flags of package flock, and flags against blocking on a named pipe
// and following a link.
func lockFlags() flock.Option {
	flag := os.O_CREATE | os.O_RDONLY
	switch runtime.GOOS {
	case "aix", "solaris", "illumos": // can't lock a file opened for reading only
		flag = os.O_CREATE | os.O_RDWR
	}
	return flock.SetFlag(flag | noWait | noFollow)
}

// try takes a lock if it is free now.
func try(fl *flock.Flock) (ok bool, err error) {
	if info, err := os.Lstat(fl.Path()); err == nil && !info.Mode().IsRegular() {
		return false, &fs.PathError{Op: "lock", Path: fl.Path(), Err: fmt.Errorf("not a regular file: %w", fs.ErrInvalid)}
	}
	ok, err = fl.TryLock()
	if ok && !current(fl) {
		fl.Close()
		ok = false
	}
	return ok, err
}

// current reports whether the locked file is still the one at its path. If it was
// removed, the next process locks another file.
func current(fl *flock.Flock) bool {
	held, err := fl.Stat()
	if err != nil {
		return false
	}
	now, err := os.Lstat(fl.Path())
	return err == nil && held.Mode().IsRegular() && os.SameFile(held, now)
}

// doors has a queue for each path that goroutines lock or wait for.
var doors = struct {
	sync.Mutex
	m map[string]*door
}{m: map[string]*door{}}

type door struct {
	in  chan struct{} // holds one element while the lock is held
	all int           // holder and waiting goroutines
}

func enter(ctx context.Context, path string) (leave func(), err error) {
	d, done := doorOf(path)
	select {
	case d.in <- struct{}{}:
		return func() { <-d.in; done() }, nil
	case <-ctx.Done():
		done()
		return nil, fmt.Errorf("waiting for lock %s: %w", path, ctx.Err())
	}
}

// tryEnter returns nil if another goroutine holds the lock.
func tryEnter(path string) (leave func()) {
	d, done := doorOf(path)
	select {
	case d.in <- struct{}{}:
		return func() { <-d.in; done() }
	default:
		done()
		return nil
	}
}

// doorOf returns the queue of path and adds the caller; done removes the caller.
func doorOf(path string) (d *door, done func()) {
	doors.Lock()
	defer doors.Unlock()
	d = doors.m[path]
	if d == nil {
		d = &door{in: make(chan struct{}, 1)}
		doors.m[path] = d
	}
	d.all++
	return d, func() {
		doors.Lock()
		defer doors.Unlock()
		if d.all--; d.all == 0 {
			delete(doors.m, path)
		}
	}
}

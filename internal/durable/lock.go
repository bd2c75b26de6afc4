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

// Lock takes the lock file path for this caller alone, among processes and
// among the goroutines of this one, and waits for it until ctx ends. A process
// that dies releases its locks. unlock releases it; calling it again does
// nothing.
//
// The lock is advisory: it keeps out only those who ask for it. It is not
// reentrant. The file is created with mode 0600, because whoever can read it
// can lock everybody out; where users share a folder, make the file readable to
// their group beforehand. It holds nothing and stays where it is. A symbolic link or anything
// else that is not a regular file is refused in its place.
//
// Waiting is polling, with pauses that grow to 50 ms, and without fairness
// between processes. Network file systems lock as well as they do; where there
// are no file locks the error wraps [errors.ErrUnsupported].
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

// TryLock is [Lock] without waiting: unlock is nil where somebody else has the
// lock.
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

// lockFlags opens the lock file as package flock does by itself, but does not wait
// for a named pipe that has taken its name, nor follow a link.
func lockFlags() flock.Option {
	flag := os.O_CREATE | os.O_RDONLY
	switch runtime.GOOS {
	case "aix", "solaris", "illumos": // can't lock what is open for reading only
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

// current reports whether the file that was locked is still the one at its
// path: somebody may have removed it, and the next one locks another file.
func current(fl *flock.Flock) bool {
	held, err := fl.Stat()
	if err != nil {
		return false
	}
	now, err := os.Lstat(fl.Path())
	return err == nil && held.Mode().IsRegular() && os.SameFile(held, now)
}

// doors has, for each path that is locked or waited for, a place for one.
var doors = struct {
	sync.Mutex
	m map[string]*door
}{m: map[string]*door{}}

type door struct {
	in  chan struct{} // holds one element while somebody is inside
	all int           // inside and waiting
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

// tryEnter returns nil where somebody is inside.
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

// doorOf counts the caller in; done counts him out.
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

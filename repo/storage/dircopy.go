package storage

import (
	"context"
	"os"
	"path"
	"time"

	"github.com/visum-dev/visum/internal/ctxio"
	"github.com/visum-dev/visum/internal/durable"
)

// Copy implements [Copier]: with a hard link, or where the file system has none, or
// the file is another user's, with a copy.
func (f *folder) Copy(ctx context.Context, from, to string) error {
	for _, name := range []string{from, to} {
		if err := CheckName(name); err != nil {
			return err
		}
	}
	root, err := f.open(ctx, from, false)
	if err != nil {
		return failed("copy", from, err)
	}
	defer root.Close()
	there, err := openRegular(root, from)
	if err != nil {
		return failed("copy", from, err)
	}
	defer there.Close()
	if err := f.prepare(root, path.Dir(to)); err != nil {
		return failed("copy to", to, err)
	}
	if linked, err := f.link(ctx, root, from, to, there); linked || err != nil {
		if err != nil {
			err = failed("copy to", to, err)
		}
		return err
	}
	if err := f.create(ctx, root, to, ctxio.NewReader(ctx, there)); err != nil {
		return failed("copy to", to, err)
	}
	return nil
}

// link gives a file that never changes a second name; false where that can't be
// done, or the name is taken.
func (f *folder) link(ctx context.Context, root *os.Root, from, to string, there *os.File) (bool, error) {
	unlock, err := f.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	held, err := there.Stat()
	if err != nil {
		return false, err
	}
	// A symbolic link would get the second name itself, and lead nowhere from there.
	if now, err := root.Lstat(from); err != nil || !os.SameFile(held, now) {
		return false, nil
	}
	// The time is that of both names. It comes first, so that a Remove in between
	// spares them.
	now := time.Now()
	if root.Chtimes(from, now, now) != nil || root.Link(from, to) != nil {
		return false, nil
	}
	return true, durable.SyncDirIn(root, path.Dir(to))
}

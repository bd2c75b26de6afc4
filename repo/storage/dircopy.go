package storage

import (
	"context"
	"os"
	"path"
	"time"

	"github.com/visum-dev/visum/internal/ctxio"
	"github.com/visum-dev/visum/internal/durable"
)

// Copy implements [Copier]. It makes a hard link if the file system permits, also with
// respect to the owner of the file, and otherwise copies the bytes.
func (d *directory) Copy(ctx context.Context, from, to string) error {
	for _, name := range []string{from, to} {
		if err := CheckName(name); err != nil {
			return err
		}
	}
	root, err := d.open(ctx, from, false)
	if err != nil {
		return failed("copy", from, err)
	}
	defer root.Close()
	there, err := openRegular(root, from)
	if err != nil {
		return failed("copy", from, err)
	}
	defer there.Close()
	if err := d.prepare(root, path.Dir(to)); err != nil {
		return failed("copy to", to, err)
	}
	if linked, err := d.link(ctx, root, from, to, there); linked || err != nil {
		if err != nil {
			err = failed("copy to", to, err)
		}
		return err
	}
	if err := d.create(ctx, root, to, ctxio.NewReader(ctx, there)); err != nil {
		return failed("copy to", to, err)
	}
	return nil
}

// link gives an immutable file a second name. It returns false if that is not possible,
// or the name exists.
func (d *directory) link(ctx context.Context, root *os.Root, from, to string, there *os.File) (bool, error) {
	unlock, err := d.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	held, err := there.Stat()
	if err != nil {
		return false, err
	}
	// A hard link to a symbolic link would be a symbolic link with a wrong target.
	if now, err := root.Lstat(from); err != nil || !os.SameFile(held, now) {
		return false, nil
	}
	// Both names share the modification time. It is set first, so that a concurrent
	// Remove keeps the file.
	now := time.Now()
	if root.Chtimes(from, now, now) != nil || root.Link(from, to) != nil {
		return false, nil
	}
	return true, durable.SyncDirIn(root, path.Dir(to))
}

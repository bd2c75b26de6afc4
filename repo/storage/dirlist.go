package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/durable"
)

// Open implements [Source]. The file also implements Seek and Stat.
func (d *directory) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	root, err := d.open(ctx, name, false)
	if err != nil {
		return nil, failed("open", name, err)
	}
	defer root.Close()
	file, err := openRegular(root, name)
	if err != nil {
		return nil, failed("open", name, err)
	}
	return &openFile{ctx, file}, nil
}

// openFile is a file whose reads fail after ctx ends.
type openFile struct {
	ctx  context.Context
	file *os.File
}

func (o *openFile) Read(p []byte) (int, error) {
	if err := o.ctx.Err(); err != nil {
		return 0, err
	}
	return o.file.Read(p)
}

func (o *openFile) Seek(offset int64, whence int) (int64, error) { return o.file.Seek(offset, whence) }
func (o *openFile) Stat() (fs.FileInfo, error)                   { return o.file.Stat() }
func (o *openFile) Close() error                                 { return o.file.Close() }

// List implements [Lister]. It does not follow symbolic links to directories.
func (d *directory) List(ctx context.Context, prefix string) iter.Seq2[FileInfo, error] {
	return func(yield func(FileInfo, error) bool) {
		root, err := d.open(ctx, prefix, false)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err == nil {
			defer root.Close()
			err = list(ctx, root, prefix, yield)
		}
		if err != nil && err != fs.SkipAll {
			yield(FileInfo{}, failed("list", prefix, err))
		}
	}
}

func list(ctx context.Context, root *os.Root, prefix string, yield func(FileInfo, error) bool) error {
	start, _ := path.Split(prefix)
	if start = strings.TrimSuffix(start, "/"); start == "" {
		start = "."
	} else if !fs.ValidPath(start) {
		return nil // no valid name has this prefix
	}
	return fs.WalkDir(root.FS(), start, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed during the listing, or never there
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || d.IsDir() || !strings.HasPrefix(name, prefix) || CheckName(name) != nil {
			return err
		}
		info, err := root.Stat(name)
		if err != nil || !info.Mode().IsRegular() {
			return nil // removed, or a broken link: Read finds no file either
		}
		if !yield(FileInfo{Name: name, Size: info.Size(), Written: info.ModTime()}, nil) {
			return fs.SkipAll
		}
		return nil
	})
}

// Remove implements [Remover].
func (d *directory) Remove(ctx context.Context, name string, before time.Time) error {
	if err := CheckName(name); err != nil {
		return err
	}
	root, err := d.open(ctx, name, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return failed("remove", name, err)
	}
	defer root.Close()
	if err := d.remove(ctx, root, name, before); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("remove", name, err)
	}
	return nil
}

func (d *directory) remove(ctx context.Context, root *os.Root, name string, before time.Time) error {
	unlock, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	info, err := root.Stat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("not a regular file: %w", fs.ErrInvalid)
	}
	if !info.ModTime().Before(before) {
		return fmt.Errorf("%w: written at %s", ErrConflict, info.ModTime().UTC().Format(time.RFC3339))
	}
	if err := durable.Retry(func() error { return root.Remove(name) }); err != nil {
		return err
	}
	return durable.SyncDirIn(root, path.Dir(name))
}

package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/visum-dev/visum/internal/durable"
)

// compare streams there and r to the end. It returns nil if they are equal,
// ErrConflict if they differ, and otherwise the error of the read.
func compare(there *os.File, r io.Reader) error {
	if _, err := io.Copy(&comparer{with: there}, r); err != nil {
		return err
	}
	if _, err := io.ReadFull(there, make([]byte, 1)); err != io.EOF {
		return difference(err)
	}
	return nil
}

// freshen sets the time of the existing file name to now. It fails if the file was
// removed or replaced since it was opened.
func freshen(root *os.Root, name string, there *os.File) error {
	held, err := there.Stat()
	if err != nil {
		return err
	}
	if now, err := root.Stat(name); errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(held, now) {
		return fmt.Errorf("%w: the file was removed or replaced during the comparison", ErrConflict)
	} else if err != nil {
		return err
	}
	now := time.Now()
	if err := root.Chtimes(name, now, now); err != nil {
		// The time of another user's file can't be set, but the file can be replaced.
		if _, err := there.Seek(0, io.SeekStart); err != nil {
			return err
		}
		w, err := durable.CreateIn(root, name)
		if err != nil {
			return err
		}
		defer w.Abort()
		if _, err := io.Copy(w, there); err != nil {
			return err
		}
		return w.Commit()
	}
	// The process that created it may have died before the flush.
	return durable.SyncDirIn(root, path.Dir(name))
}

// comparer is a writer that fails unless the written bytes are those of with.
type comparer struct {
	with io.Reader
	buf  []byte
}

func (c *comparer) Write(p []byte) (int, error) {
	if len(c.buf) < len(p) {
		c.buf = make([]byte, len(p))
	}
	if _, err := io.ReadFull(c.with, c.buf[:len(p)]); err != nil {
		return 0, difference(err)
	}
	if !bytes.Equal(c.buf[:len(p)], p) {
		return 0, errOther
	}
	return len(p), nil
}

// difference reports a wrong length as other content, not as a read error.
func difference(err error) error {
	if err == nil || err == io.EOF || err == io.ErrUnexpectedEOF {
		return errOther
	}
	return err
}

var errOther = fmt.Errorf("%w: the file exists with other content", ErrConflict)

var errLarge = fmt.Errorf("larger than %d MiB", MaxRead>>20)

func read(root *os.Root, name string) ([]byte, error) {
	file, err := openRegular(root, name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > MaxRead {
		return nil, errLarge
	}
	// Another program may be writing to the file, so the limit also applies to the read.
	data := bytes.NewBuffer(make([]byte, 0, info.Size()+bytes.MinRead))
	if _, err := data.ReadFrom(io.LimitReader(file, MaxRead+1)); err != nil {
		return nil, err
	}
	if data.Len() > MaxRead {
		return nil, errLarge
	}
	return data.Bytes(), nil
}

func openRegular(root *os.Root, name string) (file *os.File, err error) {
	// Check the type first, because opening a named pipe waits for its writer.
	info, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("not a regular file: %w", fs.ErrInvalid)
	}
	err = durable.Retry(func() error {
		file, err = root.Open(name)
		return err
	})
	return file, err
}

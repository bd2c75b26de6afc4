package durable

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const partSuffix = ".part"

// PartName returns a new name for [CreatePart]. A caller that stores the name before it
// creates the part can always find the part again.
func PartName() string { return randomName(partSuffix) }

// CreatePart is [Create] for long writes: [File.Keep] or the end of the process also
// ends the File, and [OpenPart] continues it. The part has the given name, which must
// be free, in the folder of path.
func CreatePart(path, name string) (*File, error) {
	if err := checkPart(name); err != nil {
		return nil, err
	}
	return create(plain{}, path, name)
}

func checkPart(name string) error {
	if name != filepath.Base(name) || !IsPart(name) {
		return &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("not the name of a part: %w", fs.ErrInvalid)}
	}
	return nil
}

// IsPart is [IsTemp] for the names of parts.
func IsPart(name string) bool { return hasForm(name, partSuffix) }

// OpenPart continues the part with the given name of the file path. size is the number
// of bytes in it. The caller must prevent concurrent use of a part.
//
// The error wraps fs.ErrNotExist if there is no such part. It wraps fs.ErrInvalid if
// name is not the name of a part, or if another user may have created the file: it is
// not regular, has another owner or has a second name.
func OpenPart(path, name string) (f *File, size int64, err error) {
	if err := checkPart(name); err != nil {
		return nil, 0, err
	}
	temp := filepath.Join(filepath.Dir(path), name)
	h, err := openAs(plain{}, temp, os.O_RDWR, Ours)
	if err != nil {
		return nil, 0, err
	}
	if size, err = h.Seek(0, io.SeekEnd); err != nil {
		h.Close()
		return nil, 0, err
	}
	return &File{in: plain{}, f: h, temp: temp, name: path, perm: 0o644}, size, nil
}

// Keep ends the File and leaves the written bytes under the temporary name. After the
// failed commit of a part that could not be renamed it does nothing.
func (f *File) Keep() error {
	if f.left {
		return nil
	}
	if f.f == nil {
		return f.ended("keep")
	}
	err := f.f.Close()
	f.f = nil
	return err
}

// Truncate removes the bytes from n on.
func (f *File) Truncate(n int64) error {
	if f.f == nil {
		return f.ended("truncate")
	}
	if err := f.f.Truncate(n); err != nil {
		return f.named(err)
	}
	_, err := f.f.Seek(n, io.SeekStart)
	return f.named(err)
}

// RemovePart removes a part that is no longer needed. A missing part is no error.
func RemovePart(path, name string) error {
	f, _, err := OpenPart(path, name)
	if err != nil {
		return ignoreAbsent(err)
	}
	f.Abort()
	return nil
}

// RemoveParts is [RemoveTemp] for parts. They are kept on purpose, so olderThan should
// be some weeks ago.
func RemoveParts(dir string, olderThan time.Time) error {
	entries, err := readFolder(dir)
	return removeTemp(plain{}, dir, entries, err, IsPart, olderThan)
}

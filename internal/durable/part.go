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

// PartName returns a new name for [CreatePart]. Whoever writes it down before the
// part is made finds the part again whenever he was stopped.
func PartName() string { return randomName(partSuffix) }

// CreatePart is [Create] for what takes long to write: the File can also be
// ended by [RootFile.Keep], or by the end of the process, and be gone on with by
// [OpenPart]. The part lies beside path under the given name, which must be free.
func CreatePart(path, name string) (*File, error) {
	if err := checkPart(name); err != nil {
		return nil, err
	}
	return create(plain{}, path, name)
}

func checkPart(name string) error {
	if name != filepath.Base(name) || !IsPart(name) {
		return &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("not a part's name: %w", fs.ErrInvalid)}
	}
	return nil
}

// IsPart is [IsTemp] for the names of parts.
func IsPart(name string) bool { return hasForm(name, partSuffix) }

// OpenPart goes on with the part of that name of the file that
// will be called path, and says how many bytes are in it. The caller keeps
// others from doing the same at the same time.
//
// The error wraps fs.ErrNotExist where there is no such part, and fs.ErrInvalid
// where name is no part's name or stands for something that another user may
// have put there: not a regular file, not owned by this user, or with a second
// name.
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

// Keep ends the File and leaves what was written, under the temporary name. After a
// commit of a part that could not get its name it does nothing: the part is there.
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

// Truncate drops what was written from byte n on.
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

// RemovePart removes a part that nobody will go on with. That there is none is
// no error.
func RemovePart(path, name string) error {
	f, _, err := OpenPart(path, name)
	if err != nil {
		return ignoreAbsent(err)
	}
	f.Abort()
	return nil
}

// RemoveParts is [RemoveTemp] for parts. They are left lying on purpose, so leave
// them some weeks.
func RemoveParts(dir string, olderThan time.Time) error {
	entries, err := readFolder(dir)
	return removeTemp(plain{}, dir, entries, err, IsPart, olderThan)
}

package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// SourceOf returns a source that reads from a storage. If the storage does not implement
// [Source], files of more than [MaxRead] bytes can't be read.
func SourceOf(s Storage) Source {
	if src, ok := s.(Source); ok {
		return src
	}
	return storageSource{s}
}

type storageSource struct{ Storage }

// Unwrap returns the underlying storage, which may be a [Lister].
func (s storageSource) Unwrap() Storage { return s.Storage }

func (s storageSource) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	data, err := s.Read(ctx, name)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// ReadOnly returns a storage that reads from a source, such as a web server. With it a
// reviewer opens the published repository without access to the vendor's storage.
// Writes fail with [errors.ErrUnsupported].
func ReadOnly(src Source) Storage { return readOnly{src} }

type readOnly struct{ Source }

func (s readOnly) Read(ctx context.Context, name string) ([]byte, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	return ReadAll(ctx, s.Source, name, MaxRead)
}

func (readOnly) Create(_ context.Context, name string, _ io.Reader) error {
	return failed("create", name, errReadOnly)
}

func (readOnly) Replace(_ context.Context, name string, _, _ []byte) error {
	return failed("replace", name, errReadOnly)
}

var errReadOnly = fmt.Errorf("the storage is read-only: %w", errors.ErrUnsupported)

// ReadAll reads a file of at most limit bytes. The error of a larger file wraps
// [tuf.ErrTooLarge].
func ReadAll(ctx context.Context, src Source, name string, limit int64) ([]byte, error) {
	f, err := src.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	if f == nil {
		return nil, fmt.Errorf("storage: %s: the source returned neither file nor error", text.Name(name))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("storage: %s: %w", text.Name(name), err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("storage: %s: %w: more than %d bytes", text.Name(name), tuf.ErrTooLarge, limit)
	}
	return data, nil
}

// Stat reports whether a file exists, and its size in bytes, -1 if the source does not
// report it.
func Stat(ctx context.Context, src Source, name string) (have bool, size int64, err error) {
	f, err := src.Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	defer f.Close()
	if s, ok := f.(interface{ Stat() (fs.FileInfo, error) }); ok {
		info, err := s.Stat()
		if err != nil {
			return false, 0, err
		}
		return true, info.Size(), nil
	}
	return true, -1, nil
}

package client

import (
	"context"
	"fmt"
	"io"
	"io/fs"
)

// Source is a place's files, laid out as "metadata/1.root.json" and
// "targets/DIR/SHA256.NAME". It may return anything: nothing it returns is
// trusted. Safe for concurrent use. Package client/sourcetest examines
// implementations.
type Source interface {
	// Open returns the file called name, a slash-separated path that is not
	// escaped in any way. The client asks only for names that cannot lead out of a
	// folder: fs.ValidPath holds for each, also where a backslash counts as a
	// slash. An error wraps fs.ErrNotExist where the place says
	// that there is no such file, and only then. Opening and reading end when ctx
	// does. The caller closes what it got, also before its end.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
}

// RangeSource is a Source that can begin in the middle of a file, so that an
// interrupted download goes on where it was. One that can't is read from the
// beginning again.
type RangeSource interface {
	Source
	// OpenAt is Open from byte offset on. Where the file has no such byte, or the
	// place can't say from where on it answers, the error wraps [ErrRange]. tag is
	// "" or the Tag that an earlier call for this name returned: where the place
	// knows that the file is another one now, it begins at 0.
	OpenAt(ctx context.Context, name string, offset int64, tag string) (*Range, error)
}

// Range is a file, or its rest.
type Range struct {
	io.ReadCloser
	Offset int64  // of the first byte that is read: what was asked for, or 0
	Size   int64  // of the whole file in bytes, -1 where that is not known
	Tag    string // names this version of the file at this place, "" where nothing does
}

// FS makes a Source of a file system with a location's layout: os.DirFS, an
// embedded tree, a zip.Reader.
func FS(fsys fs.FS) Source { return fsSource{fsys} }

type fsSource struct{ fsys fs.FS }

func (s fsSource) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	return closer(s.OpenAt(ctx, name, 0, ""))
}

func (s fsSource) OpenAt(ctx context.Context, name string, offset int64, _ string) (*Range, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	// A pipe would be waited for, for ever.
	fi, err := fs.Stat(s.fsys, name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("%w: not a regular file", fs.ErrInvalid)}
	}
	if offset < 0 || offset > 0 && offset >= fi.Size() {
		return nil, fmt.Errorf("%s: %w: from byte %d of %d", name, ErrRange, offset, fi.Size())
	}
	f, err := s.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	r := &Range{ReadCloser: ctxFile{ctx, f}, Size: fi.Size()}
	// What is compressed has no middle to begin in.
	if seeker, ok := f.(io.Seeker); ok && offset > 0 {
		if _, err := seeker.Seek(offset, io.SeekStart); err != nil {
			f.Close()
			return nil, err
		}
		r.Offset = offset
	}
	return r, nil
}

// ctxFile is a file whose reading ends with ctx.
type ctxFile struct {
	ctx context.Context
	fs.File
}

func (f ctxFile) Read(p []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

// closer returns a Range as Open has to.
func closer(r *Range, err error) (io.ReadCloser, error) {
	if err != nil {
		return nil, err
	}
	return r.ReadCloser, nil
}

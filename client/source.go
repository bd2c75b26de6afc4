package client

import (
	"context"
	"fmt"
	"io"
	"io/fs"
)

// Source serves the files of a repository, laid out as "metadata/1.root.json" and
// "targets/DIR/SHA256.NAME". Its results are not trusted. It must be safe for
// concurrent use. Package client/sourcetest tests implementations.
type Source interface {
	// Open returns the file called name, a slash-separated path without any escaping.
	// The client only requests names that stay below a directory: fs.ValidPath holds
	// for each, also if backslashes count as slashes. The error wraps fs.ErrNotExist if
	// and only if the source reports that there is no such file. Opening and reading
	// end with ctx. The caller closes the file, possibly before its end.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
}

// RangeSource is a Source that can start in the middle of a file, so that an
// interrupted download can be resumed. Other sources are read from the beginning again.
type RangeSource interface {
	Source
	// OpenAt is Open from byte offset on. The error wraps [ErrRange] if the file has no
	// such byte, or the source cannot tell from which byte it answers. tag is "" or the
	// Tag that an earlier call for this name returned: if the source knows that the
	// file has changed since, it starts at 0.
	OpenAt(ctx context.Context, name string, offset int64, tag string) (*Range, error)
}

// Range is a file or the rest of one.
type Range struct {
	io.ReadCloser
	Offset int64  // of the first byte that is read: the requested offset, or 0
	Size   int64  // of the whole file in bytes, -1 if unknown
	Tag    string // identifies this version of the file at this source, "" if unknown
}

// FSSource returns a Source that reads a file system with the layout of a location: os.DirFS,
// an embedded tree, a zip.Reader.
func FSSource(fsys fs.FS) Source { return fsSource{fsys} }

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
	// Opening a pipe would block forever.
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
	// A compressed file cannot be read from the middle.
	if seeker, ok := f.(io.Seeker); ok && offset > 0 {
		if _, err := seeker.Seek(offset, io.SeekStart); err != nil {
			f.Close()
			return nil, err
		}
		r.Offset = offset
	}
	return r, nil
}

// ctxFile is a file whose reads fail after ctx has ended.
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

// closer converts the results of OpenAt to those of Open.
func closer(r *Range, err error) (io.ReadCloser, error) {
	if err != nil {
		return nil, err
	}
	return r.ReadCloser, nil
}
